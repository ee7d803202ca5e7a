"""A trained adapter beside its base on the real engine: one URL, two models, told apart by words and by digest."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine
import httpx
import pytest

from evalsuite.asking import check
from evalsuite.asking.endpoint import Endpoint, client
from serve import probe
from tune import checkpoint
from tune.harmony import EFFORTS, PROBE, render_prompt

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def served(story, tmp_path_factory):
    """`serve run` of the nano with its adapter, raw completions open, and the adapter's checkpoint."""
    story.run("tune export --format lora")
    work = story.folder / "work"
    os.environ.setdefault("OPENAI_API_KEY", engine.KEY)
    log = tmp_path_factory.mktemp("logs") / "adapters.log"
    started = engine.start(work / "nano", "--adapter", f"mine={work / 'lora'}", "--raw-completions", log=log)
    try:
        yield started.ready(), checkpoint.read(work / "lora"), work
        engine.stop(started)
    finally:
        if started.process.poll() is None:
            started.process.terminate()
            started.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def http(served):
    with probe.client(served[0].url, os.environ["OPENAI_API_KEY"], timeout=120) as http:
        yield http


def ask(http, model):
    body = {"model": model, "messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 2}
    answer = http.post("/v1/chat/completions", json=body).raise_for_status()
    return answer.headers["x-model-digest"], answer.json()["model"]


def cli(served, *words):
    port = str(httpx.URL(served[0].url).port)
    out = subprocess.run(
        [sys.executable, "-m", "serve", "adapters", *words, "--port", port], capture_output=True, text=True, check=False
    )
    return out.returncode, out.stdout + out.stderr


def test_both_are_listed_and_each_answer_has_its_model_s_digest(served, http):
    server, adapter, work = served
    base = checkpoint.read(work / "nano")
    assert server.models == ["nano", base.served_name, "mine", f"mine@{adapter.digest[:16]}"]
    listed = {card["id"]: card["digest"] for card in http.get("/v1/models").json()["data"]}
    assert list(listed) == server.models
    for name in server.models:
        assert ask(http, name)[0] == listed[name] == (adapter if name.startswith("mine") else base).digest
    assert ask(http, "mine:high")[1] == "mine:high"


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_engine_says_under_the_adapter_s_name_what_base_and_adapter_say_together(served, http, effort):
    _, adapter, work = served
    ids = render_prompt(PROBE, effort, adapter.prompt_date)
    canary = checkpoint.canary(adapter)
    mine, base = (probe.prompt_logprobs(http, name, ids) for name in ("mine", "nano"))

    def apart(one, other):
        return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)

    assert apart(mine, base) > 0
    assert apart(mine, canary.logprobs[effort]) <= max(probe.FLOOR, probe.FACTOR * canary.rounding)
    assert apart(base, checkpoint.canary(checkpoint.read(work / "nano")).logprobs[effort]) <= probe.FLOOR


def test_evalsuite_tells_the_two_apart_at_one_url(served):
    server, adapter, _ = served
    env = "OPENAI_API_KEY"
    arms = {arm: Endpoint(url=server.url, model=m, key_env=env) for arm, m in (("base", "nano"), ("tuned", "mine"))}

    async def look():
        async with client(arms["base"]) as base, client(arms["tuned"]) as tuned:
            return await check.check({"base": base, "tuned": tuned}, arms, ["low"], lambda _: None)

    found = asyncio.run(look())
    assert (found["base"].header, found["tuned"].header) == (server.digest, adapter.digest)


def test_it_goes_and_comes_and_is_there_again_after_a_crash(served, http):
    server, adapter, work = served
    assert cli(served, "remove", "mine")[0] == 0
    gone = http.post("/v1/chat/completions", json={"model": "mine", "messages": [{"role": "user", "content": "2+2?"}]})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert "mine" not in {card["id"] for card in http.get("/v1/models").json()["data"]}
    code, said = cli(served, "add", str(work / "nano"), "--name", "mine")
    assert (code, "holds no adapter" in said) == (2, True)
    code, said = cli(served, "add", str(work / "lora"), "--name", "again")
    assert code == 0, said
    assert ask(http, "again")[0] == adapter.digest
    before = http.get("/v1/models").headers["x-serve-start"]
    (launched,) = [
        pid for pid in engine.children(server.pid) if os.getpgid(pid) == pid and b"launcher" in _command(pid)
    ]
    os.kill(launched, signal.SIGKILL)
    deadline = time.monotonic() + 600
    while _start(http) in {"", before}:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert ask(http, "again")[0] == adapter.digest
    listed = json.loads(next(line for line in cli(served, "list", "--json")[1].splitlines() if line.startswith("{")))
    assert [a["name"] for a in listed["adapters"]] == ["again"]


def _start(http):
    """Which start answers; nothing while none does: the killed engine takes its connections with it."""
    try:
        answer = http.get("/v1/models")
    except httpx.TransportError:
        return ""
    return answer.headers["x-serve-start"] if answer.status_code == 200 else ""


def _command(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()
