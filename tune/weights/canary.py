"""What a checkpoint's weights say about a fixed prompt: a finished folder in, `canary.json` beside the weights out.

The log-probability of every token of `harmony.PROBE` at each effort, by stock transformers in float32, and how far the
same in bfloat16 is from it. The server asks its engine for the same, so weights that were loaded wrongly are seen
before anyone uses them; what 16-bit rounding does to a model hangs on its depth and its routers, so it is measured
and not guessed. Weights come as forward.py streams them. Knows nothing of engines.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tune import checkpoint, harmony
from tune.artefact import write_text
from tune.errors import UserError
from tune.harmony import EFFORTS, PROBE
from tune.terminal import quiet
from tune.weights import forward
from tune.weights.values import Values

if TYPE_CHECKING:
    import torch

DIGITS = 4  # decimals kept: far finer than the agreement asked for


def write(folder: Path, prompt_date: str, values: Values | None = None) -> None:
    """Write `canary.json` for the weights in `folder`, before its manifest; of an adapter's, `values` has them added to
    its base's.

    Raises UserError when the weights give no number.
    """
    import torch

    prompts = {effort: harmony.render_prompt(PROBE, effort, prompt_date) for effort in EFFORTS}
    with quiet():
        asked = list(prompts.values())
        exact, rounded = _asked(values, asked) if values else logprobs(folder, asked)
    every = torch.cat(exact)
    rounding = float((torch.cat(rounded) - every).abs().mean())
    if not bool(torch.isfinite(every).all()) or not math.isfinite(rounding):
        why = "the log-probability of a prompt is NaN or infinite"
        raise UserError(
            f"the weights in {folder} cannot be used", why=why, fix="another copy of the base, or tune train again"
        )
    found = checkpoint.Canary(
        logprobs={e: [round(v, DIGITS) for v in one.tolist()] for e, one in zip(EFFORTS, exact, strict=True)},
        rounding=round(rounding, DIGITS),
    )
    write_text(folder / checkpoint.CANARY, found.model_dump_json() + "\n")


def logprobs(folder: Path, prompts: list[list[int]]) -> "tuple[list[torch.Tensor], list[torch.Tensor]]":
    """For each prompt the log-probability of every token but the first given those before it, float32 [len - 1]:
    as float32 has it, and as bfloat16 has it.
    """
    with Values(folder) as values:
        return _asked(values, prompts)


def _asked(values: Values, prompts: list[list[int]]) -> "tuple[list[torch.Tensor], list[torch.Tensor]]":
    import torch

    states = forward.hidden(values, prompts, (torch.float32, torch.bfloat16))
    exact, rounded = (
        [_told(values, state[:-1], ids[1:]) for state, ids in zip(of, prompts, strict=True)] for of in states.values()
    )
    return exact, rounded


def _told(values: Values, states: "torch.Tensor", ids: list[int]) -> "torch.Tensor":
    """Log-probabilities of ids [n] after states [n, width]."""
    import torch

    return forward.logits(values, states).log_softmax(dim=1).gather(1, torch.tensor(ids)[:, None])[:, 0]
