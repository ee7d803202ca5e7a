"""Profiles: each flag is one of the engine's and has a source, those after -- win, memory counts them."""

import json
import re
import shlex

import pytest
from checkpoints import GPT_OSS, fill, finish
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deploy import sizing
from deploy import spec as deployment
from serve import command, engine_flags, fitting, machine, memory, profiles
from serve.cli import main
from serve.command import Options
from serve.engine_flags import REFUSED
from serve.machine import Machine
from serve.memory import GIB
from serve.profiles import FAMILIES, NAMES
from tune.errors import UserError
from tune.recipe import Recipe, Serve
from tune.weights.tensors import tensors

SMALL = GPT_OSS["openai/gpt-oss-20b"]


def flags(name, gpu, *extra):
    return profiles.on(Options(profile=name, extra=extra), gpu).engine


@pytest.mark.parametrize("one", profiles.sets(), ids=lambda one: f"{one.profile}-{'-'.join(one.on)}")
def test_each_flag_is_one_that_the_engine_takes_and_says_where_it_comes_from(one):
    engine_flags.read(one.flags)
    said = engine_flags.names(one.flags)
    assert bool(said) != bool(one.env)
    assert not said & {*REFUSED, "--tensor-parallel-size", "--data-parallel-size", "--pipeline-parallel-size"}
    assert engine_flags.names(one.unless) == set(one.unless)
    assert one.on
    assert re.search(r"\w\.py:\d+|recipe of gpt-oss|guide|choice", one.source) or one.measured
    assert not one.measured or re.search(r"\b20\d\d-\d\d\b", one.measured)
    assert all(name.startswith("VLLM_") for name in one.env)


def test_every_profile_means_something_on_every_gpu():
    for name in NAMES:
        for gpu in FAMILIES[:-1]:
            assert flags(name, gpu), (name, gpu)
            assert engine_flags.read(flags(name, gpu)) != memory.Tuning()


def test_without_a_profile_nothing_changes():
    for gpu in (*FAMILIES, "L4", ""):
        assert profiles.on(Options(), gpu) == Options()
        assert list(profiles.findings(Options(), gpu)) == []


@pytest.mark.parametrize(
    ("gpu", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("A100-80GB", "A100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA L4", None),
        ("NVIDIA H800", None),
        ("", None),
    ],
)
def test_a_gpu_is_known_by_its_name(gpu, kind):
    assert profiles.family(gpu) == kind


def test_every_family_of_gpus_is_in_the_table_of_sizes():
    known = {profiles.family(name) for name in machine.sizes()}
    assert known == {*FAMILIES[:-1], None}


@given(
    st.sampled_from(NAMES),
    st.sampled_from(FAMILIES),
    st.lists(
        st.sampled_from(
            [
                ("--max-num-seqs", "7"),
                ("--max-num-batched-tokens=1k",),
                ("--cudagraph-capture-sizes", "1", "3"),
                ("--max-cudagraph-capture-size", "16"),
                ("--stream_interval", "2"),
                ("--compilation-config.cudagraph_mode", "NONE"),
                ("-cc.mode=0",),
                ("--enforce-eager",),
                ("--performance-mode", "throughput"),
            ]
        ),
        unique=True,
        max_size=4,
    ),
)
def test_a_profile_never_undoes_what_stands_after_the_dashes(name, gpu, chosen):
    extra = tuple(word for words in chosen for word in words)
    told = flags(name, gpu, *extra)
    assert told[len(told) - len(extra) :] == extra
    alone, both = engine_flags.read(extra), engine_flags.read(told)
    for field in alone.model_fields_set & {"sequences", "batched_tokens", "graphs", "eager"} - {"hybrid"}:
        assert getattr(both, field) == getattr(alone, field)
    said, before = engine_flags.names(extra), engine_flags.names(told[: len(told) - len(extra)])
    rivals = {"--cudagraph-capture-sizes", "--max-cudagraph-capture-size"}
    for other in rivals:  # the engine takes one of both
        assert other not in said or not (rivals - {other}) & before
    if said & {"--compilation-config", "-cc"}:
        assert not rivals & before


def test_memory_sees_the_profile():
    stored = tensors(SMALL, "mxfp4")
    takes = {}
    for name in ("none", *NAMES):
        figures = {}
        options = profiles.on(Options(profile=name), "H100")
        assert list(fitting.on_gpu(SMALL, stored, options, machine.named("H100", 1), figures)) == []
        takes[name] = figures["need_bytes"] - figures["weight_bytes"]
    assert takes["latency"] < takes["fast-start"] < takes["none"] < takes["throughput"]


@pytest.mark.parametrize(("largest", "sizes"), [(1, 1), (8, 4), (256, 35), (512, 51), (1024, 83), (2048, 147)])
def test_graphs_up_to_a_largest_size_are_counted_as_the_engine_makes_them(largest, sizes):
    assert engine_flags.read(("--max-cudagraph-capture-size", str(largest))).graphs == sizes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = fill(tmp_path / "tiny")
    finish(found)
    return found


def run(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def told(monkeypatch, folder, here, *words):
    monkeypatch.setattr(machine, "detect", lambda: here)
    out = run("command", folder, *words)
    assert out.exit_code == 0, out.output
    return out.output.splitlines()


CARD = Machine(device="cuda", cores=8, memory=79 * GIB, total=79 * GIB, vllm="0.32.0", model="NVIDIA H100 80GB HBM3")
PROCESSOR = Machine(device="cpu", cores=8, memory=64 * GIB, amx=True, vllm="0.32.0")


def test_the_command_has_the_profile_between_ours_and_those_after_the_dashes(folder, monkeypatch):
    *env, line = told(
        monkeypatch, folder, CARD, "--profile", "fast-start", "--tensor-parallel", "1", "--", "--seed", "7"
    )
    ours = "--disable-access-log-for-endpoints /health,/metrics,/ping"
    sizes = "--cudagraph-capture-sizes 1 2 4 8 16 32 64 128 256 512 1024 --max-num-seqs 256"
    assert line.endswith(f"{ours} {sizes} --seed 7")
    assert "VLLM_ENABLE_STARTUP_PLAN=1 \\" in env
    *env, line = told(monkeypatch, folder, CARD)
    assert line.endswith(ours)
    assert not [text for text in env if "STARTUP_PLAN" in text]


def test_the_recipe_chooses_and_the_command_line_wins(folder, monkeypatch, tmp_path):
    (tmp_path / "recipe.toml").write_text('[serve]\nprofile = "latency"\n')
    assert "--max-num-seqs 64" in told(monkeypatch, folder, CARD)[-1]
    assert "--max-num-seqs" not in told(monkeypatch, folder, CARD, "--profile", "none")[-1]
    (tmp_path / "recipe.toml").write_text('[serve]\nprofile = "fastest"\n')
    out = run("command", folder)
    assert out.exit_code == 2
    assert "serve.profile: Input should be 'none', 'latency', 'throughput' or 'fast-start'" in out.output
    (tmp_path / "recipe.toml").unlink()
    out = run("command", folder, "--profile", "fastest")
    assert out.exit_code == 2
    assert "'fastest' is not one of 'latency', 'throughput', 'fast-start', 'none'" in out.output
    with pytest.raises(UserError, match="--profile: Input should be"):
        command.options(Serve(), profile="fastest")


def test_a_cpu_is_told_once_that_nothing_changes_there(folder, monkeypatch):
    monkeypatch.setattr(machine, "detect", lambda: PROCESSOR)
    out = run("preflight", folder, "--port", "0", "--profile", "fast-start", "--no-digests")
    assert out.exit_code == 0, out.output
    assert out.stderr.count("S043 --profile fast-start changes nothing on a CPU") == 1
    latency = told(monkeypatch, folder, PROCESSOR, "--profile", "latency")[-1]
    assert "--max-num-batched-tokens 512 --max-num-seqs 16" in latency
    assert "cudagraph" not in latency


def test_another_gpu_is_no_guess(folder):
    out = run("preflight", folder, "--gpu", "L4", "--profile", "latency", "--json")
    (problem,) = json.loads(out.stdout)["problems"]
    assert (out.exit_code, problem["id"], problem["severity"]) == (2, "S042", "error")
    assert "--profile none" in problem["fix"]


def test_a_deployment_has_the_profile_of_its_gpu_and_it_wins_over_what_sizing_reckons_with():
    def args(profile, gpu="H100"):
        recipe = Recipe.model_validate({"serve": {"profile": profile}, "deploy": {"gpu": gpu}})
        return deployment.options(recipe, "modal")

    assert args("none").engine == deployment.TUNING
    assert args("latency").tuning.batched_tokens == 2048
    assert args("throughput", "B200").tuning.batched_tokens == 32_768
    assert args("throughput", "B200").tuning.utilisation == 0.92
    load = sizing.Load(SMALL, tensors(SMALL, "mxfp4"), args("throughput"), "mxfp4")
    reckoned = {name: load.placed(name).options.tuning.batched_tokens for name in ("A100-80GB", "H100", "B200", "L4")}
    assert reckoned == {"A100-80GB": 4096, "H100": 16_384, "B200": 32_768, "L4": 8192}
    assert shlex.join(load.placed("L4").options.engine) == shlex.join(deployment.TUNING)
