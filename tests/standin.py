"""A stand-in for the engine, behind the real door: `standin.py MODEL_FOLDER [MODE]`.

It answers what the supervisor asks as the checkpoint's own engine would, from the folder's canary. MODE plants a fault:
"dies" before it listens, "today" renders another date, "other" answers as other weights would; a path: it loads until
something is there.
"""

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import uvicorn

import tune.checkpoint
from serve import listening
from serve.entrance import Entrance
from serve.front import inherited
from serve.middleware import Door
from serve.tls import shown
from tune.harmony import EFFORTS, PROBE, Message, render_prompt

folder, mode = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
date = os.environ["VLLM_SYSTEM_START_DATE"]
os.write(1, f"started {tune.checkpoint.__file__} {date}\n".encode())
if mode == "dies":
    sys.exit(7)
while mode.startswith("/") and not Path(mode).exists():
    time.sleep(0.05)


def answer(path, asked):
    if path.endswith("/render"):
        shown = "2026-02-02" if mode == "today" else date
        return {"token_ids": render_prompt([Message(**m) for m in asked["messages"]], asked["reasoning_effort"], shown)}
    if path == "/v1/completions":
        effort = next(e for e in EFFORTS if render_prompt(PROBE, e, date) == asked["prompt"])
        told = json.loads((folder / tune.checkpoint.CANARY).read_text())["logprobs"][effort]
        apart = 9 if mode == "other" else 0
        return {"choices": [{"prompt_logprobs": [None, *_told(asked["prompt"], told, apart)]}]}
    return {"usage": {"completion_tokens": 2}}


def _told(ids, values, apart):
    return [{str(i): {"logprob": v - apart}} for i, v in zip(ids[1:], values, strict=True)]


async def engine(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    body = (await receive()).get("body") or b"{}"
    data = json.dumps(answer(scope["path"], json.loads(body))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    return await send({"type": "http.response.body", "body": data})


class Server(Entrance, uvicorn.Server):
    """As the launcher makes it."""


with suppress(KeyboardInterrupt):  # how the door ends it, once it has drained
    public, Server.private = inherited()
    config = uvicorn.Config(Door(engine), lifespan="on", log_level="warning", **listening.options(shown()))
    Server(config).run([public])
os.write(1, b"ended\n")
