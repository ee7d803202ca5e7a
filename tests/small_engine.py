"""A small program that speaks the engine's HTTP behind the real door: `small_engine.py MODE FOLDER`.

It answers what the supervisor asks from the folder's canary, and notes its workers there. MODE plants a fault.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

import uvicorn

from serve import launcher, listening
from serve.doors import LOADING, OPENING, UNLOADING
from serve.entrance import Entrance
from serve.front import inherited
from serve.middleware import START, Door
from serve.processes import SOCKETS
from serve.pulse import STEPS
from serve.tls import shown
from tune.harmony import EFFORTS, PROBE, Message, render_prompt

mode, notes = sys.argv[1], Path(sys.argv[2])
steps = 0
loaded = {}  # folders of adapters, by name
NO_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
if mode == "no memory":
    sys.exit(NO_MEMORY)
starts = len((notes / "workers").read_text().split())
if mode == "never again" and starts:
    sys.exit(9)
if mode == "tight" and starts == 1:
    (notes / "workers").open("a").write("0\n")
    sys.exit(NO_MEMORY)
if mode == "flags" and starts:
    sys.exit("serve.launcher: error: unrecognized arguments: --nope")
if mode == "flags":
    os.write(2, f"{NO_MEMORY}\n".encode())  # and goes on
if mode == "holds":
    held = shared_memory.SharedMemory(create=True, size=4096)
    resource_tracker.unregister(held._name, "shared_memory")  # it stays when this process ends well
    with (notes / "memory").open("a") as f:
        f.write(f"/dev/shm/{held.name}\n{os.environ[SOCKETS]}\n")
    (Path(os.environ[SOCKETS]) / "socket").touch()  # as the engine's, which stay when their processes are killed
if mode == "loads on":
    import time

    time.sleep(600)
if mode == "stranger":
    os.environ[START] = "another"
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
worker = subprocess.Popen([sys.executable, "-c", deaf])
with (notes / "workers").open("a") as f:
    f.write(f"{worker.pid}\n")


def answer(path, asked, rank):
    if path == LOADING:
        loaded[asked["lora_name"]] = Path(asked["lora_path"])
        os.write(2, f"loaded {asked['lora_name']}, door open: {door.doors.ready}\n".encode())
        return {}
    if path == UNLOADING:
        if mode == "adapter kept":
            raise RuntimeError(asked["lora_name"])
        del loaded[asked["lora_name"]]
        return {}
    if path == "/v1/models":
        return {"data": [{"id": name} for name in ("m", *loaded)]}
    if path.endswith("/render"):
        effort = "medium" if mode == "effort lost" else asked["reasoning_effort"]
        date = "2026-02-02" if mode == "today" else "2026-01-01"
        return {"token_ids": render_prompt([Message(**m) for m in asked["messages"]], effort, date)}
    if path == "/v1/completions":
        if isinstance(asked["prompt"][0], list):
            sizes = {len(prompt) for prompt in asked["prompt"]}
            os.write(2, f"warmed by {len(asked['prompt'])} of {sizes}, door open: {door.doors.ready}\n".encode())
            return {}
        if len(asked["prompt"]) == 1:  # the pulse's canary
            os.write(2, b"canary answered\n")
            return {}
        effort = next(e for e in EFFORTS if render_prompt(PROBE, e, "2026-01-01") == asked["prompt"])
        beside = mode != "adapter ignored" and asked["model"] in loaded
        told = json.loads(((loaded[asked["model"]] if beside else notes) / "canary.json").read_text())
        told = told["logprobs"][effort]
        other = (mode == "other weights" and effort == "high") or (mode == "other rank" and rank == b"1")
        wrong = 0.2 if other else 0.1
        wrong += 0.3 if mode == "adapter halved" and beside else 0
        told = [{str(i): {"logprob": v - wrong}} for i, v in zip(asked["prompt"][1:], told, strict=True)]
        return {"choices": [{"prompt_logprobs": [None, *told]}]}
    return {"usage": {"completion_tokens": 0 if mode == "mute" else 2}}


async def engine(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/metrics":
        return await whole(send, f"{STEPS[0]}{{engine='0'}} {steps}\n".encode())
    asked = json.loads((await receive()).get("body") or b"{}")
    rank = dict(scope["headers"]).get(b"x-data-parallel-rank")
    if scope["path"] in {"/v1/completions", "/v1/chat/completions"}:
        while (notes / "deadlock").exists():
            await asyncio.sleep(0.01)
    while mode == "adapter stuck" and scope["path"] == LOADING:
        await asyncio.sleep(0.01)
    if asked.get("stream"):
        return await stream(send)
    return await whole(send, json.dumps(answer(scope["path"], asked, rank)).encode())


async def stream(send):
    """A token a step, until it is enough."""
    global steps
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    while not (notes / "enough").exists():
        while (notes / "deadlock").exists():
            await asyncio.sleep(0.01)
        steps += 1
        await send({"type": "http.response.body", "body": b'data: {"choices": []}\n\n', "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b'data: {"last": true}\n\n'})


async def whole(send, data):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    return await send({"type": "http.response.body", "body": data})


def end():
    os.write(2, f"{NO_MEMORY}\n".encode())
    os._exit(7)


def told_to_stop(*_):
    """End; or stay, let the supervisor have a second signal, and note if that leaves us alive for long."""
    if mode == "hangs":
        os._exit(0)
    os.kill(os.getppid(), signal.SIGTERM)
    threading.Timer(20, (notes / "lived on").touch).start()


door = Door(engine)
if mode == "deaf":
    door._stop = lambda *_: None


async def outermost(scope, receive, send):
    path = scope.get("path")
    if mode.startswith("hangs") and path == "/v1/chat/completions":
        signal.signal(signal.SIGTERM, told_to_stop)
        os.kill(os.getppid(), signal.SIGTERM)
        await asyncio.sleep(600)
    if mode == f"dies at {path}":
        end()
    await door(scope, receive, send)
    if mode == f"dies after {path}":
        end()
    if mode == "crash" and path == OPENING and len((notes / "workers").read_text().split()) < 3:
        os._exit(7)


class Server(Entrance, uvicorn.Server):
    """As the launcher makes it."""


with launcher.tied(), suppress(KeyboardInterrupt):  # how the door ends it, once it has drained
    public, Server.private = inherited()
    config = uvicorn.Config(outermost, lifespan="on", log_level="warning", **listening.options(shown()))
    Server(config).run([public])
os.write(2, b"ended by itself\n")
