"""Comparisons and a policy in, a verdict out. Pure: knows no file, no endpoint and no clock."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from evalsuite.judging import statistics
from evalsuite.judging.comparison import Claim, Comparison, Difference, Part
from evalsuite.judging.notation import confidence, percent, points, stated
from tune.harmony import Effort
from tune.recipe import Evaluate

Result = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
EXIT: dict[Result, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2, "INVALID": 3}


class Check(Part):
    """One claim at one effort. `accuracy`: right answers; `answering`: answers that could be read at all."""

    effort: Effort
    name: Literal["accuracy", "answering"]
    outcome: Result
    reason: str


class Verdict(Part):
    """What the gate decided, and why, a sentence a reason. `checks` is empty when INVALID: nothing was decided on."""

    outcome: Result
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID."""
        return EXIT[self.outcome]


class Policy(Part):
    """When a tuned model may be released."""

    margin: float = Field(default=0.05, gt=0, lt=1)  # how much worse it may be, in accuracy
    alpha: float = Field(default=0.05, gt=0, lt=0.5)  # one-sided chance of releasing one that is worse by the margin
    missing_cap: float = Field(default=0.02, ge=0, lt=1)  # share of questions without a score on both sides
    power: float = Field(default=0.8, gt=0.5, lt=1)  # for the number of questions that an INCONCLUSIVE names


class Judged(Part):
    """What a verdict holds for, of what a recipe's [evaluate] section may ask for otherwise."""

    efforts: tuple[Effort, ...]
    margin: float
    alpha: float
    max_tokens: int
    temperature: float
    modules: tuple[str, ...]  # that the questions are about


class Evidence(Part):
    """What shows that two arms answered the same questions, and are two arms. Ids are as the endpoints gave them."""

    base_models: tuple[str, ...]
    tuned_models: tuple[str, ...]
    base_digest: str = ""  # 16 hex characters of the weights that the arm's server says it serves; "" when it does not
    tuned_digest: str = ""
    questions_digest: str
    two_headers: bool = False  # both servers sent a digest with every reply: in an id it is no more than a name
    asked_digest: str  # of the set that the answers were collected with; equal to questions_digest when it is the same
    answers_digest: str = ""  # of the replies that count
    others: dict[str, int] = Field(default_factory=dict)  # why replies on file do not count, and how many
    effort_mismatches: int = 0  # replies whose server said it used another effort than the one asked for
    model_mismatches: int = 0  # replies that named another model, or another digest, than the arm's
    identical: bool = False  # every reply of one arm is the other's, word for word


def decide(comparisons: Sequence[Comparison], policy: Policy, evidence: Evidence) -> Verdict:
    """PASS only if tuned is shown not worse by the margin in every check (intersection-union: no correction needed).

    A check passes when the lower bound of the difference is above -margin. It fails when it does not pass and the
    upper bound is below 0: tuned is shown to be worse, and not shown to be worse by less than the margin. Else it is
    INCONCLUSIVE. One failed check fails the verdict; without one, an inconclusive check makes it INCONCLUSIVE.

    Where base is not shown to beat blind guessing by more than the margin, a model that knows nothing would pass, so
    there accuracy passes only if tuned is shown to be better than base (exact McNemar, one-sided, at alpha), and fails
    as soon as tuned is shown to be worse.
    """
    void = _void(comparisons, policy, evidence)
    if void:
        return Verdict(outcome="INVALID", reasons=tuple(void))
    checks = []
    for c in comparisons:
        accuracy, answering = c.claims
        checks.append(_accuracy_blind(c, policy) if only_guesses(c, policy) else _non_inferior(c, accuracy, policy))
        checks.append(_non_inferior(c, answering, policy))
    for outcome in ("FAIL", "INCONCLUSIVE"):
        against = [c for c in checks if c.outcome == outcome]
        if against:
            return Verdict(outcome=outcome, reasons=tuple(c.reason for c in against), checks=tuple(checks))
    return Verdict(outcome="PASS", reasons=tuple(c.reason for c in checks), checks=tuple(checks))


def only_guesses(c: Comparison, policy: Policy) -> bool:
    """Base is not shown to beat blind guessing by more than the margin, so being within the margin shows nothing."""
    return c.base_above <= c.guess + policy.margin


def worst(comparisons: Sequence[Comparison]) -> Claim | None:
    """The claim whose lower bound is lowest: how bad tuned may be in what the gate looks at. None without pairs."""
    claims = [claim for c in comparisons if c.paired for claim in c.claims]
    return min(claims, key=lambda claim: claim.difference.lower, default=None)


def weaker(judged: Judged, asked: Evaluate) -> list[str]:
    """Where a verdict is not the one that a recipe asks for: less strict, on other requests or about other modules."""
    out = [
        f"{name} {getattr(judged, name):g}, and the recipe has {getattr(asked, name):g}"
        for name in ("margin", "alpha")
        if getattr(judged, name) > getattr(asked, name)
    ]
    out += [
        f"{name} {getattr(judged, name):g}, and the recipe has {getattr(asked, name):g}"
        for name in ("max_tokens", "temperature")
        if getattr(judged, name) != getattr(asked, name)
    ]
    if asked.modules and (others := sorted(set(judged.modules) - set(asked.modules))):
        shown = ", ".join(name or "no module" for name in others[:5]) + (", …" if others[5:] else "")
        out.append(f"questions about {shown}, and the recipe's modules are {', '.join(asked.modules)}")
    return out


def _void(comparisons: Sequence[Comparison], policy: Policy, evidence: Evidence) -> list[str]:
    out = []
    if not any(c.asked for c in comparisons):
        out.append("no question was asked")
    if evidence.asked_digest != evidence.questions_digest:
        out.append(
            f"the answers belong to question set {evidence.asked_digest[:16]}, not to {evidence.questions_digest[:16]}"
        )
    for arm, models in (("base", evidence.base_models), ("tuned", evidence.tuned_models)):
        if len(models) > 1:
            out.append(f"the {arm} arm was answered by more than one model: {', '.join(models)}")
    both = sorted(set(evidence.base_models) & set(evidence.tuned_models))
    if both:
        out.append(f"base and tuned are the same model: {', '.join(both)}")
    if evidence.base_digest and evidence.base_digest == evidence.tuned_digest:
        out.append(f"base and tuned are the same checkpoint: {evidence.base_digest}")
    elif evidence.identical and not evidence.two_headers:
        out.append(
            "every reply of base is that of tuned, word for word, and their servers do not both send a digest, "
            "which would show two models"
        )
    if evidence.effort_mismatches:
        out.append(f"{evidence.effort_mismatches} replies were made at another effort than the one asked for")
    if evidence.model_mismatches:
        out.append(f"{evidence.model_mismatches} replies came from another model than the one asked for")
    for c in comparisons:
        if c.asked and c.missing / c.asked > policy.missing_cap:
            out.append(
                f"{c.effort}: {c.missing} of {c.asked} questions lack a score on either side, more than "
                f"{stated(policy.missing_cap)} % (errors: base {c.base.outcomes['error']}, tuned "
                f"{c.tuned.outcomes['error']}; never asked: base {c.base.absent}, tuned {c.tuned.absent})"
            )
    return out


def _non_inferior(c: Comparison, claim: Claim, policy: Policy) -> Check:
    d, margin, sure = claim.difference, stated(policy.margin), confidence(policy.alpha)
    unheard = f" ({c.missing} of {c.asked} are missing and count at their worst)" if c.missing else ""
    figures = f"{c.effort}, {claim.words}: {points(d.estimate)} points{unheard}"
    outcome: Result
    if d.lower > -policy.margin:
        outcome = "PASS"
        end = f", and with {sure} confidence no lower than {points(d.lower)}: within the margin of {margin}"
        end += "; a real loss, but one that the margin allows" if d.upper < 0 else ""
    elif d.upper < 0:
        outcome = "FAIL"
        end = (
            f", and with {sure} confidence no higher than {points(d.upper)}: tuned is worse, "
            f"perhaps by as much as {points(-d.lower).lstrip('+')} (margin {margin})"
        )
    else:
        outcome = "INCONCLUSIVE"
        end = (
            f", but it may be as low as {points(d.lower)}, beyond the margin of {margin}; {_needed(d, c.asked, policy)}"
        )
    return Check(effort=c.effort, name=claim.name, outcome=outcome, reason=figures + end)


def _accuracy_blind(c: Comparison, policy: Policy) -> Check:
    start = (
        f"{c.effort}, right answers: base gets {percent(c.base.accuracy or 0.0)} where blind guessing gets "
        f"{percent(c.guess)}, so a model that knows nothing would be within the margin of {stated(policy.margin)}"
    )
    change, chance = f"{points(c.difference.estimate)} points", f"p = {c.better_p:.2g}"
    outcome: Result
    if c.better_p <= policy.alpha:
        outcome, end = "PASS", f"but tuned is shown to be better ({change}, {chance})"
    elif c.difference.upper < 0:
        outcome, end = "FAIL", f"and tuned is shown to be worse ({change})"
    else:
        outcome = "INCONCLUSIVE"
        end = f"and tuned is not shown to be better ({change}, {chance}); ask questions that base can answer"
    return Check(effort=c.effort, name="accuracy", outcome=outcome, reason=f"{start}; {end}")


def _needed(difference: Difference, n: int, policy: Policy) -> str:
    """How many questions would decide, if the two are equal and flip as often as seen (at least once)."""
    psi = max(difference.discordance, 1 / n)
    needed = statistics.questions_needed(psi, policy.margin, policy.alpha, policy.power)
    if needed > n:
        return f"two equal models would need about {needed} questions to pass {policy.power:.0%} of the time, not {n}"
    return f"{n} questions would be enough for two equal models, so the loss seen speaks against tuned"
