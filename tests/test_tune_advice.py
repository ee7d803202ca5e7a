"""Advice from a loss curve: each kind on a curve that shows it, and what must never be said."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune.recipe import Train
from tune.training.views.advice import Finding, advice, findings
from tune.training.views.history import rates, read, smooth, spread

Curve = Callable[[float], float]


def fallen(t: float) -> float:
    """The usual curve: fast at first, then level."""
    return 1.35 + 1.05 * math.exp(-9 * t)


def run(
    steps: int,
    loss: Curve,
    *,
    noise: float = 0.05,
    looks: Curve | None = None,
    changed: dict[int, float] | None = None,
) -> list[dict[str, float]]:
    """A history whose loss is a function of the share of the run, with 10 looks."""
    rng, history = random.Random(7), list[dict[str, float]]()
    for step in range(1, steps + 1):
        value = (changed or {}).get(step, loss(step / steps) + rng.gauss(0, noise))
        history.append({"step": step, "loss": value, "lr": 2e-4, "tokens": step * 100, "seconds": step * 0.1})
        if looks and step % (steps // 10) == 0:
            history.append({"step": step, "eval_loss": looks(step / steps)})
    return history


def kinds(history: list[dict[str, float]], base: float | None = None) -> list[str]:
    return [found.kind for found in findings(history, base)]


def only(history: list[dict[str, float]], base: float | None = None) -> Finding:
    [found] = findings(history, base)
    return found


@pytest.mark.parametrize("steps", [40, 200, 2000])
def test_a_run_that_learned_gets_no_advice(steps: int) -> None:
    assert advice(run(steps, fallen, looks=fallen), 2.4) == []
    assert advice(run(steps, fallen)) == []


def test_a_flat_curve_is_told_to_learn_faster_or_longer() -> None:
    [told] = advice(run(60, lambda _: 2.3, looks=lambda _: 2.295), 2.3)
    assert told.startswith("Flat: the loss went from 2.")
    assert "Raise learning_rate (0.0002 at its peak, try 0.0006) or max_steps (60 now)." in told
    assert kinds(run(60, lambda _: 2.3, looks=lambda t: 2.3 - t), 2.3) == [], "held-out rows show that it learned"


def test_a_slow_fall_that_noise_hides_at_the_ends_is_not_flat() -> None:
    assert kinds(run(400, lambda t: 2.3 - 0.15 * t, noise=0.15)) == []


def test_a_jump_is_named_with_its_steps() -> None:
    found = only(run(200, fallen, changed={61: 7.5, 140: 6.0}))
    assert (found.kind, found.steps) == ("jumping", (61, 140))
    assert found.what.startswith("the loss jumps to 7.50 at step 61, 6.0")
    assert "step 140 too" in found.what
    assert found.do == "Look at the rows of those steps: garbled or very short ones do that. " + (
        "Lower learning_rate (0.0002 at its peak, try 7e-05)."
    )


def test_a_step_of_hard_rows_is_no_jump_at_any_level_of_loss() -> None:
    for level in (0.0, 20.0):
        for over, told in ((0.4, []), (0.7, ["jumping"])):
            history = run(100, lambda t, level=level: level + fallen(t), noise=0.001, changed={61: level + 1.36 + over})
            assert kinds(history) == told


def test_a_loss_that_comes_back_up_has_diverged() -> None:
    found = only(run(100, lambda t: fallen(t) + max(0, t - 0.6) * 8))
    assert found.kind == "diverged"
    assert "steps 26 to 50" in found.what
    assert "Lower learning_rate" in found.do


def test_overfitting_names_the_best_look_and_how_much_less_to_train() -> None:
    history = run(100, lambda t: 2.4 - 1.4 * t, looks=lambda t: 1.6 + abs(t - 0.4))
    found = only(history, 2.4)
    assert (found.kind, found.steps) == ("overfitting", (40,))
    assert "best at step 40 (1.600) and is 2.200 at step 100" in found.what
    assert found.do.startswith("Train less: epochs at 40 % of what they are, or max_steps = 40; patience with")
    assert "before the first step" in only(run(100, fallen, looks=lambda t: 2.5 + t), 2.4).what
    assert kinds(run(100, fallen, looks=lambda t: 1.6 + 0.01 * t), 2.4) == [], "a hundredth of a nat is nothing"


def test_a_run_that_ends_while_falling_is_told_to_go_on() -> None:
    found = only(run(100, lambda t: 2.4 - t))
    assert found.kind == "falling"
    assert found.what.startswith("the loss fell by 0.2")
    assert "max_steps = 125 (now 100)" in found.do


def test_a_loss_near_zero_is_labels_that_leak_or_rows_that_repeat() -> None:
    leak = only(run(50, lambda _: 0.01, noise=0.001))
    assert (leak.kind, "labels leak" in leak.do, "epochs" in leak.do) == ("near zero", True, False)
    learned = only(run(200, lambda t: 0.005 + 2 * math.exp(-20 * t), noise=0.001))
    assert (learned.kind, "rows repeat" in learned.do) == ("near zero", True)
    assert "99." in learned.what
    read = only(run(200, lambda t: 0.005 + 2 * math.exp(-20 * t), noise=0.001, looks=lambda _: 0.02))
    assert (read.kind, "open-book" in read.do, "at 0.020" in read.what) == ("near zero", True, True)
    by_heart = only(run(200, lambda t: 0.005 + 2 * math.exp(-20 * t), noise=0.001, looks=lambda _: 1.5))
    assert "rows repeat" in by_heart.do


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_what_is_no_number_is_named_even_in_a_short_curve(value: float) -> None:
    found = only(run(5, fallen, changed={4: value, 5: value}))
    assert (found.kind, found.steps) == ("broken", (4, 5))
    assert f"the loss is {value} at step 4 and at 1 more, up to step 5." in found.what
    history = [*run(30, fallen), {"step": 30, "eval_loss": value}]
    history[6]["grad_norm"] = value
    assert [f"{value} at step {s}" in told for s, told in zip((30, 7), advice(history), strict=True)] == [True, True]
    assert kinds(run(100, lambda _: 2.3, changed={100: value})) == ["broken"], "not told to learn faster as well"


def test_a_base_whose_loss_is_no_number_is_named() -> None:
    assert kinds([], math.nan) == kinds([], 1e300) == ["broken"]


@given(st.lists(st.floats(-5, 50), max_size=7))
def test_fewer_than_eight_steps_have_no_trend(losses: list[float]) -> None:
    history = [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)]
    assert advice(history, 2.0) == []


@settings(deadline=None)
@given(st.integers(8, 400), st.floats(0, 5), st.integers(0, 2**32 - 1), st.sampled_from(["normal", "uniform"]))
def test_constant_noise_never_jumps(steps: int, scale: float, seed: int, shape: str) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=steps) if shape == "normal" else rng.uniform(-1, 1, size=steps)
    history = [{"step": i, "loss": 20 + scale * float(x)} for i, x in enumerate(noise, 1)]
    assert not {"jumping", "diverged", "broken"} & set(kinds(history))


sixteenths = st.integers(16 * 1, 16 * 8).map(lambda n: n / 16)  # whose sums and differences are exact


@settings(deadline=None)
@given(st.lists(sixteenths, min_size=8, max_size=60), st.lists(sixteenths, max_size=5), st.integers(0, 1000))
def test_a_constant_added_to_all_losses_changes_no_verdict(
    losses: list[float], held_out: list[float], shift: int
) -> None:
    def history(by: float) -> list[dict[str, float]]:
        train = [{"step": i, "loss": loss + by} for i, loss in enumerate(losses, 1)]
        return train + [{"step": 10 * i, "eval_loss": loss + by} for i, loss in enumerate(held_out, 1)]

    assert kinds(history(0), 2.0) == kinds(history(shift), 2.0 + shift)


anything = st.floats() | st.floats(0, 5)


@settings(deadline=None)
@given(st.lists(st.tuples(anything, anything, anything), max_size=40), st.none() | anything, st.randoms())
def test_the_same_history_in_any_order_gives_the_same_advice(
    values: list[tuple[float, float, float]], base: float | None, order: random.Random
) -> None:
    history = [{"step": i, "loss": a, "lr": b, "grad_norm": c} for i, (a, b, c) in enumerate(values, 1)]
    history += [{"step": i, "eval_loss": b} for i, (_, b, _) in enumerate(values[::5], 1)]
    told = advice(history, base)
    assert all(isinstance(one, str) and one.endswith(".") for one in told)
    order.shuffle(history)
    assert advice(history, base) == told


def test_every_key_that_advice_names_is_in_the_recipe() -> None:
    named = {"learning_rate", "max_steps", "epochs", "patience", "eval_every", "warmup_steps"}
    assert named <= set(Train.model_fields)
    curves = [
        run(60, lambda _: 2.3),
        run(100, lambda t: fallen(t) + max(0, t - 0.6) * 8),
        run(100, lambda t: 2.4 - 1.4 * t, looks=lambda t: 1.6 + abs(t - 0.4)),
    ]
    told = " ".join(one for curve in curves for one in advice(curve))
    assert {word for word in named if word in told} == named


def test_speed_skips_looks_and_the_gap_of_a_resumed_run() -> None:
    """100 tokens a step, 10 steps a second; 5 seconds of a look after step 10; another process from step 21 on."""
    history = [
        {"step": s, "loss": 1.0, "tokens": 100.0 * s, "seconds": 0.1 * (s if s <= 20 else s - 20) + 5 * (10 < s <= 20)}
        for s in range(1, 31)
    ]
    found = rates(read([*history, {"step": 10, "eval_loss": 1.0}]), 5)
    assert np.isnan(found[[0, 20]]).all()
    assert found[np.isfinite(found)] == pytest.approx(1000)
    assert np.isfinite(found).sum() == 28


def test_smoothing_keeps_the_ends_and_forgets_a_single_jump() -> None:
    values = np.array([1.0] * 20)
    values[10] = 50
    assert smooth(values, 5).tolist() == [1.0] * 20
    line = np.arange(30.0)
    assert smooth(line, 7) == pytest.approx(line)
    assert spread(line) == pytest.approx(1.4826 / math.sqrt(2))
    assert spread(np.random.default_rng(0).normal(size=5000)) == pytest.approx(1, abs=0.05)


def test_of_two_entries_about_a_step_the_later_one_counts() -> None:
    again = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.0}, {"step": 2, "loss": 3.0}, {"step": 3, "loss": 2.0}]
    assert read(again).loss.tolist() == [5.0, 3.0, 2.0]
