"""Which requests come in at all: by path, method, key, and whether the server has been proven. Knows no bodies.

Only listed paths are served: the engine mounts some thirty more, several of which run the model past its own key
check. Until the supervisor has proven that the right model answers to the right prompts, and says so with the secret
of this start, everyone else hears 503.
"""

import hashlib
import hmac
import json
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

from serve.effort import Api
from serve.states import State

Headers = Sequence[tuple[bytes, bytes]]

SECRET_HEADER = b"x-serve-secret"
ADAPTER_HEADER = b"x-amzn-sagemaker-adapter-identifier"  # SageMaker's word for another model than the body names
OPENING = "/serve/open"  # POST here with the secret opens the door; to anyone else it is no path at all

OPEN = frozenset({"/health", "/livez", "/readyz", "/ping"})
APIS: dict[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/render": "chat",
    "/v1/responses": "responses",
    "/v1/responses/render": "responses",
}
RAW = frozenset({"/v1/completions", "/invocations"})  # a prompt as it is: no effort in it
SERVED = OPEN | APIS.keys() | RAW | {"/v1/models", "/metrics", "/load", "/version"}


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

    def body(self) -> bytes:
        """The OpenAI API's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error, **({"state": self.state} if self.state else {})}).encode()


class Doors:
    """The one place that knows whether the server is ready. `key` empty: none is asked for."""

    def __init__(self, *, key: str, secret: str, sagemaker: bool = False) -> None:
        if not secret:
            raise RuntimeError("this server could never become ready: serve run starts it, and opens it when proven")
        self._key = _digest(key.encode()) if key else None
        self._secret = _digest(secret.encode())
        self._sagemaker = sagemaker
        self.ready, self.draining = False, False

    @property
    def state(self) -> State:
        """What `/livez` and `/readyz` tell."""
        return State.DRAINING if self.draining else State.READY if self.ready else State.STARTING

    def admit(self, scope: MutableMapping[str, Any]) -> str:
        """The path that is asked for, without the root path. Raises Refused."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        method: str = scope["method"]
        ours = self.trusts(scope["headers"])
        if path == "/livez":
            return path
        if not self.ready and not ours:
            later = [(b"retry-after", b"5")]
            raise Refused(
                503, "not_ready", "the server is starting: it is not proven yet", headers=later, state=self.state
            )
        if preflight(scope):
            return path
        if path not in OPEN and not self._authorized(scope["headers"]):
            hint = [(b"www-authenticate", b"Bearer")]
            raise Refused(401, "invalid_api_key", "missing or wrong API key", headers=hint)
        if path == OPENING and method == "POST" and ours:
            return path
        if path == "/invocations" and not self._sagemaker:
            raise Refused(404, "not_found", "/invocations is closed: serve run --sagemaker opens it")
        if path == "/invocations" and any(name == ADAPTER_HEADER for name, _ in scope["headers"]):
            raise Refused(404, "not_found", "no adapter is served here: the model is the only one")
        if path not in SERVED and not re.fullmatch(r"/v1/responses/[^/]+(/cancel)?", path):
            raise Refused(404, "not_found", f"no such path: {path[:200]}")
        if self.draining and not ours and (method == "POST" or path == "/readyz"):
            later = [(b"retry-after", b"5"), (b"connection", b"close")]
            raise Refused(503, "draining", "the server is shutting down", headers=later, state=self.state)
        return path

    def trusts(self, headers: Headers) -> bool:
        """Whether the request is the supervisor's: it carries the secret of this start."""
        given = [value for name, value in headers if name == SECRET_HEADER]
        return len(given) == 1 and hmac.compare_digest(_digest(given[0]), self._secret)

    def _authorized(self, headers: Headers) -> bool:
        if self._key is None:
            return True
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return hmac.compare_digest(_digest(token), self._key) and scheme.lower() == b"bearer"


def preflight(scope: MutableMapping[str, Any]) -> bool:
    """Whether a browser asks if a page may call: the one request that cannot carry a key. It must reach no route."""
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
