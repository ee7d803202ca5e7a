"""ASGI in front of the engine's routes: passes on what doors.py admits and body.py rewrites, answers the rest, drains.

Loaded by the engine's `--middleware` flag, which passes no arguments: settings come as JSON in one environment
variable, the key in another one that the settings name, the secret of this start in a third. Knows nothing about
what runs behind it.
"""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve import budget
from serve.answer import Changes, changed
from serve.asked import HEADER
from serve.body import Rules, Taken, rewrite
from serve.doors import APIS, OPEN, OPENING, SECRET_HEADER, Doors, Headers, Refused, preflight
from serve.effort import EffortPolicy
from serve.keys import Keys

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SETTINGS = "GPTOSS_SERVE_SETTINGS"
START = "GPTOSS_KIT_START"  # environment variable: a word of this start alone, told in every answer
TELLING = 1.5  # seconds that clients get to be told, once the drain is over
LATER = [(b"retry-after", b"5"), (b"connection", b"close")]
SECRET = "GPTOSS_KIT_SECRET"  # noqa: S105 - the name of an environment variable: what opens this start's door, told nobody


class Settings(BaseModel):
    """What a served model does at its door. `key_env` names the environment variable that holds the API key, `keys` the
    file of more; `names` are what the model is called, first what the engine calls it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: EffortPolicy = EffortPolicy()
    digest: str = ""
    names: tuple[str, ...] = ()
    key_env: str = ""
    keys: str = ""
    max_body: int = Field(default=8 * 2**20, gt=0)  # bytes of one request
    max_model_len: int = Field(default=2048, gt=0)  # tokens of prompt and answer: more text cannot fit
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get after SIGTERM
    sagemaker: bool = False  # opens /invocations
    raw_completions: bool = False  # opens prompts that no effort applies to
    reasoning_content: bool = False  # what chat answers have in `reasoning`, under this name too


class Door:
    """The engine's outermost ASGI layer. Closed until a POST with the secret of this start opens it.

    SIGTERM drains: new requests get 503, those under way finish or run out of `drain` seconds and are told so, then the
    engine gets the SIGINT that it stops at. Its own drain answers new requests with 200 and no tokens, and takes its
    whole time even when idle. SIGUSR2 is a SIGTERM with no seconds to drain, for an engine that hangs. SIGUSR1 turns
    new requests away without stopping, for a load balancer to notice.
    """

    def __init__(
        self, app: App, settings: Settings | None = None, key: str | None = None, secret: str | None = None
    ) -> None:
        self.app = app
        self.settings = settings or Settings.model_validate_json(os.environ.get(SETTINGS) or "{}")
        name = self.settings.key_env
        key = key if key is not None else os.environ.get(name, "") if name else ""
        if name and not key:
            raise RuntimeError(f"the environment variable {name} is empty: it should hold the API key")
        policy, keys = self.settings.policy, self.settings.keys
        self.doors = Doors(
            key=key,
            secret=os.environ.get(SECRET, "") if secret is None else secret,
            policy=policy,
            keys=Keys(Path(keys), policy) if keys else None,
            sagemaker=self.settings.sagemaker,
        )
        self.under_way: set[asyncio.Task[None]] = set()
        self.cutting = False
        self.ending: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            loop = asyncio.get_running_loop()  # the engine has set its handlers by now
            loop.add_signal_handler(signal.SIGUSR1, setattr, self.doors, "draining", True)
            loop.add_signal_handler(signal.SIGTERM, self._stop, self.settings.drain)
            loop.add_signal_handler(signal.SIGUSR2, self._stop, 0)
            try:
                self._hold(scope)
            except RuntimeError as e:  # raised here, uvicorn would take it for an app without a lifespan, and serve
                await receive()
                return await send({"type": "lifespan.startup.failed", "message": f"RuntimeError: {e}"})
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no websocket route is served
            return await send({"type": "websocket.close", "code": 1008})
        extra = [(b"x-model-digest", self.settings.digest.encode())] if self.settings.digest else []
        if start := os.environ.get(START):
            extra.append((b"x-serve-start", start.encode()))

        told = Told()

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            told.note(message)
            await send(message)

        onward: Send = stamped
        try:
            path, policy = self.doors.admit(scope)
            if path == "/livez":
                return await _answer(stamped, 200, _json(status="alive", state=self.doors.state))
            if path == OPENING:
                self.doors.ready = True
                return await _answer(stamped, 200, b'{"status":"open"}')
            ours = self.doors.trusts(scope["headers"])
            scope = {**scope, "headers": [(n, v) for n, v in scope["headers"] if n != SECRET_HEADER]}
            if preflight(scope):  # the engine's CORS layer answers; no route has this path, should it not
                scope = {**scope, "path": "/preflight", "raw_path": b"/preflight"}
            elif path == "/readyz":
                return await _answer(stamped, *await self._readiness(scope, receive))
            if scope["method"] == "POST" and path not in OPEN:
                body = await _read(scope, receive, self.settings.max_body)
                if body is None:
                    return None
                raw = self.settings.raw_completions or ours
                rules = Rules(policy, self.settings.max_model_len, raw, self.settings.names)
                asked = [v.decode("latin-1") for n, v in scope["headers"] if n == HEADER.encode()]
                taken = rewrite(rules, path, body, asked)
                extra += taken.told
                budget.TOKENS.set(taken.tokens)
                if taken.path in APIS:
                    onward = changed(stamped, self._changes(taken, scope["headers"]))
                if taken.path != path:
                    scope = {**scope, "path": taken.path, "raw_path": taken.path.encode()}
                scope, receive = _with_length(scope, len(taken.body)), _replay(taken.body, receive)
            return await self._serve(scope, receive, onward, told, cut=stamped)
        except Refused as refused:
            return await _answer(stamped, refused.status, refused.body(scope["path"]), refused.headers)

    def _changes(self, taken: Taken, headers: Headers) -> Changes:
        """What the engine's answer lacks for whoever asked."""
        wanted = self.settings.reasoning_content or (b"x-reasoning-content", b"true") in headers
        names = (self.settings.names[0], taken.name) if taken.name else ()
        return Changes(names, wanted and APIS[taken.path] == "chat")  # other APIs say `reasoning` of other things

    def _hold(self, scope: Message) -> None:
        """Budgets reach the engine. Raises RuntimeError where they could not: nobody would notice else."""
        engine = getattr(getattr(scope.get("app"), "state", None), "engine_client", None)
        if engine is not None:
            budget.hold(engine)
        elif self.settings.policy.thinking_tokens or self.settings.keys:
            raise RuntimeError("no engine client is where vLLM 0.32 has it: budgets of reasoning tokens would not hold")

    async def _serve(self, scope: Message, receive: Receive, send: Send, told: "Told", *, cut: Send) -> None:
        """The engine's answer, or what its client is told, by `cut`, when the server stops before it is whole."""
        task = asyncio.current_task()
        assert task is not None
        self.under_way.add(task)
        try:
            return await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.cutting:
                raise
            task.uncancel()
            return await _cut_short(cut, told, scope["path"])
        finally:
            self.under_way.discard(task)

    async def _readiness(self, scope: Message, receive: Receive) -> tuple[int, bytes]:
        """What the engine's own /health says, in words."""
        statuses = []

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self.app({**scope, "path": "/health", "raw_path": b"/health"}, receive, note)
        ready = statuses == [200]
        return (200 if ready else 503), _json(status="ready" if ready else "unready", state=self.doors.state)

    def _stop(self, drain: float) -> None:
        """End within `drain` seconds and a moment. A second one may only hurry."""
        self.doors.draining = True
        if self.ending is None or drain == 0:
            self.ending = asyncio.get_running_loop().create_task(self._end(drain))

    async def _end(self, drain: float) -> None:
        await self._empty(drain)
        self.cutting = True
        for task in self.under_way:
            task.cancel()
        await self._empty(TELLING)
        os.kill(os.getpid(), signal.SIGINT)

    async def _empty(self, seconds: float) -> None:
        """Wait until nothing is under way, for some seconds at most."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while self.under_way and clock() < deadline:
            await asyncio.sleep(0.05)


class Told:
    """How far an answer has come: not begun, a stream under way, or whole."""

    def __init__(self) -> None:
        self.begun = self.events = self.whole = False

    def note(self, message: Message) -> None:
        """Look at one message on its way to the client."""
        if message["type"] == "http.response.start":
            self.begun = True
            self.events = any(n.lower() == b"content-type" and b"event-stream" in v for n, v in message["headers"])
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)


async def _cut_short(send: Send, told: Told, path: str) -> None:
    """Tell a client that its answer ends here: an error event at the end of a stream, 503 where none has begun.

    Half a body of another kind can hold no word: it is left as it is, and the server closes the connection.
    """
    cut = Refused(503, "shutting_down", "the server is shutting down before this answer is whole", headers=LATER)
    if not told.begun:
        await _answer(send, cut.status, cut.body(path), cut.headers)
    elif told.events and not told.whole:
        named = b"event: error\n" if APIS.get(path) == "messages" else b""  # its clients listen for names alone
        await send({"type": "http.response.body", "body": named + b"data: " + cut.body(path) + b"\n\n"})


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


def _json(**values: str) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


async def _answer(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    sized = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*sized, *headers]})
    await send({"type": "http.response.body", "body": body})
