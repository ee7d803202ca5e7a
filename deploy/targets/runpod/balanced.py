"""The container's entry behind RunPod's load balancer: start.py, and beside it a port that says how the server is.

The load balancer asks HEALTH_CHECK_PATH at PORT_HEALTH: 204 is a worker that is starting, 200 one that may be asked,
anything else one that is not well. Rendered by `deploy render`: change the recipe and render again.
"""

import http.client
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAITING = {"starting", "restarting", "hung"}  # the server's words for what comes back by itself
PATIENT = 5.0  # seconds for the server's own answer


def health(port: int, *, was_ready: bool) -> int:
    """The status for the load balancer, from what the server at this port says of itself. One that cannot be heard and
    never was ready is starting, on a busy machine: start.py ends what does not get ready in time."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
    try:
        asked.request("GET", "/readyz")
        answer = asked.getresponse()
        text = answer.read(65_536)
        if answer.status == 200:
            return 200
        state = json.loads(text).get("state", "")
    except ConnectionRefusedError:
        return 204  # start.py has not yet taken the port: it looks at the checkpoint first
    except (ValueError, AttributeError):
        return 503  # another server's words
    except (OSError, http.client.HTTPException):
        return 503 if was_ready else 204
    finally:
        asked.close()
    return 204 if state in WAITING else 503


def listen(port: int, path: str, served: int) -> ThreadingHTTPServer:
    """A server at `port`, in a thread, that answers GET `path` with the health of the one at `served`."""

    ready = threading.Event()

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            known = self.path.partition("?")[0] == path
            status = health(served, was_ready=ready.is_set()) if known else 404
            if status == 200:
                ready.set()
            self.send_response(status)
            self.end_headers()  # no body, and no length: 204 may have neither

        def log_message(self, *_: object) -> None:
            """The load balancer asks every few seconds."""

    server = ThreadingHTTPServer(("0.0.0.0", port), Asked)  # noqa: S104  # RunPod asks from outside the container
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def main(arguments: list[str]) -> int:
    """As start.py's: its exit status."""
    import start  # type: ignore[import-not-found]  # beside this file

    listen(int(os.environ["PORT_HEALTH"]), os.environ.get("HEALTH_CHECK_PATH", "/ping"), int(os.environ["PORT"]))
    status: int = start.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
