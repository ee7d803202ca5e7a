"""What a checkpoint was made from, as far as the work folder around it still proves it: adapter, dataset, pages.

Each is told of only if its digest is the one that the stage after it names: what lies there may be of a later run.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact
from tune.artefact import Artefact
from tune.data import page
from tune.errors import UserError

UNSAID = {"hosts"}  # settings that are nobody's business: addresses


class Lineage(NamedTuple):
    """The stages behind a checkpoint, None where unknown; pages by source and by licence."""

    adapter: Artefact | None
    dataset: Artefact | None
    pages: Artefact | None
    sources: Counter[str]
    licences: Counter[str]


def of(folder: Path, made: Artefact) -> Lineage:
    """The lineage of the checkpoint in `folder`; `made` is its manifest. Looks at the folders beside it."""
    work = folder.absolute().parent
    adapter = _stage(work, "adapter", made.inputs)
    dataset = _stage(work, "dataset", adapter.inputs if adapter else {})
    pages = _stage(work, "pages", dataset.inputs if dataset else made.inputs)  # a nano is made of pages
    found: list[page.Page] = []
    if pages is not None:
        try:
            artefact.verify(work / "pages", pages, remake="tune collect")
            found = page.read(work / "pages" / "pages.jsonl")
        except (UserError, OSError):
            pages = None
    return Lineage(adapter, dataset, pages, Counter(p.source for p in found), Counter(p.licence for p in found))


def rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings or figures as name and value, a row each; what lies inside another by both names. Long ones left out."""
    out = []
    for key, value in values.items():
        words = key.replace("_", " ")
        if key in UNSAID:
            continue
        if isinstance(value, dict):
            out += [(f"{words}, {inner}", short) for inner, short in rows(value)]
        elif isinstance(value, list):
            if all(isinstance(v, str) for v in value) and len(value) < 10:
                out.append((words, ", ".join(value)))
        elif value is not None:
            out.append((words, shown(value)))
    return out


def shown(value: object) -> str:
    """A figure as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _stage(work: Path, kind: str, inputs: dict[str, str]) -> Artefact | None:
    """The finished stage beside the checkpoint, if it is the one that `inputs` names."""
    try:
        found = artefact.read(work / kind, kind, remake="")
    except (UserError, OSError):
        return None
    return found if inputs.get(kind) == found.digest else None
