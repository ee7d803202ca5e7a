"""Which questions stand in training texts: by each sign apart, and the same as comparing every pair."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.contamination import contamination, statements
from evalsuite.questions import Code, Question
from tune.data import quality

LONG = "the quick brown fox jumps over the lazy dog while seven small cats watch from the garden wall in silence"
CODE = "What does this print?\n```python\nprint(sorted([3, 1, 2])[0])\n```"


def asked(*prompts: str) -> list[Question]:
    fixed: dict[str, Any] = {"kind": "k", "module": "m", "answer": "1", "grader": "literal"}
    return [Question(id=f"q{i}", prompt=prompt, **fixed) for i, prompt in enumerate(prompts)]


def signs(prompt: str, text: str) -> list[str]:
    found = contamination(asked(prompt), [text])
    return [name for name in ("exact", "ngram", "ast", "any") if getattr(found, name).count]


def test_each_sign_is_told_apart() -> None:
    assert signs("What does heapq.merge return?", "Someone asked: what does HEAPQ.merge\nreturn?") == ["exact", "any"]
    assert signs("What does heapq.merge return?", "What does heapq.merge accept?") == []
    assert signs(LONG, f"In the yard {LONG}.") == ["exact", "ngram", "any"]
    assert signs(LONG, "In the yard " + " ".join(LONG.split()[3:16])) == ["ngram", "any"]
    assert signs(LONG, "In the yard " + " ".join(LONG.split()[3:15])) == []
    assert signs(LONG, " ".join(LONG.split()[:-1]) + " noise") == ["ngram", "any"]
    assert signs("?", "? and more") == []


def test_figures_are_counts_shares_and_ids_in_the_order_of_the_questions() -> None:
    texts = [LONG, "nothing", "print(sorted([3,1,2])[0])  # the least", "Say what is it now"]
    found = contamination(asked("Unheard of", CODE, LONG, "What is it?"), iter(texts))
    assert (found.questions, found.texts) == (4, 4)
    assert found.exact.model_dump() == {"count": 2, "share": 0.5, "ids": ("q2", "q3")}
    assert found.ngram.ids == ("q2",)
    assert found.ast.ids == ("q1",)
    assert found.any.model_dump() == {"count": 3, "share": 0.75, "ids": ("q1", "q2", "q3")}
    assert contamination([], texts).any.share == 0.0
    assert contamination(asked(LONG), []).any.count == 0


@pytest.mark.parametrize(
    "text",
    [
        "~~~\nprint( sorted([3, 1, 2])[0] )\n~~~",
        ">>> print(sorted([3, 1, 2])[0])\n1",
        "    >>> print(\n    ...     sorted([3, 1, 2])[0])\n    1",
        "It is `print(sorted([3,1,2])[0])` that prints.",
        "Like so:\n\n    def f():\n        print(sorted([3, 1, 2])[0])  # one\n\nand so on",
        "def f():\n    if x:\n        print(sorted([3, 1, 2])[0])",
        "Run it:\nprint(sorted([3, 1, 2])[0])\nand see",
    ],
)
def test_a_statement_is_found_whatever_its_layout(text: str) -> None:
    assert signs(CODE, text) == ["ast", "any"]


def test_other_code_everybodys_code_and_signatures_are_no_sign() -> None:
    assert signs(CODE, "`print(sorted([3, 1, 2])[1])`") == []
    for everybodys in ("import os", "print(x)", "x = 1", "from collections import deque",
                       "open(filename, mode='rb', compresslevel=9, encoding=None, errors=None)"):  # fmt: skip
        assert statements(f"`{everybodys}`") == set()
    assert statements("`f(1, [2, 3], key=len)`")
    assert statements("`" + "[" * 5000 + "`\n```\n" + "x=" * 9000 + "1\n```\n`'\\d' + f(1, 2)[3]`") != set()


WORDS = st.lists(st.sampled_from(["what", "does", "f", "return", "now"]), max_size=20).map(" ".join)


@given(st.lists(WORDS, max_size=5, unique=True), st.lists(WORDS, max_size=5))
def test_the_index_finds_what_comparing_all_pairs_finds(prompts: list[str], texts: list[str]) -> None:
    found = contamination(asked(*prompts), texts)
    padded = [f" {text} " for text in texts]
    exact = [i for i, p in enumerate(prompts) if p and any(f" {p} " in text for text in padded)]
    assert found.exact.ids == tuple(f"q{i}" for i in exact)
    held = [set(quality.runs(quality.words(text), quality.GRAM)) for text in texts]
    shared = [i for i, p in enumerate(prompts)
              if any(not grams.isdisjoint(quality.runs(quality.words(p), quality.GRAM)) for grams in held)]  # fmt: skip
    assert found.ngram.ids == tuple(f"q{i}" for i in shared)


@given(st.text(max_size=200))
def test_any_text_may_be_looked_at(text: str) -> None:
    found = contamination(asked(text), [text])
    assert found.exact.count == bool(quality.words(text))


@given(st.lists(WORDS.filter(bool), min_size=1, max_size=4, unique=True), st.lists(WORDS, max_size=4))
def test_the_datasets_own_filter_and_this_one_agree(prompts: list[str], texts: list[str]) -> None:
    """What `tune dataset` drops for a prompt is what is found here, so what it leaves is clean by words."""
    dropped = set(quality.contaminated(texts, prompts))
    found = [i for i, text in enumerate(texts) if contamination(asked(*prompts), [text]).any.count]
    assert found == sorted(dropped)


def solved(kind: str, grader: Any, prompt: str, answer: str, code: Code | None) -> Question:
    return Question(id="q", kind=kind, module="heapq", prompt=prompt, answer=answer, grader=grader, code=code)


CALL = solved("code-call", "call", "Which call in place of `____` makes this hold?", "heapq.nlargest(2, [1, 5, 3])",
              Code(about="nlargest", source="____", value="[5, 3]"))  # fmt: skip
FIX = solved("code-fix", "fix", "`json.dumps([1, {}], width=2)` raises.", "json.dumps([1, {}], indent=2)",
             Code(about="dumps", source="json.dumps([1, {}], width=2)", value="'…'"))  # fmt: skip
SIGNATURE = solved("code-signature", "signature", "What is the signature?", "(a, x, lo=0, hi=None, *, key=None)", None)


@pytest.mark.parametrize(
    ("question", "text", "signs"),
    [
        (CALL, "So `heapq.nlargest( 2, [1, 5, 3] )` it is.", ["ast", "any"]),
        (CALL, "Like so:\n\n    from heapq import nlargest\n    best = list(nlargest(2, [1, 5, 3]))\n", ["ast", "any"]),
        (CALL, "```python\nprint(heapq.nlargest(2, [1, 5, 3]))\n```", ["ast", "any"]),
        (CALL, "heapq.nlargest(2, [1, 5, 4]) and heapq.nsmallest(2, [1, 5, 3])", []),
        (CALL, "`heapq.nlargest(n, iterable, key=None)`, of which 2, [1, 5, 3]", []),
        (FIX, "So it is.\nANSWER: json.dumps([1, {}], indent=2)", ["ast", "any"]),
        (FIX, "The line is\njson.dumps([1, {}], indent=2)", ["ast", "any"]),
        (FIX, "json.dumps([1, {}], width=3)", []),
        (SIGNATURE, "class: bisect.bisect_left(a, x, lo=0, hi=None, *, key=None) finds", ["exact", "any"]),
        (SIGNATURE, "bisect.bisect_left(a, x, lo=0, hi=None) finds", []),
    ],
)  # fmt: skip
def test_a_solution_that_stands_in_a_text_is_found_whatever_the_prompt(question, text, signs) -> None:
    found = contamination([question], [text])
    assert [name for name in ("exact", "ngram", "ast", "any") if getattr(found, name).count] == signs


def test_a_long_solution_is_found_by_any_13_words_of_it() -> None:
    long = "f(one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen=1)"
    question = SIGNATURE.model_copy(update={"answer": long})
    found = contamination([question, *asked("Else?")], ["so " + " ".join(long.replace(",", "").split()[:13]), "what"])
    assert (found.ngram.ids, found.exact.ids, found.any.count) == (("q",), (), 1)


def test_other_answers_are_not_looked_for() -> None:
    """They are everybody's: `True`, `4`, and of one's own what the passage in the prompt says."""
    plain = CALL.model_copy(update={"code": None, "kind": "closed"})
    assert contamination([plain], ["print(heapq.nlargest(2, [1, 5, 3]))"]).any.count == 0


@given(
    st.lists(st.sampled_from([CALL, FIX, SIGNATURE]), max_size=3), st.text(alphabet="()[]{}.,:=\n `>hf1", max_size=60)
)
def test_no_text_breaks_it(questions: list[Question], text: str) -> None:
    found = contamination(questions, [text, f"heapq.nlargest({text})", "heapq.nlargest" + "(" * 500])
    assert found.texts == 3
