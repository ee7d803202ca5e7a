"""Held-out figures of one effort in, the two checks of non-inferiority out: right answers, and readable ones."""

from typing import Literal

from evalsuite.judging import statistics
from evalsuite.judging.comparison import Claim, Comparison
from evalsuite.judging.notation import confidence, percent, points, stated
from evalsuite.judging.paired import Difference, Part
from evalsuite.judging.policy import Policy
from tune.harmony import Effort

Result = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]


class Check(Part):
    """One claim at one effort. `accuracy`: right answers; `answering`: answers that could be read at all; `gain`:
    tuned is better at what it was taught, or at reading."""

    effort: Effort
    name: Literal["accuracy", "answering", "gain"]
    outcome: Result
    reason: str


def only_guesses(c: Comparison) -> bool:
    """Of no kind is base shown to beat blind guessing by more than the margin, so being within it shows nothing."""
    return c.known is None


def accuracy(c: Comparison, policy: Policy) -> Check:
    """Not worse where base does more than guess; where there is nothing of the kind, better over all.

    What is left out is not out of sight: a loss over all questions that is shown to be more than the margin fails. And
    what is kept is where base was lucky (judging/kinds.py), so a loss there fails only if all questions show one too.
    """
    if only_guesses(c):
        return _better(c, policy)
    claim, whole = c.claims[0], c.difference
    if claim.without and whole.upper < -policy.margin:
        words = f"{c.effort}, right answers of all kinds, those at which base only guesses too"
        why = f"tuned is worse by more than the margin of {stated(policy.margin)}"
        reason = f"{words}: {points(whole.estimate)} points, and no higher than {points(whole.upper)}: {why}"
        return Check(effort=c.effort, name="accuracy", outcome="FAIL", reason=reason)
    check = _non_inferior(claim, policy)
    if check.outcome == "FAIL" and whole.upper >= 0:
        end = f"; over all questions, which were not chosen by what base got right, it may be {points(whole.upper)}"
        return check.model_copy(update={"outcome": "INCONCLUSIVE", "reason": check.reason + end})
    return check


def answering(c: Comparison, policy: Policy) -> Check:
    """Not fewer answers that can be read, of all questions."""
    return _non_inferior(c.claims[1], policy)


def _non_inferior(claim: Claim, policy: Policy) -> Check:
    d, margin, sure = claim.difference, stated(policy.margin), confidence(policy.alpha)
    unheard = f" ({claim.missing} of {claim.asked} are missing and count at their worst)" if claim.missing else ""
    without = f" without {', '.join(claim.without)} (base only guesses there)" if claim.without else ""
    figures = f"{claim.effort}, {claim.words}{without}: {points(d.estimate)} points{unheard}"
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
        needed = _needed(d, claim.asked, policy)
        end = f", but it may be as low as {points(d.lower)}, beyond the margin of {margin}; {needed}"
    return Check(effort=claim.effort, name=claim.name, outcome=outcome, reason=figures + end)


def _better(c: Comparison, policy: Policy) -> Check:
    margin = f"the margin of {stated(policy.margin)}"
    gets = f"base gets {percent(c.base.accuracy or 0.0)} where blind guessing gets {percent(c.guess)}"
    if c.base_above <= c.guess + policy.margin:
        shown, fix = f"so a model that knows nothing would be within {margin}", "ask questions that base can answer"
    else:
        shown = f"but of no kind of question is it shown to beat guessing by more than {margin}"
        fix = "ask more questions of a kind"
    change, chance = f"{points(c.difference.estimate)} points", f"p = {c.better_p:.2g}"
    outcome: Result
    if c.better_p <= policy.alpha:
        outcome, end = "PASS", f"but tuned is shown to be better ({change}, {chance})"
    elif c.difference.upper < 0:
        outcome, end = "FAIL", f"and tuned is shown to be worse ({change})"
    else:
        outcome, end = "INCONCLUSIVE", f"and tuned is not shown to be better ({change}, {chance}); {fix}"
    reason = f"{c.effort}, right answers: {gets}, {shown}; {end}"
    return Check(effort=c.effort, name="accuracy", outcome=outcome, reason=reason)


def _needed(difference: Difference, n: int, policy: Policy) -> str:
    """How many questions would decide, if the two are equal and flip as often as seen (at least once)."""
    psi = max(difference.discordance, 1 / n)
    needed = statistics.questions_needed(psi, policy.margin, policy.alpha, policy.power)
    if needed > n:
        return f"two equal models would need about {needed} questions to pass {policy.power:.0%} of the time, not {n}"
    return f"{n} questions would be enough for two equal models, so the loss seen speaks against tuned"
