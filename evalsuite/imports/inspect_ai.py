"""Inspect (UK AISI): a `.json` log, or an `.eval` log, which is a zip of `header.json` and `samples/ID_epoch_N.json`.

A sample has an id, an epoch and a score a scorer: "C", "I", "P" (partly), "N" (no answer), a number or a yes or no.
NaN is its word for unscored. A sample that ended in an error, or was invalidated, has no score.
"""

from collections.abc import Sequence
from typing import Any

from evalsuite.imports.decode import Archive, records
from evalsuite.imports.item import Choice, Item, Refused, at, chosen, digest, right, shown, text

CONVERT = "inspect log convert LOG.eval --to json --output-dir FOLDER, and give the file in it"


def matches(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("eval"), dict) and ("samples" in found or "status" in found)


def unpacked(data: bytes) -> dict[str, Any]:
    """The log in an `.eval` file, as the `.json` log has it. Raises Refused."""
    archive = Archive(data, CONVERT)
    top = next((n for n in ("header.json", "_journal/start.json") if n in archive.names), "")
    header = archive.value(top) if top else None
    if not isinstance(header, dict):
        raise Refused("it is a zip, but no .eval log: it has no header.json", "give an .eval or a .json log of inspect")
    names = [n for n in archive.names if n.startswith("samples/") and n.endswith(".json")]
    return {**header, "samples": [archive.value(n) for n in names]}


def items(found: dict[str, Any], choice: Choice) -> list[Item]:
    spec = found.get("eval")
    task = text(spec.get("task", "")) if isinstance(spec, dict) else ""
    rows = records(found.get("samples") or [])
    scorer = chosen([name for row in rows for name in _scores(row)], choice) if rows else ""
    return [_item(row, task, scorer, choice) for row in rows]


def _item(row: dict[str, Any], task: str, scorer: str, choice: Choice) -> Item:
    if "id" not in row:
        raise Refused("a sample has no id")
    place = f"{task}/{text(row['id'])}/{text(row.get('epoch', 1))}"
    score = _scores(row).get(scorer)
    value = score.get("value") if isinstance(score, dict) else None
    choices, output = row.get("choices"), row.get("output")
    halted = row.get("error") or row.get("invalidation")
    return Item(
        id=at(row, choice.id, ("metadata",)) if choice.id else place,
        module=at(row, choice.module, ("metadata",)) if choice.module else task,
        right=None if halted else right(value, choice, shown(place)),
        prompt=digest(_words(row.get("input")), choices, row.get("target")),
        reply=digest(_replies(output)) if isinstance(output, dict) else "",
        answer=digest(row.get("target")),
        chance=1 / len(choices) if isinstance(choices, list) and len(choices) > 1 else 0.0,
    )


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    scores = row.get("scores")
    return scores if isinstance(scores, dict) else {}


def _words(asked: object) -> object:
    """Messages without the ids that every run draws anew."""
    if not isinstance(asked, Sequence) or isinstance(asked, str):
        return asked
    return [[m.get("role"), m.get("content")] if isinstance(m, dict) else m for m in asked]


def _replies(output: dict[str, Any]) -> object:
    choices = output.get("choices")
    said = [c.get("message") for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    return _words(said) or output.get("completion")
