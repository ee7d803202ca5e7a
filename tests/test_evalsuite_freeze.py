"""Question sets of recipes and pages: which books, how many of each split, from which pages, and what cannot be had."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import paged
import pytest

from evalsuite import freeze, open_book
from evalsuite.pydocs.kinds import KINDS
from evalsuite.questions import NONE_HELD_OUT, Question, QuestionSet
from evalsuite.replies.graders import grade, parse
from tune.data import page
from tune.data.block import Code, Prose
from tune.data.open_book import Asked
from tune.data.page import Page
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Project, Recipe
from tune.section import Open

HELD = ["ast", "base64", "binascii", "bz2", "codecs", "lzma", "pickle", "signal", "tarfile", "textwrap", "traceback"]
TAUGHT = ["argparse", "csv", "heapq", "logging", "shutil"]
OPEN = set(get_args(Open))

Facts = Callable[..., Iterable[Asked]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with collected pages."""
    found = tmp_path_factory.mktemp("project") / "work"
    paged.collected(found, HELD, paged.of(HELD), paged.of(TAUGHT))
    return found


def recipe(work: Path, **evaluate: Any) -> Recipe:
    known = {"modules": HELD, "book": "open", "questions": 200, "taught": 0}
    return Recipe(folder=work.parent, project=Project(name="our-docs"), evaluate=Evaluate(**{**known, **evaluate}))


@pytest.fixture(scope="module")
def both(work: Path) -> QuestionSet:
    return freeze.make(recipe(work, book="both", questions=100, taught=30))


@pytest.fixture(scope="module")
def opened(work: Path) -> QuestionSet:
    return freeze.make(recipe(work))


def planted(monkeypatch: pytest.MonkeyPatch, facts: Facts) -> None:
    monkeypatch.setattr(open_book, "asked", facts)


def fact(page: Page, number: int, kind: Open, **more: Any) -> Asked:
    line = f"p{number}: v{number}"
    known = {
        "kind": kind, "page": page.id, "module": page.module, "heading": "H", "passage": f"Values:\n{line}\nSo.",
        "question": f"What is p{number}?", "answer": f"v{number}", "grader": "exact", "claim": f"It is v{number}.",
        "line": line, "check": "grounded", "guess": 0.0,
    }  # fmt: skip
    return Asked(**{**known, **more})


def prose(module: str = "guide") -> Page:
    """A page of which nothing can be asked."""
    text = Prose(headings=(module,), text="Be kind to each other.")
    return Page(id=module, title=module, module=module, blocks=(text,), source="test", licence="unknown")


def test_both_books_take_turns_and_taught_ones_come_on_top(both: QuestionSet) -> None:
    held, taught = both.questions[:100], both.questions[100:]
    assert {q.split for q in held} == {"held-out"}
    assert [q.split for q in taught] == ["taught"] * 30
    assert all(q.kind in KINDS for q in held[::2])
    assert all(q.kind in OPEN for q in (*held[1::2], *taught))
    assert {q.module for q in held} <= set(HELD)
    assert {q.module for q in taught} <= set(TAUGHT)
    assert both.name == "our-docs"


def test_the_closed_half_is_what_the_closed_book_alone_asks(both: QuestionSet, work: Path) -> None:
    closed = freeze.make(recipe(work, book="closed", questions=50))
    assert closed.questions == both.questions[:100:2]
    assert freeze.PAGES not in closed.made  # made of no page, it stays whatever is collected
    assert {q.split for q in closed.questions} == {"held-out"}


def test_an_open_set_takes_turns_in_kinds_and_pages(opened: QuestionSet) -> None:
    assert len(opened.questions) == 200
    kinds = Counter(q.kind for q in opened.questions)
    assert set(kinds) <= OPEN
    assert len(kinds) >= 4
    assert max(Counter(q.module for q in opened.questions).values()) <= 200 / 3
    assert {q.developer for q in opened.questions} == {Evaluate().answer_rule}


def test_the_passage_is_there_and_only_its_own_answer_is_right(both: QuestionSet, opened: QuestionSet) -> None:
    for q in {*both.questions, *opened.questions}:
        assert grade(q, parse(f"It says so.\nANSWER: {q.answer}")) == 1.0
        if q.kind in OPEN:
            assert 0 < q.guess <= 0.5
            assert q.guess == 0.5 or q.grader != "yesno"
        if q.kind in {"open-parameter", "open-default", "open-doctest", "open-value"}:
            assert q.answer in q.prompt


def score(questions: Iterable[Question]) -> tuple[float, float]:
    """What the best constant reply gets of these, and what blind guessing does."""
    asked = list(questions)
    best = max(sum(grade(q, reply) for q in asked) for reply in {q.answer for q in asked})
    return best / len(asked), sum(q.guess for q in asked) / len(asked)


def test_no_constant_reply_scores_well(opened: QuestionSet, both: QuestionSet) -> None:
    for questions in (opened.questions, both.questions[100:]):
        best, guessed = score(questions)
        assert best <= guessed + 1 / 8 + 1 / len(questions)


def test_refusals_that_are_plenty_do_not_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the documents hold few other facts, who always refuses must not win."""

    def facts(page: Page, form: str) -> Iterable[Asked]:
        silent = {"answer": "not stated", "line": ""}
        yield from (fact(page, i, "open-value") for i in range(20))
        yield from (fact(page, i, "open-silent", **silent) for i in range(100, 300))
        yield from (
            fact(page, i, "open-keyword", answer="no", grader="yesno", guess=0.5, line="") for i in range(300, 500)
        )

    planted(monkeypatch, facts)
    found = list(open_book.open_book([prose()], "held-out", Evaluate(modules=["guide"])))
    best, guessed = score(found)
    assert best <= guessed + 1 / 8 + 1 / len(found)
    assert sum(q.kind == "open-value" for q in found) == 20
    assert {q.kind for q in found} == {"open-value", "open-silent", "open-keyword"}


def test_same_seed_same_questions(work: Path, opened: QuestionSet) -> None:
    assert freeze.make(recipe(work)) == opened
    assert freeze.make(recipe(work, seed=1)).questions != opened.questions


def test_unfit_facts_drop_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(page: Page, form: str) -> Iterable[Asked]:
        assert form == "ask"  # never the words that are trained on
        yield fact(page, 1, "open-value")
        yield fact(page, 1, "open-value")  # the same again
        yield fact(page, 2, "open-value", passage="Cut off before …")
        yield fact(page, 3, "open-value", answer="x" * 61)
        yield fact(page, 4, "open-value", answer="*")  # no reply could say this and be read back
        yield fact(page, 5, "open-value", answer="E", grader="yesno")

    planted(monkeypatch, facts)
    found = list(open_book.open_book([prose(), prose("other")], "taught", Evaluate()))
    assert [(q.answer, q.module) for q in found] == [("v1", "guide")]


def test_a_page_held_out_by_what_it_documents_is_asked_about_as_that_module() -> None:
    blocks = (
        Code(headings=("API", "ast.parse"), text="ast.parse(source, filename='<unknown>', mode='exec')"),
        Prose(headings=("API", "ast.parse"), text="Parse the source into a tree, as the compiler would do it."),
    )
    page = Page(id="api", title="API", module="library", blocks=blocks, source="test", licence="unknown")
    assert {q.module for q in open_book.open_book([page], "held-out", Evaluate(modules=["ast"]))} == {"ast"}
    assert {q.module for q in open_book.open_book([page], "taught", Evaluate())} == {"library"}


def test_what_stands_on_pages_of_both_sides_is_asked_once_as_held_out(tmp_path: Path) -> None:
    pages = paged.of(["bisect"])
    paged.collected(tmp_path / "work", ["bisect"], pages, pages)
    alone = freeze.make(recipe(tmp_path / "work", modules=["bisect"], questions=12)).questions
    made = freeze.make(recipe(tmp_path / "work", modules=["bisect"], questions=12, taught=1_000)).questions
    assert made[: len(alone)] == alone
    assert len({q.prompt for q in made}) == len(made)


def test_the_header_names_the_pages_that_it_was_made_from(both: QuestionSet, opened: QuestionSet, work: Path) -> None:
    from tune.artefact import file_digest

    digests = {name: file_digest(work / "pages" / name) for name in ("held_out.jsonl", "pages.jsonl")}
    assert both.made == {**recipe(work, book="both", questions=100, taught=30).evaluate.about_questions,
                         "pages": digests}  # fmt: skip
    assert opened.made["pages"] == {"held_out.jsonl": digests["held_out.jsonl"]}


def test_a_set_from_other_pages_is_noticed(both: QuestionSet, opened: QuestionSet, tmp_path: Path) -> None:
    asked, folder = tmp_path / "q.jsonl", tmp_path / "work" / "pages"
    page.require_pages(asked, both.made, folder)  # no pages here, as where endpoints alone are asked
    paged.collected(tmp_path / "work", HELD, paged.of(HELD), paged.of(TAUGHT))
    page.require_pages(asked, both.made, folder)
    paged.collected(tmp_path / "work", HELD, paged.of(HELD), paged.of(["csv"]))
    page.require_pages(asked, opened.made, folder)  # it is about held-out ones alone
    page.require_pages(asked, {}, folder)  # made by hand
    with pytest.raises(UserError, match=r"made from other pages than those in .*\n.*pages\.jsonl differs") as e:
        page.require_pages(asked, both.made, folder)
    assert e.value.fix == f"evalsuite questions --out {asked}, then tune dataset"


def test_pages_have_to_be_collected_whole_for_these_modules(tmp_path: Path) -> None:
    work = tmp_path / "work"

    def refused(**evaluate: Any) -> str:
        with pytest.raises(UserError) as e:
            freeze.make(recipe(work, **{"modules": ["bisect"], "questions": 4, **evaluate}))
        assert e.value.fix == "tune collect"
        return str(e.value)

    for wanted in ({}, {"book": "both"}, {"book": "closed", "taught": 1}):
        assert "holds no finished pages" in refused(**wanted)
    paged.collected(work, ["bisect"], paged.of(["bisect"]), paged.of(["csv"]))
    assert "evaluate.modules was bisect, and is heapq" in refused(modules=["heapq"])
    with (work / "pages" / "pages.jsonl").open("a") as file:
        file.write("\n")
    assert "pages.jsonl is not the file that pages.json describes" in refused()
    paged.collected(work, ["bisect"], paged.of(["bisect"]), paged.of(["csv"]))
    manifest = work / "pages" / "pages.json"
    manifest.write_text(manifest.read_text().replace("held_out.jsonl", "failures.jsonl"))
    assert "has no held_out.jsonl" in refused()


def test_pages_without_an_open_book_fact(tmp_path: Path) -> None:
    lines: list[str] = []
    paged.collected(tmp_path / "work", ["bisect"], [prose("bisect")], [prose()])
    with pytest.raises(UserError, match=r"no open-book question can be made from the held-out pages\n.*signature"):
        freeze.make(recipe(tmp_path / "work", modules=["bisect"]))
    made = freeze.make(recipe(tmp_path / "work", modules=["bisect"], book="both", questions=8, taught=5), lines.append)
    assert [q.kind in KINDS for q in made.questions] == [True] * 8
    assert any(line.startswith("no open-book question about the held-out modules: ") for line in lines)
    assert any(line.startswith("no taught question: ") for line in lines)
    paged.collected(tmp_path / "work", ["bisect"], [], [prose()])
    with pytest.raises(UserError, match="no page of the source documents bisect"):
        freeze.make(recipe(tmp_path / "work", modules=["bisect"]))


@pytest.mark.parametrize("book", ["open", "closed", "both"])
def test_without_modules_there_are_taught_questions_alone(tmp_path: Path, book: str) -> None:
    lines: list[str] = []
    paged.collected(tmp_path / "work", [], [], paged.of(["csv", "shutil"]))
    made = freeze.make(recipe(tmp_path / "work", modules=[], book=book, taught=12), lines.append)
    assert [q.split for q in made.questions] == ["taught"] * 12
    assert lines[0] == f"no held-out question, and so no PASS: {NONE_HELD_OUT}"
    paged.collected(tmp_path / "work", [], [], [prose()])
    with pytest.raises(UserError, match=r"no question can be made(.|\n)*evaluate\.modules is empty\n.*signature"):
        freeze.make(recipe(tmp_path / "work", modules=[], book=book, taught=12))


def test_too_few_is_said_for_each_split(tmp_path: Path) -> None:
    lines: list[str] = []
    paged.collected(tmp_path / "work", ["bisect"], paged.of(["bisect"]), paged.of(["csv"]))
    made = freeze.make(recipe(tmp_path / "work", modules=["bisect"], questions=5_000, taught=5_000), lines.append)
    splits = Counter(q.split for q in made.questions)
    assert f"only {splits['held-out']} questions, not 5000: these modules hold no more" in lines
    assert f"only {splits['taught']} taught questions, not 5000: these pages hold no more" in lines


def test_too_few_of_the_kinds_that_the_recipe_names_is_said_to_be_that(tmp_path: Path) -> None:
    """The pages hold more: what is short is the kinds asked for. Closed-book questions know no such limit."""
    lines: list[str] = []
    work, few = tmp_path / "work", {"questions": 5_000, "taught": 5_000, "open_kinds": ["open-default"]}
    paged.collected(work, ["bisect"], paged.of(["bisect"]), paged.of(["csv"]))
    freeze.make(recipe(work, modules=["bisect"], book="open", **few), lines.append)
    short = [line.partition("not 5000: ")[2] for line in lines if line.startswith("only ")]
    limit = " with the open_kinds of [evaluate]"
    assert short == [f"these modules hold no more{limit}", f"these pages hold no more{limit}"]
    lines.clear()
    freeze.make(recipe(work, modules=["bisect"], book="closed", **few), lines.append)
    short = [line.partition("not 5000: ")[2] for line in lines if line.startswith("only ")]
    assert short == ["these modules hold no more", f"these pages hold no more{limit}"]


def test_only_the_kinds_that_the_recipe_names_are_asked(work: Path, opened: QuestionSet) -> None:
    wanted = recipe(work, open_kinds=["open-default", "open-keyword"], taught=20)
    made = freeze.make(wanted)
    assert {(q.split, q.kind) for q in made.questions} == {
        (split, kind) for split in ("held-out", "taught") for kind in ("open-default", "open-keyword")
    }
    assert {q.kind for q in opened.questions} > {"open-default", "open-keyword"}
    with pytest.raises(UserError, match="not the question set of this recipe") as e:
        recipe(work, taught=20).evaluate.require_questions(Path("questions.jsonl"), made.made)
    assert "open_kinds was ['open-default', 'open-keyword']" in e.value.why


def test_kinds_that_were_left_out_are_named_when_nothing_is_left(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda page, **_: [fact(page, 1, "open-value")])
    with pytest.raises(UserError) as e:
        freeze.make(recipe(work, open_kinds=["open-default"]))
    assert "open_kinds leaves out open-doctest, open-keyword" in e.value.why
