"""Adapters beside a running server's base, with real processes, HTTP and the control socket."""

import os
import random
import signal
import threading
from contextlib import nullcontext

import httpx
import lora_folder
import pytest
import supervised
from checkpoints import CONFIG

from serve import adapters, control, loading, probe, starting, supervisor
from serve.adapters import Room
from serve.middleware import SETTINGS, Settings
from serve.reloading import Plan
from tune import checkpoint
from tune.errors import UserError
from tune.harmony import EFFORTS, PROBE, render_prompt
from tune.weights.tensors import shape_of

ROOM = Room(rank=16, slots=2)
TURNS = [{"role": "user", "content": "x"}]


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", 0.05)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = lora_folder.base(tmp_path / "base")
    supervised.prepare(found.folder, monkeypatch)
    yield found
    assert supervised.left(found.folder) == []


def take(name, folder, base):
    return adapters.read(name, folder, base, shape_of(CONFIG), "cpu")


def job(base, mode, *beside, room=ROOM):
    names = ("m", base.served_name)
    made = supervised.make(base.folder, mode, checkpoint=base, adapters=beside, room=room, device="cpu")
    settings = Settings(names=names, digest=base.digest, drain=0, adapters=room is not None)
    env = {**made.command.env, SETTINGS: settings.model_dump_json()}
    return made._replace(command=made.command._replace(env=env))


class Served(supervised.Served):
    """A server that is asked for adapters."""

    def tell(self, action, name="", folder=None):
        said = []
        return control.ask(self.job.port, folder or self.job.checkpoint.folder, said.append, action=action, name=name)

    def names(self):
        return [c["id"] for c in httpx.get(f"{self.job.url}/v1/models").json()["data"] if "@" not in c["id"]]

    def digest(self, model):
        """Of what answers under a name; None where nobody does."""
        answer = httpx.post(f"{self.job.url}/v1/chat/completions", json={"model": model, "messages": TURNS}, timeout=60)
        return answer.headers["x-model-digest"] if answer.status_code == 200 else None


def test_adapters_come_and_go_and_come_again_after_a_crash(base, tmp_path):
    one = take("one", lora_folder.make(tmp_path / "a", base), base)
    two = lora_folder.make(tmp_path / "b", base, lora_folder.pairs(seed=1))

    def acts(served):
        assert (served.names(), served.digest("one"), served.digest("two")) == (["m", "one"], one.digest, None)
        added = served.tell("add", "two", two)
        assert [a["name"] for a in added["adapters"]] == ["one", "two"]
        digest = added["adapters"][1]["digest"]
        two.rename(tmp_path / "elsewhere")  # both are exported anew, or gone: what is served is what was looked at
        (tmp_path / "a").rename(tmp_path / "old")
        lora_folder.make(tmp_path / "a", base, lora_folder.pairs(seed=2))
        assert (served.names(), served.digest("two"), served.digest("m")) == (["m", "one", "two"], digest, base.digest)
        os.kill(supervised.engine(served.job), signal.SIGKILL)
        served.until("ready", times=2)
        assert (served.names(), served.digest("two"), served.digest("one")) == (["m", "one", "two"], digest, one.digest)
        assert [a["name"] for a in served.tell("remove", "one")["adapters"]] == ["two"]
        assert (served.names(), served.digest("one"), served.digest("two")) == (["m", "two"], None, digest)
        os.kill(supervised.engine(served.job), signal.SIGKILL)
        served.until("ready", times=3)
        assert (served.names(), [a["name"] for a in served.tell("list")["adapters"]]) == (["m", "two"], ["two"])

    Served(job(base, "good", one), acts).run()
    log = (base.folder / "log").read_text()
    assert log.count(f"loaded {one.served_name}, door open: False") == 2
    assert "door open: True" in log  # what was added while it served


def test_what_cannot_be_added_changes_nothing(base, tmp_path):
    whole, zero = lora_folder.make(tmp_path / "a", base), lora_folder.pairs()
    zero = lora_folder.make(tmp_path / "b", base, {n: t * 0 for n, t in zero.items()})
    other = lora_folder.make(tmp_path / "c", base, of="f" * 64)
    large = lora_folder.make(tmp_path / "d", base, rank=32)

    def acts(served):
        served.tell("add", "one", whole)
        for name, folder, what in (
            ("one", whole, "taken"),
            ("m", whole, "taken"),
            ("a/b", whole, "no name"),
            ("two", whole, "served already"),
            ("two", zero, "changes nothing"),
            ("two", other, "it is of tiny"),
            ("two", large, "its rank is 32"),
            ("two", tmp_path, "no finished checkpoint"),
        ):
            with pytest.raises(UserError) as refused:
                served.tell("add", name, folder)
            assert what in f"{refused.value.what} {refused.value.why}"
        with pytest.raises(UserError, match="no adapter is called two"):
            served.tell("remove", "two")
        assert served.names() == ["m", "one"]

    assert Served(job(base, "good"), acts).run() == ["starting", "ready", "note", "draining", "stopped"]


def test_a_server_without_room_says_so(base, tmp_path):
    def acts(served):
        with pytest.raises(UserError, match="takes no adapters") as refused:
            served.tell("add", "one", tmp_path)
        assert "--adapter-rank" in refused.value.fix
        assert served.tell("list") == {"adapters": [], "base": "m"}

    Served(job(base, "good", room=None), acts).run()


@pytest.mark.parametrize(("mode", "what"), [("adapter ignored", "as the base does"), ("adapter halved", "weights do")])
def test_an_adapter_that_the_engine_applies_otherwise_is_never_listed(base, tmp_path, mode, what):
    folder = lora_folder.make(tmp_path / "a", base)

    def acts(served):
        with pytest.raises(UserError, match=what):
            served.tell("add", "one", folder)
        assert (served.names(), served.digest("one")) == (["m"], None)

    Served(job(base, mode), acts).run()
    with pytest.raises(UserError, match=what):  # and with it from the start nothing is served
        Served(job(base, mode, take("one", folder, base)), lambda _: None).run()


@pytest.mark.parametrize(("way", "passes"), [(0, False), (0.1, False), (1, True)])
def test_what_moves_at_random_is_no_adapter(base, tmp_path, monkeypatch, way, passes):
    """As a busy GPU's rounding does: far, and not the way that is meant."""
    adapter, dice = take("one", lora_folder.make(tmp_path / "a", base), base), random.Random(0)
    mine, theirs = checkpoint.canary(adapter.checkpoint).logprobs, checkpoint.canary(base).logprobs
    prompts = {tuple(render_prompt(PROBE, e, adapter.checkpoint.prompt_date)): e for e in EFFORTS}

    def said(_, model, ids):
        effort = prompts[tuple(ids)]
        share = way if model == adapter.served_name else 0
        pairs = zip(mine[effort], theirs[effort], strict=True)
        return [b + share * (a - b) + dice.choice((-0.5, 0.5)) * (lora_folder.MOVED / 2) for a, b in pairs]

    monkeypatch.setattr(probe, "prompt_logprobs", said)
    monkeypatch.setattr(probe, "check_canary", lambda *_: None)
    with nullcontext() if passes else pytest.raises(UserError, match="as the base does"):
        loading.prove(None, "m", adapter, checkpoint.canary(base))


def test_a_folder_that_was_exported_anew_is_not_taken_for_the_one_that_was_looked_at(base, tmp_path, monkeypatch):
    one = take("one", lora_folder.make(tmp_path / "a", base), base)
    (tmp_path / "a").rename(tmp_path / "old")
    lora_folder.make(tmp_path / "a", base, lora_folder.pairs(seed=1))
    with pytest.raises(UserError, match="another adapter than the one"):
        Served(job(base, "good", one), lambda _: None).run()


def test_an_engine_that_dies_under_it_fails_the_request_alone(base, tmp_path, monkeypatch):
    folder, begun = lora_folder.make(tmp_path / "a", base), threading.Event()
    prove = loading.prove

    def slow(*given):
        if not begun.is_set():
            begun.set()
            os.kill(supervised.engine(served.job), signal.SIGKILL)
        prove(*given)

    monkeypatch.setattr(loading, "prove", slow)

    def acts(served):
        with pytest.raises(UserError, match=r"given up|POST"):
            served.tell("add", "one", folder)
        served.until("ready", times=2)
        assert served.names() == ["m"]
        served.tell("add", "one", folder)
        assert served.names() == ["m", "one"]

    served = Served(job(base, "good"), acts)
    served.run()


def test_one_that_the_engine_does_not_let_go_is_nobody_s_to_ask_for(base, tmp_path):
    one = take("one", lora_folder.make(tmp_path / "a", base), base)

    def acts(served):
        assert served.tell("remove", "one")["adapters"] == []
        assert (served.names(), served.digest("one")) == (["m"], None)
        assert served.digest("m") == base.digest

    Served(job(base, "adapter kept", one), acts).run()
    assert "RuntimeError: " in (base.folder / "log").read_text()


def test_one_that_never_loads_is_given_up_and_the_base_serves_on(base, tmp_path, monkeypatch):
    folder = lora_folder.make(tmp_path / "a", base)

    def acts(served):
        monkeypatch.setattr(starting, "PATIENCE", 1)
        with pytest.raises(UserError, match=r"load_lora_adapter failed\n.*timed out"):
            served.tell("add", "one", folder)
        assert (served.names(), served.digest("m")) == (["m"], base.digest)

    Served(job(base, "adapter stuck"), acts).run()


def test_at_a_reload_those_of_the_new_base_stay_and_the_others_are_told(base, tmp_path, monkeypatch):
    one = take("one", lora_folder.make(tmp_path / "a", base), base)
    two = take("two", lora_folder.make(tmp_path / "b", base, lora_folder.pairs(seed=1)), base)
    said = []

    def acts(served):
        control.ask(served.job.port, base.folder, said.append)
        assert served.names() == ["m", "two"]
        assert served.digest("two") == two.digest

    first = job(base, "good", one, two)
    served = Served(first, acts)
    served.remake = lambda _, serving: Plan(serving._replace(adapters=serving.adapters[1:]), True)
    served.run()
    assert "of another base, and gone with the one before: one" in said
