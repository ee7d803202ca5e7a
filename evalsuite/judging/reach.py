"""Can the gate still say PASS: questions and the answers so far in, what is certain of each check out. Pure.

A check is out of reach if it passes under no way in which the rest could be answered. To know that costs no error:
nothing is estimated, and a run that is stopped for it would not have passed (deterministic curtailment). What was asked
in full is judged as the gate judges it. Of the rest every missing answer, an error too, is taken at its best for tuned:
base wrong, tuned right. That is the best there is for all that is worked out here, for each bound and p-value grows one
way with every answer: Buehler's bound (judging/exact.py), Gaffke's (judging/means.py), McNemar's exact test, the test
against guessing, Clopper and Pearson's bound. The bounds by module do not: one more right answer can make modules less
alike, and lower the bound. No completion is best for them, so they are left out, as if they were passed; a check only
passes if both of its bounds do.

Kinds at which base only guesses are left out of the claim in right answers, and which those are hangs on answers that
are missing. So every set of kinds that could be left is looked at; a kind is kept only if base gets enough of it right,
and each such answer is one that tuned cannot gain.

Where this is too timid it says that a check may still pass, and more is asked than had to be.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple, get_args

from evalsuite.judging import blind, exact, gain, limits, means, measured, paired, shares, statistics
from evalsuite.judging.checks import Finding, Limited, Name
from evalsuite.judging.comparison import compare, paired_up, told
from evalsuite.judging.gate import claimed
from evalsuite.judging.kinds import OPEN_BOOK
from evalsuite.judging.notation import stated
from evalsuite.judging.paired import Asked
from evalsuite.judging.policy import Policy
from evalsuite.judging.steering import figures as steering_figures
from evalsuite.questions import Question, Split
from evalsuite.replies.answers import ARMS, Answer, Key, first
from tune.harmony import EFFORTS
from tune.section import EffortName

SLACK = 1e-4  # bounds are rounded, and sums good to less: what is this close may pass
TABLES = 20_000  # ways to leave kinds out that are looked at; with more the claim may pass

Answers = Mapping[Key, Answer]


class Table(NamedTuple):
    """Of `n` questions those lost and those gained."""

    lost: int
    gained: int
    n: int


def findings(
    questions: Sequence[Question], answers: Answers, efforts: Sequence[EffortName], policy: Policy, repeats: int
) -> list[Finding | None]:
    """One a check that the gate has of what is asked. None: it may still pass. A finding of one that may not does not
    pass, and its `worse_p` is 1 unless all that it is about was asked."""
    return [f for e in efforts for f in at(e, efforts, questions, answers, policy, repeats)]


def at(
    effort: EffortName,
    efforts: Sequence[EffortName],
    questions: Sequence[Question],
    answers: Answers,
    policy: Policy,
    repeats: int,
) -> list[Finding | None]:
    """The same of one of these efforts."""

    def heard(some: Sequence[Question], at: EffortName = effort) -> bool:
        keys = ((q.id, arm, at, n) for q in some for arm in ARMS for n in range(repeats))
        return all((a := answers.get(key)) is not None and not a.error for key in keys)

    held_out, taught, general = ([q for q in questions if q.split == split] for split in get_args(Split))
    claims: dict[Split, list[Question]] = {"held-out": held_out}
    if policy.require_gain:
        claims["taught"] = taught
    forgetting: dict[Split, list[Question]] = {"general": general}
    out = list[Finding | None]()
    for some in (claims, forgetting):
        if not any(some.values()):
            continue
        if all(map(heard, some.values())):
            done = [
                compare(
                    effort, mine, answers, alpha=policy.alpha, margin=policy.at(split), split=split, repeats=repeats
                )
                for split, mine in some.items()
                if mine
            ]
            out += claimed(done, policy)
        else:
            out += _claims(effort, some, answers, policy, repeats)
    out += _limits(effort, questions, answers, policy, whole=heard(questions))
    known = [e for e in efforts if e in EFFORTS]
    for below in (low for low, high in pairwise(known) if high == effort and policy.limits.steering):
        if heard(held_out) and heard(held_out, below):
            figures = steering_figures(held_out, first(answers.values()), [below, effort], policy)
            out += limits.findings(figures, policy)
        else:
            out.append(None)
    return out


def _claims(
    effort: EffortName, splits: Mapping[Split, Sequence[Question]], answers: Answers, policy: Policy, repeats: int
) -> list[Finding | None]:
    """Of splits of which something is missing."""
    asked = {split: paired_up(mine, *told(effort, mine, answers, repeats)) for split, mine in splits.items()}
    if "general" in asked:
        seen, _ = asked["general"]
        return [_right(effort, seen, policy.at("general"), policy.alpha, "general")]
    seen, readable = asked["held-out"]
    out = [_right(effort, seen, policy.margin, policy.alpha, "held-out")]
    shown = _within(readable, policy.margin, policy.alpha)
    out.append(None if shown else _not(effort, "answering", "readable answers", readable, policy.margin))
    if policy.require_gain:
        ways = [asked["taught"][0], [one for one in seen if one.kind.startswith(OPEN_BOOK)]]
        open_ = any(mine and _gains(mine, policy.alpha / gain.WAYS) for mine in ways)
        words = f"{effort}, gain: {_so_far([one for way in ways for one in way])}, it would not be shown to be better"
        out.append(None if open_ else _finding(effort, "gain", words))
    return out


def _right(effort: EffortName, asked: Sequence[Asked], margin: float, alpha: float, split: Split) -> Finding | None:
    """Not worse on the kinds that base knows, whichever those will be; better, if there are none."""
    if not paired.asked_once(asked):  # their means make no table, so no set of kinds is looked at
        every = all(_surely_known(mine, margin, alpha) for mine in _by_kind(asked))
        reach = not every or _within(asked, margin, alpha)
    else:
        tables = _tables(asked, margin, alpha)
        reach = tables is None or _any_shown(tables, margin, alpha)
        reach = reach or (Table(0, 0, 0) in (tables or ()) and _gains(asked, alpha))
    if reach:
        return None
    if split == "general":
        return _not(effort, "forgetting", "right answers to general questions", asked, margin)
    return _not(effort, "accuracy", "right answers", asked, margin)


def _within(asked: Sequence[Asked], margin: float, alpha: float) -> bool:
    """Whether the bound by question may come to lie above -margin."""
    best = paired.filled(asked, base=False, tuned=True)
    if paired.asked_once(asked):
        return _any_shown([Table(*paired.flipped(best), len(best))], margin, alpha)
    return means.below(means.tally([t - b for b, t in best]), -margin, -1.0) <= alpha + SLACK


def _gains(asked: Sequence[Asked], alpha: float) -> bool:
    """Whether tuned may come to be shown better than base and than guessing, question by question."""
    best, chances = paired.filled(asked, base=False, tuned=True), [one.chance for one in asked]
    if paired.asked_once(asked):
        better = statistics.better(*paired.flipped(best))
        knows = blind.p_value(sum(t > 0 for _, t in best), chances)
    else:
        better = means.p_value([t - b for b, t in best])
        knows = means.p_value([t - chance for (_, t), chance in zip(best, chances, strict=True)])
    return max(better, knows) <= alpha + SLACK


def _by_kind(asked: Sequence[Asked]) -> list[list[Asked]]:
    return [[one for one in asked if one.kind == kind] for kind in sorted({one.kind for one in asked})]


def _surely_known(mine: Sequence[Asked], margin: float, alpha: float) -> bool:
    return paired.base_above(mine, alpha) > fmean(one.chance for one in mine) + margin


def _tables(asked: Sequence[Asked], margin: float, alpha: float) -> list[Table] | None:
    """What the kinds that are kept can come to at best, for every set of kinds that can be. None: there are too many.

    Of tables with as many questions and as many lost the one with the most gained stands for all.
    """
    most = {(0, 0): 0}  # questions, lost -> gained
    for mine in _by_kind(asked):
        kept, left_out = _kept(mine, margin, alpha)
        moved = (
            {(n + kept.n, lost + kept.lost): gained + kept.gained for (n, lost), gained in most.items()} if kept else {}
        )
        stayed = most if left_out else {}
        most = {at: max(stayed.get(at, -1), moved.get(at, -1)) for at in stayed.keys() | moved.keys()}
        if len(most) > TABLES:
            return None
    return [Table(lost, gained, n) for (n, lost), gained in most.items()]


def _kept(mine: Sequence[Asked], margin: float, alpha: float) -> tuple[Table | None, bool]:
    """A kind at its best where base is shown to know it, None where it cannot come to that; and whether it need not."""
    n, over = len(mine), fmean(one.chance for one in mine) + margin
    right, missing = (sum(one.sides[0] is side for one in mine) for side in (True, None))
    enough = next((k for k in range(missing + 1) if statistics.wilson(right + k, n, alpha)[0] > over), None)
    if enough is None:
        return None, True
    lost, gained = paired.flipped(paired.filled(mine, base=False, tuned=True))
    free = sum(one.sides[0] is None and one.sides[1] is False for one in mine)  # base is right there, and tuned wrong
    return Table(lost, gained - max(0, enough - free), n), enough > 0


def _any_shown(tables: Sequence[Table], margin: float, alpha: float) -> bool:
    """Whether the bound of one of them may lie above -margin. What Tango's bound shows counts as if the exact one did:
    it is there at once, and where it errs more is asked."""
    import numpy as np

    some = [table for table in tables if table.n]
    if not some:
        return False
    lost, gained, n = (np.array(column) for column in zip(*some, strict=True))
    z = statistics.tango_z(lost, gained, n, -margin)
    if bool((z >= statistics.normal_quantile(1 - alpha)).any()):
        return True
    return any(_shown(some[i], margin, alpha) for i in np.argsort(-z))


def _shown(table: Table, margin: float, alpha: float) -> bool:
    """That no fewer were lost and no more gained is a part of what the exact bound weighs (judging/exact.py): if at a
    difference of -margin it alone is likelier than alpha, for some share of flips, the bound does not lie above."""
    import numpy as np

    lost, gained, n = table
    least = np.full(n + 1, n + 1)
    least[: lost + 1] = gained
    either = (1 - margin) / 2 * np.linspace(0, 1, 9) ** 2
    if float(exact.chance(least, n, either + margin, either).max()) > alpha + SLACK:
        return False
    return exact.lower(lost, gained, n, alpha) > -margin - SLACK


def _limits(
    effort: EffortName, questions: Sequence[Question], answers: Answers, policy: Policy, *, whole: bool
) -> list[Finding | None]:
    """All but steering, which is about two efforts, and contamination, which no answer changes."""
    mine = policy.limits.model_copy(update={"steering": False, "contamination": None})
    once = first(answers.values())
    if whole:
        figures = measured.figures(questions, once, [effort], policy.model_copy(update={"limits": mine}))
        return list(limits.findings(figures, policy))
    out = list[Finding | None]()
    held_out = [q for q in questions if q.split == "held-out"]
    tuned = [a for q in held_out if (a := once.get((q.id, "tuned", effort))) and not a.error]
    counted: list[tuple[Limited, float | None, float | None, int]] = [
        (name, limit, limit, sum(a.outcome in outcomes for a in tuned))
        for name, outcomes in measured.OUTCOMES.items()
        for limit in [getattr(mine, name)]
    ]
    latest = mine.first_answer_ms
    late = sum(measured.milliseconds(a) > latest for a in tuned) if latest is not None else 0
    counted.append(("first_answer_ms", latest, measured.TAIL, late))
    for name, limit, most, count in counted:
        if limit is None or most is None:
            continue
        bound = shares.exact_upper(count, len(held_out), policy.alpha)
        words = f"{effort}, {limits.WORDS[name]}: {count} of {len(tuned)} so far are too many; if none of the "
        words += f"other {len(held_out) - len(tuned)} were, their share might still be {bound:.1%}, over {most:.4g}"
        out.append(None if bound <= most + SLACK else _finding(effort, name, words))
    return out + [None for limit in (mine.memorisation, mine.tokens_per_right) if limit is not None]


def _not(effort: EffortName, name: Name, words: str, asked: Sequence[Asked], margin: float) -> Finding:
    end = f"it would not be shown to be within the margin of {stated(margin)}"
    return _finding(effort, name, f"{effort}, {words}: {_so_far(asked)}, {end}")


def _so_far(asked: Sequence[Asked]) -> str:
    lost, gained = paired.flipped([one.sides for one in asked])
    both = sum(None not in one.sides for one in asked)
    return f"{lost} lost and {gained} gained of {both} so far; if tuned gained all the other {len(asked) - both}"


def _finding(effort: EffortName, name: Name, words: str) -> Finding:
    return Finding(effort, name, passes=False, worse_p=1.0, passed="", failed="", undecided=words)
