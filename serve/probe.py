"""Asks a server whether it is ready and whether it shows the model the prompt that was trained. Knows only HTTP."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tune.errors import UserError
from tune.harmony import EFFORTS, Effort, Message, decode, render_prompt

if TYPE_CHECKING:
    import httpx

TURNS = (Message(role="developer", content="Be exact."), Message(role="user", content="What does len return?"))


def client(url: str, key: str = "", *, timeout: float = 60) -> "httpx.Client":
    """A client of a server, with its key. `url` with or without a final /v1. Raises UserError when it is no URL."""
    import httpx

    headers = {"authorization": f"Bearer {key}"} if key else {}
    base = url.rstrip("/").removesuffix("/v1")
    try:
        if httpx.URL(base).scheme not in {"http", "https"}:
            raise httpx.InvalidURL("it does not begin with http:// or https://")
        here = httpx.URL(base).host in {"127.0.0.1", "::1", "localhost"}  # no proxy leads there
        return httpx.Client(base_url=base, headers=headers, timeout=timeout, trust_env=not here)
    except httpx.InvalidURL as e:
        raise UserError(f"{url} is not a URL", why=str(e), fix="such as http://127.0.0.1:8000/v1") from None


def wait(http: "httpx.Client", timeout: float, *, alive: Callable[[], bool] = lambda: True) -> str:
    """Poll /health until it answers 200. Returns "" when ready, else why not: the last thing seen.

    Ends early when `alive` says that there is nothing to wait for.
    """
    import httpx

    deadline, seen = time.monotonic() + timeout, "nothing was asked"
    while alive():
        try:
            status = http.get("/health", timeout=5).status_code
        except httpx.TransportError as e:
            seen = f"{http.base_url.host}:{http.base_url.port} does not answer: {e or type(e).__name__}"
        else:
            if status == 200:
                return ""
            seen = f"/health answers {status}"
            if status in {401, 403, 404}:
                return f"{seen}: this is not a server of this kind"
        if time.monotonic() > deadline:
            return f"not ready after {timeout:.0f} s: {seen}"
        time.sleep(0.25)
    return "the engine stopped"


def served_prompt(http: "httpx.Client", model: str, messages: Sequence[Message], effort: Effort | None) -> list[int]:
    """The ids that the server makes of a chat request. Raises UserError when it does not say."""
    turns = [{"role": m.role, "content": m.content} for m in messages]
    body: dict[str, Any] = {"model": model, "messages": turns, "max_tokens": 1}
    if effort:
        body["reasoning_effort"] = effort
    ids: list[int] = _post(http, "/v1/chat/completions/render", body)["token_ids"]
    return ids


def check_prompts(http: "httpx.Client", model: str, date: str) -> None:
    """Each effort's served prompt against the trained one, id for id, and one short real answer each.

    Raises UserError naming the effort and the first place where the two prompts part.
    """
    for effort in EFFORTS:
        served, trained = served_prompt(http, model, TURNS, effort), render_prompt(TURNS, effort, date)
        if served != trained:
            at = next((i for i, (a, b) in enumerate(zip(served, trained, strict=False)) if a != b), len(served))
            raise UserError(
                f"the server does not show the model the prompt it was trained on, at effort {effort}",
                why=f"at token {at}: served {decode(served[at : at + 6])!r}, trained {decode(trained[at : at + 6])!r}",
                fix="serve command FOLDER shows the environment and flags that must be left as they are",
            )
        body = {"model": model, "messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 2}
        answer = _post(http, "/v1/chat/completions", {**body, "reasoning_effort": effort})
        if not answer["usage"]["completion_tokens"]:
            raise UserError(f"the engine produced no token at effort {effort}", fix="read the engine's log")


def _post(http: "httpx.Client", path: str, body: dict[str, Any]) -> Any:
    import httpx

    try:
        answer = http.post(path, json=body)
    except httpx.TransportError as e:
        raise UserError(f"POST {path} failed", why=str(e) or type(e).__name__, fix="read the engine's log") from None
    if answer.status_code != 200:
        raise UserError(
            f"POST {path} answered {answer.status_code}", why=answer.text[:300], fix="read the engine's log"
        )
    return answer.json()
