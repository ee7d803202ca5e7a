"""What stands on both sides of the worker of a RunPod queue: a server that answers, and the platform's job channels."""

import json
import os
import queue
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
SDK = Path(os.environ.get("GPTOSS_RUNPOD", ROOT / ".venv-runpod/bin/python"))
needs_sdk = pytest.mark.skipif(
    not SDK.exists(), reason="RunPod's SDK has an environment of its own: make .venv-runpod/.ready"
)
DONE = "data: [DONE]\n\n"


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def whole(self, status, data, kind="application/json"):
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def listening(handler, **state) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.__dict__.update(state, url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Upstream(Quiet):
    """Answers as the `model` of a body says."""

    def do_GET(self):
        self.server.asked.append((self.path, None, self.headers.get("authorization", "")))
        self.whole(200, {"object": "list", "data": [{"id": "m"}]})

    def do_POST(self):
        told = json.loads(self.body())
        self.server.asked.append((self.path, told, self.headers.get("authorization", "")))
        mode = told["model"]
        if mode == "refuses":
            return self.whole(400, {"error": {"message": "no such effort", "code": "invalid_effort"}})
        if mode == "html":
            return self.whole(502, b"<html>gone</html>", "text/html")
        if mode == "plain":
            return self.whole(200, {"choices": [{"message": {"content": "3 \u00e9"}}]})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.stream(mode)
        except OSError:
            self.server.left.set()
        self.close_connection = True
        return None

    def stream(self, mode):
        event = 'data: {"delta": "\u00e9"}\n\n'.encode()
        self.piece(event[:17])  # within the letter
        self.piece(event[17:])
        if mode == "waits":
            self.server.came.set()
            while not self.server.go.is_set():
                self.piece(b": still\n\n")
                time.sleep(0.02)
        if mode == "breaks":
            return self.wfile.write(b"ffff\r\ndata: {")  # a chunk that is never whole
        if mode != "cut":
            self.piece(DONE.encode())
        return self.wfile.write(b"0\r\n\r\n")

    def piece(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


@contextmanager
def upstream():
    events = {name: threading.Event() for name in ("came", "go", "left")}
    with listening(Upstream, asked=[], **events) as server:
        try:
            yield server
        finally:
            server.go.set()


class Platform(Quiet):
    """The three channels of a worker: jobs to take, jobs to stop, what came out."""

    def do_GET(self):
        channel = self.server.jobs if "/job-take" in self.path else self.server.stops
        try:
            given = channel.get(timeout=0.2)
        except queue.Empty:
            self.send_response(204)
            self.send_header("content-length", "0")
            return self.end_headers()
        if "batch" in self.path and isinstance(given, dict) and "id" in given:
            given = [given]
        return self.whole(200, given)

    def do_POST(self):
        kind, _, job = self.path.partition("?")[0].strip("/").partition("/")
        self.server.results.put((kind, job, json.loads(self.body())))
        self.whole(200, {})


@contextmanager
def platform():
    channels = {name: queue.Queue() for name in ("jobs", "stops", "results")}
    with listening(Platform, **channels) as server:
        yield server


def environment(platform):
    """What RunPod tells a worker."""
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{platform.url}/job-take/$ID?gpu=x",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{platform.url}/done/$ID?gpu=x",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{platform.url}/stream/$ID?gpu=x",
        "RUNPOD_POD_ID": "worker-1",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",  # of its disk, memory and network
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }


def free_port():
    """Of those that the system gives to nobody by itself: what is free stays free until it is taken here."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def worker(folder, *arguments, **env):
    """handler.py of a folder as its container runs it; ended at the end."""
    whole = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUNBUFFERED": "1", **env}
    process = subprocess.Popen(
        [SDK, folder / "handler.py", *arguments], env=whole, stdout=-1, stderr=subprocess.STDOUT, text=True, cwd="/"
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def served(folder, **env):
    """The worker with RunPod's own local API in front; a function that sends it a job."""
    port = free_port()
    arguments = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
    with worker(folder, *arguments, **env) as process, httpx.Client(trust_env=False, timeout=120) as client:

        def run(**job):
            return client.post(f"http://127.0.0.1:{port}/runsync", json={"input": job}).json()

        while True:
            try:
                client.get(f"http://127.0.0.1:{port}/openapi.json")
                break
            except httpx.TransportError:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.05)
        yield run
