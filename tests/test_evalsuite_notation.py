"""How figures are written: the same in a verdict, a table and on the page."""

import pytest

from evalsuite.judging import notation
from evalsuite.judging.comparison import Difference


def test_points_are_signed_and_nothing_has_no_sign() -> None:
    shown = {
        0.0123: "+1.2",
        -0.0123: "-1.2",
        0.0: "0.0",
        0.0004: "0.0",
        -0.0004: "0.0",
        -0.0005001: "-0.1",
        1.0: "+100.0",
    }
    assert {share: notation.points(share) for share in shown} == shown


def test_an_interval_is_the_estimate_and_its_bounds() -> None:
    d = Difference(estimate=-0.0, lower=-0.148, upper=0.026, by_module=False, discordance=0.1, worse_p=0.5)
    assert notation.bounds(d) == "-14.8 to +2.6"
    assert notation.interval(d) == "0.0 (-14.8 to +2.6)"


@pytest.mark.parametrize(("share", "words"), [(0.05, "5"), (0.07, "7"), (0.025, "2.5"), (0.01234, "1.234")])
def test_what_was_stated_keeps_its_digits(share: float, words: str) -> None:
    assert notation.stated(share) == words


def test_confidence_is_not_rounded_to_whole_per_cent() -> None:
    assert [notation.confidence(alpha) for alpha in (0.05, 0.1, 0.025, 0.01)] == ["95%", "90%", "97.5%", "99%"]


def test_a_share_that_nobody_knows_is_a_dash() -> None:
    assert (notation.percent(0.6125), notation.percent(None)) == ("61.3%", "–")
