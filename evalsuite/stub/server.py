"""An OpenAI-compatible server with scripted accuracy, latency and faults: for tests, and for trying evalsuite out.

    python -m evalsuite.stub --model base@0123456789abcdef=0.8 --questions questions.jsonl

In: a Script. Out: a base URL that the openai client and the load client work against unchanged. Paces, breaks and
frames the replies that evalsuite.stub.script composes; knows nothing about what is in them.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from math import ceil
from pathlib import Path
from typing import IO, Any, get_args

import click

from evalsuite import questions as question_sets
from evalsuite.stub.script import Fault, Kind, Model, Reply, Script, chance, compose, limit, prompt_of
from tune.errors import UserError

__all__ = ["Fault", "Model", "Script", "main", "run", "serving"]

_STATUS_FAULTS = {"500": HTTPStatus.INTERNAL_SERVER_ERROR, "429": HTTPStatus.TOO_MANY_REQUESTS,
                  "503": HTTPStatus.SERVICE_UNAVAILABLE, "401": HTTPStatus.UNAUTHORIZED,
                  "404": HTTPStatus.NOT_FOUND}  # fmt: skip

clock = time.monotonic  # of the rates


class _Refused(Exception):
    """An HTTP error in the shape that the openai client expects."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.message, self.headers = status, message, headers or {}


class _Server:
    """One running stub: the script, the questions by prompt, and how often each request was seen."""

    def __init__(self, script: Script) -> None:
        self.script = script
        found = question_sets.read(script.questions).questions if script.questions else ()
        self.known = {q.prompt.strip(): q for q in found}
        self.seen: Counter[tuple[str, str, str]] = Counter()
        self.left = script.replies
        self.never = asyncio.Event()
        self.log: list[dict[str, Any]] = []
        self.clock = count()  # vLLM, too, dates its models anew in every answer
        self.buckets: dict[str, tuple[float, float]] = {}  # of a model with a rate: tokens, and when there were so many
        self.stamp = {"x-model-digest": script.digest} if script.digest else {}

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass  # the client left, or does not speak HTTP
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request, answer it, say whether the connection can take another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length") or 0))
        keep = headers.get("connection", "").lower() != "close"
        path = path.split("?")[0].removeprefix("/v1")
        try:
            if self.script.api_key and path != "/health" and headers.get("authorization") != self._bearer:
                raise _Refused(HTTPStatus.UNAUTHORIZED, "wrong API key")
            if (method, path) == ("POST", "/chat/completions"):
                return await self._chat(json.loads(body), writer) and keep
            _send(writer, HTTPStatus.OK, self._get(path), self.stamp)
        except _Refused as e:
            code = int(e.status)
            both = {**self.stamp, **e.headers}
            _send(writer, e.status, {"error": {"message": e.message, "type": "stub", "code": code}}, both)
        except (ValueError, KeyError, TypeError) as e:
            _send(writer, HTTPStatus.BAD_REQUEST, {"error": {"message": repr(e), "type": "stub", "code": 400}})
        await writer.drain()
        return keep

    @property
    def _bearer(self) -> str:
        return f"Bearer {self.script.api_key}"

    def _get(self, path: str) -> Any:
        if path == "/models":
            card = {"object": "model", "created": next(self.clock), "owned_by": "stub"}
            data = [
                {"id": name, **card, **m.model_dump(include={"root", "max_model_len"}, exclude_defaults=True)}
                for name, m in self.script.models.items()
            ]
            return {"object": "list", "data": data}
        if path == "/version" and self.script.version:
            return {"version": self.script.version}
        if path == "/health":
            return {"status": "ok"}
        if path == "/requests":  # what was asked so far, for tests of clients
            return self.log
        raise _Refused(HTTPStatus.NOT_FOUND, f"no such path {path}")

    def _fault(self, model: Model, key: tuple[str, str, str]) -> Fault | None:
        attempt = self.seen[key]
        for fault in model.faults:
            if (
                fault.prompt in key[1]
                and chance(fault.kind, *key) < fault.share
                and (fault.times is None or attempt <= fault.times)
            ):
                return fault
        return None

    async def _chat(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        name, effort, messages = (
            body["model"],
            body.get("reasoning_effort", self.script.default_effort),
            body["messages"],
        )
        model = self.script.models.get(name)
        if model is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"The model `{name}` does not exist.")
        if "stream_options" in body and not self.script.stream_options:
            raise _Refused(HTTPStatus.BAD_REQUEST, "Unrecognized request argument supplied: stream_options")
        if effort not in self.script.efforts:
            known = ", ".join(self.script.efforts)
            raise _Refused(HTTPStatus.BAD_REQUEST, f"reasoning_effort must be one of {known}")
        key = (name, prompt_of(messages), effort)
        self.seen[key] += 1
        fault = self._fault(model, key)
        kind = fault.kind if fault else None
        asked = {"model": name, "prompt": key[1], "effort": effort, "seed": body.get("seed")}
        self.log.append({**asked, "fault": kind, "max_tokens": _cap(body)})
        if self.left is not None and key[1] in self.known:
            if not self.left:
                await self.never.wait()
            self.left -= 1
        if model.rate and (wait := self._over(name, model.rate)):
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many requests", _after(ceil(wait)))
        delay = model.first_token_s
        if fault and kind == "slow":
            delay += fault.seconds
        if fault and kind in _STATUS_FAULTS:
            after = _after(fault.seconds, fault.dated) if kind in {"429", "503"} else None
            raise _Refused(_STATUS_FAULTS[fault.kind], f"scripted {kind}", after)
        if kind == "wrong_effort":
            effort = "low" if effort != "low" else "medium"
        said = compose(model, name, effort, messages, self.known, body.get("seed"))
        reply = limit(said, _cap(body), bool(body.get("ignore_eos")))
        if kind == "empty":
            reply = reply.model_copy(update={"words": reply.words[: reply.reasoning]})
        if kind == "truncated":
            cut = max(1, reply.reasoning // 2)
            reply = reply.model_copy(update={"words": reply.words[:cut], "reasoning": cut, "finish": "length"})
        due = asyncio.get_running_loop().time() + delay
        if kind == "restless":
            reply = reply.model_copy(update={"words": [f"{self.seen[key]} ", *reply.words]})
        stamp = {"x-model-digest": "f" * 64} if kind == "other_digest" else self.stamp
        name = "fall-back" if kind == "other_model" else name
        send = _stream if body.get("stream") else _whole
        headers = {"x-reasoning-effort": effort, **stamp}
        return await send(writer, name, headers, reply, kind, due, model, self._usage(body))

    def _over(self, name: str, rate: float) -> float:
        """Seconds until a token bucket lets one more through; 0 when it has just done so."""
        tokens, then = self.buckets.get(name, (max(1.0, rate), clock()))
        now = clock()
        tokens = min(max(1.0, rate), tokens + (now - then) * rate)
        self.buckets[name] = (tokens - (tokens >= 1), now)
        return 0.0 if tokens >= 1 else (1 - tokens) / rate

    def _usage(self, body: dict[str, Any]) -> bool:
        asked = (body.get("stream_options") or {}).get("include_usage", False) if body.get("stream") else True
        return self.script.usage and asked


def _after(seconds: float, dated: bool = False) -> dict[str, str]:
    if not dated:
        return {"Retry-After": f"{seconds:g}"}
    now = time.time()
    return {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + seconds, usegmt=True)}


def _cap(body: dict[str, Any]) -> int | None:
    found = body.get("max_completion_tokens") or body.get("max_tokens")
    return None if found is None else int(found)


def _head(status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {int(status)} {status.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _send(
    writer: asyncio.StreamWriter, status: HTTPStatus, body: Any, headers: Mapping[str, str] | None = None
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    both = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
    writer.write(_head(status, both) + data)


_ERROR = {"error": {"message": "scripted error in a 200", "type": "stub", "code": 500}}
_GARBAGE = b"\x00\xff\xfe{not json\x80"


async def _until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def _whole(
    writer: asyncio.StreamWriter, name: str, headers: Mapping[str, str], reply: Reply, fault: Kind | None, due: float,
    model: Model, usage: bool,
) -> bool:  # fmt: skip
    """A reply in one piece, sent when its last token would be due."""
    await _until(due + model.per_token_s * len(reply.words))
    message = {"role": "assistant", "reasoning": "".join(reply.words[: reply.reasoning]) or None,
               "content": "".join(reply.words[reply.reasoning :]) or None}  # fmt: skip
    body: Any = {"id": "chatcmpl-stub", "object": "chat.completion", "created": 0, "model": name,
                 "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}]}  # fmt: skip
    if usage:
        body["usage"] = reply.usage
    if fault == "error_in_200":
        body = _ERROR
    if fault == "hangup":
        data = json.dumps(body).encode()
        writer.write(_head(HTTPStatus.OK, {"Content-Length": str(len(data)), **headers}) + data[: len(data) // 2])
        return False
    _send(writer, HTTPStatus.OK, _GARBAGE if fault == "garbage" else body, headers)
    await writer.drain()
    return True


async def _stream(
    writer: asyncio.StreamWriter, name: str, headers: Mapping[str, str], reply: Reply, fault: Kind | None, due: float,
    model: Model, usage: bool,
) -> bool:  # fmt: skip
    """Server-sent events, one a token, token k due at due + k gaps on the loop's clock."""
    gap = model.per_token_s

    def event(data: bytes) -> None:
        data = b"data: " + data + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return json.dumps(
            {"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 0, "model": name, "choices": choices,
             **more}
        ).encode()  # fmt: skip

    writer.write(_head(HTTPStatus.OK, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked",
                                       **headers}))  # fmt: skip
    if fault in {"garbage", "error_in_200"}:
        event(_GARBAGE if fault == "garbage" else json.dumps(_ERROR).encode())
        writer.write(b"0\r\n\r\n")
        return True
    role = chunk({"role": "assistant", "content": ""})
    if model.role_first:
        event(role)
    for k, word in enumerate(reply.words):
        if fault == "hangup" and k == len(reply.words) // 2:
            return False
        if gap or not k:
            await _until(due + k * gap)
        if not (k or model.role_first):
            event(role)
        # When the first token left, on a clock that all processes of a machine share: what calibrate holds a client to.
        stamp: dict[str, Any] = {} if k else {"written": time.monotonic()}
        event(chunk({"reasoning": word} if k < reply.reasoning else {"content": word}, **stamp))
        await writer.drain()
    event(chunk({}, reply.finish))
    if usage:
        event(chunk(None, usage=reply.usage))
    event(b"[DONE]")
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def run(script: Script, port: int = 0, ready: "Future[tuple[str, asyncio.Event]] | None" = None) -> None:
    """Serve on 127.0.0.1 until the event given through `ready` is set, or for ever. Raises OSError: port in use."""
    stop, stub = asyncio.Event(), _Server(script)
    server = await asyncio.start_server(stub.connection, "127.0.0.1", port, limit=1 << 20, backlog=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    if ready is None:
        click.echo(url)
    else:
        ready.set_result((url, stop))
    await stop.wait()
    server.close()


@contextmanager
def serving(script: Script | None = None, port: int = 0) -> Iterator[str]:
    """Serve in a thread while the block runs; gives the base URL, http://127.0.0.1:<port>/v1. Port 0: any free one."""
    ready: Future[tuple[str, asyncio.Event]] = Future()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await run(script or Script(), port, ready)

    def thread() -> None:
        try:
            asyncio.run(main())
        except BaseException as e:
            if ready.done():
                raise
            ready.set_exception(e)

    worker = threading.Thread(target=thread, daemon=True, name="evalsuite-stub")
    worker.start()
    url, stop = ready.result()
    try:
        yield url
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        worker.join()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=0, show_default="any free one", help="Port on 127.0.0.1.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="ID[=ACCURACY]",
    help="A model id, and how many of the set's questions it gets right, 0 to 1 [1]; may be repeated.",
)
@click.option("--questions", type=click.Path(path_type=Path), help="Question set whose prompts are answered.")
@click.option("--first-token-s", default=0.0, help="Seconds before the first token.")
@click.option("--per-token-s", default=0.0, help="Seconds between tokens.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[:SHARE]",
    help=f"Something to go wrong, with a share of the requests [1]; may be repeated: {', '.join(get_args(Kind))}.",
)
@click.option(
    "--script",
    type=click.File("rb"),
    help='A script as JSON, - for stdin, instead of all the above: {"models": {"ID": {"accuracy": 0.9, ...}}, ...}, '
    "with the keys of evalsuite.stub.script.",
)
def main(
    port: int, models: tuple[str, ...], questions: Path | None, first_token_s: float, per_token_s: float,
    faults: tuple[str, ...], script: IO[bytes] | None,
) -> None:  # fmt: skip
    """Serve a scripted OpenAI-compatible endpoint and print its base URL."""
    try:
        if script:
            found = Script.model_validate_json(script.read())
        else:
            split = [f.partition(":") for f in faults]
            wrongs = [{"kind": kind, "share": float(share or 1)} for kind, _, share in split]
            pace = {"first_token_s": first_token_s, "per_token_s": per_token_s, "faults": wrongs}
            pairs = [m.partition("=") for m in models or ("stub@0123456789abcdef",)]
            named = {name: {"accuracy": float(accuracy or 1), **pace} for name, _, accuracy in pairs}
            found = Script.model_validate({"models": named, "questions": questions})
        asyncio.run(run(found, port))
    except ValueError as e:
        raise UserError("this script cannot be played", why=str(e), fix="python -m evalsuite.stub --help") from None
    except OSError as e:
        raise UserError(f"cannot serve on port {port}", why=str(e), fix="python -m evalsuite.stub --port 0") from None
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
