"""Questions about the installed CPython: true, held out, balanced, repeatable; unfit truths drop out."""

import ast
import importlib
import inspect
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from evalsuite import freeze
from evalsuite.pydocs import kinds
from evalsuite.pydocs.facts import SILENT, UNSTABLE, Module, Truth, answers
from evalsuite.pydocs.kinds import KINDS, Candidate
from evalsuite.questions import QuestionSet
from evalsuite.replies.graders import grade, parse
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Recipe

MODULES = ["textwrap", "binascii", "base64", "tarfile", "numbers", "codecs", "traceback", "pickle", "argparse", "ast"]
MODULES += ["array", "bisect", "dataclasses", "statistics"]
HERE = f"In Python {sys.version_info[0]}.{sys.version_info[1]}, "
FEW = {"session", "state", "catches", "which-keyword-only", "owner"}
FEW |= {k for k in KINDS if k.startswith("mutated")}  # what these modules hold too little of
RULE = "End with one line: ANSWER: <value>"


def asking(modules: Sequence[str], count: int, seed: int = 0) -> Evaluate:
    return Evaluate(modules=list(modules), questions=count, seed=seed, answer_rule=RULE, book="closed", taught=0)


def build(wanted: Evaluate, report: Callable[[str], None] = lambda _: None) -> QuestionSet:
    return freeze.make(Recipe(evaluate=wanted), report)


@pytest.fixture(scope="module")
def asked() -> QuestionSet:
    return build(asking(MODULES, 300))


def test_frame(asked: QuestionSet) -> None:
    questions = asked.questions
    assert len(questions) == 300
    assert len({q.id for q in questions}) == len({q.prompt for q in questions}) == 300
    assert {q.module for q in questions} <= set(MODULES)
    assert {q.developer for q in questions} == {RULE}
    by_kind = Counter(q.kind for q in questions)
    assert set(by_kind) == set(KINDS)
    plenty = [by_kind[k] for k in KINDS if k not in FEW]
    assert max(plenty) - min(plenty) <= 1
    assert {q.grader: q.guess for q in questions} == {"choice": 0.25, "yesno": 0.5, "literal": 0, "exact": 0}


def test_only_its_own_answer_is_right(asked: QuestionSet) -> None:
    for q in asked.questions:
        assert grade(q, parse(f"Well.\nANSWER: {q.answer}")) == 1.0
        if q.grader == "choice":
            assert sum(grade(q, letter) for letter in "ABCD") == 1.0
        elif q.grader != "yesno":
            assert not re.search(rf"(?<!\w){re.escape(q.answer)}(?!\w)", q.prompt.removeprefix(HERE))


def test_no_constant_reply_scores_well(asked: QuestionSet) -> None:
    for kind in ("keyword-only", "subclass"):
        said = Counter(q.answer for q in asked.questions if q.kind == kind)
        assert abs(said["yes"] - said["no"]) <= 1
    for kind in ("default", "constant", "position"):
        said = Counter(q.answer for q in asked.questions if q.kind == kind)
        assert max(said.values()) <= said.total() / 4


def test_the_right_option_stands_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order that a kind names its options in: who always says A gets one in four."""

    def first(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
        for i in range(80):
            yield Candidate("textwrap", f"o{i}", f"Which of {i}?", "'right'", "choice", ("right", "a", "b", "c"))

    monkeypatch.setattr("evalsuite.pydocs.build.KINDS", {"first": first})
    asked = build(asking(["textwrap"], 80)).questions
    said = Counter(q.answer for q in asked)
    assert said.total() == 80
    assert set(said) == set("ABCD")
    assert max(said.values()) < 80 / 4 + 3 * (80 * 3 / 16) ** 0.5  # binomial
    for q in asked:
        assert f"{q.answer}) right\n" in f"{q.prompt}\n"


def test_answers_are_true_here_too(asked: QuestionSet) -> None:
    """The same facts found another way, in this process."""
    checked = Counter[str]()
    for q in asked.questions:
        named = re.findall(r"`([^`\n]+)`", q.prompt)
        if q.kind == "default":
            value = inspect.signature(_look(q.module, named[1])).parameters[named[0]].default
            same = value == ast.literal_eval(q.answer)
        elif q.kind == "keyword-only":
            kind = inspect.signature(_look(q.module, named[1])).parameters[named[0]].kind
            same = (kind is inspect.Parameter.KEYWORD_ONLY) == (q.answer == "yes")
        elif q.kind == "constant":
            value = _look(q.module, named[0])
            same = value == ast.literal_eval(q.answer)
        elif q.kind == "subclass":
            same = (_look(q.module, named[1]) in _look(q.module, named[0]).__mro__) == (q.answer == "yes")
        elif q.kind == "exception-base":
            same = _look(q.module, named[0]).__base__.__name__ == q.answer
        elif q.kind == "exporter":
            options = dict(re.findall(r"^([A-D])\) (.*)$", q.prompt, re.M))
            having = [k for k, m in options.items() if named[0] in dir(importlib.import_module(m))]
            same = having == [q.answer]
        else:
            continue
        assert same, q
        checked[q.kind] += 1
    assert len(checked) == 6  # the kinds of test_evalsuite_pydocs_kinds.py are looked at there


def _look(module: str, dotted: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in dotted.removeprefix(module + ".").split("."):
        found = getattr(found, name)
    return found


def test_same_seed_same_questions_in_any_process(asked: QuestionSet) -> None:
    wanted = asking(MODULES[::-1], 300).model_dump()
    code = "from evalsuite.freeze import make; from tune.recipe import Recipe; "
    code += f"print(make(Recipe(evaluate={wanted!r})).digest)"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == asked.digest
    assert build(asking(MODULES, 300, 1)).digest != asked.digest


def test_the_prompt_says_which_python(asked: QuestionSet) -> None:
    assert all(q.prompt.startswith(HERE) and q.prompt[len(HERE)].islower() for q in asked.questions)


def test_unknown_modules_are_all_named() -> None:
    with pytest.raises(UserError, match=r"no module nosuch\.b, nosuch_a\n") as e:
        build(asking(["textwrap", "nosuch.b", "nosuch_a"], 10))
    assert 'book = "open"' in e.value.fix  # the way for whoever documents no module of Python's


def test_nothing_to_ask_is_an_error() -> None:
    with pytest.raises(UserError, match="no question can be made"):
        build(asking([], 10))


def test_too_few_is_said() -> None:
    lines: list[str] = []
    found = build(asking(["textwrap"], 5_000), lines.append)
    assert 10 < len(found.questions) < 5_000
    assert any("hold no more" in line for line in lines)


def test_what_three_processes_disagree_on_has_no_answer() -> None:
    checks = {
        "repr(7)": Truth("7"),
        "str(list({'a', 'b', 'c', 'd', 'e', 'f'}))": Truth(None, UNSTABLE),  # hash seed
        "os.getcwd()": Truth(None, UNSTABLE),
        "repr(object())": Truth(None, UNSTABLE),
        "look('time', 'strftime')('%H', look('time', 'localtime')(0))": Truth(None, UNSTABLE),
        "look('os', 'environ')['LC_ALL']": Truth(None, UNSTABLE),
        "str(1 / 0)": Truth(None, SILENT),
        "7": Truth(None, SILENT),  # not text
        "str(sum(0 for _ in iter(int, 1)))": Truth(None, SILENT),  # endless
        "sys.exit(0)": Truth(None, SILENT),
        "os._exit(0)": Truth(None, SILENT),  # and the next ones are still answered
        "chr(0xD800)": Truth(None, SILENT),  # no UTF-8
        "print('noise') or 'quiet'": Truth("quiet"),
    }
    assert answers(list(checks)) == list(checks.values())


def test_unfit_truths_drop_out(monkeypatch: pytest.MonkeyPatch) -> None:
    truths = {
        "good": "'fine'",
        "long": "'x' * 61",
        "address": "'<f at 0x7f00aa11bb22>'",
        "path": "'/usr/lib/python3'",
        "told": "'fish'",
        "told without quotes": "repr('fish')",
        "lines": "'a\\nb'",
        "empty": "''",
        "hostile": "'*'",  # no reply could say this and be read back
    }

    def planted(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
        for name, check in truths.items():
            yield Candidate("textwrap", name, f"What of {name}? Not fish.", check, "exact")
            for about in (f"{name} again", f"{name} once more"):  # a duplicate
                yield Candidate("textwrap", about, f"Which of {name}?", check, "choice", ("fine", "a", "b", "c"))
            yield Candidate("textwrap", "why", f"Why of {name}?", check, "exact", unfit="it must not")

    monkeypatch.setitem(kinds.KINDS, "planted", planted)
    found = [q for q in build(asking(["textwrap"], 5_000)).questions if q.kind == "planted"]
    assert sorted(q.prompt.splitlines()[0] for q in found) == [
        f"{HERE}what of good? Not fish.",
        f"{HERE}which of good?",
    ]
    assert json.loads(found[0].model_dump_json())["answer"]
