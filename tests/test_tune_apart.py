"""A call in a process of its own: real processes, real limits, and documents made to exceed them."""

import os
import select
import signal
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from called import deep, grow, refuse, say
from papers import docx, pdf

from tune.data import apart
from tune.data.page import Failure, Page
from tune.data.sources import folder

MUCH = 2_000_000_000


def call(function, *args, seconds=20.0, memory=MUCH):
    return apart.call(seconds, memory, function, *args)


def test_a_call_is_answered_by_another_process_that_waits_for_the_next():
    first = call(os.getpid)
    assert first != os.getpid()
    assert call(os.getpid) == first
    assert call(say, "a" * 100_000) == 100_000
    assert call(len, b"\0" * 5_000_000) == 5_000_000


@pytest.mark.parametrize(
    ("function", "args", "why"),
    [
        (refuse, ("no text",), "no text"),
        (deep, (), "nested too deeply"),
        (int, ([],), r"broken, or beyond its reader: TypeError: int\(\) argument must be"),
        (os._exit, (4,), r"its reader broke down \(exit code 4\)"),
        (os.abort, (), r"its reader broke down \(exit code -6\)"),
    ],
)
def test_whatever_ends_a_call_is_one_line_and_the_next_call_is_answered(function, args, why):
    with pytest.raises(ValueError, match=why) as e:
        call(function, *args)
    assert "\n" not in str(e.value)
    assert call(len, "abc") == 3


def test_ctrl_c_is_for_the_process_that_asks():
    pid = call(os.getpid)
    os.kill(pid, signal.SIGINT)
    assert call(os.getpid) == pid


def test_a_call_that_takes_too_long_ends_even_where_no_other_thread_gets_its_turn():
    with pytest.raises(ValueError, match=r"takes more than 0\.2 s to read"):
        call(sum, range(10**13), seconds=0.2)
    assert call(len, "abc", seconds=0.2) == 3
    assert call(len, "abc") == 3


def test_a_call_that_takes_too_much_memory_ends():
    with pytest.raises(ValueError, match="takes more than 200 MB of memory"):
        call(grow, memory=200_000_000)
    assert call(len, "abc") == 3


def test_threads_ask_at_once_and_each_gets_its_own_answer():
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: call(len, "x" * n * 1000), range(40)))
    assert found == [n * 1000 for n in range(40)]


def test_what_cannot_be_asked_is_the_caller_s_fault():
    with pytest.raises((AttributeError, TypeError)):
        call(lambda: 1)
    assert call(len, "abc") == 3


def test_no_process_stays_when_the_one_that_asked_is_killed(tmp_path):
    os.mkfifo(tmp_path / "open")
    held = os.open(tmp_path / "open", os.O_RDONLY | os.O_NONBLOCK)
    asks = "import os, sys; from tune.data import apart; apart.call(9, 10**9, os.open, sys.argv[1], os.O_WRONLY)"
    command = [sys.executable, "-c", f"{asks}; os.kill(os.getpid(), 9)", str(tmp_path / "open")]
    asked = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert asked.returncode == -signal.SIGKILL
    ended, _, _ = select.select([held], [], [], 60)  # the other end is closed when its process is gone
    assert ended
    assert os.read(held, 1) == b""
    os.close(held)


def packed(size):
    """A PDF whose page is that many bytes of spaces, packed."""
    stream = zlib.compress(b" " * size, 1)
    return (
        pdf([("raw", "@")])
        .replace(b"@", stream)
        .replace(b"/Length 1 ", b"/Filter /FlateDecode /Length %d " % len(stream))
    )


LONG, LARGE = "takes more than 0.5 s to read", "takes more than 200 MB of memory to read"
HOSTILE = {
    "packed.pdf": (lambda: packed(200_000_000), LARGE),
    "packed.docx": (lambda: docx(more=[("word/other.xml", b" " * 101_000_000)]), "unpacks to more than 100,000,000"),
    "deep.html": (lambda: b"<body>" + b"<div>" * 100_000 + b"x", LONG),
    "wide.html": (lambda: b"<body><p " + b" ".join(b"a%d=1" % i for i in range(100_000)) + b">x", LONG),
    "words.md": (lambda: b"```{eval-rst}\n" + b"`a " * 40_000, LONG),
    "words.rst": (lambda: b"`a " * 40_000, LONG),
    "doubled.rst": (lambda: DOUBLED, LONG),
}
DOUBLED = b"|39|\n\n.. |0| replace:: x\n" + b"".join(
    b".. |%d| replace:: |%d| |%d|\n" % (i, i - 1, i - 1) for i in range(1, 40)
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_in_one_line(tmp_path, monkeypatch, name):
    made, why = HOSTILE[name]
    monkeypatch.setattr(folder, "SECONDS", 0.5 if why == LONG else 60.0)
    monkeypatch.setattr(folder, "SECONDS_A_MB", 0.0)
    monkeypatch.setattr(apart, "MEMORY", 200_000_000)
    (tmp_path / name).write_bytes(made())
    with pytest.raises(ValueError, match=why):
        folder.read(tmp_path / name)


def test_a_hostile_document_is_a_failure_of_its_own_in_its_share_of_time(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SECONDS", 1.0)
    monkeypatch.setattr(folder, "SECONDS_A_MB", 1.0)
    (tmp_path / "a.rst").write_bytes(b"`a " * 40_000)
    (tmp_path / "b.rst").write_text("Words.")
    failure, page = folder.pages(tmp_path)
    assert failure == Failure(id="folder:a.rst", reason="takes more than 1.12 s to read")
    assert isinstance(page, Page)
