"""Programs that misbehave, and what stops them."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from evalsuite import sandbox


def test_runs_source_and_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    result = sandbox.run(
        "import os, sys\nprint(os.listdir('.'), 'hunter2' in str(os.environ))\nprint('no', file=sys.stderr)",
        seconds=20,
        memory_mb=256,
    )
    assert (result.ok, result.stdout, result.stderr) == (True, "[] False\n", "no\n")
    assert result.level == sandbox.level()
    assert not sandbox.run("raise SystemExit(3)", seconds=20, memory_mb=256).ok


def test_hash_seed_reaches_the_interpreter() -> None:
    seen = {s: sandbox.run("print(hash('a'))", seconds=20, memory_mb=256, hash_seed=s).stdout for s in (1, 2)}
    again = sandbox.run("print(hash('a'))", seconds=20, memory_mb=256, hash_seed=1).stdout
    assert seen[1] == again != seen[2]


def test_endless_loop_ends() -> None:
    result = sandbox.run("print('on', flush=True)\nwhile True: pass", seconds=0.7, memory_mb=256)
    assert result.returncode is None
    assert result.stdout == "on\n"


def test_memory_and_output_are_bounded() -> None:
    bomb = sandbox.run("x = bytearray(600 * 2**20)", seconds=20, memory_mb=256)
    assert "MemoryError" in bomb.stderr
    flood = sandbox.run("while True: print('x' * 10_000)", seconds=20, memory_mb=256, output_mb=1)
    assert not flood.ok
    assert len(flood.stdout) <= 2**20


def test_fork_is_refused() -> None:
    result = sandbox.run("import os\npid = os.fork()\nprint('forked')", seconds=20, memory_mb=256)
    assert "forked" not in result.stdout
    assert "BlockingIOError" in result.stderr


def test_writes_outside_are_refused_or_limited(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    target = tmp_path / "out"
    code = f"with open({str(target)!r}, 'w') as f: f.write('x' * 3 * 2**20)"
    assert not sandbox.run(code, seconds=20, memory_mb=256, output_mb=1).ok
    if os.getuid() == 0:  # dropped to nobody
        assert not target.exists()
    else:
        assert not target.exists() or target.stat().st_size <= 2**20


@pytest.mark.skipif(sandbox.level() != "namespaces", reason="this kernel refuses namespaces")
def test_network_is_absent() -> None:
    code = "import socket\nprint(socket.if_nameindex())\nsocket.create_connection(('127.0.0.1', 1), 2)"
    result = sandbox.run(code, seconds=20, memory_mb=256)
    assert "'eth" not in result.stdout
    assert "Network is unreachable" in result.stderr or "ENETUNREACH" in result.stderr or "101" in result.stderr


def test_grandchildren_die_with_their_session() -> None:
    mark = 10_000_000 + os.getpid()  # stands in the command line, which children inherit
    escape = "os.setsid()" if sandbox.level() == "namespaces" else "pass"
    code = f"import os, time\nif os.fork() == 0:\n  {escape}\n  os.fork()\n  time.sleep(600)\ntime.sleep(600)"

    def alive() -> int:
        found = 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found += str(mark).encode() in path.read_bytes()
        return found

    most = []
    watch = threading.Thread(target=lambda: most.append(_until(lambda: alive() >= 3)))
    watch.start()
    assert sandbox.run(code, seconds=2, memory_mb=256, processes=mark).returncode is None
    watch.join()
    assert most == [True], "the grandchildren never ran"
    assert _until(lambda: alive() == 0)


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
