"""What a GPU's memory holds of GPT-OSS, as `deploy plan` and `serve preflight` reckon it, against what vLLM reports.

    python benchmarks/memory_seen.py OUT [--case 20b:mxfp4:8192 ...] [--gpu H200] [-- FLAGS]

A case is a published shape, the weights' format and the longest request. Each starts vLLM once with made-up weights
(--load-format dummy), told what a deployment tells it, reads its log, and ends it. FLAGS go to the engine and into the
reckoning. `all but the cache` is the engine's share of the GPU less the cache that it offers. Logs stay in OUT. Run it
on a GPU that nothing else uses. Prints a table; the last columns are reckoned over seen.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
from random_base import config

from deploy.spec import TUNING
from serve import engine_flags, memory
from serve.machine import kernel, sizes
from serve.memory import GIB
from tune.weights import tensors, tokenizer

CASES = ("20b:mxfp4:8192", "20b:mxfp4:131072", "20b:merged:8192", "120b:mxfp4:8192", "120b:mxfp4:131072")
SEEN = {
    "weights": r"Model loading took ([\d.]+) GiB",
    "cache": r"Available KV cache memory: ([\d.]+) GiB",
    "graphs": r"Graph capturing finished in \d+ secs, took ([\d.]+) GiB",
    "requests": r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x",
}
READY = "Application startup complete"


class Reckoned(NamedTuple):
    """GiB, and full-length requests."""

    weights: float
    around: float
    cache: float
    requests: float


def reckoned(like: str, form: str, tokens: int, gpu: str, flags: tuple[str, ...]) -> Reckoned:
    """What our own commands say."""
    shape = tensors.shape_of(config(like, None))
    stored = tensors.tensors(shape, "mxfp4" if form == "mxfp4" else "merged")
    tuning = engine_flags.read((*TUNING, *flags)).model_copy(update={"kernel": kernel(gpu)})
    need = memory.need(shape, stored, tuning, tokens)
    fit = memory.fit(need, sizes()[gpu], tuning)
    return Reckoned(need.weights / GIB, need.overhead / GIB, fit.room / GIB, fit.room / need.kv_request)


def seen(folder: Path, like: str, form: str, tokens: int, flags: tuple[str, ...], log: Path) -> dict[str, float]:
    """What vLLM says."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = config(like, None)
    if form != "mxfp4":
        del settings["quantization_config"]
    (folder / "config.json").write_text(json.dumps(settings))
    tokenizer.build(folder)
    module = "vllm.entrypoints.launchers.api_server.entry"
    told = ["--load-format", "dummy", "--max-model-len", str(tokens), "--port", "8790", *TUNING, *flags]
    argv = [sys.executable, "-m", module, "--model", str(folder), *told]
    with log.open("w") as out:
        engine = subprocess.Popen(argv, stdout=out, stderr=out, env={**os.environ, "VLLM_NO_USAGE_STATS": "1"})
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and engine.poll() is None and READY not in log.read_text():
        time.sleep(1)
    engine.terminate()
    engine.wait()
    text = log.read_text()
    found = {name: re.findall(pattern, text) for name, pattern in SEEN.items()}
    return {name: float(values[-1]) for name, values in found.items() if values}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--case", "cases", multiple=True, default=CASES, show_default=True)
@click.option("--gpu", default="H200", show_default=True)
@click.argument("flags", nargs=-1)
def main(out: Path, cases: tuple[str, ...], gpu: str, flags: tuple[str, ...]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names = ("weights", "all but the cache", "cache", "requests")
    print(f"| shape | {' | '.join(f'{n}: reckoned | seen' for n in names)} | graphs seen | ratios |")
    print("|---|" + "--:|" * (2 * len(names) + 2))
    usable = engine_flags.read((*TUNING, *flags)).utilisation * sizes()[gpu]
    for case in cases:
        like, form, tokens = case.split(":")
        mine = reckoned(like, form, int(tokens), gpu, flags)
        real = seen(out / case.replace(":", "-"), like, form, int(tokens), flags, out / f"{case.replace(':', '-')}.log")
        if missing := SEEN.keys() - real.keys() - {"graphs"}:
            print(f"| {case} | the engine did not say {', '.join(sorted(missing))}: see its log |", flush=True)
            continue
        pairs = (
            (mine.weights, real["weights"]),
            (mine.weights + mine.around, usable / GIB - real["cache"]),
            (mine.cache, real["cache"]),
            (mine.requests, real["requests"]),
        )
        cells = " | ".join(f"{a:.2f} | {b:.2f}" for a, b in pairs)
        ratios = ", ".join(f"{a / b:.3f}" for a, b in pairs)
        print(f"| {case} | {cells} | {real.get('graphs', 0):.2f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
