"""The supervisor while it asks a starting engine: stops are heard, deaths explained, strangers told nothing."""

import socket
from functools import partial

import pytest
import supervised

from serve import processes, starting, supervisor
from serve.doors import OPENING
from tune.errors import UserError


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "EXIT_GRACE", 1)
    supervised.prepare(tmp_path, monkeypatch)
    yield partial(supervised.make, tmp_path)
    assert supervised.left(tmp_path) == []


@pytest.mark.parametrize("mode", ["hangs", "hangs deaf"])
def test_a_stop_is_heard_while_the_engine_is_being_asked(job, tmp_path, monkeypatch, mode):
    """It comes while an answer does; the second, when the engine is deaf to the first, ends it without its grace."""
    monkeypatch.setattr(starting, "PATIENCE", 5)
    monkeypatch.setattr(processes, "EXIT_GRACE", 40)
    said = []
    supervisor.run(job(mode), said.append, lambda: pytest.fail("it was called ready"))
    assert said[-1] == "stopped"
    assert not (tmp_path / "lived on").exists()


DEATHS = ["at /livez", "after /livez", "at /health", "after /health", "at /v1/chat/completions/render"]
DEATHS += ["at /v1/chat/completions", "at /v1/completions", f"at {OPENING}"]


@pytest.mark.parametrize("when", DEATHS)
def test_an_engine_that_dies_while_it_is_being_asked_is_explained(job, when):
    with pytest.raises(UserError, match="not enough memory"):
        supervisor.run(job(f"dies {when}"), print, lambda: pytest.fail("it was called ready"))


def test_a_port_that_another_server_holds_is_told_before_anything_starts(job, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UserError, match="the port is in use"):
        supervisor.run(job("good")._replace(port=other.getsockname()[1]), print)
    assert not (tmp_path / "log").exists()
