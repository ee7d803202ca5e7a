"""An OpenAI-compatible endpoint that answers each chat request by a function, over a socket: for models that write."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | int | bytes  # a reply's text, an HTTP status, or a whole body


class Writer:
    """`bodies` are the requests in the order of their coming, `keys` what they sent as their key."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer], finish: str) -> None:
        self.answer, self.finish = answer, finish
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.url = ""


@contextmanager
def writing(answer: Callable[[dict[str, Any]], Answer], finish: str = "stop") -> Iterator[Writer]:
    writer = Writer(answer, finish)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            writer.bodies.append(body)
            writer.keys.add(self.headers["authorization"])
            said = writer.answer(body) if self.path == "/v1/chat/completions" else 404
            status = said if isinstance(said, int) else 200
            data = said if isinstance(said, bytes) else json.dumps(self.completion(said)).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)

        def completion(self, said: str | int) -> dict[str, Any]:
            if isinstance(said, int):
                return {"error": {"message": f"no, and your key is {self.headers['authorization']}", "code": said}}
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": writer.finish}
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            return {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    writer.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield writer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
