"""The container's entry: serves the checkpoint that the report passed, proven as `serve run` proves it.

Reads deployment.json beside this file. Another checkpoint is refused before the engine starts; its files are digested
while the engine loads; nobody is let in before its prompts and answers are found to be the checkpoint's. One of several
hosts is told its rank by LeaderWorkerSet: the first has the server, the others their part of the engine.
Rendered by `deploy render`: change the recipe and render again.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from serve import contents, findings, kernels, launcher, machine, parts, supervisor, warming
from serve.command import Command, Options
from tune import checkpoint
from tune.checkpoint import Checkpoint
from tune.errors import UserError, exit_codes, reason

REMAKE = "mount or copy the checkpoint again"
RANK, FIRST = "LWS_WORKER_INDEX", "LWS_LEADER_ADDRESS"  # LeaderWorkerSet's names


class Opened(NamedTuple):
    """The checkpoint as far as it was looked at, and how the engine is started here."""

    checkpoint: Checkpoint
    options: Options
    command: Command
    experts: int
    device: str

    def prove(self) -> None:
        """Digest every file. Raises UserError when it is another checkpoint's."""
        checkpoint.verify(self.checkpoint.folder, remake=REMAKE)


def opened(deployment: Mapping[str, Any]) -> Opened:
    """Raises UserError unless the model folder holds this checkpoint and can be served as it is told."""
    folder, options = Path(deployment["model_path"]), Options.model_validate(deployment["options"])
    found = checkpoint.look(folder, remake=REMAKE)
    if (found.digest, found.served_name) != (deployment["digest"], deployment["model"]):
        raise UserError(
            f"{folder} holds {found.served_name}, this deployment is for {deployment['model']}",
            why="the report that allowed this deployment is about the other checkpoint",
            fix="deploy render for the checkpoint that is to run",
        )
    findings.require(contents.look(found, options, remake=REMAKE).problems, f"{folder} cannot be served")
    experts, here = contents.shape(folder).num_local_experts, machine.detect()
    early = kernels.env(found, here.kind, experts, options.tuning.batched_tokens)
    told = Command(list(deployment["args"]), {**deployment["env"], **early})
    return Opened(found, options, told, experts, here.device)


def job(deployment: Mapping[str, Any], more: Sequence[str] = ()) -> supervisor.Job:
    """What to run; `more`: what the engine is told of this host. Raises UserError as `opened` does."""
    found = opened(deployment)
    options, step = found.options, found.options.tuning.batched_tokens
    return supervisor.Job(
        command=Command([*found.command.argv, *more], found.command.env),
        host=options.host,
        port=deployment["port"],
        model=deployment["model"],
        checkpoint=found.checkpoint,
        policy=options.policy,
        key=key(options.key_env),
        drain=options.drain,
        hang_after=options.hang_after,
        log=None,
        ready_timeout=deployment["limits"]["startup_seconds"] + (parts.JOIN if more else 0),
        proof=found.prove,
        ranks=options.tuning.data_parallel,
        waves=warming.waves(options.max_model_len, step, found.experts) if found.device == "cuda" else (),
    )


def part(deployment: Mapping[str, Any], more: Sequence[str]) -> int:
    """Another host's part of the engine, until it ends or the first one's does: its exit status. Whoever started it
    starts it again. Raises UserError as `opened` does, and when a file of this host's is not the checkpoint's."""
    found = opened(deployment)
    argv, env = found.command
    return launcher.host([*argv, *more, "--headless"], parts.serverless(env), found.prove)


def ranked(deployment: Mapping[str, Any], here: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """Which of several hosts this is, by the variables `here`, and what its engine is told of that (of one, nothing).

    Raises UserError where nobody says which it is.
    """
    if Options.model_validate(deployment["options"]).tuning.hosts == 1:
        return 0, ()
    rank, own, first = (here.get(name, "") for name in (RANK, parts.OWN, FIRST))
    if not (rank.isdecimal() and own and first):
        missing = [name for name in (RANK, parts.OWN, FIRST) if not here.get(name)]
        what = f"this is one of several hosts, and nobody says which: {', '.join(missing) or RANK} is not set"
        raise UserError(what, why="a LeaderWorkerSet sets it", fix="deploy push, or kubectl apply manifests.yaml")
    # The first binds to its own address, for which a name would not do; the others find its pod, old or new, by name.
    # Of a host that is late the others' engines would have heard nothing after ten minutes, and end.
    waits = ("--distributed-timeout-seconds", str(deployment["limits"]["startup_seconds"] + parts.JOIN))
    return int(rank), (*parts.ranked(int(rank), first if int(rank) else own), *waits)


def key(name: str) -> str:
    """The API key in the environment variable `name`; "" without a name: the target asks every caller for its own.

    Raises UserError, which never shows it, when no client could send what is there.
    """
    found = os.environ.get(name, "") if name else ""
    if name and not re.fullmatch(r"[\x21-\x7e]+", found):
        state = "holds what no header can carry" if found else "is empty"
        raise UserError(
            f"the environment variable {name} {state}",
            why="this deployment asks its callers for the API key that stands there",
            fix="give it that secret at the target: [deploy] secrets names it",
        )
    return found


def read() -> dict[str, Any]:
    """What `deploy render` wrote. Raises UserError when it is no longer that."""
    path = Path(__file__).with_name("deployment.json")
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())["settings"]["deployment"]
        Options.model_validate(found["options"])
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{path} is not what was rendered", why=reason(e), fix="deploy render, then build again"
        ) from None
    return found


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; the commands' exit status: 0 after a stop, 2 for what must be changed, 70 for a bug of ours.

    SageMaker gives `serve`.
    """
    if arguments not in ([], ["serve"]):
        sys.stderr.write(f"start.py takes no arguments, got {arguments}\n")
        return 2

    def report(line: str) -> None:
        sys.stderr.write(f"start.py: {line}\n")
        sys.stderr.flush()

    try:
        with exit_codes():
            deployment = read()
            rank, more = ranked(deployment, os.environ)
            if rank:
                return part(deployment, more)
            supervisor.run(job(deployment, more), report)
    except UserError as e:
        e.show()
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
