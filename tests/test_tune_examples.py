import ast
import inspect
import json
import re
from collections import Counter
from typing import get_args

import pytest
from shelf import code, page, prose

from tune.data import doctests, examples, neighbours, signatures, wordings
from tune.data.block import Admonition, Item, List, Prose, Table
from tune.data.fact import Fact
from tune.data.sources import stdlib
from tune.nano import conversations
from tune.recipe import Dataset
from tune.section import Open

EFFORTS = ("low", "medium", "high")
OPEN = get_args(Open)
RULE = "End with one line: ANSWER: <value>"


def made(*pages, efforts=EFFORTS, open_book=False):
    """The closed-book examples, or all."""
    found = examples.make(pages, efforts, RULE)
    return found._replace(examples=[e for e in found.examples if open_book or e.kind not in OPEN])


def short(example):
    return example.messages[-1].content.removeprefix("ANSWER: ")


def test_facts_that_are_made_elsewhere_come_behind_a_pages_own():
    """Where the claim is all that is known of the line, it is said once."""
    told = Fact("synthetic", "judged", "How?", "So.", "The page says so.", "The page says so.")
    found = examples.make([page(prose("All about shelves."))], ["high"], RULE, lambda p: [(p.title, told)])
    *_, last = found.examples
    assert (last.id, last.kind, last.check) == ("sphinx:shelf#synthetic-0", "synthetic", "judged")
    assert last.messages[-1].thinking.count("The page says so.") == 1


def test_what_stands_elsewhere_is_not_asked():
    found = made(
        page(prose("All about shelves."), prose("shelf(1), rack(7)", "SEE ALSO"), prose("Made of oak.", "Wood"))
    )
    assert [e.messages[0].content for e in found.examples] == [
        "What does the documentation say about `shelf`?", 'What does the documentation say about "Wood" in `shelf`?'
    ]  # fmt: skip


def test_neighbours_are_sentences_in_their_order():
    blocks = [prose("One is here. Two is there!"), code("x = 1"), prose("Three? " + "a" * 301 + ". Four.", "Below")]
    told = [(heading, f.question, f.answer) for heading, f in neighbours.facts(page(*blocks))]
    assert told == [
        ("shelf", "One is here.", "Two is there!"), ("shelf", "Two is there!", "Three?"), ("Below", "Three?", "Four.")
    ]  # fmt: skip
    assert "neighbours" not in Dataset().kinds


PUT = [
    prose("All about shelves."),
    code("shelf.put(thing, /, where='top', *, level=3)", "shelf.put"),
    prose("Put it up. Gently.", "shelf.put"),
]


def test_a_section_with_a_signature_gives_every_kind_of_question():
    found = {e.kind: e for e in made(page(*PUT)).examples}
    assert set(found) == {"section", "signature", "default", "keyword-only", "parameter"}
    assert found["section"].messages[-1].content == "Put it up. Gently."
    assert found["signature"].messages[-1].content == "```python\nshelf.put(thing, /, where='top', *, level=3)\n```"
    answers = {e.messages[1].content: short(e) for e in made(page(*PUT)).examples if len(e.messages) == 3}
    assert answers["What is the default value of the parameter `where` of `shelf.put`?"] == "'top'"
    assert answers["What is the default value of the parameter `level` of `shelf.put`?"] == "3"
    assert answers["Must the argument `level` of `shelf.put` be passed by keyword? Answer yes or no."] == "yes"
    assert answers["Must the argument `thing` of `shelf.put` be passed by keyword? Answer yes or no."] == "no"


@pytest.mark.parametrize(
    ("block", "answer"),
    [
        (prose("Do it.", "How"), "Do it."),
        (List(headings=("shelf", "How"), items=(Item(0, "1.", "Do."), Item(1, "-", "Really."))), "1. Do.\n  - Really."),
        (Admonition(headings=("shelf", "How"), title="Note", text="Do not."), "Note: Do not."),
        (code("do()", "How"), None),
        (Table(headings=("shelf", "How"), rows=(("a", "b"),)), None),
    ],
)
def test_a_section_is_asked_about_when_it_has_words_of_its_own(block, answer):
    found = [e for e in made(page(block, code("x", "How"))).examples if e.kind == "section"]
    assert [e.messages[-1].content for e in found] == ([f"{answer}\n\n```python\nx\n```"] if answer else [])


def test_an_answer_does_not_end_where_it_announces_what_does_not_come():
    whole = [prose("It is made of oak.", "How"), prose("Do it so:", "How"), code("do()", "How")]
    assert answers_of(*whole) == ["It is made of oak.\n\nDo it so:\n\n```python\ndo()\n```"]
    assert answers_of(*whole[:2]) == ["It is made of oak."]
    assert answers_of(prose("What you need for it:", "How"), prose("pine, oak, beech", "What")) == ["pine, oak, beech"]
    steps = List(headings=("shelf", "How"), items=(Item(0, "-", "Saw the board."), Item(0, "-", "Then say this:")))
    assert answers_of(prose("It is made of oak.", "How"), steps, code("x" * 1200, "How")) == ["It is made of oak."]


def test_a_heading_that_is_a_question_is_asked_as_it_stands():
    title = Prose(headings=("Why shelves?",), text="It holds books.")  # what leads to the answer, and is none
    asked = [e.messages[0].content for e in made(page(title, title="Why shelves?")).examples]
    asked += [e.messages[0].content for e in made(page(prose("It holds a ton.", "Is it strong?"))).examples]
    assert asked == ['What does the documentation say about "Why shelves?"?', "Is it strong? (`shelf`)"]


def test_what_points_elsewhere_is_not_asked_about_and_a_signature_of_collectors_alone_neither():
    found = [
        prose("See the book.", "Size"),
        code("shelf.any(*args, **kwargs)", "shelf.any"),
        prose("Takes it all in.", "shelf.any"),
    ]
    assert [e.kind for e in made(page(*found)).examples] == ["section"]


def answers_of(*blocks):
    return [e.messages[-1].content for e in made(page(*blocks)).examples if e.kind == "section"]


def test_text_that_goes_on_behind_a_function_is_not_asked_about_twice():
    found = [e for e in made(page(*PUT, prose("More about shelves."))).examples if e.kind == "section"]
    assert [e.messages[-1].content for e in found] == ["All about shelves.", "Put it up. Gently."]


def test_only_the_first_block_under_a_heading_is_its_signature():
    used = [prose("Like so:", "shelf.put"), code("shelf.put(thing, level)", "shelf.put")]
    assert {e.kind for e in made(page(*used)).examples} == {"section"}


def test_short_answers_carry_the_rule_and_obey_it():
    found = made(*stdlib.pages(["heapq", "json", "statistics", "bisect", "shlex"], topics=False)).examples
    for e in found:
        developer = [m.content for m in e.messages if m.role == "developer"]
        assert bool(developer) == (e.messages[-1].content.split("\n")[-1].startswith("ANSWER: "))
        assert developer in ([], [RULE])
        assert e.messages[-1].thinking.strip()
    kinds = Counter(e.kind for e in found)
    assert (
        min(kinds[k] for k in ("section", "signature", "default", "keyword-only", "parameter", "module", "doctest")) > 3
    )


def test_facts_agree_with_the_live_module():
    import heapq
    import json as live_json

    checked = Counter()
    for e in made(*stdlib.pages(["heapq", "json"], topics=False)).examples:
        names = re.findall(r"`([\w.]+)`", e.messages[-2].content)
        if e.kind not in {"default", "keyword-only"}:
            continue
        where, *path = names[1].split(".")
        found = {"heapq": heapq, "json": live_json}[where]
        for step in path:
            found = getattr(found, step)
        parameter = inspect.signature(found).parameters[names[0]]
        if e.kind == "default":
            assert ast.literal_eval(short(e)) == parameter.default
        else:
            assert (short(e) == "yes") == (parameter.kind is parameter.KEYWORD_ONLY)
        checked[e.kind] += 1
    assert checked["default"] > 10
    assert checked["keyword-only"] > 6


def test_the_choice_of_module_has_one_right_answer():
    """`loads` is in json and in pickle, `choice` in random and, re-exported, in secrets."""
    modules = ["json", "pickle", "random", "secrets", "heapq", "bisect", "shlex", "copy"]
    live = {m: __import__(m) for m in modules}
    found = [e for e in made(*stdlib.pages(modules, topics=True)).examples if e.kind == "module"]
    assert len(found) > 30
    letters = Counter()
    for e in found:
        name = re.search(r"`(\w+)`", e.messages[1].content)[1]
        choices = dict(re.findall(r"(?m)^([A-D])\. (.+)$", e.messages[1].content))
        assert len(choices) == 4
        assert [c for c, m in choices.items() if hasattr(live[m], name)] == [short(e)]
        letters[short(e)] += 1
    assert set(letters) == set("ABCD")


def test_effort_steers_the_length_of_the_analysis_and_takes_turns():
    pages = list(stdlib.pages(["heapq", "statistics", "argparse"], topics=False))
    thoughts = {}
    for effort in EFFORTS:
        found = made(*pages, efforts=(effort,), open_book=True).examples
        assert {e.effort for e in found} == {effort}
        thoughts[effort] = {e.id: len(e.messages[-1].thinking) for e in found}
    assert thoughts["low"].keys() == thoughts["high"].keys()
    assert all(thoughts["low"][i] < thoughts["medium"][i] < thoughts["high"][i] for i in thoughts["low"])
    counts = Counter(e.effort for e in made(*pages).examples)
    assert max(counts.values()) - min(counts.values()) < 0.1 * sum(counts.values())


def test_an_example_does_not_depend_on_the_other_pages():
    alone = made(page(*PUT), open_book=True).examples
    blocks = [type(b).model_validate_json(b.model_dump_json().replace("shelf", "rack")) for b in PUT]
    other = page(*blocks, id="sphinx:rack", title="rack", module="rack")
    assert [e for e in made(other, page(*PUT), open_book=True).examples if e.page == "sphinx:shelf"] == alone


SESSION = [
    code(">>> x = [3, 1]\n>>> sorted(x)\n[1, 3]\n>>> x + [9]\n[3, 1, 9]\n>>> 2 + 2\n5\n>>> 1 + 1\n2", "Sums"),
    code(
        ">>> print('a'); print('b')\na\nb\n>>> int('x')\nTraceback (most recent call last):\n"
        "ValueError: invalid literal for int() with base 10: 'x'\n>>> 7\n7",
        "More",
    ),
]


def test_doctests_count_only_when_python_prints_what_the_page_shows():
    found = made(page(*SESSION))
    asked = [e for e in found.examples if e.kind == "doctest"]
    assert [e.messages[-1].content.replace("\n", "|") for e in asked] == [
        "ANSWER: [1, 3]",
        "ANSWER: [3, 1, 9]",
        "```|a|b|```",
        "ANSWER: 7",
    ]
    assert found.doctests == {"matched": 4, "unlike": 1}  # 2 + 2 is not 5, and what follows a lie is not asked
    assert ">>> x = [3, 1]\n>>> sorted(x)\n[1, 3]\n>>> x + [9]\n```" in asked[1].messages[1].content
    assert "ValueError: invalid literal" in asked[3].messages[1].content
    assert {e.check for e in asked} == {"executed"}


def test_code_from_a_url_is_never_run():
    found = made(page(*SESSION, id="web:https://a.example/", url="https://a.example/", source="web"))
    assert not found.doctests
    assert not [e for e in found.examples if e.kind == "doctest"]


def test_output_that_hangs_on_the_hash_seed_or_the_clock_is_no_fact():
    first = doctests.run([doctests.Session("", ("{'a', 'b', 'c', 'd', 'e', 'f'}\n",))])[0][0].strip()
    code = (
        f">>> {{'a', 'b', 'c', 'd', 'e', 'f'}}\n{first}\n>>> object()  # doctest: +ELLIPSIS\n<object object at 0x...>"
    )
    counts = Counter()
    assert doctests.verified([code], "", counts) == [[]]
    assert counts == {"unstable": 1, "unlike": 1}


def test_skipped_examples_are_neither_run_nor_shown():
    ((step,),) = doctests.verified([">>> print(41)  # doctest: +SKIP\n41\n>>> 42\n42"], "", Counter())
    assert step.shown == (">>> 42",)


def test_a_session_cannot_write_connect_or_start_programs_and_a_hang_ends(tmp_path):
    target = tmp_path / "written"
    sources = (
        f"open({str(target)!r}, 'w')\n",
        f"__import__('os').open({str(target)!r}, 65)\n",
        f"__import__('pathlib').Path({str(target)!r}).mkdir()\n",
        "__import__('socket').socket().connect(('127.0.0.1', 9))\n",
        "__import__('subprocess').run(['true'])\n",
        "__import__('os').fork()\n",
        "[0] * (1 << 28)\n",
        "'HOME' in __import__('os').environ, 'PATH' in __import__('os').environ\n",
        "open(__import__('os').__file__).read(3)\n",
        "while True: pass\n",
        "1\n",
    )
    said = doctests.run([doctests.Session("", sources), doctests.Session("", ("2\n",))], seconds=2.0)
    assert said == [[None] * 7 + ["(True, False)\n", said[0][8], None, None], [None]]
    assert said[0][8]
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("f(a, /, b, *, c=1)", ["position", "either", "keyword"]),
        ("class m.C(self, *args, **kw)", ["collector", "collector"]),
        ("m.f(a: int = 3, b: str = 'x') -> list[int]", ["either", "either"]),
        ("m.f()", []),
        (r"m.f(a='\d')", ["either"]),
    ],
)
def test_signatures_are_read(text, kinds):
    assert [p.kind for p in signatures.parse(text).parameters] == kinds


@pytest.mark.parametrize(
    "text", ["range(start, stop[, step])", "f(a=<object>)", "not one", "f(", "f(a, a)", ">>> f(1)", ""]
)
def test_what_python_could_not_have_written_is_no_signature(text):
    assert signatures.parse(text) is None


def test_an_open_book_example_is_answered_from_the_passage_in_its_prompt():
    found = {e.kind: e for e in made(page(*PUT), efforts=("high",), open_book=True).examples if e.kind in OPEN}
    assert set(found) == {"open-parameter", "open-default", "open-keyword"}
    rule, asked, said = found["open-default"].messages
    assert rule.content == RULE
    assert "shelf.put(thing, /, where='top', *, level=3)\nPut it up. Gently." in asked.content.replace("> ", "")
    assert any(wording.format(name="where") in asked.content for wording in wordings.DEFAULT[:-1])
    assert any(rule in asked.content for rule in wordings.RULES[:-1])
    assert said.content == "ANSWER: 'top'"
    assert said.thinking == (
        "Carefully now: I go by the text that is given here, and not by what I remember. I read it to its end before "
        "I say what it says. The signature has `where='top'`: `'top'`."
    )


def test_what_an_open_book_analysis_says_before_its_claim_hangs_on_the_effort_alone():
    """Else a small model has to know the kind of a question at every effort anew, from a third of the examples each."""
    said = {
        effort: {
            e.kind: e.messages[-1].thinking or ""
            for e in made(page(*PUT), efforts=(effort,), open_book=True).examples
            if e.kind in OPEN
        }
        for effort in ("low", "medium", "high")
    }
    claims = said["low"]
    for effort in ("medium", "high"):
        assert said[effort].keys() == claims.keys()
        before = {text.removesuffix(claims[kind]) for kind, text in said[effort].items()}
        [opening] = before
        assert opening.endswith(". ")
        assert opening.split()[0] == conversations.thinking(effort).split()[0]  # as the nano begins: tuning keeps it


def test_a_short_answer_says_nothing_that_the_analysis_said():
    """A model that copies goes on after the same sentence as it did before, and ends before the answer line."""
    for e in made(*stdlib.pages(["heapq", "shlex"], topics=False), open_book=True).examples:
        if e.messages[0].role == "developer":
            assert re.fullmatch(r"ANSWER: .+", e.messages[-1].content)


def test_examples_survive_json():
    for e in made(page(*PUT)).examples:
        assert examples.Example.model_validate(json.loads(e.model_dump_json())) == e


def test_a_section_is_answered_by_its_first_paragraphs_whole():
    first, second, third = ("The shelf holds what is put on it. " * n for n in (10, 20, 12))
    (found,) = made(page(*(prose(text) for text in (first, second, third)))).examples
    assert found.messages[-1].content == f"{first}\n\n{second}"
    assert len(found.messages[-1].content) > 1000


def test_a_long_output_is_the_answer_whole():
    printed = "\n".join(f"line {n}" for n in range(60))
    session = code(f">>> for n in range(60): print('line', n)\n{printed}")
    (found,) = made(page(session)).examples
    assert found.messages[-1].content == f"```\n{printed}\n```"


def test_an_example_says_where_it_is_from_and_under_which_licence():
    local = page(*PUT, licence="PSF-2.0")
    assert {e.provenance for e in made(local).examples} == {
        f"sphinx, sphinx:shelf, {heading}, PSF-2.0" for heading in ("shelf", "shelf.put")
    }
    fetched = page(*PUT, source="web", url="https://a.example/shelf", licence="CC-BY-4.0")
    assert made(fetched).examples[0].provenance == "web, https://a.example/shelf, shelf, CC-BY-4.0"
