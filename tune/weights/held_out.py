"""How far apart two checkpoints are on held-out rows: what quantization did to a model, beside what its adapter did.

In: weights as Values (an adapter may be added in memory, so that the merged model need not be on the disk) and rows of
token ids. Out: divergences of the next token. Weights are streamed, logits are of 64 tokens at a time.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tune.data.row import Row
from tune.terminal import quiet
from tune.weights import forward
from tune.weights.values import Values

if TYPE_CHECKING:
    import torch

TOKENS = 512  # of rows that are run, at most: a minute's work for gpt-oss-20b's experts is in decoding, not in these
_AT_ONCE = 64


class Distance(NamedTuple):
    """Means over `tokens` learned tokens: KL(first || second) in nats, and |difference| of all the logits."""

    kl: float
    moved: float
    tokens: int


def chosen(rows: Sequence[Row]) -> list[Row]:
    """The first rows that together have at most TOKENS ids; of a longer first row, its end."""
    found: list[Row] = []
    left = TOKENS
    for row in rows:
        if len(row.input_ids) <= left:
            found.append(row)
            left -= len(row.input_ids)
    if not found and rows:
        found = [rows[0].model_copy(update={k: getattr(rows[0], k)[-TOKENS:] for k in ("input_ids", "labels")})]
    return found


def distances(first: Values, others: Sequence[Values], rows: Sequence[Row]) -> list[Distance]:
    """How far each of the others is from the first, which is run once."""
    import torch

    with quiet():
        models = [first, *others]
        states = [_states(model, rows) for model in models]
    sums = [(0.0, 0.0)] * len(others)
    for at in range(0, len(states[0]), _AT_ONCE):
        said = [forward.logits(m, s[at : at + _AT_ONCE]) for m, s in zip(models, states, strict=True)]
        p = said[0].log_softmax(dim=1)
        for i, other in enumerate(said[1:]):
            divergence = torch.nn.functional.kl_div(other.log_softmax(dim=1), p, reduction="sum", log_target=True)
            moved = (other - said[0]).abs().mean(dim=1).sum()
            sums[i] = (sums[i][0] + float(divergence), sums[i][1] + float(moved))
    n = len(states[0])
    return [Distance(kl / max(n, 1), moved / max(n, 1), n) for kl, moved in sums]


def figures(base: Values, merged: Values, written: Values, rows: Sequence[Row]) -> dict[str, Any]:
    """What a manifest says: by quantization, from the merged 16-bit model to what was written; by the adapter, from the
    base to the merged model, so that the first can be judged."""
    by_writing, by_adapter = distances(merged, [written, base], rows)
    return {
        "rows": len(rows),
        "tokens": by_writing.tokens,
        "kl_by_quantization": by_writing.kl,
        "kl_by_adapter": by_adapter.kl,
        "logits_moved_by_quantization": by_writing.moved,
        "logits_moved_by_adapter": by_adapter.moved,
    }


def _states(model: Values, rows: Sequence[Row]) -> "torch.Tensor":
    """Float32 [n, width] before every learned token."""
    import torch

    found = forward.hidden(model, [row.input_ids for row in rows], [torch.float32])[torch.float32]
    learned = [torch.tensor(row.labels[1:]) != -100 for row in rows]
    return torch.cat([state[:-1][mask] for state, mask in zip(found, learned, strict=True)])
