"""The rows that a page shows, whole where they fit: conversation, what of it is learned, and the section it is from.

In: what `survey` chose. Out: JSON of at most BUDGET bytes: where it would be more, every text is cut at the same
length, and says how long it was. No row is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tune.data import block, mask
from tune.data.page import Page
from tune.harmony import IGNORE
from tune.views import walk
from tune.views.plain import cut, script_json
from tune.views.survey import RUN, About, Choice, Survey, page_at, words
from tune.views.walk import Files, Told

BUDGET = 4_500_000  # bytes of JSON: with everything else the page stays under 6 MB
CUTS = (6000, 2000, 700, 200, 60)  # characters of a text, the longest that fit
NAME = 300  # characters of an id, a title, a provenance
PASSAGE = 3000  # characters of a section that are looked at


class Spoken(NamedTuple):
    """A turn, its tokens with those of the format around it, and how many of these are learned; -1 where unknown."""

    who: str
    text: str
    length: int
    tokens: int
    learned: int


class Shown(NamedTuple):
    """A row and where it is from. `rank` as in `Choice`."""

    told: Told
    side: str
    tokens: int
    learned: int
    turns: tuple[Spoken, ...]
    section: str
    length: int  # of the section
    rank: int


def rows(files: Files, pages: Path, found: Survey) -> list[Shown]:
    """The chosen rows, in the order of the dataset."""
    lines = {side: _at(files, side, found.chosen) for side in walk.SIDES}
    out = []
    with pages.open("rb") as texts:
        name, page = "", None
        examples = _chosen(files, "examples.jsonl", [choice.example for choice in found.chosen])
        for choice, line in zip(found.chosen, examples, strict=True):
            told = walk.told(line)
            ids, labels = walk.ids(next(lines[choice.side]))
            if told.page != name:
                name, about = told.page, found.pages[told.page]
                page = page_at(texts, about.at) if about.at >= 0 else None
            section = _section(page, told) if page else ""
            turns = tuple(_spoken(told, ids, labels))
            told = told._replace(turns=())
            learned = len(labels) - labels.count(IGNORE)
            row = (told, choice.side, len(ids), learned, turns, section[: CUTS[0]], len(section), choice.rank)
            out.append(Shown(*row))
    return out


def embedded(shown: Sequence[Shown], pages: Mapping[str, About]) -> str:
    """The rows as JSON for a script: texts and pages that several rows share stand there once."""
    text = ""
    for most in CUTS:
        text = script_json(_values(shown, pages, most))
        if len(text.encode()) <= BUDGET:
            break
    return text


def _values(shown: Sequence[Shown], pages: Mapping[str, About], most: int) -> dict[str, Any]:
    names, sections = dict[str, int](), dict[tuple[str, int], int]()
    out = []
    for row in shown:
        told = row.told
        turns = []
        for turn in row.turns:
            text, _ = cut(turn.text, most)
            turns.append([turn.who, text, turn.length if turn.length > most else 0, turn.tokens, turn.learned])
        place = sections.setdefault((row.section, row.length), len(sections)) if row.section else -1
        out.append(
            {
                "id": cut(told.id, NAME)[0],
                "page": names.setdefault(told.page, len(names)),
                "kind": cut(told.kind, NAME)[0],
                "effort": cut(told.effort, NAME)[0],
                "side": row.side,
                "check": cut(told.check, NAME)[0],
                "from": cut(told.provenance, NAME)[0],
                "tokens": row.tokens,
                "learned": row.learned,
                "turns": turns,
                "section": place,
            }
        )
    return {
        "pages": [[cut(name, NAME)[0], cut(pages[name].title, NAME)[0]] for name in names],
        "sections": [[cut(text, most)[0], length if length > most else 0] for text, length in sections],
        "rows": out,
    }


def _spoken(told: Told, ids: Sequence[int], labels: Sequence[int]) -> Iterator[Spoken]:
    """Each turn with the tokens of its own message, the system's first; the example does not spell that one."""
    messages = mask.turns(ids)
    said = [walk.Turn("system", ""), *told.turns]
    same = len(said) == len(messages)
    for n, turn in enumerate(said):
        at = messages[n] if same else None
        tokens = at.end - at.start if at else -1
        learned = tokens - labels[at.start : at.end].count(IGNORE) if at else -1
        if turn.who != "system" or same:
            yield Spoken(turn.who, turn.text[: CUTS[0]], len(turn.text), tokens, learned)


def _section(page: Page, told: Told) -> str:
    """What the page says under the heading that the provenance names: of several, where most of the example stands."""
    parts = block.sections(page.blocks)
    named = [part for part in parts if f", {part.title}, " in told.provenance] or parts
    runs = {run for text in told.texts for run in _runs(words(text[:PASSAGE]))}

    def shared(part: block.Section) -> int:
        return sum(run in runs for run in _runs(words(block.render(part.blocks)[:PASSAGE])))

    best = named[0] if len(named) == 1 else max(named, key=shared)
    return block.render(best.blocks)


def _runs(said: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield from zip(*(said[k:] for k in range(RUN)), strict=False)


def _at(files: Files, side: str, chosen: Sequence[Choice]) -> Iterator[bytes]:
    return _chosen(files, f"{side}.jsonl", [choice.line for choice in chosen if choice.side == side])


def _chosen(files: Files, name: str, numbers: Sequence[int]) -> Iterator[bytes]:
    """Lines of a file by their numbers, which rise."""
    wanted = iter(numbers)
    following = next(wanted, None)
    for number, line in enumerate(files.lines(name)):
        if following is None:
            return
        if number == following:
            yield line
            following = next(wanted, None)
