"""Several machines that share one model on Kubernetes: the containers' own commands, each a process of the real engine.

What is Kubernetes' and LeaderWorkerSet's part, `deploy try` plays here: it tells each host its rank, and starts one
again that has ended.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from deployment import make_report, read_once

from deploy import render
from deploy.targets import start
from serve.cli import _free_port
from tune import checkpoint
from tune.nano import scratch
from tune.recipe import Nano, Recipe
from tune.weights import canary, tokenizer

DATE, KEY = "2026-01-01", "sk-here"
SOON = 240  # seconds for an engine on two busy cores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rendered for two hosts, beside a GPT-OSS that two processes can share."""
    import torch
    from transformers import GenerationConfig, GptOssForCausalLM

    root = tmp_path_factory.mktemp("hosts")
    torch.manual_seed(0)
    model = GptOssForCausalLM(scratch.config(Nano(kind="random", layers=2))).to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=[200002, 199999, 200012], do_sample=True)
    model.save_pretrained(root / "merged")
    tokenizer.build(root / "merged")
    canary.write(root / "merged", DATE)
    inputs = {"adapter": "0" * 64, "base": "0123456789abcdef" * 4}
    facts = {"name": "python-docs", "base": "gpt-oss-20b@0123456789abcdef", "format": "merged", "prompt_date": DATE}
    made = checkpoint.finish(root / "merged", **facts, inputs=inputs, settings={}, figures={})
    told = {"serve": {"max_model_len": 512, "tensor_parallel": 2}}
    told["deploy"] = {"secrets": {"VLLM_API_KEY": "vllm-key"}, "kubernetes": {"hosts": 2}}
    proof = make_report(root / "report.json", made)
    with read_once():
        out = root / "deploy" / "kubernetes"
        render.render("kubernetes", recipe=Recipe.model_validate(told), checkpoint=made.folder, report=proof, out=out)
    return out


def processes(rank):
    """The engine's processes of a host, by number."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            env, words = (entry / "environ").read_bytes().split(b"\0"), (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{start.RANK}={rank}".encode() in env and b"serve.launcher" in words:
            found.append(int(entry.name))
    return sorted(found)


def test_two_hosts_serve_one_model_and_a_lost_one_comes_back(folder):
    port = _free_port("127.0.0.1")
    root = Path(__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "VLLM_API_KEY": KEY}
    command = [sys.executable, "-m", "deploy", "try", folder, "--port", str(port)]
    ask = {"messages": [{"role": "user", "content": "What is a list?"}], "max_tokens": 8, "model": "python-docs"}

    def answer(**headers):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return httpx.post(url, json=ask, headers=headers, timeout=60, trust_env=False)

    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as tried:
        try:
            assert tried.stdout
            assert any(f"127.0.0.1:{port}/v1" in line for line in tried.stdout)  # ends with the process
            assert answer().status_code == 401
            first = answer(authorization=f"Bearer {KEY}")
            assert first.status_code == 200, first.text
            lost = processes(rank=1)
            assert lost
            for process in lost:
                os.kill(process, signal.SIGKILL)
            deadline = time.monotonic() + SOON
            while time.monotonic() < deadline:
                if set(processes(rank=1)) - set(lost) and answer(authorization=f"Bearer {KEY}").status_code == 200:
                    break
                time.sleep(0.5)
            else:
                pytest.fail("the two do not serve again")
        finally:
            tried.terminate()
        tried.stdout.read()
        assert tried.wait(timeout=90) == 0
    assert [processes(rank) for rank in (0, 1)] == [[], []]
