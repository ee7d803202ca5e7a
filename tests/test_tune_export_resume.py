"""An export that is killed, that finds other inputs, or that fills the disk; and what it copies, writes and says."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import save_file
from tiny_gptoss import edit_config, make_adapter, make_base, make_native, recipe, replace, tensors_of

from tune import artefact, checkpoint
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import canary, export, files, plan, shards, stream, values
from tune.weights.base_model import base_of
from tune.weights.values import Values

SHARD = 20_000  # bytes: many files


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary has tests of its own, and wants the whole vocabulary."""
    monkeypatch.setattr(canary, "write", lambda folder, *_: (folder / checkpoint.CANARY).write_text("{}") and None)
    monkeypatch.setattr(files, "SHARD_BYTES", SHARD)
    monkeypatch.setattr(files, "_threads", lambda count, _: max(1, min(count, 4)))  # on every processor


def project(root: Path, kind: str = "merged", make=make_base) -> Recipe:
    make(root / "base")
    made = recipe(root, export={"format": kind})
    make_adapter(made, base_of(made).digest)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "checkpoint.json"}


KILLED = """
import itertools, os, signal, sys, threading
from pathlib import Path
from tune.recipe import Recipe
from tune.weights import canary, export, files, stream
files.SHARD_BYTES = {shard}
files._threads = lambda count, _: max(1, min(count, 4))
seen, numbers = itertools.count(), stream._require_numbers
together = threading.Barrier(3, action=lambda: os.kill(os.getpid(), signal.SIGKILL))
def held(*given):
    numbers(*given)
    if next(seen) >= {tensors}:
        together.wait()
stream._require_numbers = held
def die(line):
    if "{at}" in line:
        os.kill(os.getpid(), signal.SIGKILL)
export.export(Recipe(folder=Path(sys.argv[1]), base={{"model": "base"}}, export={{"format": "{kind}"}}), die)
"""


def kill(made: Recipe, at: str = "nothing", tensors: int = 10**9) -> None:
    """Run the export in a process of its own, which dies by SIGKILL when it says `at`, or when after so many tensors
    three files are being written."""
    code = KILLED.format(shard=SHARD, at=at, kind=made.export.format, tensors=tensors)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(made.folder)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


def finished(part: Path) -> list[str]:
    return sorted(p.name for p in part.glob("*.safetensors") if (part / f"{p.name}.json").is_file())


def test_a_killed_export_goes_on_with_the_files_that_are_whole(tmp_path: Path) -> None:
    made = project(tmp_path)
    kill(made, tensors=16)
    part = made.work / "merged.part"
    done = finished(part)
    assert len(done) >= 3
    assert len([*part.glob("*.safetensors.part")]) >= 3  # several were in work
    before = {name: (part / name).stat().st_ino for name in done}
    whole = (part / done[1]).read_bytes()
    (part / done[1]).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # damaged since
    said: list[str] = []
    folder = export.export(made, said.append).folder
    files = {p.name for p in folder.glob("*.safetensors")}
    assert f"{len(done) - 1} of {len(files)} files are there" in said[0]
    wrote = [line.removeprefix("wrote ").split(", ") for line in said if line.startswith("wrote")]
    assert {file for file, _ in wrote} == files - {done[0], *done[2:]}
    assert [told for _, told in wrote] == [f"{n} of {len(files)}" for n in range(len(done), len(files) + 1)]
    assert {name: (folder / name).stat().st_ino == inode for name, inode in before.items()} == {
        name: name != done[1] for name in done
    }
    assert sorted(p.name for p in made.work.iterdir() if not p.name.startswith(".")) == ["adapter", "merged"]
    figures = artefact.read(folder, "checkpoint", remake="").figures
    resumed = contents(folder)
    assert figures.pop("seconds") >= 0
    (folder / "checkpoint.json").unlink()
    again = export.export(made).folder
    assert contents(again) == resumed
    counted = artefact.read(again, "checkpoint", remake="").figures
    assert counted == {**figures, "seconds": counted["seconds"]}  # what was counted in killed runs counts


def test_a_kill_after_the_last_file_loses_nothing(tmp_path: Path) -> None:
    made = project(tmp_path)
    kill(made, "asking the weights")
    said: list[str] = []
    folder = export.export(made, said.append).folder
    assert not any(line.startswith("wrote") for line in said)
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
    made, write = project(tmp_path), stream.write

    def full(folder: Path, shard: stream.Shard) -> str:
        if "-00006-of" in shard.file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(folder, shard)

    with monkeypatch.context() as patch:
        patch.setattr(stream, "write", full)
        with pytest.raises(
            UserError, match=r"merged\.part is full\n  why: .*model-00006-of-\d+\S+ did not fit"
        ) as caught:
            export.export(made)
    done = finished(made.work / "merged.part")
    assert len(done) >= 5  # those before it were begun, and are let to finish
    assert f"{len(done)} of " in caught.value.why
    said: list[str] = []
    count = len([*export.export(made, said.append).folder.glob("*.safetensors")])
    assert f"{len(done)} of {count} files are there" in said[0]


class Stopped:
    """Files in work wait until the export has begun to end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended, shutdown = Event(), ThreadPoolExecutor.shutdown

        def seen(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
            if cancel_futures:
                self.ended.set()
            shutdown(pool, wait, cancel_futures=cancel_futures)

        monkeypatch.setattr(ThreadPoolExecutor, "shutdown", seen)


def test_of_two_errors_the_one_that_space_does_not_mend_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, write, stopped = project(tmp_path), stream.write, Stopped(monkeypatch)

    def broken(folder: Path, shard: stream.Shard) -> str:
        if "-00002-of" in shard.file:
            raise OSError(errno.ENOSPC, "No space left on device")
        if "-00003-of" in shard.file:
            assert stopped.ended.wait(60)
            raise UserError("a tensor cannot be written", fix="another copy")
        return write(folder, shard)

    monkeypatch.setattr(stream, "write", broken)
    with pytest.raises(UserError, match="a tensor cannot be written"):
        export.export(made)
    assert not (made.work / "merged.part").exists()


def test_nan_in_one_file_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_base(tmp_path / "base")
    tensors = tensors_of(tmp_path / "base")
    tensors["model.layers.0.input_layernorm.weight"][5] = float("nan")
    replace(tmp_path / "base", tensors)
    made, held = recipe(tmp_path, export={"format": "merged"}), []
    make_adapter(made, base_of(made).digest)
    stopped = Stopped(monkeypatch)

    def slow(source: Values, names: list[str]):
        for name in names:
            for chunk in source.chunks(name, step=64):
                if name == "lm_head.weight":
                    assert stopped.ended.wait(60)
                    held.append(len(chunk))
                yield name, chunk

    monkeypatch.setattr(plan, "_copied", slow)
    with pytest.raises(UserError, match=r"layers\.0\.input_layernorm\.weight cannot be written"):
        export.export(made)
    assert len(held) <= 1  # of a thousand
    assert not (made.work / "merged.part").exists()


def test_ctrl_c_begins_no_further_file_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, write, begun = project(tmp_path), stream.write, []
    monkeypatch.setattr(files, "_threads", lambda *_: 1)

    def noted(folder: Path, shard: stream.Shard) -> str:
        begun.append(shard.file)
        if len(begun) == 3:
            assert stopped.ended.wait(60)
        return write(folder, shard)

    def press(line: str) -> None:
        if line.startswith("wrote"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        stopped = Stopped(patch)
        patch.setattr(stream, "write", noted)
        with pytest.raises(KeyboardInterrupt):
            export.export(made, press)
    assert len(begun) <= 3
    assert 1 <= len(finished(made.work / "merged.part")) <= 2
    said: list[str] = []
    export.export(made, said.append)
    assert "files are there" in said[0]


def open_now() -> list[str]:
    return sorted(p.name for p in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("kind", ["merged", "mxfp4"])
def test_no_file_stays_open(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, kind, make_native)
    (export.export(made).folder / "checkpoint.json").unlink()  # what is opened once in a process is open now
    before = open_now()
    (export.export(made).folder / "checkpoint.json").unlink()
    assert open_now() == before

    def broken(*_: object) -> None:
        raise UserError("no number")

    monkeypatch.setattr(stream, "_require_numbers", broken)
    with pytest.raises(UserError, match="no number"):
        export.export(made)
    assert open_now() == before


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    made = project(tmp_path, make=lambda folder: make_base(folder, vocabulary=200_000))
    tracemalloc.start()
    try:
        folder = export.export(made).folder
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(p.stat().st_size for p in folder.glob("*.safetensors")) > 25_000_000
    assert peak < 4 * 4 * values.CHUNK + 2_000_000  # two chunks of each side that is compared, in each thread


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
    monkeypatch.setattr(files, "SHARD_BYTES", 10**9)
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


@pytest.mark.parametrize("cut", [False, True], ids=["changed", "cut"])
def test_the_manifest_describes_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    """Nothing is read back for it: a file that another program changed meanwhile is not what it names."""
    made = project(tmp_path)

    def damage(folder: Path, _: str) -> None:
        (folder / checkpoint.CANARY).write_text("{}")
        shard = sorted(folder.glob("*.safetensors"))[2]
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-1] + (b"" if cut else bytes([whole[-1] ^ 1])))

    monkeypatch.setattr(canary, "write", damage)
    if cut:
        with pytest.raises(
            RuntimeError, match=r"model-00003-of-\d+\.safetensors is not the file that was written there"
        ):
            export.export(made)
        assert not (made.work / "merged").exists()
        return
    folder = export.export(made).folder
    with pytest.raises(UserError, match=r"model-00003-of-\d+\.safetensors is not the file that checkpoint\.json"):
        checkpoint.verify(folder)
