"""Report in, the one step after an INCONCLUSIVE or a stopped run out: more of which questions, if they can be had."""

import re
from collections.abc import Iterator, Sequence

from evalsuite.judging.checks import Check
from evalsuite.judging.limits import WORDS
from evalsuite.packs.general import general
from evalsuite.questions import Split
from evalsuite.report import Report
from tune.evaluate import GENERAL, OWN, Evaluate
from tune.terminal import one_line

NEEDED = re.compile(r"would need about (\d+) (?:general )?questions")
MORE = re.compile(r"about (\d+) more questions would show it")
MODULES = "questions about more modules would show it"
LACKING = "ask more questions"  # said without a number
GUESSED = "ask questions that base can answer"
AGAINST = ("so the loss seen speaks against tuned", ": beyond the margin of ")  # the second without a number, too
AGAIN = "then evalsuite questions and evalsuite compare"


def step(made: Report) -> str:
    """`next: ...`, or "" where no step helps that is not in a reason: a limit that lacks something else says what."""
    if made.stopped:
        return "next: tune another; evalsuite compare --no-stop-early asks the rest, for its figures alone"
    if made.verdict.outcome != "INCONCLUSIVE":
        return ""
    undecided = [c for c in made.verdict.checks if c.outcome == "INCONCLUSIVE"]
    more = [*_held_out(made, undecided), *_taught(made, undecided), *_general(made, undecided)]
    if more:
        return f"next: {' and '.join(more)}, {AGAIN}"
    if any(GUESSED in c.reason for c in undecided if c.name == "accuracy"):
        return f"next: train longer, or ask what base can answer (modules and book in [evaluate]), {AGAIN}"
    if any(words in c.reason for c in undecided for words in AGAINST):
        return "next: tune otherwise ([train] of the recipe), then tune train: more questions would hardly help"
    return ""


def _held_out(made: Report, undecided: Sequence[Check]) -> Iterator[str]:
    short = [c for c in undecided if c.name in ("accuracy", "answering", *WORDS)]
    have, wanted = _asked(made, "held-out"), made.questions_made.get("questions")
    least = [have + int(found[1]) for c in short if (found := MORE.search(c.reason))]
    least += [int(found[1]) for c in short if (found := NEEDED.search(c.reason))]
    some, modules = (any(words in c.reason for c in short) for words in (LACKING, MODULES))
    if not (least or some or modules):
        return
    needed = f"about {max(least)} are needed" if least else ""
    generated = have - made.questions_code
    if own := made.questions_made.get(OWN):
        yield f"add questions to {one_line(str(own), 80)}{_because(f'{have} held-out ones are there', needed)}"
    elif isinstance(wanted, int) and generated < wanted:
        gave = f"these gave {generated} questions of {wanted}"
        yield f"name more modules in [evaluate] of the recipe{_because(gave, needed)}"
    elif modules and not (least or some):
        yield "name more modules in [evaluate] of the recipe"
    else:
        to = f" to about {max(least) - made.questions_code}" if least else ""
        yield f"raise questions{to} in [evaluate] of the recipe"


def _taught(made: Report, undecided: Sequence[Check]) -> Iterator[str]:
    """What a gain may be shown on: taught questions, or open-book ones, which come with the held-out ones."""
    if not any(c.name == "gain" for c in undecided):
        return
    have, wanted = _asked(made, "taught"), made.questions_made.get("taught")
    if own := made.questions_made.get(OWN):
        yield f"add taught questions to {one_line(str(own), 80)}"
    elif isinstance(wanted, int) and have < wanted:
        yield f"collect more pages to ask about (these gave {have} taught questions of {wanted})"
    elif have:
        yield "raise taught in [evaluate] of the recipe"
    else:
        yield "raise questions or taught in [evaluate] of the recipe"


def _general(made: Report, undecided: Sequence[Check]) -> Iterator[str]:
    short = [c.reason for c in undecided if c.name == "forgetting"]
    least = max((int(found[1]) for each in short if (found := NEEDED.search(each))), default=0)
    if not least:
        yield from ["raise general in [evaluate] of the recipe"] * any(LACKING in each for each in short)
        return
    seed, own = made.questions_made.get("seed", 0), made.questions_made.get(OWN)
    asked = Evaluate(general=least, seed=seed if isinstance(seed, int) else 0)
    most = len(general(asked))
    if most >= least:
        yield f"raise general to about {least} in [evaluate] of the recipe"
        return
    lack = _because(f"the templates give {most} general questions", f"about {least} are needed")
    if own:
        yield f"add some of split {GENERAL} to {one_line(str(own), 80)}{lack}"
    else:
        yield f"widen forgetting_margin, or tune so that less is forgotten{lack}"


def _asked(made: Report, split: Split) -> int:
    return max((c.asked for c in made.of(split)), default=0)


def _because(there: str, needed: str) -> str:
    return f" ({there}{', and ' * bool(needed)}{needed})"
