"""What a comparison will take and can show, before anything is asked: [evaluate] in, requests, tokens and power out.

Knows no endpoint and no question set.
"""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.judging import policy as policies
from evalsuite.judging import power
from evalsuite.judging.notation import stated
from evalsuite.judging.policy import Policy
from evalsuite.judging.power import Planned
from evalsuite.packs.general import FAMILIES
from evalsuite.packs.tutorial import TUTORIAL
from tune.evaluate import Evaluate, tokens_at
from tune.section import EffortName

FLIPS = (0.02, 0.05, 0.1, 0.2)  # shares of the answers that differ in worth between two models, little tuned to much
CLAIMS = 2  # of every effort: right answers, and readable ones; and one more where general questions are asked


class Row(NamedTuple):
    """At a share of flips: how often two equal models pass the whole gate, and the questions with which they do as
    often as the policy's power says. Of K repeats: if flips are chance, of whose variance they leave one part in K."""

    flips: float
    power: float
    needed: int


class Plan(BaseModel):
    """Held-out questions and all that follows from their number. `tokens` are generated ones, at most. `code`: more
    held-out ones, beside `questions`."""

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
    rows: tuple[Row, ...]


def plan(asked: Evaluate) -> Plan:
    """Equal models are planned for: one that is worse should not pass, and one that is better passes more often."""
    policy = policies.of(asked)
    advice = len(TUTORIAL) if asked.tutorial else 0
    judged = asked.questions + asked.code + asked.taught + asked.general
    each = 2 * (judged * asked.repeats + advice)  # both arms
    return Plan(
        questions=asked.questions,
        taught=asked.taught,
        general=asked.general,
        advice=advice,
        code=asked.code,
        efforts=tuple(asked.efforts),
        margin=asked.margin,
        alpha=asked.alpha,
        target=policy.power,
        repeats=asked.repeats,
        requests=each * len(asked.efforts),
        tokens=each * sum(tokens_at(asked.max_tokens, effort) for effort in asked.efforts),
        rows=tuple(_row(asked, flips, policy) for flips in FLIPS),
    )


def words(made: Plan) -> str:
    """As the terminal shows it."""
    claims, held = (CLAIMS + bool(made.general)) * len(made.efforts), made.questions + made.code
    each = f", {made.repeats} answers each" if made.repeats > 1 else ""
    general = f", {made.general} general" if made.general else ""
    code = f" and {made.code} code" if made.code else ""
    advice = f", and {made.advice} free-text ones that decide nothing" if made.advice else ""
    lines = [
        f"{made.questions}{code} held-out questions{general} and {made.taught} taught ones{advice}{each}, asked of base"
        f" and tuned at {', '.join(made.efforts)}: {made.requests:,} requests, at most {made.tokens:,} tokens",
        f"margin {stated(made.margin)} points, alpha {made.alpha:g};"
        f" chance that two equal models pass all {claims} checks:",
        *(["the last column says how many of each, held-out and general"] if made.general else []),
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
    return "\n".join(lines)


def _row(asked: Evaluate, flips: float, policy: Policy) -> Row:
    efforts, n, noise = len(asked.efforts), asked.questions + asked.code, flips / asked.repeats
    held = [Planned(noise, modules=max(1, len(asked.modules)))] * efforts * CLAIMS
    templates = sum(map(len, FAMILIES.values()))
    general = [Planned(noise, modules=templates, split="general")] * efforts if asked.general else []
    so_many = [one._replace(share=asked.general / n) for one in general]
    return Row(flips, power.gate(n, [*held, *so_many], policy), power.needed([*held, *general], policy))
