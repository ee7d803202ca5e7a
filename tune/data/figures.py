"""The figures of a dataset: how many rows, tokens and learned tokens, of which kind, effort, check and side.

In: sums by what rows have in common. Out: what dataset.json says. Knows no rows, no texts and no files.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from tune.harmony import EFFORTS

OURS = ("imported", "general")  # kinds that no page is behind


class Group(NamedTuple):
    """What rows that are counted together have in common."""

    kind: str
    effort: str
    check: str
    thinks: bool
    control: bool  # their text spells a control token
    side: str  # train or eval


class Sum(NamedTuple):
    """Of the rows of a group."""

    rows: int
    tokens: int
    learned: int


def of(
    sums: Mapping[Group, Sum], pages: Mapping[str, int], alike: Mapping[str, int], dropped: Counter[str]
) -> dict[str, Any]:
    """Figures of rows; `pages`: how many have rows, by side; `alike`: pages that share a side with others, and in how
    many groups."""
    totals: dict[str, Counter[str]] = {"rows": Counter(), "tokens": Counter(), "learned_tokens": Counter()}
    by_kind: dict[str, Counter[str]] = {}
    kinds, efforts, checks = Counter[str](), Counter[str](), Counter[str]()
    for group, found in sums.items():
        one = {"rows": found.rows, "tokens": found.tokens, "learned_tokens": found.learned}
        for key, n in one.items():
            totals[key][group.side] += n
        by_kind.setdefault(group.kind, Counter()).update({**one, group.effort: found.rows, group.side: found.rows})
        kinds[group.kind] += found.rows
        efforts[group.effort] += found.rows
        checks[group.check] += found.rows
    figures: dict[str, Any] = {
        **{key: {"train": found["train"], "eval": found["eval"]} for key, found in totals.items()},
        "pages": dict(sorted(pages.items())),
        "kinds": dict(sorted(kinds.items())),
        "efforts": dict(sorted(efforts.items())),
        "checks": dict(sorted(checks.items())),
        "dropped": dict(sorted(dropped.items())),
        "alike": dict(alike),
        "control_token_texts": sum(found.rows for group, found in sums.items() if group.control),
        "without_analysis": sum(found.rows for group, found in sums.items() if not group.thinks),
    }
    keys = ("rows", *EFFORTS, "tokens", "learned_tokens", "train", "eval")
    table = {kind: {key: found[key] for key in keys} for kind, found in sorted(by_kind.items())}
    return {**figures, **{kind: table[kind] for kind in OURS if kind in table}, "by_kind": table}
