"""Any other harness: one JSON object a line with `id` and `right`, or `score`.

Where they are there, `module`, `prompt`, `reply` and `answer` are what they are for every tool.
"""

from collections.abc import Sequence
from typing import Any

from evalsuite.imports.item import Choice, Item, Refused, at, chosen, digest, right, shown, text

SCORES = ("right", "score")


def matches(found: Any) -> bool:
    first = found[0] if isinstance(found, list) and found else found
    return isinstance(first, dict) and "id" in first and any(name in first for name in SCORES)


def items(rows: Sequence[dict[str, Any]], choice: Choice) -> list[Item]:
    return [_item(n, row, choice) for n, row in enumerate(rows, 1)]


def _item(number: int, row: dict[str, Any], choice: Choice) -> Item:
    place = at(row, choice.id or "id")
    name = choice.metric or next((n for n in SCORES if n in row), "")
    if choice.metric and name not in row:
        chosen((key for key, value in row.items() if key != "id" and isinstance(value, bool | int | float)), choice)
    if name not in row:
        raise Refused(f"item {number} ({shown(place)}) has no {shown(name) or 'right'}", "null says that there is none")
    return Item(
        id=place,
        module=at(row, choice.module) if choice.module else text(row.get("module") or ""),
        right=right(row[name], choice, f"item {shown(place)}"),
        prompt=digest(row.get("prompt"), row.get("answer")),
        reply=digest(row.get("reply")),
        answer=digest(row.get("answer")),
    )
