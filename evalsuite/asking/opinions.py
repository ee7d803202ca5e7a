"""Pairs of answers and a judge's endpoint in, advice.jsonl out: each pair asked twice, with either answer first.

Asks as evalsuite.asking asks the arms: paced, tried again, and no reply that is on file is asked for once more. Knows
no report and no arm but as the one whose answer stands first.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evalsuite.asking import journal
from evalsuite.asking.endpoint import Endpoint, client, served
from evalsuite.asking.pace import Pace
from evalsuite.asking.reply import Failed, heard
from evalsuite.replies import opinion
from evalsuite.replies.answers import ARMS, MODEL_MISMATCH
from evalsuite.replies.opinion import Said
from evalsuite.replies.server import Server
from tune.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class Texts(NamedTuple):
    """A question, and what either arm answered."""

    question: str
    base: str
    tuned: str

    @property
    def orders(self) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """Base first, then tuned first."""
        return (self.question, self.base, self.tuned), (self.question, self.tuned, self.base)


def itself(judge: Server, servers: Sequence[Server]) -> str:
    """Why the judge is one of these, by base and tuned, or ""."""
    for arm, server in zip(ARMS, servers, strict=True):
        if judge.digest and judge.digest == server.digest:
            return f"the judge is the checkpoint {judge.digest}, and so is {arm}"
        same = judge.model == server.model or (judge.root and judge.root == server.root)
        if judge.url == server.url and same:
            return f"the judge is {judge.model} at {judge.url}, and so is {arm}"
    return ""


async def listed(endpoint: Endpoint, servers: Sequence[Server]) -> Server:
    """The judge, after one request. Raises UserError for one that cannot be reached, and for one of `servers`, base and
    tuned."""
    asking = client(endpoint)
    try:
        judge = await served(asking, endpoint, "judge")
    finally:
        await asking.close()
    if why := itself(judge, servers):
        fix = "evalsuite advise again with another --judge, or another --judge-model of it"
        raise UserError("nobody judges their own answers", why=why, fix=fix)
    return judge


async def ask(
    pairs: Sequence[Texts],
    endpoint: Endpoint,
    judge: Server,
    out: Path,
    *,
    concurrency: int = 4,
    retries: int = 2,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Said]:
    """Ask `judge`, as `listed` found it, what `out` does not hold yet; all that it said by `opinion.digest`.

    A request that fails is told and asked again by the next call. Raises UserError when it does nothing but fail.
    """
    asking = client(endpoint)
    try:
        with journal.opened(out) as file:
            have = opinion.read(out)
            wanted = {opinion.digest(*order, judge): order for pair in pairs for order in pair.orders}
            jobs = {name: order for name, order in wanted.items() if (judge.id, name) not in have}
            report(f"{len(jobs)} requests to judge {judge.model}, {len(wanted) - len(jobs)} on file")
            await _work(jobs, asking, judge, concurrency, endpoint.pace(concurrency), retries, file, report)
    except OSError as e:  # the disk's: the network's come as the openai client's errors
        raise UserError(f"{out} cannot be written", why=str(e), fix="make room or mend its rights, run again") from None
    finally:
        await asking.close()
    return {name: said for (by, name), said in opinion.read(out).items() if by == judge.id}


async def _work(
    jobs: dict[str, tuple[str, str, str]],
    asking: "AsyncOpenAI",
    judge: Server,
    concurrency: int,
    pace: Pace,
    retries: int,
    file: journal.Journal,
    report: Callable[[str], None],
) -> None:
    queue, id_ = iter(jobs.items()), judge.id
    failed, won = list[str](), 0

    async def worker(server: Server) -> None:
        nonlocal won
        for name, order in queue:
            try:
                said, server = await _said(asking, server, order, retries, pace)
            except Failed as e:
                pace.failures += 1
                failed.append(str(e))
                if pace.dead:
                    return
                continue
            won += 1
            await file.add(opinion.line(Said(judge=id_, request=name, text=said)))

    await asyncio.gather(*(worker(judge) for _ in range(max(1, concurrency))))
    if failed and (pace.dead or not won):
        fix = "look at what answers there, then evalsuite advise again: it goes on where it stopped"
        if failed[-1].startswith(MODEL_MISMATCH):
            fix = "name the model that replies by --judge-model"
        why = f"{len(failed)} requests came to nothing, the last one: {failed[-1]}"
        raise UserError(f"the judge {judge.url} only fails", why=why, fix=fix)
    if failed:
        report(f"{len(failed)} requests ended in an error, and are no opinion: run again to ask them again")


async def _said(
    asking: "AsyncOpenAI", server: Server, order: tuple[str, str, str], retries: int, pace: Pace
) -> tuple[str, Server]:
    """The reply's text, empty where it was cut off; and the server, which may refuse to count tokens."""
    prompt = opinion.task(*order, f"----- {secrets.token_hex(16)}")
    try:
        said = await heard(asking, server, opinion.body(prompt, server), retries, pace)
    except Failed as e:
        if server.usage and str(e).startswith(("HTTP 400", "HTTP 422")) and "stream_options" in str(e):
            return await _said(asking, server.model_copy(update={"usage": False}), order, retries, pace)
        raise
    return (said["text"] if said["finish_reason"] != "length" else ""), server
