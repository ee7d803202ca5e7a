import json
import shutil
import socket
import struct

import pytest
from checkpoints import CONFIG, fill, finish, rewrite, write_index, write_weights, write_words

from serve import contents, jobs, machine, preflight
from serve.command import Options
from serve.machine import Machine, detect
from tune import checkpoint
from tune.errors import UserError
from tune.weights.shards import INDEX
from tune.weights.tensors import Tensor, expected

GIB = 2**30
HERE = Machine(device="cpu", cores=2, memory=16 * GIB, amx=True, vllm="0.32.0")
ANY_PORT = Options(port=0)
ROUTER = "model.layers.1.mlp.router.weight"


def change(path, **values):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **values}))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("preflight") / "tiny")
    finish(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "tiny")


def test_a_whole_checkpoint_has_nothing_wrong(whole):
    found = preflight.check(whole, ANY_PORT, HERE)
    assert found.problems == ()
    assert found.figures["need_bytes"] > found.figures["weight_bytes"] > (whole / "config.json").stat().st_size
    found.require()


def test_this_machine_is_read():
    here = detect()
    assert here.cores >= 1
    assert here.memory > GIB
    assert here.device == "cpu" or here.vllm


NVIDIA_SMI = """#!/bin/sh
case "$*" in *--id=0*) ids=0;; *--id=*) echo "no such GPU" >&2; exit 6;; *) ids="0 1";; esac
for i in $ids; do [ $i = 0 ] && echo "40000, 500, NVIDIA H100 PCIe" || echo "39000, 1600, NVIDIA H100 NVL"; done
"""


@pytest.mark.parametrize(
    ("shown", "seen"),
    [
        (None, (39_000, 40_500, 2, "")),
        ("0", (40_000, 40_500, 1, "NVIDIA H100 PCIe")),
        ("7", (0, 0, 0, "")),
        ("MIG-1", (39_000, 40_500, 2, "")),
    ],
)
def test_every_gpu_that_cuda_shows_is_counted(tmp_path, monkeypatch, shown, seen):
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    free, total, count, model = machine._gpus()
    assert (free // 2**20, total // 2**20, count, model) == seen


def rename_router(folder):
    tensors = expected(CONFIG)
    tensors = {n.replace(".router.", ".router.linear."): t for n, t in tensors.items()}
    write_weights(folder / "model.safetensors", tensors)


def transpose_router(folder):
    tensors = expected(CONFIG)
    write_weights(folder / "model.safetensors", {**tensors, ROUTER: Tensor((32, 2), "BF16")})


def lose_a_shard(folder):
    names = expected(CONFIG)
    write_index(folder, dict.fromkeys(names, "model.safetensors") | {ROUTER: "model-2.safetensors"})


def leave_out_of_the_index(folder):
    names = [n for n in expected(CONFIG) if n != ROUTER]
    write_index(folder, {**dict.fromkeys(names, "model.safetensors"), ROUTER: "other.safetensors"})
    write_weights(folder / "other.safetensors", {"something.else": Tensor((1,), "BF16")})


def add_a_shard(folder):
    write_weights(folder / "zz.safetensors", {"model.norm.weight": Tensor((32,), "BF16")})


def add_a_shard_beside_the_index(folder):
    write_index(folder, dict.fromkeys(expected(CONFIG), "model.safetensors"))
    write_weights(folder / "zz.safetensors", {"model.norm.weight": Tensor((32,), "BF16")})


def store_as(dtype):
    def plant(folder):
        write_weights(folder / "model.safetensors", {**expected(CONFIG), ROUTER: Tensor((2, 32), dtype)})

    return plant


def truncate(folder):
    with (folder / "model.safetensors").open("r+b") as f:
        f.truncate((folder / "model.safetensors").stat().st_size - 1)


def set_config(**values):
    return lambda folder: change(folder / "config.json", **values)


def only_return(folder):
    change(folder / "generation_config.json", eos_token_id=200002)


def other_tokenizer(folder):
    write_words(folder / "tokenizer.json", call=7)


DEEP = "[" * 100_000


def write_index_of(weight_map):
    return lambda folder: (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def write_header(text):
    """A shard with this header and nothing behind it."""
    return lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode())


def header_of(shape):
    return write_header(json.dumps({ROUTER: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]}}))


def endless_header(folder):
    with (folder / "model.safetensors").open("wb") as f:
        f.write(struct.pack("<Q", 200_000_000))
        f.truncate(10**9)


def set_ends(ends):
    return lambda folder: change(folder / "generation_config.json", eos_token_id=ends)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (write_index_of(["model.safetensors"]), [f"{INDEX} cannot be read", "weight_map does not name a file"]),
        (write_index_of({ROUTER: ["model.safetensors"]}), [f"{INDEX} cannot be read"]),
        (write_index_of({ROUTER: 3}), [f"{INDEX} cannot be read"]),
        (write_index_of(None), [f"{INDEX} cannot be read"]),
        (lambda f: (f / INDEX).write_text(DEEP), [f"{INDEX} cannot be read"]),
        (lambda f: (f / "config.json").write_text(DEEP), ["config.json cannot be read"]),
        (lambda f: (f / "generation_config.json").write_text(DEEP), ["generation_config.json cannot be read"]),
        (write_header(DEEP), ["model.safetensors is damaged"]),
        (header_of([10**12, "x"]), ["model.safetensors is damaged", "has the shape [1000000000000, 'x']"]),
        (header_of([0.0]), ["model.safetensors is damaged", "has the shape [0.0]"]),
        (header_of([-1, 0]), ["model.safetensors is damaged", "has the shape [-1, 0]"]),
        (endless_header, ["model.safetensors is damaged", "longer than"]),
        (set_config(quantization_config="mxfp4"), ["quant_method 'mxfp4' of merged weights"]),
        (set_config(quantization_config=""), ["quant_method '' of merged weights"]),
        (set_config(quantization_config=["mxfp4"]), ["quant_method ['mxfp4'] of merged weights"]),
        (set_config(num_hidden_layers=10**9), ["config.json has num_hidden_layers 1000000000"]),
        (set_ends([[200002], 200012]), ["lacks end ids [200002]"]),
        (set_ends({"a": 200002}), ["lacks end ids [200002, 200012]"]),
        (rename_router, ["lacks 4 of 37 tensors", "holds 4 tensors that GPT-OSS has no place for", "router.linear"]),
        (transpose_router, ["1 tensors of the wrong shape", "[32, 2]", "[2, 32]"]),
        (lose_a_shard, ["lacks model-2.safetensors"]),
        (leave_out_of_the_index, [ROUTER]),
        (add_a_shard, ["weights beside its model's: zz.safetensors", "model.safetensors is the whole model"]),
        (add_a_shard_beside_the_index, ["weights beside its model's: zz.safetensors", "index.json does not name it"]),
        (store_as("F32"), ["1 tensors of the wrong dtype", ROUTER, "is F32, not BF16"]),
        (store_as("F16"), ["1 tensors of the wrong dtype", "is F16, not BF16"]),
        (store_as("I16"), ["1 tensors of the wrong dtype", "is I16, not BF16"]),
        (truncate, ["model.safetensors is damaged", "its header describes"]),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 99), ["damaged", "longer than the file"]),
        (lambda f: (f / "model.safetensors").write_bytes(b""), ["damaged"]),
        (lambda f: (f / "model.safetensors").unlink(), ["holds no weights"]),
        (set_config(model_type="llama"), ["its model_type is 'llama'"]),
        (set_config(quantization_config={"quant_method": "mxfp4"}), ["quant_method 'mxfp4' of merged weights"]),
        (set_config(vocab_size=1000), ["vocab_size 1000", "wrong shape"]),
        (set_config(hidden_size="x"), ["config.json has hidden_size 'x'"]),
        (set_config(max_position_embeddings=1024), ["max_model_len 2048 is over the model's 1024"]),
        (lambda f: (f / "config.json").write_text("{"), ["config.json cannot be read"]),
        (lambda f: (f / "config.json").write_text("[]"), ["config.json cannot be read", "it is no object"]),
        (only_return, ["lacks end ids [200012]"]),
        (other_tokenizer, ["<|call|> have other ids"]),
        (lambda f: rewrite(f / "tokenizer.json", "{"), ["tokenizer.json cannot be read"]),
    ],
)
def test_a_planted_fault_is_named_before_the_engine_starts(folder, plant, words):
    plant(folder)
    finish(folder)  # as a tool would that made it so: the digests agree
    found = preflight.check(folder, ANY_PORT, HERE)
    with pytest.raises(UserError) as error:
        found.require()
    assert all(word in error.value.message for word in words), error.value.message
    assert error.value.exit_code == 2


def test_weights_are_counted_with_the_bytes_that_their_headers_say(folder):
    before = preflight.check(folder, ANY_PORT, HERE).figures["weight_bytes"]
    store_as("F32")(folder)
    finish(folder)
    assert preflight.check(folder, ANY_PORT, HERE).figures["weight_bytes"] == before + 2 * 32 * 2
    assert before == sum(t.bytes for t in expected(CONFIG).values())


def test_where_bfloat16_is_emulated_all_is_float32_and_counted_so(whole):
    emulated = HERE.model_copy(update={"bfloat16": False, "amx": False})
    there, here = (preflight.check(whole, ANY_PORT, each) for each in (HERE, emulated))
    assert here.figures["weight_bytes"] == 2 * there.figures["weight_bytes"]
    options = Options(port=0, max_model_len=100_000)
    there, here = (preflight.check(whole, options, each) for each in (HERE, emulated))
    assert here.figures["cache_bytes"] == 2 * there.figures["cache_bytes"]
    for found, dtype in (there, "bfloat16"), (here, "float32"):
        argv = jobs.engine(found, options).argv
        assert argv[argv.index("--dtype") + 1] == dtype


def test_the_processor_s_bfloat16_is_what_torch_takes_it_for():
    import torch

    assert detect().bfloat16 == torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        (("-tp", "3"), ["num_attention_heads 2", "num_key_value_heads 1", "vocab_size", "intermediate_size 32"]),
        (("-tp", "2"), ["num_key_value_heads 1"]),
        (("-pp", "3"), ["intermediate_size 32", "2 layers make no 3 stages"]),
        (("-pp", "2"), []),
        (("-dp", "3"), ["intermediate_size 32"]),
        (("-dp", "2"), []),
    ],
)
def test_gpus_that_cannot_share_the_model_are_named(whole, extra, names):
    machine = Machine(device="cuda", cores=8, memory=24 * GIB, gpus=8, vllm="0.32.0")
    found = preflight.check(whole, Options(port=0, extra=extra), machine).errors
    assert len(found) == len(names)
    assert all(p.what.startswith(name) for p, name in zip(found, names, strict=True)), found


def test_digests_can_be_left_to_the_start(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert len(preflight.check(folder, ANY_PORT, HERE).errors) == 1
    assert preflight.check(folder, ANY_PORT, HERE, digests=False).errors == []


def test_a_cache_size_given_to_the_engine_is_the_one_that_is_counted(whole):
    options = Options(port=0, extra=("--kv-cache-memory-bytes", "1G"))
    assert preflight.check(whole, options, HERE).figures["cache_bytes"] == GIB


def test_the_fix_makes_again_what_the_folder_holds(whole, folder, tmp_path):
    packed = fill(tmp_path / "packed", "mxfp4")
    for where, facts, fix in (
        (folder, {}, "tune export --format merged"),
        (packed, {"format": "mxfp4"}, "tune export --format mxfp4"),
        (folder, {"base": ""}, "tune nano"),
    ):
        only_return(where)
        finish(where, **facts)
        (problem,) = preflight.check(where, ANY_PORT, HERE).errors
        assert problem.fix == fix
        with (where / "config.json").open("a") as f:
            f.write(" ")
        assert {p.fix for p in preflight.check(where, ANY_PORT, HERE).errors} == {fix}
    (there,) = contents.look(checkpoint.read(folder), ANY_PORT, remake="copy it again").problems
    assert there.fix == "copy it again"


def test_a_longer_context_than_the_models_has_a_fix_for_a_flag_and_for_a_recipe(folder):
    set_config(max_position_embeddings=1024)(folder)
    finish(folder)
    (problem,) = preflight.check(folder, ANY_PORT, HERE).errors
    assert "[serve] max_model_len = 1024 in recipe.toml" in problem.fix
    assert "--max-model-len 1024" in problem.fix


@pytest.mark.parametrize(
    ("format", "amx", "extra", "fix"),
    [
        (
            "merged",
            True,
            (),
            "tune export --format mxfp4 takes a third; a shorter --max-model-len; or a larger machine",
        ),
        ("merged", False, (), "a shorter --max-model-len; or a larger machine"),
        ("mxfp4", True, (), "a shorter --max-model-len; or a larger machine"),
        ("mxfp4", True, ("--kv-cache-memory-bytes", "1G"), "a smaller --kv-cache-memory-bytes; or a larger machine"),
    ],
)
def test_no_way_out_of_too_little_memory_is_named_that_is_none(tmp_path, format, amx, extra, fix):
    folder = fill(tmp_path / "tiny", format)
    finish(folder, format=format)
    small = HERE.model_copy(update={"memory": 2**20, "amx": amx})
    (problem,) = preflight.check(folder, Options(port=0, extra=extra), small).errors
    assert problem.fix == fix


def test_sizes_that_only_a_gpu_serves_are_sent_to_one(tmp_path):
    folder = fill(tmp_path / "odd", hidden_size=48)
    finish(folder)
    (problem,) = preflight.check(folder, ANY_PORT, HERE).errors
    assert "hidden_size cannot be served on a CPU" in problem.what
    assert problem.fix.startswith("serve it on a GPU: serve preflight ")


@pytest.mark.parametrize(
    ("machine", "fix"),
    [
        (HERE.model_copy(update={"vllm": "0.29.1"}), "with a GPU pip install vllm==0.32.0, without one pip install"),
        (Machine(device="cuda", cores=8, memory=0, gpus=0, vllm="0.32.0"), "pip uninstall -y vllm, then pip install"),
    ],
)
def test_an_engine_to_be_installed_comes_with_the_command(whole, machine, fix):
    (problem,) = preflight.check(whole, ANY_PORT, machine).errors
    assert problem.fix.startswith(fix)
    assert "requirements/cpu.txt" in problem.fix


def test_a_file_changed_after_the_export_is_named(folder):
    truncate(folder)
    found = preflight.check(folder, ANY_PORT, HERE)
    assert ["its sha256 differs" in p.why for p in found.errors] == [True, False]


def test_all_problems_at_once(folder):
    other_tokenizer(folder)
    only_return(folder)
    set_config(model_type="llama")(folder)
    finish(folder)
    old = HERE.model_copy(update={"memory": GIB, "vllm": "0.29.1"})
    with pytest.raises(UserError) as error:
        preflight.check(folder, ANY_PORT, old).require()
    for word in ("llama", "end ids", "other ids", "0.29.1", "does not fit into memory"):
        assert word in error.value.message


def test_an_unfinished_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        preflight.check(fill(tmp_path / "half"), ANY_PORT, HERE)


def test_mxfp4_without_matrix_instructions_is_refused_with_the_way_out(tmp_path):
    folder = fill(tmp_path / "packed", "mxfp4")
    finish(folder, format="mxfp4")
    preflight.check(folder, ANY_PORT, HERE).require()
    with pytest.raises(UserError, match="AMX") as error:
        preflight.check(folder, ANY_PORT, HERE.model_copy(update={"amx": False})).require()
    assert "tune export --format merged" in error.value.fix
    gpu = Machine(device="cuda", cores=8, memory=24 * GIB, vllm="0.32.0")
    preflight.check(folder, ANY_PORT, gpu).require()


def test_bf16_without_matrix_instructions_is_told_but_served(whole):
    found = preflight.check(whole, ANY_PORT, HERE.model_copy(update={"amx": False}))
    assert [p.severity for p in found.problems] == ["warning"]
    found.require()


def test_a_bare_adapter_is_refused(folder):
    finish(folder, format="lora")
    with pytest.raises(UserError, match="adapter"):
        preflight.check(folder, ANY_PORT, HERE).require()


def test_another_prompt_than_the_trained_one_is_refused(folder):
    manifest = folder / "checkpoint.json"
    data = json.loads(manifest.read_text())
    data["settings"]["checkpoint"]["prompt_fingerprint"] = "0" * 64
    manifest.write_text(json.dumps(data))
    with pytest.raises(UserError, match="trained on another prompt"):
        preflight.check(folder, ANY_PORT, HERE).require()


def test_a_port_in_use_is_named(whole):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1.*[Ii]n use|port {port}") as error:
            preflight.check(whole, Options(port=port), HERE).require()
    assert "in use" in error.value.why
    assert error.value.fix == "--port 0 takes a free one"
    preflight.check(whole, Options(port=port), HERE).require()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "fe80::zz", "\xfc" * 70, "x y"])
def test_a_host_that_is_not_here_is_not_blamed_on_the_port(whole, host):
    (problem,) = preflight.check(whole, Options(port=0, host=host), HERE).problems
    assert problem.what == f"{host} is no address of this machine"
    assert problem.why
    assert "--port" not in problem.fix
    assert "--host 127.0.0.1" in problem.fix


@pytest.mark.parametrize(
    ("key", "says"), [("", "KEY is empty"), ("a\nb", "no header"), ("schl\xfcssel", "no header"), ("sk-1", "")]
)
def test_a_key_that_cannot_be_used_is_an_error(whole, monkeypatch, key, says):
    monkeypatch.setenv("KEY", key)
    found = preflight.check(whole, Options(port=0, key_env="KEY"), HERE).errors
    assert [says in p.what for p in found] == [True] * bool(says)
    assert all("export KEY=..." in p.fix and key not in (p.what, p.why, p.fix) for p in found)


def test_an_open_network_without_a_key_is_told(whole, monkeypatch):
    found = preflight.check(whole, Options(port=0, host="0.0.0.0"), HERE)
    assert [p.severity for p in found.problems] == ["warning"]
    monkeypatch.setenv("K", "sk-1")
    assert preflight.check(whole, Options(port=0, host="0.0.0.0", key_env="K"), HERE).problems == ()


def test_harmony_overwritten_by_the_other_package_is_seen(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "openai_harmony").mkdir(parents=True)
    (site / "openai_harmony" / "__init__.py").write_text("written over")
    info = site / "oss_harmony-0.0.11.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oss-harmony\nVersion: 0.0.11\n")
    (info / "RECORD").write_text(
        "openai_harmony/__init__.py,sha256=59r0CHmvLr7Tz8d6su8daGo8jgSk-E8kZkOk466uPQY,24696\n"
    )
    monkeypatch.syspath_prepend(str(site))
    assert "wrote over it" in next(iter(preflight._installation(HERE))).why
