"""Training in a compact vocabulary, and the expansion to the full one.

The head over 201,088 rows is nearly all the work of training a small GPT-OSS. The conversations use a few thousand
of them, so the model is trained on those alone. Every other row is one shared vector: on the input side the unknown
token's embedding, on the output side a row whose logit counts with + log(how many ids share it). That is the
softmax over the full vocabulary exactly, since n equal logits z contribute n * exp(z) = exp(z + log n).
Knows token ids and tensors; nothing about pages or files.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tune import terminal
from tune.harmony import IGNORE, RANKS, VOCABULARY, Rendered
from tune.recipe import Nano

if TYPE_CHECKING:
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

BYTES = 256  # the first ids are the single bytes, of which any text can be put together
UNKNOWN = 0  # the compact id that stands for every id not in use


class Curve(NamedTuple):
    """One step of training: loss in nats per learned token, and tokens seen so far (padding not counted)."""

    step: int
    loss: float
    tokens: int


class Lesson(NamedTuple):
    """A model that is about to be taught: `train(seed)` teaches it on and returns the loss curve, `save(folder)` writes
    it over the full vocabulary and returns how many parameters it has. `figures` are of what it is taught."""

    train: Callable[[int], list[Curve]]
    save: Callable[[Path], int]
    figures: dict[str, int]


def teacher(
    model: Any, rows: Sequence[Rendered], used: Sequence[int], shape: Nano, report: Callable[[str], None], **how: Any
) -> Callable[[int], list[Curve]]:
    """`Lesson.train` of a compact model: each call goes on from where the last one ended."""

    def teach(seed: int) -> list[Curve]:
        return train(
            model,
            rows,
            used,
            steps=shape.steps,
            batch_tokens=shape.batch_tokens,
            learning_rate=shape.learning_rate,
            seed=seed,
            added=offset(used),
            report=report,
            **how,
        )

    return teach


def vocabulary(conversations: Sequence[Rendered]) -> list[int]:
    """The ids in use, ascending: those that the conversations hold at least twice, control tokens, and single bytes.

    An id that occurs once teaches nothing about itself, but as an input it trains the unknown token's embedding.
    """
    counts = Counter(i for c in conversations for i in c.ids)
    often = {i for i, n in counts.items() if n > 1 or i >= RANKS}
    return sorted(often | set(range(BYTES)))


def compact(config: "GptOssConfig", used: Sequence[int]) -> "GptOssConfig":
    """The same model over `used` ids and the unknown one. Compact id of used[i] is i + 1."""
    from transformers import GptOssConfig

    changed = {"vocab_size": len(used) + 1, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return GptOssConfig(**{**config.to_dict(), **changed})


def offset(used: Sequence[int]) -> "torch.Tensor":
    """What is added to compact logits, float32 [len(used) + 1]: log(how many ids are unknown) for the unknown one."""
    import torch

    out = torch.zeros(len(used) + 1)
    out[UNKNOWN] = math.log(VOCABULARY - len(used))
    return out


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread. For matrices this small a second one brings 1.4 times on an idle machine, and on a busy
    one the two wait for each other: 370 to 4,600 tokens/s were seen where one thread kept 6,000.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    model: Any,
    conversations: Sequence[Rendered],
    used: Sequence[int],
    *,
    steps: int,
    batch_tokens: int,
    learning_rate: float,
    seed: int,
    rows_times: float = 1.0,
    added: "torch.Tensor | None" = None,
    device: str = "cpu",
    report: Callable[[str], None] = lambda _: None,
) -> list[Curve]:
    """Train a causal language model over compact ids, float32, in place: its loss curve of `steps` steps. What does not
    require a gradient stays; token embeddings learn `rows_times` as fast as the rest; `added` is added to its logits.
    On `device`, and back on the processor after it.

    AdamW, linear warm-up over a twentieth of the steps, cosine to a tenth of `learning_rate`, gradients clipped at 1.
    Weights decay, embeddings do not.
    """
    import torch

    torch.manual_seed(seed)
    model.to(device).train()
    added = added if added is None else added.to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    rows = model.get_input_embeddings().weight
    groups = [
        {"params": [p for p in trained if p is not rows], "times": 1.0},
        {"params": [rows], "times": rows_times, "weight_decay": 0.0},  # it would move rows without a gradient
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    curve, tokens, began = list[Curve](), 0, time.monotonic()
    for step, rows in zip(range(steps), batches(conversations, batch_tokens, seed), strict=False):
        ids, labels, real = tensors(rows, used)
        ids, labels = ids.to(device), labels.to(device)
        # No attention mask: padding comes last, and nothing looks ahead.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        learned = labels[:, 1:] != IGNORE
        logits = model.lm_head(hidden[:, :-1][learned])  # the head sees learned positions alone
        logits = logits if added is None else logits + added
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learned])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["times"] * _schedule(step, steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        tokens += real
        curve.append(Curve(step, loss.item(), tokens))
        if step % max(1, steps // 20) == 0 or step == steps - 1:
            rate = tokens / (time.monotonic() - began)
            so_far = f"{terminal.bar(step + 1, steps)} step {step + 1} of {steps}"
            report(f"{so_far}, loss {curve[-1].loss:.2f}, {rate:,.0f} tokens/s")
    model.to("cpu").eval()
    return curve


def batches(conversations: Sequence[Rendered], batch_tokens: int, seed: int) -> Iterator[list[Rendered]]:
    """Batches without end, rows of similar length together, so that padding stays small and none is packed."""
    rng = random.Random(seed)
    while True:
        whole: list[list[Rendered]] = []
        row: list[Rendered] = []
        for c in sorted(conversations, key=lambda c: (len(c.ids), rng.random())):
            if row and (len(row) + 1) * len(c.ids) > batch_tokens:
                whole.append(row)
                row = []
            row.append(c)
        whole.append(row)
        rng.shuffle(whole)
        yield from whole


def tensors(rows: Sequence[Rendered], used: Sequence[int]) -> tuple["torch.Tensor", "torch.Tensor", int]:
    """Compact ids and labels, int64 [rows, longest], and how many ids are not padding."""
    import torch

    place = {i: n + 1 for n, i in enumerate(used)}
    longest = max(len(r.ids) for r in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full_like(ids, IGNORE)
    for n, row in enumerate(rows):
        short = torch.tensor([place.get(i, UNKNOWN) for i in row.ids])
        ids[n, : len(short)] = short
        # The unknown token is never a target: it would teach the model to say any of the ids that share it.
        labels[n, : len(short)] = short.masked_fill(~torch.tensor(row.learned) | (short == UNKNOWN), IGNORE)
    return ids, labels, sum(len(r.ids) for r in rows)


def expand(model: "GptOssForCausalLM", config: "GptOssConfig", used: Sequence[int]) -> "GptOssForCausalLM":
    """The same function over the full vocabulary, in the model's dtype: rows copied, all others the shared one."""
    import torch
    from transformers import GptOssForCausalLM

    weights: dict[str, Any] = dict(model.state_dict())
    place = torch.full((config.vocab_size,), UNKNOWN)
    place[torch.tensor(list(used))] = torch.arange(1, len(used) + 1)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][place]
    full = GptOssForCausalLM(config).to(model.dtype)
    full.load_state_dict(weights)
    return full.eval()


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.55 + 0.45 * math.cos(math.pi * (step - warm) / max(1, steps - warm))
