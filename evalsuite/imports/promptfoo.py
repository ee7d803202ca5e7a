"""promptfoo: `promptfoo eval -o results.json` (results.results, versions 2 and 3) or `-o results.jsonl`.

A result is one prompt of one test at one provider; `success` says that all its assertions hold. A file for one side
holds one provider. failureReason 2 is an error, not a wrong answer.
"""

from collections.abc import Sequence
from typing import Any

from evalsuite.imports.item import Choice, Item, Refused, at, digest, right, shown, text

WITHIN = ("vars", "metadata", "testCase", "testCase.metadata", "testCase.vars")
ERROR = 2


def matches(found: Any) -> bool:
    rows = results(found)
    first = rows[0] if isinstance(rows, list) and rows else None
    return isinstance(first, dict) and "success" in first and ("vars" in first or "testIdx" in first)


def results(found: Any) -> Any:
    """The list of results, wherever it stands."""
    for _ in range(2):
        if isinstance(found, dict) and "results" in found:
            found = found["results"]
    return found


def items(rows: Sequence[dict[str, Any]], choice: Choice) -> list[Item]:
    """A test's index is its id where there is one, else its variables. `--metric`: one of namedScores."""
    providers = sorted({_provider(row) for row in rows})
    if len(providers) > 1:
        raise Refused(
            f"it holds the results of more than one provider: {', '.join(shown(p) for p in providers[:5])}",
            f"promptfoo eval --filter-providers {shown(providers[0])} -o base.json, and the same for the other",
        )
    return [_item(row, choice) for row in rows]


def _item(row: dict[str, Any], choice: Choice) -> Item:
    case, response = row.get("testCase"), row.get("response")
    case = case if isinstance(case, dict) else {}
    asked = row.get("vars", case.get("vars"))
    test = f"test {text(row['testIdx'])}" if "testIdx" in row else digest(asked)
    prompt = row.get("prompt")
    raw = prompt.get("raw") if isinstance(prompt, dict) else prompt
    place = f"{test}, prompt {text(row.get('promptIdx', 0))}"
    return Item(
        id=at(row, choice.id, WITHIN) if choice.id else place,
        module=at(row, choice.module, WITHIN) if choice.module else text(_description(row, case)),
        right=None if _failed(row) else right(_score(row, choice), choice, shown(place)),
        prompt=digest(raw, asked, case.get("assert")),
        reply=digest(response.get("output")) if isinstance(response, dict) else "",
    )


def _description(row: dict[str, Any], case: dict[str, Any]) -> object:
    return row.get("description") or case.get("description") or ""


def _score(row: dict[str, Any], choice: Choice) -> object:
    if not choice.metric:
        return row.get("success")
    scores = row.get("namedScores")
    if not isinstance(scores, dict) or choice.metric not in scores:
        there = ", ".join(shown(n) for n in sorted(scores)[:8]) if isinstance(scores, dict) else ""
        raise Refused(f"a result has no score named {shown(choice.metric)}: it has {there or 'none'}")
    return scores[choice.metric]


def _failed(row: dict[str, Any]) -> bool:
    """Older files have no failureReason, and an error beside no response."""
    if "failureReason" in row:
        return bool(row["failureReason"] == ERROR)
    return bool(row.get("error")) and not row.get("response")


def _provider(row: dict[str, Any]) -> str:
    provider = row.get("provider")
    return text(provider.get("id", "") if isinstance(provider, dict) else provider or "")
