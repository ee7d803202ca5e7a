"""One writer a folder, whoever is killed; with real processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tune import artefact, rooms
from tune.data import collect, dataset
from tune.errors import UserError
from tune.nano import build as nano
from tune.recipe import Recipe

STAGE = """
import sys
from pathlib import Path
from tune import artefact

def fill(fresh):
    (fresh / "pages.jsonl").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
    artefact.finish(fresh, "pages")

artefact.remake_folder(Path(sys.argv[1]), "pages", fill)
"""


@contextmanager
def stage(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, in the middle of writing `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", STAGE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        yield other
        other.kill()


def made(fresh: Path, text: str = "whole") -> None:
    (fresh / "pages.jsonl").write_text(text)
    artefact.finish(fresh, "pages")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_second_writer_is_told_at_once_who_is_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    with stage(folder) as other:
        with pytest.raises(
            UserError, match=rf"another run is writing .*pages\n.*process {other.pid}, since 2"
        ) as caught:
            artefact.remake_folder(folder, "pages", made)
        assert caught.value.fix == f"wait for it, or stop it: kill {other.pid}"
        holder = rooms.holder(folder)
        assert holder is not None
        assert holder.pid == other.pid
        (room,) = rooms.left(tmp_path)
        assert (room / "new").is_dir()  # the running stage's own
        artefact.remake_folder(tmp_path / "adapter", "pages", made)  # another folder is free
        other.communicate("")
    assert names(tmp_path) == {"pages", "adapter"}
    assert (folder / "pages.jsonl").read_text() == "half"


@pytest.mark.parametrize(
    ("name", "run"), [("pages", collect.collect), ("dataset", dataset.build), ("nano", nano.build)]
)
def test_a_stage_looks_for_another_run_before_it_begins(
    tmp_path: Path, name: str, run: Callable[[Recipe], object]
) -> None:
    with stage(tmp_path / "work" / name), pytest.raises(UserError, match=f"another run is writing .*work/{name}\n"):
        run(Recipe(folder=tmp_path, collect={"source": "web", "urls": ["gopher://gives.no/page"]}))


def test_a_killed_run_leaves_no_lock_and_its_room_goes_with_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    with stage(folder) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert list(rooms.left(tmp_path).values()) == ["pages"]
    assert rooms.holder(folder) is None
    artefact.remake_folder(tmp_path / "adapter", "pages", made)
    assert len(rooms.left(tmp_path)) == 1  # not adapter's to remove
    artefact.remake_folder(folder, "pages", made)
    assert names(tmp_path) == {"pages", "adapter"}


@pytest.mark.parametrize(("new", "old", "there", "is_now"), [
    ("new", "old", "", "new"),  # killed between the two renames
    ("", "old", "", "old"),
    ("new", "", "", "new"),  # killed before the first
    ("new", "", "before", "before"),
    ("", "old", "after", "after"),
])  # fmt: skip
def test_a_swap_that_was_killed_leaves_a_whole_stage(
    tmp_path: Path, new: str, old: str, there: str, is_now: str
) -> None:
    folder, room = tmp_path / "pages", tmp_path / ".pages-abcd_123"
    for path, text in ((room / "new", new), (room / "old", old), (folder, there)):
        if text:
            path.mkdir(parents=True)
            made(path, text)
    with artefact.writing(folder, "pages"):
        assert (folder / "pages.jsonl").read_text() == is_now
        artefact.read(folder, "pages", remake="")
    assert names(tmp_path) == {"pages"}


def test_a_half_written_room_never_becomes_the_stage(tmp_path: Path) -> None:
    (tmp_path / ".pages-abcd_123" / "new").mkdir(parents=True)
    with artefact.writing(tmp_path / "pages", "pages"):
        assert not (tmp_path / "pages").exists()
    assert names(tmp_path) == set()


def test_what_only_looks_like_a_room_stays(tmp_path: Path) -> None:
    for name in (".pages-abcdefgh", ".pages-mine", ".other-abcd_123"):
        (tmp_path / name).mkdir()
    (tmp_path / ".pages-abcdefgh" / "mine").touch()
    (tmp_path / ".pages-zyxwvuts").symlink_to(tmp_path / ".other-abcd_123")
    with artefact.writing(tmp_path / "pages", "pages"):
        pass
    assert names(tmp_path) == {".pages-abcdefgh", ".pages-mine", ".other-abcd_123", ".pages-zyxwvuts"}


def test_a_writer_may_write_within_its_own_lock_and_it_is_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "pages"
    with artefact.writing(folder, "pages"):
        artefact.remake_folder(folder, "pages", made)
        with artefact.writing(folder, "pages"):
            assert rooms.holder(folder) is not None
        code = (
            f"from pathlib import Path; from tune.rooms import writing; writing(Path({str(folder)!r}), 'x').__enter__()"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"another run is writing {folder}" in other.stderr  # the inner blocks let nothing go
    with pytest.raises(KeyError), artefact.writing(folder, "pages"):
        raise KeyError
    with artefact.writing(folder, "pages"):
        pass
    assert names(folder.parent) == {"pages"}


def test_a_file_system_without_locks_is_told_of_and_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    room = tmp_path / ".pages-abcd_123" / "new"
    room.mkdir(parents=True)
    artefact.remake_folder(tmp_path / "pages", "pages", made)
    assert "has no locks" in capsys.readouterr().err
    assert room.is_dir()  # it may be somebody's who is at work


def test_what_may_not_be_written_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path)
    refused = OSError(errno.EROFS, "Read-only file system")

    def closed(*_: object) -> int:
        raise refused

    monkeypatch.setattr(os, "open", closed)
    with artefact.writing(tmp_path, "pages"):
        artefact.read(tmp_path, "pages", remake="")
    refused.errno = errno.EIO
    with pytest.raises(OSError, match="Read-only"), artefact.writing(tmp_path, "pages"):
        pass
