"""Quality against price and the spread of times: every point where its figures say, told in words, labels apart."""

import re
from itertools import combinations

import pytest
from evaluation import ARMS, built, question_set, reply
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evalsuite_html import text_of

from evalsuite.report import Report
from evalsuite.views import html, pareto
from evalsuite.views.axis import between
from evalsuite.views.pareto import HEIGHT, LETTER, LINE, NARROWEST, Point

EFFORTS = ("low", "medium", "high")


def priced(n: int = 60, times: bool = True, efforts: tuple[str, ...] = EFFORTS) -> Report:
    """Each effort costs more; tuned is cheaper at low, equal at medium, and wrong more often at high."""
    set_ = question_set(n)
    wrong = {("base", "low"): 30, ("base", "medium"): 20, ("base", "high"): 10, ("tuned", "low"): 30}
    wrong |= {("tuned", "medium"): 20, ("tuned", "high"): 25}
    tokens = {("base", "low"): 100, ("base", "medium"): 200, ("base", "high"): 400, ("tuned", "low"): 80}
    tokens |= {("tuned", "medium"): 200, ("tuned", "high"): 410}

    def told(i: int, arm: str, effort: str):
        cost = tokens[arm, effort]
        took = {"first_token_s": 0.01 * (i + 1), "first_answer_s": cost / 100 + i / 1000, "total_s": 10 + i}
        return reply(
            set_.questions[i], arm, effort, i >= wrong[arm, effort], completion_tokens=cost, **(took if times else {})
        )

    return built(set_, [told(i, arm, e) for i in range(n) for arm in ARMS for e in efforts], efforts=list(efforts))


def drawn(r: Report) -> list[pareto.Plot]:
    return pareto.plots(r.of("held-out"), html._number, html._seconds)


def test_points_lie_where_the_figures_say_and_lines_go_through_the_efforts():
    tokens, seconds = drawn(priced())
    assert [(p.arm, p.effort, p.cost) for p in tokens.points] == [
        *(("base", e, c) for e, c in zip(EFFORTS, (100, 200, 400), strict=True)),
        *(("tuned", e, c) for e, c in zip(EFFORTS, (80, 200, 410), strict=True)),
    ]
    assert [p.right for p in tokens.points] == pytest.approx([1 / 2, 2 / 3, 5 / 6, 1 / 2, 2 / 3, 35 / 60])
    x = {(p.arm, p.effort): p.x for p in tokens.points}
    assert x["tuned", "low"] < x["base", "low"] < x["base", "medium"] == x["tuned", "medium"] < x["base", "high"]
    gaps = x["base", "high"] - x["base", "medium"], x["base", "medium"] - x["base", "low"]
    assert gaps[0] == pytest.approx(2 * gaps[1], abs=0.1), "an axis of tokens, not of efforts"
    y = {(p.arm, p.effort): p.y for p in tokens.points}
    assert y["base", "high"] < y["tuned", "high"] < y["base", "low"], "more is higher"
    assert [(p.arm, p.effort, q.effort) for p, q in tokens.lines] == [
        (arm, *step) for arm in ARMS for step in (("low", "medium"), ("medium", "high"))
    ]
    assert [p.cost for p in seconds.points][:3] == pytest.approx([1.0295, 2.0295, 4.0295])


def test_the_words_say_the_same():
    tokens, seconds = drawn(priced())
    assert tokens.words == (
        "Right answers against median completion tokens. base: low 50.0% at 100 tokens, medium 66.7% at 200 tokens, "
        "high 83.3% at 400 tokens; tuned: low 50.0% at 80 tokens, medium 66.7% at 200 tokens, high 58.3% at 410 "
        "tokens. No other is both cheaper and better than base at medium, high; tuned at low, medium."
    )
    assert "high 83.3% at 4.03 s" in seconds.words
    page = html.render(priced())
    assert f'aria-label="{tokens.words}"' in page
    assert page.count('<circle class="base"') == page.count('<circle class="tuned"') == 6
    assert re.search(r'<circle class="base"[^>]* fill="var\(--card\)" stroke="var\(--base\)"', page), "hollow"
    assert re.search(r'<circle class="tuned"[^>]* fill="var\(--tuned\)"', page), "filled"


def test_what_was_not_measured_is_not_drawn():
    assert [plot.title for plot in drawn(priced(times=False))] == ["median completion tokens"]
    set_ = question_set(9)
    bare = built(set_, [reply(q, arm) for q in set_.questions for arm in ARMS])
    assert drawn(bare) == []
    assert "their price" not in html.render(bare)
    assert "How the times spread" not in html.render(bare)
    alone = [reply(q, arm, completion_tokens=9 if arm == "base" else None) for q in set_.questions for arm in ARMS]
    assert drawn(built(set_, alone)) == [], "one point says nothing"
    assert len(drawn(priced(efforts=("low",)))) == 2, "two points do"


def box(p: Point) -> tuple[float, float, float, float]:
    wide, at = len(p.effort) * LETTER, p.x / 100 * NARROWEST + p.dx
    left = {"middle": at - wide / 2, "start": at, "end": at - wide}[p.anchor]
    return left, p.y + p.dy - LINE + 3, left + wide, p.y + p.dy + 3


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


cost = st.floats(0.2, 1)


@settings(deadline=None, max_examples=100)
@given(st.tuples(*[cost] * 3), st.tuples(*[st.floats(0, 1)] * 3), st.floats(-0.1, 0.1), st.floats(0.8, 1.2))
def test_labels_lie_on_no_other_whatever_the_figures_of_two_arms_that_resemble_each_other(costs, rights, off, dearer):
    across = between(0, 1.3)
    up = pareto._up([0.0, 1.0])
    made = []
    for arm, by, times in (("base", 0.0, 1.0), ("tuned", off, dearer)):
        for e, c, r in zip(EFFORTS, sorted(costs), sorted(rights), strict=True):
            right = min(1, max(0, r + by))
            x, y = pareto._x(across, c * times), pareto._y(up, right)
            made.append(Point(arm, e, c * times, right, x, y, True))  # type: ignore[arg-type]
    labelled = pareto._labelled(made)
    spread = min(abs(a.x - b.x) * NARROWEST / 100 for a, b in combinations(made, 2) if a.effort != b.effort)
    if spread > 7 * LETTER:
        assert all(apart(box(a), box(b)) for a, b in combinations(labelled, 2))
    assert all(box(p)[0] >= 0 and box(p)[2] <= NARROWEST for p in labelled)
    assert all(box(p)[1] >= -2 and box(p)[3] <= HEIGHT for p in labelled)


def test_labels_give_way_to_each_other_where_effort_does_not_steer():
    """Three points within 20 px of each other, and the other arm's far below."""
    near = [Point("base", e, 1, 1, 50 + 3 * i, 60 + 2 * i, True) for i, e in enumerate(EFFORTS)]
    far = [Point("tuned", e, 1, 0.5, 50 + 3 * i, 160 + 2 * i, True) for i, e in enumerate(EFFORTS)]
    labelled = pareto._labelled([*near, *far])
    assert all(apart(box(a), box(b)) for a, b in combinations(labelled, 2))
    assert all(apart(box(a), (x - 6, b.y - 6, x + 6, b.y + 6)) for a in labelled for b in near for x in [b.x * 2.9])


@pytest.mark.parametrize(("low", "high"), [(0, 1.05), (0, 430.5), (0.9, 1.0), (0, 0.0123), (0, 1), (0.0, 7e6)])
def test_an_axis_has_a_few_round_ticks(low, high):
    axis = between(low, high)
    assert 2 <= len(axis.ticks) <= 6
    assert all(low <= t <= high for t in axis.ticks)
    assert all(len(f"{t:.6f}".strip("0.")) <= 2 for t in axis.ticks)


def test_times_are_told_at_five_places_and_the_readers_of_before_keep_theirs():
    r = priced()
    low = r.comparisons[0].base
    assert low.spread.first_token == pytest.approx((0.0395, 0.1575, 0.305, 0.4525, 0.5705))
    assert low.spread.total == pytest.approx((12.95, 24.75, 39.5, 54.25, 66.05))
    assert low.spread.first_answer is not None
    assert low.first_token == (low.spread.first_token[2], low.spread.first_token[4])
    assert low.first_answer == (low.spread.first_answer[2], low.spread.first_answer[4])
    page = html.render(r)
    said = "base, first token: p5 40 ms, p25 158 ms, median 305 ms, p75 452 ms, p95 570 ms"
    assert f'aria-label="{said}"' in page
    assert "40 ms … 305 ms … 570 ms" in text_of(r)
    axis = between(0, 66.05)
    five = low.spread.total
    assert f'<rect x="{axis.x(five[1])}" y="3" width="{axis.span(five[1], five[3])}"' in page
    assert f'<line x1="{axis.x(five[0])}" x2="{axis.x(five[4])}"' in page
