"""Several answers to a question: each is asked once, with a seed of its own, and a question counts by their mean."""

import json
from pathlib import Path
from typing import Any

import pytest
from arms import BASE, TUNED, log, question_set, run, stub
from click.testing import CliRunner
from evaluation import ARMS, Some, asked_of, built, evaluated, filed, question, reply, several

from evalsuite import questions, report
from evalsuite.asking.endpoint import Endpoint
from evalsuite.cli import main
from evalsuite.compare import compare, replay
from evalsuite.judging import gain, paired
from evalsuite.judging.paired import Asked
from evalsuite.judging.policy import Policy, weaker
from evalsuite.packs.tutorial import tutorial
from evalsuite.plan import plan
from evalsuite.questions import QuestionSet
from evalsuite.replies import answers, request
from evalsuite.stub.server import Fault, Model
from evalsuite.views import html, summary
from tune import recipe
from tune.errors import UserError
from tune.evaluate import Evaluate, Gated

GOLDEN = Path(__file__).parent / "golden/once"
WARM: dict[str, Any] = {"temperature": 1.0, "efforts": ["low"]}


def test_one_answer_each_is_filed_and_reported_byte_for_byte_as_before_there_were_repeats(tmp_path: Path) -> None:
    set_, told = several(
        Some(8, 6, 1, 1, "facts", silent=1),
        Some(4, 3, 0, 1, "rules"),
        Some(3, 2, split="taught"),
        Some(3, 2, 1, split="general"),
        efforts=("low", "high"),
    )
    told = [
        r.model_copy(
            update={"reasoning_tokens": 8 if r.effort == "low" else 16, "total_s": 0.5, "completion_tokens": 20}
        )
        for r in told
    ]
    told[3] = reply(set_.questions[1], "tuned", "low", outcome="error")
    margins = {"margin": 0.3, "forgetting_margin": 0.3}
    evaluated(tmp_path / "report.json", set_, told, require_gain=True, missing_cap=0.2, **margins)
    assert (tmp_path / "answers.jsonl").read_bytes() == (GOLDEN / "answers.jsonl").read_bytes()
    stored, made = (json.loads((folder / "report.json").read_text()) for folder in (GOLDEN, tmp_path))
    assert rounded(made | {"digest": ""}) == rounded(stored | {"digest": ""})


def rounded(found: Any) -> str:
    """As text, keys in their order; another processor may round the last digits otherwise."""
    return json.dumps(json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 9)))


def test_each_repeat_is_asked_once_with_its_own_seed_and_a_resume_asks_what_is_new(tmp_path: Path) -> None:
    asked, out = question_set(4), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        once = run(url, asked, out, **WARM)
        first = len(log(url))
        assert (first, {x["seed"] for x in log(url)}) == (8, {3})
        found = run(url, asked, out, **WARM, repeats=3)
        sent = [(x["model"], x["prompt"], x["seed"]) for x in log(url)]
        assert len(set(sent)) == len(sent) == 24
        assert {seed for _, _, seed in sent} == {3, 4, 5}
        assert sorted(a.key for a in found) == sorted((q.id, arm, "low", n) for q in asked.questions
                                                      for arm in ("base", "tuned") for n in range(3))  # fmt: skip
        assert [a for a in found if not a.repeat] == once
        assert len({a.request for a in found if a.question == "q0" and a.arm == "base"}) == 3
        assert run(url, asked, out, **WARM, repeats=3) == found
        fewer = run(url, asked, out, **WARM, repeats=2, report=(said := list[str]()).append)
        assert len(log(url)) == 24
    assert fewer == [a for a in found if a.repeat < 2]
    assert "8 answers on file are of repeats that are not asked: they stay there and do not count" in said


def test_of_the_repeats_of_a_question_only_the_one_that_failed_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked, Model(faults=(Fault(kind="401", prompt="q1", times=1),))) as url:
        first = run(url, asked, out, **WARM, repeats=4)
        assert sum(bool(a.error) for a in first) == 1
        second = run(url, asked, out, **WARM, repeats=4)
        assert len(log(url)) == 16 + 1
        assert not any(a.error for a in second)


def test_a_second_reply_to_one_repeat_is_refused_and_to_another_is_not(tmp_path: Path) -> None:
    set_ = QuestionSet(name="docs", python="3", questions=(question(0),))
    told = [reply(set_.questions[0], "base", repeat=n, server="s", request="r") for n in (0, 1)]
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"".join(map(answers.line, told)))
    assert [a.repeat for a in answers.read(path, set_)] == [0, 1]
    path.write_bytes(path.read_bytes() + answers.line(told[1].model_copy(update={"text": "other"})))
    with pytest.raises(UserError, match="second reply to one request"):
        answers.read(path, set_)


def test_a_whole_run_its_replay_its_gate_and_its_pages(tmp_path: Path) -> None:
    asked = question_set(12)
    questions.write(tmp_path / "q.jsonl", asked)
    settings = Evaluate(efforts=["low"], max_tokens=64, temperature=1, repeats=4)
    told: dict[str, Any] = {"settings": settings, "question_file": tmp_path / "q.jsonl", "out": tmp_path / "out"}
    with stub(tmp_path, asked, Model(accuracy=0.6, sampled=True)) as url:
        made = compare({"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}, **told)
        assert len(log(url)) == 2 * 12 * 4
    [c] = made.comparisons
    assert (c.asked, c.paired, c.repeats, sum(c.base.outcomes.values())) == (12, 12, 4, 48)
    by_hand = [a.score for a in answers.read(tmp_path / "out/answers.jsonl", asked) if a.arm == "base"]
    assert c.base.accuracy == pytest.approx(sum(s or 0 for s in by_hand) / 48)
    assert 0 < c.base.accuracy < 1
    again = replay(**told)
    assert (again.comparisons, again.verdict) == (made.comparisons, made.verdict)
    assert report.read(tmp_path / "out/report.json").verdict == made.verdict
    assert "Means of 12 questions, 4 answers each; lost and gained by majority." in summary.markdown(made)
    page = html.render(made)
    for words in ("4 answers each", "on the means of 4 answers each", "in more than half of its answers"):
        assert words in page
    whole = made.judged
    assert weaker(whole, settings.model_copy(update={"questions": 12, "repeats": 2})) == []
    lacking = weaker(whole, settings.model_copy(update={"repeats": 8}))
    assert "repeats 4, and the recipe has 8" in lacking


def test_a_free_text_question_is_asked_once_beside_repeats_and_stands_in_no_mean(tmp_path: Path) -> None:
    plain = question_set(6)
    asked = plain.model_copy(update={"questions": (*plain.questions, *tutorial()[:2])})
    questions.write(tmp_path / "q.jsonl", asked)
    settings = Evaluate(efforts=["low"], max_tokens=64, temperature=1, repeats=3)
    told: dict[str, Any] = {"settings": settings, "question_file": tmp_path / "q.jsonl", "out": tmp_path / "out"}
    with stub(tmp_path, asked, Model(accuracy=0.6, sampled=True)) as url:
        made = compare({"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}, **told)
        assert len(log(url)) == 2 * (6 * 3 + 2)
    assert "Means of 6 questions, 3 answers each" in summary.markdown(made)
    assert made.advice
    assert [row.base.answers for row in made.advice.rows] == [2]
    lines: list[str] = []
    assert replay(**told, progress=lines.append).verdict == made.verdict
    assert not lines
    kept = (tmp_path / "out/answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out/answers.jsonl").write_text("".join(kept[:-1]))
    replay(**told, progress=lines.append)
    assert any("1 of 20 answers are missing" in line for line in lines)
    free = Evaluate(tutorial=True, temperature=1, repeats=3)
    assert plan(free).requests - plan(free.model_copy(update={"tutorial": False})).requests == 2 * 3 * 10


def means_of(base: dict[str, list[Any]], tuned: dict[str, list[Any]], **policy: Any) -> report.Report:
    """Questions by name, and of each what became of its answers: 1, 0, or None for an error."""
    set_ = QuestionSet(name="docs", python="3", questions=tuple(question(i, id=q) for i, q in enumerate(base)))
    meta = asked_of(set_)
    sampling = meta.sampling.model_copy(update={"temperature": 1.0, "repeats": max(map(len, base.values()))})
    meta = meta.model_copy(update={"sampling": sampling})
    told = []
    for q in set_.questions:
        for arm, said in (("base", base[q.id]), ("tuned", tuned[q.id])):
            for n, each in enumerate(said):
                server = meta.servers[arm]  # type: ignore[index]
                sent = request.digest(request.body(q, server.model, "low", sampling, True, n))
                more = {"repeat": n, "server": server.id, "model": server.model, "request": sent}
                outcome = "error" if each is None else "answered"
                told.append(reply(q, arm, "low", bool(each), outcome, **more))  # type: ignore[arg-type]
    return built(set_, told, meta, **({"missing_cap": 0.9} | policy))


def test_a_question_is_shown_with_the_answers_that_came_and_paired_where_each_arm_has_one() -> None:
    r = means_of(
        {"a": [1, 1, 1, 0], "b": [1, None, None, 0], "c": [None] * 4, "d": [0, 0, 1, 1], "e": [1, 1, 1, 1]},
        {"a": [0, 0, 1, None], "b": [1, 1, None, 1], "c": [1, 1, 1, 1], "d": [1, 0, 1, 1], "e": [1, 1, 0, 0]},
    )
    [c] = r.comparisons
    change = [1 / 3 - 3 / 4, 1 - 1 / 2, 3 / 4 - 2 / 4, -1 / 2]
    assert (c.asked, c.paired, c.missing) == (5, 4, 3)
    assert (c.missing_answers, c.whole.lacking.words) == (7, "7 of 20 answers")  # a repeat that both lack is one
    assert c.difference.estimate == pytest.approx(sum(change) / 4)
    assert c.difference.discordance == pytest.approx(sum(d * d for d in change) / 4)
    assert (c.lost, c.gained) == (2, 2)  # a half is no majority: of b and d base is not right, of e tuned is not
    shown = {f.question: (f.direction, f.base_text, f.tuned_text) for f in c.flips}
    assert {q: way for q, (way, *_) in shown.items()} == {"a": "lost", "b": "gained", "d": "gained", "e": "lost"}
    for way, base, tuned in shown.values():  # of each arm an answer that is as most of them are
        assert ("not so" in base, "not so" in tuned) == (way == "gained", way == "lost")
    assert c.base.outcomes["error"] == 6


def test_every_missing_repeat_is_at_its_worst_within_the_mean_in_every_bound() -> None:
    """As if the answers that an arm lacks had been wrong, or right: whichever is worse for what is shown."""

    def arm(missing: int | None, of: list[int]) -> dict[str, list[Any]]:
        """Every third question lacks what comes after its first answer."""
        return {f"q{i}": [one if n == 0 or i % 3 else missing for n, one in enumerate(of)] for i in range(40)}

    base, tuned = [1, 0, 1, 1], [0, 1, 1, 1]
    seen = means_of(arm(None, base), arm(None, tuned)).comparisons[0]
    low = means_of(arm(1, base), arm(0, tuned)).comparisons[0]
    high = means_of(arm(0, base), arm(1, tuned)).comparisons[0]
    assert (seen.missing_answers, seen.paired) == (14 * 3, 40)
    assert seen.difference.lower == low.difference.lower < seen.difference.estimate
    assert seen.difference.upper == high.difference.upper > seen.difference.estimate
    assert (seen.better_p, seen.difference.worse_p) == (low.better_p, high.difference.worse_p)
    assert (seen.guessing_p, seen.base_above) == (low.guessing_p, high.base_above)
    assert seen.answering.lower < low.answering.lower - 0.2  # an answer that is wrong can be read
    assert seen.kinds[0].difference == seen.difference
    heard = Asked(
        "", "m", 0.5, (1.0, 1.0), ((True, True), (True, None))
    )  # half of its answers: no more than by guessing
    assert paired.group([heard._replace(module=f"m{i}") for i in range(40)], 0.05).guessing_p > 0.4


def test_a_journal_of_one_answer_each_is_no_evidence_of_eight(tmp_path: Path) -> None:
    set_ = QuestionSet(name="docs", python="3", questions=tuple(question(i) for i in range(300)))
    questions.write(tmp_path / "q.jsonl", set_)
    meta = asked_of(set_)
    meta = meta.model_copy(update={"sampling": meta.sampling.model_copy(update={"temperature": 1.0})})
    told = filed([reply(q, arm, "low") for q in set_.questions for arm in ARMS], set_, meta)
    out = tmp_path / "out"
    out.mkdir()
    (out / "answers.jsonl").write_bytes(answers.header(meta) + b"".join(map(answers.line, told)))
    once = Evaluate(efforts=["low"], max_tokens=256, temperature=1, seed=0)
    common: dict[str, Any] = {"question_file": tmp_path / "q.jsonl", "out": out}
    assert replay(settings=once, **common).verdict.outcome == "PASS"
    said = list[str]()
    made = replay(settings=once.model_copy(update={"repeats": 8}), **common, progress=said.append)
    assert "base at effort low: 2100 of 2400 answers are missing" in said
    assert made.verdict.outcome == "INVALID"
    [why] = made.verdict.reasons
    assert why.startswith("low: 2100 of 2400 answers lack a score on either side, more than 2 %")
    assert "never asked: base 2100, tuned 2100" in why
    assert made.comparisons[0].difference.lower < -0.8
    done = CliRunner().invoke(main, ["gate", str(out / "report.json")])
    assert done.exit_code == 3, done.output


def test_time_outs_of_three_in_four_replies_are_no_pass() -> None:
    base = {f"q{i}": [1, 1, 1, 1] for i in range(300)}
    tuned: dict[str, list[Any]] = {q: [None, 1, None, None] for q in base}
    void = means_of(base, tuned, missing_cap=0.02)
    assert void.verdict.outcome == "INVALID"
    assert "900 of 1200 answers lack a score on either side" in void.verdict.reasons[0]
    assert "errors: base 0, tuned 900" in void.verdict.reasons[0]
    [c] = void.comparisons
    assert (c.missing, c.missing_answers, c.known and c.known.missing_answers) == (300, 900, 900)
    let = means_of(base, tuned)  # however many may be missing
    assert let.verdict.outcome == "INCONCLUSIVE"
    assert "(900 of 1200 answers are missing and count at their worst)" in let.verdict.reasons[0]
    assert let.comparisons[0].difference.lower < -0.7


def test_answers_that_lack_up_to_the_cap_are_counted_over_all_repeats() -> None:
    base = {f"q{i}": [1, 1, 1, 1] for i in range(100)}
    tuned = {q: [1, 1, 1, None] if i < 8 else said for i, (q, said) in enumerate(base.items())}
    assert means_of(base, tuned, missing_cap=0.02).verdict.outcome != "INVALID"  # 8 of 400
    assert means_of(base, tuned | {"q9": [None, 1, 1, 1]}, missing_cap=0.02).verdict.outcome == "INVALID"


def test_a_gain_says_how_many_answers_it_lacks() -> None:
    base = {f"q{i}": [0, 1] for i in range(40)}
    [c] = means_of(base, {q: [1, None] for q in base}).comparisons
    finding = gain.check("low", [gain.Way("low", "taught questions", c.whole)], Policy())
    assert "40 of 80 answers missing at their worst" in finding.undecided
    assert not finding.passes  # of the answers that came tuned has all right


def test_the_missing_question_is_at_its_worst_in_every_bound() -> None:
    whole = {f"q{i}": [1, 0] for i in range(60)}
    lacking = {q: [None, None] if q in {"q0", "q1"} else said for q, said in whole.items()}
    full, less = means_of(whole, whole).comparisons[0], means_of(whole, lacking).comparisons[0]
    assert less.missing == 2
    assert less.difference.estimate == full.difference.estimate == 0
    assert less.difference.lower < full.difference.lower - 0.02
    assert less.difference.upper > full.difference.upper + 0.002
    assert less.better_p > 0.5


def test_limits_look_at_the_first_answer_and_no_later_one_takes_its_place() -> None:
    set_ = QuestionSet(name="docs", python="3", questions=(question(0),))
    told = [
        answers.graded(set_.questions[0], reply(set_.questions[0], "base", right=n == 2, repeat=n, **more))
        for n, more in ((2, {}), (1, {}), (0, {"outcome": "error"}))
    ]
    assert [(a.repeat, a.score) for a in answers.first(told).values()] == [(0, None)]
    assert answers.first(told[:2]) == {}
    whole = {f"q{i}": [1, 1] for i in range(200)}
    failed = {q: [None, 1] if i < 50 else said for i, (q, said) in enumerate(whole.items())}
    for tuned, kept in ((whole, True), (failed, False)):
        [figure] = means_of(whole, tuned, limits=Gated(unparsed=0.05)).limits
        assert figure.kept == kept
    assert figure.bound is not None
    assert figure.bound > 50 / 200
    assert figure.of == "0 of 150"


def test_the_same_question_again_at_temperature_0_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[evaluate]\nrepeats = 4\n")
    with pytest.raises(UserError, match="1 problem") as e:
        recipe.read(path)
    assert "repeats = 4 at temperature = 0 asks for the same answer again" in e.value.why
    for text, good in (("repeats = 33", False), ("repeats = 0", False), ("repeats = 32", True)):
        path.write_text(f"[evaluate]\n{text}\ntemperature = 1.0\n")
        if good:
            assert recipe.read(path).evaluate.repeats == 32
        else:
            with pytest.raises(UserError, match="1 problem"):
                recipe.read(path)


def test_a_plan_counts_requests_and_tokens_of_every_answer(tmp_path: Path) -> None:
    once = plan(Evaluate(questions=100, taught=0, efforts=["low"], max_tokens=10))
    four = plan(Evaluate(questions=100, taught=0, efforts=["low"], max_tokens=10, temperature=1, repeats=4))
    assert (four.requests, four.tokens) == (4 * once.requests, 4 * once.tokens) == (800, 8000)
    assert all(a.power < b.power and a.needed > b.needed for a, b in zip(once.rows, four.rows, strict=True))
    assert "repeats" not in once.model_dump()
    path = tmp_path / "recipe.toml"
    path.write_text('[evaluate]\nmodules = ["a"]\nrepeats = 4\ntemperature = 1.0\nefforts = ["low"]\n')
    said = CliRunner().invoke(main, ["plan", "--recipe", str(path)]).output
    assert "4 answers each, asked of base and tuned" in said
    assert "where answers flip by chance alone" in said
