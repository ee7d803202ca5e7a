"""ASGI in front of the engine's routes: passes on what doors.py admits and body.py rewrites, answers the rest, drains.

Loaded by the engine's `--middleware` flag, which passes no arguments: settings come as JSON in one environment
variable, the key in another one that the settings name, the secret of this start in a third. Knows nothing about
what runs behind it.
"""

import asyncio
import os
import signal
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from serve import asgi, budget, counts, entrance
from serve.answer import Changes, changed
from serve.asgi import App, Headers, Message, Receive, Send
from serve.asked import HEADER
from serve.body import Rules, Taken, rewrite
from serve.doors import APIS, COUNTED, LISTING, OPEN, OPENING, RANK_HEADER, SECRET_HEADER, Doors, Refused, preflight
from serve.draining import Told, UnderWay
from serve.effort import EffortPolicy
from serve.format_alarm import listening
from serve.heard import Heard
from serve.keys import OWN, Keys
from serve.rates import SOON, Rates, Slot
from serve.record import Record
from serve.routing import Routes, rewritten

SETTINGS = "GPTOSS_SERVE_SETTINGS"
START = "GPTOSS_KIT_START"  # environment variable: a word of this start alone, told in every answer
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
    max_concurrent: int = Field(default=0, ge=0)  # requests under way at once; 0: no limit
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get after SIGTERM
    sagemaker: bool = False  # opens /invocations
    raw_completions: bool = False  # opens prompts that no effort applies to
    reasoning_content: bool = False  # what chat answers have in `reasoning`, under this name too
    strict_format: bool = False  # an answer off the model's format is an error
    adapters: bool = Field(default=False, exclude_if=lambda on: not on)  # the engine has room for some


class Door:
    """The engine's outermost ASGI layer. Closed until a POST with the secret of this start opens it.

    SIGTERM drains: new requests get 503, those under way finish or run out of `drain` seconds and are told so, then the
    engine gets the SIGINT that it stops at. SIGUSR2 is a SIGTERM with no seconds to drain, for an engine that hangs.
    SIGUSR1 turns new requests away without stopping, for a load balancer to notice. SIGHUP leaves new connections to
    another engine at the same port, answers what comes on those that are there, and ends with the last of it.
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
        self.under_way, self.rates = UnderWay(), Rates(self.settings.max_concurrent)
        self.routes = Routes(self.settings.names, self.settings.digest)
        self.counts, self.own = counts.counts(), OWN if key else ""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            counts.to_log()
            loop = asyncio.get_running_loop()  # the engine has set its handlers by now
            loop.add_signal_handler(signal.SIGUSR1, setattr, self.doors, "draining", True)
            loop.add_signal_handler(signal.SIGTERM, self._stop, self.settings.drain)
            loop.add_signal_handler(signal.SIGUSR2, self._stop, 0)
            loop.add_signal_handler(signal.SIGHUP, self._leave)
            try:
                self._hold(scope)
            except RuntimeError as e:  # raised here, uvicorn would take it for an app without a lifespan, and serve
                await receive()
                return await send({"type": "lifespan.startup.failed", "message": f"RuntimeError: {e}"})
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no websocket route is served
            return await send({"type": "websocket.close", "code": 1008})
        stamp = [(b"x-model-digest", self.settings.digest.encode())] if self.settings.digest else []
        extra: list[tuple[bytes, bytes]] = []
        if start := os.environ.get(START):
            extra.append((b"x-serve-start", start.encode()))
        if self.under_way.leaving:  # the client's next request goes to the engine that has taken over
            extra.append((b"connection", b"close"))

        told, record, ours = Told(), Record(scope), self.doors.trusts(scope["headers"])
        counted = counts.counted(scope) and not ours
        scope = {**scope, "headers": record.named(scope["headers"])}

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*record.named(message.get("headers", [])), *stamp, *extra]
                if message["status"] == 503 and not any(n.lower() == b"retry-after" for n, _ in headers):
                    headers.append((b"retry-after", SOON.encode()))  # the engine's own limits do not say
                message = {**message, "headers": headers}
            told.note(message)
            record.note(message)
            await send(message)

        onward: Send = stamped
        slot = Slot()
        try:
            path, held = self.doors.admit(scope)
            record.key = held.name or self.own
            if path == "/livez":
                return await asgi.answer(stamped, 200, asgi.compact(status="alive", state=self.doors.state))
            if path == OPENING:
                for each in entrance.here():
                    await each.open()
                self.doors.ready = True
                return await asgi.answer(stamped, 200, b'{"status":"open"}')
            closed = {SECRET_HEADER} if ours else {SECRET_HEADER, RANK_HEADER}
            scope = {**scope, "headers": [(n, v) for n, v in scope["headers"] if n not in closed]}
            if preflight(scope):  # the engine's CORS layer answers; no route has this path, should it not
                scope = {**scope, "path": "/preflight", "raw_path": b"/preflight"}
            elif path == "/readyz":
                return await asgi.answer(stamped, *await self._readiness(scope, receive))
            elif self.settings.adapters and path == "/v1/models":
                onward = rewritten(stamped, self.routes.models)
            elif self.settings.adapters and path.startswith("/v1/responses/"):
                stamp.clear()  # whose answer is stored there, its `model` says
            async with self.under_way.held(scope["path"], told, cut=stamped):
                if scope["method"] == "POST" and path not in OPEN:
                    if path in COUNTED and not ours:
                        slot = self.rates.enter(held)
                        extra += slot.told
                    body = await self._body(scope, receive)
                    if body is None:
                        return None
                    if path == LISTING:
                        self.routes.put(body)
                        return await asgi.answer(stamped, 200, b'{"status":"listed"}')
                    raw = self.settings.raw_completions or ours
                    meant = self.routes.meant if self.settings.adapters and not ours else None
                    rules = Rules(held.policy, self.settings.max_model_len, raw, self.routes.names, meant)
                    asked = [v.decode("latin-1") for n, v in scope["headers"] if n == HEADER.encode()]
                    taken = rewrite(rules, path, body, asked)
                    extra += taken.told
                    if taken.meant and stamp:
                        stamp[:] = [(b"x-model-digest", taken.meant.digest.encode())]
                    budget.TOKENS.set(taken.tokens)
                    if taken.path in APIS:
                        record.heard = Heard(APIS[taken.path], stopped=taken.stops)
                        onward = changed(stamped, self._changes(taken, scope["headers"]))
                        onward = listening(onward, record, taken.path, strict=self.settings.strict_format)
                    if taken.answer:
                        onward = rewritten(stamped, taken.answer)
                    if taken.path != path:
                        scope = {**scope, "path": taken.path, "raw_path": taken.path.encode()}
                    scope, receive = asgi.with_body(scope, receive, taken.body)
                return await self.app(scope, receive, onward)
        except Refused as refused:
            return await asgi.answer(stamped, refused.status, refused.body(scope["path"]), refused.headers)
        except Exception:
            record.status = record.status or 500  # as the server will answer
            raise
        finally:
            slot.leave()
            if counted:
                self.counts.close(record)

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        limit = self.settings.max_body
        try:
            return await asgi.read(scope, receive, limit)
        except asgi.TooLarge:
            raise Refused(413, "body_too_large", f"the request body is over {limit} bytes") from None
        except asgi.TooSlow:
            closing = [(b"connection", b"close")]
            raise Refused(408, "request_timeout", "the request body did not come in time", headers=closing) from None

    def _changes(self, taken: Taken, headers: Headers) -> Changes:
        """What the engine's answer lacks for whoever asked."""
        wanted = self.settings.reasoning_content or (b"x-reasoning-content", b"true") in headers
        engine = taken.meant.engine if taken.meant else self.settings.names[0] if self.settings.names else ""
        names = (engine, taken.name) if taken.name else ()
        return Changes(names, wanted and APIS[taken.path] == "chat")  # other APIs say `reasoning` of other things

    def _hold(self, scope: Message) -> None:
        """Budgets reach the engine. Raises RuntimeError where they could not: nobody would notice else."""
        engine = getattr(getattr(scope.get("app"), "state", None), "engine_client", None)
        if engine is not None:
            budget.hold(engine)
        elif self.settings.policy.thinking_tokens or self.settings.keys:
            raise RuntimeError("no engine client is where vLLM 0.32 has it: budgets of reasoning tokens would not hold")

    async def _readiness(self, scope: Message, receive: Receive) -> tuple[int, bytes]:
        """What the engine's own /health says, in words."""
        statuses = []

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self.app({**scope, "path": "/health", "raw_path": b"/health"}, receive, note)
        ready = statuses == [200]
        return (200 if ready else 503), asgi.compact(status="ready" if ready else "unready", state=self.doors.state)

    def _stop(self, drain: float) -> None:
        self.doors.draining = True
        self.under_way.stop(drain)

    def _leave(self) -> None:
        for each in entrance.here():
            each.close()
        self.under_way.leave(lambda: sum(each.connections for each in entrance.here()))
