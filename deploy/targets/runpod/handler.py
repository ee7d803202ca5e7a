"""The container's entry on a RunPod queue: start.py as a child, and a worker that hands it the queue's jobs.

A job's input is what RunPod makes of a request to /openai/v1: {"openai_route": "/v1/...", "openai_input": {...}}. What
comes out is the answer's JSON, or a stream's events as they come, or {"error": ...}. A job that is cancelled ends its
request; a server that dies ends the worker; SIGTERM lets jobs under way finish. Knows nothing of models.
Rendered by `deploy render`: change the recipe and render again.
"""

import asyncio
import codecs
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

HERE = Path(__file__).resolve().parent
UPSTREAM = "GPTOSS_UPSTREAM"  # environment variable: a server that runs already, without /v1; none is started
UPSTREAM_KEY = "GPTOSS_UPSTREAM_KEY"  # and the variable with the key that it asks for
ROUTE = re.compile(r"/v1(/[A-Za-z0-9_-]{1,80}){1,4}")
LOOK = 0.5  # seconds between two looks at a server that starts
GRACE = 60  # seconds that the server gets to end
PIECE = 65_536  # bytes of an error's body that are read


def say(line: str) -> None:
    """A line for RunPod's log."""
    sys.stderr.write(f"handler.py: {line}\n")
    sys.stderr.flush()


def error(status: int, message: str, code: str) -> dict[str, Any]:
    """An error in the OpenAI API's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code, "status": status}}


class Child:
    """start.py, which serves on loopback: started with the environment that the image has for our code."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(HERE)}  # not the SDK's libraries, which are newer than vLLM's
        self.process = subprocess.Popen(["python3", str(HERE / "start.py")], env=env)
        self._stopping = False

    def stop(self) -> None:
        """End it: SIGTERM, time to drain, then SIGKILL."""
        self._stopping = True
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def watch(self) -> None:
        """From now on its end, unless we ended it, ends the worker: RunPod gives the jobs to another."""

        def wait() -> None:
            code = self.process.wait()
            if not self._stopping:
                say(f"the server ended with exit code {code}")
                os._exit(code if 0 < code < 256 else 1)  # the SDK's loop would take more jobs

        threading.Thread(target=wait, name="watch", daemon=True).start()


def ready(port: int, child: Child, seconds: float) -> None:
    """Wait until the server lets everyone in. Raises SystemExit with its code when it ends, with 1 when it is late."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        code = child.process.poll()
        if code is not None:
            say(f"the server ended with exit code {code} before it was ready")
            raise SystemExit(code if 0 < code < 256 else 1)
        with suppress(OSError, http.client.HTTPException):
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            asked.request("GET", "/readyz")
            if asked.getresponse().status == 200:
                return
        time.sleep(LOOK)
    say(f"the server is not ready after {seconds:g} s")
    raise SystemExit(1)


class Worker:
    """What the SDK calls for each job. `url` of the server, without /v1."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url, self._headers = url, {"authorization": f"Bearer {key}"} if key else {}
        self._session: Any = None

    async def answer(self, job: Mapping[str, Any]) -> AsyncIterator[Any]:
        """One job: an item with the answer, or one for each piece of a stream. Never raises but at a cancellation."""
        import aiohttp

        told = job.get("input")
        route = told.get("openai_route") if isinstance(told, dict) else None
        body = told.get("openai_input") if isinstance(told, dict) else None
        if not isinstance(route, str) or not ROUTE.fullmatch(route):
            yield error(400, 'a job is {"openai_route": "/v1/...", "openai_input": {...}}', "invalid_job")
            return
        if self._session is None:  # in the loop that will use it
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10), connector=aiohttp.TCPConnector(limit=0)
            )
        task = cast("asyncio.Task[None]", asyncio.current_task())
        listed = route == "/v1/models"
        method, content = ("GET", None) if listed else ("POST", body)
        try:
            async with self._session.request(
                method, self._url + route, json=content, headers=self._headers, allow_redirects=False
            ) as answered:
                # A job that is cancelled while the SDK sends a piece on leaves this generator hanging.
                task.add_done_callback(lambda _: answered.close())
                if answered.status != 200:
                    yield refused(answered.status, await answered.content.read(PIECE))
                elif answered.content_type == "text/event-stream":
                    async for piece in events(answered.content, done=route.endswith("/completions")):
                        yield piece
                else:
                    yield await answered.json(content_type=None)
        except (aiohttp.ClientError, ValueError, TimeoutError) as e:
            say(f"{route}: {type(e).__name__}")
            yield error(502, "the server went away before the answer was whole", "upstream_gone")


def refused(status: int, text: bytes) -> dict[str, Any]:
    """What the server said instead of an answer, as an object with `error`."""
    with suppress(ValueError):
        told = json.loads(text)
        if isinstance(told, dict) and isinstance(told.get("error"), dict):
            return {"error": {**told["error"], "status": status}}
    return error(status, f"the server answered {status}", "upstream_error")


async def events(stream: Any, *, done: bool) -> AsyncIterator[Any]:
    """A stream's whole events, as many at once as have come. `done`: it must end with [DONE], else an error follows."""
    decoder, held, last = codecs.getincrementaldecoder("utf-8")("replace"), "", ""
    async for piece in stream.iter_any():
        whole, end, held = (held + decoder.decode(piece)).rpartition("\n\n")
        if end:
            last = whole.rpartition("\n\n")[2]
            yield whole + end
    if held.strip() or (done and last.strip() != "data: [DONE]"):
        yield error(502, "the server ended the stream before the answer was whole", "upstream_gone")


def stopped(*_: object) -> NoReturn:
    """SIGTERM before the SDK listens for it, or after it has finished: the child is ended on the way out."""
    raise SystemExit(0)


def main() -> int:
    """Serve jobs until SIGTERM. 0 then; the server's own exit code when it ends by itself."""
    os.environ.setdefault("RUNPOD_DEBUG_LEVEL", "INFO")  # at the SDK's own level every answer stands in the log
    import runpod

    deployment = json.loads((HERE / "deployment.json").read_bytes())["settings"]["deployment"]
    signal.signal(signal.SIGTERM, stopped)
    url, child = os.environ.get(UPSTREAM, ""), None
    key = os.environ.get(os.environ.get(UPSTREAM_KEY, ""), "")
    try:
        if not url:
            child = Child()
            ready(deployment["port"], child, deployment["limits"]["startup_seconds"] + GRACE)
            child.watch()
            url = f"http://127.0.0.1:{deployment['port']}"
        worker, at_once = Worker(url, key), deployment["scaling"]["concurrency"]
        runpod.serverless.start(
            {"handler": worker.answer, "concurrency_modifier": lambda _: at_once, "return_aggregate_stream": True}
        )
    finally:
        if child:
            child.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
