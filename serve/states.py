"""The life of a server as one table: a state and what happened in, the next state out. Everything else follows it.

What a state does not know is a bug of ours and raises. README's drawing is made of the table. Starts and stops nothing.
"""

from collections.abc import Callable
from enum import StrEnum

Tell = Callable[["State", str], None]


class State(StrEnum):
    """What `/livez`, `/readyz` and the terminal call it."""

    STARTING = "starting"  # the engine loads and is proven; everyone else hears 503
    READY = "ready"  # the engine answers everyone
    RELOADING = "reloading"  # so it does, while another loads and is proven beside it
    HUNG = "hung"  # nothing moved for too long: the engine is being ended
    RESTARTING = "restarting"  # no engine runs; the next start is being waited for
    DRAINING = "draining"  # told to stop: what is under way may finish
    STOPPED = "stopped"
    FAILED = "failed"


class Event(StrEnum):
    """What can happen to a server."""

    PROVEN = "proven"
    RELOAD = "reload"
    TAKEN = "taken"
    KEPT = "kept"
    SWAP = "swap"
    STALLED = "stalled"
    ENDED = "ended"
    HOPELESS = "hopeless"
    RETRY = "retry"
    STOP = "stop"
    GONE = "gone"


MEANING = {
    Event.PROVEN: "the engine answers as the checkpoint should, and its door is open",
    Event.RELOAD: "`serve reload` names another checkpoint",
    Event.TAKEN: "its engine is proven, and new connections are that one's",
    Event.KEPT: "it cannot be served: nothing changes",
    Event.SWAP: "memory does not hold both: one drains, then the other loads, and should that fail, the one before",
    Event.STALLED: "no step and no answer for `hang_after` seconds",
    Event.ENDED: "the engine died, was ended for hanging, or did not come up again",
    Event.HOPELESS: "it never came up, its cause cannot heal, or all tries are used",
    Event.RETRY: "the pause before the next try is over",
    Event.STOP: "SIGTERM or Ctrl-C",
    Event.GONE: "no process of the engine is left",
}

TABLE: dict[State, dict[Event, State]] = {
    State.STARTING: {
        Event.PROVEN: State.READY,
        Event.ENDED: State.RESTARTING,
        Event.HOPELESS: State.FAILED,
        Event.STOP: State.DRAINING,
    },
    State.READY: {
        Event.RELOAD: State.RELOADING,
        Event.STALLED: State.HUNG,
        Event.ENDED: State.RESTARTING,
        Event.HOPELESS: State.FAILED,
        Event.STOP: State.DRAINING,
    },
    State.RELOADING: {
        Event.TAKEN: State.READY,
        Event.KEPT: State.READY,
        Event.SWAP: State.STARTING,
        Event.STALLED: State.HUNG,
        Event.ENDED: State.RESTARTING,
        Event.HOPELESS: State.FAILED,
        Event.STOP: State.DRAINING,
    },
    State.HUNG: {Event.ENDED: State.RESTARTING, Event.HOPELESS: State.FAILED, Event.STOP: State.DRAINING},
    State.RESTARTING: {Event.RETRY: State.STARTING, Event.STOP: State.STOPPED},
    State.DRAINING: {Event.GONE: State.STOPPED},
    State.STOPPED: {},
    State.FAILED: {},
}


class Life:
    """Where one server is in the table. `tell` hears each new state, and what happened in words."""

    def __init__(self, tell: Tell) -> None:
        self.state = State.STARTING
        self._tell = tell

    def on(self, event: Event, words: str = "") -> None:
        """Go where the table says. An event that the state does not know raises LookupError: a bug of ours."""
        known = TABLE[self.state]
        if event not in known:
            raise LookupError(f"a server that is {self.state} knows no {event}")
        self.state = known[event]
        self._tell(self.state, words)


def drawn() -> str:
    """The table as Markdown: a row a state, its events and where they lead; then what each event means."""
    rows = ["| state | leads to |", "| --- | --- |"]
    for state, known in TABLE.items():
        leads = ", ".join(f"{event} → {after}" for event, after in known.items())
        rows.append(f"| {state} | {leads or 'the end'} |")
    return "\n".join([*rows, "", *(f"- {event}: {words}" for event, words in MEANING.items())]) + "\n"
