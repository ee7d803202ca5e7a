"""A side that is a model in memory: the recipe's base, with its adapter on or off, or a finished checkpoint.

Prompts are rendered by `harmony`, with the date that the model was trained on; no chat template is asked.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tune import artefact, checkpoint, harmony
from tune.artefact import Artefact
from tune.errors import UserError
from tune.harmony import CALL, PAD, RANKS, RETURN, Message
from tune.recipe import Recipe
from tune.terminal import quiet
from tune.training import loading
from tune.trying.take import Question, Sampling, Take
from tune.weights import shards, tensors
from tune.weights.base_model import base_of, require_own

STOPS = [RETURN, CALL]


class Local:
    """A loaded model; `bare`: with its adapter switched off."""

    def __init__(self, name: str, model: Any, date: str, *, bare: bool = False) -> None:
        self.name, self._model, self._date, self._bare = name, model, date, bare

    def speak(self, question: Question, take: Take, sampling: Sampling) -> None:
        """Generate one reply into `take`, token by token."""
        import torch

        turns = [Message(role="user", content=question.prompt)]
        if question.developer:
            turns.insert(0, Message(role="developer", content=question.developer))
        ids = torch.tensor([harmony.render_prompt(turns, take.effort, self._date)], device=self._model.device)
        chosen: dict[str, Any] = {"do_sample": False, "temperature": None}
        if sampling.temperature:
            torch.manual_seed(sampling.seed)  # for each reply anew: it does not hang on the one before
            chosen = {"do_sample": True, "temperature": sampling.temperature}
        off: AbstractContextManager[Any] = self._model.disable_adapter() if self._bare else nullcontext()
        with quiet(), torch.inference_mode(), off:
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=sampling.max_tokens,
                eos_token_id=STOPS,
                pad_token_id=PAD,
                top_p=None,
                top_k=None,
                streamer=_ear(take),
                **chosen,
            )


def of_recipe(recipe: Recipe, *, tuned: bool) -> dict[str, Local]:
    """The recipe's base and, if it is asked for, the same model in memory with work/adapter on it.

    Raises UserError when there is no adapter, when it is of another base, another date, or not as it was written.
    """
    adapter = adapter_of(recipe) if tuned else None
    base = base_of(recipe)
    date = recipe.dataset.date
    if adapter is None:
        return {"base": Local(base.name, _load(base.folder), date)}
    require_own(adapter, base, date)
    artefact.verify(recipe.work / "adapter", adapter, remake="tune train")
    with quiet():
        model = _with_adapter(base.folder, recipe.work / "adapter")
    name = f"{recipe.project.name}, adapter {adapter.digest[:12]}"
    return {"base": Local(base.name, model, date, bare=True), "tuned": Local(name, model, date)}


def of_folder(folder: Path) -> Local:
    """A finished checkpoint. Raises UserError when it is not whole, or a LoRA alone."""
    found = checkpoint.verify(folder)
    if found.format == "lora":
        why = "it is an adapter without its base; with the recipe's base, tune try shows work/adapter"
        raise UserError(f"{folder} cannot speak by itself", why=why, fix="tune export --format merged")
    return Local(found.served_name, _load(folder), found.prompt_date)


def adapter_of(recipe: Recipe) -> Artefact:
    """The manifest of work/adapter. Raises UserError when nothing was trained."""
    return artefact.read(recipe.work / "adapter", "adapter", remake="tune train")


def _load(folder: Path) -> Any:
    """The model in eval mode, its experts packed where the files have them so."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if tensors.is_mxfp4(shards.config(folder)):
        from tune.training.packed import model

        return model.load(folder, device=device).eval()
    return loading.load(folder, dtype=torch.bfloat16, device=device).eval()


def _with_adapter(base: Path, adapter: Path) -> Any:
    model = _load(base)
    if tensors.is_mxfp4(shards.config(base)):
        from tune.training.packed import tuned

        return tuned.attach(model, adapter).eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter)).eval()


def _ear(take: Take) -> Any:
    """A streamer for `generate` that hears channels: what it is given first is the prompt, then a token at a time."""
    from transformers.generation.streamers import BaseStreamer

    class Ear(BaseStreamer):  # type: ignore[misc]
        listener: harmony.Listener | None = None

        def put(self, value: Any) -> None:
            if self.listener is None:
                self.listener = harmony.Listener()
                return
            for token in value.flatten().tolist():
                channel, text = self.listener.hear(token)
                take.tokens += 1
                take.thinking_tokens += channel == "analysis" and token < RANKS
                take.answer_tokens += channel == "final" and token < RANKS
                take.ended = "ended" if token in STOPS else "cut"
                if self.listener.broken:
                    take.ended = "malformed"
                take.add(text, channel == "analysis")

        def end(self) -> None:
            if take.tokens and not take.said and take.ended == "ended":
                take.ended = "malformed"  # it stopped without a word in a channel

    return Ear()
