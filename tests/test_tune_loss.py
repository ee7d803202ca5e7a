"""The loss and its gradient against torch's own, what a batch holds, and what of [train] reaches the trainer."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from tune.recipe import Train
from tune.training import loss, trainer

VOCABULARY, HIDDEN = 50, 16
BF16 = 2.0**-8  # of a value rounded to bf16, relative


def drawn(rows: int, seed: int = 0, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states and a head in bf16, and labels."""
    generator = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(rows, HIDDEN, generator=generator) * size).to(torch.bfloat16)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).to(torch.bfloat16)
    return hidden, weight, torch.randint(0, VOCABULARY, (rows,), generator=generator)


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0, 3000.0])  # at the last exp alone would overflow
def test_terms_are_cross_entropy_and_its_gradient(size: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = (torch.randn(9, VOCABULARY, generator=generator) * size).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (9,), generator=generator)
    wanted = cross_entropy(logits, labels, reduction="sum")
    wanted.backward()
    found, slope = loss.terms(logits.detach(), labels)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-5)
    assert slope.dtype == torch.bfloat16
    torch.testing.assert_close(slope.float(), logits.grad, rtol=BF16, atol=1e-6 * max(1, size))


@pytest.fixture
def gpu_head(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """GpuHead on a CPU, which has no product of bf16 into float32: the same numbers in another way. Gives a setter of
    how many rows are done at a time; nothing is compiled."""
    plain, parts = torch.mm, []  # type: ignore[var-annotated]

    def mm(a: torch.Tensor, b: torch.Tensor, *, out_dtype: Any = None, out: Any = None) -> torch.Tensor:
        parts.append(len(a))
        return plain(a.to(out_dtype), b.to(out_dtype)) if out_dtype else plain(a, b, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(loss, "_compiled", lambda: loss.terms)

    def rows(count: int) -> None:
        monkeypatch.setattr(loss, "GPU_LOGITS", count * VOCABULARY + 7)

    rows.parts = parts  # type: ignore[attr-defined]
    return rows


@pytest.mark.parametrize("count", [1, 3, 4, 10, 1000])
def test_the_head_on_a_gpu_sums_its_parts(gpu_head: Any, count: int) -> None:
    gpu_head(count)
    hidden, weight, labels = drawn(10)
    ours, theirs = hidden.clone().requires_grad_(), hidden.float().requires_grad_()
    found = loss.GpuHead(weight).loss(ours, labels)
    assert found.dtype == torch.float32
    assert max(gpu_head.parts) == min(count, 10)
    assert sum(gpu_head.parts) == 20  # each row's logits, and its gradient
    wanted = cross_entropy(theirs @ weight.float().T, labels, reduction="sum")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    (0.125 * found).backward()  # what comes from above is not lost
    (0.125 * wanted).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    error = (ours.grad.float() - theirs.grad).norm() / theirs.grad.norm()
    assert error < 2 * BF16
    assert not weight.requires_grad


def test_the_head_on_a_gpu_makes_no_gradient_that_nobody_wants(gpu_head: Any) -> None:
    gpu_head(4)
    hidden, weight, labels = drawn(10)
    with torch.no_grad():
        quiet = loss.GpuHead(weight).loss(hidden, labels)
    assert sum(gpu_head.parts) == 10
    torch.testing.assert_close(quiet, loss.GpuHead(weight).loss(hidden.float().requires_grad_(), labels).detach())


def test_a_batch_with_nothing_to_learn_is_zero_and_has_a_gradient(gpu_head: Any) -> None:
    gpu_head(4)
    hidden, weight, labels = drawn(0)
    for head in (loss.GpuHead(weight), loss.CpuHead(weight.float())):
        given = hidden.float().requires_grad_()
        total = head.loss(given, labels)
        assert total.item() == 0
        total.backward()
        assert given.grad is not None
        assert given.grad.shape == (0, HIDDEN)


@pytest.mark.parametrize("logits", [loss.LOGITS, 4 * VOCABULARY])
def test_both_heads_agree(gpu_head: Any, logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_head(3)
    monkeypatch.setattr(loss, "LOGITS", logits)
    hidden, weight, labels = drawn(10)
    weight[20:] = weight[20]  # rows alike, which the CPU's holds once
    one, other = hidden.clone().requires_grad_(), hidden.float().requires_grad_()
    gpu, cpu = loss.GpuHead(weight).loss(one, labels), loss.CpuHead(weight.float()).loss(other, labels)
    torch.testing.assert_close(gpu, cpu, rtol=1e-5, atol=1e-5)
    gpu.backward()
    cpu.backward()
    assert one.grad is not None
    assert other.grad is not None
    assert (one.grad.float() - other.grad).norm() < 2 * BF16 * other.grad.norm()


tokens = st.integers(1, 400)
row = st.lists(st.tuples(tokens, st.booleans()), min_size=1, max_size=70).map(
    lambda pairs: {"input_ids": [t for t, _ in pairs], "labels": [t if learned else -100 for t, learned in pairs]}
)


@settings(max_examples=80, deadline=None)
@given(st.lists(row, min_size=1, max_size=5), st.sampled_from([1, 8, trainer.PAD]))
def test_a_batch_holds_each_row_and_what_comes_next(rows: list[dict[str, list[int]]], multiple: int) -> None:
    batch = trainer.collate(rows, pad=0, multiple=multiple)
    lengths = [len(one["input_ids"]) for one in rows]
    length = batch["input_ids"].shape[1]
    assert length % multiple == 0
    assert max(lengths) <= length < max(lengths) + multiple
    assert batch["tokens"] == sum(lengths)
    wanted = []
    for n, (one, size) in enumerate(zip(rows, lengths, strict=True)):
        rest = length - size
        assert batch["input_ids"][n].tolist() == one["input_ids"] + [0] * rest
        assert batch["attention_mask"][n].tolist() == [1] * size + [0] * rest
        assert batch["labels"][n].tolist() == one["labels"] + [-100] * rest
        wanted += [(n * length + at - 1, label) for at, label in enumerate(one["labels"]) if at and label != -100]
    assert list(zip(batch["learned"].tolist(), batch["targets"].tolist(), strict=True)) == wanted


CARRIED: dict[str, tuple[Any, str, Any]] = {  # by key of [train]: another value, and what becomes of it
    "optimizer": ("adamw", "optim", "adamw_torch_fused"),
    "learning_rate": (0.5, "learning_rate", 0.5),
    "schedule": ("constant", "lr_scheduler_type", "constant_with_warmup"),
    "warmup_steps": (77, "warmup_steps", 77),
    "epochs": (2.5, "num_train_epochs", 2.5),
    "max_steps": (12, "max_steps", 12),
    "batch": (7, "per_device_train_batch_size", 7),
    "accumulate": (9, "gradient_accumulation_steps", 9),
    "eval_every": (11, "eval_steps", 11),
    "save_every": (13, "save_steps", 13),
    "gpus": (2, "save_steps", trainer.SAVE_STEPS),
    "hosts": (["a", "b"], "save_steps", trainer.SAVE_STEPS),
    "seed": (4, "seed", 4),
}
ELSEWHERE = {  # by what reads it
    "backend": "choice",
    "targets": "fit.wrap",
    "rank": "fit.wrap",
    "alpha": "fit.wrap",
    "eval_rows": "train",
    "patience": "watch",
}


def test_every_key_of_train_is_carried(tmp_path: Path) -> None:
    assert CARRIED.keys() | ELSEWHERE.keys() == Train.model_fields.keys()
    assert not CARRIED.keys() & ELSEWHERE.keys()
    for key, (value, name, wanted) in CARRIED.items():
        made = trainer.arguments(Train(**{key: value}), tmp_path, gpu=False)
        assert made[name] == wanted, key
    looks = trainer.arguments(Train(eval_every=11), tmp_path, gpu=False)
    assert (looks["eval_strategy"], looks["per_device_eval_batch_size"]) == ("steps", Train().batch)
    assert trainer.arguments(Train(), tmp_path, gpu=False)["eval_strategy"] == "no"


@pytest.mark.parametrize(("schedule", "named"), [("linear", "linear"), ("cosine", "cosine")])
def test_trl_takes_every_argument(tmp_path: Path, schedule: Any, named: str) -> None:
    from trl import SFTConfig

    made = trainer.arguments(Train(schedule=schedule, eval_every=5), tmp_path, gpu=False)
    config = SFTConfig(**made)
    assert config.lr_scheduler_type == named
    assert (config.packing, config.max_length, config.router_aux_loss_coef) == (False, None, 0.0)


@pytest.mark.parametrize(
    ("installed", "environment", "wanted"),
    [
        ([], {}, []),
        (["tensorboard"], {}, ["tensorboard"]),
        (["wandb"], {}, []),  # it would ask for an account in the middle of a run
        (["wandb"], {"WANDB_MODE": "offline"}, ["wandb"]),
        (["tensorboard", "wandb"], {"WANDB_API_KEY": "x"}, ["tensorboard", "wandb"]),
        ([], {"WANDB_API_KEY": "x"}, []),
    ],
)
def test_curves_go_to_what_is_installed_and_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: list[str],
    environment: dict[str, str],
    wanted: list[str],
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plain = importlib.util.find_spec
    known = ("tensorboard", "wandb")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: n if n in installed else None if n in known else plain(n)
    )
    assert trainer.arguments(Train(), tmp_path, gpu=False)["report_to"] == wanted
