"""An export that is killed, that finds other inputs, or that fills the disk; and what it copies, writes and says."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_gptoss import edit_config, make_adapter, make_base, make_native, recipe, replace, tensors_of

from tune import artefact, checkpoint
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import canary, export, plan, shards, stream
from tune.weights.base_model import base_of
from tune.weights.values import Values

SHARD = 20_000  # bytes: many files


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary has tests of its own, and wants the whole vocabulary."""
    monkeypatch.setattr(canary, "write", lambda folder, _: (folder / checkpoint.CANARY).write_text("{}") and None)
    monkeypatch.setattr(export, "SHARD_BYTES", SHARD)


def project(root: Path, kind: str = "merged", make=make_base) -> Recipe:
    make(root / "base")
    made = recipe(root, export={"format": kind})
    make_adapter(made, base_of(made).digest)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "checkpoint.json"}


KILLED = """
import os, signal, sys
from pathlib import Path
from tune.recipe import Recipe
from tune.weights import canary, export
export.SHARD_BYTES = {shard}
def die(line):
    if "{at}" in line:
        os.kill(os.getpid(), signal.SIGKILL)
export.export(Recipe(folder=Path(sys.argv[1]), base={{"model": "base"}}, export={{"format": "{kind}"}}), die)
"""


def kill(made: Recipe, at: str) -> None:
    """Run the export in a process of its own, which dies by SIGKILL when it says `at`."""
    code = KILLED.format(shard=SHARD, at=at, kind=made.export.format)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(made.folder)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_killed_export_goes_on_with_the_files_that_are_whole(tmp_path: Path) -> None:
    made = project(tmp_path)
    kill(made, ", 5 of")
    part = made.work / "merged.part"
    done = sorted(p.name for p in part.glob("*.safetensors"))
    assert len(done) == 4
    before = {name: (part / name).stat().st_ino for name in done}
    whole = (part / done[1]).read_bytes()
    (part / done[1]).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # damaged since
    said: list[str] = []
    folder = export.export(made, said.append).folder
    count = len(list(folder.glob("*.safetensors")))
    assert f"3 of {count} files are there" in said[0]
    assert [line.split()[1].rstrip(",") for line in said if line.startswith("writing")] == sorted(
        {p.name for p in folder.glob("*.safetensors")} - {done[0], *done[2:]}
    )
    assert {name: (folder / name).stat().st_ino == inode for name, inode in before.items()} == {
        name: name != done[1] for name in done
    }
    assert sorted(p.name for p in made.work.iterdir() if not p.name.startswith(".")) == ["adapter", "merged"]
    figures = artefact.read(folder, "checkpoint", remake="").figures
    resumed = contents(folder)
    (folder / "checkpoint.json").unlink()
    again = export.export(made).folder
    assert contents(again) == resumed
    assert artefact.read(again, "checkpoint", remake="").figures == figures  # what was counted in killed runs counts


def test_a_kill_after_the_last_file_loses_nothing(tmp_path: Path) -> None:
    made = project(tmp_path)
    kill(made, "asking the weights")
    said: list[str] = []
    folder = export.export(made, said.append).folder
    assert not any(line.startswith("writing") for line in said)
    assert {p.stat().st_nlink for p in folder.iterdir()} == {1}  # no second name keeps a file's bytes alive


def test_what_is_left_of_other_inputs_is_removed(tmp_path: Path) -> None:
    made = project(tmp_path)
    kill(made, ", 3 of")
    make_adapter(made, base_of(made).digest, size=0.05)
    said: list[str] = []
    first = export.export(made, said.append)
    assert "are there" not in said[0]
    assert not (made.work / "merged.part").exists()
    (made.work / "merged.part").mkdir()
    (made.work / "merged.part" / "model-00001-of-00009.safetensors").write_text("of another run")
    assert export.export(made) == first
    assert not (made.work / "merged.part").exists()


def test_a_full_disk_keeps_what_is_finished_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, write, calls = project(tmp_path), stream.write, []

    def full(folder: Path, shard: stream.Shard) -> str:
        calls.append(shard.file)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(folder, shard)

    with monkeypatch.context() as patch:
        patch.setattr(stream, "write", full)
        with pytest.raises(UserError, match=r"merged\.part is full\n  why: 3 of \d+ files are finished and stay in"):
            export.export(made)
    said: list[str] = []
    export.export(made, said.append)
    assert "3 of" in said[0]


def test_a_file_system_without_links_is_served_by_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = export.export(made).folder
    assert tensors_of(folder).keys() == tensors_of(tmp_path / "base").keys()


@pytest.mark.parametrize(("kind", "make"), [("merged", make_base), ("mxfp4", make_native), ("merged", make_native)])
def test_a_whole_export_is_what_safetensors_writes_of_the_same_tensors(
    tmp_path: Path, kind: str, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SHARD_BYTES", 10**9)
    folder = export.export(project(tmp_path, kind, make)).folder
    save_file(tensors_of(folder), tmp_path / "theirs", metadata={"format": "pt"})
    assert (folder / shards.WHOLE).read_bytes() == (tmp_path / "theirs").read_bytes()


def test_every_byte_of_the_experts_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, "mxfp4", make_native)
    figures = artefact.read(export.export(made).folder, "checkpoint", remake="").figures
    base = tensors_of(tmp_path / "base")
    merged = sum(t.nbytes for n, t in base.items() if n.endswith("_proj.weight"))
    assert figures["bytes_compared"] == sum(t.nbytes for t in base.values()) - merged
    (made.work / "mxfp4" / "checkpoint.json").unlink()

    def lossy(source: Values, names: list[str]):
        for name in names:
            for chunk in source.chunks(name):
                if name.endswith("layers.1.mlp.experts.down_proj_blocks"):
                    chunk[len(chunk) // 2] ^= 16
                yield name, chunk

    monkeypatch.setattr(plan, "_copied", lossy)
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.experts\.down_proj_blocks is not what .*base holds"):
        export.export(made)


@pytest.mark.parametrize("kind", ["merged", "mxfp4"])
def test_nan_in_the_middle_of_the_base_stops_the_export(tmp_path: Path, kind: str) -> None:
    made = project(tmp_path, kind, make_native)
    for name, bad in (("lm_head.weight", float("nan")), ("model.layers.1.mlp.experts.gate_up_proj_scales", 255)):
        tensors = tensors_of(tmp_path / "base")
        tensors[name].view(-1)[tensors[name].numel() // 2] = bad
        (tmp_path / "again").mkdir(exist_ok=True)
        whole = (tmp_path / "base" / "model.safetensors").read_bytes()
        replace(tmp_path / "base", tensors)
        make_adapter_of_broken(made)
        with pytest.raises(UserError, match=name.removesuffix("_scales").replace(".", r"\.")):
            export.export(made)
        assert not (made.work / kind).exists()
        assert not (made.work / f"{kind}.part").exists()
        (tmp_path / "base" / "model.safetensors").write_bytes(whole)


def make_adapter_of_broken(made: Recipe) -> None:
    old = artefact.read(made.work / "adapter", "adapter", remake="")
    inputs = {"base": base_of(made).digest}
    artefact.finish(made.work / "adapter", "adapter", inputs=inputs, settings=old.settings)


@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
def test_a_base_of_another_dtype_becomes_bf16(tmp_path: Path, stored: torch.dtype) -> None:
    make_base(tmp_path / "base")
    replace(tmp_path / "base", {n: (t.to(stored) * 1.001) for n, t in tensors_of(tmp_path / "base").items()})
    made = recipe(tmp_path, export={"format": "merged"})
    make_adapter(made, base_of(made).digest)
    ours, base = tensors_of(export.export(made).folder), tensors_of(tmp_path / "base")
    assert all(torch.equal(ours[n], t.bfloat16()) for n, t in base.items() if not n.endswith("_proj.weight"))


@pytest.mark.parametrize("kind", ["merged", "mxfp4", "lora"])
@pytest.mark.parametrize("version", [None, "4.55.0"])
def test_transformers_does_not_take_the_tokenizer_for_a_broken_one(
    tmp_path: Path, kind: str, version: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer, __version__
    from transformers.utils import logging as theirs

    make_base(tmp_path / "base")
    edit_config(tmp_path / "base", transformers_version=version)
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {
        f"w{n}": n for n in range(3, 100_010)
    }  # only large ones are suspect
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    made = recipe(tmp_path, export={"format": kind})
    make_adapter(made, base_of(made).digest)
    folder = export.export(made).folder
    assert json.loads((folder / "config.json").read_text())["transformers_version"] == (version or __version__)
    theirs.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            AutoTokenizer.from_pretrained(tmp_path / "base")
            assert ("incorrect regex" in caplog.text) is (version is None)  # it would have been warned of
            caplog.clear()
            AutoTokenizer.from_pretrained(folder)
            assert "regex" not in caplog.text
    finally:
        theirs.disable_propagation()


def test_a_file_that_changes_before_its_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path)

    def damage(folder: Path, _: str) -> None:
        (folder / checkpoint.CANARY).write_text("{}")
        shard = sorted(folder.glob("*.safetensors"))[2]
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    monkeypatch.setattr(canary, "write", damage)
    with pytest.raises(UserError, match=r"model-00003-of-\d+\.safetensors was changed while the export was made"):
        export.export(made)
    assert not (made.work / "merged").exists()
