"""Sets with code questions: made, frozen, judged, held to a recipe, and neither run nor judged without a sandbox."""

import ast
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from coded import CALL, DOCTEST, MODULES, PYTHON, SIGNATURE, frozen, shut
from evaluation import asked_of, both, built, filed, reply

from evalsuite import freeze, questions, report, sandbox
from evalsuite.cli import main
from evalsuite.code import execution
from evalsuite.code.execution import Program
from evalsuite.contamination import contamination, statements
from evalsuite.judging.policy import Policy
from evalsuite.plan import plan, words
from evalsuite.pydocs.kinds.written import POWERFUL, WRITTEN
from evalsuite.pydocs.written import DOCTEST_RULE
from evalsuite.questions import Question, QuestionSet
from evalsuite.replies import answers, request
from evalsuite.replies.answers import Arm
from evalsuite.replies.graders import grade, parse, said
from evalsuite.stub.script import Model, compose
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Recipe


def written(tmp_path: Path, each: QuestionSet) -> Path:
    """A folder with a report, its questions and its replies."""
    meta = asked_of(each)
    told = [reply(q, arm, text=f"So.\n{said(q.grader, q.answer if arm == 'tuned' else '1')}")
            for q in each.questions for arm in ("base", "tuned")]  # fmt: skip
    found = filed(told, each, meta)
    made = report.build(each, found, asked=meta, created="", policy=Policy(), efforts=["low"])
    questions.write(tmp_path / report.QUESTIONS, each)
    (tmp_path / report.ANSWERS).write_bytes(b"".join([answers.header(meta), *map(answers.line, found)]))
    report.write(tmp_path / "report.json", made)
    return tmp_path / "report.json"


def test_a_report_says_the_level_and_what_running_said_and_is_graded_again(tmp_path: Path) -> None:
    at = shut()
    each = frozen(CALL.model_copy(update={"prompt": "a"}), DOCTEST.model_copy(update={"id": "d", "prompt": "b"}))
    made = report.read(written(tmp_path, each))
    assert made.provenance["sandbox of code answers"] == at
    (base,) = made.failures
    assert (base.arm, base.replies) == ("base", ())
    assert [(e.text, e.count) for e in base.code] == [
        ("is no call of base64.b64encode", 1),
        ("is no doctest with a line behind >>> and what it shows below", 1),
    ]
    assert [c.gained for c in made.comparisons] == [2]


def test_nothing_is_run_or_judged_where_nothing_shuts_code_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    path = written(tmp_path, frozen(CALL, SIGNATURE.model_copy(update={"prompt": "s"})))
    monkeypatch.setattr(sandbox, "refusal", lambda at: f"{at} is not here")
    monkeypatch.setattr(execution, "_RAN", {})
    monkeypatch.setattr(sandbox, "run", lambda *_a, **_m: pytest.fail("it ran"))
    from evalsuite import compare

    endpoint: Any = None  # nobody is asked
    for attempt in (
        lambda: report.read(path),
        lambda: answers.read(tmp_path / "none.jsonl", frozen(CALL)),
        lambda: grade(CALL, CALL.answer),
        lambda: compare.compare(endpoint, settings=Evaluate(), question_file=tmp_path / report.QUESTIONS, out=tmp_path),
        lambda: freeze.make(Recipe(evaluate=Evaluate(modules=MODULES, book="closed", taught=0, questions=5, code=5))),
    ):
        with pytest.raises(UserError, match="cannot be run on this machine") as e:
            attempt()
        assert "bubblewrap is not here" in e.value.why
        assert "code = 0" in e.value.fix
    assert grade(SIGNATURE, SIGNATURE.answer) == 1.0


def test_another_python_does_not_grade_them(tmp_path: Path) -> None:
    shut()
    path = written(tmp_path, frozen(CALL, python="3.9.1"))
    with pytest.raises(UserError, match="another Python") as e:
        report.read(path)
    assert "Python 3.9" in e.value.fix
    assert grade(CALL, CALL.answer) == 1.0


@pytest.fixture(scope="module")
def sets() -> tuple[QuestionSet, QuestionSet]:
    """Without code questions, and with them."""
    shut()
    known: dict[str, Any] = {"modules": MODULES, "questions": 20, "book": "closed", "taught": 0}
    return tuple(freeze.make(Recipe(evaluate=Evaluate(**known, **more))) for more in ({}, {"code": 24}))  # type: ignore[return-value]


def unnamed(q: Question) -> list[str]:
    """A fix as who knows no name has it: as it stands, without the keyword arguments' names, as `**`, without them."""
    assert q.code
    out = [q.code.source]
    for way in ("place", "stars", "none"):
        tree = ast.parse(q.code.source, mode="eval")
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            given, call.keywords = call.keywords, []
            call.args += [k.value for k in given if way == "place"]
            call.keywords += [ast.keyword(None, k.value) for k in given if way == "stars"]
        out.append(ast.unparse(tree))
    return out


def test_code_questions_come_behind_the_others_and_change_none(sets: tuple[QuestionSet, QuestionSet]) -> None:
    without, made = sets
    assert made.questions[:20] == without.questions
    assert "code" not in without.made
    assert made.made["code"] == 24
    assert not any('"code"' in q.model_dump_json() for q in without.questions)
    code = made.questions[20:]
    assert Counter(q.kind for q in code) == dict.fromkeys(WRITTEN, 6)
    assert {(q.split, q.guess) for q in code} == {("held-out", 0.0)}
    for q in code:
        assert q.developer == (DOCTEST_RULE if q.grader == "doctest" else Evaluate().answer_rule)
        assert q.answer not in q.prompt
        assert q.grader != "call" or q.module not in POWERFUL
        assert grade(q, parse(said(q.grader, q.answer), q.grader)) == 1.0
        assert q.grader != "fix" or not any(map(float, (grade(q, each) for each in unnamed(q))))
    right = [[grade(q, other.answer) for other in code if other.grader == q.grader] for q in code]
    assert max(sum(row) for row in right) == 1.0


def test_a_set_frozen_before_there_was_code_keeps_its_digest() -> None:
    known: dict[str, Any] = {"kind": "k", "module": "m"}
    first = Question(id="a", prompt="P?", answer="1", grader="literal", guess=0.5, developer="d", **known)
    second = Question(id="b", prompt="Q?", answer="yes", grader="yesno", twin="a", **known)
    made = QuestionSet(name="n", python="3.11.7", made={"seed": 0}, questions=(first, second))
    assert made.digest == "e384a7bb873dcd5b8526234670d57534b1f0b1a18d1feac2a5a0771d1162b185"


def test_a_set_with_code_is_written_and_read(sets: tuple[QuestionSet, QuestionSet], tmp_path: Path) -> None:
    questions.write(tmp_path / "q.jsonl", sets[1])
    assert questions.read(tmp_path / "q.jsonl") == sets[1]


def test_a_recipe_holds_a_set_to_its_code_questions(tmp_path: Path) -> None:
    wanted = Evaluate(modules=["ast"], code=10)
    assert wanted.about_questions["code"] == 10
    assert "code" not in Evaluate(modules=["ast"]).about_questions
    for other in (0, 11):
        with pytest.raises(UserError, match="not the question set"):
            Evaluate(modules=["ast"], code=other).require_questions(tmp_path, wanted.about_questions)
    with pytest.raises(ValueError, match="code shape generated"):
        Evaluate.model_validate({"questions_file": "own.csv", "code": 1})


def diluted(count: int, made: dict[str, Any]) -> report.Report:
    """100 questions and so many code ones; tuned has lost 8 of the first."""
    plain = [Question(id=f"p{i}", kind="k", module="ast", prompt=f"p{i}", answer="1", grader="exact")
             for i in range(100)]  # fmt: skip
    code = [CALL.model_copy(update={"id": f"c{i}", "module": "ast", "prompt": f"c{i}"}) for i in range(count)]
    code = [q.model_copy(update=NO_CODE) if i % 2 else q for i, q in enumerate(code)]
    each = QuestionSet(name="n", python=PYTHON, made=made, questions=(*plain, *code))
    return built(each, both(each, lambda arm, i: arm == "tuned" and i < 8))


NO_CODE = {"kind": "code-signature", "grader": "signature", "code": None, "answer": "f(a)"}


def test_no_more_code_questions_than_a_recipe_asks_for_and_fewer_only_where_there_are_none() -> None:
    shut()
    known: dict[str, Any] = {"modules": ["ast"], "questions": 100, "efforts": ["low"]}

    def weaker(count: int, code: int, made: int | None = None) -> list[str]:
        header = Evaluate(**known, code=made).about_questions if made is not None else {}
        return report.weaker(diluted(count, header).judged, Evaluate(**known, code=code))

    assert weaker(30, 30, 30) == weaker(20, 30, 30) == weaker(20, 30, 40) == weaker(0, 0, 0) == weaker(30, 30) == []
    assert weaker(0, 0) == []
    assert weaker(30, 0, 30) == weaker(30, 0) == ["code 30, and the recipe has 0"]  # by hand too
    assert weaker(31, 30, 40) == weaker(31, 30) == ["code 31, and the recipe has 30"]
    assert weaker(20, 30, 20) == weaker(20, 30) == ["code 20, and the recipe has 30"]
    assert weaker(0, 30, 0) == ["code 0, and the recipe has 30"]


def test_a_gate_refuses_a_set_that_code_questions_dilute(tmp_path: Path) -> None:
    shut()
    wanted = '[evaluate]\nmodules = ["ast"]\nquestions = 100\ntaught = 0\nefforts = ["low"]\nmax_tokens = 256\n'
    (tmp_path / "recipe.toml").write_text(wanted)
    about = Recipe.model_validate(tomllib.loads(wanted)).evaluate.model_copy(update={"code": 400}).about_questions
    each = diluted(400, about)
    assert each.verdict.outcome == "PASS"
    assert diluted(0, about).verdict.outcome != "PASS"
    assert report.weaker(each.judged, Recipe.model_validate(tomllib.loads(wanted)).evaluate) == [
        "code 400, and the recipe has 0"
    ]


def test_each_of_several_answers_is_graded_and_equal_ones_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    real, runs = execution.execute, list[Program]()
    monkeypatch.setattr(execution, "_RAN", {})
    monkeypatch.setattr(execution, "execute", lambda p, at: runs.append(p) or real(p, at))
    each = frozen(CALL)
    meta = asked_of(each)
    meta = meta.model_copy(update={"sampling": meta.sampling.model_copy(update={"repeats": 2, "temperature": 1})})
    says: dict[tuple[Arm, int], str] = {
        ("base", 0): "b'ox'",
        ("base", 1): "b'no'",
        ("tuned", 0): "b'ox'",
        ("tuned", 1): "b'ox' ",
    }
    told = list[answers.Reply]()
    for (arm, n), v in says.items():
        server = meta.servers[arm]
        sent = request.digest(request.body(CALL, server.model, "low", meta.sampling, repeat=n))
        known = {"model": server.model, "server": server.id, "request": sent}
        told.append(reply(CALL, arm, text=f"ANSWER: base64.b64encode({v})", repeat=n, **known))
    found = filed(told, each, meta)
    assert [a.score for a in found] == [1.0, 0.0, 1.0, 1.0]
    assert len(runs) == 2
    made = report.build(each, found, asked=meta, created="", policy=Policy(), efforts=["low"])
    (row,) = made.comparisons
    assert (row.base.accuracy, row.tuned.accuracy) == (0.5, 1.0)


def test_what_is_trained_on_is_found_in_code_questions(sets: tuple[QuestionSet, QuestionSet]) -> None:
    code = [q for q in sets[1].questions if q.kind.startswith("code-")]
    assert contamination(code, ["nothing of it"]).any.count == 0
    assert contamination(code, [q.prompt for q in code]).exact.count == len(code)
    lines = [q for q in code if q.grader in ("doctest", "fix") and statements(q.prompt)]
    assert len(lines) >= 6
    for q in lines:
        assert q.code
        assert q.id in contamination(code, [f"Somebody wrote:\n\n```python\n{q.code.source}  # so\n```"]).ast.ids


def test_a_plan_counts_code_questions_as_held_out_ones() -> None:
    known: dict[str, Any] = {"modules": ["ast"], "taught": 0, "efforts": ["low"], "max_tokens": 100}
    made, alike = plan(Evaluate(questions=200, code=60, **known)), plan(Evaluate(questions=260, **known))
    assert (made.requests, made.tokens, made.rows) == (alike.requests, alike.tokens, alike.rows)
    assert words(made).startswith("200 and 60 code held-out questions and 0 taught ones")
    assert "code" not in alike.model_dump()


def test_the_stub_says_a_doctest_in_a_fence() -> None:
    shut()
    model = Model(accuracy=1.0, answer_tokens=3)
    said_by = compose(model, "m", "low", [{"role": "user", "content": "p"}], {"p": DOCTEST})
    assert grade(DOCTEST, parse("".join(said_by.words), "doctest")) == 1.0


def test_compare_and_gate_end_with_2_and_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    path = written(tmp_path, frozen(CALL))
    monkeypatch.setattr(sandbox, "refusal", lambda at: f"{at} is not here")
    (tmp_path / "recipe.toml").write_text('[evaluate]\nefforts = ["low"]\n')
    urls = ["--base", "http://127.0.0.1:9/v1", "--tuned", "http://127.0.0.1:9/v1"]
    here = ["--recipe", str(tmp_path / "recipe.toml")]
    asked_about = ["--questions", str(tmp_path / report.QUESTIONS), "--out", str(tmp_path)]
    for command in (["gate", str(path), *here], ["compare", *urls, *here, *asked_about], ["report", str(path)]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 2, done.output
        assert "bubblewrap is not here" in done.output
        assert "fix: sudo apt-get install bubblewrap" in done.output
