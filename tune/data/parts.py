"""The work of a dataset in parts: some pages each, made in any order, by any process that sees the folder.

In: a plan, one file that says all that a part's bytes hang on. Out: a folder a part, which takes its name when it is
whole: what a killed run has finished is kept for the next one of the same plan. Knows nothing of who runs it, and
nothing of how parts become a dataset.
"""

import hashlib
import json
import platform
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from tune import artefact
from tune.data import examples, filling, filters, neighbours, sides, synthetic
from tune.data.dropped import Told
from tune.data.examples import More
from tune.data.fact import Fact
from tune.data.filters import Filters, Held
from tune.data.page import Page, Pages
from tune.data.twins import TEXTS, Shingled
from tune.errors import UserError
from tune.recipe import Dataset, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAN, WHOLE = "plan.json", "part.json"
MOST = 64  # pages of a part: some seconds of work
LARGEST = 2**19  # bytes of pages, after which a part ends


class Plan(BaseModel):
    """What parts are made of. `shards`: where each begins in the file of pages, and its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_by: str
    inputs: dict[str, str]
    pages: Path
    synthetic: Path | None
    dataset: Dataset
    answer_rule: str
    held: Held
    mentioned: dict[str, tuple[str, ...]]
    shards: tuple[tuple[int, int], ...]


class About(BaseModel):
    """What a part says of itself; `files` with their bytes, so that one cut short is seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int
    doctests: dict[str, int]
    dropped: Told
    files: dict[str, int]


class Part(NamedTuple):
    """A finished part."""

    folder: Path

    @property
    def about(self) -> About:
        return About.model_validate_json((self.folder / WHOLE).read_bytes())

    @property
    def records(self) -> "NDArray[np.void]":
        return self._array("records")

    @property
    def pages(self) -> "NDArray[np.void]":
        return self._array("pages")

    @property
    def signatures(self) -> "NDArray[np.uint32]":
        """Of the texts of its pages; none for a part of rows of files."""
        return self._array("signatures")

    def shingled(self, first: int, end: int) -> Shingled:
        """The shingles of its examples from `first` on, up to `end`."""
        sizes = self.records["shingles"]
        a, b = (int(sizes[:n].sum(dtype=np.int64)) for n in (first, end))
        return Shingled(sizes[first:end], np.array(np.load(self.folder / "shingles.npy", mmap_mode="r")[a:b]))

    def blocks(self) -> list[Callable[[], Shingled]]:
        rows = len(self.records)
        return [partial(self.shingled, n, min(rows, n + TEXTS)) for n in range(0, rows, TEXTS)]

    def _array(self, name: str) -> "NDArray[Any]":
        found: NDArray[Any] = np.load(self.folder / f"{name}.npy")
        return found


def plan(recipe: Recipe, inputs: Mapping[str, str], held: Held, pages: Path) -> Plan:
    """What the parts of a recipe's dataset are made of. Goes through the pages twice."""
    said = examples.mentioned(Pages(pages))
    return Plan(
        made_by=f"{artefact.VERSION}, {_source()}, Python {platform.python_version()}",
        inputs=dict(inputs),
        pages=pages.resolve(),
        synthetic=(recipe.work / synthetic.KIND).resolve() if recipe.synthesis else None,
        dataset=recipe.dataset,
        answer_rule=recipe.evaluate.answer_rule,
        held=held,
        mentioned={module: tuple(sorted(words)) for module, words in said.items()},
        shards=tuple(_shards(pages)),
    )


def opened(folder: Path, plan: Plan) -> str:
    """Make the folder ready for parts of this plan: those of another one go. Returns the plan's digest."""
    text = plan.model_dump_json()
    try:
        if (folder / PLAN).read_text(encoding="utf-8") == text:
            return _digest(text)
    except (OSError, ValueError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    artefact.write_text(folder / PLAN, text)
    return _digest(text)


def missing(folder: Path, plan: Plan) -> list[int]:
    """The numbers of the parts that are not there, or not whole."""
    return [number for number in range(len(plan.shards)) if not _whole(folder / _name(number))]


def finished(folder: Path, plan: Plan) -> list[Part]:
    """The parts in the order of their pages. Raises UserError when one is not whole."""
    if left := missing(folder, plan):
        why = f"{len(left):,} of {len(plan.shards):,} are missing, the first is {_name(left[0])}"
        raise UserError(f"{folder} does not hold every part", why=why, fix="tune dataset: it makes those")
    return [Part(folder / _name(number)) for number in range(len(plan.shards))]


def make(folder: Path, digest: str, number: int) -> int:
    """Make one part of the folder's plan, unless it is there; how many pages it has.

    Raises UserError when the folder's plan is not the one of this digest, or what the part needs is not here.
    """
    if _whole(folder / _name(number)):
        return Part(folder / _name(number)).about.pages
    plan, by, more, known = _prepared(folder, digest)
    start, length = plan.shards[number]
    with plan.pages.open("rb") as f:
        f.seek(start)
        pages = [Page.model_validate_json(line) for line in f.read(length).split(b"\n") if line.strip()]
    doctests = Counter[str]()

    def made() -> Iterator[examples.Example]:
        for page in pages:
            yield from examples.of_page(page, known, plan.dataset.efforts, plan.answer_rule, more, doctests)

    signatures = sides.signatures(page.text for page in pages)
    write(folder / _name(number), made(), pages, signatures, plan.dataset, by, doctests)
    return len(pages)


def write(
    place: Path,
    made: Iterable[examples.Example],
    pages: Iterable[Page],
    signatures: "NDArray[np.uint32]",
    asked: Dataset,
    by: Filters,
    doctests: Mapping[str, int],
) -> Part:
    """Fill a folder beside `place`, and give it that name: who comes second leaves the first one's."""
    names = [page.id for page in pages]
    fresh = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}")
    fresh.mkdir()
    try:
        tally = filling.fill(fresh, made, names, asked, by)
        np.save(fresh / "signatures.npy", signatures)
        files = {path.name: path.stat().st_size for path in sorted(fresh.iterdir())}
        about = About(pages=len(names), doctests=dict(doctests), dropped=tally.told, files=files)
        (fresh / WHOLE).write_text(about.model_dump_json(), encoding="utf-8")
        if place.exists() and not _whole(place):
            shutil.rmtree(place)
        if not place.exists():
            fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Part(place)


def _name(number: int) -> str:
    return f"{number:06d}"


def _whole(folder: Path) -> bool:
    try:
        files = Part(folder).about.files
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=1)
def _prepared(folder: Path, digest: str) -> tuple[Plan, Filters, More, dict[str, frozenset[str]]]:
    """What every part of a plan needs; read once a process."""
    text = (folder / PLAN).read_text(encoding="utf-8")
    if _digest(text) != digest:
        raise UserError(f"{folder / PLAN} is another plan by now", fix="tune dataset")
    plan = Plan.model_validate_json(text)
    written = synthetic.read(plan.synthetic) if plan.synthetic else {}
    compared = "neighbours" in plan.dataset.kinds

    def more(page: Page) -> Iterator[tuple[str, Fact]]:
        """What a page's own rules do not make: what another model wrote, and neighbours where they are named."""
        yield from ((row.heading, row.fact) for row in written.get(page.id, ()))
        yield from neighbours.facts(page) if compared else ()

    known = {module: frozenset(words) for module, words in plan.mentioned.items()}
    return plan, filters.of(plan.held, plan.dataset), more, known


def _shards(pages: Path) -> Iterator[tuple[int, int]]:
    start = end = count = 0
    with pages.open("rb") as lines:
        for line in lines:
            end, count = end + len(line), count + 1
            if count == MOST or end - start >= LARGEST:
                yield start, end - start
                start, count = end, 0
    if end > start:
        yield start, end - start


def _source() -> str:
    """A digest of the code that parts are made by: what an older one made is no part of this one's dataset."""
    own = Path(__file__).parent
    found = {path.name: artefact.file_digest(path) for path in sorted([*own.glob("*.py"), own.parent / "harmony.py"])}
    return _digest(json.dumps(found))[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
