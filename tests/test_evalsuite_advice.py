"""Free-text answers beside the gate: asked and kept as all others, shown, and in no figure of a verdict."""

import json
import re
from pathlib import Path
from typing import Any

import chromium
import pytest
from arms import BASE, TUNED, log, run
from evaluation import Some as Part
from evaluation import asked_of, built, evaluated, filed, reply, several
from test_evalsuite_browser import measured
from test_evalsuite_html import text_of
from tutorial_answers import BAD, GOOD

from evalsuite import questions, report
from evalsuite.asking.endpoint import Endpoint
from evalsuite.compare import compare, replay
from evalsuite.judging.advice import TEXT_SHOWN
from evalsuite.judging.opinions import Opinions, Pair, rows
from evalsuite.judging.policy import weaker
from evalsuite.packs.tutorial import tutorial
from evalsuite.questions import Question, QuestionSet
from evalsuite.replies import answers, fitness
from evalsuite.replies.answers import Reply
from evalsuite.stub.server import Fault, Model, Script, serving
from evalsuite.views import html, summary
from tune.errors import UserError
from tune.evaluate import Evaluate, Gated

EFFORTS = ("low", "high")
PACK = tutorial()
LIMITS = Gated(empty=0.5, truncated=0.5, unparsed=0.5, memorisation=0.5, tokens_per_right=1e6, first_answer_ms=1e6)


def says(of: dict[str, str]) -> dict[str, str]:
    """A stub's script: to each question of the pack its answer."""
    return {f"^{begin}": text for begin, text in of.items()}


def free(base: dict[str, str] = BAD, tuned: dict[str, str] = GOOD, **more: Any) -> list[Reply]:
    out = []
    for effort in EFFORTS:
        for q in PACK:
            begin = next(b for b in GOOD if q.prompt.startswith(b))
            out += [
                reply(q, "base", effort, text=base[begin], **more),
                reply(q, "tuned", effort, text=tuned[begin], **more),
            ]
    return out


def judged() -> tuple[QuestionSet, list[Reply]]:
    """Held-out, taught and general questions at two efforts, some lost, some unreadable, times and tokens on all."""
    some = (Part(300, 200, 9, 4, silent=3), Part(60, 30, 1, 12, split="taught"), Part(200, 150, 3, 2, split="general"))
    set_, told = several(*some, efforts=EFFORTS)
    lengths = {"low": 40, "high": 90}
    return set_, [
        a.model_copy(update={"reasoning_tokens": lengths[a.effort], "completion_tokens": 120, "first_answer_s": 0.2})
        for a in told
    ]


def gated(made: report.Report) -> str:
    """All of the report but the advice, what the question set is called by, and its reply digest and count."""
    told = made.model_dump(mode="json", exclude={"advice", "questions_digest", "questions_count", "asked"})
    for name in ("questions_digest", "asked_digest"):
        told["evidence"].pop(name)
    return json.dumps(told)


FREE = {
    "good and bad": free(),
    "errors": free(outcome="error"),
    "another effort": free(error=f"{answers.EFFORT_MISMATCH}: asked low, applied high", outcome="answered"),
    "another model": free(error=f"{answers.MODEL_MISMATCH}: x", outcome="answered"),
    "empty": free(dict.fromkeys(GOOD, ""), dict.fromkeys(GOOD, "")),
    "cut off": free(finish_reason="length"),
    "the same": free(GOOD, GOOD),
    "an answer line": free(dict.fromkeys(GOOD, "ANSWER: 1"), dict.fromkeys(GOOD, "ANSWER: 2")),
    "slow and long": free(reasoning_tokens=9, completion_tokens=99_999, first_answer_s=999.0, total_s=999.0),
    "of another server": [a.model_copy(update={"server": "0" * 16, "model": "x"}) for a in free()],
}


@pytest.mark.parametrize("told", FREE.values(), ids=FREE)
def test_the_verdict_and_every_gated_figure_are_the_same_bytes_with_and_without_them(told: list[Reply]) -> None:
    plain, replies = judged()
    more = plain.model_copy(update={"questions": (*PACK[:5], *plain.questions, *PACK[5:])})
    policy = {"limits": LIMITS, "require_gain": True, "efforts": EFFORTS}
    without = built(plain, replies, **policy)
    assert {f.name for f in without.limits} >= {"steering", "empty", "unparsed", "tokens_per_right", "first_answer_ms"}
    unasked, with_them = built(more, replies, **policy), built(more, [*told, *replies], **policy)
    assert gated(without) == gated(unasked) == gated(with_them)
    assert without.verdict == with_them.verdict
    assert without.advice is None
    assert "advice" not in without.model_dump(mode="json")
    asked = Evaluate(modules=["held-out"], general=200, tutorial=True)
    generated = without.judged.model_copy(update={"made": Evaluate(modules=["held-out"], general=200).about_questions})
    assert not [line for line in weaker(generated, asked) if "tutorial" in line]
    assert "key points" not in summary.junit(with_them)


def test_all_replies_alike_but_the_free_ones_are_still_one_model() -> None:
    """Two arms that say the same word for word are void, whatever their prose."""
    plain, _ = several(Part(4, 4))
    told = [reply(q, arm, "low", text="ANSWER: A0") for q in plain.questions for arm in ("base", "tuned")]
    more = plain.model_copy(update={"questions": (*plain.questions, *PACK)})
    made = built(more, [*told, *(a for a in free() if a.effort == "low")])
    assert made.evidence.identical
    assert made.verdict.outcome == "INVALID"


def test_a_long_free_question_makes_no_server_unfit_and_a_cut_one_no_wrong_answer(tmp_path: Path) -> None:
    long = PACK[0].model_copy(update={"prompt": "word " * 900})
    set_ = QuestionSet(name="q", python="3", questions=(*judged()[0].questions[:4], long))
    meta = asked_of(set_)
    servers = {arm: server.model_copy(update={"max_model_len": 300}) for arm, server in meta.servers.items()}
    assert fitness.unfit(set_, ["low"], meta.model_copy(update={"servers": servers})) == []
    lines = list[str]()
    model = Model(says={"^word": "much " * 99, "^P": "ANSWER: A1"})
    with serving(Script(models={BASE: model, TUNED: model})) as url:
        run(url, set_, tmp_path / "a.jsonl", report=lines.append)
    assert not [line for line in lines if "which count as wrong" in line]


def test_what_is_told_of_them() -> None:
    plain, replies = judged()
    more = plain.model_copy(update={"questions": (*plain.questions, *PACK)})
    told = free()
    lost = [a for a in told if not (a.effort == "high" and a.arm == "base" and a.question == PACK[0].id)]
    lost = [a.model_copy(update={"finish_reason": "length"}) if a.question == PACK[1].id else a for a in lost]
    advice = built(more, [*replies, *lost], efforts=EFFORTS).advice
    assert advice is not None
    low, high = advice.rows
    assert (low.effort, low.asked, low.base.answers, low.base.points, low.base.cut) == ("low", 10, 10, 0.0, 1)
    assert (low.tuned.points, low.tuned.false) == (1.0, 0)
    assert low.base.false >= 10
    words = [len(text.split()) for text in GOOD.values()]
    assert low.tuned.words == sum(words) / 10
    assert (high.base.answers, high.tuned.answers) == (9, 10)
    assert high.told[0].base is None
    assert {p.base for p in high.told[0].points} == {None}
    assert [p.tuned for p in high.told[0].points] == [not p.false for p in high.told[0].points]
    none = built(more, replies, efforts=EFFORTS).advice
    assert none is not None
    assert (none.rows[0].base.points, none.rows[0].base.words, none.rows[0].base.answers) == (None, None, 0)


def test_page_and_markdown_show_them_apart_and_escape_them() -> None:
    plain, replies = judged()
    more = plain.model_copy(update={"questions": (*plain.questions, *PACK)})
    evil = dict.fromkeys(GOOD, "<script>alert(1)</script>" + "long " * TEXT_SHOWN)
    made = built(more, [*replies, *free(evil)], efforts=EFFORTS)
    page, text = html.render(made), text_of(made)
    assert page.count("Advice, not gated") == 1
    assert "<script>alert" not in page
    assert "Key points told" in text
    assert "more characters…" in text
    assert "False claim: it swallows exceptions" in text
    assert "What another model prefers" not in text
    assert "Advice, not gated" not in text_of(built(plain, replies, efforts=EFFORTS))
    [line] = [line for line in summary.markdown(made).splitlines() if line.startswith("Advice")]
    assert line.startswith("Advice, not gated: key points told in free text: low 0.0% → 100.0% in ")
    assert "Advice" not in summary.markdown(built(plain, replies, efforts=EFFORTS))


@chromium.needed
@pytest.mark.parametrize("width", [390, 1180])
def test_every_point_and_preference_is_on_screen(tmp_path: Path, width: int) -> None:
    plain, replies = judged()
    more = plain.model_copy(update={"questions": (*plain.questions, *PACK)})
    made = built(more, [*replies, *free(dict.fromkeys(GOOD, "without_a_space_" * 30))], efforts=EFFORTS)
    preferred = [Pair(question=q.id, effort="low", outcome="win") for q in PACK]
    told = Opinions(report=made.digest, judge="j" * 90, rows=rows(preferred, EFFORTS), pairs=tuple(preferred))
    text = html.render(made, told)
    at = text.index("<h2>Advice, not gated")
    shown = text[: text.index("<main>") + 6] + text[text.rindex("<section", 0, at) :]
    inner, page, seen, lost = measured(tmp_path, re.sub("<details( open)?", "<details open", shown), width)
    assert lost == []
    assert page <= inner == width
    assert seen["TD"] >= 2 * 2 * sum(len(q.points) for q in PACK)


def test_a_stored_report_is_proven_with_them(tmp_path: Path) -> None:
    plain, replies = judged()
    more = plain.model_copy(update={"questions": (*plain.questions, *PACK)})
    path = tmp_path / "report.json"
    made = evaluated(path, more, [*replies, *free()], efforts=EFFORTS)
    assert report.read(path) == made.model_copy(update={"questions_made": more.made})
    file = tmp_path / report.ANSWERS
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if PACK[3].id.encode() not in line))
    with pytest.raises(UserError, match="cannot be proven"):
        report.read(path)
    kept = [a for a in filed(free(), more, asked_of(more)) if a.outcome == "answered"]
    assert {a.score for a in kept} == {None}


def test_they_are_asked_in_the_same_run_in_both_arms_at_each_effort_and_resumed_and_replayed(tmp_path: Path) -> None:
    asked = tuple(
        Question(id=f"q{i}", kind="k", module="m", prompt=f"P{i}", answer=f"A{i}", grader="exact") for i in range(12)
    )
    set_ = QuestionSet(name="q", python="3", questions=(*asked, *PACK))
    questions.write(tmp_path / "q.jsonl", set_)
    known = {
        "settings": Evaluate(efforts=["low", "high"], max_tokens=400),
        "question_file": tmp_path / "q.jsonl",
        "out": tmp_path / "out",
    }
    failing = Fault(kind="401", prompt="sieve")
    models = {BASE: Model(says=says(BAD), faults=(failing,)), TUNED: Model(says=says(GOOD), accuracy=0.5)}
    with serving(Script(models=models, questions=tmp_path / "q.jsonl")) as url:
        arms: dict[Any, Endpoint] = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        first = compare(arms, **known, concurrency=1)  # type: ignore[arg-type]
        sent = log(url)
    prompts = [x["prompt"] for x in sent]
    assert {(x["model"], x["effort"]) for x in sent if x["prompt"] == PACK[0].prompt} == {
        (model, effort) for model in (BASE, TUNED) for effort in EFFORTS
    }
    places = [i for i, prompt in enumerate(prompts) if prompt not in {q.prompt for q in asked}]
    assert places != list(range(places[0], places[0] + len(places)))  # interleaved, in no block of their own
    assert first.advice is not None
    assert [(r.base.answers, r.tuned.answers, r.tuned.points) for r in first.advice.rows] == [(9, 10, 1.0)] * 2
    assert sum(c.missing for c in first.comparisons) == 0
    with serving(
        Script(models={BASE: Model(says=says(BAD)), TUNED: models[TUNED]}, questions=tmp_path / "q.jsonl")
    ) as url:
        arms = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        compare(arms, **known)  # type: ignore[arg-type]
        n = len(log(url))
        again = compare(arms, **known)  # type: ignore[arg-type]
        assert len(log(url)) == n  # nothing is asked twice
    replayed = replay(**known)  # type: ignore[arg-type]
    assert replayed.advice == again.advice
    assert again.advice is not None
    assert [r.base.answers for r in again.advice.rows] == [10, 10]
