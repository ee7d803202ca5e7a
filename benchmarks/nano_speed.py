"""Tokens per second of training the nano base model: compact vocabulary against the full one.

    python benchmarks/nano_speed.py [WORK]      WORK: a project's work folder with pages in it (default: work)

Prints one JSON line. Both train the default shape on the same batches; the naive one differs in its vocabulary alone.
"""

import json
import platform
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from transformers import GptOssForCausalLM

from tune import harmony
from tune.data import page
from tune.evaluate import Evaluate
from tune.harmony import Rendered
from tune.nano import conversations, scratch, training
from tune.recipe import Dataset, Nano

STEPS, NAIVE_STEPS = 30, 4


@training.one_thread()
def tokens_per_second(rows: Sequence[Rendered], used: Sequence[int], steps: int) -> float:
    """Of `steps` steps, the first of a run left out: it warms the kernels up."""
    seen: list[tuple[float, int]] = []
    shape = Nano(kind="random")

    def note(_: str) -> None:
        seen.append((time.monotonic(), len(seen)))

    model = GptOssForCausalLM(training.compact(scratch.config(shape), used))
    curve = training.train(
        model,
        rows,
        used,
        steps=steps,
        batch_tokens=shape.batch_tokens,
        learning_rate=shape.learning_rate,
        seed=0,
        added=training.offset(used),
        report=note,  # called at every step of a run of 20 steps or fewer, else of every `steps // 20`-th
    )
    return (curve[-1].tokens - curve[0].tokens) / (seen[-1][0] - seen[0][0])


def main() -> None:
    work = Path(sys.argv[1] if len(sys.argv) > 1 else "work")
    pages = page.read(work / "pages" / "pages.jsonl")
    endless = conversations.rendered(pages, Evaluate().answer_rule, Dataset().date, seed=0)
    rows = list(islice(endless, 7000))
    used = training.vocabulary(rows)
    compact = tokens_per_second(rows, used, STEPS)
    # One id fewer than all: the unknown row stands for that one.
    naive = tokens_per_second(rows, range(harmony.VOCABULARY - 1), NAIVE_STEPS)
    figures = {
        "compact_tokens_per_second": round(compact),
        "naive_tokens_per_second": round(naive),
        "times": round(compact / naive, 1),
        "vocabulary_in_use": len(used),
        "threads": 1,  # tune.nano.training.one_thread
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
