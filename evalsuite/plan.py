"""What a comparison will take and can show, before anything is asked: [evaluate] in, requests, tokens and power out.

Knows no endpoint and no file: of questions that are there already it is given those.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.judging import gain, kinds, power
from evalsuite.judging import policy as policies
from evalsuite.judging.limits import WORDS
from evalsuite.judging.measured import OUTCOMES
from evalsuite.judging.notation import stated
from evalsuite.judging.policy import Policy
from evalsuite.judging.power import Limited, Planned
from evalsuite.judging.steering import HALF
from evalsuite.packs.general import FAMILIES
from evalsuite.packs.tutorial import TUTORIAL
from evalsuite.questions import Question
from evalsuite.report import in_order
from tune.evaluate import Evaluate, tokens_at
from tune.harmony import EFFORTS
from tune.section import EffortName

FLIPS = (0.02, 0.05, 0.1, 0.2)  # shares of the answers that differ in worth between two models, little tuned to much
CLAIMS = 2  # of every effort: right answers, and readable ones; and one more where general questions are asked
# What is expected of two equal models where a limit is set: nothing is known of them yet, and it is said.
SPARED = 0.25  # of what a limit of replies allows, how much there is
LONGER = 0.75  # of the questions, on how many a higher effort reasons longer
EQUAL = "a gain is required, so two equal models are not to pass: by chance they do"
GAINS = (0.05, 0.1, 0.2)  # of a tuned model that is better on the questions that a gain may be shown on


class Row(NamedTuple):
    """At a share of flips: how often two equal models pass the whole gate, but for a gain that is required, and the
    questions with which they do as often as the policy's power says. Of K repeats: if flips are chance, of whose
    variance they leave one part in K."""

    flips: float
    power: float
    needed: int


class Gain(NamedTuple):
    """Where a gain is required: how often the whole gate passes a tuned model that is better by each of GAINS on the
    questions of one way to show it, and equal in all else; and the gain that is shown at every effort, whatever the
    other checks say, as often as the policy's power says, None for none."""

    about: str
    questions: int
    flips: float
    chances: tuple[float, ...]
    shown: float | None


class Plan(BaseModel):
    """Held-out questions and all that follows from their number. `tokens` are generated ones, at most. `code`: more
    held-out ones, beside `questions`. `checks` are those that `rows` are about, `left_out` limits that nothing
    foresees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int
    taught: int
    general: int
    advice: int = Field(default=0, exclude_if=lambda n: not n)  # free-text questions, which decide nothing
    code: int = Field(default=0, exclude_if=lambda code: not code)
    efforts: tuple[EffortName, ...]
    margin: float
    alpha: float
    target: float
    repeats: int = Field(default=1, exclude_if=lambda count: count == 1)
    requests: int
    tokens: int
    checks: int
    expected: tuple[str, ...] = ()  # of the limits among them
    left_out: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    require_gain: bool = Field(default=False, exclude_if=lambda required: not required)
    gains: tuple[Gain, ...] = Field(default=(), exclude_if=lambda gains: not gains)


class _Asked(NamedTuple):
    """How many questions there will be of what, and about how many modules; 1 where they are not known."""

    held_out: int
    taught: int
    general: int
    advice: int
    open_book: int
    modules: int
    taught_modules: int = 1
    each: float = 0.0  # questions about a module, where more of them would be about more modules
    code: int = 0  # of the held-out ones, those whose answers are code


def plan(asked: Evaluate, own: Sequence[Question] | None = None, made: Sequence[Question] | None = None) -> Plan:
    """Equal models are planned for: one that is worse should not pass, and one that is better passes more often.
    `own`: the questions of questions_file and what is asked beside them. `made`: those that were generated already."""
    policy, efforts = policies.of(asked), tuple(in_order(asked.efforts))
    if made is not None:
        there = _found(made, 0)
    elif own is not None:  # a file that has fewer held-out questions than the recipe wants is not finished
        there = _found(own, asked.questions if "questions" in asked.model_fields_set else 1)
    else:
        there = _generated(asked)
    judged = there.held_out + there.taught + there.general
    each = 2 * (judged * asked.repeats + there.advice)  # both arms
    limits, gated = list(_limits(policy, efforts, there)), policy.limits
    rows = [_row(there, len(efforts), limits, flips, flips / asked.repeats, policy) for flips in FLIPS]
    better = (g for row in rows for g in _gains(there, len(efforts), limits, row, row.flips / asked.repeats, policy))
    rates = [name for name in OUTCOMES if getattr(gated, name) is not None]
    spared = f"{', '.join(WORDS[name] for name in rates)}: {SPARED:.0%} of what the limit allows"
    longer = f"reasoning: longer at the higher effort on {LONGER:.0%} of the questions"
    steered = any(limit.steering for limit in limits)
    return Plan(
        questions=there.held_out - there.code,
        taught=there.taught,
        general=there.general,
        advice=there.advice,
        code=there.code,
        efforts=efforts,
        margin=asked.margin,
        alpha=asked.alpha,
        target=policy.power,
        repeats=asked.repeats,
        requests=each * len(efforts),
        tokens=each * sum(tokens_at(asked.max_tokens, effort) for effort in efforts),
        checks=(CLAIMS + bool(there.general)) * len(efforts) + len(limits),
        expected=(*([spared] if rates else []), *([longer] if steered else [])),
        left_out=tuple(name for name, limit in gated if name not in ("steering", *OUTCOMES) and limit is not None),
        rows=tuple(rows),
        require_gain=asked.require_gain,
        gains=tuple(better) if asked.require_gain else (),
    )


def words(made: Plan) -> str:
    """As the terminal shows it."""
    held = made.questions + made.code
    each = f", {made.repeats} answers each" if made.repeats > 1 else ""
    general = f", {made.general} general" if made.general else ""
    code = f" and {made.code} code" if made.code else ""
    advice = f", and {made.advice} free-text ones that decide nothing" if made.advice else ""
    checks = f"the other {made.checks}" if made.require_gain else f"all {made.checks}"
    lines = [
        f"{made.questions}{code} held-out questions{general} and {made.taught} taught ones{advice}{each}, asked of base"
        f" and tuned at {', '.join(made.efforts)}: {made.requests:,} requests, at most {made.tokens:,} tokens",
        *([f"{EQUAL}, at most {made.alpha:.2g} of the time"] if made.require_gain else []),
        f"margin {stated(made.margin)} points, alpha {made.alpha:g};"
        f" chance that two equal models pass {checks} checks:",
        *(["the last column says how many of each, held-out and general"] if made.general else []),
        *(f"expected of {line}" for line in made.expected),
        *([f"not foreseen, and left out: {', '.join(made.left_out)}"] if made.left_out else []),
        *(
            [
                f"where answers flip by chance alone, of which {made.repeats} answers show the mean; "
                "where tuned has changed what it knows, repeats = 1 shows as much"
            ]
            if made.repeats > 1
            else []
        ),
        "",
        f"answers that flip   with {held} questions   questions for {made.target:.0%}",
        *(f"{row.flips:>17.0%}   {row.power:>{15 + len(str(held))}.0%}   {row.needed:>17,}" for row in made.rows),
    ]
    return "\n".join([*lines, *_gained(made)])


def _gained(made: Plan) -> Iterator[str]:
    if made.require_gain and not made.gains:
        yield f"\nevery report will be INVALID: {gain.LACKING}"
    for way in dict.fromkeys(row.about for row in made.gains):
        mine = [row for row in made.gains if row.about == way]
        yield f"\nchance that the whole gate passes a tuned model that is better on the {mine[0].questions} {way} by so"
        yield "many points, and equal in all else; and the gain that is shown at every effort, whatever else is\n"
        points = "".join(f"{f'+{stated(size)} points':>13}" for size in GAINS)
        yield f"answers that flip{points}   shown {made.target:.0%} of the time"
        for row in mine:
            shown = "none" if row.shown is None else f"+{stated(row.shown)} points"
            yield f"{row.flips:>17.0%}{''.join(f'{chance:>13.0%}' for chance in row.chances)}   {shown:>21}"


def _generated(asked: Evaluate) -> _Asked:
    """Closed- and open-book questions take turns. Which pages are taught, and how many, is not known here."""
    modules = max(1, len(set(asked.modules)))
    opened = {"closed": 0, "both": asked.questions // 2, "open": asked.questions}[asked.book]
    advice = len(TUTORIAL) if asked.tutorial else 0
    held_out = asked.questions + asked.code
    return _Asked(held_out, asked.taught, asked.general, advice, opened, modules, code=asked.code)


def _found(questions: Sequence[Question], least: int) -> _Asked:
    """What is there; of held-out ones `least` at least."""
    splits = ("held-out", "taught", "general", "advice")
    by_split = {split: [q for q in questions if q.split == split] for split in splits}
    held_out, taught, general, advice = by_split.values()
    opened = [q for q in held_out if q.kind.startswith(kinds.OPEN_BOOK)]
    return _Asked(
        max(len(held_out), least),
        len(taught),
        len(general),
        len(advice),
        len(opened),
        modules := len({q.module for q in held_out}) or 1,
        len({q.module for q in taught}) or 1,
        len(held_out) / modules,
        sum(q.is_code for q in held_out),
    )


def _limits(policy: Policy, efforts: Sequence[EffortName], there: _Asked) -> Iterator[Limited]:
    """Of shares of the replies, and of steering: what can be said before there are any."""
    for name in OUTCOMES:
        if (limit := getattr(policy.limits, name)) is not None:
            yield from [Limited(limit * SPARED, limit, there.modules, there.each)] * len(efforts)
    steps = sum(effort in EFFORTS for effort in efforts) - 1
    if policy.limits.steering:
        yield from [Limited(1 - LONGER, HALF, there.modules, there.each, steering=True)] * steps


def _row(there: _Asked, efforts: int, limits: Sequence[Limited], flips: float, noise: float, policy: Policy) -> Row:
    held, general, so_many = _claims(there, efforts, noise)
    return Row(
        flips,
        power.gate(there.held_out, [*held * CLAIMS, *so_many], policy, limits),
        power.needed([*held * CLAIMS, *general], policy, limits),
    )


def _claims(there: _Asked, efforts: int, noise: float) -> tuple[list[Planned], list[Planned], list[Planned]]:
    """One of held-out questions at every effort, and of general ones: of as many, and of those that there are."""
    templates, n = sum(map(len, FAMILIES.values())), there.general
    general = [Planned(noise, modules=templates, split="general")] * efforts if n else []
    so_many = [one._replace(share=n / there.held_out) for one in general]
    return [Planned(noise, modules=there.modules, each=there.each)] * efforts, general, so_many


def _gains(
    there: _Asked, efforts: int, limits: Sequence[Limited], row: Row, noise: float, policy: Policy
) -> Iterator[Gain]:
    """Better on taught questions: all else is as it is of equal models. On open-book ones: right answers are more."""
    most, n, modules, some = policy.alpha / gain.WAYS, there.held_out, there.modules, there.open_book
    if taught := there.taught:
        groups = there.taught_modules
        shown = [row.power * power.gains(taught, noise, size, most, groups) ** efforts for size in GAINS]
        least = power.least_gain(taught, noise, most, groups, efforts, policy.power)
        yield Gain(gain.TAUGHT, taught, row.flips, tuple(shown), least)
    if some:
        held, _, so_many = _claims(there, efforts, noise)
        others, at = power.gate(n, [*held, *so_many], policy, limits), (policy.margin, policy.alpha, most, modules)
        shown = [others * power.gains_on_some(n, some, noise, size, *at) ** efforts for size in GAINS]
        least = power.least_gain(some, noise, most, modules, efforts, policy.power)
        yield Gain(gain.OPEN, some, row.flips, tuple(shown), least)
