"""Answers that are code: what is right in which spellings, what misbehaves, and where nothing is run at all."""

import ast
import inspect
import platform
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evaluation import asked_of, both, built, filed, reply
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import freeze, questions, report, sandbox
from evalsuite.cli import main
from evalsuite.code import execution, inside, signature
from evalsuite.code.execution import Program, Ran
from evalsuite.contamination import contamination, statements
from evalsuite.judging.policy import Policy
from evalsuite.plan import plan, words
from evalsuite.pydocs.kinds.written import POWERFUL, WRITTEN
from evalsuite.pydocs.written import DOCTEST_RULE
from evalsuite.questions import Code, Grader, Question, QuestionSet
from evalsuite.replies import answers, graders, request
from evalsuite.replies.answers import Arm
from evalsuite.replies.graders import grade, parse, said
from evalsuite.sandbox import Level
from evalsuite.stub.script import Model, compose
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Recipe

PYTHON = platform.python_version()
MODULES = ["textwrap", "base64", "heapq", "itertools", "statistics", "json"]


def shut() -> Level:
    if (found := sandbox.level()) not in sandbox.SHUT_IN:
        pytest.skip("no sandbox can be had here")
    return found


def asked(grader: Grader, source: str, value: str, answer: str) -> Question:
    code = Code(about="b64encode", source=source, value=value)
    return Question(id="q", kind="code", module="base64", prompt="p", answer=answer, grader=grader, code=code)


CALL = asked("call", "____.decode()", "'b3g='", "base64.b64encode(b'ox')")
PLAIN = asked("call", "____", "b'b3g='", "base64.b64encode(b'ox')")
FIX = asked("fix", "base64.b64encode(b'\\xfb', names=b'.-')", "b'.w=='", "base64.b64encode(b'\\xfb', altchars=b'.-')")
FIX2 = asked(
    "fix",
    "base64.b64decode(s='.w==', altchars=b'.-', check=True)",
    "b'\\xfb'",
    "base64.b64decode(s='.w==', altchars=b'.-', validate=True)",
)
DOCTEST = asked("doctest", "base64.b64encode(b'ox')", "b'b3g='", ">>> base64.b64encode(b'ox')\nb'b3g='")
SIGNATURE = Question(id="s", kind="k", module="m", prompt="p", answer="f(a, b=1, *, c='x', d=None)", grader="signature")


def frozen(*each: Question, python: str = PYTHON) -> QuestionSet:
    return QuestionSet(name="n", python=python, questions=each)


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (CALL, "ANSWER: base64.b64encode(b'ox')", True),
        (CALL, "**ANSWER:** `base64.b64encode(bytes([111, 120]))`.", True),
        (CALL, "ANSWER: (base64.b64encode)(s=b\u2018ox\u2019)", True),
        (CALL, "ANSWER: base64.b64encode(bytes(map(lambda c: c, b'ox')))", True),
        (CALL, "ANSWER: base64.b64encode(base64.b64decode('b3g='))", True),
        (CALL, "ANSWER: base64.b64encode(b'oy')", False),
        (CALL, "ANSWER: base64.b64encode('ox')", False),
        (CALL, "ANSWER: 'b3g='", False),
        (CALL, "ANSWER: base64.urlsafe_b64encode(b'ox')", False),
        (CALL, "ANSWER: base64.b64encode(b'') or b'b3g='", False),
        (CALL, "ANSWER: [base64.b64encode, b'b3g='][1]", False),
        (CALL, "ANSWER: b64encode(b'ox')", False),
        (CALL, "ANSWER: base64.b64encode(b'ox') # '", True),
        (CALL, "ANSWER: base64.b64encode(", False),
        (CALL, "ANSWER: base64.b64encode(" + "-" * 1900 + "1)", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', altchars=b'.-')", True),
        (FIX, 'ANSWER: base64.b64encode(b"\\xfb", altchars=b".-")', True),
        (FIX, "ANSWER: base64.b64encode(altchars=b'.-', s=b'\\xfb')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', b'.-')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', **{'altchars': b'.-'})", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', altchars=b'-.')", False),
        (FIX2, "ANSWER: base64.b64decode(validate=True, s='.w==', altchars=b'.-')", True),
        (FIX2, "ANSWER: base64.b64decode(s='.w==', altchars=b'.-')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', names=b'.-')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb')", False),
        (FIX, "ANSWER: b'.w=='", False),
        (DOCTEST, "So:\n```python\n>>> base64.b64encode(b'ox')\nb'b3g='\n```\nThat is all.", True),
        (DOCTEST, "```\n    >>> import base64\n    >>> base64.b64encode(b\"ox\")\n    b'b3g='\n```", True),
        (DOCTEST, "~~~pycon\n>>> from base64 import b64encode as e\n>>> e(b'ox')\nb'b3g='\n~~~", True),
        (DOCTEST, '```python\ndef f():\n    """\n    >>> base64.b64encode(b"ox")\n    b\'b3g=\'\n    """\n```', True),
        (DOCTEST, "```\n'''So:\n\n>>> base64.b64encode(b'ox')\nb'b3g='\n'''\n```", True),
        (DOCTEST, '```\nclass C:\n    """ >>> base64.b64encode(b"ox")\n    b\'b3g=\'\n    """\n    x = 1\n```', True),
        (DOCTEST, '```\n"""\n>>> base64.b64encode(b"ox")\nb\'b3h=\'\n"""\n```', False),
        (DOCTEST, '```\n"""\n>>> base64.b64encode(b"ox")\nb\'b3g=\'\n"""\ndef f(\n```', False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')\n'b3g='\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')\n...\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')  # doctest: +SKIP\nb'no'\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')  # doctest: +ELLIPSIS\nb'...'\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')  # doctest: +NORMALIZE_WHITESPACE\nb'b3g='\n```", True),
        (DOCTEST, "```\n>>> base64.b64encode('ox')\nTraceback (most recent call last):\nTypeError\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode = lambda x: 1\n>>> base64.b64encode(b'ox')\n1\n```", False),
        (DOCTEST, "```\n>>> import os\n>>> base64.b64encode(b'ox')\nb'b3g='\n```", False),
        (DOCTEST, "```\nbase64.b64encode(b'ox')\n```", False),
        (DOCTEST, "ANSWER: base64.b64encode(b'ox')", None),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')\nb'b3g='", None),
        (SIGNATURE, "ANSWER: def f(a: int, b: int = 1, *, c: str = \"x\", d=None) -> None:", True),
        (SIGNATURE, "ANSWER: m.f(self, a, b=1, *, d=None, c='x')", True),
        (SIGNATURE, "ANSWER: `(a, b=1, *, c='x', d=None)`", True),
        (SIGNATURE, "ANSWER: f(b=1, a, *, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a, b=True, *, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a, b=1, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a, b=1, *, c='x', d=None, **more)", False),
        (SIGNATURE, "ANSWER: f(a, b=g(), *, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a): pass", False),
        (SIGNATURE, "ANSWER: f", False),
    ],
)  # fmt: skip
def test_right_in_other_spellings_and_nothing_else(question: Question, text: str, right: bool | None) -> None:
    if question.code:
        shut()
    parsed = parse(text, question.grader)
    assert (parsed is None) == (right is None)
    assert grade(question, parsed) == float(bool(right))
    assert bool(graders.ran(question, parsed)) == (right is False and question.code is not None)


def test_the_reason_says_what_a_doctest_was_read_as() -> None:
    shut()
    text = ">>> base64.b64encode(b'ox')\nb'b3g='\n\"\"\""  # the quotes close nothing: no docstring
    assert graders.ran(DOCTEST, text) == "the line gives b'b3g=', and the example says b'b3g='\n\"\"\""
    assert graders.ran(DOCTEST, ">>> base64.b64encode(b'ox')") == "the line gives b'b3g=', and the example says nothing"


NAME = st.sampled_from("abcde")
VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False)
)


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    p = inspect.Parameter
    names = draw(st.lists(NAME, unique=True, max_size=5))
    any_kind = st.sampled_from([p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY])
    kinds = sorted(draw(any_kind) for _ in names)
    kept = [p(name, kind) for name, kind in zip(names, kinds, strict=True)]
    least = draw(st.integers(0, 5))
    placed = [
        q if i < least or q.kind is p.KEYWORD_ONLY else q.replace(default=draw(VALUE)) for i, q in enumerate(kept)
    ]
    made = [q.replace(default=draw(VALUE)) if q.kind is p.KEYWORD_ONLY and draw(st.booleans()) else q for q in placed]
    return inspect.Signature(made)


@given(signatures(), signatures())
def test_a_signature_is_equal_to_itself_alone(one: inspect.Signature, other: inspect.Signature) -> None:
    q = SIGNATURE.model_copy(update={"answer": f"f{one}"})
    assert grade(q, f"def g{one}:") == 1.0
    parts = [(x.name, x.kind, repr(x.default)) for x in one.parameters.values()]
    others = [(x.name, x.kind, repr(x.default)) for x in other.parameters.values()]
    placed = [[x for x in each if x[1] != inspect.Parameter.KEYWORD_ONLY] for each in (parts, others)]
    assert grade(q, f"f{other}") == float(sorted(parts) == sorted(others) and placed[0] == placed[1])


@given(st.text(max_size=60))
def test_any_text_is_a_signature_or_none(text: str) -> None:
    for given_text in (text, f"f({text})"):
        found = signature.read(given_text, lambda source: source)
        assert found is None or (isinstance(found, inspect.Signature) and "(" in given_text)
        if (
            found and not {"self", "cls"} & found.parameters.keys()
        ):  # what was read can be written down, and is read again as it was
            bare = found.replace(
                parameters=[p.replace(default=inspect.Parameter.empty) for p in found.parameters.values()]
            )
            assert signature.read(f"f{bare}", lambda source: source) == bare


OUT = "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__"
ATTACKS = {
    "exit": f"{OUT}['sys'].exit(0)",
    "_exit": f"{OUT}['_exit'](0)",
    "kill": f"{OUT}['kill']({OUT}['getpid'](), 9)",
    "print": "print('b3g=')",
    "verdict on standard output": f"({OUT}['write'](1, b'ready\\n{{\"typed\": 1}}\\n'), {OUT}['_exit'](0))",
    "verdict on every descriptor": (
        f"([{OUT}['write'](int(n), b'x ready\\nx {{}}\\n') for n in '3456' if n in {OUT}['listdir']('/proc/self/fd')],"
        f" {OUT}['_exit'](0))"
    ),
    "always equal": f"{OUT}['__builtins__']['type']('E', (), {{'__eq__': lambda s, o: True}})()",
    "a text of its own": f"{OUT}['__builtins__']['type']('S', (str,), {{'__eq__': lambda s, o: True}})('b3g=')",
    "built-ins written over": f"{OUT}['__builtins__'].update(repr=lambda v: \"'b3g='\")",
    "loop": "all(1 for _ in iter(int, 1))",
    "fork": f"{OUT}['fork']()",
    "much output": f"[{OUT}['write'](1, b'x' * 10**6) for _ in range(10**3)]",
    "much memory": "'x' * 10**10",
    "long value": "'x' * 10**6",
    "deep value": "[i := []] and [i := [i] for _ in range(10**5)]",
    "locals through frames": f"{OUT}['sys']._getframe(2).f_locals",
    "sources through frames": "(g.gi_frame.f_back.f_back.f_code for g in [(0 for _ in [1])]).__next__()",
}  # fmt: skip


VALUED = {
    "always equal",
    "a text of its own",
    "built-ins written over",
    "locals through frames",
}  # none right


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_misbehaves_is_wrong_even_where_the_language_would_let_it(attack: str) -> None:
    found = execution.execute(Program("base64", ATTACKS[attack]), shut())
    assert found.typed != inside.typed("b3g="), found
    assert bool(found.error) == (attack not in VALUED), found


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_language_of_answers_has_no_way_to_them(attack: str) -> None:
    shut()
    text = f"base64.b64encode(s={ATTACKS[attack]})"
    assert grade(PLAIN, text) == 0.0
    if attack not in {"loop", "much memory", "long value"}:
        assert graders.ran(PLAIN, text).startswith("uses ")


@pytest.mark.parametrize(
    "expression",
    [
        "(lambda base64: 1)(2)",
        "base64.struct.pack('b', 1)",
        "base64.binascii",
        "(g.gi_frame for g in [(0 for _ in [1])])",
        "open('/proc/self/fd/3', 'w')",
        "__import__('os')",
        "'{0.__class__}'.__class__",
        "getattr(b'', 'x')",
    ],
)
def test_names_that_lead_out_are_refused(expression: str) -> None:
    shut()
    assert grade(PLAIN, f"base64.b64encode(b'ox', altchars=[{expression}, None][1])") == 0.0
    assert grade(PLAIN, "base64.b64encode(b'ox', altchars=[1, None][1])") == 1.0


def test_what_should_come_out_never_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    at, sent = shut(), list[str]()
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda code, **more: sent.append(code) or real(code, **more))
    monkeypatch.setattr(execution, "_RAN", {})
    hidden = asked("call", "____", "b'Y2FuYXJ5'", "base64.b64encode(b'canary')")
    assert grade(hidden, hidden.answer) == 1.0
    wrong = FIX.model_copy(update={"code": FIX.code and FIX.code.model_copy(update={"value": "b'Y2FuYXJ5'"})})
    assert grade(wrong, FIX.answer) == 0.0
    assert len(sent) == 2
    assert not any("Y2FuYXJ5" in code for code in sent)
    again = f"({OUT}['lseek'](0, 0, 0), {OUT}['read'](0, 100))"  # standard input was the program
    assert execution.execute(Program("base64", again), at).shown == "(0, b'')"


def test_what_an_expression_prints_is_no_part_of_its_report() -> None:
    assert execution.execute(Program("base64", f"({OUT}['write'](1, b'x'), 5)[1]"), shut()).shown == "5"


def test_one_program_changes_nothing_for_another() -> None:
    at = shut()
    break_it = f"{OUT}['sys'].modules['base64'].__dict__.update(b64encode=lambda s: b'b3g=')"
    leave = f"{OUT}['sys'].modules['io'].open('left', 'w').write('b3g=')"
    for source in (break_it, leave):
        assert execution.execute(Program("base64", source), at).error == ""
    assert execution.execute(Program("base64", "base64.b64encode(b'')"), at).shown == "b''"
    assert execution.execute(Program("base64", f"{OUT}['listdir']('.')"), at).shown == "[]"


def test_what_fails_to_start_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    at, tries = shut(), list[str]()
    real = sandbox.run

    def start(code: str, **more: Any) -> sandbox.Result:
        tries.append(code)
        return real(code, **more) if len(tries) == 3 else sandbox.Result("", "no room", 125, at)

    monkeypatch.setattr(sandbox, "run", start)
    assert execution.execute(Program("base64", "base64.b64encode(b'')"), at) == Ran(inside.typed(b""), "b''")
    monkeypatch.setattr(sandbox, "run", lambda *_a, **_m: sandbox.Result("", "no room", 125, at))
    with pytest.raises(UserError, match="did not start"):
        execution.execute(Program("base64", "1"), at)


def test_a_program_without_an_end_is_wrong_by_its_processor_time() -> None:
    assert "5 s of the processor" in execution.execute(Program("base64", ATTACKS["loop"]), shut()).error


def test_a_program_that_waits_is_wrong_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    at = shut()
    monkeypatch.setattr(execution, "SECONDS", 6.0)
    assert "not done after 6 s" in execution.execute(Program("time", "time.sleep(600)"), at).error


def test_what_the_clock_ended_is_run_once_more_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    real, going, seen = sandbox.run, list[str](), list[tuple[str, int]]()

    def starved(code: str, **more: Any) -> sandbox.Result:
        """At first no program gets the processor, but for its sign of life; the last one never does."""
        going.append(code)
        done, first = real(code, **more), code.rsplit("main", 1)[1].split("base64", 1)[1]
        seen.append((first, len(going)))
        going.remove(code)
        starts = [name for name, _ in seen].count(first) == 1
        return done if "b'fine'" in first or not (starts or "b'never'" in first) else done._replace(
            stdout=done.stdout.split("\n")[0] + "\n", returncode=None
        )  # fmt: skip

    monkeypatch.setattr(execution, "_RAN", {})
    monkeypatch.setattr(sandbox, "run", starved)
    fine, slow, never = (Program("base64", f"base64.b64encode(b'{name}')") for name in ("fine", "slow", "never"))
    execution.run([fine, slow, never])
    assert (execution.ran(fine).shown, execution.ran(slow).shown) == ("b'ZmluZQ=='", "b'c2xvdw=='")
    assert execution.ran(never) == Ran(error="no value: not done after 30 s", late=True)
    assert len(seen) == 5
    assert [beside for _, beside in seen[3:]] == [1, 1]


def test_each_distinct_program_runs_once_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shut()
    real, runs = execution.execute, list[Program]()
    monkeypatch.setattr(execution, "_RAN", {})
    monkeypatch.setattr(execution, "execute", lambda p, at: runs.append(p) or real(p, at))
    texts = ["base64.b64encode(b'ox')", 'base64.b64encode(b"ox" )', "base64.b64encode(s=b'ox')", "1"] * 20
    graders.prepare((CALL, text) for text in texts)
    assert len(runs) == 2
    first = [grade(CALL, text) for text in texts]
    assert len(runs) == 2
    monkeypatch.setattr(execution, "_RAN", {})
    assert [grade(CALL, text) for text in texts] == first == [1.0, 1.0, 1.0, 0.0] * 20


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


def test_a_question_has_code_where_it_is_run() -> None:
    for update in ({"code": None}, {"grader": "exact"}):
        with pytest.raises(ValueError, match="has code"):
            Question.model_validate(CALL.model_dump() | update)


def test_a_value_is_told_by_its_type() -> None:
    values = [1, True, 1.0, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1}, {1: True}, None, float("nan"), ...]
    assert len({inside.typed(v) for v in values}) == len(values)
    assert inside.typed({2: 1, 1: {3, 20}}) == inside.typed({1: {20, 3}, 2: 1})

    class Same(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    for forged in (Same(1), [Same(1)], {"a": Same(1)}, type):
        with pytest.raises(ValueError, match="it is a"):
            inside.typed(forged)
