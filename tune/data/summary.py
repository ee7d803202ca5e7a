"""What `tune dataset` shows in the end: a table of rows by kind and effort, what was left out, and some rows.

In: a finished dataset's figures and its examples. Out: lines for the terminal, no wider than it. Strangers' text is
escaped. Knows nothing of how a row was made.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tune.artefact import Artefact
from tune.data.examples import Example
from tune.harmony import EFFORTS
from tune.screen import escaped, width, wrap

SAMPLES = 5
THINKING = 0.75  # of the rows: with fewer that have an analysis, a model may lose the habit
COLUMNS = ("rows", *EFFORTS, "tokens", "learned_tokens")


def lines(made: Artefact, folder: Path, columns: int) -> list[str]:
    """Everything, in rows of at most `columns` cells. A dataset of before these figures has samples alone."""
    table = made.figures.get("by_kind", {})
    return [
        *(row for line in [*_table(table), *_about(made.figures)] for row in wrap(line, max(20, columns - 1))),
        "",
        *(row for example in samples(folder / "examples.jsonl", [*table]) for row in _shown(example, columns)),
    ]


def samples(path: Path, kinds: Sequence[str]) -> list[Example]:
    """Up to SAMPLES examples of different kinds where there are so many, the first of each; else the first ones."""
    firsts: dict[str, Example] = {}
    others: list[Example] = []
    try:
        with path.open(encoding="utf-8") as f:
            for line in f:
                example = Example.model_validate_json(line)
                if example.kind not in firsts:
                    firsts[example.kind] = example
                elif len(others) < SAMPLES:
                    others.append(example)
                if len(firsts) == len(kinds) and len(others) == SAMPLES:
                    break
    except (OSError, ValidationError):
        return []
    own = [firsts[kind] for kind in ("imported", "general") if kind in firsts]  # a team looks for its own first
    rest = [example for kind, example in firsts.items() if kind not in ("imported", "general")]
    spread = rest[:: max(1, len(rest) // (SAMPLES - len(own)))]
    return [*own, *spread, *others][:SAMPLES]


def _table(by_kind: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not by_kind:
        return []
    total = {key: sum(found[key] for found in by_kind.values()) for key in COLUMNS}
    cells = [("kind", *(key.replace("learned_tokens", "learned") for key in COLUMNS))]
    for kind, found in [*by_kind.items(), ("all", total)]:
        cells.append((escaped(kind), *(f"{found[key]:,}" for key in COLUMNS)))
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([line[0].ljust(wide[0]), *(c.rjust(w) for c, w in zip(line[1:], wide[1:], strict=True))])
        for line in cells
    ]


def _about(figures: Mapping[str, Any]) -> Iterable[str]:
    """What was left out, and what of it was somebody's."""
    dropped = sorted(figures.get("dropped", {}).items(), key=lambda one: -one[1])
    said = ", ".join(f"{n:,} {escaped(why)}" for why, n in dropped) or "none"
    yield f"dropped: {said}" + ("; the first of each reason in dropped.jsonl" if dropped else "")
    if found := figures.get("imported"):
        yield f"imported: {found['rows']:,} rows, {found['train']:,} to train on and {found['eval']:,} to evaluate on"
    trained = figures.get("rows", {}).get("train", 0)
    if found := figures.get("general"):
        yield f"general: {found['rows']:,} rows, {found['rows'] / max(1, trained):.1%} of those to train on"
    rows = sum(figures.get("rows", {}).values())
    blank = figures.get("without_analysis", 0)
    if blank > (1 - THINKING) * rows:
        share = f"{blank:,} of {rows:,} rows have no analysis"
        yield f"look out: {share}: a model that learns little thinking may think less; general rows with it help"


def _shown(example: Example, columns: int) -> list[str]:
    question = next((m.content for m in reversed(example.messages) if m.role == "user"), "")
    last = example.messages[-1]
    parts = (("question", question), ("analysis", last.thinking or "(none)"), ("answer", last.content))
    head = f"{example.id} ({example.kind}, {example.effort}, {example.check})"
    return [_cut(head, columns), *(_cut(f"  {name:8} {text}", columns) for name, text in parts)]


def _cut(text: str, columns: int) -> str:
    """The beginning of a text, on one line that leaves the terminal's last cell empty."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    flat = indent + escaped(" ".join(text[: 4 * columns + 80].split()))
    whole = width(flat) < columns and len(text) <= 4 * columns + 80
    return flat if whole else wrap(flat, max(2, columns - 2))[0] + "…"
