"""One question to a server through the openai client, at one effort or at several: what was heard, and when."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from serve.probe import base_of
from tune.errors import UserError, distrust

if TYPE_CHECKING:
    import openai


class Answer(BaseModel):
    """One reply. Tokens are the server's own count, None where it tells none; seconds are from the request on, None
    for what never came."""

    model_config = ConfigDict(frozen=True)

    effort: str
    reasoning: str
    answer: str
    ended: str  # "stop", "length", or whatever else the server says
    reasoning_tokens: int | None
    answer_tokens: int | None
    first_token_s: float | None
    first_answer_s: float | None
    total_s: float


def ask(
    url: str, prompt: str, *, effort: str, model: str, key: str, max_tokens: int, write: Callable[[str, bool], object]
) -> Answer:
    """Stream one answer; `write(text, is_thinking)` gets each piece as it comes.

    An empty `effort` means the server's, an empty `model` the first one that it lists. Raises UserError when the server
    cannot be reached or refuses, with its own words.
    """
    import openai

    base = f"{base_of(url)}/v1"
    said: dict[bool, list[str]] = {True: [], False: []}
    came: dict[bool, float] = {}
    ended, usage = "", None
    try:
        with openai.OpenAI(base_url=base, api_key=key or "none", max_retries=0) as client:
            model = model or _first(client, base)
            began = time.monotonic()
            chunks = client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=max_tokens,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"reasoning_effort": effort} if effort else {},
            )
            for chunk in chunks:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    pieces = {True: getattr(choice.delta, "reasoning", None), False: choice.delta.content}
                    for thinking, text in pieces.items():
                        if text:
                            came.setdefault(thinking, time.monotonic() - began)
                            said[thinking].append(text)
                            write(text, thinking)
                    ended = choice.finish_reason or ended
            total = time.monotonic() - began
    except openai.APIConnectionError as e:
        fix = distrust(e) or f"serve wait {url}"
        raise UserError(f"{base} does not answer", why=str(e.__cause__ or e), fix=fix) from None
    except openai.APIStatusError as e:
        if not isinstance(e.body, dict):
            raise _stranger(base, f"it answers {e.status_code}") from None
        fixes = {401: "--api-key-env NAME", 404: f"--model, one of those at {base}/models", 429: "the same, later"}
        fix = (fixes | {502: "the same again", 503: f"serve wait {url}"}).get(e.status_code, "serve ask --help")
        raise UserError(f"{base} answered {e.status_code}", why=e.message[:300], fix=fix) from None
    except openai.APIError as e:
        raise UserError(f"{base} broke off", why=e.message[:300], fix="read the engine's log") from None
    if not (ended or came):
        raise _stranger(base, "no piece of an answer came")
    thought = usage.completion_tokens_details.reasoning_tokens if usage and usage.completion_tokens_details else None
    return Answer(
        effort=effort,
        reasoning="".join(said[True]),
        answer="".join(said[False]),
        ended=ended,
        reasoning_tokens=thought,
        answer_tokens=usage.completion_tokens - thought if usage and thought is not None else None,
        first_token_s=min(came.values(), default=None),
        first_answer_s=came.get(False),
        total_s=total,
    )


def _first(client: "openai.OpenAI", base: str) -> str:
    try:
        return client.models.list().data[0].id
    except (AttributeError, IndexError, TypeError):  # what the package makes of another answer than a list
        raise _stranger(base, "it lists no models") from None


def _stranger(base: str, why: str) -> UserError:
    fix = "the URL that serve run printed, such as http://127.0.0.1:8000/v1"
    return UserError(f"{base} is no server that takes chats", why=why, fix=fix)
