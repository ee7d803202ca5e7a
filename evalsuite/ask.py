"""Questions and two endpoints in, answers.jsonl out: every question at every effort to both arms, side by side.

Speaks HTTP through the openai client alone, streaming, so that it sees what a user's program would see. An answer is
on disk before the next request starts: a killed run loses what was in flight and goes on where it stopped. Beside
`answers.jsonl` lies `answers.meta.json`, written first, which says what was asked of which models: a run that would
mix two of them is refused. Knows nothing about how arms are compared.
"""

import asyncio
import errno
import fcntl
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from evalsuite import answers
from evalsuite.answers import Answer, Arm
from evalsuite.endpoint import Endpoint as Endpoint
from evalsuite.endpoint import client, served
from evalsuite.questions import Question, QuestionSet
from evalsuite.reply import Sampling, reply
from tune.artefact import write_text
from tune.errors import UserError
from tune.harmony import Effort

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ARMS: tuple[Arm, ...] = get_args(Arm)

Job = tuple[Question, Arm, Effort]


class Meta(BaseModel):
    """answers.meta.json: what every line of answers.jsonl has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    questions: str  # digest of the question set
    models: dict[Arm, str]
    max_tokens: int
    temperature: float
    seed: int


def meta_path(out: Path) -> Path:
    """answers.meta.json for answers.jsonl."""
    return out.with_suffix(".meta.json")


def recorded(out: Path) -> Meta:
    """What the answers in `out` belong to, as `ask` wrote it down. Raises UserError when that is not on file."""
    path = meta_path(out)
    try:
        return Meta.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        fix = f"rm {out} {path}, to ask everything again"
        raise UserError(f"{out} holds answers, but {path.name} does not say to what", fix=fix) from None


async def ask(
    questions: QuestionSet,
    arms: Mapping[Arm, Endpoint],
    efforts: Sequence[Effort],
    out: Path,
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    concurrency: int = 8,
    retries: int = 2,
    report: Callable[[str], None] = lambda _: None,
) -> list[Answer]:
    """Ask what `out` does not hold yet, at most `concurrency` requests in flight over both arms; all answers on file.

    A request that fails is tried `retries` times more, then recorded as an error without a score, and asked again by
    the next call. Raises UserError before anything is asked when an endpoint cannot be reached, refuses the key or
    does not serve the model, and when `out` holds answers from other models, questions or sampling.
    """
    if set(arms) != set(ARMS):
        raise ValueError(f"arms are {', '.join(ARMS)}")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, retries=retries)
    clients = {arm: client(endpoint) for arm, endpoint in arms.items()}
    try:
        models = {arm: await served(clients[arm], arms[arm], arm) for arm in ARMS}
        meta = Meta(
            questions=questions.digest, models=models, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        have = _resume(out, meta)
        jobs = _jobs(questions, efforts, have, seed)
        report(f"{len(jobs)} requests to {' and '.join(f'{arm} {models[arm]}' for arm in ARMS)}, {len(have)} on file")
        with _locked(out) as file:
            await _work(jobs, clients, models, sampling, concurrency, file, report)
    except OSError as e:  # the disk's: the network's come as the openai client's errors
        raise UserError(f"{out} cannot be written", why=str(e), fix="make room or mend its rights, run again") from None
    finally:
        for each in clients.values():
            await each.close()
    found = answers.read(out)
    if failed := sum(a.outcome == "error" for a in found):
        report(f"{failed} requests ended in an error: run again to ask them again")
    return found


async def _work(
    jobs: Sequence[Job],
    clients: Mapping[Arm, "AsyncOpenAI"],
    models: Mapping[Arm, str],
    sampling: Sampling,
    concurrency: int,
    file: FileIO,
    report: Callable[[str], None],
) -> None:
    queue, done, step = iter(jobs), 0, max(1, len(jobs) // 20)

    async def worker() -> None:
        nonlocal done
        for question, arm, effort in queue:
            answer = await reply(clients[arm], models[arm], question, arm, effort, sampling)
            line = answer.model_dump_json().encode() + b"\n"
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += 1
            if done % step == 0 or done == len(jobs):
                report(f"{done} of {len(jobs)} answers")

    disk: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, concurrency)):
                group.create_task(worker())
    except* OSError as e:
        disk += e.exceptions
    if disk:
        raise disk[0]


def _jobs(questions: QuestionSet, efforts: Sequence[Effort], have: Sequence[Answer], seed: int) -> list[Job]:
    """Items in random order, the two arms of an item side by side in random order: drift of a server hits both."""
    rng = random.Random(seed)
    items = [(q, effort) for q in questions.questions for effort in dict.fromkeys(efforts)]
    rng.shuffle(items)
    jobs: Iterator[Job] = ((q, arm, effort) for q, effort in items for arm in rng.sample(ARMS, len(ARMS)))
    done = {a.key for a in have if a.outcome != "error"}
    return [job for job in jobs if (job[0].id, job[1], job[2]) not in done]


def _resume(out: Path, meta: Meta) -> list[Answer]:
    """Answers to keep, after dropping errors and a torn last line from the file. Refuses a file of another run."""
    path = meta_path(out)
    have = answers.read(out)
    fix = f"rm {out} {path}, to ask everything again"
    if have:
        before = recorded(out)
        other = [k for k in Meta.model_fields if getattr(before, k) != getattr(meta, k)]
        if other:
            why = "\n       ".join(f"{k}: {getattr(before, k)} then, {getattr(meta, k)} now" for k in other)
            raise UserError(f"{out} holds answers of another run", why=why, fix=fix)
        strange = next((a for a in have if a.model != meta.models[a.arm]), None)
        if strange:
            raise UserError(f"{out} holds an answer of {strange.model}, which {path.name} does not name", fix=fix)
    out.parent.mkdir(parents=True, exist_ok=True)
    have = [a for a in have if a.outcome != "error"]
    with _locked(out):
        write_text(path, meta.model_dump_json(indent=1) + "\n")
        write_text(out, "".join(f"{a.model_dump_json()}\n" for a in have))
    return have


def _locked(out: Path) -> FileIO:
    """The file, open for appending by us alone; unbuffered, so that a line is on disk when it is written."""
    file = out.open("ab", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"another run is writing {out}", fix="wait for it, or stop it") from None
    return file
