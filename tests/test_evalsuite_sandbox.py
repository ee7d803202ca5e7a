"""Programs that misbehave, and what stops them at each level that this machine has."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from evalsuite import sandbox
from evalsuite.cli import main
from evalsuite.sandbox import Level, Result


def had(at: Level) -> Level:
    if why := sandbox.refusal(at):
        pytest.skip(f"level {at} cannot be had here: {why}")
    return at


def not_as_root() -> None:
    if run("import os\nprint(os.getuid())", "none").stdout == "0\n":
        pytest.skip("root cannot become nobody here, and level none then keeps it from nothing")


@pytest.fixture(params=[*sandbox.SHUT_IN, "none"])
def at(request: pytest.FixtureRequest) -> Level:
    return had(request.param)


@pytest.fixture(params=sandbox.SHUT_IN)
def shut(request: pytest.FixtureRequest) -> Level:
    return had(request.param)


@pytest.fixture
def mark() -> int:
    """As `memory_mb` no limit at all, and it stands, in bytes, in the command line of a program and its children."""
    return 10_000_000 + os.getpid()


def run(code: str, at: Level, *, seconds: float = 20, memory_mb: int = 256, **more: int) -> Result:
    return sandbox.run(code, seconds=seconds, memory_mb=memory_mb, at=at, **more)


def test_runs_source_and_reports(at: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    code = "import os, sys\nprint(os.listdir('.'), 'hunter2' in str(os.environ))\nprint('no', file=sys.stderr)"
    assert run(code, at) == ("[] False\n", "no\n", 0, at)
    assert run("raise SystemExit(3)", at).returncode == 3
    killed = run("import os\nos.kill(os.getpid(), 15)", at).returncode
    assert killed == (128 + 15 if at == "bubblewrap" else -15)


def test_the_standard_library_alone_is_seen(shut: Level) -> None:
    code = (
        "import ctypes, multiprocessing.synchronize, os, site, sqlite3, ssl, zoneinfo\n"
        "zoneinfo.ZoneInfo('Europe/Berlin')\n"
        "print([p for p in site.getsitepackages() if os.path.isdir(p) and os.listdir(p)], os.getuid())"
    )
    assert run(code, shut)[:3] == ("[] 65534\n", "", 0)


def test_hash_seed_reaches_the_interpreter(at: Level) -> None:
    one, two, again = (run("print(hash('a'))", at, hash_seed=seed).stdout for seed in (1, 2, 1))
    assert one == again != two


def test_the_level_is_the_strongest_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.run("", seconds=20, memory_mb=256).level == sandbox.level()
    monkeypatch.setattr(sandbox, "refusal", lambda at: "" if at == "bubblewrap" else "no")
    assert (sandbox.level(), sandbox.described()) == ("bubblewrap", "sandbox: bubblewrap")
    monkeypatch.setattr(sandbox, "refusal", lambda at: f"no {at}")
    assert sandbox.level() == "none"
    assert sandbox.described().startswith("warning: sandbox: none: code runs with limits alone")
    assert "why: namespaces: no namespaces; bubblewrap: no bubblewrap\n  fix: sudo apt-get" in sandbox.described()


def test_elsewhere_than_on_linux_the_level_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(sandbox, "refusal", sandbox.refusal.__wrapped__)
    assert sandbox.run("print(1)", seconds=20, memory_mb=256)[0::3] == ("1\n", "none")
    assert "fix: make the questions on Linux" in sandbox.described()


def test_a_level_that_is_refused_is_no_run_at_a_weaker_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    had("namespaces")
    monkeypatch.setattr(sandbox, "_shown", lambda: (["/no/such/folder"], []))
    refused = run("print('in')", "namespaces")
    assert (refused.ok, refused.stdout) == (False, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="bwrap is not installed"):
        run("print('in')", "bubblewrap")


def test_nothing_that_differs_outside_is_constant_inside(at: Level) -> None:
    code = "import os\nprint(os.getcwd(), os.getpid())"
    (one, pid), (other, other_pid) = (run(code, at).stdout.split() for _ in range(2))
    assert one != other
    counts = at == "bubblewrap" or not Path("/proc/sys/kernel/ns_last_pid").exists()  # from 2
    assert pid != other_pid or counts


@pytest.mark.parametrize("at", ["namespaces", "none"])
def test_root_of_a_user_namespace_without_a_nobody(at: Level) -> None:
    had("namespaces")
    if not (unshare := shutil.which("unshare")):
        pytest.skip("unshare is not installed")
    code = f"from evalsuite import sandbox\nprint(sandbox.run('print(1)', seconds=20, memory_mb=256, at={at!r}))"
    argv = [unshare, "--user", "--map-root-user", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout.strip() == str(Result("1\n", "", 0, at)), done.stderr


def test_time_memory_and_file_size_are_bounded(at: Level) -> None:
    endless = run("print('on', flush=True)\nwhile True: pass", at, seconds=0.7)
    assert endless[::2] == ("on\n", None)
    assert "MemoryError" in run("x = bytearray(600 * 2**20)", at).stderr
    huge = run("with open('f', 'wb') as f:\n    f.truncate(2**20)\n    f.truncate(2**20 + 1)", at, output_mb=1)
    assert "File too large" in huge.stderr
    assert "Too many open files" in run("f = [open('/dev/null') for _ in range(99)]", at).stderr


def test_output_is_whole_up_to_its_limit_and_ends_there(at: Level) -> None:
    assert len(run("print('x' * (10 * 2**20 - 1))", at).stdout) == 10 * 2**20
    for stream in ("stdout", "stderr"):
        flood = run(f"import sys\nwhile True: print('x' * 10_000, file=sys.{stream})", at, output_mb=1)
        assert not flood.ok
        assert max(len(flood.stdout), len(flood.stderr)) <= 2**20


def test_forks_are_refused_or_bounded(at: Level, mark: int) -> None:
    if at == "none":
        not_as_root()
    assert "BlockingIOError" in run("import os\npid = os.fork()\nprint('forked')", at).stderr
    some = run(
        "import os, signal\nn = 0\ntry:\n  while True:\n    if os.fork() == 0: signal.pause()\n    n += 1\n"
        "except BlockingIOError: print(n)",
        at,
        processes=20,
    )
    assert int(some.stdout or 0) < 20
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    assert run(bomb, at, seconds=1, processes=50, memory_mb=mark).returncode is None
    assert dead(mark, at)


def test_files_elsewhere_are_neither_read_nor_written(shut: Level, tmp_path: Path) -> None:
    code = (
        "import os\nwrote = []\n"
        "for folder, below, _ in os.walk('/'):\n"
        "  if folder.count('/') > 2 or folder == '/proc': below.clear()\n"
        "  try:\n    with open(folder + '/x', 'w'): wrote.append(folder)\n  except OSError: pass\n"
        f"print(sorted(wrote), [p for p in ('/etc/shadow', '/../etc/passwd', {__file__!r}, {str(tmp_path)!r}, '/sys')"
        " if os.path.lexists(p)])"
    )
    shared = ["/dev/shm"] if shut == "bubblewrap" else []
    assert re.sub("sandbox-[^']+", "*", run(code, shut).stdout) == f"{[*shared, '/tmp', '/tmp/*']} []\n"
    fill = "for i in range(20):\n  with open(str(i), 'wb') as f: f.write(bytes(2**20))"
    assert "No space left" in run(fill, shut, output_mb=4).stderr


def test_at_level_none_root_writes_nowhere_else(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("level none keeps nobody but root from writing")
    not_as_root()
    tmp_path.chmod(0o755)
    assert "PermissionError" in run(f"open({str(tmp_path / 'out')!r}, 'w')", "none").stderr


def test_no_power_is_left_nor_to_be_had(shut: Level) -> None:
    """Neither the program nor the first process, which it could try to make its own."""
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "for pid in ('self', 1): print({k: int(v, 16) for k, v in (x.split(':') for x in open(f'/proc/{pid}/status'))"
        " if k.startswith('Cap') or k == 'NoNewPrivs'})\n"
        "print(libc.unshare(0x10000000), libc.mount(b'none', b'/', None, 32 | 4096, None), libc.umount2(b'/usr', 2))\n"
        "print(libc.ptrace(16, 1, 0, 0))"  # attach to the first process
    )
    attached = 0 if shut == "bubblewrap" else -1  # bwrap's has no more powers
    powers = {**dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0), "NoNewPrivs": 1}
    assert run(code, shut).stdout == f"{powers}\n{powers}\n-1 -1 -1\n{attached}\n"


def test_the_network_is_another(shut: Level) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0sandbox-{os.getpid()}")
        local.listen()
        for where, kind in ((server.getsockname(), "AF_INET"), (local.getsockname(), "AF_UNIX")):
            code = f"import socket\nsocket.socket(socket.{kind}).connect({where!r})\nprint(socket.if_nameindex())"
            assert run(code, "none").ok, "the listener does not listen"
            assert not run(code, shut).ok
    assert run("import socket\nprint(socket.if_nameindex())", shut).stdout == "[(1, 'lo')]\n"


def test_other_processes_are_not_seen(shut: Level) -> None:
    """Neither their environment nor their command line."""
    code = (
        "import glob\nfor path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):\n"
        "  try: print(open(path, 'rb').read())\n  except OSError: pass"
    )
    argv = [sys.executable, "-c", "input()  # spoken secret"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={"TOKEN": "kept secret"}) as other:
        assert "spoken secret" in run(code, "none").stdout, "the other process does not run"
        found = run(code, shut).stdout
        other.communicate(b"\n")
    assert "PYTHONHASHSEED" in found
    assert "secret" not in found


def test_the_parent_cannot_be_killed(shut: Level) -> None:
    code = (
        "import os\nfor pid in (os.getppid(), 1, -1):\n  for sig in (2, 15, 19, 9):\n"
        "    try: os.kill(pid, sig)\n    except (PermissionError, ProcessLookupError): pass\n"
        f"try: os.kill({os.getpid()}, 9)\nexcept ProcessLookupError: print('still here')\n"
    )
    assert run(code, shut)[:3] == ("still here\n", "", 0)
    group = "import os, signal\nsignal.signal(15, signal.SIG_IGN)\nos.kill(0, 15)\nprint('still here')"
    assert run(group, shut)[:3] == ("still here\n", "", 0)


DAEMON = (
    "import os, sys, time\nif os.fork() == 0:\n  {escape}\n  if os.fork() == 0:\n    os.open('here', os.O_CREAT)\n"
    "  time.sleep(600)\nwhile not os.path.exists('here'): time.sleep(0.01)\nprint('born', flush=True)\n{then}"
)


@pytest.mark.parametrize("then", ["", "time.sleep(600)"], ids=["ends", "is ended"])
def test_a_daemon_dies_with_the_program(shut: Level, mark: int, then: str) -> None:
    code = DAEMON.format(escape="os.setsid()", then=then)
    done = run(code, shut, seconds=5, processes=99_999, memory_mb=mark)
    assert done[::2] == ("born\n", None if then else 0)
    assert dead(mark, shut)


def test_at_level_none_the_process_group_dies(mark: int) -> None:
    done = run(DAEMON.format(escape="pass", then=""), "none", processes=99_999, memory_mb=mark)
    assert done[:3] == ("born\n", "", 0)
    assert dead(mark, "none")


def test_a_killed_parent_takes_the_program_with_it(shut: Level, mark: int) -> None:
    program = (
        f"from evalsuite import sandbox\nsandbox.run('while True: pass', seconds=99, memory_mb={mark}, at={shut!r})"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        assert until(lambda: alive(mark) >= 3)
        parent.send_signal(signal.SIGKILL)
    assert until(lambda: alive(mark) == 0)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch folders are made; none may stay."""
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "room"))
    yield tmp_path / "room"
    assert list((tmp_path / "room").iterdir()) == []


def test_links_in_the_scratch_folder_lead_nowhere(at: Level, room: Path) -> None:
    victim = room.parent / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    code = (
        f"import os\nos.symlink({str(victim)!r}, 'folder')\nos.symlink({str(victim / 'kept')!r}, 'file')\n"
        "os.symlink('loop', 'loop')\nos.mkdir('shut')\nos.symlink('/', 'shut/root')\nos.chmod('shut', 0)\nprint('done')"
    )
    assert run(code, at).stdout == "done\n"
    assert (victim / "kept").read_text() == "kept"
    assert victim.stat().st_mode & 0o700 == 0o700


def test_questions_say_the_level_and_are_the_same_at_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    had("namespaces")
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text('[evaluate]\nmodules = ["bisect"]\nquestions = 8\nbook = "closed"\ntaught = 0\n')
    shown = []
    for refusals in ({}, {"namespaces": "not permitted", "bubblewrap": "not installed"}):
        monkeypatch.setattr(sandbox, "refusal", lambda at, refusals=refusals: refusals.get(at, ""))
        done = CliRunner().invoke(main, ["questions", "--out", f"{len(refusals)}.jsonl"])
        assert done.exit_code == 0, done.output
        shown.append(done.stderr)
    assert "sandbox: namespaces\n" in shown[0]
    assert "warning" not in shown[0]
    assert "warning: sandbox: none" in shown[1]
    assert "why: namespaces: not permitted; bubblewrap: not installed" in shown[1]
    assert Path("0.jsonl").read_bytes() == Path("2.jsonl").read_bytes()


def alive(mark: int) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += str(mark * sandbox.MIB).encode() in path.read_bytes()
    return found


def dead(mark: int, at: Level) -> bool:
    """At "namespaces" when `run` returns; at the others a signal is on its way."""
    return alive(mark) == 0 if at == "namespaces" else until(lambda: alive(mark) == 0)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
