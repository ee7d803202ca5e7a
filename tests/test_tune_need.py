"""What training needs, against measured peaks and a real Trainer; and the advice when it does not fit."""

import os
from functools import partial

import pytest
import torch

from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Train
from tune.training import memory
from tune.training.machine import fitting, hardware
from tune.training.machine.hardware import GB, Gpu, Hardware
from tune.training.machine.need import eta, looking, need, parameters, steps

GIB = 2**30
SMALL = {
    "vocab_size": 201088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "quantization_config": {"quant_method": "mxfp4"},
}
LARGE = {**SMALL, "num_hidden_layers": 36, "num_local_experts": 128}
LAPTOP = Hardware("x", 2, 24 * GB, amx=False, gpus=())
H100 = Gpu("H100", 80 * GB, 80 * GB, uuid="GPU-a")


def gpu(card: Gpu) -> Hardware:
    return LAPTOP._replace(gpus=(card,))


# torch.cuda.max_memory_allocated on an H100 with torch 2.13, TRL 1.15, PEFT 0.21.2, Unsloth 2026.10.5: LoRA r = 8 on
# attention, adamw_8bit.
@pytest.mark.parametrize(
    ("backend", "config", "batch", "measured"),
    [
        ("peft", SMALL, 2, 40.45),
        ("packed", SMALL, 2, 13.01),
        ("packed", SMALL, 1, 12.69),
        ("unsloth", SMALL, 2, 15.33),
        ("unsloth", SMALL, 1, 13.77),
    ],
)
def test_the_estimate_is_near_what_was_measured(backend, config, batch, measured):
    settings = Train(batch=batch, optimizer="adamw_8bit")
    found = need(config, settings, 1024, backend=backend, gpu=True, base_is_mxfp4=True).peak
    assert 0.97 * measured <= found / GIB <= 1.10 * measured


def test_weights_and_adapters_are_counted():
    estimate = partial(need, SMALL, gpu=True, base_is_mxfp4=True)
    assert estimate(Train(), 512, backend="peft").weights == pytest.approx(41.83e9, rel=1e-3)  # OpenAI: 20.9 G
    assert estimate(Train(), 512, backend="unsloth").weights / GIB == pytest.approx(12.82, abs=0.01)  # the file
    assert parameters(SMALL, Train()) == 3_981_312  # as PEFT counts them
    experts = 24 * 32 * (8 * (2 * 2880 + 2880) + 8 * (2880 + 2880))
    assert parameters(SMALL, Train(targets="all")) == 3_981_312 + experts
    both = Train(targets="all")
    assert estimate(both, 512, backend="packed").adapter == (3_981_312 + experts) * 16
    eight = Train(targets="all", optimizer="adamw_8bit")
    assert estimate(eight, 512, backend="packed").adapter == (3_981_312 + experts) * 10
    assert estimate(Train(gpus=2), 512, backend="packed").adapter == 3_981_312 * 20
    half = estimate(Train(gpus=2), 512, backend="peft", shards=2).weights
    assert 41.83e9 / 2 < half < 41.83e9 * 0.7
    with pytest.raises(UserError, match="needs a base in MXFP4"):
        need(SMALL, Train(), 512, backend="packed", gpu=True, base_is_mxfp4=False)


def test_a_base_that_does_not_fit_says_what_to_change():
    with pytest.raises(UserError, match=r'(?s)83\.7 of weights.*base\.model = "nano"') as caught:
        fitting.require(LAPTOP, SMALL, Train(), 512, backend="peft")
    assert "24.0 GB are free" in caught.value.why
    assert 'train on a GPU with 15 GB and train.backend = "packed"' in caught.value.fix
    fitting.require(gpu(H100), SMALL, Train(), 512, backend="peft")
    with pytest.raises(UserError, match=r"set train\.batch = 1 and train\.accumulate = 64, or"):
        fitting.require(gpu(Gpu("L40S", 48 * GB)), SMALL, Train(batch=64, accumulate=1), 512, backend="peft")
    two = LAPTOP._replace(gpus=(H100._replace(free_bytes=1), H100))
    with pytest.raises(UserError, match=r"CUDA_VISIBLE_DEVICES=1 tune train, or set train\.gpus = 2"):
        fitting.require(two, SMALL, Train(), 512, backend="peft")


@pytest.mark.parametrize(
    ("free", "batch", "tokens", "wanted"),
    [
        (48, 8, 1024, ["batch", "packed", "batch packed", "batch packed tokens"]),
        (24, 2, 1024, ["packed", "batch packed", "batch packed tokens"]),
        (17, 8, 2048, ["batch packed", "batch packed tokens"]),
        (16, 8, 8192, ["batch packed tokens"]),
        (13, 8, 1024, []),
    ],
)
def test_advice_is_the_mildest_first_and_true(free, batch, tokens, wanted):
    estimate = partial(need, SMALL, gpu=True, base_is_mxfp4=True, shards=1)
    settings = Train(batch=batch)
    found = list(fitting.remedies(estimate, settings, tokens, free * GB, backend="peft", packs=True))
    named = [
        " ".join(k for k in ("batch", "packed", "tokens") if k in one.do.replace("max_tokens", "tokens"))
        for one in found
    ]
    assert named == wanted
    for one in found:
        assert one.wanted.total <= free * GB
        if "batch" in one.do:
            assert f"train.accumulate = {settings.batch * settings.accumulate}" in one.do
    if found and "max_tokens" in found[-1].do:
        chosen = int(found[-1].do.partition("max_tokens = ")[2].partition(",")[0])
        assert chosen % 64 == 0
        longer = estimate(Train(batch=1, accumulate=4 * batch), chosen + 64, backend="packed").total
        assert longer > free * GB or chosen + 64 >= tokens


def test_a_worker_looks_at_its_own_gpu(monkeypatch):
    two = LAPTOP._replace(gpus=(H100._replace(free_bytes=1, total_bytes=1), H100))
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "1")
    assert fitting.require(two, SMALL, Train(), 512, backend="peft").weights
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "0")
    with pytest.raises(UserError, match="does not fit"):
        fitting.require(two, SMALL, Train(), 512, backend="peft")


def test_a_gpu_that_others_fill_is_named_with_them(monkeypatch):
    busy = H100._replace(free_bytes=4 * GB)
    monkeypatch.setattr(hardware, "others_on", lambda _: ["python (pid 7) 76.0 GB"])
    monkeypatch.setattr(hardware, "cards", lambda: (busy, H100))
    with pytest.raises(UserError, match=r"H100 is in use: 4\.0 of 80\.0 GB are free") as caught:
        fitting.require(gpu(busy), SMALL, Train(), 512, backend="peft")
    assert "python (pid 7) 76.0 GB" in caught.value.why
    assert caught.value.fix == "CUDA_VISIBLE_DEVICES=1 tune train"
    monkeypatch.setattr(hardware, "cards", lambda: (busy,))
    with pytest.raises(UserError, match="nvidia-smi"):
        fitting.require(gpu(busy), SMALL, Train(), 512, backend="peft")


def test_weights_are_spread_only_where_one_gpu_does_not_hold_them(monkeypatch):
    monkeypatch.setattr(hardware, "cards", lambda: (Gpu("L40S", 48 * GB, 48 * GB),) * 2)
    monkeypatch.setattr("tune.ram.free", lambda: 500 * GB)
    plain = {k: v for k, v in SMALL.items() if k != "quantization_config"}
    assert not fitting.spread(plain, Train(gpus=2), 512)
    assert not fitting.spread(LARGE | plain | {"num_hidden_layers": 4}, Train(gpus=2), 512)
    monkeypatch.setattr(hardware, "cards", lambda: (Gpu("A10G", 24 * GB, 24 * GB),) * 2)
    assert fitting.spread(plain, Train(gpus=2), 512)
    assert not fitting.spread(SMALL, Train(gpus=2), 512)  # packed, which one holds
    with pytest.raises(UserError, match="packed experts cannot be spread"):
        fitting.spread(LARGE, Train(gpus=2), 512)
    monkeypatch.setattr("tune.ram.free", lambda: 50 * GB)
    with pytest.raises(UserError, match=r"each of 2 processes loads 41\.8 GB into RAM"):
        fitting.spread(plain, Train(gpus=2), 512)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 3, "accumulate": 2, "epochs": 1.0},
        {"batch": 2, "accumulate": 4, "epochs": 2.5},
        {"batch": 4, "accumulate": 1, "epochs": 0.3},
        {"batch": 2, "accumulate": 2, "max_steps": 7},
        {"batch": 25, "accumulate": 1},
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(tmp_path, settings):
    from transformers import Trainer, TrainingArguments

    wanted = Train(**settings)
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=wanted.batch,
        gradient_accumulation_steps=wanted.accumulate,
        num_train_epochs=wanted.epochs,
        max_steps=wanted.max_steps,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
    )
    trainer = Trainer(model=OneWeight(), args=args, train_dataset=[{"x": float(n)} for n in range(25)])
    trainer.train()
    assert steps(25, wanted) == trainer.state.global_step == trainer.state.max_steps


class OneWeight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"loss": (self.weight * x).mean()}


def test_a_step_of_more_rows_than_there_are_is_refused():
    assert steps(16, Train(batch=2, accumulate=4, gpus=2)) == 1
    assert steps(17, Train(batch=2, accumulate=2, gpus=2)) == 3  # 5 batches of a process, two a step
    with pytest.raises(UserError, match=r"a step learns from 32 rows, and there are 31\n.*batch 2 x accumulate 4 x 4"):
        steps(31, Train(batch=2, accumulate=4, gpus=2, hosts=["a", "b"]))


def test_time_is_told_from_rehearsed_steps():
    assert eta(1.308, 60) == "60 steps of 1.31 s: about 1 min 18 s"
    assert eta(1.9, 4000, looking=60.0) == "4000 steps of 1.90 s: about 2 h 7 min"
    assert eta(0.5, 4) == "4 steps of 0.50 s: about 2 s"
    assert looking(0, 100, Train(), 3.0) == 0
    assert looking(7, 100, Train(batch=2), 3.0) == 2 * 4 * 1.5
    assert looking(7, 100, Train(batch=2, gpus=2, eval_every=25), 3.0) == 5 * 2 * 1.5  # the one at 100 is the one after


def test_the_rehearsal_tells_the_time_of_looks_too():
    row = Row(id="a", page="p", effort="low", input_ids=[1, 2], labels=[-100, 2])
    told = memory.told(memory.Rehearsal(2.0, 0, 0), {"train": [row] * 8, "eval": [row] * 6}, Train(batch=2))
    assert told == "rehearsal: the longest 2 rows take 2.00 s; at most 1 steps of 8.00 s: about 14 s"
