"""The figures of a dataset: how many rows, tokens and learned tokens, of which kind, effort, check and side.

In: the sizes of rows. Out: what dataset.json says. Knows no texts and no files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tune.data.examples import RowKind
from tune.data.fact import Check
from tune.harmony import EFFORTS, Effort

OURS = ("imported", "general")  # kinds that no page is behind


class Size(NamedTuple):
    """A row that is taken: what it is of, and how many tokens it has and teaches."""

    page: str
    kind: RowKind
    effort: Effort
    check: Check
    tokens: int
    learned: int
    thinks: bool
    control: bool  # its text spells a control token


def of(sizes: Sequence[Size], sides: Sequence[str], groups: Mapping[str, int], dropped: Counter[str]) -> dict[str, Any]:
    """Figures of rows, each with its side, train or eval; `groups` of the pages that are split."""
    totals: dict[str, Counter[str]] = {"rows": Counter(), "tokens": Counter(), "learned_tokens": Counter()}
    by_kind: dict[str, Counter[str]] = {}
    pages: dict[str, str] = {}
    for size, side in zip(sizes, sides, strict=True):
        one = {"rows": 1, "tokens": size.tokens, "learned_tokens": size.learned}
        for key, n in one.items():
            totals[key][side] += n
        by_kind.setdefault(size.kind, Counter()).update({**one, size.effort: 1, side: 1})
        if size.kind not in OURS:
            pages[size.page] = side
    several = [n for n in Counter(groups.values()).values() if n > 1]
    figures: dict[str, Any] = {
        **{key: {"train": found["train"], "eval": found["eval"]} for key, found in totals.items()},
        "pages": dict(sorted(Counter(pages.values()).items())),
        "kinds": dict(sorted(Counter(size.kind for size in sizes).items())),
        "efforts": dict(sorted(Counter(size.effort for size in sizes).items())),
        "checks": dict(sorted(Counter(size.check for size in sizes).items())),
        "dropped": dict(sorted(dropped.items())),
        "alike": {"pages": sum(several), "groups": len(several)},
        "control_token_texts": sum(size.control for size in sizes),
        "without_analysis": sum(not size.thinks for size in sizes),
    }
    keys = ("rows", *EFFORTS, "tokens", "learned_tokens", "train", "eval")
    table = {kind: {key: found[key] for key in keys} for kind, found in sorted(by_kind.items())}
    return {**figures, **{kind: table[kind] for kind in OURS if kind in table}, "by_kind": table}
