"""Another model's embeddings under harmony's vocabulary: a row for each of the 201,088 ids.

A token that the model has too keeps its row; any other gets the mean of the rows of what it is spelled with; a control
token starts from the one that meant the same, or from the words of its name.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tune.harmony import CALL, CHANNEL, END, MESSAGE, PAD, RETURN, START, VOCABULARY
from tune.nano.llama import Llama
from tune.weights import tokenizer

if TYPE_CHECKING:
    import torch

# What a control token starts as: one of SmolLM2's own, each another, for tokens that start alike stay confused.
_LIKE = {
    START: "<|im_start|>", END: "<|im_end|>", RETURN: "<|endoftext|>", CHANNEL: "<jupyter_code>",
    MESSAGE: "<jupyter_text>", CALL: "<jupyter_output>", PAD: "<empty_output>",
}  # fmt: skip


class Moved(NamedTuple):
    """float32 [VOCABULARY, hidden], and the ids that kept a row of their own, ascending."""

    rows: "torch.Tensor"
    kept: list[int]


def move(llama: Llama) -> Moved:
    """The rows of every id, in id order."""

    own = llama.model.get_input_embeddings().weight.detach()
    rows = own.mean(0, keepdim=True).repeat(VOCABULARY, 1)
    ids, sources, spelled = [], [], []
    for token, number in tokenizer.ranks().items():
        if token in llama.tokens:
            ids.append(number)
            sources.append(llama.tokens[token])
        else:
            spelled.append((number, token))
    rows[ids] = own[sources]
    for number, pieces in zip([n for n, _ in spelled], _pieces(llama, [t for _, t in spelled]), strict=True):
        if pieces:
            rows[number] = own[pieces].mean(0)
    for number, like in _LIKE.items():
        rows[number] = own[llama.tokenizer.encode(like, add_special_tokens=False)].mean(0)
    return Moved(rows, sorted(ids))


def _pieces(llama: Llama, tokens: list[bytes]) -> list[list[int]]:
    """The model's tokens of each byte string; of its single bytes, as far as it has them, where it is no text."""
    texts = [token.decode("utf-8", "replace") for token in tokens]
    found = llama.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [
        pieces if text.encode() == token else [llama.tokens[b] for b in map(_byte, token) if b in llama.tokens]
        for pieces, text, token in zip(found, texts, tokens, strict=True)
    ]


def _byte(number: int) -> bytes:
    return bytes([number])


def in_use(kept: Iterable[int], *texts: Iterable[int]) -> list[int]:
    """The ids to train over, ascending: those that kept a row, for what can be said has to compete in training, and
    those of `texts`."""
    return sorted(set(kept).union(*texts))
