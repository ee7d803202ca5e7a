"""A platform's HTTP API on loopback: things that can be made, looked at, changed and removed, and faults by order."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

REAL = "https://api.platform.example"  # what the flows ask


class Fault(NamedTuple):
    """What happens to one request. `mode`: answer, hang (no answer), cut (half a body), drop (no answer, closed);
    `done`: the request is done all the same, before."""

    status: int = 500
    body: str = '{"message": "something broke"}'
    headers: tuple[tuple[str, str], ...] = ()
    mode: str = "answer"
    done: bool = False


class Asked(NamedTuple):
    method: str
    path: str
    key: str
    body: Any


class Door:
    """`faults`: by "METHOD /path", the next ones first. `asked`: all requests, in order."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[Asked] = []
        self.arrived = threading.Event()  # set when a request hangs
        self.release = threading.Event()
        self.url = ""

    @property
    def routes(self) -> dict[str, str]:
        return {REAL: self.url}

    def made(self, method: str = "POST") -> list[Asked]:
        return [a for a in self.asked if a.method == method]

    def act(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The API itself."""
        name = path.removeprefix("/things").strip("/")
        if method == "POST":
            id = f"id{len(self.made())}"
            self.things[body["name"]] = {**body, "id": id, "state": "READY", "apiKey": "hidden-by-the-platform"}
            return 201, self.things[body["name"]]
        if name not in self.things:
            return 404, {"message": f"no {name} here"}
        if method == "PATCH":
            self.things[name] |= body
        if method == "DELETE":
            del self.things[name]
            return 204, None
        return 200, self.things[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    door: Door

    def log_message(self, *_: Any) -> None:
        pass

    def _any(self) -> None:
        door = self.door
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(text) if text else None
        except ValueError:
            body = text.decode()
        door.asked.append(Asked(self.command, self.path, self.headers.get("authorization", ""), body))
        waiting = door.faults.get(f"{self.command} {self.path}") or door.faults.get(f"{self.command} *") or []
        fault = waiting.pop(0) if waiting else None
        if fault is None or fault.done:
            status, found = door.act(self.command, self.path, body)
            answer, headers = (b"" if found is None else json.dumps(found).encode()), ()
        if fault is not None:
            status, answer, headers = fault.status, fault.body.encode(), fault.headers
            if fault.mode in {"hang", "drop"}:
                door.arrived.set()
                if fault.mode == "hang":
                    door.release.wait(30)
                self.close_connection = True
                return
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer) * (2 if fault and fault.mode == "cut" else 1)))
        self.end_headers()
        self.wfile.write(answer)
        if fault and fault.mode == "cut":
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _any


@contextmanager
def opened() -> Iterator[Door]:
    """A Door that listens."""
    door = Door()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"door": door}))
    server.daemon_threads = True
    door.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield door
    finally:
        door.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def until(true: Any, seconds: float = 20) -> None:
    """Wait for something that another process or thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
