"""Which settings of PEFT are merged, passed over, or refused: every field of the LoraConfig that is installed."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from peft import LoraConfig

from tune.errors import UserError
from tune.weights import peft_config

FIELDS = {f.name for f in dataclasses.fields(LoraConfig)}
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
SET = {  # a value that turns the key on
    "fan_in_fan_out": True,
    "bias": "lora_only",
    "modules_to_save": ["lm_head"],
    "rank_pattern": {"q_proj": 2},
    "alpha_pattern": {"q_proj": 2},
    "megatron_config": {"a": 1},
    "trainable_token_indices": [1],
    "use_dora": True,
    "alora_invocation_tokens": [],
    "use_qalora": True,
    "monteclora_config": {"num_samples": 2},
    "layer_replication": [[0, 2], [1, 2]],
    "lora_bias": True,
    "use_bdlora": {"nblocks": 2},
    "arrow_config": {"top_k": 1},
    "kasa_config": {"beta": 1},
}


def test_every_field_of_the_installed_peft_is_decided() -> None:
    assert FIELDS == peft_config.KEYS
    assert SET.keys() == peft_config.REFUSED.keys()
    groups = [peft_config.HONOURED, peft_config.HARMLESS, peft_config.REFUSED.keys()]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_what_peft_saves_by_default_is_plain(tmp_path: Path) -> None:
    LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], lora_dropout=0.1).save_pretrained(tmp_path)
    settings = peft_config.read(tmp_path)
    assert peft_config.scale(settings) == 2
    assert settings.keys() <= FIELDS


@pytest.mark.parametrize("key", sorted(SET))
def test_what_is_no_plain_product_is_refused_by_name(tmp_path: Path, key: str) -> None:
    (tmp_path / peft_config.FILE).write_text(json.dumps({**PLAIN, key: SET[key]}))
    with pytest.raises(UserError, match=rf"cannot be merged\n  why: adapter_config\.json sets {key}: it "):
        peft_config.read(tmp_path)
    default = next(f for f in dataclasses.fields(LoraConfig) if f.name == key)
    plain = default.default if default.default is not dataclasses.MISSING else default.default_factory()
    assert peft_config.problem({**PLAIN, key: plain}) == ""


@pytest.mark.parametrize("key", sorted(peft_config.HARMLESS))
def test_what_only_training_reads_is_passed_over(key: str) -> None:
    assert peft_config.problem({**PLAIN, key: {"anything": 1}}) == ""


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_initial_values_that_leave_the_base_alone_are_plain(init: object) -> None:
    assert peft_config.problem({**PLAIN, "init_lora_weights": init}) == ""


@pytest.mark.parametrize(
    "init", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "mica", "lora_ga", "new", 1, None]
)
def test_initial_values_that_change_the_base_are_refused(init: object) -> None:
    assert f"init_lora_weights {init!r}" in peft_config.problem({**PLAIN, "init_lora_weights": init})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"r": None}, "r None"),
        ({"r": 0}, "r 0"),
        ({"r": True}, "r True"),
        ({"r": "4"}, "r '4'"),
        ({"r": 2.5}, "r 2.5"),
        ({"lora_alpha": "8"}, "lora_alpha '8'"),
        ({"lora_alpha": None}, "lora_alpha None"),
        ({"lora_alpha": True}, "lora_alpha True"),
        ({"lora_alpha": math.inf}, "lora_alpha inf"),
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"use_rslora": "yes"}, "use_rslora 'yes'"),
        ({"a_key_of_tomorrow": 0.5}, "a_key_of_tomorrow: it is not known here"),
    ],
)
def test_what_is_no_number_or_not_known_is_named(change: dict[str, object], why: str) -> None:
    assert why in peft_config.problem({**PLAIN, **change})


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
def test_what_is_missing_is_named(key: str) -> None:
    assert peft_config.problem({k: v for k, v in PLAIN.items() if k != key}) == f"adapter_config.json lacks {key}"


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_a_key_of_a_later_peft_that_is_empty_is_no_matter(value: object) -> None:
    assert peft_config.problem({**PLAIN, "a_key_of_tomorrow": value}) == ""


def test_rank_stabilized_scale() -> None:
    assert peft_config.scale({**PLAIN, "use_rslora": True}) == 4.0
