"""Questions and two endpoints in, answers.jsonl out: every question at every effort to both arms, side by side.

Speaks HTTP through the openai client alone, streaming, so that it sees what a user's program would see. A reply is on
the disk before its worker asks on (asking/journal.py): a killed run, or one that lost power, loses what was in flight
and goes on where it stopped. What is on file counts if the same server was sent the same request; everything else stays
there and is asked for again. Knows nothing about how arms are compared.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.asking import journal
from evalsuite.asking.check import check
from evalsuite.asking.endpoint import Endpoint as Endpoint
from evalsuite.asking.endpoint import client
from evalsuite.asking.journal import Journal
from evalsuite.asking.progress import Meter
from evalsuite.asking.reply import reply
from evalsuite.asking.stopping import Stopping
from evalsuite.questions import Question, QuestionSet
from evalsuite.replies import answers, fitness, request
from evalsuite.replies.answers import ARMS, Answer, Arm, Meta, Reply
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from tune.errors import UserError
from tune.evaluate import tokens_at
from tune.section import EffortName, Limits

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CUT_SHARE = 0.02  # of replies that end at the token limit: more is worth a word
Job = tuple[Question, Arm, EffortName, int]  # and which repeat of it


async def ask(
    questions: QuestionSet,
    arms: Mapping[Arm, Endpoint],
    efforts: Sequence[EffortName],
    out: Path,
    *,
    max_tokens: Limits,
    temperature: float,
    seed: int,
    repeats: int = 1,
    concurrency: int = 8,
    retries: int = 2,
    allow_unlike: bool = False,
    stopping: Stopping | None = None,
    report: Callable[[str], None] = lambda _: None,
    live: Callable[[str], None] | None = None,
) -> Meta:
    """Ask what `out` does not hold yet, at most `concurrency` requests in flight over both arms, and say of whom.

    A request that fails is tried `retries` times more, then recorded as an error without a score, and asked again by
    the next call. Nothing is asked of servers that are unfit for it (replies/fitness.py), and with `stopping` no more
    once that is in vain. `report` is told what stays on a terminal, `live` every answer's line, to be rewritten in
    place; without it `report` gets one each 5 %. Raises UserError before anything is asked as `check` does, when `out`
    is not as it was written, and when an arm does nothing but fail. With base alone, whose noise is asked for, it
    stands for tuned too in what is returned.
    """
    if set(arms) not in ({"base"}, set(ARMS)):
        raise ValueError(f"arms are {', '.join(ARMS)}, or base alone")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, repeats=repeats)
    answers.read(out, questions)  # a file that cannot be gone on with is found before anyone is asked anything
    clients = {arm: client(endpoint) for arm, endpoint in arms.items()}
    try:
        servers = await check(clients, arms, efforts, report)
        servers = {arm: servers.get(arm, servers["base"]) for arm in ARMS}
        meta = Meta(questions=questions.digest, servers=servers, sampling=sampling, unlike_allowed=allow_unlike,
                    stop_early=stopping is not None)  # fmt: skip
        with journal.opened(out) as file:
            have = [a for a in on_file(out, questions, efforts, meta, report) if not a.error]
            if answers.headers(out)[-1:] != [meta]:
                await file.add(answers.header(meta))
            if void := fitness.unfit(questions, efforts, meta):
                for why in void:
                    report(f"nothing is asked: {why}")
                return meta
            jobs = _jobs(questions, [arm for arm in ARMS if arm in arms], efforts, have, sampling, stopping)
            named = " and ".join(f"{arm} {servers[arm].model}" for arm in ARMS if arm in arms)
            report(f"{len(jobs)} requests to {named}, {len(have)} on file")
            if stopping and stopping.look(have):
                report(f"{stopping.why}: nothing more is asked")
                jobs = []
            await _work(jobs, clients, servers, sampling, concurrency, retries, file, stopping, report, live, arms)
    except OSError as e:  # the disk's: the network's come as the openai client's errors
        raise UserError(f"{out} cannot be written", why=str(e), fix="make room or mend its rights, run again") from None
    finally:
        for each in clients.values():
            await each.close()
    found, _ = answers.counted(answers.read(out, questions), questions, efforts, meta)
    if failed := sum(bool(a.error) for a in found):
        report(f"{failed} requests ended in an error: run again to ask them again")
    judged = {q.id for q in questions.judged}
    for line in _cut([a for a in found if a.question in judged], sampling):
        report(line)
    return meta


async def _work(
    jobs: Sequence[Job],
    clients: Mapping[Arm, "AsyncOpenAI"],
    servers: Mapping[Arm, Server],
    sampling: Sampling,
    concurrency: int,
    retries: int,
    file: Journal,
    stopping: Stopping | None,
    report: Callable[[str], None],
    live: Callable[[str], None] | None,
    arms: Mapping[Arm, Endpoint],
) -> None:
    untried = {(arm, effort) for _, arm, effort, _ in jobs}
    queue, meter = iter(jobs), Meter(len(jobs), live=bool(live))
    paces = {arm: endpoint.pace(concurrency, partial(_waiting, report, arm)) for arm, endpoint in arms.items()}

    async def worker() -> None:
        for question, arm, effort, n in queue:
            if stopping and stopping.why:
                return
            pace, server = paces[arm], servers[arm]
            said = await reply(clients[arm], server, question, arm, effort, sampling, retries, pace, n)
            if (arm, effort) in untried and not said.error:
                untried.discard((arm, effort))
                if said.finish_reason == "length":
                    limit = tokens_at(sampling.max_tokens, effort)
                    report(f"{arm} at effort {effort} needs more than {limit} tokens: raise evaluate.max_tokens")
                if late := _ended(said, tokens_at(sampling.max_tokens, effort), arms[arm].answer_seconds):
                    report(f"{arm} at effort {effort} {late}")
            await file.add(answers.line(said))
            if said.error and pace.dead:
                raise UserError(
                    f"the {arm} endpoint {server.url} only fails",
                    why=f"{pace.failures} requests in a row came to nothing, the last one: {said.error}",
                    fix=f"serve wait {server.url}, then evalsuite compare again: it goes on where it stopped",
                )
            if stopping and stopping.due(said):
                await asyncio.to_thread(stopping.look)
                if stopping.why:
                    report(f"{stopping.why}: nothing more is asked")
            if line := meter.add(time.monotonic(), failed=bool(said.error)):
                (live if live and meter.done < meter.total else report)(line)

    ended: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, concurrency)):
                group.create_task(worker())
    except* (OSError, UserError) as e:
        ended += e.exceptions
    for arm, pace in paces.items():
        if told := ", ".join(f"{pace.away[s]} times HTTP {s}" for s in pace.not_yet if pace.away[s]):
            report(f'{arm} said "not yet" and was asked again: {told}')
    if ended:
        raise ended[0]


def _ended(said: Reply, limit: int, seconds: int) -> str:
    """What to say of a reply that shows that one of `limit` tokens takes longer than the platform gives it, or ""."""
    spent = said.total_s - (said.first_token_s or 0) if said.total_s else 0.0
    if not (seconds and said.completion_tokens and said.completion_tokens > 1 and spent > 0):
        return ""
    rate = (said.completion_tokens - 1) / spent
    if limit / rate <= seconds:
        return ""
    within = f"{rate:.3g} tokens/s: {limit} would take {limit / rate:.0f} s, and its platform ends an answer"
    return f"says {within} after {seconds} s: lower evaluate.max_tokens to {max(1, int(seconds * rate))}"


def _waiting(report: Callable[[str], None], arm: Arm, why: str) -> None:
    report(f"{arm} is waited for: {why}")


def _cut(found: Sequence[Answer], sampling: Sampling) -> Iterator[str]:
    """Which arm had too few tokens at which effort, for more than a few of its replies."""
    for arm, effort in dict.fromkeys((a.arm, a.effort) for a in found):
        told = [a.finish_reason == "length" for a in found if (a.arm, a.effort) == (arm, effort) and not a.error]
        if sum(told) > CUT_SHARE * len(told):
            limit = f"{tokens_at(sampling.max_tokens, effort)} tokens cut {sum(told)} of {len(told)} replies"
            yield f"{arm} at effort {effort}: {limit}, which count as wrong: raise evaluate.max_tokens"


def _jobs(
    questions: QuestionSet,
    arms: Sequence[Arm],
    efforts: Sequence[EffortName],
    have: Sequence[Answer],
    sampling: Sampling,
    stopping: Stopping | None,
) -> list[Job]:
    """Items in random order, the two arms of an item side by side in random order: drift of a server hits both.

    Repeats of a question are items too. One of each effort comes first, so that a limit that is too low shows at once.
    Where asking may be stopped early, the others come effort by effort: what one alone shows is known soonest so.
    """
    rng = random.Random(sampling.seed)
    once = dict.fromkeys(efforts)
    items = [(q, effort, n) for q in questions.questions for effort in once for n in request.repeats(q, sampling)]
    rng.shuffle(items)
    if stopping:
        items.sort(key=lambda item: stopping.turn(item[0], item[1]))
    first = {effort: i for i, (_, effort, _) in reversed([*enumerate(items)])}
    items = [items[i] for i in sorted(range(len(items)), key=lambda i: first[items[i][1]] != i)]
    jobs: Iterator[Job] = ((q, arm, effort, n) for q, effort, n in items for arm in rng.sample(arms, len(arms)))
    done = {a.key for a in have}
    return [job for job in jobs if (job[0].id, *job[1:]) not in done]


def on_file(
    out: Path,
    questions: QuestionSet,
    efforts: Sequence[EffortName],
    meta: Meta,
    report: Callable[[str], None],
) -> list[Answer]:
    """The answers that count. Names the others."""
    found, others = answers.counted(answers.read(out, questions), questions, efforts, meta)
    for why, count in others.items():
        report(f"{count} answers on file are {why}: they stay there and do not count")
    return found
