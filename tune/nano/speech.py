"""Whether a saved model speaks harmony: greedy replies to a few prompts at every effort.

In: a checkpoint folder. Out: the share of well-formed replies, and how long it thinks. Knows nothing about training.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tune import harmony
from tune.harmony import CHANNEL, EFFORTS, END, MESSAGE, PAD, RETURN, START, Effort, Message, Reply
from tune.nano.training import one_thread
from tune.terminal import quiet
from tune.training import loading

LONGEST = 200  # tokens of a reply; a well-formed one is shorter
STOPS = [RETURN, PAD, harmony.CALL]
WELL_FORMED = [CHANNEL, MESSAGE, END, START, CHANNEL, MESSAGE, RETURN]  # the control tokens of analysis and final
# Unlike the training conversations on purpose; every second one is asked under the answer rule.
PROBES = [
    "How do I sort a list by two keys?",
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "What does len('abc') return?",
    "def f(x): return x + 1",
    "Is 17 a prime number? Answer yes or no.",
    "Why would anyone close a file twice, and what happens then?",
    "Which of these is mutable?\nA) tuple\nB) list\nC) str\nD) bytes",
]


class Speech(NamedTuple):
    """What greedy replies to `PROBES` look like: share well-formed, mean analysis tokens by effort, one reply each."""

    well_formed: float
    thinking_tokens: dict[Effort, float]
    samples: dict[Effort, Reply | None]

    @property
    def steers(self) -> bool:
        """Whether each effort thinks at least half as long again as the one below it."""
        low, medium, high = (self.thinking_tokens[effort] for effort in EFFORTS)
        return 0 < 1.5 * low <= medium and 1.5 * medium <= high

    @property
    def words(self) -> str:
        """Both, as a person reads them."""
        thinking = ", ".join(f"{n:.0f} at {effort}" for effort, n in self.thinking_tokens.items())
        return f"{self.well_formed:.0%} of its greedy replies are well-formed harmony, thinking tokens {thinking}"


@one_thread()
def speaks(folder: Path, date: str, answer_rule: str) -> Speech:
    """Ask a saved model every probe at every effort, greedily: 10 s, or two minutes where bfloat16 is emulated."""
    with quiet():
        model = loading.load(folder, dtype=loading.arithmetic("cpu"))
    rule = Message(role="developer", content=answer_rule)
    turns = [[rule] * (n % 2) + [Message(role="user", content=p)] for n, p in enumerate(PROBES)]
    asked = [(effort, harmony.render_prompt(t, effort, date)) for effort in EFFORTS for t in turns]
    replies = _greedy(model, [prompt for _, prompt in asked])
    good = [(effort, harmony.parse_reply(r)) for (effort, _), r in zip(asked, replies, strict=True) if well_formed(r)]
    lengths, samples = {}, {}
    for effort in EFFORTS:
        mine = [reply for e, reply in good if e == effort]
        lengths[effort] = sum(len(harmony.encode(r.thinking)) for r in mine) / max(1, len(mine))
        samples[effort] = mine[0] if mine else None
    return Speech(len(good) / len(asked), lengths, samples)


def well_formed(reply: Sequence[int]) -> bool:
    """Whether a completion is one analysis and one final message, neither empty, ended by the model itself."""
    if [i for i in reply if i >= harmony.RANKS] != WELL_FORMED:
        return False
    parsed = harmony.parse_reply(reply)
    return parsed.finished and bool(parsed.thinking.strip()) and bool(parsed.answer.strip())


def _greedy(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Completions, each up to and with its first stop token, of `LONGEST` tokens at most."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    said = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=LONGEST, eos_token_id=STOPS, pad_token_id=PAD
    )
    out = []
    for row in said[:, longest:].tolist():
        stop = next((n for n, i in enumerate(row) if i in STOPS), len(row))
        out.append(row[: stop + 1])
    return out
