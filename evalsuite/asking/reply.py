"""One request to one server: the streamed reply, timed, as a Reply that says no more than what was heard.

Tries again what may pass, and turns what does not into an error: never into a wrong answer, and never into the end of
the run. Knows nothing about arms, order, files or grades.
"""

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from evalsuite.questions import Question
from evalsuite.replies import request
from evalsuite.replies.answers import EFFORT_MISMATCH, MODEL_MISMATCH, Arm, Reply
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from tune.harmony import Effort

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BACKOFF_SECONDS, LONGEST_WAIT = 0.5, 30.0
REPLY_SECONDS = 1800.0  # a whole reply: the client's own time-out sees silence alone, and not a trickle without end
MOST_TOKENS = 10**9  # that a server may count: more is no count

# What the parsers in between raise for JSON that is too deep, too large, or of another shape.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


class Failed(Exception):
    """A request that came to nothing. `again`: may be tried again; `wait`: seconds to wait, when the server said."""

    def __init__(self, message: str, *, again: bool, wait: float | None = None) -> None:
        super().__init__(shown(message))
        self.again, self.wait = again, wait


async def reply(
    client: "AsyncOpenAI",
    server: Server,
    question: Question,
    arm: Arm,
    effort: Effort,
    sampling: Sampling,
    retries: int,
) -> Reply:
    """One reply, tried again as often as `retries` says; never raises for what a server does."""
    asked = request.body(question, server.model, effort, sampling)
    known: dict[str, Any] = {"question": question.id, "arm": arm, "effort": effort, "model": server.model}
    known |= {"server": server.id, "request": request.digest(asked)}
    try:
        said = await heard(client, server, asked, retries)
        return Reply(**known, **said)
    except Failed as e:
        return Reply(**known, error=f"{e}")
    except ValidationError as e:
        return Reply(**known, error=f"the stream is not a chat completion: {safe(e, client.api_key)}")


async def heard(client: "AsyncOpenAI", server: Server, asked: dict[str, Any], retries: int = 2) -> dict[str, Any]:
    """What was said, as fields of a Reply. Raises Failed."""
    for tried in range(1, retries + 2):
        try:
            return await _once(client, server, asked)
        except Failed as e:
            if not e.again or tried > retries:
                raise Failed(f"{e}" if tried == 1 else f"{e} (attempt {tried})", again=False) from None
            wait = e.wait if e.wait is not None else BACKOFF_SECONDS * 2 ** (tried - 1) * random.uniform(0.5, 1)
            await asyncio.sleep(min(wait, LONGEST_WAIT))
    raise ValueError(f"{retries} retries")


async def _once(client: "AsyncOpenAI", server: Server, asked: dict[str, Any]) -> dict[str, Any]:
    from openai import APIConnectionError, APIError, APIStatusError

    started = time.perf_counter()
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            response: Any = await client.chat.completions.with_raw_response.create(**asked)
            async with response.parse() as stream:
                effort = asked.get("reasoning_effort", "")
                applied = response.headers.get("x-reasoning-effort", effort)
                if effort and applied != effort:
                    raise Failed(f"{EFFORT_MISMATCH}: asked {effort}, applied {applied[:40]}", again=False)
                stamp = response.headers.get("x-model-digest", "")
                if stamp != server.header:
                    was = server.header[:16] or "no digest"
                    raise Failed(f"{MODEL_MISMATCH}: {stamp[:16] or 'no digest'}, not {was}", again=False)
                return await _collect(stream, {asked["model"], *server.names}, started)
    except TimeoutError:
        raise Failed(f"the reply was not whole after {REPLY_SECONDS:g} s", again=False) from None
    except APIStatusError as e:
        again = e.status_code in {408, 409, 429} or e.status_code >= 500
        message = f"HTTP {e.status_code}: {safe(e, client.api_key)}"
        raise Failed(message, again=again, wait=_retry_after(e.response.headers.get("retry-after"))) from None
    except APIConnectionError as e:
        raise Failed(f"the connection failed: {safe(e.__cause__ or e, client.api_key)}", again=True) from None
    except APIError as e:
        raise Failed(f"the stream broke off: {safe(e, client.api_key)}", again=True) from None
    except UNREADABLE as e:
        raise Failed(f"the stream is not a chat completion: {safe(e, client.api_key)}", again=True) from None


async def _collect(stream: Any, names: set[str], started: float) -> dict[str, Any]:
    text, reasoning, finish, usage = [], [], "", None
    first_token = first_answer = None
    async for chunk in stream:
        name = getattr(chunk, "model", None)  # some servers send none
        if name and name not in names:
            raise Failed(f"{MODEL_MISMATCH}: {str(name)[:100]}, not {' or '.join(sorted(names))}", again=False)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            thought = getattr(choice.delta, "reasoning", None) or getattr(choice.delta, "reasoning_content", None)
            content = choice.delta.content
            if thought or content:
                now = time.perf_counter() - started
                first_token = first_token or now
                first_answer = first_answer or (now if content else None)
            reasoning.append(thought or "")
            text.append(content or "")
    if finish in {"", "error", "abort"}:
        raise Failed(f"the stream ended {f'with {finish}' if finish else 'without a finish reason'}", again=True)
    if usage is not None and not isinstance(usage, BaseModel):
        raise ValueError("its usage is no object")
    details = getattr(usage, "completion_tokens_details", None)
    return {
        "text": _clean("".join(text)),
        "reasoning": _clean("".join(reasoning)),
        "finish_reason": _clean(finish),
        "prompt_tokens": count(getattr(usage, "prompt_tokens", None)),
        "completion_tokens": count(getattr(usage, "completion_tokens", None)),
        "reasoning_tokens": count(getattr(details, "reasoning_tokens", None)),
        "first_token_s": first_token,
        "first_answer_s": first_answer,
        "total_s": time.perf_counter() - started,
    }


def count(value: object) -> int:
    """Tokens, as a server's usage tells them; 0 for none told. Raises ValueError for what is no count."""
    if value is None:
        return 0
    if not isinstance(value, int | float) or value != value // 1 or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{str(value)[:40]!r} is no count of tokens")
    return int(value)


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def shown(text: str) -> str:
    """Somebody's words for a terminal and a file: what moves a cursor, breaks a line or is no character is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def safe(error: BaseException, key: str) -> str:
    """An error's first line, short and without the key, should a server echo it."""
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return shown((line.replace(key, "***") if len(key) > 4 else line)[:300])


def _retry_after(value: str | None) -> float | None:
    return float(value) if value and re.fullmatch(r"\d+(\.\d+)?", value) else None
