"""Asks a server whether it is ready, shows the model the prompt that was trained, and answers as its weights do.

Knows only HTTP.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from serve.doors import OPENING, RANK_HEADER, SECRET_HEADER
from serve.effort import EffortPolicy
from serve.last_words import PORT_IN_USE
from tune.checkpoint import Canary
from tune.errors import UserError, distrust, reason
from tune.harmony import EFFORTS, PROBE, Message, decode, render_prompt

if TYPE_CHECKING:
    import ssl

    import httpx

# How far, in nats a token on average, an engine may be from the checkpoint's log-probabilities: FACTOR times what
# 16-bit rounding alone does to this very checkpoint (its canary's `rounding`), and FLOOR at least. vLLM 0.32 was
# 0.8 to 1.8 times its rounding away, on a CPU and on an H100, whether that was 0.010 (a trained nano), 0.040 or 0.253
# (2 and 12 random layers of the 20b shape): 2026-11. In the nano a zeroed norm, router or projection is 0.10 to 4.4
# nats away; one bias vector or the sinks of one layer, under 0.04, are not seen.
FLOOR, FACTOR = 0.05, 4.0
GONE = 10.0  # seconds that a server which had answered refuses connections, until it is taken to have ended


class NoAnswer(UserError):
    """The server broke off or broke down instead of answering: it may be about to end."""


def client(url: str, key: str = "", *, secret: str = "", word: str = "", timeout: float = 60) -> "httpx.Client":
    """A client of a server, with its key. `url` with or without a final /v1. Raises UserError when it is no URL.

    `secret` passes the door of a server that this process started and that is not proven yet; `word` is that start's:
    an answer without it is another server's, and any call that gets one raises UserError.
    """
    import httpx

    def own(answer: "httpx.Response") -> None:
        told = answer.headers.get("x-serve-start")
        if told != word and (told or answer.status_code != 500):  # a 500 of the engine's own passes by the door
            what, fix = PORT_IN_USE
            raise UserError(f"the engine did not start: {what}", why=f"another server answers at {url}", fix=fix)

    headers = {"authorization": f"Bearer {key}"} if key else {}
    if secret:
        headers[SECRET_HEADER.decode()] = secret
    base = base_of(url)
    here = base.host in {"127.0.0.1", "::1", "localhost"}  # no proxy leads there
    hooks = {"response": [own]} if word else {}
    verify = _trusting(here) if base.scheme == "https" else False  # to read what is trusted takes 20 ms
    return httpx.Client(
        base_url=base, headers=headers, timeout=timeout, trust_env=not here, event_hooks=hooks, verify=verify
    )


def base_of(url: str) -> "httpx.URL":
    """A server's URL without a final /v1. Raises UserError when it is none."""
    import httpx

    try:
        base = httpx.URL(url.rstrip("/").removesuffix("/v1"))
        if base.scheme not in {"http", "https"}:
            raise httpx.InvalidURL("it does not begin with http:// or https://")
    except httpx.InvalidURL as e:
        raise UserError(f"{url} is not a URL", why=str(e), fix="such as http://127.0.0.1:8000/v1") from None
    return base


def _trusting(here: bool) -> "ssl.SSLContext | bool":
    """Whose certificates are taken: httpx does not look at SSL_CERT_FILE where it is to look at no proxy."""
    import ssl

    own = os.environ.get("SSL_CERT_FILE") if here else None
    try:
        return ssl.create_default_context(cafile=own) if own else True
    except OSError as e:
        raise UserError(f"SSL_CERT_FILE={own} cannot be used", why=reason(e), fix="name a PEM file in it") from None


def wait(
    http: "httpx.Client", timeout: float, *, path: str = "/health", alive: Callable[[], bool] = lambda: True
) -> str:
    """Poll a path until it answers 200. Returns "" when it did, else why not: the last thing seen.

    Ends early when `alive` says that there is nothing to wait for, and when a server that did answer then refuses
    connections for GONE seconds: ours keeps its port while it starts. Raises UserError for a certificate that nobody
    here trusts: waiting mends none.
    """
    import httpx

    deadline, seen = time.monotonic() + timeout, "nothing was asked"
    heard = math.inf  # when it last answered
    while alive():
        try:
            answer = http.get(path, timeout=5)
        except httpx.TransportError as e:
            seen = f"{http.base_url.host}:{http.base_url.port} does not answer: {e or type(e).__name__}"
            if fix := distrust(e):
                raise UserError(f"{http.base_url} is not trusted", why=str(e), fix=fix) from None
            if isinstance(e, httpx.ConnectError) and time.monotonic() > heard + GONE:
                return f"it has ended: it did answer, and now {seen}"
        else:
            heard, status = time.monotonic(), answer.status_code
            page = answer.headers.get("content-type", "").startswith("text/html")
            if status == 200 and not page:
                return ""
            seen = f"{path} answers {status}{' with a web page' if page else ''}"
            if status in {200, 401, 403, 404}:
                return f"{seen}: this is not a server of this kind"
        if time.monotonic() > deadline:
            return f"not ready after {timeout:.0f} s: {seen}"
        time.sleep(0.25)
    return "the engine stopped"


def served_prompt(http: "httpx.Client", model: str, messages: Sequence[Message], effort: str | None) -> list[int]:
    """The ids that the server makes of a chat request. Raises UserError when it does not say."""
    turns = [{"role": m.role, "content": m.content} for m in messages]
    body: dict[str, Any] = {"model": model, "messages": turns, "max_tokens": 1}
    if effort:
        body["reasoning_effort"] = effort
    ids: list[int] = post(http, "/v1/chat/completions/render", body)["token_ids"]
    return ids


def check_prompts(http: "httpx.Client", model: str, date: str, policy: EffortPolicy) -> None:
    """What a request with each word for an effort, and with none, shows the model: the trained prompt of the effort
    that the policy applies, id for id; or a refusal. And one short real answer at each.

    Raises UserError naming the word and the first place where the two prompts part.
    """
    answered: set[str | None] = set()
    for word, applied in policy.answers():
        if applied is None:
            if _status(http, model, str(word)) != 400:
                fix = "serve command FOLDER shows the environment and flags that must be left as they are"
                raise UserError(f"the server takes effort {word}, which its policy refuses", fix=fix)
            continue
        at_effort = f"at effort {word}" if word else "without an effort"
        if word and word != applied:
            at_effort += f", which is {'lowered to' if word in EFFORTS else 'read as'} {applied}"
        served, trained = served_prompt(http, model, PROBE, word), render_prompt(PROBE, applied, date)
        if served != trained:
            at = next((i for i, (a, b) in enumerate(zip(served, trained, strict=False)) if a != b), len(served))
            raise UserError(
                f"the server does not show the model the prompt it was trained on, {at_effort}",
                why=f"at token {at}: served {decode(served[at : at + 6])!r}, trained {decode(trained[at : at + 6])!r}",
                fix="serve command FOLDER shows the environment and flags that must be left as they are",
            )
        if word and applied in answered:
            continue
        answered.add(word and applied)
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 2}
        answer = post(http, "/v1/chat/completions", {**body, "reasoning_effort": word} if word else body)
        if not answer["usage"]["completion_tokens"]:
            raise UserError(f"the engine produced no token {at_effort}", fix="read the engine's log")


def prompt_logprobs(http: "httpx.Client", model: str, ids: Sequence[int]) -> list[float]:
    """The engine's log-probability of every id but the first. Needs open raw completions, or the secret."""
    body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    told = post(http, "/v1/completions", body)["choices"][0]["prompt_logprobs"]
    return [entry[str(i)]["logprob"] for i, entry in zip(ids[1:], told[1:], strict=True)]


def check_canary(http: "httpx.Client", model: str, date: str, canary: Canary) -> None:
    """What the engine's weights say about the fixed prompt at each effort, against what the checkpoint's say.

    Raises UserError naming the effort and both means when they part.
    """
    allowed = max(FLOOR, FACTOR * canary.rounding)
    for effort, wanted in canary.logprobs.items():
        ids = render_prompt(PROBE, effort, date)
        got = prompt_logprobs(http, model, ids)
        if len(got) != len(wanted):
            why = f"its canary is of {len(wanted) + 1} tokens, the prompt has {len(ids)}"
            raise UserError("the checkpoint was made for another prompt", why=why, fix="tune export, or tune nano")
        apart = sum(abs(g - w) for g, w in zip(got, wanted, strict=True)) / len(got)
        if not apart <= allowed:  # NaN is not
            engine, meant = sum(got) / len(got), sum(wanted) / len(got)
            raise UserError(
                f"{model} does not answer as the checkpoint's weights do, at effort {effort}",
                why=f"log-probability of a token of the fixed prompt: {engine:.2f} by the engine, {meant:.2f} by the "
                f"weights, {apart:.2f} nats apart on average; {allowed:.2f} are allowed",
                fix="tune check FOLDER; then look at what follows -- on your command line",
            )


def each_rank(http: "httpx.Client", ranks: int) -> Iterator[int]:
    """One after another of the data-parallel engines behind a port, each of which is then asked by `http`."""
    try:
        for rank in range(ranks):
            if ranks > 1:
                http.headers[RANK_HEADER.decode()] = str(rank)
            yield rank
    finally:
        http.headers.pop(RANK_HEADER.decode(), None)


def open_door(http: "httpx.Client") -> None:
    """Let everyone in. Only a client with the secret of the start can."""
    post(http, OPENING, {})


def _status(http: "httpx.Client", model: str, effort: str) -> int:
    turns = [{"role": "user", "content": "2+2?"}]
    body = {"model": model, "messages": turns, "max_tokens": 1, "reasoning_effort": effort}
    return _send(http, "/v1/chat/completions/render", body).status_code


def _send(http: "httpx.Client", path: str, body: dict[str, Any]) -> "httpx.Response":
    import httpx

    try:
        return http.post(path, json=body)
    except httpx.TransportError as e:
        raise NoAnswer(f"POST {path} failed", why=str(e) or type(e).__name__, fix="read the engine's log") from None


def post(http: "httpx.Client", path: str, body: dict[str, Any]) -> Any:
    """The JSON of a 200. Raises UserError as `send` does."""
    return send(http, path, body).json()


def send(http: "httpx.Client", path: str, body: dict[str, Any]) -> "httpx.Response":
    """A 200. Raises NoAnswer where the server broke off or broke down, UserError for another status."""
    answer = _send(http, path, body)
    if answer.status_code != 200:
        kind = NoAnswer if answer.status_code >= 500 else UserError
        raise kind(f"POST {path} answered {answer.status_code}", why=answer.text[:300], fix="read the engine's log")
    return answer
