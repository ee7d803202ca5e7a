"""lm-evaluation-harness: `samples_TASK_DATE.jsonl`, as `lm_eval --log_samples --output_path` writes it (0.4).

A line is a document under one filter; its scores are `metrics`, beside them. The task stands in the file's name alone.
"""

import re
from collections.abc import Sequence
from typing import Any

from evalsuite.imports.item import Choice, Item, Refused, at, chosen, digest, right, shown, text

NAMED = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[^/]*\.jsonl$")


def matches(found: Any) -> bool:
    first = found[0] if isinstance(found, list) and found else found
    return isinstance(first, dict) and "doc_id" in first and ("filtered_resps" in first or "doc_hash" in first)


def items(rows: Sequence[dict[str, Any]], name: str, choice: Choice) -> list[Item]:
    """`name`: the file's. Of several metrics or filters one has to be named: "acc", or "exact_match,strict-match"."""
    named = NAMED.search(name)
    task = named["task"] if named else ""
    metric, _, wanted = chosen([n for row in rows for n in _scores(row)], choice).partition(",")
    out = []
    for row in rows:
        if str(row.get("filter", "none")) != wanted:
            continue
        if "doc_id" not in row:
            raise Refused(f"a line of {shown(name)} has no doc_id")
        place = f"{task}/{text(row['doc_id'])}"
        out.append(
            Item(
                id=at(row, choice.id, ("doc",)) if choice.id else place,
                module=at(row, choice.module, ("doc",)) if choice.module else task,
                right=right(row.get(metric), choice, shown(place)),
                prompt=_asked(row),
                reply=digest(row.get("resps")),
                answer=digest(row.get("target")),
                chance=_chance(row),
            )
        )
    return out


def _scores(row: dict[str, Any]) -> list[str]:
    names = row.get("metrics")
    if not isinstance(names, list):  # before 0.4.5 the metrics are not named: what is a number and none of ours
        names = [k for k, v in row.items() if isinstance(v, int | float) and k not in ("doc_id", "target")]
    return [f"{n},{row.get('filter', 'none')}" for n in names if isinstance(n, str)]


def _asked(row: dict[str, Any]) -> str:
    hashes = [row.get(k) for k in ("doc_hash", "prompt_hash", "target_hash")]
    return digest(*hashes) or digest(row.get("doc"), row.get("arguments"), row.get("target"))


def _chance(row: dict[str, Any]) -> float:
    """Of a choice among several: its replies are pairs of a log-probability and whether it is the likeliest."""
    replies = row.get("filtered_resps")
    if isinstance(replies, list) and len(replies) > 1 and all(isinstance(r, list) and len(r) == 2 for r in replies):
        return 1 / len(replies)
    return 0.0
