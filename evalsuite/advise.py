"""A report with free-text answers and a judge's endpoint in, advice.json beside the report out. Decides nothing.

The report is proven before anything is judged, as the gate proves it, and is not written: what another model prefers
is no part of it. That takes a while, so whether there is a judge at all is asked first.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from evalsuite import questions as question_sets
from evalsuite import report as reports
from evalsuite.asking import opinions as asking
from evalsuite.asking.endpoint import Endpoint
from evalsuite.asking.opinions import Texts
from evalsuite.judging import opinions
from evalsuite.judging.opinions import Opinions, Pair
from evalsuite.replies import answers as heard
from evalsuite.replies import opinion
from evalsuite.replies.answers import ARMS, Answer, Item
from evalsuite.report import ANSWERS, QUESTIONS
from tune.errors import UserError
from tune.section import EffortName


def advise(path: Path, judge: Endpoint, *, report: Callable[[str], None] = lambda _: None) -> Opinions:
    """Write advice.json, and advice.jsonl with what the judge said. What is on file is not asked again.

    Raises UserError for a report that its files do not prove, one without free-text answers of both arms, and as
    asking/opinions.py for the judge.
    """
    stored = reports.as_stored(path)
    if stored.advice is None:
        raise _none(path)
    server = asyncio.run(asking.listed(judge, [stored.asked.servers[arm] for arm in ARMS]))
    made = reports.read(path)
    asked = question_sets.read(path.with_name(QUESTIONS))
    kept, _ = heard.counted(heard.read(path.with_name(ANSWERS), asked), asked, made.efforts, made.asked)
    by_key = heard.first(a for a in kept if not a.error)
    pairs = {
        (q.id, effort): Texts(q.prompt, base.text, tuned.text)
        for effort in made.efforts
        for q in asked.advice
        if (base := _answer(by_key, q.id, "base", effort)) and (tuned := _answer(by_key, q.id, "tuned", effort))
    }
    if not pairs:
        raise _none(path)
    said = asyncio.run(asking.ask(list(pairs.values()), judge, server, path.with_name(opinion.FILE), report=report))
    told = []
    for (question, effort), texts in pairs.items():
        replies = [said.get(opinion.digest(*order, server)) for order in texts.orders]
        first, second = (opinion.read_letter(each.text) if each else None for each in replies)
        told.append(Pair(question=question, effort=effort, outcome=opinions.agreed(first, second)))
    found = Opinions(
        report=stored.digest,
        judge=f"{server.model} at {server.url}",
        rows=opinions.rows(told, made.efforts),
        pairs=tuple(told),
    )
    opinions.write(path.with_name(opinions.FILE), found)
    return found


def _none(path: Path) -> UserError:
    return UserError(
        f"{path} has no free-text answers to be judged",
        why="no question of its set is answered in prose by both arms",
        fix="add tutorial = true to [evaluate] of the recipe, then evalsuite questions and evalsuite compare",
    )


def _answer(answers: dict[Item, Answer], question: str, arm: str, effort: EffortName) -> Answer | None:
    """One that says something."""
    found = answers.get((question, arm, effort))
    return found if found and found.text.strip() else None


def words(found: Opinions) -> str:
    """As the terminal shows it: an effort a line."""
    lines = [f"advice, not gated: {found.judge} on tuned against base"]
    lines += [
        f"{row.effort}: {row.wins} better, {row.losses} worse, {row.ties} ties, {row.none} without an opinion; "
        f"p = {row.p:.2g}"
        for row in found.rows
    ]
    return "\n".join(lines)
