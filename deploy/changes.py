"""What a render changes against the one before it in the same folder: two deployments in, short lines out.

Of secrets it knows the names, as a deployment does. Reads one manifest, writes nothing.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy import sizing, spec
from deploy.spec import Deployment, Target
from tune import artefact
from tune import checkpoint as checkpoints
from tune.errors import UserError
from tune.recipe import Recipe
from tune.terminal import one_line

# What follows from other keys, and would only say the same again.
DERIVED = frozenset({"digest", "image", "model_path", "args", "env", "schema_version"})
GATE = frozenset({"receipt", "ungated", "receipt_days"})
LONGEST = 60  # characters of a value


def last(folder: Path) -> dict[str, Any] | None:
    """The deployment that was rendered there, as it was written; None where none was."""
    try:
        found = artefact.read(folder, "deployment", remake="").settings.get("deployment")
    except (UserError, OSError):
        return None
    return found if isinstance(found, dict) else None


def between(before: Mapping[str, Any], after: Deployment, *, gate: bool = True) -> tuple[str, ...]:
    """A line for each key that changed, such as `gpu: H100 -> H200`. Without `gate`, nothing about the report."""
    left_out = DERIVED if gate else DERIVED | GATE
    old, new = (
        dict(_flat({k: v for k, v in told.items() if k not in left_out} | {"repository": _repository(told)}))
        for told in (before, after.model_dump(mode="json"))
    )
    if gate:
        old, new = _report(old), _report(new)
    keys = dict.fromkeys((*new, *old))
    return tuple(_line(key, old, new) for key in keys if old.get(key) != new.get(key))


def planned(recipe: Recipe, checkpoint: Path, target: Target, out: Path) -> tuple[str, ...] | None:
    """What a render with this recipe would change in `out`, but for the report, which a plan does not know; None where
    nothing is rendered there. Raises UserError as planning.plan."""
    before = last(out)
    if before is None:
        return None
    whole = checkpoints.read(checkpoint)
    gpus = spec.options(recipe, target).tuning.gpus
    offer = sizing.lent(target, recipe.deploy.gpu, gpus)
    try:
        after = spec.of(recipe, whole, None, target, offer.machine, ungated="planned")
    except ValidationError as e:
        raise UserError(f"{checkpoint} has a name that is not safe to render", why=e.errors()[0]["msg"]) from None
    return between(before, after, gate=False)


def _repository(told: Mapping[str, Any]) -> str:
    """Where images go; their tags follow from other keys."""
    return str(told.get("image", "")).rpartition(":")[0]


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _report(keys: dict[str, Any]) -> dict[str, Any]:
    """A report is one thing: its date stands for it, and its digest tells two of one date apart."""
    about = {k: v for k, v in keys.items() if k.startswith("receipt.")}
    rest = {k: v for k, v in keys.items() if not k.startswith("receipt.")}
    digest = str(about.get("receipt.report", ""))[:16]
    return rest | ({"report": f"{about.get('receipt.created')} ({digest})"} if about else {})


def _line(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if key not in old:
        return f"{key}: {_said(new[key])} is new"
    if key not in new:
        return f"{key}: {_said(old[key])} is gone"
    return f"{key}: {_said(old[key])} -> {_said(new[key])}"


def _said(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return one_line(text, LONGEST)
