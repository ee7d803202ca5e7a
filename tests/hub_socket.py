"""hub_server's Hub on a loopback socket: requests in, replies out, ranges, and the faults that lie in the way."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from hub_server import Hub, as_json


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def _reply(self) -> None:
        url = urlsplit(self.path)
        sent = self.headers.get("Authorization", "")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = f"{self.command} {url.path}"
        with self.hub.lock:
            self.hub.asked.append((asked, self.headers.get("Range", ""), sent))
            fault = self.hub.fault(asked)
            if fault and fault.status:
                told = fault.body if fault.body is not None else {"error": f"fault, and you sent {sent}"}
                status, headers, data = as_json(told, fault.status, fault.headers)
            else:
                token = sent.removeprefix("Bearer ")
                status, headers, data = self.hub.answer(self.command, url.path, url.query, token, body)
        if fault and fault.large and len(data) <= fault.cut:
            fault.times, fault = fault.times + 1, None
        if fault and fault.spoil:
            data = fault.spoil(data)
        if (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and status == 200:
            status, data = 206, data[int(found[1]) :]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            cut = fault.cut if fault and fault.cut >= 0 else len(data)
            self.wfile.write(data[:cut])
            self.close_connection = self.close_connection or cut < len(data)

    do_GET = do_POST = do_PUT = do_HEAD = _reply

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Hub]:
    """A Hub with nothing in it, and the token that may write."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
