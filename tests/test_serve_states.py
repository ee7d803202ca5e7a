"""The table of states: each transition, and that nothing else is one. README shows it as it is."""

import os
from itertools import product
from pathlib import Path

import pytest

from serve.states import MEANING, TABLE, Event, Life, State, drawn

README = Path(__file__).parent.parent / "README.md"
TRANSITIONS = """
    starting proven ready | starting ended restarting | starting hopeless failed | starting stop draining
    ready stalled hung | ready ended restarting | ready hopeless failed | ready stop draining
    ready reload reloading | reloading taken ready | reloading kept ready | reloading swap starting
    reloading stalled hung | reloading ended restarting | reloading hopeless failed | reloading stop draining
    hung ended restarting | hung hopeless failed | hung stop draining
    restarting retry starting | restarting stop stopped
    draining gone stopped
"""
KNOWN = {
    tuple(words.split()[:2]): words.split()[2] for words in TRANSITIONS.replace("\n", "|").split("|") if words.split()
}


def arrived(state):
    said = []
    life = Life(lambda *told: said.append(told))
    life.state = state
    return life, said


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_an_event_leads_where_it_should_or_is_a_bug(state, event):
    life, said = arrived(state)
    if (state, event) in KNOWN:
        life.on(event, "since so")
        assert life.state == KNOWN[state, event]
        assert said == [(life.state, "since so")]
    else:
        with pytest.raises(LookupError, match=f"{state} knows no {event}"):
            life.on(event)
        assert (life.state, said) == (state, [])


def test_every_state_is_reached_and_all_but_the_last_are_left():
    assert set(TABLE) == set(State)
    assert {after for known in TABLE.values() for after in known.values()} == set(State)
    assert {state for state, known in TABLE.items() if not known} == {State.STOPPED, State.FAILED}
    assert set(MEANING) == set(Event) == {event for known in TABLE.values() for event in known}


def test_readme_draws_the_table():
    before, _, rest = README.read_text().partition("<!-- states -->\n")
    _, mark, after = rest.partition("<!-- /states -->")
    assert mark, "README has no states"
    if os.environ.get("GOLDEN") == "write":
        README.write_text(f"{before}<!-- states -->\n{drawn()}{mark}{after}")
    assert f"<!-- states -->\n{drawn()}{mark}" in README.read_text()
