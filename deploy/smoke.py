"""Whether a deployed endpoint does what a client of GPT-OSS needs: how it is reached in, a check a line out.

Asks a handful of questions of one endpoint, one after the other, over plain HTTP. What it cannot know it skips, in
words; what may be a small model's weakness is a warning; nothing that a server says is kept but its counts and the
beginning of what was wrong. Says nothing about the quality of answers: that is evalsuite's.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deploy.exchange import Line
from deploy.probing import Found
from deploy.smokechecks import CHECKS, Endpoint
from evalsuite.asking.client_info import ClientInfo
from tune.artefact import VERSION
from tune.harmony import EFFORTS, Effort
from tune.terminal import one_line

SECONDS = 300.0  # of a whole answer, where the platform names no limit


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(Part):
    """`seconds`: what it took. `words`: one line."""

    id: str
    outcome: Literal["passed", "failed", "warned", "skipped"]
    words: str
    seconds: float


class Smoke(Part):
    """The receipt. `release`: digest of the rendered folder; `digest`: of the checkpoint that was to answer, and
    `answered` what the endpoint itself says, "" for nothing. `asked_again`: requests that were told "not yet"."""

    schema_version: int = 1
    at: str  # ISO 8601, UTC
    kit: str
    base_url: str
    model: str
    release: str
    digest: str
    answered: str
    engine: str
    asked_again: dict[str, int]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return not any(check.outcome == "failed" for check in self.checks)


def smoke(
    info: ClientInfo,
    *,
    digest: str = "",
    release: str = "",
    length: int = 0,
    efforts: Sequence[Effort] = EFFORTS,
    seconds: float = 0.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Smoke:
    """Every check, in order; after a cold start that does not end the others are skipped.

    `digest` is the checkpoint's that is to answer, `length` its context in tokens where /v1/models does not say;
    `efforts` are those that it takes as they are asked, the lowest first. `seconds`: the most that one answer may take,
    0 for the platform's limit. `tell` hears each check as it ends. Raises UserError when a key or credentials are
    missing.
    """
    began = datetime.now(UTC).isoformat(timespec="seconds")
    door = info.door()
    line = Line(info, door, seconds or info.answer_seconds or SECONDS, tell)
    at, made = Endpoint(line, info, digest, length, efforts, set()), list[Check]()
    try:
        for id, check in CHECKS.items():
            start = time.monotonic()
            silent = made and made[0].outcome == "failed"
            found = Found("skipped", "it does not answer") if silent else check(at)
            if id == "cold-start":
                at = at._replace(length=found.length or length)
            words = one_line(door.hidden(found.words), 300)
            made.append(Check(id=id, outcome=found.outcome, words=words, seconds=round(time.monotonic() - start, 3)))
            tell(f"{made[-1].outcome:8}{id}: {words}")
        return Smoke(
            at=began,
            kit=VERSION,
            base_url=info.base_url,
            model=info.model,
            release=release,
            digest=digest,
            answered=" ".join(sorted(at.seen)),
            engine=_engine(line) if made[0].outcome == "passed" else "",
            asked_again={str(status): count for status, count in sorted(line.asked_again.items())},
            checks=tuple(made),
        )
    finally:
        line.close()


def _engine(line: Line) -> str:
    """What /version says beside /v1, as vLLM does; "" where it is not routed."""
    heard = line.get("/version")
    told = heard.json.get("version") if isinstance(heard.json, dict) else ""
    return one_line(told, 80) if isinstance(told, str) else ""
