"""A server's life with real processes and HTTP: hung, crashed, restarted, stopped under load, killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import supervised

from serve import probe, processes, supervisor
from serve.states import State
from tune.errors import UserError


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", 0.05)
    supervised.prepare(tmp_path, monkeypatch)
    yield partial(supervised.make, tmp_path)
    assert supervised.left(tmp_path) == []


def held(folder):
    """Of the shared memory and the folders of the engines so far, what is there."""
    named = [Path(name) for name in (folder / "memory").read_text().split()]
    assert named
    return [path for path in named if path.exists()]


def killed(state, times=1):
    """Kill the engine, and wait for a state."""

    def acts(served):
        os.kill(supervised.engine(served.job), signal.SIGKILL)
        served.until(state, times)

    return acts


def test_states_are_told_at_the_port_and_nobody_is_refused_while_the_engine_restarts(job):
    """A client that asks all the while hears 503 with Retry-After or an answer, and never a refused connection. It is
    killed between two of its requests: what an engine holds at that moment is cut."""
    stop, heard, asking = threading.Event(), [], threading.Lock()

    def watch(url):
        while not stop.is_set():
            with probe.client(url) as stranger, asking:
                alive, ready = stranger.get("/livez"), stranger.get("/readyz")
                heard.append((alive.status_code, alive.json()["state"]))
                heard.append((ready.status_code, ready.json()["state"]))
                if ready.status_code == 503:
                    assert ready.headers["retry-after"] == "5"
                    assert ready.json()["error"]["type"] == "server_error"
                    assert stranger.post("/v1/chat/completions", content=b"x" * 300_000).status_code in {503, 400}

    def acts(served):
        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch, served.job.url)
            while (200, "ready") not in heard:
                assert not watching.done()
            with asking:
                os.kill(supervised.engine(served.job), signal.SIGKILL)
            served.until("ready", times=2)
            stop.set()
            watching.result()

    served = supervised.Served(job("good"), acts)
    assert served.run() == ["starting", "ready", "restarting", "starting", "ready", "draining", "stopped"]
    assert "the engine was killed: it was ended by SIGKILL" in next(
        x for x in served.said if x.startswith("restarting")
    )
    assert (503, "starting") in heard
    assert {status for status, state in heard if state == "ready"} == {200}
    assert {state for _, state in heard} <= set(State)


@pytest.mark.parametrize("hang", ["deadlock", "server stopped"])
def test_an_engine_that_hangs_is_noticed_told_apart_and_replaced(job, tmp_path, hang):
    """Idle, so that nothing but the canary can find out; then its clients are told where they can be."""
    begun = threading.Semaphore(0)

    def acts(served):
        with ThreadPoolExecutor(1) as pool:
            if hang == "deadlock":
                client = pool.submit(supervised.events, served.job.url, begun)
                assert begun.acquire(timeout=60)
                (tmp_path / "deadlock").touch()
            else:
                os.kill(supervised.engine(served.job), signal.SIGSTOP)
            served.until("hung")
            (tmp_path / "deadlock").unlink(missing_ok=True)
            served.until("ready", times=2)
            if hang == "deadlock":
                assert client.result()[-1]["error"]["code"] == "shutting_down"

    served = supervised.Served(job("holds", hang_after=1.2), acts)
    assert served.run() == ["starting", "ready", "hung", "restarting", "starting", "ready", "draining", "stopped"]
    why = "the engine makes no step" if hang == "deadlock" else "the server's process does not answer"
    assert why in served.said[2]
    assert held(tmp_path) == []


def test_an_engine_that_is_idle_or_turned_away_from_is_no_hung_one(job):
    def acts(served):
        with probe.client(served.job.url) as stranger:
            os.kill(supervised.engine(served.job), signal.SIGUSR1)
            while stranger.get("/readyz").status_code == 200:
                pass
            while served.job.log.read_text().count("canary answered") < 3:  # each a third of the patience
                assert "hung" not in [x.split(":")[0] for x in served.said]
                time.sleep(0.05)

    served = supervised.Served(job("good", hang_after=0.9), acts)
    assert served.run() == ["starting", "ready", "draining", "stopped"]


def test_all_tries_are_used_when_a_restart_fails_too(job):
    """It was ready once, then dies at each start: of what another start may heal."""
    served = supervised.Served(
        job("never again"),
        killed("failed"),
    )
    with pytest.raises(UserError, match="the engine failed 4 times") as error:
        served.run()
    assert "exit code 9" in error.value.why
    assert [x.split(",")[0] for x in served.said if x.startswith("restarting")] == [
        f"restarting: in 0 s ({n} of 3)" for n in (1, 2, 3)
    ]


def test_a_cause_that_cannot_heal_ends_it_at_once_and_yesterdays_is_not_todays(job):
    """The first engine said that memory ran out and lived on; the second does not know a flag."""
    served = supervised.Served(job("flags"), killed("failed"))
    with pytest.raises(UserError, match="does not know one of its flags"):
        served.run()
    states = [x.split(":")[0] for x in served.said]
    assert states == ["starting", "ready", "restarting", "starting", "failed"]


def test_a_full_disk_under_what_it_says_ends_no_server(job):
    class Full(supervised.Served):
        def report(self, line):
            super().report(line)
            os.write(full, b"x")

    full = os.open("/dev/full", os.O_WRONLY)
    try:
        states = Full(job("good"), killed("ready", times=2)).run()
    finally:
        os.close(full)
    assert states == ["starting", "ready", "restarting", "starting", "ready", "draining", "stopped"]


def test_memory_that_was_there_once_may_be_there_again(job):
    """Another program, or the dead engine's own last moments, held it."""
    served = supervised.Served(
        job("tight"),
        killed("ready", times=2),
    )
    states = served.run()
    assert states == ["starting", "ready", *["restarting", "starting"] * 2, "ready", "draining", "stopped"]
    assert "there is not enough memory" in [x for x in served.said if x.startswith("restarting")][1]


def test_an_engine_that_the_system_does_not_start_is_one_clear_error(job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="process cannot be started") as error:
        supervisor.run(job("good", log=tmp_path / "file" / "log"), print)
    assert "--log FILE" in error.value.fix


def test_who_drains_answers_what_it_can_until_the_end(job):
    """Both listen at the port: the engine that drains, and who answers when there is none."""
    begun, heard = threading.Semaphore(0), []

    def acts(served):
        with ThreadPoolExecutor(1) as pool, probe.client(served.job.url) as stranger:
            client = pool.submit(supervised.events, served.job.url, begun)
            assert begun.acquire(timeout=60)
            served.stop()
            served.until("draining")
            while not client.done():
                with suppress(httpx.TransportError):
                    told = stranger.get("/metrics", headers={"connection": "close"})
                    heard.append(told.status_code if not client.done() else 200)
            assert client.result()[-1]["error"]["code"] == "shutting_down"

    served = supervised.Served(job("good", drain=1), acts)
    assert served.run()[-1] == "stopped"
    assert set(heard[:-1]) == {200}
    assert len(heard) > 10


def test_a_stop_tells_each_of_a_hundred_clients_and_ends_the_engine_by_itself(job, monkeypatch):
    """What is not over by EXIT_GRACE past the drain is killed: less than five seconds. Here nothing needs that."""
    assert processes.EXIT_GRACE < 5
    monkeypatch.setattr(processes, "EXIT_GRACE", 60)
    begun = threading.Semaphore(0)
    heard = []

    def acts(served):
        with ThreadPoolExecutor(100) as pool:
            clients = [pool.submit(supervised.events, served.job.url, begun) for _ in range(100)]
            for _ in clients:
                assert begun.acquire(timeout=60)
            served.stop()
            heard.extend(client.result() for client in clients)

    served = supervised.Served(job("good", drain=1), acts)
    assert served.run() == ["starting", "ready", "draining", "stopped"]
    assert len(heard) == 100
    assert all(told[-1]["error"]["code"] == "shutting_down" for told in heard)
    assert "ended by itself" in served.job.log.read_text()


@pytest.mark.parametrize("victim", ["engine", "supervisor"])
def test_a_kill_under_load_leaves_no_process_port_shared_memory_or_socket(job, tmp_path, victim):
    running = job("holds")
    code = (
        "import sys; from pathlib import Path; import supervised; from serve import supervisor\n"
        f"job = supervised.make(Path({str(tmp_path)!r}), 'holds')._replace(port={running.port})\n"
        "supervisor.run(job, lambda line: None, lambda: print('ready', flush=True))"
    )
    tests = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], tests])}
    begun = threading.Semaphore(0)
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout.readline() == "ready\n"
        assert len(held(tmp_path)) == 2
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(supervised.events, running.url, begun)
            for _ in range(8):
                assert begun.acquire(timeout=60)
            pid = supervised.engine(running)
            if victim == "engine":
                os.kill(pid, signal.SIGKILL)
                until(lambda: not Path(f"/proc/{pid}").exists())
                main.terminate()
            else:
                main.kill()
        main.wait(timeout=60)
    until(lambda: not supervised.left(tmp_path) and not Path(f"/proc/{pid}").exists())
    until(lambda: held(tmp_path) == [])
    with pytest.raises(httpx.ConnectError), probe.client(running.url) as stranger:
        stranger.get("/livez")


def test_the_engine_s_orphans_are_reaped_where_nobody_else_does():
    """As the first process of a container, which inherits them."""
    code = (
        "import ctypes, os, threading; from pathlib import Path; from serve import processes\n"
        "ctypes.CDLL(None).prctl(36, 1)\n"  # PR_SET_CHILD_SUBREAPER
        "engine, _ = processes.start(['sh', '-c', 'sleep 600 & sleep 600 & wait'], {}, None, (), again=False)\n"
        "while len(processes._members(engine.pid)) < 3: pass\n"
        "processes.kill(engine)\n"
        "print(Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def until(holds):
    """Wait a minute at most for something to hold."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
