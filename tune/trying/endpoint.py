"""A side that is an OpenAI-compatible endpoint: `serve run`, vLLM or another, through the openai client.

A server's words, in replies and in errors, are a stranger's. Refuses a server that answers as another model, or that
applies another effort than was asked for: both would be shown under a wrong name.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tune import harmony
from tune.errors import UserError, distrust
from tune.harmony import Effort
from tune.screen import escaped, one_line
from tune.trying.take import Ended, Question, Sampling, Side, Take

KEY = "OPENAI_API_KEY"
ENDS: dict[str, Ended] = {"length": "cut", "stop": "ended", "tool_calls": "ended"}
# What is raised for a chunk of another shape, and by parsers before it for JSON that is too deep or too large.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


class Endpoint:
    """One model of one server. Made by `reach`."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model
        self.name = one_line(model, 100)

    def speak(self, question: Question, take: Take, sampling: Sampling) -> None:
        """Stream one reply into `take`."""
        usage: Any = None
        try:
            for chunk in _chunks(self.url, _body(question, self.model, take.effort, sampling)):
                with _read_as_chat(self.url):
                    found, finish = _pieces(chunk, self.model), _finish(chunk)
                    usage = getattr(chunk, "usage", None) or usage
                for text, thinking in found:
                    take.add(text, thinking)
                take.ended = ENDS.get(finish, "stopped") if finish else take.ended
        finally:
            _count(take, usage)
        if take.ended == "stopped":
            raise UserError(f"{self.url} broke off", why="its stream has no end", fix="read the engine's log")


def reach(url: str, side: Side, model: str = "") -> Endpoint:
    """The model of that id, or the only one that the server lists. Raises UserError when there is none such."""
    base = url.rstrip("/").removesuffix("/v1") + "/v1"
    with _asking(base) as client, _read_as_chat(base):
        listed = [str(card.id) for card in client.models.list().data]
    names = ", ".join(one_line(name, 80) for name in listed[:5]) or "none"
    fix = f"tune try --{side} {url} --{side}-model {one_line(listed[0], 80) if listed else 'ID'}"
    if model and model not in listed:
        raise UserError(f"{base} does not serve {model}", why=f"it lists {names}", fix=fix)
    if not model and len(listed) != 1:
        raise UserError(f"which of the models at {base} is {side}?", why=f"it lists {names}", fix=fix)
    return Endpoint(base, model or listed[0])


def _chunks(url: str, body: dict[str, Any]) -> Iterator[Any]:
    """What the server streams. Raises UserError when it applied another effort."""
    with _asking(url) as client:
        response = client.chat.completions.with_raw_response.create(**body)
        asked = body["reasoning_effort"]
        if (applied := response.headers.get("x-reasoning-effort", asked)) != asked:
            why = f"asked {asked}, applied {one_line(applied, 40)}: the server has a maximum"
            raise UserError(f"{url} does not think so hard", why=why, fix=f"tune try --effort {one_line(applied, 40)}")
        with response.parse() as chunks:
            yield from chunks


def _body(question: Question, model: str, effort: Effort, sampling: Sampling) -> dict[str, Any]:
    messages = [{"role": "developer", "content": question.developer}] if question.developer else []
    return {
        "model": model,
        "messages": [*messages, {"role": "user", "content": question.prompt}],
        "reasoning_effort": effort,
        "max_completion_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _pieces(chunk: Any, model: str) -> list[tuple[str, bool]]:
    """Text and whether it is thinking. Raises UserError for a chunk of another model."""
    if (name := getattr(chunk, "model", None)) and name != model:
        why = f"it was asked for {one_line(model, 80)} and answers as {one_line(str(name), 80)}"
        raise UserError("a server answers as another model", why=why, fix="ask the server itself, not a router")
    out = []
    for choice in chunk.choices:
        delta = choice.delta
        thought = getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None)
        out += [(_word(thought), True), (_word(delta.content), False)]
    return [(text, thinking) for text, thinking in out if text]


def _finish(chunk: Any) -> str:
    return next((_word(choice.finish_reason) for choice in chunk.choices if choice.finish_reason), "")


def _word(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{str(value)[:40]!r} is no text")


def _count(take: Take, usage: Any) -> None:
    """Tokens as the server tells them at the end; of what it does not tell, as many as the texts have."""
    thought, answer = (len(harmony.encode(take.text(kind))) for kind in (True, False))
    details = getattr(usage, "completion_tokens_details", None)
    told, thinking = getattr(usage, "completion_tokens", None), getattr(details, "reasoning_tokens", None)
    take.thinking_tokens = thinking if isinstance(thinking, int) and thinking > 0 else thought
    take.answer_tokens = answer
    take.tokens = told if isinstance(told, int) and told > 0 else thought + answer


@contextmanager
def _asking(url: str) -> Iterator[Any]:
    """A client; what goes wrong with it is the user's to know, in the server's own words but never with the key."""
    import openai

    key = os.environ.get(KEY, "")

    def said(error: object) -> str:
        line = str(error).replace(key, "***") if len(key) > 4 else str(error)
        return one_line(line)

    try:
        with openai.OpenAI(base_url=url, api_key=key or "none", max_retries=0) as client:
            yield client
    except openai.APIConnectionError as e:
        fix = distrust(e) or f"serve wait {url}"
        raise UserError(f"{url} does not answer", why=said(e.__cause__ or e), fix=fix) from None
    except openai.APIStatusError as e:
        fix = {401: f"export {KEY}=...", 503: f"serve wait {url}"}.get(e.status_code, "tune try --help")
        raise UserError(f"{url} answered {e.status_code}", why=said(e.message), fix=fix) from None
    except openai.APIError as e:
        raise UserError(f"{url} broke off", why=said(e.message), fix="read the engine's log") from None
    except UNREADABLE as e:
        raise _no_chat(url, e) from None


@contextmanager
def _read_as_chat(url: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as e:
        raise _no_chat(url, e) from None


def _no_chat(url: str, e: BaseException) -> UserError:
    line = escaped((str(e).splitlines() or [type(e).__name__])[0])[:200]
    return UserError(f"{url} does not speak the OpenAI API", why=line, fix="give the URL that ends in /v1")
