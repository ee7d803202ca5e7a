"""A deployed endpoint as a client sees it, on loopback: an engine that answers like vLLM, behind a platform's door.

`Cloud` says how the platform behaves, and what is wrong with it; `serving` runs it and gives its base URL, …/v1.
"""

import base64
import hashlib
import hmac
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote

DIGEST = "0123456789abcdef" * 4
MODEL = f"docs@{DIGEST[:16]}"
LATE = 4  # answers, of which the last ones may come from another replica


@dataclass
class Cloud:
    """`headers`: what a request must carry, by lower-case name. `signed`: access key, secret and region of a SageMaker
    token. `away`: (status, body) that the first requests get. `wrong`: faults by name, see `Door`."""

    model: str = MODEL
    digest: str = DIGEST
    length: int = 2048  # a token is a word
    headers: dict[str, str] = field(default_factory=dict)
    signed: tuple[str, str, str] | None = None
    away: list[tuple[int, str]] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)
    prefix: str = "/v1"
    called: str = ""  # what replies call their model, the one that was asked for if empty
    voice: str = "Hello there."
    answers: dict[str, str] = field(default_factory=dict)  # prompt: what is answered
    asked: list[dict[str, Any]] = field(default_factory=list)  # bodies of completions, in order
    shown: list[dict[str, str]] = field(default_factory=list)  # headers of every request
    statuses: Counter[int] = field(default_factory=Counter)
    free: threading.Event = field(default_factory=threading.Event)  # ends a hang


class _No(Exception):
    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body


def _error(status: int, message: str) -> _No:
    return _No(status, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}})


def signature(token: str, secret: str, headers: dict[str, str]) -> tuple[dict[str, str], str]:
    """What a SageMaker token says, and its signature as AWS computes it (SigV4, presigned URL), with our own hands."""
    assert token.startswith("sagemaker-api-key-")
    url = base64.b64decode(token.removeprefix("sagemaker-api-key-"), validate=True).decode()
    host, _, query = url.partition("/?")
    told = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    assert told.pop("Version") == "1"
    given = {k: v for k, v in told.items() if k != "X-Amz-Signature"}
    pairs = sorted(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in given.items())
    empty = hashlib.sha256(b"").hexdigest()
    canonical = "\n".join(["POST", "/", "&".join(pairs), f"host:{host}", "", "host", empty])
    day, region, service, end = told["X-Amz-Credential"].split("/")[1:]
    scope = f"{day}/{region}/{service}/{end}"
    text = "\n".join(["AWS4-HMAC-SHA256", told["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return {**told, "host": host}, hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _door(cloud: Cloud, headers: dict[str, str]) -> None:
    """Faults: "lax" lets a wrong key in, "open" lets in whoever shows none."""
    if cloud.signed:
        access, secret, region = cloud.signed
        try:
            told, mine = signature(headers.get("authorization", "").removeprefix("Bearer "), secret, headers)
            made = datetime.strptime(told["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            lasts = int(told["X-Amz-Expires"])
            good = (
                hmac.compare_digest(mine, told["X-Amz-Signature"])
                and told["X-Amz-Credential"] == f"{access}/{made:%Y%m%d}/{region}/sagemaker/aws4_request"
                and (told["Action"], told["host"]) == ("CallWithBearerToken", "sagemaker.amazonaws.com")
                and 0 < lasts <= 43200
                and made <= datetime.now(UTC) + timedelta(minutes=5) < made + timedelta(seconds=lasts + 300)
            )
        except (AssertionError, ValueError, KeyError):
            good = False
        if not good:
            raise _No(403, {"message": "The security token included in the request is invalid."})
    missing = [name for name, value in cloud.headers.items() if headers.get(name) != value]
    if missing and ("open" if any(name not in headers for name in missing) else "lax") not in cloud.wrong:
        echo = headers.get(missing[0], "")  # a careless platform's message
        raise _No(401, {"error": f"{missing[0]} {echo} is not known"})


def _completion(cloud: Cloud, body: dict[str, Any]) -> dict[str, Any]:
    """What the engine says: reasoning, text, tool call. Faults: "markers", "no answer", "same effort", "no calls",
    "half a call", "calls raw" and "fails forced" where a call is forced, "500 on long", "cuts long", "other name"."""
    if body.get("model") != cloud.model:
        raise _No(404, {"error": {"message": "no such model", "type": "NotFoundError", "code": 404}})
    effort = body.get("reasoning_effort", "medium")
    prompt = body["messages"][-1]["content"]
    most, length = body.get("max_completion_tokens", 64), len(prompt.split()) + 70
    if length + most > cloud.length and "cuts long" not in cloud.wrong:
        if "500 on long" in cloud.wrong:
            raise _No(500, {"error": {"message": "CUDA out of memory", "type": "InternalServerError", "code": 500}})
        raise _error(400, f"This model's maximum context length is {cloud.length} tokens")
    thoughts = {"low": 4, "medium": 16, "high": 48}["low" if "same effort" in cloud.wrong else effort]
    words = [f"thought{i} " for i in range(thoughts)]
    text, calls = cloud.answers.get(prompt, cloud.voice), []
    if "tools" in body and "no calls" not in cloud.wrong:
        arguments = '{"city": "Par' if "half a call" in cloud.wrong else '{"city": "Paris"}'
        calls, text = (
            [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}],
            "",
        )
    if "calls raw" in cloud.wrong and "tools" in body:
        text, calls = ("<|start|>assistant to=functions.get_weather" if "tool_choice" in body else "Well."), []
    if "fails forced" in cloud.wrong and "tools" in body:
        text, calls = "Well.", []
        if "tool_choice" in body:
            raise _No(500, {"error": "the engine died"})
    if "markers" in cloud.wrong:
        raw = "commentary to=functions.get_weather <|constrain|>json" if calls else "analysis"
        text, calls = f"<|channel|>{raw}<|message|>{text}", []
    if "no answer" in cloud.wrong:
        text = ""
    tokens = [*words, *re.findall(r"\S+\s*", text)]
    cut = tokens[:most]
    finish = "length" if len(tokens) > most else "tool_calls" if calls else "stop"
    usage = {"prompt_tokens": length, "completion_tokens": len(cut), "total_tokens": length + len(cut),
             "completion_tokens_details": {"reasoning_tokens": min(thoughts, most)}}  # fmt: skip
    said = {"role": "assistant", "reasoning_content" if effort == "high" else "reasoning": "".join(cut[:thoughts])}
    said |= {"content": "".join(cut[thoughts:]) or None, **({"tool_calls": calls} if calls else {})}
    return {"said": said, "finish": finish, "usage": usage, "effort": effort}


class _Handler(BaseHTTPRequestHandler):
    """Faults besides: "error in 200", "truncated", "no done", "no finish", "no usage", "hang", "trickle", "whole only",
    "html", "lists other", "no digest", "other digest", "later digest", "no list"."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    cloud: Cloud

    def do_GET(self) -> None:
        self._answer(lambda: self._get())

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"] or 0))
        self._answer(lambda: self._post(json.loads(data)))

    def _answer(self, act: Any) -> None:
        cloud, headers = self.cloud, {k.lower(): v for k, v in self.headers.items()}
        cloud.shown.append(headers)
        with suppress(BrokenPipeError, ConnectionResetError):
            try:
                if "hang" in cloud.wrong:
                    cloud.free.wait(30)
                    self.close_connection = True
                    return
                _door(cloud, headers)
                if cloud.away:
                    status, body = cloud.away.pop(0)
                    raise _No(status, body)
                act()
            except _No as e:
                self._send(e.status, e.body)

    def _get(self) -> None:
        cloud = self.cloud
        if self.path == f"{cloud.prefix}/models" and "no list" not in cloud.wrong:
            name = "other" if "lists other" in cloud.wrong else cloud.model
            card = {"id": name, "object": "model", "owned_by": "x", "created": 1, "max_model_len": cloud.length}
            self._send(200, {"object": "list", "data": [card]})
        elif self.path == "/version":
            self._send(200, {"version": "0.32.0"})
        else:
            raise _No(404, "<html>no such route</html>")

    def _post(self, body: dict[str, Any]) -> None:
        cloud = self.cloud
        if self.path != f"{cloud.prefix}/chat/completions":
            raise _No(404, {"message": "no such route"})
        cloud.asked.append(body)
        if {"html", "error in 200"} & cloud.wrong:
            self._send(200, "<html>" if "html" in cloud.wrong else {"error": "the job failed:\n\x1b[31mCUDA"})
            return
        made = _completion(cloud, body)
        if body.get("stream") and "whole only" not in cloud.wrong:
            self._stream(made, cloud)
            return
        choice = {"index": 0, "message": made["said"], "finish_reason": made["finish"]}
        known = {"id": "c", "object": "chat.completion", "created": 1, "model": cloud.called or cloud.model}
        self._send(200, {**known, "choices": [choice], "usage": made["usage"]}, made["effort"])

    def _stream(self, made: dict[str, Any], cloud: Cloud) -> None:
        self._head(200, "text/event-stream", made["effort"], chunked=True)
        said, finish = made["said"], None if "no finish" in cloud.wrong else made["finish"]
        deltas: list[dict[str, Any]] = [{"role": "assistant"}]
        for name in ("reasoning", "reasoning_content", "content"):
            deltas += [{name: word} for word in re.findall(r"\S+\s*", said.get(name) or "")]
        for call in said.get("tool_calls", ()):
            text, function = call["function"]["arguments"], {"name": call["function"]["name"], "arguments": ""}
            deltas.append({"tool_calls": [{"index": 0, **call, "function": function}]})
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in (text[:5], text[5:])]
        chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if "no usage" not in cloud.wrong:
            chunks.append({"choices": [], "usage": made["usage"]})
        known = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": cloud.called or cloud.model}
        for n, chunk in enumerate(chunks):
            if n == len(chunks) // 2 and {"truncated", "trickle"} & cloud.wrong:
                if "trickle" in cloud.wrong:
                    cloud.free.wait(30)
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._piece(b"data: " + json.dumps({**known, **chunk}).encode() + b"\n\n")
        if "no done" not in cloud.wrong:
            self._piece(b"data: [DONE]\n\n")
        self._piece(b"")

    def _piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status: int, body: Any, effort: str = "") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self._head(status, "application/json", effort, size=len(data))
        self.wfile.write(data)

    def _head(self, status: int, kind: str, effort: str, size: int = 0, *, chunked: bool = False) -> None:
        self.cloud.statuses[status] += 1
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))))
        if status == 200 and "no digest" not in self.cloud.wrong:
            late = "later digest" in self.cloud.wrong and self.cloud.statuses[200] > LATE
            other = late or "other digest" in self.cloud.wrong
            self.send_header("x-model-digest", "f" * 64 if other else self.cloud.digest)
        if effort:
            self.send_header("x-reasoning-effort", "medium" if "other effort" in self.cloud.wrong else effort)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None: ...  # a client that had seen enough


@contextmanager
def serving(cloud: Cloud) -> Iterator[str]:
    """Runs while the block does."""
    handler = type("Handler", (_Handler,), {"cloud": cloud})
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{cloud.prefix}"
        finally:
            cloud.free.set()
            server.shutdown()
