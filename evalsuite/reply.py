"""One question to one endpoint: the streamed reply, timed, classified and graded as an Answer.

Tries again what may pass, and turns what does not into an error without a score: never into a wrong answer. Knows
nothing about arms, order or files.
"""

import asyncio
import random
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.answers import EFFORT_MISMATCH, Answer, Arm
from evalsuite.graders import grade, lenient, parse
from evalsuite.questions import Question
from tune.harmony import Effort

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BACKOFF_SECONDS, LONGEST_WAIT = 0.5, 30.0
REPLY_SECONDS = 1800.0  # a whole reply: the client's own time-out sees silence alone, and not a trickle without end


class Sampling(BaseModel):
    """What every request has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(gt=0)
    temperature: float = Field(ge=0)
    seed: int
    retries: int = Field(ge=0)


class _Failed(Exception):
    """A request that came to nothing. `again`: may be tried again; `wait`: seconds to wait, when the server said."""

    def __init__(self, message: str, *, again: bool, wait: float | None = None) -> None:
        super().__init__(message)
        self.again, self.wait = again, wait


async def reply(
    client: "AsyncOpenAI", model: str, question: Question, arm: Arm, effort: Effort, sampling: Sampling
) -> Answer:
    """One answer, tried again as often as `sampling.retries` says; never raises for what a server does."""
    tried = 0
    while True:
        try:
            said = await _once(client, model, question, effort, sampling)
            break
        except _Failed as e:
            tried += 1
            if not e.again or tried > sampling.retries:
                error = f"{e}" if tried == 1 else f"{e} (attempt {tried})"
                return Answer(
                    question=question.id, arm=arm, effort=effort, model=model, outcome="error", score=None, error=error
                )
            wait = e.wait if e.wait is not None else BACKOFF_SECONDS * 2 ** (tried - 1) * random.uniform(0.5, 1)
            await asyncio.sleep(min(wait, LONGEST_WAIT))
    return Answer(question=question.id, arm=arm, effort=effort, model=model, **_graded(question, said), **said)


def _graded(question: Question, said: Mapping[str, Any]) -> dict[str, Any]:
    """Outcome, score and what was parsed; of an unparsed reply what it seems to say, unscored."""
    text = said["text"]
    if said["finish_reason"] == "length":
        return {"outcome": "truncated", "score": 0.0}
    if not text.strip():
        return {"outcome": "empty", "score": 0.0}
    if (parsed := parse(text)) is None:
        return {"outcome": "unparsed", "score": 0.0, "parsed": lenient(text)}
    return {"outcome": "answered", "score": grade(question, parsed), "parsed": parsed}


async def _once(
    client: "AsyncOpenAI", model: str, question: Question, effort: Effort, sampling: Sampling
) -> dict[str, Any]:
    """The streamed reply as fields of an Answer. Raises _Failed for everything that is not a whole reply."""
    from openai import APIConnectionError, APIError, APIStatusError

    turns = [("developer", question.developer)] if question.developer else []
    messages: Any = [{"role": role, "content": text} for role, text in [*turns, ("user", question.prompt)]]
    started = time.perf_counter()
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            response = await client.chat.completions.with_raw_response.create(
                model=model,
                messages=messages,
                reasoning_effort=effort,
                max_completion_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                seed=sampling.seed,
                stream=True,
                stream_options={"include_usage": True},
            )
            async with response.parse() as stream:
                applied = response.headers.get("x-reasoning-effort", effort)
                if applied != effort:
                    raise _Failed(f"{EFFORT_MISMATCH}: asked {effort}, applied {applied}", again=False)
                return await _collect(stream, started)
    except TimeoutError:
        raise _Failed(f"the reply was not whole after {REPLY_SECONDS:g} s", again=False) from None
    except APIStatusError as e:
        again = e.status_code in {408, 409, 429} or e.status_code >= 500
        message = f"HTTP {e.status_code}: {safe(e, client.api_key)}"
        raise _Failed(message, again=again, wait=_retry_after(e.response.headers.get("retry-after"))) from None
    except APIConnectionError as e:
        raise _Failed(f"the connection failed: {safe(e.__cause__ or e, client.api_key)}", again=True) from None
    except APIError as e:
        raise _Failed(f"the stream broke off: {safe(e, client.api_key)}", again=True) from None
    except (ValueError, TypeError, AttributeError) as e:
        raise _Failed(f"the stream is not a chat completion: {safe(e, client.api_key)}", again=True) from None


async def _collect(stream: Any, started: float) -> dict[str, Any]:
    text, reasoning, finish, usage = [], [], "", None
    first_token = first_answer = None
    async for chunk in stream:
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
        raise _Failed(f"the stream ended {f'with {finish}' if finish else 'without a finish reason'}", again=True)
    details = getattr(usage, "completion_tokens_details", None)
    return {
        "text": _clean("".join(text)),
        "reasoning": _clean("".join(reasoning)),
        "finish_reason": finish,
        "prompt_tokens": getattr(usage, "prompt_tokens", None) or 0,
        "completion_tokens": getattr(usage, "completion_tokens", None) or 0,
        "reasoning_tokens": getattr(details, "reasoning_tokens", None) or 0,
        "first_token_s": first_token,
        "first_answer_s": first_answer,
        "total_s": time.perf_counter() - started,
    }


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def safe(error: BaseException, key: str) -> str:
    """An error's first line, short and without the key, should a server echo it."""
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return _clean(line.replace(key, "***") if len(key) > 4 else line)[:300]


def _retry_after(value: str | None) -> float | None:
    return float(value) if value and re.fullmatch(r"\d+(\.\d+)?", value) else None
