"""How fast an arm is asked: against the stub over a socket, on a clock that moves only when somebody waits."""

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest
from arms import BASE, TUNED, log, question_set, run, stub

from evalsuite.asking import pace, reply
from evalsuite.asking.ask import Endpoint
from evalsuite.asking.pace import Pace, retry_after
from evalsuite.stub import server
from evalsuite.stub.script import Kind
from evalsuite.stub.server import Fault, Model, Script, serving
from tune.errors import UserError


class Waited:
    """Time that passes by being waited for alone: however slow this machine is, the stub lets no more through."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def until(self, moment: float) -> None:
        await asyncio.sleep(0)
        self.time = max(self.time, moment)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Waited:
    made = Waited()
    monkeypatch.setattr(pace, "Clock", lambda: made)
    monkeypatch.setattr(server, "clock", made.now)
    return made


def test_at_five_requests_a_second_none_is_missing(tmp_path: Path, clock: Waited) -> None:
    asked = question_set(15)
    with stub(tmp_path, asked, Model(rate=5)) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", concurrency=16)
        sent = [x for x in log(url) if x["model"] == BASE]
    assert len(found) == 60
    assert {a.outcome for a in found} == {"answered"}
    assert clock.time >= (30 - 5) / 5, "30 of base at 5 a second, of which 5 may come at once"
    assert len(sent) < 30 * 3, "it was asked as if nothing had been said"


@pytest.mark.parametrize(("kind", "dated"), [("429", False), ("429", True), ("503", False), ("503", True)])
def test_waiting_as_asked_is_no_retry(tmp_path: Path, clock: Waited, kind: Kind, dated: bool) -> None:
    asked, lines = question_set(1), list[str]()
    fault = Fault(kind=kind, prompt="?", seconds=7, dated=dated, times=3)
    with stub(tmp_path, asked, Model(faults=(fault,))) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"], retries=0, report=lines.append)
    assert {a.outcome for a in found} == {"answered"}
    assert clock.time == 21
    (said,) = [line for line in lines if "is waited for" in line]  # once more than ten seconds have gone
    assert said.startswith(f"base is waited for: HTTP {kind}: ")


def test_no_request_waits_for_ever(tmp_path: Path, clock: Waited) -> None:
    asked = question_set(1)
    with stub(tmp_path, asked, Model(faults=(Fault(kind="429", prompt="?", seconds=250),))) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"])
    [failed] = [a for a in found if a.arm == "base"]
    assert "HTTP 429" in failed.error
    assert "asked to wait 750 s in all" in failed.error
    assert clock.time == 500


def test_whom_the_first_probe_waits_for_is_said(tmp_path: Path, clock: Waited) -> None:
    asked, lines = question_set(1), list[str]()
    with (
        stub(tmp_path, asked, Model(faults=(Fault(kind="429", seconds=30),))) as url,
        pytest.raises(UserError, match="does not reply as asked") as e,
    ):
        run(url, asked, tmp_path / "answers.jsonl", efforts=["low"], report=lines.append)
    assert "asked to wait 630 s in all" in e.value.why
    said = [line for line in lines if line.startswith("base is waited for: HTTP 429: ")]
    assert len(said) == 600 // 60, "once a minute, whatever the server asks for"


@pytest.mark.parametrize(("kind", "words"), [("401", "HTTP 401"), ("404", "HTTP 404"), ("500", "HTTP 500")])
def test_an_arm_that_only_fails_ends_the_run(tmp_path: Path, kind: Kind, words: str) -> None:
    asked, out = question_set(30), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked, Model(faults=(Fault(kind=kind, prompt="?"),))) as url:
        with pytest.raises(UserError, match=f"the base endpoint {url} only fails") as e:
            run(url, asked, out, concurrency=2, retries=0)
        sent = sum(x["model"] == BASE for x in log(url))
    assert "10 requests in a row" in e.value.why
    assert words in e.value.why
    assert 10 <= sent <= 11, "asked on, of 60"
    with stub(tmp_path, asked) as url:  # another address, so all is asked again
        assert {a.outcome for a in run(url, asked, out)} == {"answered"}


def test_a_server_that_goes_away_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.001)
    asked, tuned = question_set(30), ExitStack()

    def leave(line: str) -> None:
        if " requests to " in line:
            tuned.close()

    with stub(tmp_path, asked) as url, tuned:
        two = tuned.enter_context(serving(Script(models={TUNED: Model()})))
        arms = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=two)}
        with pytest.raises(UserError, match=r"the tuned endpoint .* only fails") as e:
            run(url, asked, tmp_path / "answers.jsonl", arms=arms, report=leave, concurrency=1)
    assert "the connection failed" in e.value.why
    assert two in e.value.fix


def test_failures_among_successes_end_nothing(tmp_path: Path) -> None:
    asked = question_set(40)
    with stub(tmp_path, asked, Model(faults=(Fault(kind="401", prompt="?", share=0.4),))) as url:
        found = run(url, asked, tmp_path / "answers.jsonl")
    assert len(found) == 160
    assert sum(a.outcome == "error" for a in found) > 20


def test_one_burst_halves_once_and_a_window_of_successes_adds_one() -> None:
    async def held() -> list[int]:
        of, limits = Pace(16), []
        for _ in range(3):
            async with of.turn() as turn:
                pass
            for _ in range(5):  # told of requests that were in flight together
                of.wait(0, turn)
            limits.append(of.limit)
        for _ in range(2 + 3):
            of.succeeded()
        limits.append(of.limit)
        for _ in range(1000):
            of.succeeded()
        return [*limits, of.limit]

    assert asyncio.run(held()) == [8, 4, 2, 4, 16]


def test_never_more_in_flight_than_the_limit_and_none_left_waiting() -> None:
    async def asked(seed: int) -> None:
        rng, flying, done = random.Random(seed), 0, 0
        of = Pace(rng.randint(1, 8))

        async def one() -> None:
            nonlocal flying, done
            async with of.turn() as turn:
                flying += 1
                assert flying <= of.most
                for _ in range(rng.randint(1, 3)):
                    await asyncio.sleep(0)
                flying -= 1
                if rng.random() < 0.3:
                    of.wait(0, turn)
                else:
                    of.succeeded()
                done += 1

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(60):
                group.create_task(one())
        assert done == 60
        assert 1 <= of.limit <= of.most

    for seed in range(30):
        asyncio.run(asked(seed))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "Fri, 27 Nov 2026 10:00:07 GMT", "date": "Fri, 27 Nov 2026 10:00:00 GMT"}, 7),
        ({"retry-after": "Friday, 27-Nov-26 10:00:07 GMT", "date": "Fri, 27 Nov 2026 10:00:00 GMT"}, 7),
        ({"retry-after": "Fri Nov 27 10:00:07 2026", "date": "Fri Nov 27 10:00:00 2026"}, 7),
        ({"retry-after": "Fri, 27 Nov 2026 09:00:00 GMT", "date": "Fri, 27 Nov 2026 10:00:00 GMT"}, 0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Fri, 99 Nov 2026 10:00:07 GMT"}, None),
        ({}, None),
    ],
)
def test_what_retry_after_says(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
