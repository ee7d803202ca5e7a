"""What a recipe sets a limit to, measured: questions and answers in, a figure for each limit and effort out.

Where a question was asked several times its first answer counts here: K answers to one are not K questions. Where that
one failed it is missing, at its worst, whatever came later."""

from collections.abc import Mapping, Sequence
from math import ceil, inf, isfinite

from evalsuite.contamination import Trained
from evalsuite.judging import memorisation, shares, steering
from evalsuite.judging.checks import Limited
from evalsuite.judging.limits import MEND, Figure
from evalsuite.judging.paired import right
from evalsuite.judging.policy import Policy
from evalsuite.judging.shares import Bounded
from evalsuite.questions import Question
from evalsuite.replies.answers import Answer, Arm, Item, Outcome
from tune.harmony import EFFORTS
from tune.section import EffortName

OUTCOMES: dict[Limited, set[Outcome]] = {
    "empty": {"empty", "off-format"},
    "truncated": {"truncated", "truncated-reasoning"},
    "unparsed": {"unparsed"},
}
TAIL = 0.05  # of replies may be later than the limit: it is set to the 95th percentile
Heard = Sequence[Answer | None]  # a question each; None where none counts


def figures(
    questions: Sequence[Question],
    answers: Mapping[Item, Answer],
    efforts: Sequence[EffortName],
    policy: Policy,
    trained: Trained | None = None,
) -> tuple[Figure, ...]:
    """Only of limits that the policy sets, low effort first. `trained`: None when no dataset was looked at."""
    limits, out = policy.limits, list[Figure]()
    held_out = [q for q in questions if q.split == "held-out"]
    modules, twins = [q.module for q in held_out], memorisation.pairs(questions)
    if limits.steering:
        out += steering.figures(held_out, answers, [e for e in efforts if e in EFFORTS], policy)
    for effort in efforts:
        base, tuned = ([_heard(answers, q, arm, effort) for q in held_out] for arm in ("base", "tuned"))
        for name, outcomes in OUTCOMES.items():
            if (limit := getattr(limits, name)) is not None:
                out.append(_share(effort, name, outcomes, (base, tuned), modules, limit, policy))
        if limits.memorisation is not None:
            out.append(memorisation.figure(twins, answers, effort, limits.memorisation, policy))
        if limits.first_answer_ms is not None:
            out.append(_first_answer(effort, (base, tuned), modules, limits.first_answer_ms, policy))
        if limits.tokens_per_right is not None:
            out.append(_tokens(effort, (base, tuned), modules, limits.tokens_per_right, policy))
    if limits.contamination is not None:
        out.append(_contamination(trained, limits.contamination))
    return tuple(out)


def _heard(answers: Mapping[Item, Answer], question: Question, arm: Arm, effort: EffortName) -> Answer | None:
    answer = answers.get((question.id, arm, effort))
    return None if answer is None or answer.error else answer


def _share(
    effort: EffortName,
    name: Limited,
    outcomes: set[Outcome],
    arms: tuple[Heard, Heard],
    modules: Sequence[str],
    limit: float,
    policy: Policy,
) -> Figure:
    flags = [None if a is None else a.outcome in outcomes for a in arms[1]]
    known = [flag for flag in flags if flag is not None]
    base = [a.outcome in outcomes for a in arms[0] if a]
    value, found = _mean(known), shares.share(flags, modules, limit, policy.alpha)
    return _figure(
        effort, name, value, _mean(base), limit, found,
        of=f"{sum(known)} of {len(known)}",
        lacking=_more(value, len(flags), limit, policy),
    )  # fmt: skip


def _first_answer(
    effort: EffortName, arms: tuple[Heard, Heard], modules: Sequence[str], limit: float, policy: Policy
) -> Figure:
    """The share of replies that are late, against 5 %: the 95th percentile is within the limit if fewer are. The bound
    is the reply that as many are later than as a share shown to be under 5 % has. A reply without an answer is late
    whatever it took: it was waited for in vain."""
    base, tuned = ([None if a is None else milliseconds(a) for a in arm] for arm in arms)
    if not any(t is not None and isfinite(t) for t in tuned):
        lacking = "no reply says when its answer began; evalsuite compare asks servers that stream"
        return _figure(effort, "first_answer_ms", None, None, limit, Bounded(inf, 1.0), of="", lacking=lacking)
    late = [None if t is None else t > limit for t in tuned]
    found = shares.share(late, modules, TAIL, policy.alpha)
    worst = sorted(inf if t is None else t for t in tuned)
    beyond = [i for i in range(len(worst)) if shares.exact_upper(i, len(worst), policy.alpha) <= TAIL]
    upper = worst[len(worst) - 1 - max(beyond)] if beyond else inf
    kept = found.upper <= TAIL
    known = [flag for flag in late if flag is not None]
    return _figure(
        effort, "first_answer_ms", _p95(tuned), _p95(base), limit,
        Bounded(upper if kept or upper > limit else inf, found.over_p),
        kept=kept,
        of=f"{sum(known)} of {len(known)} were later than the limit",
        lacking=_more(_mean(known), len(late), TAIL, policy),
    )  # fmt: skip


def _tokens(
    effort: EffortName, arms: tuple[Heard, Heard], modules: Sequence[str], limit: float, policy: Policy
) -> Figure:
    def told(arm: Heard) -> tuple[list[float | None], list[bool | None]]:
        return [a.completion_tokens if a else None for a in arm], [right(a) for a in arm]

    def seen(arm: Heard) -> float | None:
        tokens, scores = told(arm)
        count = sum(score is True for score in scores)
        return sum(t or 0 for t in tokens) / count if count and any(tokens) else None

    tokens, scores = told(arms[1])
    if not any(tokens):
        lacking = "the server counts no tokens; serve with one that sends usage, then evalsuite compare"
        return _figure(effort, "tokens_per_right", None, None, limit, Bounded(inf, 1.0), of="", lacking=lacking)
    found, value = shares.ratio(tokens, scores, modules, limit, policy.alpha), seen(arms[1])
    return _figure(
        effort, "tokens_per_right", value, seen(arms[0]), limit, found,
        of=f"{sum(t or 0 for t in tokens):,} tokens, {sum(score is True for score in scores)} right answers",
        lacking="ask more questions" if value is not None and value <= limit else "",
    )  # fmt: skip


def _contamination(trained: Trained | None, limit: float) -> Figure:
    """Every question was looked at, so nothing is left to chance: the share is over the limit, or it is not."""
    if trained is None or trained.elsewhere:
        lacking = "there was no dataset to look in; tune dataset, then evalsuite compare --replay"
        if trained:
            lacking = f"tuned was trained on another dataset, {trained.tuned_on[:16]}, than {trained.dataset[:16]}, "
            lacking += "which was looked in; tune train, tune export, then evalsuite compare"
        return Figure(name="contamination", value=None, limit=limit, kept=False, broken_p=1.0, of="", lacking=lacking)
    over = trained.share > limit
    return Figure(
        name="contamination",
        value=trained.share,
        bound=trained.share,
        limit=limit,
        kept=not over,
        broken_p=0.0 if over else 1.0,
        of=f"{trained.found} of {trained.questions}, dataset {trained.dataset[:16]}",
    )


def _figure(
    effort: EffortName, name: Limited, value: float | None, base: float | None, limit: float, found: Bounded, *,
    of: str, lacking: str, kept: bool | None = None,
) -> Figure:  # fmt: skip
    shown = bool(of) and (found.upper <= limit if kept is None else kept)
    return Figure(
        effort=effort,
        name=name,
        value=value,
        base=base,
        bound=found.upper if isfinite(found.upper) else None,
        limit=limit,
        kept=shown,
        broken_p=found.over_p,
        of=of,
        lacking="" if shown else lacking or MEND[name],
    )


def _more(value: float | None, n: int, limit: float, policy: Policy) -> str:
    """How many questions would show it, if the share stays as seen. "" where more would not help."""
    if value is None or (enough := shares.needed(value, limit, policy.alpha)) is None:
        return ""
    if enough <= n:
        return "questions about more modules would show it"
    return f"if so, about {enough - n} more questions would show it"


def _mean(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def milliseconds(answer: Answer) -> float:
    return inf if answer.first_answer_s is None else answer.first_answer_s * 1000


def _p95(times: Sequence[float | None]) -> float | None:
    """The least time that 95 % of the replies are within; None when more than 5 % have no answer."""
    known = sorted(t for t in times if t is not None)
    found = known[ceil((1 - TAIL) * len(known)) - 1] if known else inf
    return found if isfinite(found) else None
