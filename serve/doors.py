"""Which requests come in at all: by path, method, key, and whether the server has been proven. Knows no bodies.

Only listed paths are served: the engine mounts some thirty more, several of which run the model past its own key
check. Until the supervisor has proven that the right model answers to the right prompts, and says so with the secret
of this start, everyone else hears 503.
"""

import hashlib
import hmac
import json
import re
from typing import NamedTuple

from serve.asgi import Headers, Message
from serve.asked import Api
from serve.effort import EffortPolicy
from serve.keys import Held, Keys
from serve.states import State

SECRET_HEADER = b"x-serve-secret"
RANK_HEADER = b"x-data-parallel-rank"  # by which vLLM 0.32 lets a client choose among its engines
ADAPTER_HEADER = b"x-amzn-sagemaker-adapter-identifier"  # SageMaker's word for another model than the body names
OPENING = "/serve/open"  # POST here with the secret opens the door; to anyone else it is no path at all
LISTING = "/serve/adapters"  # and here it says which adapters clients may ask for
LOADING, UNLOADING = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"  # the engine's own, for the supervisor alone
OURS = frozenset({OPENING, LISTING, LOADING, UNLOADING})

OPEN = frozenset({"/health", "/livez", "/readyz", "/ping"})
APIS: dict[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/render": "chat",
    "/v1/responses": "responses",
    "/v1/responses/render": "responses",
    "/v1/responses/input_tokens": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
}
COUNTING, RENDERING = "/v1/responses/input_tokens", "/v1/responses/render"  # the engine has no route for the first
ANTHROPIC = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
RAW = frozenset({"/v1/completions", "/invocations"})  # a prompt as it is: no effort in it
COUNTED = APIS.keys() | RAW  # a POST here takes the model or its tokenizer
SERVED = OPEN | COUNTED | {"/v1/models", "/metrics", "/load", "/version"}


class Refused(Exception):
    """An answer of our own instead of the engine's."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Headers = (),
        state: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers, self.state = status, code, param, headers, state

    def body(self, path: str = "") -> bytes:
        """The OpenAI API's error object, and for a path of the Anthropic API that one's, whose fields are among it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = "requests" if self.status == 429 else kind  # OpenAI's word for which limit it was
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        state = {"state": self.state} if self.state else {}
        if APIS.get(path) != "messages":
            return json.dumps({"error": error, **state}).encode()
        error["type"] = ANTHROPIC.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return json.dumps({"type": "error", "error": error, **state}).encode()

    def event(self, path: str) -> bytes:
        """The same as an event of a stream."""
        named = b"event: error\n" if APIS.get(path) == "messages" else b""  # its clients listen for names alone
        return named + b"data: " + self.body(path) + b"\n\n"


class Guest(NamedTuple):
    """A request that came in: its path without the root path, and the key that it came with."""

    path: str
    held: Held


class Doors:
    """The one place that knows whether the server is ready. Neither `key` nor `keys`: no key is asked for.

    `policy` is that of `key`, of the supervisor and of a server without keys; each of `keys` has its own.
    """

    def __init__(
        self, *, key: str, secret: str, policy: EffortPolicy, keys: Keys | None = None, sagemaker: bool = False
    ) -> None:
        if not secret:
            raise RuntimeError("this server could never become ready: serve run starts it, and opens it when proven")
        self._key = _digest(key.encode()) if key else None
        self._secret = _digest(secret.encode())
        self._own, self._keys = Held("", b"", policy), keys
        self._sagemaker = sagemaker
        self.ready, self.draining = False, False

    @property
    def state(self) -> State:
        """What `/livez` and `/readyz` tell."""
        return State.DRAINING if self.draining else State.READY if self.ready else State.STARTING

    def admit(self, scope: Message) -> Guest:
        """What is asked for, and with which key. Raises Refused."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        method: str = scope["method"]
        ours = self.trusts(scope["headers"])
        held: Held | None = self._own
        if path == "/livez":
            return Guest(path, self._own)
        if not self.ready and not ours:
            later = [(b"retry-after", b"5")]
            raise Refused(
                503, "not_ready", "the server is starting: it is not proven yet", headers=later, state=self.state
            )
        if preflight(scope):
            return Guest(path, self._own)
        token = _token(scope["headers"], also=b"x-api-key" if APIS.get(path) == "messages" else b"")
        if path not in OPEN and (held := self._known(token, ours=ours)) is None:
            hint = [(b"www-authenticate", b"Bearer")]
            raise Refused(401, "invalid_api_key", "missing or wrong API key", headers=hint)
        if path in OURS and method == "POST" and ours:
            return Guest(path, self._own)
        if path == "/invocations" and not self._sagemaker:
            raise Refused(404, "not_found", "/invocations is closed: serve run --sagemaker opens it")
        if path == "/invocations" and any(name == ADAPTER_HEADER for name, _ in scope["headers"]):
            raise Refused(404, "not_found", "no header chooses a model here: name it in `model`")
        if path not in SERVED and not re.fullmatch(r"/v1/responses/[^/]+(/cancel)?", path):
            raise Refused(404, "not_found", f"no such path: {path[:200]}")
        if self.draining and not ours and (method == "POST" or path == "/readyz"):
            later = [(b"retry-after", b"5"), (b"connection", b"close")]
            raise Refused(503, "draining", "the server is shutting down", headers=later, state=self.state)
        return Guest(path, held or self._own)

    def trusts(self, headers: Headers) -> bool:
        """Whether the request is the supervisor's: it carries the secret of this start."""
        given = [value for name, value in headers if name == SECRET_HEADER]
        return len(given) == 1 and hmac.compare_digest(_digest(given[0]), self._secret)

    def _known(self, token: bytes, *, ours: bool) -> Held | None:
        """The key of whoever asks; None for a stranger."""
        if self._key is None and (self._keys is None or ours):  # the supervisor holds no key of the file
            return self._own
        held = self._keys.find(token) if self._keys else None
        if self._key is not None and hmac.compare_digest(_digest(token), self._key):
            return self._own
        return held


def preflight(scope: Message) -> bool:
    """Whether a browser asks if a page may call: the one request that cannot carry a key. It must reach no route."""
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def _token(headers: Headers, *, also: bytes) -> bytes:
    """The key that a request shows, as a bearer or in the header `also`; empty, as no key is, for none or several."""
    given = [value for name, value in headers if name in (b"authorization", also)]
    if len(given) != 1:
        return b""
    if any(name == also for name, _ in headers):
        return given[0]
    scheme, _, token = given[0].partition(b" ")
    return token if scheme.lower() == b"bearer" else b""


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
