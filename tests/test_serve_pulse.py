"""When an engine is taken for hung: by the time it is told, and by what a server of ours answers."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.pulse import LONGER, LOOKS, STEPS, Stillness, Used, _steps

PATIENCE = 24.0
STEP = PATIENCE / LOOKS


def watched(looks):
    """What is thought after looks of (steps, server's share, the share of those below, canary answered)."""
    still, now, used = Stillness(PATIENCE), 0.0, Used(0, 0)
    for steps, server, below, answered in looks:
        now += STEP
        used = Used(used.server + server * STEP, used.below + below * STEP)
        still.look(now, steps, used, answered=answered)
    return still


def test_an_engine_that_makes_no_step_hangs_after_the_patience_and_not_before():
    quiet = [(5.0, 0.02, 0.0, False)]
    assert watched(quiet * LOOKS).why == ""
    assert watched(quiet * (LOOKS + 1)).why == "the engine makes no step for 24 s"


def test_a_server_whose_process_is_stopped_is_told_apart():
    looks = [(5.0, 0.02, 0.0, False), *[(None, 0.0, 0.0, False)] * LOOKS]
    assert watched(looks).why == "the server's process does not answer for 24 s"


def test_a_long_prefill_is_no_hang_until_it_is_absurd():
    computes = [(5.0, 0.02, 0.9, False)]
    assert watched(computes * LOOKS * 9).why == ""
    assert watched(computes * (LOOKS * LONGER + 1)).why == "the engine makes no step for 240 s, though it computes"


def test_clients_that_keep_the_server_busy_hide_no_core_that_hangs():
    assert watched([(5.0, 1.0, 0.0, False)] * (LOOKS + 1)).why
    assert not watched([(5.0, 0, 0, False), *[(None, 1.0, 0.0, False)] * LOOKS]).why  # a tokeniser that takes long


def test_an_idle_engine_is_asked_after_a_third_and_its_answer_counts():
    quiet = [(5.0, 0.0, 0.0, False)]
    assert not watched(quiet * (LOOKS // 3)).asks
    assert watched(quiet * (LOOKS // 3 + 1)).asks
    answered = watched([*quiet * LOOKS, (5.0, 0.0, 0.0, True)])
    assert (answered.still, answered.asks, answered.why) == (0, False, "")


def test_time_in_which_the_watcher_was_stopped_is_nobodys_fault():
    still = Stillness(PATIENCE)
    still.look(0, 5.0, Used(0, 0), answered=False)
    still.look(3600, 5.0, Used(0, 0), answered=False)
    assert still.why == ""


LOOK = st.tuples(st.sampled_from([None, 5.0]), st.floats(0, 2), st.floats(0, 8), st.just(False))


@given(st.lists(LOOK, max_size=40), st.booleans())
def test_whatever_was_before_a_step_or_an_answer_starts_it_anew(before, step):
    still = watched([*before, (9.0, 0, 0, False) if step else (None, 0, 0, True)])
    assert (still.still, still.idle, still.why) == (0, 0, "")


@given(st.lists(LOOK, min_size=2, max_size=60))
def test_nothing_is_taken_for_hung_before_its_time(looks):
    still = watched(looks)
    assert still.idle <= still.still + 1e-9 <= len(looks) * STEP + 1e-9
    assert bool(still.why) == (still.idle >= PATIENCE or still.still >= LONGER * PATIENCE)
    if len(looks) <= LOOKS:
        assert still.why == ""


@pytest.mark.parametrize("steps", [None, 5.0])
def test_the_first_look_says_nothing(steps):
    assert watched([(steps, 0, 0, False)]).still == 0


def test_a_chunk_of_a_prefill_is_a_step_though_it_gives_nobody_a_token():
    used = 0.125

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params.get_list("name[]") == list(STEPS)
        text = f"# HELP {STEPS[0]} x\n{STEPS[0]}{{engine='0'}} 7.0\n{STEPS[1]}{{engine='0'}} {used}\n"
        return httpx.Response(200, text=text)

    with httpx.Client(base_url="http://engine", transport=httpx.MockTransport(answer)) as http:
        before = _steps(http, 1)
        used = 0.25
        assert _steps(http, 1) != before
    assert _steps(http, 1) is None  # closed, as at a stop
