"""One request to one server: the streamed reply, timed, as a Reply that says no more than what was heard.

Tries again what may pass, and turns what does not into an error: never into a wrong answer, and never into the end of
the run. Knows nothing about arms, order, files or grades.
"""

import asyncio
import random
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evalsuite.asking.access import without
from evalsuite.asking.pace import Pace, retry_after
from evalsuite.asking.patience import not_yet
from evalsuite.asking.stream import UNREADABLE, Stream
from evalsuite.questions import Question
from evalsuite.replies import request
from evalsuite.replies.answers import EFFORT_MISMATCH, MODEL_MISMATCH, TIMED_OUT, Arm, Reply
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from tune.section import EffortName

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BACKOFF_SECONDS, LONGEST_BACKOFF = 0.5, 30.0
SHORTEST_WAIT = 0.05  # that a server asks for
REPLY_SECONDS = 1800.0  # a whole reply: the client's own time-out sees silence alone, and not a trickle without end


class Failed(Exception):
    """A request that came to nothing. `again`: may be tried again; `wait`: seconds to wait, when the server said;
    `busy`: it was turned away for now, and was not tried at all; `status`: HTTP's, if that was the answer."""

    def __init__(
        self, message: str, *, again: bool, wait: float | None = None, busy: bool = False, status: int = 0
    ) -> None:
        super().__init__(shown(message))
        self.again, self.wait, self.busy, self.status = again, wait, busy, status


async def reply(
    client: "AsyncOpenAI",
    server: Server,
    question: Question,
    arm: Arm,
    effort: EffortName,
    sampling: Sampling,
    retries: int,
    pace: Pace | None = None,
    repeat: int = 0,
) -> Reply:
    """One reply, tried again as often as `retries` says; never raises for what a server does."""
    pace = pace or Pace(1)
    asked = request.body(question, server.model, effort, sampling, server.usage, repeat)
    known: dict[str, Any] = {
        "question": question.id,
        "arm": arm,
        "effort": effort,
        "repeat": repeat,
        "model": server.model,
    }
    known |= {"server": server.id, "request": request.digest(asked)}
    try:
        said = await heard(client, server, asked, retries, pace)
        return Reply(**known, **said)
    except Failed as e:
        # Who replies in another's place is no dead server: the report says that the run is void, and why.
        pace.failures += not str(e).startswith((EFFORT_MISMATCH, MODEL_MISMATCH))
        return Reply(**known, error=f"{e}")
    except ValidationError as e:
        pace.failures += 1
        return Reply(**known, error=f"the stream is not a chat completion: {safe(e, client)}")


async def heard(
    client: "AsyncOpenAI", server: Server, asked: dict[str, Any], retries: int = 2, pace: Pace | None = None
) -> dict[str, Any]:
    """What was said, as fields of a Reply. Waiting as the server asks is no retry. Raises Failed."""
    pace = pace or Pace(1)
    tried, turned_away, waited, turn = 1, 0, 0.0, 0
    while True:
        try:
            async with pace.turn() as turn:
                sent = time.perf_counter()
                said = await _once(client, server, asked, pace.not_yet)
            pace.succeeded()
            return said
        except Failed as e:
            wait = e.wait
            if wait is None:
                backoff = BACKOFF_SECONDS * 2 ** min(tried - 1 + turned_away, 30) * random.uniform(0.5, 1)
                wait = min(backoff, LONGEST_BACKOFF)
            if e.busy:
                # A platform may hold a request for minutes before it says "not yet".
                held = time.perf_counter() - sent if e.status in pace.not_yet else 0.0
                turned_away, waited = turned_away + 1, waited + max(wait, SHORTEST_WAIT) + held
                pace.away[e.status] += 1
                if waited > pace.patience:
                    raise Failed(f"{e} (asked to wait {waited:.0f} s in all)", again=False) from None
                pace.wait(max(wait, SHORTEST_WAIT), turn, f"{e}; asked again until {pace.patience:.0f} s have gone")
            elif not e.again or tried > retries:
                raise Failed(f"{e}" if tried == 1 else f"{e} (attempt {tried})", again=False) from None
            else:
                tried += 1
                await asyncio.sleep(min(wait, LONGEST_BACKOFF))


async def _once(
    client: "AsyncOpenAI", server: Server, asked: dict[str, Any], statuses: Collection[int]
) -> dict[str, Any]:
    from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

    started = time.perf_counter()
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            response: Any = await client.chat.completions.with_raw_response.create(**asked)
            async with response.parse() as chunks:
                effort = asked.get("reasoning_effort", "")
                applied = response.headers.get("x-reasoning-effort", effort)
                if effort and applied != effort:
                    raise Failed(f"{EFFORT_MISMATCH}: asked {effort}, applied {applied[:40]}", again=False)
                stamp = response.headers.get("x-model-digest", "")
                if stamp != server.header:
                    was = server.header[:16] or "no digest"
                    raise Failed(f"{MODEL_MISMATCH}: {stamp[:16] or 'no digest'}, not {was}", again=False)
                return await _collect(chunks, {asked["model"], *server.names}, started)
    except TimeoutError:
        raise Failed(f"{TIMED_OUT}: the reply was not whole after {REPLY_SECONDS:g} s", again=False) from None
    except APIStatusError as e:
        again = e.status_code in {408, 409, 429} or e.status_code >= 500
        late = f"{TIMED_OUT}: " if e.status_code in {408, 504} else ""
        message = f"{late}HTTP {e.status_code}: {safe(e, client)}"
        wait = retry_after(e.response.headers)
        busy = e.status_code == 429 or (e.status_code == 503 and wait is not None)
        busy |= not_yet(e.status_code, e.response.headers, e.response.content, statuses)
        raise Failed(message, again=again, wait=wait, busy=busy, status=e.status_code) from None
    except APITimeoutError as e:
        raise Failed(f"{TIMED_OUT}: {safe(e.__cause__ or e, client)}", again=True) from None
    except APIConnectionError as e:
        raise Failed(f"the connection failed: {safe(e.__cause__ or e, client)}", again=True) from None
    except APIError as e:
        raise Failed(f"the stream broke off: {safe(e, client)}", again=True) from None
    except UNREADABLE as e:
        raise Failed(f"the stream is not a chat completion: {safe(e, client)}", again=True) from None


async def _collect(chunks: Any, names: set[str], started: float) -> dict[str, Any]:
    stream = Stream()
    async for chunk in chunks:
        name = getattr(chunk, "model", None)  # some servers send none
        if name and name not in names:
            raise Failed(f"{MODEL_MISMATCH}: {str(name)[:100]}, not {' or '.join(sorted(names))}", again=False)
        stream.add(time.perf_counter() - started, chunk)
    said = stream.said()
    if said.unfinished:
        raise Failed(f"the stream {said.unfinished}", again=not said.odd)
    return {
        "text": _clean(said.text),
        "reasoning": _clean(said.reasoning),
        "finish_reason": _clean(said.finish_reason),
        "refusal": _clean(said.refusal),
        "tool_calls": said.tool_calls,
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "reasoning_tokens": said.reasoning_tokens,
        "first_token_s": said.moments[0] if said.moments else None,
        "first_answer_s": said.answers[0] if said.answers else None,
        "total_s": time.perf_counter() - started,
    }


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def shown(text: str) -> str:
    """Somebody's words for a terminal and a file: what moves a cursor, breaks a line or is no character is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def safe(error: BaseException, client: "AsyncOpenAI") -> str:
    """An error's first line, short and without the client's key and its other headers, should a server echo one."""
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    for secret in (client.api_key, *map(str, client._custom_headers.values())):
        line = without(line, secret)
    return shown(line[:300])
