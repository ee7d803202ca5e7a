"""A Llama from a GGUF file, read by transformers: the model, and what each of its tokens spells.

Knows nothing of GPT-OSS.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tune.errors import UserError
from tune.terminal import quiet

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


class Llama(NamedTuple):
    """A model in float32, the token of each byte string, and its tokenizer."""

    model: "LlamaForCausalLM"
    tokens: dict[bytes, int]
    tokenizer: Any


def read(path: Path) -> Llama:
    """Raises UserError when the file holds another architecture."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet(), redirect_stderr(StringIO()):  # the reader of GGUF draws a bar that nothing turns off
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    found = model.config
    if found.model_type != "llama" or found.attention_bias or found.mlp_bias or not found.tie_word_embeddings:
        why = "only a Llama without biases and with tied embeddings is rewritten"
        raise UserError(f"{path} holds another {found.model_type}", why=why)
    letters = {letter: byte for byte, letter in _letters().items()}
    tokens = {
        bytes(letters[c] for c in spelled): number
        for spelled, number in tokenizer.get_vocab().items()
        if all(c in letters for c in spelled)
    }
    return Llama(model.eval(), tokens, tokenizer)


def _letters() -> dict[int, str]:
    """How byte-level tokenizers write each byte: GPT-2's table."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}
