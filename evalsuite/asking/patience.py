"""Whether an error means "not yet", as a platform has it, and the first request of all, which waits out a cold start.

Knows the openai client's errors, no question and no model.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

from evalsuite.asking.pace import retry_after

Got = TypeVar("Got")
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
TOLD_EVERY = 60.0


def not_yet(status: int, headers: Mapping[str, str], body: bytes, statuses: Collection[int]) -> bool:
    """Whether the platform turned the request away for now. A 4xx that the engine itself gave a reason for, as OpenAI
    and vLLM do, says no and not "not yet": asked again it would say so again."""
    if status not in statuses or status == 429 or status >= 500:
        return status in statuses
    if "x-model-digest" in headers:
        return False
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(said, dict) and (isinstance(said.get("error"), dict) or said.get("object") == "error"))


async def patiently(
    ask: Callable[[], Awaitable[Got]],
    statuses: Collection[int],
    seconds: float,
    tell: Callable[[str], None] = lambda _: None,
) -> Got:
    """What `ask` gives, asked again for `seconds` while it is "not yet", or, where there is such a thing, no answer
    comes at all. Raises what it raised last."""
    from openai import APIStatusError, APITimeoutError

    began, tried, told_at = time.monotonic(), 0, 0.0
    while True:
        try:
            return await ask()
        except (APIStatusError, APITimeoutError) as e:
            gone, wait = time.monotonic() - began, None
            if isinstance(e, APIStatusError):
                headers = e.response.headers
                again = not_yet(e.status_code, headers, e.response.content, statuses)
                said, wait = f"HTTP {e.status_code}", retry_after(headers)
            else:
                again, said = bool(statuses), "no answer"
            if wait is None:
                wait = min(FIRST_WAIT * 2 ** min(tried, 10), LONGEST_WAIT) * random.uniform(0.5, 1)
            if not again or gone + wait > seconds:
                raise
            if tried == 0 or gone - told_at >= TOLD_EVERY:
                tell(f"{said} after {gone:.0f} s: asked again until {seconds:g} s have gone")
                told_at = gone
            tried += 1
            await asyncio.sleep(wait)
