"""The tutorial pack: every key point is found in a good answer and not in a bad one; its rules; one's own points."""

import ast
import json
import re

import pytest
from tutorial_answers import BAD, GOOD

from evalsuite import freeze, questions
from evalsuite.own import file
from evalsuite.own.check import check, problems, words
from evalsuite.own.show import listing
from evalsuite.own.take import checked, take
from evalsuite.packs.tutorial import RULE, tutorial
from evalsuite.plan import plan
from evalsuite.plan import words as planned
from evalsuite.questions import Point, Question, QuestionSet
from evalsuite.replies.points import LONGEST, found, phrase
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Project, Recipe

PACK = tutorial()
FALSE = Point(says="f", any=("x",), false=True)


def answer(question: Question, of: dict[str, str]) -> str:
    [text] = [text for begin, text in of.items() if question.prompt.startswith(begin)]
    return text


def test_the_pack_asks_ten_questions_in_prose_and_every_one_has_points_and_a_false_claim() -> None:
    assert len(PACK) == len(GOOD) == len(BAD) == 10
    assert {(q.split, q.kind, q.module, q.answer, q.developer) for q in PACK} == {
        ("advice", "tutorial", "tutorial", "", RULE)
    }
    for q in PACK:
        assert sum(not p.false for p in q.points) >= 4
        assert any(p.false for p in q.points)


@pytest.mark.parametrize("question", PACK, ids=lambda q: q.prompt[:30])
def test_a_good_answer_tells_every_point_and_a_bad_one_none(question: Question) -> None:
    good, bad = (found(answer(question, of), question.points) for of in (GOOD, BAD))
    assert [p.says for p, told in zip(question.points, good, strict=True) if told == p.false] == []
    assert [p.says for p, told in zip(question.points, bad, strict=True) if told != p.false and not p.false] == []
    assert any(told for p, told in zip(question.points, bad, strict=True) if p.false)
    assert not any(found("", question.points))


def test_every_false_claim_is_found_where_it_is_made() -> None:
    made = {p.says for q in PACK for p, told in zip(q.points, found(answer(q, BAD), q.points), strict=True) if told}
    assert made == {p.says for q in PACK for p in q.points if p.false}


@pytest.mark.parametrize(
    "said",
    [
        "It builds a new list rather than modifying the original list.",
        "It does not catch all exceptions.",
        "finally runs even if else is skipped; it always runs, else only if nothing was raised.",
        "dumps never raises a UnicodeEncodeError, and doesn't fail.",
        "1 is not a prime.",
        "A tuple is immutable.",
        "A default is evaluated once, not evaluated at each call.",
    ],
)
def test_a_claim_that_is_denied_is_not_made(said: str) -> None:
    assert [
        p.says for q in PACK for p, told in zip(q.points, found(said, q.points), strict=True) if told and p.false
    ] == []


def test_the_code_of_the_good_answers_does_what_it_says() -> None:
    [code] = re.findall(r"```python\n(.*?)```", answer(PACK[4], GOOD), re.S)
    space: dict[str, object] = {}
    exec(code, space)  # our own
    assert space["primes"](30) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]  # type: ignore[operator]
    for text in GOOD.values():
        for block in re.findall(r"```python\n(.*?)```", text, re.S):
            ast.parse(block)


def test_code_is_looked_at_in_blocks_that_parse_alone() -> None:
    has_with = (Point(says="w", code=("With",)),)
    assert found("So:\n```\nwith open('x') as f:\n    pass\n```", has_with) == (True,)
    assert found("  ```pycon\n  >>> with open('x') as f:\n  ...     f.read()\n  'text'\n  ```", has_with) == (True,)
    assert found("```python\nwith open('x') as f: pass", has_with) == (True,)  # cut off before its end
    assert found("```python\nwith open( as f:\n```", has_with) == (False,)
    assert found("with open('x') as f: pass", has_with) == (False,)
    assert found("```python\n" + "(" * 9000 + "\n```\n```python\n" + "-" * 9000 + "1\n```", has_with) == (False,)
    assert found("```python\nx = '\0'\n```", has_with) == (False,)
    assert found("x" * LONGEST + "\n```python\nwith a: pass\n```", has_with) == (False,)


def test_a_phrase_is_found_as_whole_words_whatever_is_around_it() -> None:
    point = (Point(says="p", any=(phrase("the `with` statement"),)),)
    assert found("It is The\n**with**  statement.", point) == (True,)
    assert found("the with statements", point) == (False,)
    assert found("p*p", (Point(says="p", any=(phrase("p*p"),)),)) == (True,)


def test_points_stand_in_questions_of_their_split_alone_and_have_a_rule() -> None:
    known = {"id": "a", "kind": "k", "module": "m", "prompt": "?", "grader": "exact"}
    for wrong in (
        {"answer": "1", "split": "advice", "points": [FALSE]},
        {"answer": "", "split": "advice"},
        {"answer": "", "points": [FALSE]},
        {"answer": "", "split": "advice", "points": [{"says": "s"}]},
        {"answer": "", "split": "advice", "points": [{"says": "s", "any": ["("]}]},
        {"answer": "", "split": "advice", "points": [{"says": "s", "code": ["Wiht"]}]},
    ):
        with pytest.raises(ValueError, match="1 validation error"):
            Question.model_validate({**known, **wrong})


def test_a_set_without_them_is_what_it_was_and_one_with_them_says_so(tmp_path) -> None:
    plain = Question(id="a", kind="k", module="m", prompt="?", answer="1", grader="exact")
    assert "points" not in plain.model_dump_json()
    was, now = Evaluate(modules=["json"]), Evaluate(modules=["json"], tutorial=True)
    assert "tutorial" not in was.about_questions
    assert now.about_questions == {**was.about_questions, "tutorial": True}
    now.require_questions(tmp_path, now.about_questions)
    for asked, made in ((was, now), (now, was)):
        with pytest.raises(UserError) as e:
            asked.require_questions(tmp_path, made.about_questions)
        assert "tutorial was" in str(e.value.why)
    assert "advice" not in plan(was).model_dump_json()
    more = plan(now)
    assert (more.advice, more.requests - plan(was).requests) == (10, 2 * 10 * 3)
    assert "and 50 taught ones, and 10 free-text ones that decide nothing, asked of base" in planned(more)


def test_they_are_frozen_behind_the_others(tmp_path) -> None:
    asked = {"modules": ["colorsys"], "book": "closed", "taught": 0, "questions": 4}
    plain, more = (
        freeze.make(Recipe(project=Project(work=tmp_path), evaluate=Evaluate(**asked, tutorial=on)), said.append)
        for on, said in ((False, []), (True, []))
    )
    assert more.questions == (*plain.questions, *PACK)
    assert (more.judged, more.advice) == (plain.questions, tuple(PACK))
    questions.write(tmp_path / "q.jsonl", more)
    assert questions.read(tmp_path / "q.jsonl") == more
    found_ = check(more)
    assert problems(found_, 0.0) == []
    assert "advice" not in found_.modules
    assert "tutorial" not in words(more, found_).split("answers that")[1]
    shown = listing(more, kind="tutorial")
    assert "point: the file is closed at the end of the block" in shown
    assert "not: it swallows exceptions" in shown
    assert "advice 10, held-out 4" in shown


def rows(tmp_path, *lines: dict[str, object]):
    data = "\n".join(map(json.dumps, lines)).encode()
    return file.rows(tmp_path / "own.jsonl", data)


def test_points_of_ones_own_are_phrases(tmp_path) -> None:
    points = ["returns None", {"any": ["in place", "same list"]}, {"not": "a (new) list"}]
    made, faults = checked(rows(tmp_path, {"prompt": "What does sort do?", "points": points}), module="own", rule="R")
    assert faults == []
    assert (made[0].split, made[0].developer, made[0].kind) == ("advice", "", "own")
    assert found("It sorts the SAME\nlist and `returns` *None*, not a new list", made[0].points) == (True, True, False)
    assert found("It gives a (new) list, inplace", made[0].points) == (False, False, True)
    assert [p.says for p in made[0].points] == ["returns None", "in place / same list", "a (new) list"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"points": []}, "points is no list of 1 to 20 points"),
        ({"points": None}, "points is no list of 1 to 20 points"),
        ({"points": "x"}, "points is no list of 1 to 20 points"),
        ({"points": [""]}, '"" is no point'),
        ({"points": [{"any": "x"}]}, '{"any": "x"} is no point'),
        ({"points": [{"any": []}]}, '{"any": []} is no point'),
        ({"points": [{"not": ["x"]}]}, '{"not": ["x"]} is no point'),
        ({"points": [{"not": "x", "any": ["y"]}]}, "is no point: a phrase of at most 200 characters"),
        ({"points": ["x" * 201]}, "is no point"),
        ({"points": [3]}, "3 is no point"),
        ({"points": ["x"], "answer": "1"}, "has points and answer"),
        ({"points": ["x"], "split": "held-out"}, 'its split is not "advice"'),
        ({"points": ["x"], "kind": "a\nb"}, "kind holds a line break"),
        ({"answer": "1", "grader": "exact", "split": "advice"}, 'there is no split "advice"'),
    ],
)
def test_a_bad_point_is_named_by_its_line(tmp_path, more: dict[str, object], why: str) -> None:
    made, faults = checked(rows(tmp_path, {"prompt": "?"} | more), module="own", rule="R")
    assert made == []
    assert why in faults[0]


def test_ones_own_set_takes_the_pack_too(tmp_path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"prompt": "Port?", "answer": "1", "grader": "exact"}\n{"prompt": "Why?", "points": ["so"]}\n')
    asked = Evaluate(questions_file=own, tutorial=True)
    made = take(Recipe(project=Project(work=tmp_path), evaluate=asked), own)
    assert [q.split for q in made.questions] == ["held-out"] + ["advice"] * 11
    assert made.made["questions"] == 1
    asked.require_questions(own, made.made)
    assert isinstance(made, QuestionSet)
