"""A small GPT-OSS from a random start: it speaks the format and knows nothing. Four layers, minutes on a CPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tune import harmony
from tune.data.page import Page
from tune.harmony import PAD, RETURN
from tune.nano import conversations, training
from tune.nano.speech import STOPS
from tune.nano.training import Lesson
from tune.recipe import Nano, Recipe
from tune.terminal import quiet

if TYPE_CHECKING:
    from transformers import GptOssConfig

HEAD = 32  # attention head width; vLLM's CPU kernels start here


def prepare(recipe: Recipe, pages: Sequence[Page], report: Callable[[str], None]) -> Lesson:
    """A compact model, untrained, and conversations about the pages."""
    import torch
    from transformers import GenerationConfig, GptOssForCausalLM

    shape, rule, date = recipe.nano, recipe.evaluate.answer_rule, recipe.dataset.date
    rows = conversations.enough(pages, rule, date, shape.seed, shape.steps * shape.batch_tokens)
    used, wanted = training.vocabulary(rows), config(shape)
    torch.manual_seed(shape.seed)
    model = GptOssForCausalLM(training.compact(wanted, used))

    def save(folder: Path) -> int:
        full = training.expand(model, wanted, used).to(torch.bfloat16)
        full.generation_config = GenerationConfig(
            bos_token_id=harmony.RANKS, eos_token_id=STOPS, pad_token_id=PAD, do_sample=True
        )
        with quiet():
            full.save_pretrained(folder)
        return sum(p.numel() for p in full.parameters())

    train = training.one_thread()(training.teacher(model, rows, used, shape, report))
    return Lesson(train, save, {"conversations": len(rows), "vocabulary_in_use": len(used)})


def config(shape: Nano) -> "GptOssConfig":
    """A GPT-OSS of that shape: sliding and full attention in turn, two experts a token, yarn as in the real one."""
    from transformers import GptOssConfig

    heads = max(2, shape.hidden // HEAD // 2 * 2)
    return GptOssConfig(
        vocab_size=harmony.VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=HEAD,
        num_local_experts=shape.experts,
        num_experts_per_tok=min(2, shape.experts),
        sliding_window=128,
        max_position_embeddings=4096,
        router_aux_loss_coef=0.0,
        bos_token_id=harmony.RANKS,
        eos_token_id=RETURN,
        pad_token_id=PAD,
        dtype="bfloat16",
    )
