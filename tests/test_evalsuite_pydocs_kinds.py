"""Kinds that are run, or looked up in signatures and classes: true in this process too, one right option, and twins."""

import ast
import builtins
import contextlib
import importlib
import inspect
import io
import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from evalsuite import balance, questions
from evalsuite.balance import Found
from evalsuite.pydocs import facts
from evalsuite.pydocs.build import closed_book
from evalsuite.pydocs.documentation import UNDOCUMENTED
from evalsuite.pydocs.facts import SILENT, Truth, answers, harvest
from evalsuite.pydocs.kinds import KINDS
from evalsuite.pydocs.kinds.mutation import mutated
from evalsuite.questions import Question, QuestionSet
from tune.errors import UserError
from tune.evaluate import Evaluate

LINES = facts._expressions()
COUNT = 1600
TWINS = {kind for kind in KINDS if kind.startswith("mutated")}
OLD_DIGEST = "decb4b382218d0ed7d51598becc590565847936cd9a31ad595ea1074f7f26757"  # before questions could be twins


@pytest.fixture(scope="module")
def asked() -> tuple[list[Question], list[str]]:
    said: list[str] = []
    wanted = Evaluate(modules=sorted(LINES), questions=COUNT, book="closed", taught=0)
    return list(islice(closed_book(wanted, said.append).questions, COUNT)), said


def test_there_are_enough_for_a_large_set_and_no_kind_object_or_module_rules(
    asked: tuple[list[Question], list[str]],
) -> None:
    found, said = asked
    assert len(found) == COUNT
    kinds, modules = Counter(q.kind for q in found), Counter(q.module for q in found)
    assert set(kinds) == set(KINDS)
    assert len(KINDS) >= 20
    assert sum(n >= COUNT / 40 for n in kinds.values()) >= 20
    assert max(kinds.values()) <= COUNT / 8
    assert len(modules) >= 50
    assert max(modules.values()) <= COUNT / 16
    (line,) = (line for line in said if line.startswith(f"too few for an even set of {COUNT}: "))
    few = {kind: int(n) for kind, n in re.findall(r"([a-z-]+) (\d+)", line.partition(": ")[2])}
    assert few
    assert all(kinds[kind] <= n < COUNT / len(KINDS) for kind, n in few.items())


def test_every_new_truth_is_found_another_way_too(asked: tuple[list[Question], list[str]]) -> None:
    checked = Counter[str]()
    for q in asked[0]:
        if look := LOOKS.get(q.kind):
            assert look(q), q
            checked[q.kind] += 1
    assert set(checked) == set(LOOKS)


def test_a_twin_stands_behind_its_question_and_differs_in_literals_alone(
    asked: tuple[list[Question], list[str]],
) -> None:
    met: dict[str, Question] = {}
    for q in asked[0]:
        assert bool(q.twin) == (q.kind in TWINS)
        if q.twin:
            item = met[q.twin]
            assert (item.kind, item.module) == (TWIN_OF[q.kind], q.module)
            assert source(item) != source(q)
            assert shape(source(item)) == shape(source(q))
        met[q.id] = q
    pairs = Counter(q.twin for q in asked[0] if q.twin)
    assert len(pairs) >= 80
    assert set(pairs.values()) == {1}


def test_twins_wait_for_their_questions_and_take_the_rarest_truth() -> None:
    def question(id: str, kind: str) -> Question:
        return Question(id=id, kind=kind, module="m", prompt=id, answer="1", grader="exact")

    items = [question(f"q{i}", "session") for i in range(6)]

    def twins(i: int) -> list[Found]:
        return [Found(truth, "m", question(f"t{i}{truth}", "mutated"), f"o{i}") for truth in ("1", "2")]

    made = balance.twinned([items], {f"q{i}": twins(i) for i in (2, 3, 5)}, balance.rng(0, ""))
    assert [q and (q.id, q.twin) for q in made] == [
        *(None, None), ("t21", "q2"), ("t32", "q3"), None, ("t51", "q5"),
    ]  # fmt: skip
    assert [q.id for q in balance.turns([items, made])][2:6] == ["q2", "t21", "q3", "t32"]


def test_sets_without_twins_keep_their_digest_and_a_twin_of_none_is_refused(tmp_path: Path) -> None:
    q = Question(id="a", kind="k", module="m", prompt="What?", answer="7", grader="exact")
    plain = QuestionSet(name="n", python="3.11.7", questions=(q,))
    assert plain.digest == OLD_DIGEST
    assert "twin" not in q.model_dump_json()
    twin = q.model_copy(update={"id": "b", "prompt": "And what?", "twin": "a"})
    both = QuestionSet(name="n", python="3.11.7", questions=(q, twin))
    questions.write(tmp_path / "q.jsonl", both)
    assert questions.read(tmp_path / "q.jsonl") == both
    with pytest.raises(UserError, match="twin of none"):
        QuestionSet(name="n", python="3.11.7", questions=(twin,))


def test_lines_are_about_their_module_and_each_stands_once() -> None:
    known = {m.name: m for m in harvest(sorted(LINES))}
    for module, lines in LINES.items():
        found = {e.source: e for e in known[module].expressions}
        assert len(found) == len(lines), module
        assert [e.source for e in found.values() if bool(e.shown) == bool(e.raises)] == []
        assert [e.source for e in found.values() if e.unfit] == []


def test_a_line_on_what_no_docstring_describes_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["stringprep.map_table_b2('A')", "stringprep.in_table_a1('a')"]
    monkeypatch.setattr(facts, "_expressions", lambda: {"stringprep": lines})
    made = list(KINDS["result"](harvest(["stringprep"]), random.Random(0)))
    assert [c.unfit for c in made] == [UNDOCUMENTED] * 2


@pytest.mark.parametrize(
    ("check", "truth"),
    [
        ("only_shown('math', ('math.sqrt(4)', 'math.sqrt(9)', 'math.sqrt(1)'), '3.0')", "math.sqrt(9)"),
        ("only_shown('math', ('math.sqrt(9)', 'math.sqrt(9.0)'), '3.0')", None),  # two are right
        ("only_shown('math', ('math.sqrt(9)', 'math.sqrt(-9)'), '3.0')", None),  # one gives nothing
        ("only_shown('math', ('math.sqrt(9)', 'None'), '3.0')", None),
        ("only_raising('math', ('math.sqrt(9)', 'math.sqrt(-9)'))", "math.sqrt(-9)"),
        ("only_raising('math', ('math.sqrt(-1)', 'math.sqrt(-9)'))", None),
        ("only_filling('math', 'math.____(2.5)', ('floor', 'ceil', 'sin'), '2')", "floor"),
        ("only_filling('math', 'math.____(2.5)', ('floor', 'trunc'), '2')", None),
        ("only_catching('json', 'JSONDecodeError', ('OSError', 'ValueError'))", "ValueError"),
        ("only_catching('io', 'UnsupportedOperation', ('OSError', 'ValueError'))", None),
        ("only_fitting('bisect', 'insort', ('bisect.insort(x0)', 'bisect.insort(x0, x1)'))", "bisect.insort(x0, x1)"),
        ("only_fitting('bisect', 'insort', ('insort(a, b)', 'insort(a, b, c)'))", None),
        ("raised('math', 'x = math.sqrt(4)\\nmath.sqrt(-x)')", "ValueError"),
        ("raised('math', 'x = math.sqrt(-4)\\nmath.sqrt(-x)')", None),  # not the last line
        ("raised('math', 'math.sqrt(4)')", None),
        ("returned('heapq', 'heapq.merge([1], [2])')", "generator"),
        ("only_attribute('json', '', ('dumps', 'nope'))", "dumps"),
        ("only_attribute('json', '', ('dumps', 'loads'))", None),
        ("only_owner('json', 'encode', ('JSONEncoder', 'JSONDecoder'))", "JSONEncoder"),
        ("only_parameter('bisect', 'insort', ('x', 'nope'))", "x"),
        ("only_parameter('bisect', 'insort', ('x', 'key'), keyword=True)", "key"),
    ],
)
def test_a_check_has_an_answer_where_exactly_one_is_right(check: str, truth: str | None) -> None:
    assert answers([check]) == [Truth(truth, "" if truth else SILENT)]


def test_another_literal_is_never_another_format() -> None:
    for kept in ('struct.pack(">H", x)', r're.findall("[a-z]\\d", x)', 'd.strftime("%d %H")', 'f"{x:>3}"'):
        assert mutated(kept, random.Random(0)) is None
    assert mutated('f("ab", 5)', random.Random(0), letters=False) in {f"f('ab', {n})" for n in range(2, 14)}
    assert mutated("f(True)", random.Random(0)) is None


def source(q: Question) -> str:
    (found,) = re.findall(r"```python\n(.*?)\n```", q.prompt, re.S)
    return str(found)


def shape(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
    return ast.dump(tree)


def named(q: Question) -> list[str]:
    return re.findall(r"`([^`\n]+)`", q.prompt)


def options(q: Question) -> dict[str, str]:
    return dict(re.findall(r"^([A-D])\) (.*)$", q.prompt, re.M))


def one(q: Question, right: Callable[[str], bool]) -> bool:
    """Whether the answer, and it alone of the options, is right."""
    return [letter for letter, option in options(q).items() if right(option)] == [q.answer]


def thing(dotted: str, module: str) -> Any:
    """The object at a path that begins with its module."""
    found: Any = importlib.import_module(module)
    for name in dotted.removeprefix(module).split(".")[1:]:
        found = getattr(found, name)
    return found


def run(module: str, code: str, *, star: bool = False) -> Any:
    """The value of the last expression."""
    names: dict[str, Any] = {}
    exec(f"import {module}" + (f"\nfrom {module} import *" if star else ""), names)
    *before, last = ast.parse(code).body
    exec(compile(ast.Module(before, []), "<test>", "exec"), names)
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "<test>", "eval"), names)


def shows(module: str, code: str) -> str | None:
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
        return repr(run(module, code))
    return None


def raises(module: str, code: str) -> str:
    try:
        run(module, code)
    except Exception as e:  # noqa: BLE001  what it is, is looked at
        return type(e).__name__
    return ""


def of(q: Question, name: str) -> inspect.Parameter:
    return inspect.signature(thing(named(q)[0], q.module)).parameters[name]


def takes(q: Question, code: str) -> bool:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    try:
        inspect.signature(thing(named(q)[0], q.module)).bind(*call.args, **{str(k.arg): k for k in call.keywords})
    except TypeError:
        return False
    return True


def required(q: Question) -> bool:
    found = list(inspect.signature(thing(named(q)[0], q.module)).parameters.values())
    if found[0].name == "self":
        del found[0]
    return sum(p.default is p.empty for p in found) == int(q.answer)


LOOKS: dict[str, Callable[[Question], bool]] = {
    "required": required,
    "optional": lambda q: (of(q, named(q)[1]).default is not inspect.Parameter.empty) == (q.answer == "yes"),
    "by-name": lambda q: (of(q, named(q)[1]).kind is not inspect.Parameter.POSITIONAL_ONLY) == (q.answer == "yes"),
    "takes": lambda q: one(q, lambda o: o in inspect.signature(thing(named(q)[0], q.module)).parameters),
    "which-keyword-only": lambda q: one(q, lambda o: of(q, o).kind is inspect.Parameter.KEYWORD_ONLY),
    "names": lambda q: one(q, lambda o: o in dir(thing(q.module, q.module))),
    "base": lambda q: thing(named(q)[0], q.module).__base__.__name__ == q.answer,
    "method": lambda q: one(q, lambda o: hasattr(thing(named(q)[0], q.module), o)),
    "owner": lambda q: one(q, lambda o: hasattr(thing(f"{q.module}.{o}", q.module), named(q)[1])),
    "result": lambda q: shows(q.module, source(q)) == q.answer,
    "state": lambda q: shows(q.module, source(q)) == q.answer,
    "mutated-result": lambda q: shows(q.module, source(q)) == q.answer,
    "mutated-state": lambda q: shows(q.module, source(q)) == q.answer,
    "returned": lambda q: type(run(q.module, source(q))).__name__ == q.answer,
    "raises": lambda q: raises(q.module, source(q)) == q.answer,
    "fits": lambda q: one(q, lambda o: takes(q, o)),
    "blank": lambda q: one(q, lambda o: shows(q.module, source(q).replace("____", o)) == named(q)[2]),
    "which-result": lambda q: one(q, lambda o: shows(q.module, o) == named(q)[1]),
    "which-raises": lambda q: one(q, lambda o: bool(raises(q.module, o))),
    "catches": lambda q: one(q, lambda o: issubclass(thing(named(q)[1], q.module), getattr(builtins, o))),
}
TWIN_OF = {"mutated": "session", "mutated-result": "result", "mutated-state": "state"}


def test_the_twins_of_each_kind_are_known() -> None:
    assert set(TWIN_OF) == TWINS
