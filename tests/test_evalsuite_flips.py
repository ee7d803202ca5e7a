"""Which changed questions a report keeps: of all kinds in turns, the greatest loss first, with both reasonings."""

from collections import Counter

from evaluation import Some, both, built, question_set, several

from evalsuite.judging.flips import REASONING_SHOWN, SHOWN, TEXT_SHOWN
from evalsuite.views import html


def kept(*some: Some) -> tuple[dict[str, int], dict[str, int]]:
    """How many lost and gained questions are kept of each kind."""
    [c] = built(*several(*some)).comparisons
    lost, gained = (Counter(f.kind for f in c.flips if f.direction == way) for way in ("lost", "gained"))
    return dict(lost), dict(gained)


def test_no_kind_takes_all_the_room():
    lost, gained = kept(Some(90, 80, 60, 5, "first"), Some(90, 80, 30, 2, "second"), Some(90, 80, 4, 40, "third"))
    assert lost == {"first": 8, "second": 8, "third": 4}
    assert gained == {"first": 5, "second": 2, "third": 10}


def test_the_kinds_with_the_greatest_loss_come_first_where_not_all_find_room():
    kinds = [Some(20, 15, 1 + (i % 7 == 3), 0, f"kind{i:02}") for i in range(30)]
    lost, _ = kept(*kinds)
    twice = [f"kind{i:02}" for i in range(30) if i % 7 == 3]
    assert len(lost) == SHOWN
    assert set(twice) < set(lost)
    others = [f"kind{i:02}" for i in range(30) if i % 7 != 3]
    assert set(lost) - set(twice) == set(others[: SHOWN - len(twice)]), "ties by name"


def test_they_stay_in_the_order_of_the_questions():
    set_ = question_set(60, kinds=3)
    [c] = built(set_, both(set_, lambda arm, i: arm == "tuned" and i < 30)).comparisons
    numbers = [int(f.question[1:]) for f in c.flips]
    assert numbers == sorted(numbers)
    assert len(numbers) == SHOWN


def test_reasoning_and_texts_are_kept_at_both_ends():
    set_ = question_set(20)
    told = both(set_, lambda arm, i: arm == "tuned" and i == 0)
    long = "begins " + "hm " * 1000 + "so it is A0"
    told = [r.model_copy(update={"reasoning": f"{r.arm} {long}"}) for r in told]
    told = [r.model_copy(update={"text": f"{long}\n{r.text}"}) if r.arm == "tuned" else r for r in told]
    [c] = built(set_, told).comparisons
    [f] = c.flips
    assert f.base_reasoning.startswith("base begins")
    assert f.tuned_reasoning.startswith("tuned begins")
    assert f.tuned_reasoning.endswith("so it is A0")
    assert f.tuned_text.endswith("ANSWER: not so"), "the line that was graded"
    assert len(f.tuned_reasoning) < REASONING_SHOWN + 40
    assert len(f.tuned_text) < TEXT_SHOWN + 40


def test_the_page_shows_both_reasonings_and_how_many_there_are_in_all():
    set_ = question_set(60)
    told = both(set_, lambda arm, i: arm == "tuned" and i < 30)
    told = [r.model_copy(update={"reasoning": f"{r.arm} thinks of {r.question}."}) for r in told]
    page = html.render(built(set_, told))
    assert "20 of 30 kept" in page
    for arm in ("base", "tuned"):
        assert page.count(f"<span>reasoning</span><pre>{arm} thinks of") == SHOWN
    assert f"{TEXT_SHOWN} characters are shown, of reasoning {REASONING_SHOWN}" in page
