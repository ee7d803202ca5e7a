"""Figures that a recipe's [evaluate.limits] holds tuned to, what they show, and in which words. Knows no reply.

A limit is kept when tuned's bound at alpha lies within it, and broken when tuned is shown to be beyond it and the
gate's Holm, over all checks, leaves that standing: a model that is within its limits fails with a chance of at most
alpha. Else nothing is shown. `steering` and `memorisation` compare tuned with base: there a model that equals base is
within the limit. A share or a time is tuned's own, and a base that is beyond the limit is no excuse.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

from pydantic import model_validator

from evalsuite.judging.checks import Finding, Limited
from evalsuite.judging.notation import confidence, percent, points, stated
from evalsuite.judging.paired import Part
from evalsuite.judging.policy import Policy
from tune.section import EffortName

WORDS: dict[Limited, str] = {
    "steering": "reasons longer",
    "empty": "empty replies",
    "truncated": "truncated replies",
    "unparsed": "replies without an answer line",
    "contamination": "held-out questions in the training data",
    "memorisation": "memorisation gap (items less their twins, over base's)",
    "first_answer_ms": "time to first answer token, p95",
    "tokens_per_right": "tokens per right answer",
}
TITLES: dict[Limited, str] = {"steering": "steering: questions with longer reasoning"}
MEND: dict[Limited, str] = {
    "steering": 'give [dataset] efforts = ["low", "medium", "high"], then tune dataset and tune train',
    "empty": "look at replies with tune try",
    "truncated": "raise max_tokens in [evaluate] of the recipe, then evalsuite compare",
    "unparsed": "look at replies with tune try",
    "contamination": "evalsuite questions, then tune dataset and tune train",
    "memorisation": "train less (epochs in [train]), or on more wordings, then tune train",
    "first_answer_ms": "lower max_effort in [serve], or serve on a faster machine, then evalsuite compare",
    "tokens_per_right": "lower max_effort in [serve], or train longer",
}


class Figure(Part):
    """One limit at one effort, and where tuned lies. Shares 0 to 1, a gap -2 to 2, times in milliseconds."""

    effort: EffortName | None = None  # None: it holds for all of them
    below: EffortName | None = None  # of `steering`: the effort that `effort` is held against
    name: Limited
    value: float | None  # of tuned; None: not measured, or beyond any number
    base: float | None = None  # the same of base
    bound: float | None = None  # one-sided: upper, of `steering` lower; None: nothing bounds it
    limit: float
    kept: bool  # shown, at alpha
    broken_p: float  # one-sided: tuned is beyond the limit; of `steering`: tuned steers less than base
    of: str  # what it was measured on: "12 of 400"; "" when it was not
    lacking: str = ""  # what would decide, where nothing is shown

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.kept and not self.of:
            raise ValueError(f"{self.name} is kept, and was not measured")
        return self

    @property
    def place(self) -> str:
        """Where it belongs: "low", "low to medium", and "all" for what holds for all efforts."""
        return f"{self.below} to {self.effort}" if self.below else self.effort or "all"


def findings(figures: Sequence[Figure], policy: Policy) -> list[Finding]:
    return [_finding(f, policy) for f in figures]


def quantity(name: Limited, value: float | None) -> str:
    """A value as it is written: "1.2%", "+3.0 points", "850 ms", "412"."""
    if value is None or name not in ("memorisation", "first_answer_ms", "tokens_per_right"):
        return percent(value)
    if name == "memorisation":
        return f"{points(value)} points"
    return f"{value:,.0f}{' ms' if name == 'first_answer_ms' else ''}"


def limit(f: Figure) -> str:
    """The limit as somebody chose it: "2%", "10 points", "2000 ms"."""
    if f.name == "memorisation":
        return f"{stated(f.limit)} points"
    if f.name in ("first_answer_ms", "tokens_per_right"):
        return f"{f.limit:g}{' ms' if f.name == 'first_answer_ms' else ''}"
    return f"{stated(f.limit)}%"


class Row(NamedTuple):
    """A figure as tables write it. Without its outcome, which is the gate's."""

    effort: str
    what: str
    base: str
    tuned: str
    bound: str
    limit: str


def row(f: Figure) -> Row:
    base, tuned, bound = (quantity(f.name, value) for value in (f.base, f.value, f.bound))
    most = f"over {limit(f)}" if f.name == "steering" else limit(f)
    return Row(f.place, TITLES.get(f.name, WORDS[f.name]), base, tuned, bound, most)


def _finding(f: Figure, policy: Policy) -> Finding:
    found = _steering(f, policy) if f.name == "steering" else _within(f, policy)
    return Finding(f.effort, f.name, f.kept, f.broken_p, *found)


def _within(f: Figure, policy: Policy) -> tuple[str, str, str]:
    words = f"{f.effort}, {WORDS[f.name]}" if f.effort else WORDS[f.name]
    if not f.of:
        return "", "", f"{words}: not measured; {f.lacking}"
    figures, most = f"{words}: {quantity(f.name, f.value)} ({f.of})", limit(f)
    if f.name == "contamination":  # every question was looked at: there is nothing to be unsure of
        return f"{figures}: within the limit of {most}", f"{figures}: over the limit of {most}; {MEND[f.name]}", ""
    high = "higher" if f.bound is None else f"as much as {quantity(f.name, f.bound)}"
    sure = f"with {confidence(policy.alpha)} confidence no more than {quantity(f.name, f.bound)}"
    return (
        f"{figures}, and {sure}: within the limit of {most}",
        f"{figures}: over the limit of {most} (p = {f.broken_p:.2g}); {MEND[f.name]}",
        f"{figures}, but it may be {high}, over the limit of {most}; {f.lacking or MEND[f.name]}",
    )


def _steering(f: Figure, policy: Policy) -> tuple[str, str, str]:
    words = f"{f.effort}, steering: tuned {WORDS[f.name]} than at {f.below} on {percent(f.value)} of questions ({f.of})"
    words += f", base on {percent(f.base)}"
    return (
        f"{words}, and with {confidence(policy.alpha)} confidence on more than half",
        f"{words}: effort steers tuned less than base (p = {f.broken_p:.2g}), not on more than half; {MEND[f.name]}",
        f"{words}, and that is not shown to be more than half; {f.lacking}",
    )
