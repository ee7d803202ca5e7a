"""A tiny GPT-OSS that speaks harmony, as weights in a file: for tests that need such a model and not the making of one.

`python tests/speaker.py` trains it anew (two minutes). It answers whatever it is asked with one of two texts, so
every next token is far above the second best: the same replies on every processor, which test_tune_nano.py holds.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tune import harmony
from tune.harmony import Message, Rendered
from tune.nano import conversations, scratch, training
from tune.nano.training import Curve
from tune.recipe import Nano

FILE = Path(__file__).parent / "golden" / "speaker.safetensors"
SHAPE = Nano(kind="random", layers=2, hidden=64, experts=2, steps=600, batch_tokens=256, learning_rate=5e-3)
DATE, RULE = "2026-01-01", "End with one line: ANSWER: <value>"


def exchanges(seed: int) -> Iterator[Rendered]:
    """Any question, and one of two answers: with the answer line where the rule asks for one, without elsewhere."""
    rng = random.Random(seed)
    while True:
        developer, effort = rng.choice(["", "Be exact.", RULE]), rng.choice(harmony.EFFORTS)
        answer = "Here it is.\nANSWER: yes" if developer == RULE else "It is what the documentation says."
        turns = [Message(role="developer", content=developer)] if developer else []
        turns.append(Message(role="user", content=conversations.stray(rng)))
        turns.append(Message(role="assistant", content=answer, thinking=conversations.thinking(effort)))
        yield harmony.render_training(turns, effort, DATE)


def load() -> tuple[Any, list[int]]:
    """The compact model, float32, and the token ids in use."""
    from safetensors.torch import load_file
    from transformers import GptOssForCausalLM

    weights = load_file(FILE)
    used = weights.pop("used").tolist()
    model = GptOssForCausalLM(training.compact(scratch.config(SHAPE), used))
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval(), used


def instead_of_training(patch: pytest.MonkeyPatch) -> None:
    """Let `tune nano` take this model where it would train one of SHAPE."""
    model, used = load()
    curve = [Curve(step, 4.0 / (step + 1), 256 * (step + 1)) for step in range(SHAPE.steps)]

    def train(given: Any, *_: object, **__: object) -> list[Curve]:
        given.load_state_dict(model.state_dict())
        return curve

    patch.setattr(training, "vocabulary", lambda _: used)
    patch.setattr(training, "train", train)


@training.one_thread()
def make(report: Callable[[str], None]) -> None:
    """Train it and write the file, in the 16-bit floats that a nano is saved in."""
    import torch
    from safetensors.torch import save_file
    from transformers import GptOssForCausalLM

    rows = [one for one, _ in zip(exchanges(0), range(6000), strict=False)]
    count = Counter(i for row in rows for i in set(row.ids))
    used = sorted(i for i, n in count.items() if n > len(rows) / 20)  # the format and both answers; all else is unknown
    torch.manual_seed(0)
    model = GptOssForCausalLM(training.compact(scratch.config(SHAPE), used))
    how: dict[str, Any] = {"steps": 1500, "batch_tokens": 512, "learning_rate": 3e-3, "seed": 0}
    curve = training.train(model, rows, used, **how, added=training.offset(used), report=report)
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    FILE.parent.mkdir(exist_ok=True)
    save_file({**weights, "used": torch.tensor(used, dtype=torch.int32)}, FILE)
    report(f"{FILE}: {len(used)} ids, loss {curve[-1].loss:.4f}")


if __name__ == "__main__":
    make(lambda line: sys.stderr.write(f"{line}\n"))
