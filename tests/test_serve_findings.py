"""Each rule of serve preflight has its fault planted: it is found under its id, with a command that mends it."""

import importlib.util
import json
import re
import shutil
import socket
from pathlib import Path

import certs
import lora_folder
import pytest
from checkpoints import CONFIG, GPT_OSS, fill, finish, write_weights, write_words
from click.testing import CliRunner

from deploy.findings import RULES as DEPLOY
from serve import fitting, machine, memory, preflight
from serve.adapters import Room
from serve.cli import main
from serve.command import Options
from serve.findings import KINDS, RULES
from serve.machine import Machine
from tune import checkpoint
from tune.errors import UserError
from tune.weights import architecture
from tune.weights.tensors import Fault, Tensor, expected, shape_of
from tune.weights.tensors import tensors as published

GIB = 2**30
HERE = Machine(device="cpu", cores=2, memory=16 * GIB, amx=True, vllm="0.32.0")
H100 = Machine(device="cuda", cores=8, memory=79 * GIB, total=79 * GIB, gpus=2, vllm="0.32.0")
OPTIONS = Options(port=0)
YARN = CONFIG["rope_scaling"]
COMMAND = r"\b(tune|serve|pip|chmod) \w|\bexport \w+=|--[a-z]|\bmove "


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("findings") / "tiny")
    finish(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "tiny")


def config(**values):
    """Another config.json; None takes a key out."""

    def plant(folder):
        told = {**json.loads((folder / "config.json").read_text()), **values}
        (folder / "config.json").write_text(json.dumps({k: v for k, v in told.items() if v is not None}))
        finish(folder)

    return plant


def tensors(**changes):
    def plant(folder):
        changed = {name.replace("__", "."): tensor for name, tensor in changes.items()}
        known = {n: t for n, t in {**expected(CONFIG), **changed}.items() if t}
        write_weights(folder / "model.safetensors", known)
        finish(folder)

    return plant


def untrained(folder):
    data = json.loads((folder / "checkpoint.json").read_text())
    data["settings"]["checkpoint"]["prompt_fingerprint"] = "0" * 64
    (folder / "checkpoint.json").write_text(json.dumps(data))


def without(name):
    return lambda folder: ((folder / name).unlink(), finish(folder))


def other_words(folder):
    write_words(folder / "tokenizer.json", call=7)
    finish(folder)


def endless(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [199999]}))
    finish(folder)


def readable(folder):
    Path(certs.make(folder.parent).key).chmod(0o604)


def shown(folder):
    """The options of a server with the certificate that lies beside the folder."""
    return Options(port=0, tls_cert=str(folder.parent / "a.pem"), tls_key=str(folder.parent / "a.key"))


def beside(**facts):
    """An adapter of the folder's base, next to it."""
    return lambda folder: lora_folder.make(folder.parent / "lora", checkpoint.read(folder), **facts)


def near(name):
    """The options of a server with that adapter."""
    return lambda folder: Options(port=0, adapters={name: str(folder.parent / "lora")})


F32 = {"model__norm__weight": Tensor((32,), "F32")}
MIXED = {**F32, "lm_head__weight": Tensor((CONFIG["vocab_size"], 32), "F16")}
FEWER = {"model__embed_tokens__weight": Tensor((200_064, 32), "BF16")}
NAMELESS = "no-such-host.invalid"
PUBLIC = Options(port=0, host="0.0.0.0")
PLAIN = HERE.model_copy(update={"amx": False})


def wide_experts(folder):
    """In MXFP4, with gpt-oss's own width: halves of it are not whole tiles."""
    finish(fill(folder, "mxfp4", intermediate_size=2880), format="mxfp4")


# id, a plant in the folder, options, machine, a word of what is said.
PLANTS = [
    ("S001", lambda f: (f / "config.json").write_text(json.dumps(CONFIG, indent=1)), OPTIONS, HERE, "sha256 differs"),
    ("S002", untrained, OPTIONS, HERE, "another prompt"),
    ("S003", lambda f: finish(f, format="lora"), OPTIONS, HERE, "LoRA adapter"),
    ("S004", without("canary.json"), OPTIONS, HERE, "canary.json"),
    ("S010", config(model_type="llama"), OPTIONS, HERE, "'llama'"),
    ("S010", config(head_dim="x"), OPTIONS, HERE, "head_dim 'x'"),
    ("S010", config(attention_bias=False), OPTIONS, HERE, "attention_bias false"),
    ("S010", config(rms_norm_eps=1e-6), OPTIONS, HERE, "rms_norm_eps 1e-06"),
    ("S010", config(num_experts_per_tok=None), OPTIONS, HERE, "num_experts_per_tok None"),
    ("S010", config(num_experts_per_tok=4), OPTIONS, HERE, "1 to 2"),
    ("S011", config(rope_scaling=None), OPTIONS, HERE, "neither rope_scaling nor rope_parameters"),
    ("S011", config(rope_scaling=[1]), OPTIONS, HERE, "rope_scaling [1]"),
    ("S011", config(rope_theta=None), OPTIONS, HERE, "no usable rope_theta"),
    ("S011", config(rope_scaling={**YARN, "rope_type": "linear"}), OPTIONS, HERE, "rope_type 'linear'"),
    ("S011", config(rope_scaling={**YARN, "factor": 0}), OPTIONS, HERE, "rope_scaling.factor"),
    ("S011", config(rope_scaling={**YARN, "beta_fast": True}), OPTIONS, HERE, "rope_scaling.beta_fast"),
    ("S012", config(quantization_config={"quant_method": "mxfp4"}), OPTIONS, HERE, "'mxfp4' of merged weights"),
    ("S013", config(layer_types=["full_attention", "sliding_attention"]), OPTIONS, HERE, "layer 0 is full_attention"),
    ("S010", config(sliding_window=None), OPTIONS, HERE, "lacks sliding_window"),
    ("S013", config(use_sliding_window=False), OPTIONS, HERE, "use_sliding_window false"),
    ("S014", config(tie_word_embeddings=True), OPTIONS, HERE, "tie_word_embeddings true"),
    ("S014", config(vocab_size=200_064), OPTIONS, HERE, "vocab_size 200064"),
    ("S020", without("model.safetensors"), OPTIONS, HERE, "no weights"),
    ("S021", tensors(model__norm__weight=None), OPTIONS, HERE, "lacks 1 of 37"),
    ("S021", tensors(model__bias=Tensor((1,), "BF16")), OPTIONS, HERE, "no place for"),
    ("S022", tensors(**FEWER), OPTIONS, HERE, "is [200064, 32], config.json makes it [201088, 32]"),
    ("S023", tensors(**F32), OPTIONS, HERE, "1 tensors of the wrong dtype"),
    ("S023", tensors(**MIXED), OPTIONS, HERE, "2 tensors of the wrong dtype"),
    ("S030", other_words, OPTIONS, HERE, "<|call|>"),
    ("S031", endless, OPTIONS, HERE, "lacks end ids [200002, 200012]"),
    ("S040", None, Options(port=0, max_model_len=4097), HERE, "over the model's 4096"),
    ("S041", None, Options(port=0, extra=("-tp", "2")), H100, "num_key_value_heads 1"),
    ("S041", None, Options(port=0, extra=("-pp", "4")), H100.model_copy(update={"gpus": 4}), "2 layers make no 4"),
    ("S042", None, Options(port=0, profile="latency"), H100.model_copy(update={"model": "NVIDIA L4"}), "for NVIDIA L4"),
    ("S043", None, Options(port=0, profile="fast-start"), HERE, "nothing on a CPU"),
    ("S045", None, Options(port=0, adapter_rank=513), H100, "up to 512"),
    ("S045", beside(), near("tiny"), HERE, "the name tiny is taken"),
    ("S046", beside(of="f" * 64), near("mine"), HERE, "it is of tiny@"),
    ("S046", None, near("mine"), HERE, "no finished checkpoint"),
    ("S050", None, OPTIONS, HERE.model_copy(update={"vllm": "0.29.1"}), "0.29.1"),
    ("S051", None, OPTIONS, HERE, "wrote over it"),
    ("S052", None, Options(port=0, host=NAMELESS), HERE, NAMELESS),
    ("S053", None, Options(port=0, key_env="NO_SUCH_KEY"), HERE, "NO_SUCH_KEY is empty"),
    ("S054", None, PUBLIC, HERE, "anyone who reaches the port"),
    ("S055", lambda f: certs.make(f.parent, words="words"), shown, HERE, "a.key is encrypted"),
    ("S056", lambda f: certs.make(f.parent, days=1), shown, HERE, "ends in 1.0 days"),
    ("S057", readable, shown, HERE, "everyone on this machine"),
    ("S060", lambda f: (fill(f, hidden_size=48), finish(f)), OPTIONS, HERE, "hidden_size"),
    ("S060", lambda f: (fill(f, "mxfp4"), finish(f, format="mxfp4")), OPTIONS, PLAIN, "AMX"),
    ("S060", None, Options(port=0, data_parallel=2), HERE, "share a GPT-OSS's experts"),
    ("S061", None, OPTIONS, PLAIN, "portable expert kernel"),
    ("S065", lambda f: (fill(f, "mxfp4"), finish(f, format="mxfp4")), Options(port=0, adapter_rank=8), HERE, "MXFP4"),
    ("S066", wide_experts, Options(port=0, adapter_rank=8, adapter_experts=True, tensor_parallel=2), H100, "of 1536"),
    ("S070", None, OPTIONS, HERE.model_copy(update={"memory": GIB}), "1.0 GiB can be used"),
    ("S070", None, OPTIONS, H100.model_copy(update={"memory": GIB, "total": GIB}), "each GPU"),
    ("S071", None, Options(port=0, data_parallel=4), H100, "take 4 GPUs, 2 can be seen"),
    ("S071", None, Options(port=0, extra=("-dp", "4")), H100, "take 4 GPUs, 2 can be seen"),
    ("S072", None, OPTIONS, H100.model_copy(update={"memory": 0, "total": 0}), "nvidia-smi"),
    ("S073", None, OPTIONS, H100.model_copy(update={"memory": 9 * GIB}), "are free"),
]  # fmt: skip


def overwritten(tmp_path, monkeypatch):
    site = tmp_path / "site"
    for name, text in {
        "openai_harmony/__init__.py": "written over",
        "oss_harmony-0.0.11.dist-info/METADATA": "Metadata-Version: 2.1\nName: oss-harmony\nVersion: 0.0.11\n",
        "oss_harmony-0.0.11.dist-info/RECORD": "openai_harmony/__init__.py,sha256=AAAA,1\n",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.parametrize(("id", "plant", "options", "machine", "says"), PLANTS)
def test_a_planted_fault_has_its_id_and_a_command(folder, tmp_path, monkeypatch, id, plant, options, machine, says):
    if plant:
        plant(folder)
    if id == "S051":
        overwritten(tmp_path, monkeypatch)
    options = options(folder) if callable(options) else options
    mine = [p for p in preflight.check(folder, options, machine).problems if p.id == id]
    assert mine
    assert any(says in f"{p.what} {p.why}" for p in mine), mine
    for p in mine:
        assert p.severity == {rule.id: rule.severity for rule in RULES}[id]
        assert re.search(COMMAND, p.fix), p
    assert str(mine[0]).startswith(f"{id} {mine[0].what}\n")


def test_every_rule_has_a_plant_and_every_kind_of_fault_a_rule():
    ids = [rule.id for rule in RULES]
    assert ids == sorted(set(ids))
    assert set(ids) == {"S000", *(id for id, *_ in PLANTS)}
    assert set(KINDS.values()) < set(ids)
    assert set(KINDS) == set(Fault.__annotations__["kind"].__args__)
    assert not set(ids) & {rule.id for rule in DEPLOY}


def test_what_cannot_be_looked_at_has_an_id_in_json():
    out = CliRunner().invoke(main, ["preflight", "no-such-folder", "--json"])
    (problem,) = json.loads(out.stdout)["problems"]
    assert (out.exit_code, problem["id"], problem["severity"]) == (2, "S000", "error")
    assert re.search(COMMAND, problem["fix"])


@pytest.mark.parametrize("name", GPT_OSS)
def test_the_published_architectures_are_served_in_both_spellings(name, tmp_path):
    told = {**GPT_OSS[name].model_dump(), "num_experts_per_tok": 4, "rms_norm_eps": 1e-5}
    kinds = ["sliding_attention", "full_attention"] * (told["num_hidden_layers"] // 2)
    theirs = {"factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0, "beta_slow": 1.0}
    yarn = {"rope_type": "yarn", "truncate": False, **theirs}
    for rope in (
        {"rope_scaling": yarn, "rope_theta": 150000},
        {"rope_parameters": {**yarn, "rope_theta": 150000.0}},  # as transformers 5 writes it
        {"rope_scaling": None, "rope_parameters": {**yarn, "rope_theta": 150000.0}},
    ):
        whole = {**told, "layer_types": kinds, "quantization_config": {"quant_method": "mxfp4"}, **rope}
        assert architecture.unservable(tmp_path, whole, shape_of(whole), "mxfp4") == []


@pytest.mark.engine
def test_what_the_engine_takes_for_granted_stands_in_its_source():
    engine = Path(importlib.util.find_spec("vllm").origin).parent / "model_executor/models/gpt_oss.py"
    text = engine.read_text()
    assert "config.sliding_window if self.layer_idx % 2 == 0 else None" in text
    assert text.count("RMSNorm(") == text.count("eps=1e-5") == 3
    assert '"rope_type": "yarn"' in text
    read = re.findall(r'config.rope_parameters\[\s*"(\w+)"\s*\]', text)
    assert set(architecture.ROTATION) <= set(read)
    for key in ("tie_word_embeddings", "layer_types", "attention_bias", "rms_norm_eps", "use_sliding_window"):
        assert key not in text


def run(*words):
    return CliRunner().invoke(main, ["preflight", *map(str, words)])


def test_a_gpu_that_is_only_named_is_judged_and_this_machine_is_not(whole, monkeypatch):
    monkeypatch.setattr(machine, "detect", lambda: pytest.fail("this machine was looked at"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        out = run(whole, "--gpu", "h100", "--gpus", "2", "--port", port, "--api-key-env", "NO_SUCH_KEY")
    assert out.exit_code == 0, out.output
    assert f"{whole} can be served on 2 x H100: free 81,101 MiB, weight " in out.stdout
    assert "NaN and infinity are not looked for: tune check" in out.stderr
    found = json.loads(run(whole, "--gpu", "H100", "--json").stdout)
    assert found["machine"]["name"] == "H100"
    assert found["figures"]["requests"] > 1
    assert ["NaN" in line for line in found["unchecked"]] == [True]
    for words, fix in ((("--gpu", "H1000"), "H200"), (("--gpus", "2"), "--gpu H100 --gpus 2")):
        out = run(whole, *words)
        assert out.exit_code == 2
        assert fix in out.output


@pytest.mark.parametrize(
    ("gpus", "room", "fix"),
    [
        (1, None, "--gpu H100 or RTX-PRO-6000 or H200 or B200; "),
        (2, None, "--tensor-parallel 2; "),
        (8, None, "--tensor-parallel 2; "),
        (8, Room(rank=512, slots=64), "--tensor-parallel 4; "),  # two do not hold what is kept for those
        (8, Room(rank=16, slots=2, experts=True), "--tensor-parallel 8; "),  # 384 columns each, three whole tiles
        (4, Room(rank=16, slots=2, experts=True), "--gpu "),
    ],
)
def test_what_does_not_fit_the_named_gpu_comes_with_what_does(gpus, room, fix):
    shape = GPT_OSS["openai/gpt-oss-120b"]
    stored = published(shape, "mxfp4")
    (problem,) = fitting.on_gpu(shape, stored, OPTIONS, machine.named("A100-80GB", gpus), {}, room)
    assert problem.id == "S070"
    assert problem.fix.startswith(fix)
    for ways in re.findall(r"--tensor-parallel (\d+)", problem.fix):
        options = Options(tensor_parallel=int(ways))
        assert list(fitting.on_gpu(shape, stored, options, machine.named("H100", gpus), {}, room)) == []
    for name in re.findall(r"RTX-PRO-6000|[HB]200", problem.fix):
        assert list(fitting.on_gpu(shape, stored, OPTIONS, machine.named(name, 1), {}, room)) == []


def test_sizes_are_one_table_for_serve_and_deploy():
    from deploy import sizing

    assert {name: gpu.memory for name, gpu in sizing.hardware().gpu.items()} == machine.sizes()
    assert list(machine.sizes().values()) == sorted(machine.sizes().values())
    assert machine.sizes()["H100"] == int(79.2 * memory.GIB)
    with pytest.raises(UserError, match="none of those whose size is known"):
        machine.named("A11", 1)
