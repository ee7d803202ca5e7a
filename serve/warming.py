"""Requests before the first client's: on a GPU, kernels are compiled in the first batch of each kind.

A batch is one request with many prompts, so that they arrive together. Triton compiles for counts of tokens that 16
divides and for others apart (triton/runtime/jit.py, specialization), so each is sent a second time, a token shorter.
Knows only HTTP.
"""

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from serve import probe

if TYPE_CHECKING:
    import httpx

ANSWER = 16  # tokens
PROMPT = 128  # tokens of an ordinary one
LONGEST = 8_192  # tokens that a Hopper's engine takes at a step
VOCABULARY = 199_998  # of o200k, without its special tokens


class Wave(NamedTuple):
    """So many prompts of so many tokens at once."""

    prompts: int
    tokens: int


def waves(max_model_len: int) -> tuple[Wave, ...]:
    """One alone, as many as a small team asks at once, and one as long as a step takes."""
    room = max_model_len - ANSWER
    sizes = (1, 2, 4, 8, 16, 32)
    return (*(Wave(n, min(PROMPT, room)) for n in sizes), Wave(1, min(LONGEST, room))) if room > 0 else ()


def warm(http: "httpx.Client", model: str, wanted: tuple[Wave, ...]) -> None:
    """Send each. No two prompts begin alike, or a prefix cache would spare the work. Raises UserError as probe does."""
    ids = Random(0)
    for wave in wanted:
        for left_out in (0, 1):
            prompts = [ids.choices(range(VOCABULARY), k=wave.tokens) for _ in range(wave.prompts)]
            prompts[0] = prompts[0][left_out:] or prompts[0]
            body = {"model": model, "prompt": prompts, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True}
            probe.post(http, "/v1/completions", body)
