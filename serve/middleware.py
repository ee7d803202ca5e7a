"""ASGI in front of the engine's routes: auth, effort, size limit, closed doors, drain.

Loaded by the engine's `--middleware` flag, which passes no arguments: settings come as JSON in one environment
variable, the key in another one that the settings name. Only listed paths are served: the engine mounts some
thirty more, several of which run the model past its own key check. Knows nothing about what runs behind it.
"""

import asyncio
import hashlib
import hmac
import json
import os
import signal
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve.effort import Api, EffortError, EffortPolicy, apply

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

SETTINGS = "GPTOSS_SERVE_SETTINGS"
START = "GPTOSS_KIT_START"  # environment variable: a word of this start alone, told in every answer

OPEN = frozenset({"/health", "/livez", "/readyz", "/ping"})
APIS: dict[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/render": "chat",
    "/v1/responses": "responses",
    "/v1/responses/render": "responses",
}
SERVED = OPEN | APIS.keys() | {"/v1/models", "/v1/completions", "/metrics", "/load", "/version"}


class Settings(BaseModel):
    """What a served model does at its door. `key_env` names the environment variable that holds the API key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: EffortPolicy = EffortPolicy()
    digest: str = ""
    key_env: str = ""
    max_body: int = Field(default=8 * 2**20, gt=0)  # bytes of one request
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get after SIGTERM
    sagemaker: bool = False  # opens /invocations
    max_model_len: int = Field(default=0, ge=0)  # tokens; 0: not known
    raw_completions: bool = False


class Refused(Exception):
    """An answer of our own instead of the engine's."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers

    def body(self) -> bytes:
        """The OpenAI API's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def rewrite(settings: Settings, path: str, body: bytes) -> tuple[bytes, str | None]:
    """A request body with its effort decided, and that effort. Raises Refused (400) for anything but a JSON object.

    Always written anew, so that a repeated key cannot mean one thing here and another to the engine. A path
    without efforts keeps its body as it is.
    """
    if path not in APIS and path != "/invocations":
        return body, None
    try:
        data = json.loads(body)
        if not isinstance(data, dict):
            raise Refused(400, "invalid_body", "the request body must be a JSON object")
        if path == "/invocations" and "messages" not in data:
            return json.dumps(data).encode(), None  # a raw completion: no effort in it
        data, effort = apply(settings.policy, APIS.get(path, "chat"), data)
        return json.dumps(data).encode(), effort
    except EffortError as e:
        raise Refused(400, "invalid_effort", str(e), param=e.param) from None
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the request body is not JSON that can be read") from None


class Door:
    """The engine's outermost ASGI layer.

    SIGTERM drains: new requests get 503, those under way finish or run out of `drain` seconds, then the engine gets
    the SIGINT that it stops at. Its own drain answers new requests with 200 and no tokens, and takes its whole
    time even when idle. SIGUSR1 turns new requests away without stopping, for a load balancer to notice.
    """

    def __init__(self, app: App, settings: Settings | None = None, key: str | None = None) -> None:
        self.app = app
        self.settings = settings or Settings.model_validate_json(os.environ.get(SETTINGS) or "{}")
        name = self.settings.key_env
        key = key if key is not None else os.environ.get(name, "") if name else ""
        if name and not key:
            raise RuntimeError(f"the environment variable {name} is empty: it should hold the API key")
        self.key = hashlib.sha256(key.encode()).digest() if key else None
        self.draining, self.running = False, 0
        self.ending: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            loop = asyncio.get_running_loop()  # the engine has set its handlers by now
            loop.add_signal_handler(signal.SIGUSR1, setattr, self, "draining", True)
            loop.add_signal_handler(signal.SIGTERM, self._stop)
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no websocket route is served
            return await send({"type": "websocket.close", "code": 1008})
        extra = [(b"x-model-digest", self.settings.digest.encode())] if self.settings.digest else []
        if start := os.environ.get(START):
            extra.append((b"x-serve-start", start.encode()))

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            path = self._admit(scope)
            if path == "/livez":
                return await _answer(stamped, 200, b'{"status":"alive"}')
            if path == "/readyz":
                scope = {**scope, "path": "/health", "raw_path": b"/health"}
            if scope["method"] == "POST" and path not in OPEN:
                body = await _read(scope, receive, self.settings.max_body)
                if body is None:
                    return None
                body, effort = rewrite(self.settings, path, body)
                if effort:
                    extra.append((b"x-reasoning-effort", effort.encode()))
                scope, receive = _with_length(scope, len(body)), _replay(body, receive)
            self.running += 1
            try:
                return await self.app(scope, receive, stamped)
            finally:
                self.running -= 1
        except Refused as refused:
            return await _answer(stamped, refused.status, refused.body(), refused.headers)

    def _stop(self) -> None:
        self.draining = True
        self.ending = self.ending or asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.settings.drain
        while self.running and clock() < deadline:
            await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    def _admit(self, scope: Message) -> str:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        method: str = scope["method"]
        if path not in OPEN and method != "OPTIONS" and not self._authorized(scope["headers"]):
            hint = [(b"www-authenticate", b"Bearer")]
            raise Refused(401, "invalid_api_key", "missing or wrong API key", headers=hint)
        if path == "/invocations" and not self.settings.sagemaker:
            raise Refused(404, "not_found", "/invocations is closed: serve run --sagemaker opens it")
        if path not in SERVED and path != "/invocations" and not path.startswith("/v1/responses/"):
            raise Refused(404, "not_found", f"no such path: {path[:200]}")
        if self.draining and (method == "POST" or path == "/readyz"):
            later = [(b"retry-after", b"5"), (b"connection", b"close")]
            raise Refused(503, "draining", "the server is shutting down", headers=later)
        return path

    def _authorized(self, headers: Headers) -> bool:
        if self.key is None:
            return True
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return hmac.compare_digest(hashlib.sha256(token).digest(), self.key) and scheme.lower() == b"bearer"


async def _read(scope: Message, receive: Receive, limit: int) -> bytes | None:
    """The whole body; None when the client went away. Raises Refused (413) over `limit` bytes."""
    too_large = Refused(413, "body_too_large", f"the request body is over {limit} bytes")
    length = dict(scope["headers"]).get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > limit:
        raise too_large
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _with_length(scope: Message, length: int) -> Message:
    kept = [(n, v) for n, v in scope["headers"] if n not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*kept, (b"content-length", str(length).encode())]}


async def _answer(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    sized = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*sized, *headers]})
    await send({"type": "http.response.body", "body": body})
