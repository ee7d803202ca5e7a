"""What stands where on the page: worst kinds and lost questions first, no column for what never was, exact bounds."""

import re
from itertools import combinations

import pytest
from evaluation import Some, both, built, question_set, reply, several

from evalsuite.judging.comparison import OUTCOMES
from evalsuite.views import html


def columns(page: str) -> list[str]:
    """The outcomes at the head of their table."""
    return re.findall(r'<th><span class="key"><i style="--c: var\(--([\w-]+)\)">', page)


def test_the_worst_kind_is_listed_first_and_ties_by_name():
    some = (Some(40, 20, 2, 10, "a-gained"), Some(40, 20, 3, 0, "c-lost"), Some(40, 20, 3, 0, "b-lost"))
    set_, told = several(*some, Some(40, 20, 12, 0, "z-worst"))
    kinds = re.findall(r'<th class="left kind">([\w-]+)</th>', html.render(built(set_, told)))
    assert kinds == ["z-worst", "b-lost", "c-lost", "a-gained"]


def test_a_kind_counts_by_its_worst_effort():
    """At high b-kind loses the most, and a-kind at low, but less."""
    set_ = question_set(80)
    named = ["a-kind"] * 40 + ["b-kind"] * 40
    qs = tuple(q.model_copy(update={"kind": kind}) for q, kind in zip(set_.questions, named, strict=True))
    set_ = set_.model_copy(update={"questions": qs})
    low = both(set_, lambda arm, i: arm == "tuned" and i < 8)
    high = both(set_, lambda arm, i: arm == "tuned" and i >= 60, efforts=("high",))
    r = built(set_, low + high)
    assert html.worst_first(r.of("held-out")) == ["b-kind", "a-kind"]
    assert html.worst_first(r.of("held-out")[:1]) == ["a-kind", "b-kind"]


def test_lost_questions_stand_before_gained_ones_and_those_of_the_worst_kinds_first():
    set_, told = several(Some(40, 20, 1, 3, "a-gained"), Some(40, 20, 1, 0, "b-lost"), Some(40, 20, 4, 1, "z-worst"))
    r = built(set_, told)
    found = [(f.direction, f.kind) for f in html.flips(r.comparisons[0])]
    lost = ["z-worst"] * 4 + ["b-lost", "a-gained"]
    assert found == [("lost", kind) for kind in lost] + [("gained", k) for k in ["z-worst"] + ["a-gained"] * 3]
    page = html.render(r)
    shown = re.findall(r'<summary><b class="(\w+)">.*?<span class="soft">· ([\w-]+)</span>', page, re.S)
    assert shown == found


def test_what_became_of_no_question_takes_no_room():
    set_ = question_set(30)
    told = both(set_, efforts=("low", "high"))
    assert columns(html.render(built(set_, told))) == ["answered"]
    told[-1] = reply(set_.questions[-1], "tuned", "high", outcome="refused")
    page = html.render(built(set_, told))
    assert columns(page) == ["answered", "refused"]
    assert 'data-label="not asked"' not in page
    assert columns(html.render(built(set_, told[1:]))) == ["answered", "refused", "absent"]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_each_outcome_has_a_colour_that_can_be_told_from_the_others(scheme):
    roots = re.findall(r":root \{(.*?)\}", html.render(built(question_set(3), both(question_set(3)))), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", roots[scheme]))
    shown = {name: lab(colours[name]) for name in (*OUTCOMES, "absent")}
    near = {(a, b) for a, b in combinations(shown, 2) if distance(shown[a], shown[b]) < 20}
    assert near == set()
    other = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", roots[1 - scheme]))
    assert [name for name in shown if colours[name] == other[name]] == []


def lab(colour: str) -> tuple[float, float, float]:
    """CIELAB of "#rrggbb" in sRGB under D65 (IEC 61966-2-1, CIE 15)."""
    s = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in s)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """CIE 1976."""
    return sum((i - j) ** 2 for i, j in zip(a, b, strict=True)) ** 0.5


@pytest.mark.parametrize(("alpha", "words"), [(0.05, "95 %"), (0.025, "97.5 %")])
def test_the_bounds_are_said_to_be_exact_at_the_confidence_of_the_policy(alpha, words):
    set_ = question_set(30)
    page = html.render(built(set_, both(set_), alpha=alpha))
    assert f"The ends are one-sided {words} bounds, the weaker of question by question (exact) and" in page
    assert "Tango" not in page
