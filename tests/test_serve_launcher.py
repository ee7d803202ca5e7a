"""What the engine makes of our command line, without a model: its own parser, application and HTTP server."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from test_serve_body import CHAT_TOOLS
from test_serve_command import FOUND

from serve import command, front, processes
from serve.command import Options
from serve.middleware import SECRET

ROOT = Path(__file__).parent.parent


def program(code, port=0):
    """A Python program that reads serve's command line as the engine would; argv and environment are serve's."""
    built = command.build(FOUND, Options(port=port), device="cpu", kv_bytes=2**27, cores=2)
    env = {**os.environ, **built.env, SECRET: "s", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return [sys.executable, "-c", code, *built.argv[3:]], env


PARTS = """
import asyncio, json, sys
import httpx
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
from serve.doors import OPENING, SECRET_HEADER

args = make_arg_parser(FlexibleArgumentParser()).parse_args()
validate_parsed_serve_args(args)
app, got = build_app(args, ("generate",)), []

class Model:
    async def create_chat_completion(self, request, raw):
        got.append(request.model_dump(mode="json", exclude_unset=True))
        return ErrorResponse(error=ErrorInfo(message="no model", type="t", code=418))

app.state.openai_serving_chat, app.state.enable_server_load_tracking = Model(), False

async def ask():
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as http:
        chat = {"url": "/v1/chat/completions", "json": json.loads(sys.stdin.read())}
        closed = await http.post(**chat)
        opened = await http.post(OPENING, headers={SECRET_HEADER.decode(): "s"})
        return [closed.status_code, opened.status_code, (await http.post(**chat)).status_code]

print(json.dumps({
    "statuses": asyncio.run(ask()),
    "got": got,
    "tools": args.enable_auto_tool_choice,
    "parser": ToolParserManager.get_tool_parser(args.tool_call_parser).__name__,
    "reasoning": ReasoningParserManager.get_reasoning_parser(args.reasoning_parser).__name__,
}))
"""


@pytest.fixture(scope="module")
def parts():
    argv, env = program(PARTS)
    done = subprocess.run(argv, env=env, input=json.dumps(CHAT_TOOLS), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_engine_finds_the_parsers_that_it_is_told_and_may_call_tools(parts):
    assert parts["tools"] is True
    assert "GptOss" in parts["parser"]
    assert "GptOss" in parts["reasoning"]


def test_the_engines_application_stands_behind_the_door(parts):
    assert parts["statuses"] == [503, 200, 418]


def test_the_engine_reads_tools_as_they_were_sent(parts):
    assert parts["got"] == [{**CHAT_TOOLS, "reasoning_effort": "medium"}]


# The launcher and the engine's server as they are; in place of its model and routes one stream that never ends.
ENDLESS = """
import asyncio, contextlib
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from vllm.entrypoints.launchers.api_server import entry
from serve import entrance, launcher

app = FastAPI()

@app.get("/open")
async def opened():
    for each in entrance.here():
        await each.open()

@app.get("/stream")
async def stream():
    async def pieces():
        while True:
            yield "x"
            await asyncio.sleep(0.05)
    return StreamingResponse(pieces())

class Model:
    model_config = None
    errored = False
    async def get_supported_tasks(self):
        return ("generate",)

@contextlib.asynccontextmanager
async def model(*_, **__):
    yield Model()

async def state(engine, state, *_):
    state.engine_client = None

entry.build_async_engine_client, entry.build_app, entry.init_app_state = model, lambda *_: app, state
launcher.GRACE = 1
launcher.main()
"""


def test_a_stream_that_never_ends_does_not_keep_the_engine(tmp_path):
    """At both sockets of the supervisor, which never close under it: everybody's, and its own."""
    public, private = (front.listen("127.0.0.1", 0) for _ in range(2))
    sockets = [s.fileno() for s in (public, private)]
    argv, env = program(ENDLESS)
    env[front.SOCKETS] = ",".join(map(str, sockets))
    with (tmp_path / "log").open("wb") as log:
        engine = subprocess.Popen(argv, env=env, stdout=log, stderr=log, pass_fds=sockets)
    try:
        with httpx.Client(verify=False, trust_env=False, timeout=60) as client, ExitStack() as streams:
            for each in (private, public):
                if each is public:  # as the door does, for everybody
                    client.get(f"http://127.0.0.1:{private.getsockname()[1]}/open")
                url = f"http://127.0.0.1:{each.getsockname()[1]}/stream"
                answer = streams.enter_context(client.stream("GET", url))
                assert next(answer.iter_text()), (tmp_path / "log").read_text()[-3000:]
            engine.send_signal(signal.SIGINT)  # as the door ends it, after its drain
            engine.wait(timeout=60)
    finally:
        engine.kill()
        public.close()
        private.close()


def test_an_engine_whose_supervisor_went_before_it_was_there_ends():
    """Killed while the engine imported: by then its parent is another process, which must not be taken for ours."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT), processes.SUPERVISOR: gone.stdout.decode().strip()}
    code = "import time; from serve import launcher\nwith launcher.tied(): time.sleep(600)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "the supervisor has gone" in done.stderr


KILLED = """
import os, signal, time
from multiprocessing import get_context
from serve import launcher

def dies(number):
    os.kill(os.getpid(), number)
    time.sleep(60)

if __name__ == "__main__":
    started = launcher._note_started()
    for name, number in (("EngineCore", 9), ("Worker", 15)):
        process = get_context("fork").Process(target=dies, args=(number,), name=name)
        process.start()
        process.join()
    launcher._tell_killed(started)
"""


def test_a_core_that_is_killed_is_told_of_by_name_and_signal():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == "serve.launcher: EngineCore was ended by SIGKILL\n"
