"""The real server for tests: a random GPT-OSS of the smallest size that serves, and `serve run` around it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tune import checkpoint
from tune.checkpoint import Checkpoint

KEY = "sk-test-0123456789"  # what running_server asks of clients
DATE = "2026-01-01"


class Server(NamedTuple):
    """A running `serve run`: `url` ends in /v1; `models` are the plain name and name@digest16."""

    url: str
    models: list[str]
    digest: str
    log: Path
    pid: int


def random_checkpoint(folder: Path) -> Checkpoint:
    """A whole checkpoint folder with the real tokenizer and random weights (about 15 s)."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    from tune import tokenizer

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=201_088,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=128,
        max_position_embeddings=4096,
        eos_token_id=200_002,
        pad_token_id=199_999,
        dtype="bfloat16",
    )
    GptOssForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    ends = {"eos_token_id": [200_002, 199_999, 200_012], "pad_token_id": 199_999, "bos_token_id": 199_998}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    tokenizer.build(folder)
    facts = {"name": "random", "base": "random", "format": "merged", "prompt_date": DATE}
    return checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})


@contextmanager
def running_server(folder: Path, *options: str, key: str = KEY, log: Path | None = None) -> Iterator[Server]:
    """`serve run FOLDER` on a free port, ready; stopped at the end, with a check that no process is left.

    Sets OPENAI_API_KEY meanwhile, so that a plain `openai.OpenAI(base_url=url)` works.
    """
    log = log or folder.parent / f"serve-{folder.name}.log"
    before = os.environ.get("OPENAI_API_KEY")
    os.environ["OPENAI_API_KEY"] = key
    command = [sys.executable, "-m", "serve", "run", str(folder), "--port", "0", "--json", "--log", str(log)]
    command += ["--api-key-env", "OPENAI_API_KEY", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"serve run failed: {process.communicate()[1]}")
        facts = json.loads(line)
        group = children(process.pid)
        yield Server(facts["url"], facts["models"], facts["digest"], log, process.pid)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert group, "the server had no engine process"
        left = [pid for pid in group if Path(f"/proc/{pid}").exists()]
        assert not left, f"processes outlived the server: {left}"
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)
        del os.environ["OPENAI_API_KEY"]
        if before is not None:
            os.environ["OPENAI_API_KEY"] = before


def children(pid: int) -> Sequence[int]:
    """Every process below one, from /proc."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it ended while we looked
        below.setdefault(parent, []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        todo += (mine := below.get(todo.pop(), []))
        found += mine
    return found
