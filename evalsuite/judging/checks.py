"""Figures of one effort in, what they show of tuned out: right answers, and readable ones. Knows one effort.

Whether tuned is shown to be worse hangs on how many checks a gate looks at, so a finding says only what it shows by
itself: judging/gate.py decides over all of them.
"""

from typing import Literal, NamedTuple

from evalsuite.judging.comparison import Claim, Comparison
from evalsuite.judging.notation import confidence, percent, points, stated
from evalsuite.judging.paired import Difference, Part
from evalsuite.judging.policy import Policy
from tune.section import EffortName

Result = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Limited = Literal[  # the keys of [evaluate.limits]
    "steering", "empty", "truncated", "unparsed", "contamination", "memorisation", "first_answer_ms", "tokens_per_right"
]
Name = Literal["accuracy", "answering", "forgetting", "gain"] | Limited


class Check(Part):
    """One claim at one effort. `accuracy`: right answers; `answering`: answers that could be read at all;
    `forgetting`: right answers to general questions; `gain`: tuned is better at what it was taught, or at reading; the
    others: a limit of [evaluate.limits] is kept."""

    effort: EffortName | None  # None: it holds for all of them; of `steering` the higher of two
    name: Name
    outcome: Result
    reason: str


class Finding(NamedTuple):
    """One claim at one effort, before the gate has looked at all of them; and the reason to give, whatever follows."""

    effort: EffortName | None
    name: Name
    passes: bool  # at alpha, by itself: all have to
    worse_p: float  # one-sided: tuned is worse
    passed: str
    failed: str
    undecided: str
    sized: bool = False  # undecided, the number of questions that the gate needs belongs to the reason


def only_guesses(c: Comparison) -> bool:
    """Of no kind is base shown to beat blind guessing by more than the margin, so being within it shows nothing."""
    return c.known is None


def accuracy(c: Comparison, policy: Policy) -> Finding:
    """Not worse where base does more than guess; where there is nothing of the kind, better over all, than base and
    than guessing.

    What is left out is not out of sight: a loss over all questions that is shown to be more than the margin is no PASS.
    And what is kept is where base was lucky (judging/kinds.py), so whether tuned is worse is told by all questions.
    """
    if only_guesses(c):
        return _better(c, policy)
    claim, whole = c.claims[0], c.difference
    found = _non_inferior(claim, policy, of=f"{claim.asked} of {c.asked} questions")
    if not claim.without:
        return found
    words = f"{c.effort}, {claim.words} of all kinds, those at which base is not shown to do more than guess too"
    over = f"over all {c.asked} questions {points(whole.estimate)} points"
    undecided, failed = f"{found.undecided}; {over}", _worse(words, whole, policy)
    beyond = whole.upper < -policy.margin
    if claim.difference.upper < 0 and not beyond:
        failed = f"{found.failed}; {over}, p = {whole.worse_p:.2g}"
    if beyond:
        undecided = f"{words}: {points(whole.estimate)} points, and no higher than {points(whole.upper)}"
        undecided += f": beyond the margin of {stated(policy.margin)}"
    elif claim.difference.upper < 0 <= whole.upper:
        undecided += f", and, for these were not chosen by what base got right, perhaps {points(whole.upper)}"
    return found._replace(
        passes=found.passes and not beyond,
        worse_p=whole.worse_p,
        passed=f"{found.passed}; {over}",
        failed=failed,
        undecided=undecided,
        sized=not beyond,
    )


def forgetting(c: Comparison, policy: Policy) -> Finding:
    """The same of general questions, by their own margin."""
    return accuracy(c, policy.model_copy(update={"margin": policy.at("general")}))


def answering(c: Comparison, policy: Policy) -> Finding:
    """Not fewer answers that can be read, of all questions."""
    return _non_inferior(c.claims[1], policy)


def _non_inferior(claim: Claim, policy: Policy, of: str = "") -> Finding:
    """`of`: how many questions it is about, where not all."""
    d, margin, sure = claim.difference, stated(policy.margin), confidence(policy.alpha)
    unheard = f" ({claim.lacking.words} are missing and count at their worst)" if claim.lacking.missing else ""
    words = f"{claim.effort}, {claim.words}"
    if claim.without:
        words += f" without {', '.join(claim.without)} (base is not shown to do more than guess there), {of}"
    figures = f"{words}: {points(d.estimate)} points{unheard}"
    low = f"{points(d.lower)}{' (by module)' if d.by_module else ''}"
    passed = f"{figures}, and with {sure} confidence no lower than {low}: within the margin of {margin}"
    return Finding(
        effort=claim.effort,
        name=claim.name,
        passes=d.lower > -policy.margin,
        worse_p=d.worse_p,
        passed=passed + ("; a real loss, but one that the margin allows" if d.upper < 0 else ""),
        failed=_worse(words, d, policy, unheard),
        undecided=f"{figures}, but it may be as low as {low}, beyond the margin of {margin}",
        sized=True,
    )


def _worse(words: str, d: Difference, policy: Policy, unheard: str = "") -> str:
    margin, figures = stated(policy.margin), f"{words}: {points(d.estimate)} points{unheard}"
    if d.upper < -policy.margin:
        high = f"with {confidence(policy.alpha)} confidence no higher than {points(d.upper)}"
        return f"{figures}, and {high}: tuned is worse by more than the margin of {margin} (p = {d.worse_p:.2g})"
    most = f"perhaps by as much as {points(-d.lower).lstrip('+')} (margin {margin})"
    return f"{figures}: tuned is worse (p = {d.worse_p:.2g}), {most}"


def _better(c: Comparison, policy: Policy) -> Finding:
    margin = f"the margin of {stated(policy.margin)}"
    gets = f"base gets {percent(c.base.accuracy or 0.0)} where blind guessing gets {percent(c.guess)}"
    if c.base_above <= c.guess + policy.margin:
        shown, fix = f"so a model that knows nothing would be within {margin}", "ask questions that base can answer"
    else:
        shown = f"but of no kind of question is it shown to beat guessing by more than {margin}"
        fix = "ask more questions of a kind"
    change = f"{points(c.difference.estimate)} points"
    better, knows = f"{change}, p = {c.better_p:.2g}", f"{percent(c.tuned.accuracy)}, p = {c.guessing_p:.2g}"
    lacking = f"be better ({better})" if c.better_p > policy.alpha else f"do more than guess ({knows})"
    words = f"{c.effort}, {c.claims[0].words}: {gets}, {shown}"
    worse = f"be worse ({change}, p = {c.difference.worse_p:.2g})"
    gain = policy.require_gain and c.split == "held-out"  # else to be as poor as such a base is no fault of tuned's
    if gain and c.below_p < c.difference.worse_p:
        worse = f"do less than guess ({percent(c.tuned.accuracy)}, p = {c.below_p:.2g})"
    return Finding(
        effort=c.effort,
        name=c.claims[0].name,
        passes=c.whole.gain_p <= policy.alpha,
        worse_p=c.whole.refuted_p if gain else c.difference.worse_p,
        passed=f"{words}; but tuned is shown to be better ({better}) and to do more than guess ({knows})",
        failed=f"{words}; and tuned is shown to {worse}",
        undecided=f"{words}; and tuned is not shown to {lacking}; {fix}",
    )
