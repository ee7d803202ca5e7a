"""answers.jsonl on the disk: what is synced when, and how often."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from arms import question_set, run, stub

from evalsuite.asking import journal
from evalsuite.replies import answers
from tune.errors import UserError


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Each fsync so far: of what, and the lines that were in it."""
    found: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(entry: int) -> None:
        path = Path(f"/proc/self/fd/{entry}").readlink()
        found.append((path.name, 0 if path.is_dir() else path.read_bytes().count(b"\n")))
        real(entry)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_line_is_on_the_disk_before_its_writer_goes_on(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    async def write() -> None:
        with journal.opened(tmp_path / "new" / "deep" / "a.jsonl") as file:
            assert {name for name, _ in synced} == {"deep", "new", tmp_path.name}, "folder entries come first"
            for n in range(1, 4):
                await file.add(b"x\n")
                assert synced[-1] == ("a.jsonl", n)

    asyncio.run(write())


def test_many_lines_share_an_fsync_and_none_returns_before_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fsync is held until 16 more lines are written: they wait, and one more fsync is for all of them."""
    go, began, ended = threading.Event(), list[int](), 0
    path, real = tmp_path / "a.jsonl", os.fsync

    def fsync(entry: int) -> None:
        nonlocal ended
        if threading.current_thread() is not threading.main_thread():
            began.append(path.read_bytes().count(b"\n"))
            assert go.wait(60)
            ended += 1
        real(entry)

    monkeypatch.setattr(os, "fsync", fsync)

    async def write() -> None:
        with journal.opened(path) as file:

            async def one() -> int:
                await file.add(b"x\n")
                return ended

            tasks = [asyncio.create_task(one())]
            while not began:
                await asyncio.sleep(0)
            tasks += [asyncio.create_task(one()) for _ in range(16)]
            while path.read_bytes().count(b"\n") < 17:
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            go.set()
            first, *rest = await asyncio.gather(*tasks)
            assert first >= 1
            assert set(rest) == {2}

    asyncio.run(write())
    assert began == [1, 17]


def test_however_a_run_ends_what_was_written_is_synced(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    async def write() -> None:
        with journal.opened(tmp_path / "a.jsonl") as file:
            await file.add(b"x\n")
            with (tmp_path / "a.jsonl").open("ab") as other:
                other.write(b"y\n")  # as by a worker that is stopped before its sync
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(write())
    assert synced[-1] == ("a.jsonl", 2)


def test_the_header_and_every_answer_of_a_run_are_synced(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    asked, out = question_set(4), tmp_path / "out" / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        found = run(url, asked, out, concurrency=16)
    ours = [(name, lines) for name, lines in synced if name in {"out", "answers.jsonl"}]
    assert ours[:2] == [("out", 0), ("answers.jsonl", 1)]
    assert len(answers.headers(out)) == 1
    assert ours[-1] == ("answers.jsonl", 1 + len(found))


def test_an_fsync_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(entry: int) -> None:
        if Path(f"/proc/self/fd/{entry}").readlink().name == "answers.jsonl":
            raise OSError(5, "Input/output error")

    asked = question_set(2)
    with stub(tmp_path, asked) as url:
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match=r"answers.jsonl cannot be written") as e:
            run(url, asked, tmp_path / "answers.jsonl")
    assert "Input/output error" in e.value.why
