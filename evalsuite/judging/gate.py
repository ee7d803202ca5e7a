"""Comparisons and a policy in, a verdict out. Pure: knows no file, no endpoint and no clock."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from evalsuite.contamination import Trained
from evalsuite.judging import checks as shown_by
from evalsuite.judging import gain, limits, measured, power, statistics
from evalsuite.judging.checks import Check, Finding, Result
from evalsuite.judging.comparison import ArmFigures, Claim, Comparison
from evalsuite.judging.notation import place, stated
from evalsuite.judging.paired import Part
from evalsuite.judging.policy import Policy
from evalsuite.questions import Split

EXIT: dict[Result, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2, "INVALID": 3}


class Verdict(Part):
    """What the gate decided, and why, a sentence a reason. `checks` is empty when INVALID: nothing was decided on."""

    outcome: Result
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID."""
        return EXIT[self.outcome]


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
    trained: Trained | None = Field(default=None, exclude_if=lambda found: found is None)  # which were trained on
    unfit: tuple[str, ...] = Field(default=(), exclude_if=lambda why: not why)  # why asking was, or had been, in vain


class Rest(NamedTuple):
    """Where not everything was asked: how many pairs of answers there are, of how many, and what is certain of each
    check by them alone (judging/reach.py). None: it may still pass."""

    pairs: int
    of: int
    findings: Sequence[Finding | None]

    @property
    def settled(self) -> bool:
        """However the rest were answered, some check would not pass, and so the gate would not."""
        return any(f is not None and not f.passes for f in self.findings)


def decide(
    comparisons: Sequence[Comparison],
    policy: Policy,
    evidence: Evidence,
    figures: Sequence[limits.Figure] = (),
    rest: Rest | None = None,
) -> Verdict:
    """PASS only if tuned is shown not worse by the margin in every check (intersection-union: no correction needed).

    Not being worse is decided on held-out questions, and not having forgotten on general ones, by a margin of their
    own; the two are never added up. A check passes when the lower bound of the difference is above -margin. It fails
    when it does not pass and tuned is shown to be worse: one-sided (judging/paired.py), after Holm over all
    checks, so that a model that is worse in nothing fails with a chance of at most alpha, however many efforts are
    looked at. Else it is INCONCLUSIVE. One failed check fails the verdict; without one, an inconclusive check makes it
    INCONCLUSIVE.

    On kinds of question where base is not shown to beat blind guessing by more than the margin, a model that knows
    nothing would pass: right answers are claimed on the other kinds (judging/kinds.py). Where there are no others,
    accuracy passes only if tuned is shown to be better than base (one-sided, at alpha), and better than
    guessing.

    Taught questions decide nothing, unless the policy requires a gain: judging/gain.py. `figures` are what the policy
    sets a limit to, a check each: judging/limits.py.

    Where not everything was asked, `rest` says what holds all the same. If that rules PASS out, it is INCONCLUSIVE, or
    FAIL where checks that were asked in full fail whatever the others come to; else what is missing makes it INVALID.
    """
    settled = rest if rest and rest.settled else None
    void = _void(comparisons, policy, evidence, settled)
    if void:
        return Verdict(outcome="INVALID", reasons=tuple(void))
    if settled:
        return _settled(settled, policy, [f for f in figures if f.name == "contamination"])
    findings = [*claimed(comparisons, policy), *limits.findings(figures, policy)]
    worse = statistics.holm([f.worse_p for f in findings], policy.alpha)
    undecided = [f for f, shown in zip(findings, worse, strict=True) if not f.passes and not shown]
    advice = _advice(comparisons, policy, figures) if any(f.sized for f in undecided) else {}
    checks = tuple(
        _passed(f) if f.passes else _failed(f) if shown else _undecided(f, policy, len(findings), advice)
        for f, shown in zip(findings, worse, strict=True)
    )
    for outcome in ("FAIL", "INCONCLUSIVE"):
        against = [c for c in checks if c.outcome == outcome]
        if against:
            return Verdict(outcome=outcome, reasons=tuple(c.reason for c in against), checks=checks)
    return Verdict(outcome="PASS", reasons=tuple(c.reason for c in checks), checks=checks)


def claimed(comparisons: Sequence[Comparison], policy: Policy) -> list[Finding]:
    """What tuned is held to without a limit of its own: a finding a claim and effort."""
    findings, ways = list[Finding](), gain.ways(comparisons)
    for c in comparisons:
        if c.split == "held-out":
            findings += [shown_by.accuracy(c, policy), shown_by.answering(c, policy)]
            findings += [gain.check(c.effort, ways, policy)] if policy.require_gain else []
        elif c.split == "general":
            findings.append(shown_by.forgetting(c, policy))
    return findings


def _settled(rest: Rest, policy: Policy, known: Sequence[limits.Figure]) -> Verdict:
    """Of checks that may still pass nothing is known: in Holm's order they are last, and count all the same. To know
    the p of one could only leave more of the others standing. `known`: figures that no answer changes."""
    findings = [*rest.findings, *limits.findings(known, policy)]
    worse = statistics.holm([f.worse_p if f else 1.0 for f in findings], policy.alpha)
    certain = [(f, shown) for f, shown in zip(findings, worse, strict=True) if f]
    checks = tuple(
        _passed(f)
        if f.passes
        else _failed(f)
        if shown
        else Check(effort=f.effort, name=f.name, outcome="INCONCLUSIVE", reason=f.undecided)
        for f, shown in certain
    )
    outcome: Result = "FAIL" if any(c.outcome == "FAIL" for c in checks) else "INCONCLUSIVE"
    against = [c for c in checks if c.outcome != "PASS"]
    efforts = ", ".join(dict.fromkeys(c.effort for c in against if c.effort))
    asked = f"stopped{f' at effort {efforts}' if efforts else ''} after {rest.pairs} of {rest.of} pairs of answers"
    why = f"{asked}: PASS is out of reach, however the rest would be answered; no further question of this set can help"
    return Verdict(outcome=outcome, reasons=(why, *(c.reason for c in against)), checks=checks)


def _passed(f: Finding) -> Check:
    return Check(effort=f.effort, name=f.name, outcome="PASS", reason=f.passed)


def _failed(f: Finding) -> Check:
    return Check(effort=f.effort, name=f.name, outcome="FAIL", reason=f.failed)


def _undecided(f: Finding, policy: Policy, checks: int, advice: Mapping[Split, str]) -> Check:
    """`advice`: how many questions of a split the gate needs."""
    chance = f"; one of {checks} checks looks as bad as this (p = {f.worse_p:.2g}) by chance"
    reason = f.undecided + (chance if f.worse_p <= policy.alpha else "") + (f"; {advice[_split(f)]}" if f.sized else "")
    return Check(effort=f.effort, name=f.name, outcome="INCONCLUSIVE", reason=reason)


def _split(f: Finding) -> Split:
    return "general" if f.name == "forgetting" else "held-out"


def _advice(comparisons: Sequence[Comparison], policy: Policy, figures: Sequence[limits.Figure]) -> dict[Split, str]:
    """How many questions of a split would decide, if the two are equal and flip as often as seen: as many of each.
    Limits of shares count as they were seen; one that was seen to be beyond itself no number would keep."""
    modules = max((c.modules for c in comparisons if c.split == "held-out"), default=1)
    shares = [(f, 1 - f.value if f.name == "steering" else f.value) for f in figures if f.value is not None]
    shares = [(f, share) for f, share in shares if f.name in ("steering", *measured.OUTCOMES)]
    kept = [
        power.Limited(share, f.limit, modules, steering=f.name == "steering") for f, share in shares if share < f.limit
    ]
    beyond = dict.fromkeys(limits.WORDS[f.name] for f, share in shares if share >= f.limit)
    needed = power.needed(power.seen(comparisons), policy, kept)
    apart = f", {', '.join(beyond)} apart," if beyond else ""
    out = dict[Split, str]()
    for c in comparisons:
        what = "general questions" if c.split == "general" else "questions"
        if needed > c.asked:
            often = f"for the whole gate{apart} to pass {policy.power:.0%} of the time"
            out[c.split] = f"two equal models would need about {needed} {what} {often}, not {c.asked}"
        else:
            enough = f"{c.asked} {what} would be enough for two equal models"
            out[c.split] = f"{enough}, so the loss seen speaks against tuned"
    return out


def worst(comparisons: Sequence[Comparison], policy: Policy) -> Claim | None:
    """The claim whose lower bound is lowest: how bad tuned may be in what the gate looks at. None without pairs.

    Where a loss over all kinds decides (checks.accuracy), right answers are those of all kinds.
    """
    found: list[Claim] = []
    for c in comparisons:
        if c.split != "taught" and c.paired:
            right, *readable = c.claims
            if right.without and c.difference.upper < -policy.at(c.split):
                words = f"{right.words} of all kinds"
                right = Claim(c.effort, right.name, words, c.difference, c.asked, c.whole.lacking)
            found += [right, *readable]
    return min(found, key=lambda claim: claim.difference.lower, default=None)


def _failures(arm: ArmFigures) -> int:
    return arm.outcomes["error"] + arm.outcomes["timeout"]


def _void(comparisons: Sequence[Comparison], policy: Policy, evidence: Evidence, settled: Rest | None) -> list[str]:
    if evidence.unfit:  # and so nothing was asked: what follows from that is no news
        return list(evidence.unfit)
    out = []
    if not any(c.asked for c in comparisons):
        out.append("no question was asked")
    elif not any(c.asked for c in comparisons if c.split == "held-out"):
        out.append(
            "no held-out question was asked, so nothing could show that tuned is not worse; name what is held out in "
            "[evaluate] modules of the recipe, then tune collect and evalsuite questions"
        )
    if policy.require_gain and not gain.ways(comparisons):
        out.append(gain.LACKING)
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
        decides = c.split != "taught" or policy.require_gain
        lacking, noun = c.whole.lacking, " questions" if c.repeats == 1 else ""
        failed = max(_failures(c.base), _failures(c.tuned)) / max(1, c.asked * c.repeats)
        if decides and (failed if settled else lacking.share) > policy.missing_cap:
            out.append(
                f"{place(c)}: {lacking.words}{noun} lack a score on either side, more than "
                f"{stated(policy.missing_cap)} % (errors: base {_failures(c.base)}, tuned {_failures(c.tuned)}; "
                f"never asked: base {c.base.absent}, tuned {c.tuned.absent})"
            )
    return out
