"""Requests before the first client's: on a GPU, kernels are compiled in the first step of each kind.

Which steps there are to try is reckoned from the kernels' own rules, so that a count of tokens which nobody tried does
not keep a client waiting for a compiler. Knows only HTTP.
"""

from collections.abc import Hashable
from functools import cache
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from serve import probe

if TYPE_CHECKING:
    import httpx

ANSWER = 16  # tokens
PROMPT = 128  # tokens of an ordinary one
LONGEST = 8_192  # tokens of a step: longer ones bring no kernel that these do not, with 128 experts or fewer
VOCABULARY = 199_998  # of o200k, without its special tokens
CHOSEN = 4  # experts of a token
BLOCKS = (16, 128)  # rows of a tile, at least and at most
DIVISOR = 16  # Triton compiles for numbers that it divides, and for others apart (triton/runtime/jit.py)
COUNTED = 32  # tokens that routing counts at a time


class Wave(NamedTuple):
    """So many prompts of so many tokens at once."""

    prompts: int
    tokens: int


def waves(max_model_len: int, step: int, experts: int) -> tuple[Wave, ...]:
    """As many prompts as a small team asks at once, then one alone for each kind of step of at most `step` tokens."""
    room = max_model_len - ANSWER
    if room <= 0:
        return ()
    teams = (Wave(n, min(PROMPT, room)) for n in (1, 2, 4, 8, 16, 32))
    return (*teams, *(Wave(1, tokens) for tokens in steps(min(step, room, LONGEST), experts)))


@cache
def steps(longest: int, experts: int) -> tuple[int, ...]:
    """Few counts of tokens, the longest first, that compile what any count up to `longest` does."""
    brings = {tokens: kernels(tokens, experts) for tokens in range(longest, 0, -1)}
    left, chosen = frozenset().union(*brings.values()), []
    while left:
        best = max(brings, key=lambda tokens: len(brings[tokens] & left))
        chosen.append(best)
        left -= brings[best]
    return tuple(chosen)


def kernels(tokens: int, experts: int) -> frozenset[Hashable]:
    """Names of what Triton compiles of the experts' layers for a step of `tokens` tokens, as triton_kernels calls it.

    Tiles are counted as in routing.py (RoutingData.n_blocks) and made as high as opt_flags.py makes them; a name has
    what each kernel's arguments, that follow the tokens, are divided by: M and the tiles (matmul_ogs.py:467).
    """
    rows = CHOSEN * tokens
    height = min(max(_power(rows // experts), BLOCKS[0]), BLOCKS[1])
    tiles = rows if rows <= experts else -(-(rows - experts + 1) // height) + experts - 1
    counted = -(-tokens // COUNTED)
    return frozenset(
        {
            ("routing", *(_kind(n) for n in (tokens, rows, 2 * rows, counted))),
            ("into", height, _kind(tokens), _kind(tiles)),
            ("out of", height, _kind(rows), _kind(tiles)),
        }
    )


def _power(number: int) -> int:
    """The least power of two that is no less."""
    return 1 << max(0, number - 1).bit_length()


def _kind(number: int) -> int:
    """What Triton's code knows of a number: that it is 1, or that DIVISOR divides it, or nothing."""
    return 1 if number == 1 else DIVISOR if number % DIVISOR == 0 else 0


def warm(http: "httpx.Client", model: str, wanted: tuple[Wave, ...]) -> None:
    """Send each. No two prompts begin alike, or a prefix cache would spare the work. Raises UserError as probe does."""
    ids = Random(0)
    for wave in wanted:
        prompts = [ids.choices(range(VOCABULARY), k=wave.tokens) for _ in range(wave.prompts)]
        body = {"model": model, "prompt": prompts, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True}
        probe.post(http, "/v1/completions", body)
