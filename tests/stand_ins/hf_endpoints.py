"""The API of Hugging Face Inference Endpoints on this machine, as huggingface_hub 1.33 asks it, and it can fail.

Written after the library's requests and what it reads of answers. It refuses a body that lacks what an endpoint needs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

NEEDED = ("compute.accelerator", "compute.instanceSize", "compute.instanceType", "compute.scaling.minReplica",
          "compute.scaling.maxReplica", "model.framework", "model.repository", "model.image", "provider.region",
          "provider.vendor", "name", "type")  # fmt: skip
START = ("pending", "initializing", "running")


@dataclass
class Api:
    """`faults`: by method, the statuses and messages of its next answers. `states`: those of an endpoint that starts,
    one a look. `asked`: method and path of each request; `bodies`: what came with them."""

    url: str = ""
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    moving: dict[str, list[str]] = field(default_factory=dict)
    states: tuple[str, ...] = START
    message: str = "Endpoint is ready"
    faults: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    hardware: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        self.tokens.add(token)
        if body is not None:
            self.bodies.append(body)
        if waiting := self.faults.get(method):
            status, said = waiting.pop(0)
            return status, {"error": said}
        if path.startswith("/v2/provider/"):
            return 200, {"vendors": self.hardware}
        _, _, kind, owner, *rest = path.split("/")
        if kind != "endpoint":
            return 404, {"error": "no such route"}
        if method == "POST" and not rest:
            return self.create(owner, body)
        key = f"{owner}/{rest[0]}"
        if key not in self.endpoints:
            return 404, {"error": "endpoint not found"}
        return self.known(method, key, rest[1:], body)

    def create(self, owner: str, body: Any) -> tuple[int, Any]:
        for needed in NEEDED:
            found = body
            for part in needed.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is None:
                return 400, {"error": f"{needed} is missing"}
        key = f"{owner}/{body['name']}"
        if key in self.endpoints:
            return 409, {"error": "an endpoint of that name exists"}
        when = {"createdAt": "2026-11-28T10:00:00Z", "updatedAt": "2026-11-28T10:00:00Z"}
        told = {"state": "pending", "message": "", "readyReplica": 0, "targetReplica": 1, **when}
        model = {"task": "custom", **body["model"]}
        self.endpoints[key] = {**body, "model": model, "status": told, "healthRoute": "/readyz"}
        self.moving[key] = [*self.states]
        return 200, self.endpoints[key]

    def known(self, method: str, key: str, verb: list[str], body: Any) -> tuple[int, Any]:
        there = self.endpoints[key]
        told = there["status"]
        if method == "DELETE":
            del self.endpoints[key]
            return 200, {}
        if method == "PUT":
            for part in ("compute", "model"):
                there[part] = {**there[part], **body.get(part, {})}
            if told["state"] not in ("paused", "scaledToZero"):
                self.moving[key] = ["updating", *self.states[1:]]
        if verb == ["pause"]:
            told["state"], self.moving[key] = "paused", []
        if verb == ["resume"]:
            self.moving[key] = [*self.states]
        if verb == ["scale-to-zero"]:
            told["state"], self.moving[key] = "scaledToZero", []
        if self.moving[key]:
            told["state"] = self.moving[key].pop(0)
        if told["state"] == "running":
            told |= {"url": "https://abc.us-east-1.aws.endpoints.huggingface.cloud", "readyReplica": 1}
        if told["state"] in ("failed", "updateFailed", "running"):
            told["message"] = self.message
        return 200, there


def lent(vendor: str, region: str, type: str, size: str, **more: Any) -> dict[str, Any]:
    """What the API says of one kind of machine, in its place."""
    machine = {"id": "x", "accelerator": "gpu", "instanceType": type, "instanceSize": size, "architecture": "GPU",
               "numAccelerators": int(size[1:]), "numCpus": 8, "memoryGb": 32, "gpuMemoryGb": 80, "pricePerHour": 9.5,
               "status": "available", "quota": {"maxAccelerators": 4, "usedAccelerators": 0}, **more}  # fmt: skip
    return {"name": vendor, "regions": [{"name": region, "computes": [machine]}]}


@contextmanager
def serve() -> Iterator[Api]:
    """The API on loopback; its `url` ends in /v2."""
    api = Api()

    class Door(BaseHTTPRequestHandler):
        def do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, said = api.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status >= 400:
                self.send_header("X-Error-Message", said["error"].replace("\n", " "))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_address[1]}/v2"
        yield api
        server.shutdown()
        thread.join()
