"""Asking two arms through the openai client, against the stub and its faults."""

from collections import Counter
from pathlib import Path

import pytest
from arms import BASE, TUNED, log, question_set, run, stub

from evalsuite.asking import ask, pace, reply
from evalsuite.replies import answers
from evalsuite.stub.server import Fault, Model


def test_both_arms_are_asked_side_by_side(tmp_path: Path) -> None:
    asked, out, lines = question_set(8), tmp_path / "run" / "answers.jsonl", list[str]()
    with stub(tmp_path, asked) as url:
        found = run(url, asked, out, concurrency=1, report=lines.append)
        sent = log(url)
    assert len(found) == 32
    assert len({a.key for a in found}) == 32
    assert answers.read(out, asked) == found
    for a in found:
        assert (a.outcome, a.score) == ("answered", 1.0 if a.arm == "base" else 0.0)
        assert a.model == (BASE if a.arm == "base" else TUNED)
        assert (a.reasoning_tokens, len(a.reasoning.split())) == ((4, 4) if a.effort == "low" else (48, 48))
        assert a.completion_tokens is not None
        assert a.reasoning_tokens is not None
        assert a.completion_tokens > a.reasoning_tokens
        assert a.prompt_tokens
        assert a.first_token_s is not None
        assert a.first_answer_s is not None
        assert a.total_s is not None
        assert 0 < a.first_token_s <= a.first_answer_s <= a.total_s
        assert (a.finish_reason, a.error) == ("stop", "")
    pairs = [(sent[i], sent[i + 1]) for i in range(0, 32, 2)]
    assert all((x["prompt"], x["effort"]) == (y["prompt"], y["effort"]) and x["model"] != y["model"] for x, y in pairs)
    assert {x["model"] for x, _ in pairs} == {BASE, TUNED}, "one arm always went first"
    assert [x["prompt"] for x, _ in pairs] != sorted(x["prompt"] for x, _ in pairs)
    assert {x["max_tokens"] for x in sent} == {64}
    assert "32 of 32 answers" in lines[-1]
    assert sum(" of 32 answers" in line for line in lines) == 32, "as few answers as these get a line each"


@pytest.mark.parametrize(
    ("fault", "outcome", "error", "attempts"),
    [
        (Fault(kind="500"), "error", "HTTP 500", 2),
        (Fault(kind="429", seconds=0.01), "error", "HTTP 429", 4),
        (Fault(kind="401"), "error", "HTTP 401", 1),
        (Fault(kind="hangup"), "error", "the connection failed: peer closed connection", 2),
        (Fault(kind="error_in_200"), "error", "the stream broke off: scripted error", 2),
        (Fault(kind="garbage"), "error", "not a chat completion", 2),
        (Fault(kind="wrong_effort"), "error", "effort did not reach the prompt: asked low, applied medium", 1),
        (Fault(kind="empty"), "empty", "", 1),
        (Fault(kind="truncated"), "truncated-reasoning", "", 1),
        (Fault(kind="500", times=1), "answered", "", 2),
        (Fault(kind="429", seconds=0.01, times=1), "answered", "", 2),
        (Fault(kind="503", seconds=0.01, times=3), "answered", "", 4),
        (Fault(kind="hangup", times=1), "answered", "", 2),
    ],
    ids=lambda v: f"{v.kind}-{v.times}" if isinstance(v, Fault) else "",
)
def test_what_a_fault_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, outcome: str, error: str, attempts: int
) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(pace, "PATIENCE_SECONDS", 3.5 * reply.SHORTEST_WAIT)
    asked = question_set(2)
    with stub(tmp_path, asked, Model(faults=(fault.model_copy(update={"prompt": "?"}),))) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"])
        sent = Counter(x["model"] for x in log(url))
    by_arm = {arm: [a for a in found if a.arm == arm] for arm in ask.ARMS}
    assert sent[BASE] == 2 * attempts
    for a in by_arm["base"]:
        assert a.outcome == outcome
        assert a.score == {"error": None, "answered": 1.0}.get(outcome, 0.0)
        assert error in a.error
        assert bool(a.error) == (outcome == "error")
        assert (a.first_token_s is None) == (outcome == "error")
        assert a.first_answer_s is None or outcome == "answered"
    assert {a.outcome for a in by_arm["tuned"]} == {"answered"}


def test_retry_after_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 1e9)  # capped, but past any patience: only the header helps
    asked = question_set(1)
    with stub(tmp_path, asked, Model(faults=(Fault(kind="429", prompt="?", seconds=0.02, times=1),))) as url:
        assert {a.outcome for a in run(url, asked, tmp_path / "answers.jsonl")} == {"answered"}


def test_text_without_the_answer_line_is_unparsed(tmp_path: Path) -> None:
    asked = question_set(1)
    with stub(tmp_path, None, Model(answer_tokens=5)) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"])
    assert {(a.outcome, a.score) for a in found} == {("unparsed", 0.0)}
    assert next(a for a in found if a.arm == "base").parsed == "word0 word1 word2 word3 word4"


def test_a_cut_answer_is_truncated_even_when_it_could_be_read(tmp_path: Path) -> None:
    asked = question_set(1)
    with stub(tmp_path, asked) as url:
        cut = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"], max_tokens=10)
    assert {(a.outcome, a.score, a.finish_reason) for a in cut} == {("truncated", 0.0, "length")}


def test_a_reply_without_end_is_an_error_and_not_the_disk_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "REPLY_SECONDS", 3)
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked, Model(per_token_s=30)) as url:
        found = run(url, asked, out, efforts=["low"])
        sent = Counter(x["model"] for x in log(url))
    slow = next(a for a in found if a.arm == "base")
    assert (slow.outcome, slow.score) == ("timeout", None)
    assert slow.error == "timed out: the reply was not whole after 3 s"
    assert sent[BASE] == 1


def test_a_limit_that_is_too_low_is_named_at_once_and_at_the_end(tmp_path: Path) -> None:
    asked, lines = question_set(12), list[str]()
    thinks = Model(reasoning_tokens={"low": 4, "medium": 16, "high": 80})
    limits = {"low": 30, "high": 64}
    with stub(tmp_path, asked, thinks) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", max_tokens=limits, concurrency=1, report=lines.append)
        sent = log(url)
    assert {(x["effort"], x["max_tokens"]) for x in sent} == set(limits.items())
    assert {x["effort"] for x in sent[:4]} == {"low", "high"}, "an effort whose limit shows late"
    assert Counter(a.outcome for a in found) == {"answered": 36, "truncated-reasoning": 12}
    told = [line for line in lines if "evaluate.max_tokens" in line]
    assert told == [
        "base at effort high needs more than 64 tokens: raise evaluate.max_tokens",
        "base at effort high: 64 tokens cut 12 of 12 replies, which count as wrong: raise evaluate.max_tokens",
    ]
    assert lines.index(told[0]) < next(i for i, line in enumerate(lines) if " 4 of 48 answers" in line)
