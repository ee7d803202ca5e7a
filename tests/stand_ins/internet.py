"""Servers on loopback that speak real HTTP over a socket, faults included: websites, and Bright Data's Web Unlocker.

An answer is (status, headers, text or bytes), or a function that is handed the request's handler and does what it likes
with the socket. Every request is counted.
"""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = "<html><head><title>T</title></head><body><main><h1>Title</h1><p>Some text of use.</p></main></body></html>"
TOKEN = "sample-token-0123456789"


def words(title, text="Some text of use.", head="", body=""):
    """A page of a title and a paragraph of its own."""
    return (
        f"<html><head><title>{title}</title>{head}</head><body><main><h1>{title}</h1><p>{text}</p>{body}</main></body>"
    )


def hangs(handler):
    """Say nothing until the server ends."""
    handler.server.ending.wait(30)


def truncated(handler, length=1000):
    """Promise more than comes."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(HTML.encode())


def cut(handler):
    """Break off in the middle of a chunk."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(f"{len(HTML):x}\r\n{HTML}\r\n400\r\nmore".encode())


def drips(handler):
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    while not handler.server.ending.wait(0.02):
        handler.wfile.write(b" ")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that hangs up in the middle of a body is none of our faults."""


@contextmanager
def serving(answer):
    """(base URL, counter of what was asked). `answer(key, body, times)`: the key is the path, or the URL in a body."""
    asked = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(self.path, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = {"authorization": self.headers["Authorization"], "path": self.path}
            self.reply(body["url"], {**body, **told})

        def reply(self, key, body):
            with lock:
                asked[key] += 1
                times = asked[key]
            made = answer(key, body, times)
            if callable(made):
                made(self)
                return
            status, headers, text = made
            data = text if isinstance(text, bytes) else text.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "text/html", "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with Server(("127.0.0.1", 0), Handler) as running:
        running.ending = threading.Event()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", asked
        finally:
            running.ending.set()
            running.shutdown()
            thread.join()


@contextmanager
def unlocking(answer, token=TOKEN, zone="my_zone", bodies=None):
    """The Web Unlocker's API. What was asked of the web is answered with an outer 200 and the page's own status in
    x-brd-status-code; a token or zone that it does not know with an outer 401 or 400, before that."""

    def api(url, body, times):
        if bodies is not None:
            bodies.append(body)
        if body["path"] != "/request" or body["format"] != "raw" or body["method"] != "GET":
            return 400, {}, f"no such request: {body['path']}"
        if body["authorization"] != f"Bearer {token}":
            return 401, {"Content-Type": "text/plain"}, f"Invalid credentials: {body['authorization']}"
        if body["zone"] != zone:
            return 400, {"Content-Type": "text/plain"}, f"zone '{body['zone']}' not found"
        made = answer(url, times)
        if callable(made):
            return made
        status, headers, text = made
        if "outer" in headers:
            return status, {name: value for name, value in headers.items() if name != "outer"}, text
        return 200, {"x-brd-status-code": str(status), **headers}, text

    with serving(api) as served:
        yield served


OUTER = {"outer": ""}  # among headers: the API's own status, before it asked anybody
