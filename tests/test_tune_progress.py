"""The live line: what it says, how often, and that it fits a terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.terminal import COLUMNS
from tune.training.views.progress import RECENT, SHOWN, Meter, line


def entry(step: int, **more: float) -> dict[str, float]:
    """A step of 1000 tokens in half a second."""
    return {"step": step, "loss": 1.5, "tokens": 1000 * step, "seconds": 0.5 * step, "memory": 0, **more}


def test_a_line_says_what_is_known_and_leaves_out_what_is_not() -> None:
    bare = line(entry(40), steps=100)
    assert re.fullmatch(r"\[#{9}\.{15}\] step 40 of 100, loss 1\.500", bare)
    full = line(entry(40, memory=14.25e9), steps=100, speed=2345.6, left=130, held_out=1.25)
    assert full.endswith("step 40 of 100, loss 1.500, held out 1.250, 2,346 tokens/s, 14.2 GB, 2 min left")
    assert line(entry(40), steps=100, left=44.6).endswith("loss 1.500, 45 s left")
    assert line(entry(40), steps=100, left=3600 * 3 + 299).endswith("loss 1.500, 3 h 05 min left")
    assert line(entry(40, loss=float("nan")), steps=100).endswith("loss nan")


def test_speed_and_time_left_are_of_the_recent_steps() -> None:
    """Ten times as slow from step 200 on: the line follows within RECENT steps."""
    meter, lines = Meter(1000, live=True), {}
    for step in range(1, 301):
        seconds = 0.5 * step if step <= 200 else 100 + 5 * (step - 200)
        lines[step] = meter.seen(entry(step, seconds=seconds))
    assert "tokens/s" not in str(lines[1])
    assert str(lines[200]).endswith("2,000 tokens/s, 7 min left")
    assert str(lines[200 + RECENT]).endswith("200 tokens/s, 1 h 05 min left")


def test_a_resumed_run_is_not_measured_from_what_another_process_did() -> None:
    meter = Meter(100, live=True)
    assert [meter.seen(entry(step)) for step in (49, 50)][1] is not None
    again = [meter.seen(entry(step, seconds=0.25 * (step - 50))) for step in (51, 52)]
    assert "tokens/s" not in str(again[0])
    assert "4,000 tokens/s, 12 s left" in str(again[1])


def test_a_look_at_held_out_rows_shows_in_the_next_line() -> None:
    meter = Meter(10)
    assert meter.seen({"step": 0, "eval_loss": 2.5}) is None
    assert "held out 2.500" in str(meter.seen(entry(1)))
    assert meter.seen({"step": 1, "eval_loss": 1.25}) is None
    assert "held out 1.250" in str(meter.seen(entry(2)))


@given(st.integers(1, 3000), st.integers(0, 2999))
def test_a_log_has_few_lines_and_always_the_first_and_the_last(steps: int, resumed: int) -> None:
    began = resumed % steps
    meter, shown = Meter(steps), []
    for step in range(began + 1, steps + 1):
        if meter.seen(entry(step)):
            shown.append(step)
    assert shown[0] == began + 1
    assert shown[-1] == steps
    assert len(shown) <= SHOWN + 2


@pytest.mark.parametrize("steps", [1, 7, 49, 60])
def test_on_a_terminal_every_step_is_shown(steps: int) -> None:
    meter = Meter(steps, live=True)
    assert all(meter.seen(entry(step)) for step in range(1, steps + 1))


number = st.floats(0, 1e12) | st.sampled_from([float("nan"), float("inf")])


@given(st.integers(1, 10**6), number, number, st.none() | number, st.none() | number, st.none() | number)
def test_a_line_never_wraps(
    steps: int, loss: float, memory: float, speed: float | None, left: float | None, held_out: float | None
) -> None:
    step = max(1, steps // 2)
    text = line(
        entry(step, loss=loss, memory=min(memory, 1e12) if memory == memory else memory),
        steps=steps,
        speed=None if speed is None else speed / 1e5,
        left=None if left is None else left / 1e5,
        held_out=held_out,
    )
    assert len(text) <= COLUMNS
    assert f"step {step} of {steps}, loss " in text
