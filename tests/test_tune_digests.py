"""Digests that are remembered: what counts as untouched, planted changes, and a cache that is damaged or not there."""

import hashlib
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tune import artefact, digests
from tune.errors import UserError

OLD = 1_700_000_000_000_000_000  # ns
LIE = "0" * 64


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gptoss-kit" / "digests"


@pytest.fixture
def settled(monkeypatch):
    """Every file counts as changed long ago: only what a planted change leaves behind can give it away."""
    monkeypatch.setattr(digests, "RACY", -(10**15))


@pytest.fixture
def folder(tmp_path):
    """An artefact of twenty files."""
    made = tmp_path / "made"
    made.mkdir()
    for n in range(20):
        (made / f"part-{n}.bin").write_bytes(bytes([n]) * (n * 1000 + 1))
    artefact.finish(made, "pages")
    return made


def verify(folder, **how):
    artefact.verify(folder, artefact.read(folder, "pages", remake=""), remake="", **how)


def remembered(cache):
    (path,) = cache.glob("*.json")
    return path, json.loads(path.read_text())


def lie(cache):
    """Make the memory wrong, so that whoever believes it is found out."""
    path, data = remembered(cache)
    data["files"]["part-3.bin"]["digest"] = LIE
    path.write_text(json.dumps(data))


def heard(folder):
    """The digest that is told of the file that the memory lies about."""
    return dict(digests.each(folder, [f"part-{n}.bin" for n in range(20)], anew=False))["part-3.bin"]


def true(folder):
    return artefact.file_digest(folder / "part-3.bin")


def test_digests_come_in_the_order_asked_for(folder, cache):
    names = [f"part-{n}.bin" for n in (7, 3, 19, 0)]
    told = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    assert list(digests.each(folder, names, anew=False)) == list(told.items())
    assert list(digests.each(folder, [], anew=False)) == []


def test_a_file_that_was_read_is_not_read_again_unless_it_is_asked_for(folder, cache, settled):
    verify(folder)
    assert artefact.strays(folder, artefact.read(folder, "pages", remake="")) == []
    lie(cache)
    assert heard(folder) == LIE
    verify(folder)  # a wrong memory accuses no file
    assert heard(folder) == LIE
    verify(folder, anew=True)  # which also sets the memory right
    assert heard(folder) == true(folder)


@pytest.mark.parametrize("open_to_others", ["", "*.json"])
def test_a_memory_that_another_user_could_have_written_is_not_believed(folder, cache, settled, open_to_others):
    verify(folder)
    assert cache.stat().st_mode & 0o077 == 0
    lie(cache)
    place = next(cache.glob(open_to_others)) if open_to_others else cache
    place.chmod(0o770)
    digests._read_here.clear()
    assert heard(folder) == true(folder)


def test_without_a_cache_a_process_remembers_what_it_read_itself(folder, settled, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    verify(folder)
    digests._read_here[str(folder)] = {
        name: seen.model_copy(update={"digest": LIE}) for name, seen in digests._read_here[str(folder)].items()
    }
    assert heard(folder) == LIE
    (folder / "part-3.bin").write_bytes(b"x")
    assert heard(folder) == true(folder)


def test_a_copy_and_another_folder_are_not_the_one_that_was_read(folder, cache, settled, tmp_path):
    verify(folder)
    lie(cache)
    folder.rename(tmp_path / "moved")
    assert heard(tmp_path / "moved") == true(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    verify(tmp_path / "link")
    assert len(list(cache.glob("*.json"))) == 2  # by the real path


def test_a_file_that_has_just_changed_is_not_remembered(folder, cache, monkeypatch):
    """Neither does a set-back mtime make it old: its ctime is new."""
    monkeypatch.setattr(digests, "RACY", 3600 * 10**9)  # just, on a machine however slow
    for path in folder.iterdir():
        os.utime(path, ns=(OLD, OLD))
    verify(folder)
    assert not cache.exists()


def test_a_file_from_the_future_is_not_remembered(folder, cache, monkeypatch):
    monkeypatch.setattr(digests, "RACY", 0)
    for name, when in (("part-3.bin", 4 * OLD), ("part-4.bin", OLD)):
        os.utime(folder / name, ns=(when, when))
    verify(folder)
    found = remembered(cache)[1]["files"]
    assert "part-3.bin" not in found
    assert "part-4.bin" in found


def test_a_file_is_remembered_as_it_is(folder, cache, settled):
    verify(folder)
    found, s = remembered(cache)[1]["files"]["part-3.bin"], (folder / "part-3.bin").stat()
    told = [found[key] for key in ("size", "inode", "mtime_ns", "ctime_ns")]
    assert told == [s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns]


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(folder, cache, settled, monkeypatch):
    real = hashlib.file_digest

    def slow(f, name):
        digest = real(f, name)
        if f.name.endswith("part-3.bin"):
            touch(Path(f.name), lambda path: path.write_bytes(path.read_bytes()))
        return digest

    monkeypatch.setattr(digests.hashlib, "file_digest", slow)
    verify(folder)
    assert "part-3.bin" not in remembered(cache)[1]["files"]
    assert "part-4.bin" in remembered(cache)[1]["files"]


def touch(path, change):
    """Do it until the file system's clock has ticked since the last change, as it has two seconds later."""
    before = path.stat().st_ctime_ns
    change(path)
    while path.stat().st_ctime_ns == before:
        change(path)


def flip(path):
    with path.open("r+b") as f:
        f.seek(5)
        f.write(b"\xff")


def flip_and_set_back(path):
    s = path.stat()
    flip(path)
    os.utime(path, ns=(s.st_atime_ns, s.st_mtime_ns))


def replace_and_set_back(path):
    s, other = path.stat(), path.with_name("other")
    other.write_bytes(bytes(s.st_size))
    os.utime(other, ns=(s.st_atime_ns, s.st_mtime_ns))
    other.replace(path)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("change", [flip, flip_and_set_back, replace_and_set_back, cut])
def test_a_planted_change_is_found_whatever_was_remembered(folder, cache, settled, change):
    verify(folder)
    assert len(remembered(cache)[1]["files"]) == 20
    touch(folder / "part-3.bin", change)
    with pytest.raises(UserError, match=r"part-3\.bin is not the file"):
        verify(folder)


@pytest.mark.parametrize("key", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_each_thing_that_is_remembered_counts(folder, cache, settled, key):
    verify(folder)
    lie(cache)
    path, data = remembered(cache)
    data["files"]["part-3.bin"][key] += 1
    path.write_text(json.dumps(data))
    assert heard(folder) == true(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": {"part-3.bin": 3}}', "[" * 100_000, "\0" * 9])
def test_a_damaged_memory_costs_time_and_nothing_else(folder, cache, settled, text):
    verify(folder)
    path, whole = remembered(cache)
    path.write_text(text)
    verify(folder)
    assert remembered(cache)[1] == whole


def test_no_place_for_a_memory_is_no_reason_not_to_verify(folder, cache, settled, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    verify(folder)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    verify(folder)
    cache.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (digests._place(folder)).mkdir()
    verify(folder)

    def nobody(_):
        raise KeyError

    for told in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", told)
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", nobody)  # a container's user that no file names
        monkeypatch.chdir(tmp_path)
        verify(folder)
        assert digests._place(folder) is None
    assert artefact.strays(folder, artefact.read(folder, "pages", remake="")) == []


def test_nothing_is_ever_written_into_the_folder(folder, settled, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    verify(folder)
    assert artefact.strays(folder, artefact.read(folder, "pages", remake="")) == []


def test_the_oldest_folders_are_let_go(folder, cache, settled, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "KEPT", 2)
    for n in range(4):
        cache.mkdir(parents=True, exist_ok=True)
        (cache / f"{n}.json").touch()
        os.utime(cache / f"{n}.json", ns=(OLD + n, OLD + n))
    verify(folder)
    assert {p.name for p in cache.iterdir()} == {digests._place(folder).name, "3.json"}


def test_a_wrong_file_is_named_at_once_and_a_hung_one_holds_nothing_up(folder, cache):
    """A pipe that nobody writes to stands for a disk that hangs: the process ends all the same."""
    made = artefact.read(folder, "pages", remake="")
    (folder / "part-1.bin").write_bytes(b"x")
    (folder / "part-2.bin").unlink()
    os.mkfifo(folder / "part-2.bin")
    order = {name: made.files[name] for name in ("part-1.bin", "part-2.bin", "part-3.bin")}
    code = f"""
from pathlib import Path
from tune import artefact
made = artefact.Artefact(kind="pages", files={order!r})
artefact.verify(Path({str(folder)!r}), made, remake="")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "part-1.bin is not the file" in out.stderr


def test_a_file_that_goes_away_is_named(folder, cache):
    made = artefact.read(folder, "pages", remake="")
    (folder / "part-5.bin").unlink()
    with pytest.raises(UserError, match=r"lacks part-5\.bin"):
        artefact.verify(folder, made, remake="")
