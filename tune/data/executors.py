"""The parts of a dataset under datatrove's executors: on this machine, on a Slurm cluster, on a Ray cluster.

In: which executor, how many tasks, its own options. Out: what makes parts (`making.Run`). A task makes every n-th part,
so that each has pages from everywhere. Which parts are finished is told by the parts themselves, not by datatrove's
marks, which stand for tasks: with another number of tasks those would be others. Knows nothing of what is in a part.
"""

import inspect
import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.data import parts
from tune.errors import UserError, reason

if TYPE_CHECKING:
    from tune.data.making import Report, Run

EXECUTORS = {
    "local": ("local", "LocalPipelineExecutor"),
    "slurm": ("slurm", "SlurmPipelineExecutor"),
    "ray": ("ray", "RayPipelineExecutor"),
}
OURS = {"pipeline", "tasks", "logging_dir", "skip_completed", "depends"}  # arguments that are no options


def of(name: str, tasks: int, options: Sequence[str]) -> "Run":
    """The executor of this name, with options as NAME=VALUE; a value is JSON, or else text.

    Raises UserError without datatrove, and at an option that the executor does not have or that it lacks.
    """
    kind = _kind(name)
    known = {key: one for key, one in inspect.signature(kind).parameters.items() if key not in OURS}
    given = {key: _value(value) for key, _, value in (option.partition("=") for option in options)}
    needed = [key for key, one in known.items() if one.default is one.empty and key not in given]
    wrong = [key for key in given if key not in known]
    if wrong or needed:
        what = f"datatrove's {name} executor has no option {wrong[0]}" if wrong else f"it needs {', '.join(needed)}"
        raise UserError(what, why=f"it has {', '.join(known)}", fix="tune dataset --option NAME=VALUE")
    return partial(_run, kind=kind, name=name, tasks=tasks, options=given)


def share(folder: str, digest: str, _: Any = None, rank: int = 0, world_size: int = 1) -> None:
    """A task's parts: the step that an executor runs, once for each rank."""
    plan = parts.Plan.model_validate_json((Path(folder) / parts.PLAN).read_bytes())
    for number in range(rank, len(plan.shards), world_size):
        parts.make(Path(folder), digest, number)


def _run(
    folder: Path,
    digest: str,
    numbers: Sequence[int],
    report: "Report",
    *,
    kind: Any,
    name: str,
    tasks: int,
    options: Mapping[str, Any],
) -> None:
    """Run the executor until it has ended: whether all parts are there is looked at by whoever asked for them."""
    place, most = folder.resolve(), min(tasks, len(numbers))
    if name == "slurm":  # sbatch returns when the job has ended, and fails when a task of it has
        options = {**options, "sbatch_args": {"wait": "", **options.get("sbatch_args", {})}}
    step, logs = partial(share, str(place), digest), place / "logs"
    report(f"dataset: {len(numbers):,} parts by {most} tasks of datatrove's {name} executor, logs in {logs}")
    try:
        kind([step], tasks=most, logging_dir=str(logs), skip_completed=False, **options).run()
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, ImportError, subprocess.SubprocessError) as e:
        fix = f"read {logs}; tune dataset goes on with what is finished"
        raise UserError(f"datatrove's {name} executor did not end well", why=reason(e), fix=fix) from None


def _kind(name: str) -> Any:
    module, called = EXECUTORS[name]
    try:
        found = __import__(f"datatrove.executor.{module}", fromlist=[called])
    except ImportError as e:
        fix = 'pip install "gptoss-kit[datatrove]", and ray for Ray; or --workers, which needs neither'
        raise UserError("--executor needs datatrove", why=reason(e), fix=fix) from None
    return getattr(found, called)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
