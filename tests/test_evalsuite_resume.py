"""What is on file: whose it is, what it is worth, what of it counts, and that none of it is ever lost."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from arms import BASE, SAMPLING, TUNED, log, question_set, run, stub

from evalsuite import questions
from evalsuite.asking import reply
from evalsuite.asking.ask import Endpoint
from evalsuite.replies import answers, request
from evalsuite.replies.request import Sampling
from evalsuite.stub.server import Fault, Model, Script, serving
from tune.errors import UserError


def test_resume_asks_errors_again_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.01)
    asked, out = question_set(8), tmp_path / "answers.jsonl"
    # The first run's two attempts fail, the second run's does not.
    faults = (Fault(kind="500", prompt="?", share=0.5, times=2),)
    with stub(tmp_path, asked, Model(faults=faults)) as url:
        first = run(url, asked, out)
        failed = {a.key for a in first if a.outcome == "error"}
        assert 0 < len(failed) < len(first)
        with out.open("ab") as f:
            f.write(b'{"question": "torn')
        before = len(log(url))
        second = run(url, asked, out)
        assert len(log(url)) - before == len(failed)
        assert {a.key for a in second} == {a.key for a in first}
        assert len(second) == len(first)
        assert {a.outcome for a in second} == {"answered"}
        kept = [a for a in first if a.outcome != "error"]
        assert second[: len(kept)] == kept


def test_a_line_cut_within_a_character_is_dropped_on_resume(tmp_path: Path) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        whole = answers.line(first[-1].model_copy(update={"text": "é"}))
        with out.open("ab") as f:
            f.write(whole[: whole.index("é".encode()) + 1])
        assert answers.read(out, asked) == first
        assert run(url, asked, out) == first
    out.write_bytes(out.read_bytes() + b"\xff\n")
    with pytest.raises(UserError, match=r"answers.jsonl:6 is not an answer"):
        answers.read(out, asked)


@pytest.mark.parametrize(
    ("change", "why", "count"),
    [
        ({"asked": question_set(4, "other")}, "to questions or at efforts that are not asked", 16),
        ({"efforts": ["low"]}, "to questions or at efforts that are not asked", 8),
        ({"max_tokens": 65}, "to another request", 16),
        ({"max_tokens": {"low": 64, "high": 65}}, "to another request", 8),
        ({"seed": 4}, "to another request", 16),
        ({"temperature": 0.5}, "to another request", 16),
    ],
)
def test_answers_of_another_run_stay_on_file_and_do_not_count(
    tmp_path: Path, change: dict[str, Any], why: str, count: int
) -> None:
    asked, out, lines = question_set(4), tmp_path / "answers.jsonl", list[str]()
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        before, sent = out.read_bytes(), len(log(url))
        more = dict(change)
        run(url, more.pop("asked", asked), out, report=lines.append, **more)
        assert f"{count} answers on file are {why}: they stay there and do not count" in lines
        assert out.read_bytes().startswith(before)
        assert len(log(url)) - sent == (0 if "efforts" in change else count)
        now = len(log(url))
        assert run(url, asked, out) == first  # and still are those of the first run
        assert len(log(url)) == now


def test_every_part_of_a_request_is_in_its_identity() -> None:
    asked, other = question_set(1).questions[0], question_set(1, "other").questions[0]
    sent = {"question": asked, "model": "m", "effort": "low", "sampling": Sampling(**SAMPLING)}
    changes = [
        {"question": asked.model_copy(update={"prompt": other.prompt})},
        {"question": asked.model_copy(update={"developer": "Otherwise."})},
        {"model": "n"},
        {"effort": "high"},
        {"effort": None},
        *({"sampling": Sampling(**SAMPLING | {name: value + 1})} for name, value in SAMPLING.items()),
    ]
    digests = [request.digest(request.body(**sent | change)) for change in ({}, *changes)]  # type: ignore[arg-type]
    assert len(set(digests)) == len(digests) == 9
    assert digests[0] == request.digest(request.body(**sent | {"question": asked.model_copy(update={"answer": "?"})}))  # type: ignore[arg-type]  # fmt: skip


def port_of(url: str) -> int:
    found = urlsplit(url).port
    assert found
    return found


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        ({}, {"models": {"plain": Model(voice="other")}}, True),  # another model under the same name
        ({}, {"version": "2"}, True),
        ({}, {"models": {"plain": Model(root="/models/b")}}, True),
        ({}, {}, False),
        ({"digest": "1" * 64}, {"digest": "1" * 64}, False),
        ({"digest": "1" * 64}, {"digest": "2" * 64}, True),
        ({"digest": "1" * 64}, {}, True),
    ],
)
def test_who_answers_is_known_by_more_than_a_name(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], again: bool
) -> None:
    """The same folder, address and names; behind the tuned arm's something else."""
    asked, out, lines = question_set(4), tmp_path / "answers.jsonl", list[str]()
    path = tmp_path / "q.jsonl"
    questions.write(path, asked)
    plain: dict[str, Any] = {"models": {"plain": Model(accuracy=0.0)}, "questions": path}
    with stub(tmp_path, asked) as base:
        port = 0
        for script in (first, second):
            with serving(Script(**(plain | script)), port) as url:
                port, sent = port_of(url), len(log(base))
                arms = {"base": Endpoint(url=base, model=BASE), "tuned": Endpoint(url=url)}
                run(base, asked, out, arms=arms, report=lines.append)
                last = [x["model"] for x in log(url)]
        assert len(log(base)) == sent  # the base arm is who it was
    assert last == ["plain"] * (8 if again else 0)
    assert any("8 answers on file are of another server" in line for line in lines) == again


def test_a_digest_in_a_name_lets_no_other_model_speak_for_it(tmp_path: Path) -> None:
    """Neither server sends a digest or repeats itself: what stands behind the id may change between two runs."""
    asked, out, name = question_set(2), tmp_path / "answers.jsonl", "tuned@" + "1" * 16
    path, port = tmp_path / "q.jsonl", 0
    questions.write(path, asked)
    with stub(tmp_path, asked) as base:
        for accuracy in (1.0, 0.0):
            restless = Model(accuracy=accuracy, faults=(Fault(kind="restless"),))
            with serving(Script(models={name: restless}, questions=path), port) as url:
                port = port_of(url)
                arms = {"base": Endpoint(url=base, model=BASE), "tuned": Endpoint(url=url)}
                found = run(base, asked, out, arms=arms)
                assert len(log(url)) == 4
            assert {a.score for a in found if a.arm == "tuned"} == {int(accuracy)}


def test_a_server_that_nothing_identifies_is_asked_again_each_time_and_named(tmp_path: Path) -> None:
    asked, out, lines = question_set(2), tmp_path / "answers.jsonl", list[str]()
    path = tmp_path / "q.jsonl"
    questions.write(path, asked)
    restless = Model(faults=(Fault(kind="restless"),))
    with stub(tmp_path, asked) as base, serving(Script(models={"plain": restless}, questions=path)) as url:
        arms = {"base": Endpoint(url=base, model=BASE), "tuned": Endpoint(url=url)}
        for _ in range(2):
            run(base, asked, out, arms=arms, report=lines.append)
        assert len(log(url)) == 8
        assert len(log(base)) == 4
    said = [line for line in lines if "plain sends no digest and does not repeat itself" in line]
    assert len(said) == 2
    assert "4 requests to base base@0123456789abcdef and tuned plain, 4 on file" in lines


def test_a_probe_that_fails_is_called_that(tmp_path: Path) -> None:
    asked, lines, path = question_set(2), list[str](), tmp_path / "q.jsonl"
    questions.write(path, asked)
    failing = Model(faults=(Fault(kind="401", prompt="odd numbers"),))
    with stub(tmp_path, asked) as base, serving(Script(models={"plain": failing}, questions=path)) as url:
        arms = {"base": Endpoint(url=base, model=BASE), "tuned": Endpoint(url=url)}
        run(base, asked, tmp_path / "answers.jsonl", arms=arms, report=lines.append)
    (said,) = [line for line in lines if line.startswith("tuned plain sends no digest and ")]
    assert said.removeprefix("tuned plain sends no digest and ").startswith("did not answer a probe (HTTP 401")


def test_answers_are_known_by_their_own_lines_and_no_other_file(tmp_path: Path) -> None:
    asked, out = question_set(1), tmp_path / "out" / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        assert list(out.parent.iterdir()) == [out]
        sent = len(log(url))
        assert run(url, asked, out) == first
        assert len(log(url)) == sent


def test_a_changed_or_foreign_line_is_said_and_nothing_is_asked(tmp_path: Path) -> None:
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        whole, sent = out.read_bytes(), len(log(url))
        head, *lines = whole.splitlines(keepends=True)
        another = answers.line(first[0].model_copy(update={"text": "ANSWER: x"}))
        old = b'{"question":"q0","arm":"base","effort":"low","model":"m","outcome":"answered","score":1.0}\n'
        failed = answers.line(first[0].model_copy(update={"text": "", "finish_reason": "", "error": "HTTP 502"}))
        for content, words in (
            (whole.replace(b"ANSWER: ValueError", b"ANSWER: KeyError__"), "was changed after it was written"),
            (lines[0].replace(b'"effort":"', b'"effort": "') + lines[1], ":1 was changed after"),
            (lines[0][:-2] + b"\n" + lines[1], ":1 is not an answer"),
            (whole + another, ":10 is a second reply to one request"),
            (whole + lines[0], ":10 is a second reply to one request"),
            (head.replace(b'"seed":3', b'"seed":4') + lines[0], ":1 was changed after"),
            (old + whole, ":1 is an answer of an earlier version"),
            (b"[1]\n" + whole, ":1 is not an answer"),
            (b"[" * 100_000 + b"\n" + whole, ":1 is not an answer"),
        ):
            assert content != whole
            out.write_bytes(content)
            with pytest.raises(UserError, match=words) as e:
                run(url, asked, out)
            assert e.value.fix
            assert out.read_bytes() == content, "work was lost"
        assert len(log(url)) == sent
        for content in (failed + whole, whole + failed):  # a retry; and no error takes the place of a reply
            out.write_bytes(content)
            assert {a.key: a for a in run(url, asked, out)} == {a.key: a for a in first}
        assert len(log(url)) == sent


def test_nothing_on_file_is_a_judgement(tmp_path: Path) -> None:
    """The same replies are worth what the truth says, and the truth may change."""
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        run(url, asked, out)
    fields = set(json.loads(out.read_bytes().splitlines()[1]))
    assert not fields & {"score", "outcome", "parsed"}
    other = asked.model_copy(
        update={"questions": tuple(q.model_copy(update={"answer": "'no'"}) for q in asked.questions)}
    )
    assert {a.score for a in answers.read(out, asked) if a.arm == "base"} == {1}
    assert {a.score for a in answers.read(out, other) if a.arm == "base"} == {0}


def test_two_runs_do_not_share_a_file(tmp_path: Path) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url, out.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing"):
            run(url, asked, out)


def test_a_disk_that_takes_no_more_is_said(tmp_path: Path) -> None:
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    code = """
import asyncio, resource, signal, sys
from pathlib import Path
from evalsuite import questions
from evalsuite.asking import ask
from tune.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
url, asked, out, limit = sys.argv[1:]
arms = {arm: ask.Endpoint(url=url, model=arm) for arm in ask.ARMS}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    asyncio.run(ask.ask(questions.read(Path(asked)), arms, ["low"], Path(out), max_tokens=64, temperature=0, seed=0))
except UserError as e:
    sys.exit(str(e))
"""
    with stub(tmp_path, asked) as url:
        for limit in (10, 1600):  # room for a part of one answer; for some answers and a part of one
            arguments = [sys.executable, "-c", code, url, str(tmp_path / "questions.jsonl"), str(out), str(limit)]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            assert "answers.jsonl cannot be written" in done.stderr
            assert "Traceback" not in done.stderr
            assert "make room" in done.stderr
    assert 0 < len(answers.read(out, asked)) < 4
    assert out.read_bytes().endswith(b"\n")


def test_kill_9_loses_at_most_what_is_in_flight(tmp_path: Path) -> None:
    asked, out, flying, done = question_set(40), tmp_path / "answers.jsonl", 4, 20
    with stub(tmp_path, asked, replies=done) as url:  # and then it is silent: the kill finds the rest in flight
        code = f"""
import asyncio
from pathlib import Path
from evalsuite import questions
from evalsuite.asking import ask
arms = {{"base": ask.Endpoint(url={url!r}, model={BASE!r}), "tuned": ask.Endpoint(url={url!r}, model={TUNED!r})}}
asyncio.run(ask.ask(questions.read(Path({str(tmp_path / "questions.jsonl")!r})), arms, ["low"], Path({str(out)!r}),
    max_tokens=64, temperature=0.0, seed=3, concurrency={flying}, report=lambda line: print(line, flush=True)))
"""
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if f" {done} of 80 answers" in line:
                break
        os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
        sent, saved, port = len(log(url)), answers.read(out, asked), port_of(url)
    assert len(saved) == done
    assert sent - done <= flying
    with stub(tmp_path, asked, port=port) as url:
        found = run(url, asked, out, efforts=["low"])
        assert found[: len(saved)] == saved
        assert len({a.key for a in found}) == len(found) == 80
        assert len(log(url)) == 80 - done
