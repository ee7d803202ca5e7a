"""General questions: one right answer each that its grader takes, truths that hold, no two alike, a seed for a set."""

import ast
import re
from collections import Counter
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import paged
import pytest

from evalsuite import freeze, questions
from evalsuite.own.take import listed
from evalsuite.packs import arithmetic, everyday, form, languages, logic, objects, rules
from evalsuite.packs.general import FAMILIES, general
from evalsuite.questions import Question, QuestionSet
from evalsuite.replies.graders import grade, parse
from tune.data.dataset import _held
from tune.data.quality import near_duplicates
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Project, Recipe

PACK = general(Evaluate(general=1200))
SEEDS = range(150)


def drawn(template: Any) -> list[Any]:
    return [template(Random(seed)) for seed in SEEDS]


def test_there_are_enough_of_every_family_and_of_many_skills() -> None:
    assert len(PACK) == 1200
    for n in (120, 240):
        kinds = Counter(q.kind for q in PACK[:n])
        assert set(kinds) == {f"general-{family}" for family in FAMILIES}
        assert min(kinds.values()) >= n // 7 - 2
        modules = Counter(q.module for q in PACK[:n])
        assert len(modules) >= 60
        assert max(modules.values()) <= n / 20
    assert {q.split for q in PACK} == {"general"}
    assert {q.developer for q in PACK} == {Evaluate().answer_rule}


@pytest.mark.parametrize("kind", [f"general-{family}" for family in FAMILIES])
def test_the_own_answer_passes_and_no_other_does(kind: str) -> None:
    """Others: the other letters, yes for no, and what is right at other questions of the family."""
    mine = [q for q in PACK if q.kind == kind]
    values = {q.answer for q in mine}
    for q in mine:
        assert grade(q, parse(f"So it is.\n**ANSWER:** {q.answer}.")) == 1.0
        choices = {chr(ord("A") + i) for i in range(listed(q.prompt))} if q.grader == "choice" else {"yes", "no"}
        for other in (values if q.grader in {"exact", "literal"} else choices) - {q.answer}:
            assert grade(q, parse(f"ANSWER: {other}")) == 0.0, (q.prompt, other)
        assert grade(q, parse("ANSWER: I cannot help with that")) == 0.0
        assert 0 <= q.guess <= 0.5
        assert (q.guess == 0.5) >= (q.grader == "yesno")
        assert q.grader != "choice" or q.guess == pytest.approx(1 / listed(q.prompt))


def test_no_two_are_alike_and_none_hangs_on_today() -> None:
    assert not near_duplicates([q.prompt for q in PACK])
    assert len({q.id for q in PACK}) == len(PACK)
    told = re.compile(r"\b(20[2-9]\d|latest|current|version|president|yesterday)\b")
    assert not [q.prompt for q in PACK if told.search(q.prompt)]


def test_no_constant_reply_scores_well() -> None:
    for n in (120, 240):
        best = max(sum(grade(q, reply) for q in PACK[:n]) for reply in {q.answer for q in PACK[:n]})
        assert best <= sum(q.guess for q in PACK[:n]) + n / 8 + 1


def test_the_same_for_a_seed_and_the_beginning_of_more() -> None:
    assert general(Evaluate(general=240)) == PACK[:240]
    other = general(Evaluate(general=240, seed=1))
    assert len({q.prompt for q in other} & {q.prompt for q in PACK}) < 60
    assert general(Evaluate()) == []


def test_syllogisms_follow_in_every_world_that_people_can_make() -> None:
    """Against another proof: up to three people of any combination, somebody of every kind or not."""
    combos = list(product((False, True), repeat=3))
    words = {
        (template.replace("{} are not", "X are not").split()[0], "not" in template): holds
        for template, holds in logic.QUANTIFIERS.items()
    }
    truths = set()
    for draft in drawn(logic.syllogism)[:40]:
        *premises, conclusion = re.findall(r"\b(All|No|Some|all|no|some) (\w+) are (not )?(\w+)", draft.prompt)
        kinds = sorted({k for _, a, _, b in [*premises, conclusion] for k in (a, b)})

        def holds(said: Any, there: set[Any], kinds: list[str] = kinds) -> bool:
            quantifier, a, negated, b = said
            return words[quantifier.capitalize(), bool(negated)](there, kinds.index(a), kinds.index(b))

        worlds = [set(some) for size in range(4) for some in product(combos, repeat=size)]
        found = all(holds(conclusion, w) for w in worlds if all(holds(p, w) for p in premises))
        assert draft.answer == ("yes" if found else "no"), draft.prompt
        truths.add(draft.answer)
    assert truths == {"yes", "no"}


def test_a_conclusion_that_hangs_on_whether_there_is_anybody_is_no_question() -> None:
    all_are, some_are = "All {} are {}.", "Some {} are {}."
    assert logic.follows([(all_are, 0, 1), (all_are, 1, 2)], (all_are, 0, 2)) is True
    assert logic.follows([(all_are, 0, 1), (all_are, 1, 2)], (some_are, 0, 2)) is None
    assert logic.follows([(some_are, 0, 1), (some_are, 1, 2)], (some_are, 0, 2)) is False


def test_puzzles_have_the_answer_that_their_words_leave() -> None:
    for draft in drawn(logic.ordered):
        pairs = re.findall(r"(\w+) is \w+ than (\w+)\.", draft.prompt)
        last = draft.prompt.endswith(("shortest?", "youngest?", "slowest?"))
        beaten = {a if last else b for a, b in pairs}
        [names] = re.findall(r"Who of (.*) is the", draft.prompt)
        assert set(names.split(", ")) - beaten == {draft.answer}
    for draft in drawn(logic.groups):
        a, b, c, d = map(int, re.findall(r"\d+", draft.prompt))
        known = {"neither": a - b - c + d, "exactly one of the two": b + c - 2 * d}
        both = b + c - a + d
        assert int(draft.answer) == next((n for words, n in known.items() if f"play {words}?" in draft.prompt), both)
    for draft in drawn(logic.liars):
        said = re.findall(r'(\w+) says: "(\w+) (never|always) lies\."', draft.prompt)
        names = [name for name, _, _ in said]
        honest = 1 if "one of them never lies" in draft.prompt else 2
        [who] = re.findall(r"Does (\w+) always lie", draft.prompt)
        worlds = (dict(zip(names, case, strict=True)) for case in product((False, True), repeat=3))
        [world] = [
            w for w in worlds if sum(w.values()) == honest
            and all(w[a] is (w[b] is (how == "never")) for a, b, how in said)
        ]  # fmt: skip
        assert draft.answer == ("no" if world[who] else "yes")


def test_arithmetic_is_right_by_another_way() -> None:
    for draft in drawn(arithmetic.chain):
        [shown] = re.findall(r"(?:out|late|of) (.*), with", draft.prompt)
        assert eval(shown, {}) == int(draft.answer)
    for draft in drawn(arithmetic.fraction):
        a, sign, b = re.findall(r"(\d+/\d+) ([-+*]) (\d+/\d+)", draft.prompt)[0]
        made = {"+": Fraction(a) + Fraction(b), "-": Fraction(a) - Fraction(b), "*": Fraction(a) * Fraction(b)}[sign]
        assert str(made) == draft.answer
    for draft in drawn(arithmetic.larger):
        a, b = re.findall(r"\d+\.\d+", draft.prompt)
        assert (float(draft.answer) == max(float(a), float(b))) is ("larger" in draft.prompt)
    for draft in drawn(arithmetic.average):
        found = [int(n) for n in re.findall(r"\d+", draft.prompt)]
        assert sum(found) == int(draft.answer) * len(found)
    for draft in drawn(arithmetic.shopping):
        a, b, c, d, paid = map(int, re.findall(r"\d+", draft.prompt))
        assert int(draft.answer) == paid - a * b - c * d >= 0


def test_values_of_json_stand_in_the_prompt_and_so_do_keys() -> None:
    for template in objects.TEMPLATES.values():
        for draft in drawn(template):
            made = ast.literal_eval(draft.answer)
            assert isinstance(made, dict | list)
            assert all(str(leaf) in draft.prompt for leaf in _leaves(made) if isinstance(leaf, str))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for pair in value.items() for each in pair for leaf in _leaves(each)]
    return [leaf for each in value for leaf in _leaves(each)] if isinstance(value, list) else [value]


def test_languages_have_twenty_numbers_seven_days_and_twelve_months() -> None:
    for language in languages.LANGUAGES.values():
        assert [len(set(w)) for w in (language.numbers, language.days, language.months)] == [20, 7, 12]
    for draft in (d for t in languages.TEMPLATES.values() for d in drawn(t) if d.grader == "exact"):
        assert draft.answer in draft.prompt
        assert draft.guess == 0.25


def test_a_rule_decides_a_request_by_its_topic_alone() -> None:
    """The same request is refused under one rule and answered under another."""
    for desk in rules.DESKS.values():
        topics = {request: topic for topic, some in desk.topics.items() for request in some}
        refused: dict[str, set[bool]] = {}
        for draft in drawn(lambda r, desk=desk: rules.ruled(desk, r)):
            [request] = [q for q in topics if re.search(re.escape(q).replace(r"\{name\}", r"\w+"), draft.prompt)]
            rule = re.split(r"By this rule| writes: ", draft.prompt)[0]
            asks_refusal = "have to be refused?" in draft.prompt
            refused.setdefault(request, set()).add(topics[request] in rule)
            assert (draft.answer == "yes") is ((topics[request] in rule) is asks_refusal)
        assert all(found == {True, False} for found in refused.values())


def test_format_and_clock_by_another_way() -> None:
    for draft in drawn(form.swapped):
        word, new, old = re.findall(r'word "(\w+)", put the letter (\w) .* letter (\w)\.', draft.prompt)[0]
        assert draft.answer == "".join(new if c == old else c for c in word)
    for draft in drawn(everyday.clock):
        minutes = [int(h) * 60 + int(m) for h, m in re.findall(r"(\d\d):(\d\d)", f"{draft.prompt} {draft.answer}")]
        told = re.findall(r"(\d+) minutes", draft.prompt) or [draft.answer]
        assert abs(minutes[0] - minutes[1]) == int(told[0])
    for draft in drawn(everyday.roman):
        value = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
        sign, number = re.findall(r"\b[IVXLC]+\b|$", draft.prompt)[0] or draft.answer, draft.prompt + draft.answer
        steps = [
            value[c] * (-1 if value[c] < value.get(n, 0) else 1) for c, n in zip(sign, sign[1:] + " ", strict=True)
        ]
        assert sum(steps) == int(re.findall(r"\d+", number)[0])


def recipe(folder: Path, **evaluate: Any) -> Recipe:
    known = {"modules": ["bisect"], "book": "closed", "questions": 12, "taught": 0}
    return Recipe(folder=folder, project=Project(name="docs"), evaluate=Evaluate(**{**known, **evaluate}))


def test_they_come_on_top_of_a_set_that_is_else_what_it_was(tmp_path: Path) -> None:
    lines: list[str] = []
    without, made = freeze.make(recipe(tmp_path)), freeze.make(recipe(tmp_path, general=40), lines.append)
    assert made.questions == (*without.questions, *general(Evaluate(general=40)))
    assert made.made == {**without.made, "general": 40}
    assert lines[-1].startswith("40 general questions: general-arithmetic 6, general-logic 6")
    freeze.make(recipe(tmp_path, general=5000), lines.append)
    assert any(re.fullmatch(r"only 1\d{3} general questions, not 5000: .*", line) for line in lines)


def test_a_set_without_them_has_the_digest_that_it_had(tmp_path: Path) -> None:
    q = Question(id="q", kind="k", module="m", prompt="P?", answer="A", grader="exact")
    made = QuestionSet(name="docs", python="3.11.7", made=Evaluate(modules=["ast"]).about_questions, questions=(q,))
    assert made.digest == "df1fccf8a19a7973082c4659dd4eb9b3d30e6e851a88f9b947e7c1a472268320"
    assert "general" not in made.made
    (tmp_path / "own.csv").write_text("x")
    assert "general" not in Evaluate(questions_file=tmp_path / "own.csv").about_questions


def test_a_set_with_more_fewer_or_none_is_another_recipes(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    for made, asked in ((0, 40), (40, 0), (40, 41)):
        was = recipe(tmp_path, general=made).evaluate.about_questions
        with pytest.raises(UserError, match=rf"general was {made or None}, and \[evaluate\] has {asked}"):
            recipe(tmp_path, general=asked).evaluate.require_questions(file, was)
    recipe(tmp_path, general=40).evaluate.require_questions(file, recipe(tmp_path, general=40).evaluate.about_questions)
    for wrong in ({"general": -1}, {"general": 1.5}, {"forgetting_margin": 0}, {"forgetting_margin": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Evaluate(**wrong)  # type: ignore[arg-type]


def test_ones_own_questions_get_them_too(tmp_path: Path) -> None:
    from evalsuite.own.take import take

    (tmp_path / "own.jsonl").write_text('{"prompt": "Which port?", "answer": "8443", "grader": "exact"}\n')
    wanted = Recipe(folder=tmp_path, evaluate=Evaluate(questions_file=Path("own.jsonl"), general=40, seed=3))
    wanted.evaluate._folder = tmp_path
    made = take(wanted, tmp_path / "own.jsonl")
    assert made.questions[1:] == tuple(general(Evaluate(general=40, seed=3)))
    wanted.evaluate.require_questions(tmp_path / "q.jsonl", made.made)
    with pytest.raises(UserError, match="seed was 3, and"):
        wanted.evaluate.model_copy(update={"seed": 4}).require_questions(tmp_path / "q.jsonl", made.made)
    again = take(Recipe(folder=tmp_path, evaluate=Evaluate(questions_file=Path("own.jsonl"))), tmp_path / "own.jsonl")
    assert set(again.made) == {"questions_file", "sha256", "questions", "modules", "answer_rule"}


def test_training_rows_are_filtered_by_held_out_questions_alone(tmp_path: Path) -> None:
    paged.collected(tmp_path / "work", ["bisect"], paged.of(["bisect"]), paged.of(["csv"]))
    wanted = recipe(tmp_path, general=40)
    made = freeze.make(wanted)
    questions.write(tmp_path / "q.jsonl", made)
    assert questions.read(tmp_path / "q.jsonl") == made
    prompts = _held(tmp_path / "q.jsonl", wanted.evaluate, tmp_path / "work" / "pages").prompts
    assert prompts == tuple(q.prompt for q in made.questions if q.split == "held-out")
