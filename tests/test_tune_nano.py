"""The embedded base model: exact expansion, conversations that keep to the format, a cache that is never half-read."""

import importlib.metadata
import json
import math
import os
import random
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import speaker
from speaker import DATE, RULE

from serve import probe
from tune import artefact, checkpoint, harmony
from tune.data import page
from tune.data.block import Code, Prose
from tune.errors import UserError
from tune.harmony import Rendered
from tune.nano import build as nano
from tune.nano import conversations, scratch, speech, training
from tune.nano.speech import Speech
from tune.recipe import Nano, Project, Recipe
from tune.training import loading
from tune.weights import canary

TINY = speaker.SHAPE
NAMES = ["json", "heap", "list", "dict", "file", "path"]


def _pages() -> list[page.Page]:
    return [
        page.Page(
            id=name,
            title=name,
            module=name,
            blocks=(
                Prose(headings=(name,), text=f"A {name} holds values. It ends with <|return|> or <|end|>."),
                Code(headings=(name,), language="python", text=f"{name}(x)"),
            ),
            source="test",
            licence="unknown",
        )
        for name in NAMES
    ]


def _project(folder: Path, shape: Nano = TINY) -> Recipe:
    work = folder / "work"
    (work / "pages").mkdir(parents=True)
    page.write(work / "pages" / "pages.jsonl", _pages())
    artefact.finish(work / "pages", "pages")
    return Recipe(folder=folder, project=Project(), nano=shape)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A small nano, and the cache it went into."""
    recipe, cache = _project(tmp_path_factory.mktemp("nano")), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        speaker.instead_of_training(patch)
        nano.build(recipe)
    return recipe, cache


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise InterruptedError("trains")

    monkeypatch.setattr(training, "train", train)


def test_expansion_is_the_full_softmax_exactly() -> None:
    import torch
    from transformers import GptOssForCausalLM

    torch.manual_seed(0)
    config, used = (
        scratch.config(Nano(kind="random", layers=2, hidden=32, experts=2)),
        [0, 7, 300, harmony.START, harmony.RETURN],
    )
    small = GptOssForCausalLM(training.compact(config, used)).double().eval()
    full = training.expand(small, config, used)
    for model in (small, full):
        model.set_experts_implementation("eager")  # the one that takes float64
    seen, unseen = [7, harmony.START, 300, 150_000, 0], 123_456  # 150,000 is not in use: the unknown token
    with torch.no_grad():
        expected = small(input_ids=torch.tensor([[2, 4, 3, training.UNKNOWN, 1]])).logits
        expected = (expected + training.offset(used)).log_softmax(-1)
        got = full(input_ids=torch.tensor([seen])).logits.log_softmax(-1)
    # 1e-6 is what log(n) in float32 leaves; a wrong n shows from one id on (5e-6).
    torch.testing.assert_close(got[..., used], expected[..., 1:], atol=1e-6, rtol=0)
    share = math.log(harmony.VOCABULARY - len(used))
    torch.testing.assert_close(got[..., unseen], expected[..., 0] - share, atol=1e-6, rtol=0)


def test_rows_of_a_batch_do_not_see_their_padding_or_each_other() -> None:
    import torch
    from transformers import GptOssForCausalLM

    used = list(range(50))
    rows = [Rendered([3, 4, 5], [False, True, True]), Rendered([*range(10, 30), 99], [True] * 21)]
    ids, labels, real = training.tensors(rows, used)
    assert (ids.shape, real) == ((2, 21), 24)
    assert labels[0].tolist() == [harmony.IGNORE, 5, 6, *[harmony.IGNORE] * 18]
    assert (ids[1, -1], labels[1, -1]) == (training.UNKNOWN, harmony.IGNORE)  # 99 is not in use: never a target
    model = GptOssForCausalLM(training.compact(scratch.config(Nano(kind="random", layers=2, hidden=32)), used)).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            model(input_ids=ids).logits[0, :3], model(input_ids=ids[:1, :3]).logits[0], atol=1e-5, rtol=1e-4
        )


def test_batches_hold_every_conversation_once_a_round_within_the_budget() -> None:
    sizes = [random.Random(n).randint(5, 90) for n in range(60)]
    rows = [Rendered([n] * size, [True] * size) for n, size in enumerate(sizes)]
    seen: list[int] = []
    for batch in training.batches(rows, 256, seed=0):
        assert len(batch) * max(len(r.ids) for r in batch) <= 256
        seen += [r.ids[0] for r in batch]
        if len(seen) >= 60:
            break
    assert sorted(seen) == list(range(60))


def test_conversations_are_the_format_and_nothing_of_a_page_is_a_control_token() -> None:
    texts = list(islice(conversations.rendered(_pages(), RULE, DATE, 0), 200))
    assert texts == list(islice(conversations.rendered(_pages(), RULE, DATE, 0), 200))
    spelled = 0
    for one in texts:
        reply = [i for i, on in zip(one.ids, one.learned, strict=True) if on]
        assert speech.well_formed(reply)
        spelled += "<|return|>" in harmony.decode(reply[:-1])
    assert spelled > 10
    assert sum("\nANSWER: " in harmony.decode(one.ids) for one in texts) > 30


def test_a_higher_effort_thinks_longer() -> None:
    assert [len(harmony.encode(conversations.thinking(e))) for e in harmony.EFFORTS] == [8, 22, 70]


def _rows(count: int, seed: int = 0) -> tuple[list[Rendered], list[int]]:
    rows = list(islice(conversations.rendered(_pages(), RULE, DATE, seed), count))
    return rows, training.vocabulary(rows)


def _train(steps: int, start: Any = None) -> tuple[Any, list[float]]:
    import torch
    from transformers import GptOssForCausalLM

    rows, used = _rows(300)
    torch.manual_seed(0)
    model = start or GptOssForCausalLM(training.compact(scratch.config(TINY), used))
    how: dict[str, Any] = {"steps": steps, "batch_tokens": 256, "learning_rate": 5e-3, "seed": 0}
    with training.one_thread():
        curve = training.train(model, rows, used, **how, added=training.offset(used))
    return model, [c.loss for c in curve]


def test_training_learns_and_goes_on_from_where_it_was() -> None:
    _, used = _rows(300)
    model, losses = _train(120)
    assert losses[0] == pytest.approx(math.log(harmony.VOCABULARY), rel=0.05)  # it guesses among all ids
    learned = math.log(len(used)) / 3  # who knows the ids in use, and no more, is at three times that
    assert sum(losses[-10:]) / 10 < learned
    _, more = _train(20, start=model)
    assert max(more) < losses[0] / 3
    assert sum(more) / 20 < learned


def test_the_gradient_is_that_of_the_full_vocabulary() -> None:
    """One step of training changes a compact model as a step over the expanded one would change the rows in use."""
    import torch

    rows, used = _rows(4)
    torch.manual_seed(0)
    from transformers import GptOssForCausalLM

    wanted = scratch.config(Nano(kind="random", layers=1, hidden=32, experts=2))
    small = GptOssForCausalLM(training.compact(wanted, used))
    full = training.expand(small, wanted, used).train()
    ids, labels, _ = training.tensors(rows, used)
    hidden = small.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = small.lm_head(hidden) + training.offset(used)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    loss.backward()
    wide = torch.tensor([0, *used])[ids]  # 0 is in use; the unknown token's rows are all alike, so any stands for them
    wide[ids == training.UNKNOWN] = next(i for i in range(harmony.RANKS) if i not in set(used))
    targets = torch.where(labels == harmony.IGNORE, labels, torch.tensor([0, *used])[labels.clamp(min=0)])
    expected = full(input_ids=wide).logits[:, :-1].flatten(0, 1)
    torch.nn.functional.cross_entropy(expected, targets[:, 1:].flatten()).backward()
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.experts.down_proj", "model.norm.weight"):
        got, want = small.get_parameter(name).grad, full.get_parameter(name).grad
        assert (got - want).norm() < 1e-4 * want.norm()


def test_long_text_without_a_full_stop_stays_short() -> None:
    one = _pages()[0].model_copy(update={"blocks": (Prose(headings=("a", "t" * 5000), text="漢" * 5000),)})
    [(heading, passage)] = conversations.passages([one])
    assert (len(heading), len(passage)) == (120, 120)


def test_passages_are_short_sentences_under_their_nearest_heading_and_code_is_known_as_such() -> None:
    blocks = (
        Prose(headings=("a", "b"), text="One is here. " * 12),
        Code(headings=("a",), language="python", text="a(\n  x)"),
    )
    found = conversations.passages([_pages()[0].model_copy(update={"blocks": blocks})])
    assert found == [
        ("b", " ".join(["One is here."] * 9)),
        ("b", " ".join(["One is here."] * 3)),
        ("a", "```python a( x) ```"),
    ]


def test_an_untrained_model_does_not_pass_for_one_that_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nano, "ROUNDS", 1)
    recipe = _project(tmp_path, TINY.model_copy(update={"steps": 1, "layers": 1, "hidden": 32}))
    with pytest.raises(UserError, match=r"0% of its greedy replies(.|\n)*raise nano.steps"):
        nano.build(recipe)
    assert not (recipe.work / "nano").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "reply",
    [
        "<|channel|>final<|message|>Yes.<|return|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|> <|return|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>analysis<|message|>Yes.<|return|>",
    ],
)
def test_other_than_analysis_then_final_is_not_well_formed(reply: str) -> None:
    assert not speech.well_formed(harmony.encoding().encode(reply, allowed_special="all"))


def test_a_built_nano_is_a_whole_checkpoint(built: tuple[Recipe, Path]) -> None:
    folder = built[0].work / "nano"
    made = checkpoint.verify(folder)
    assert (made.name, made.base, made.format, made.prompt_date) == ("nano", "", "merged", DATE)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [200_002, 199_999, 200_012]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(
        artefact.read(folder, "checkpoint", remake="").files
    )
    figures = artefact.read(folder, "checkpoint", remake="").figures
    assert (figures["rounds"], figures["well_formed_share"]) == (1, 1.0)
    assert figures["thinking_tokens"] == {"low": 8, "medium": 22, "high": 70}


def test_the_shipped_model_says_the_same_on_every_processor(built: tuple[Recipe, Path]) -> None:
    """The least gap between best and second logit, over all 24 replies, is many times what 16-bit rounding moves."""
    import torch

    model = loading.load(built[0].work / "nano", dtype=torch.bfloat16)
    rule = harmony.Message(role="developer", content=RULE)
    gaps = []
    for n, question in enumerate(speech.PROBES):
        for effort in harmony.EFFORTS:
            turns = [*[rule] * (n % 2), harmony.Message(role="user", content=question)]
            prompt = harmony.render_prompt(turns, effort, DATE)
            [reply] = speech._greedy(model, [prompt])
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].float()
            best = logits.topk(2).values
            gaps += (best[:, 0] - best[:, 1]).tolist()
    assert len(gaps) > 24 * 20
    assert min(gaps) > 2


@pytest.mark.parametrize(
    ("share", "tokens", "steers"),
    [
        (1.0, (8, 22, 70), True),
        (1.0, (8, 12, 18), True),
        (1.0, (8, 8, 70), False),
        (1.0, (8, 22, 22), False),
        (1.0, (22, 8, 70), False),
        (0.0, (0, 0, 0), False),
    ],
)
def test_an_effort_that_does_not_show_is_no_steering(share: float, tokens: tuple[int, ...], steers: bool) -> None:
    assert Speech(share, dict(zip(harmony.EFFORTS, tokens, strict=True)), {}).steers is steers


@pytest.mark.parametrize(
    "bad", [Speech(0.89, {"low": 8, "medium": 22, "high": 70}, {}), Speech(1, {"low": 8, "medium": 8, "high": 70}, {})]
)
def test_a_model_that_does_not_speak_yet_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Speech
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    speaker.instead_of_training(monkeypatch)
    good = Speech(1.0, {"low": 8, "medium": 22, "high": 70}, dict.fromkeys(harmony.EFFORTS))
    train, taught, heard = training.train, list[Any](), iter([bad, good])

    def noted(model: Any, *args: Any, seed: int, **rest: Any) -> Any:
        taught.append((model, seed))
        return train(model, *args, **rest)

    monkeypatch.setattr(training, "train", noted)
    monkeypatch.setattr(nano, "speaks", lambda *_: next(heard))
    recipe = _project(tmp_path)
    nano.build(recipe)
    assert taught == [(taught[0][0], 0), (taught[0][0], 1)]  # the same model, taught on
    assert artefact.read(recipe.work / "nano", "checkpoint", remake="").figures["rounds"] == 2


@pytest.mark.usefixtures("no_training")
def test_a_finished_nano_is_reused_here_and_in_the_next_project(
    built: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, cache = built
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    digest = nano.build(recipe).digest
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    other = _project(tmp_path)
    assert nano.build(other).digest == digest
    assert checkpoint.verify(other.work / "nano").digest == digest
    changed = other.model_copy(update={"nano": TINY.model_copy(update={"seed": 1})})
    with pytest.raises(InterruptedError):
        nano.build(changed)
    assert checkpoint.verify(other.work / "nano").digest == digest  # the interrupted stage leaves the old one


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("fault", ["no manifest", "truncated weights"])
def test_a_broken_cache_is_not_used(
    built: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    shutil.copytree(built[1], tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    [entry] = (tmp_path / "cache" / "gptoss-kit" / "nano").iterdir()
    if fault == "no manifest":
        (entry / "checkpoint.json").unlink()
    else:
        (entry / "model.safetensors").write_bytes((entry / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(InterruptedError):
        nano.build(_project(tmp_path))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("gone", [".", "config.json", "checkpoint.json"])
def test_a_cache_that_goes_while_it_is_read_is_not_used(
    built: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    shutil.copytree(built[1], tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = nano._copy

    def cleared(source: Path, fresh: Path) -> None:
        shutil.rmtree(source) if gone == "." else (source / gone).unlink()
        copy(source, fresh)

    monkeypatch.setattr(nano, "_copy", cleared)
    recipe, said = _project(tmp_path), list[str]()
    with pytest.raises(InterruptedError, match="trains"):
        nano.build(recipe, said.append)
    assert "cache cannot be read" in said[0]
    assert not (recipe.work / "nano").exists()


def test_only_the_oldest_finished_models_leave_the_cache(built: tuple[Recipe, Path], tmp_path: Path) -> None:
    model = built[0].work / "nano"
    names = [str(n) * 64 for n in range(nano.KEPT)]
    for age, name in enumerate([*names, f".{names[0]}-a1b2", f"{names[0]}.new", f"{names[0]}.old"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))
    nano._keep(model, tmp_path / ("f" * 64), lambda line: pytest.fail(line))
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {*names[1:], "f" * 64, f".{names[0]}-a1b2", f"{names[0]}.new", f"{names[0]}.old"}


def test_another_library_makes_another_nano(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = nano._source()
    assert nano._source() == here
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    elsewhere = nano._source()
    (tmp_path / "page.py").write_text("")
    monkeypatch.setattr(page, "__file__", str(tmp_path / "page.py"))
    assert len({here, elsewhere, nano._source()}) == 3


def test_pages_without_text_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = _project(tmp_path)
    page.write(recipe.work / "pages" / "pages.jsonl", [])
    artefact.finish(recipe.work / "pages", "pages")
    with pytest.raises(UserError, match="no text to train nano on"):
        nano.build(recipe)


@pytest.mark.parametrize("name", ["layers.1.input_layernorm.weight", "layers.0.mlp.experts.down_proj", "norm.weight"])
def test_a_zeroed_weight_is_farther_away_than_a_server_may_be(
    built: tuple[Recipe, Path], tmp_path: Path, name: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(built[0].work / "nano", tmp_path / "nano")
    weights = load_file(tmp_path / "nano/model.safetensors")
    weights[f"model.{name}"].zero_()
    save_file(weights, tmp_path / "nano/model.safetensors", metadata={"format": "pt"})
    told = checkpoint.canary(checkpoint.read(built[0].work / "nano"))
    for effort, wanted in told.logprobs.items():
        [got], _ = canary.logprobs(tmp_path / "nano", [harmony.render_prompt(harmony.PROBE, effort, DATE)])
        assert (got - torch.tensor(wanted)).abs().mean() > 2 * max(probe.FLOOR, probe.FACTOR * told.rounding)


@pytest.mark.usefixtures("no_training")
def test_too_little_disk_is_said_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    recipe = _project(tmp_path)
    with pytest.raises(UserError, match=r"not enough disk under .*work\n  why: 0\.5 GB are needed, 0\.0 GB are free"):
        nano.build(recipe)
    assert not (recipe.work / "nano").exists()


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("fault", ["no manifest", "a stranger's file"])
def test_why_a_nano_that_is_there_is_made_again_is_said(
    built: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe, said = _project(tmp_path), list[str]()
    folder = shutil.copytree(built[0].work / "nano", recipe.work / "nano")
    if fault == "no manifest":
        (folder / "checkpoint.json").unlink()
        with pytest.raises(InterruptedError):
            nano.build(recipe, said.append)
        assert said[0] == f"nano: made again, since {folder} holds no finished checkpoint"
    else:
        (folder / "other.safetensors").write_text("")
        with pytest.raises(UserError, match=r"holds what is not its own: other\.safetensors"):
            nano.build(recipe, said.append)
        assert said == [f"nano: made again, since {folder} holds what checkpoint.json does not name: other.safetensors"]
