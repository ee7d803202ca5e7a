"""Seconds of `serve preflight --no-digests` on gpt-oss-120b's files: python benchmarks/preflight_time.py

15 shards of the true sizes and with true headers, whose weights are holes: nothing is written to the disk but headers
and the tokenizer. Each run is a process of its own; the first one judges the tokenizer, the others find it known.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from checkpoints import CONFIG, GPT_OSS, fill, write_index, write_weights

from tune import checkpoint
from tune.weights.tensors import expected

RUNS, SHARDS = 7, 15

with tempfile.TemporaryDirectory() as name:
    folder = fill(Path(name) / "large", "mxfp4", **GPT_OSS["openai/gpt-oss-120b"].model_dump(exclude_none=True))
    (folder / "model.safetensors").unlink()
    tensors = expected(CONFIG | json.loads((folder / "config.json").read_text()))
    files = [f"model-{n:05}-of-{SHARDS:05}.safetensors" for n in range(1, SHARDS + 1)]
    placed = {tensor: files[n * SHARDS // len(tensors)] for n, tensor in enumerate(sorted(tensors))}
    write_index(folder, placed)
    for file in files:
        (folder / file).touch()  # digested empty: their digests are left out below
    facts = {"name": "large", "base": "b@1", "format": "mxfp4", "prompt_date": "2026-01-01"}
    checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})
    for file in files:
        write_weights(folder / file, {t: tensors[t] for t, at in placed.items() if at == file})
    os.environ["XDG_CACHE_HOME"] = name  # nothing is known yet
    command = [sys.executable, "-m", "serve", "preflight", str(folder), "--no-digests", "--gpu", "H200"]
    seconds, busy = [], []
    for _ in range(RUNS + 1):
        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        done = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(time.perf_counter() - began)
        busy.append(done.ru_utime + done.ru_stime - used.ru_utime - used.ru_stime)
    print(said)
    print(f"first {seconds[0]:.2f} s ({busy[0]:.2f} s of processor), which judges the tokenizer")
    wall, cpu = statistics.median(seconds[1:]), statistics.median(busy[1:])
    print(f"then {wall:.2f} s ({cpu:.2f} s of processor), median of {RUNS}")
