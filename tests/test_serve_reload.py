"""`serve reload`: engines that take over from each other behind one port, with real processes and HTTP."""

import os
import signal
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import supervised

from serve import control, draining, supervisor
from serve.reloading import Plan
from tune.errors import UserError

CHAT = {"messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two checkpoints, and the folder of control sockets."""
    monkeypatch.setattr(supervisor, "BACKOFF", 0.05)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = [tmp_path / "one", tmp_path / "two"]
    for folder in found:
        folder.mkdir()
        supervised.prepare(folder, monkeypatch)
    yield found
    for folder in found:
        assert supervised.left(folder) == []


class Reloaded(supervised.Served):
    """A server of the first folder that can be told to serve the second, in a `mode`."""

    def __init__(self, folders, mode, acts, *, beside=True, **changes):
        self.first = supervised.make(folders[0], "good", **changes)
        second = supervised.make(folders[1], mode, **changes)
        named = second.checkpoint.model_copy(update={"digest": "e"})
        self.second = second._replace(port=self.first.port, model="n", checkpoint=named)
        super().__init__(self.first, acts)
        self.beside, self.told, self.remake = beside, [], self.plan

    def plan(self, folder, serving):
        assert serving.port == self.first.port
        if folder != self.second.checkpoint.folder:
            raise UserError(f"{folder} is not served", why="it holds no checkpoint", fix="tune export")
        return Plan(self.second, self.beside)

    def reload(self, folder=None):
        return control.ask(self.first.port, folder or self.second.checkpoint.folder, self.told.append)

    def word(self):
        """Of the start that answers now."""
        return httpx.post(f"{self.first.url}/v1/chat/completions", json=CHAT).headers["x-serve-start"]


def load(url, over, heard):
    """A client that keeps its connection, and one that does not, until `over`: each answer's status and start."""
    with httpx.Client(base_url=url, timeout=60) as kept:
        while not over.is_set():
            for answer in kept.post("/v1/chat/completions", json=CHAT), httpx.post(f"{url}/v1/responses", json=CHAT):
                heard.append((answer.status_code, answer.headers["x-serve-start"]))


def test_a_reload_drops_no_request_and_cuts_no_stream(folders):
    heard = [[] for _ in range(4)]

    def acts(served):
        over, begun, url = threading.Event(), threading.Semaphore(0), served.first.url
        with ThreadPoolExecutor(5) as pool:
            stream = pool.submit(supervised.events, url, begun)
            clients = [pool.submit(load, url, over, each) for each in heard]
            assert begun.acquire(timeout=60)
            before = served.word()
            assert served.reload() == {"url": f"{url}/v1", "model": "n", "digest": "e"}
            after = served.word()
            over.set()
            for each in clients:
                each.result()
            assert served.word() == after != before
            (folders[0] / "enough").touch()
            assert stream.result()[-1] == {"last": True}
        while "ended by itself" not in (folders[0] / "log").read_text():
            assert not served.failed
        for each in heard:
            assert {status for status, _ in each} == {200}
            assert {word for _, word in each} == {before, after}

    served = Reloaded(folders, "good", acts)
    assert served.run() == ["starting", "ready", "reloading", "ready", "draining", "stopped"]
    assert "its engine loads beside the one that serves" in served.told


def test_without_memory_for_two_it_drains_and_swaps(folders):
    def acts(served):
        before = served.word()
        assert served.reload()["model"] == "n"
        assert served.word() != before
        os.kill(supervised.engine(served.second), signal.SIGKILL)  # and from now on the second is what is restarted
        served.until("ready", times=3)
        assert supervised.engine(served.second)

    served = Reloaded(folders, "good", acts, beside=False)
    states = served.run()
    assert states == ["starting", "ready", "reloading", "starting", "ready", "restarting", "starting", "ready",
                      "draining", "stopped"]  # fmt: skip
    assert any("memory does not hold both" in line for line in served.told)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(
    ("mode", "what"),
    [("today", "the prompt it was trained on"), ("other weights", "weights"), ("no memory", "not enough memory")],
)
def test_what_cannot_be_proven_changes_nothing(folders, mode, what, beside):
    def acts(served):
        before = served.word()
        with pytest.raises(UserError, match=what):
            served.reload()
        served.until("ready", times=2)
        assert (served.word() == before) == beside  # in place, it had to start anew
        assert supervised.engine(served.first)

    served = Reloaded(folders, mode, acts, beside=beside)
    back = ["reloading", "ready"] if beside else ["reloading", "starting", "restarting", "starting", "ready"]
    assert served.run() == ["starting", "ready", *back, "draining", "stopped"]


def test_a_folder_that_cannot_be_served_is_refused_with_its_reason(folders, tmp_path):
    def acts(served):
        before = served.word()
        with pytest.raises(UserError) as refused:
            served.reload(tmp_path / "three")
        assert (refused.value.why, refused.value.fix) == ("it holds no checkpoint", "tune export")
        assert served.word() == before

    served = Reloaded(folders, "good", acts)
    assert served.run() == ["starting", "ready", "reloading", "ready", "draining", "stopped"]


def test_a_stop_or_a_crash_gives_the_reload_up(folders):
    def acts(served):
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(served.reload)
            served.until("reloading")
            os.kill(supervised.engine(served.first), signal.SIGKILL)
            assert "given up" in asked.exception(60).what
            served.until("ready", times=2)
            asked = pool.submit(served.reload)
            served.until("reloading", times=2)
            served.stop()
            assert "given up" in asked.exception(60).what

    states = Reloaded(folders, "loads on", acts).run()
    assert states == ["starting", "ready", "reloading", "restarting", "starting", "ready", "reloading", "draining",
                      "stopped"]  # fmt: skip


def test_a_server_that_takes_no_reloads_says_so(folders):
    def acts(served):
        served.remake = None
        with pytest.raises(UserError, match="takes no reloads"):
            served.reload()

    served = Reloaded(folders, "good", acts)
    served.remake = None
    assert served.run() == ["starting", "ready", "draining", "stopped"]


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_where_no_server_is_the_error_says_so(runtime):
    with pytest.raises(UserError, match="no server of yours at port 8000 can be reached") as none:
        control.ask(8000, Path("x"), print)
    assert "serve run" in none.value.fix


def test_a_folder_that_others_may_enter_is_not_used(runtime):
    control.where(1).parent.mkdir(mode=0o755)
    with control.Control(1) as reached:
        assert "not this user's alone" in reached.why
    assert not control.where(1).exists()


def test_the_socket_of_a_killed_server_is_taken_and_goes_with_its_own(runtime):
    control.where(1).parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(control.where(1)))
    with control.Control(1) as reached, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(control.ask, 1, Path("x"), print)
        while not (request := reached.next()):
            pass
        assert request.folder == Path("x").absolute()
        request.say("it goes on")
        request.done({"model": "m"})
        assert asked.result() == {"model": "m"}
    assert not control.where(1).exists()


@pytest.mark.parametrize(
    "line",
    [b"{}\n", b"[1]\n", b"\xff\n", b'{"reload": 3}\n', b"x" * 100_000, b"", b"[" * 60_000 + b"\n"],
)
def test_what_is_no_request_is_hung_up_on_and_the_next_is_heard(runtime, line):
    with control.Control(1) as reached, ThreadPoolExecutor(1) as pool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, suppress(BrokenPipeError):
            client.connect(str(control.where(1)))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""
        asked = pool.submit(control.ask, 1, Path("x"), print)
        while not (request := reached.next()):
            assert not asked.done()
        request.done({})
        assert asked.result() == {}


def test_two_servers_at_one_port_number_do_not_take_each_other_s_requests(runtime):
    with control.Control(1) as first, ThreadPoolExecutor(1) as pool:
        with control.Control(1) as second:
            assert "another server of yours" in second.why
        asked = pool.submit(control.ask, 1, Path("x"), print)
        while not (request := first.next()):
            assert not asked.done()
        request.done({})
        assert asked.result() == {}


def test_a_server_that_the_system_started_is_found_from_a_shell(runtime, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(runtime / "tmp"))
    with control.Control(1) as server, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "user"))
        asked = pool.submit(control.ask, 1, Path("x"), print)
        while not (request := server.next()):
            assert not asked.done()
        request.done({})
        assert asked.result() == {}


def test_whatever_is_wrong_with_the_other_checkpoint_this_one_goes_on(folders):
    def acts(served):
        before = served.word()
        served.second = None  # a bug of ours: an AttributeError
        with pytest.raises(UserError, match="the reload failed") as odd:
            served.reload(folders[1])
        assert "AttributeError" in odd.value.why
        assert served.word() == before

    served = Reloaded(folders, "good", acts)
    assert served.run() == ["starting", "ready", "reloading", "ready", "draining", "stopped"]


def test_an_engine_that_hangs_once_it_is_replaced_is_ended(folders, monkeypatch):
    monkeypatch.setattr(draining, "QUIET", 0.2)
    monkeypatch.setenv(draining.KEEP_ALIVE, "1")

    def acts(served):
        begun = threading.Semaphore(0)
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(supervised.events, served.first.url, begun)
            assert begun.acquire(timeout=60)
            old = supervised.engine(served.first)
            served.reload()
            os.kill(old, signal.SIGSTOP)
            assert isinstance(stream.exception(60), httpx.TransportError)
            assert served.word()
        deadline = time.monotonic() + 60
        while supervised.left(folders[0]):
            assert time.monotonic() < deadline

    served = Reloaded(folders, "good", acts, hang_after=5)
    assert served.run() == ["starting", "ready", "reloading", "ready", "draining", "stopped"]


def test_reloads_leave_no_descriptors(folders):
    def acts(served):
        def opened():
            return sum(1 for _ in Path("/proc/self/fd").iterdir())

        seen = []
        for _ in range(12):
            with pytest.raises(UserError, match="is not served"):
                served.reload(Path("/nowhere"))
            seen.append(opened())
        assert seen[-1] < seen[0] + 8, seen  # two more each time would be 22; looking at the engine takes some

    assert Reloaded(folders, "good", acts).run()[-1] == "stopped"
