"""Two runs that others made, of the same items, in; the gate's verdict out. Knows no file, no format and no effort.

Right answers alone are judged, by the gate's own bounds (judging/paired.py). What the gate knows of its own runs and no
file says here, whether one model answered twice, is looked for in the replies.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evalsuite.imports.item import Item, shown
from evalsuite.judging import paired, power, statistics
from evalsuite.judging.checks import Check, Result
from evalsuite.judging.gate import Verdict
from evalsuite.judging.notation import confidence, percent, points, stated
from evalsuite.judging.paired import Asked, Group, Part
from evalsuite.judging.policy import Policy
from tune.errors import UserError
from tune.evaluate import Evaluate

MODULES = 50  # simulated at most, for the number of items that an INCONCLUSIVE names


class Judgement(Part):
    """The verdict and what it rests on. `right`: the figures; None where the two files could not be paired."""

    verdict: Verdict
    modules: int  # whose items go together
    right: Group | None = None


class Pair(NamedTuple):
    """One item in both runs, or in one."""

    base: Item | None
    tuned: Item | None

    @property
    def either(self) -> Item:
        found = self.base or self.tuned
        assert found is not None
        return found


def judge(base: Sequence[Item], tuned: Sequence[Item], policy: Policy, *, grouped: bool = False) -> Judgement:
    """PASS if tuned is shown to be worse by less than the margin, FAIL if it is shown to be worse, else INCONCLUSIVE.

    INVALID when the files are not two runs of the same items. `grouped`: somebody chose the modules. Where nobody did
    and the files know one, a question that was asked several times (epochs, repeats) is what goes together.
    """
    pairs, void = _pairs(base, tuned)
    asked = _asked(pairs, grouped=grouped)
    modules = len({one.module for one in asked})
    if void:
        return Judgement(verdict=Verdict(outcome="INVALID", reasons=tuple(void)), modules=modules)
    group = paired.group(asked, policy.alpha)
    if group.missing / group.asked > policy.missing_cap:
        verdict = Verdict(outcome="INVALID", reasons=(_lacking(pairs, group, policy),))
    else:
        check = _check(asked, group, modules, policy)
        verdict = Verdict(outcome=check.outcome, reasons=(check.reason,), checks=(check,))
    return Judgement(verdict=verdict, modules=modules, right=group)


def chosen(margin: float | None, alpha: float | None) -> Policy:
    """Of what was given, the gate's own for what was not."""
    given = {"margin": margin, "alpha": alpha}
    return Policy.model_validate({name: value for name, value in given.items() if value is not None})


def policy(asked: Evaluate, path: Path) -> Policy:
    """Margin and alpha of a recipe. Raises UserError for one that asks for more than right answers can show.

    `steering`, which is on where nothing is said, is about several efforts, and a run is of one.
    """
    more = [f"limits.{name}" for name, limit in asked.limits if limit is not None and name != "steering"]
    more += ["require_gain"] if asked.require_gain else []
    if more:
        raise UserError(
            f"{path} asks for more than two finished runs show",
            why=f"[evaluate] has {', '.join(more)}",
            fix=f"give --margin {asked.margin:g} --alpha {asked.alpha:g} in place of --recipe {path}",
        )
    return Policy(margin=asked.margin, alpha=asked.alpha)


def _pairs(base: Sequence[Item], tuned: Sequence[Item]) -> tuple[list[Pair], list[str]]:
    """By id, in base's order; and why they show nothing."""
    void = []
    for name, items in (("base", base), ("tuned", tuned)):
        twice = [place for place, count in Counter(item.id for item in items).items() if count > 1]
        if twice:
            void.append(
                f"{name} has {_items(len(twice))} more than once, such as {shown(twice[0])}; --id names another key"
            )
    left, right = ({item.id: item for item in items} for items in (base, tuned))
    pairs = [Pair(left.get(place), right.get(place)) for place in dict.fromkeys([*left, *right])]
    both = [(p.base, p.tuned) for p in pairs if p.base and p.tuned]
    if not both:
        why = f"base has {shown(base[0].id)}, tuned {shown(tuned[0].id)}" if base and tuned else "one has none"
        void.append(f"no item is in both runs: {why}")
    other = [b.id for b, t in both if b.prompt and t.prompt and b.prompt != t.prompt]
    if other:
        verb = "asks or expects" if len(other) == 1 else "ask or expect"
        void.append(f"{_items(len(other))} {verb} something else in the two runs, such as {shown(other[0])}")
    moved = [b.id for b, t in both if b.module != t.module]
    says = [name for name, items in (("base", base), ("tuned", tuned)) if any(item.module for item in items)]
    if moved and len(says) == 1:
        void.append(
            f"{says[0]} alone says which items go together (its module, or what the tool groups by): write it into "
            "both runs, or leave it out of both"
        )
    elif moved:
        verb = "is" if len(moved) == 1 else "are"
        void.append(f"{_items(len(moved))} {verb} of another module in the two runs, such as {shown(moved[0])}")
    if both and all(b.reply and b.reply == t.reply for b, t in both):
        void.append("every reply of base is that of tuned, word for word: these are not the runs of two models")
    return pairs, void


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _asked(pairs: Sequence[Pair], *, grouped: bool) -> list[Asked]:
    items = [pair.either for pair in pairs]
    prompts = {item.prompt or item.id for item in items}
    repeated = not grouped and len({item.module for item in items}) == 1 and len(prompts) < len(items)
    common = _commonest(items)
    return [
        Asked(
            kind="",
            module=item.prompt or item.id if repeated else item.module,
            chance=max(item.chance, common),
            sides=(pair.base and pair.base.right, pair.tuned and pair.tuned.right),
        )
        for pair, item in zip(pairs, items, strict=True)
    ]


def _commonest(items: Sequence[Item]) -> float:
    """How often the commonest answer is right. 0 where every item has the same: then it is no key (tests, a rubric)."""
    counts = Counter(item.answer for item in items if item.answer)
    return (max(counts.values()) - 1) / max(1, len(items) - 1) if len(counts) > 1 else 0.0


def _lacking(pairs: Sequence[Pair], group: Group, policy: Policy) -> str:
    absent = f"in no file: base {sum(p.base is None for p in pairs)}, tuned {sum(p.tuned is None for p in pairs)}"
    unscored = [sum(item is not None and item.right is None for item in side) for side in zip(*pairs, strict=True)]
    verb = "lacks" if group.missing == 1 else "lack"
    some = f"{group.missing} of {_items(group.asked)} {verb} a score on either side"
    most = f"{some}, more than {stated(policy.missing_cap)} %"
    return f"{most} ({absent}; without a score: base {unscored[0]}, tuned {unscored[1]})"


def _check(asked: Sequence[Asked], group: Group, modules: int, policy: Policy) -> Check:
    """As judging/checks.py has it for one claim: not worse by the margin, or, where base only guesses, better."""
    above = paired.base_above(asked, policy.alpha)
    if above <= group.guess + policy.margin:
        outcome, reason = _better(group, policy)
    else:
        outcome, reason = _not_worse(group, modules, policy)
    return Check(effort=None, name="accuracy", outcome=outcome, reason=reason)


def _not_worse(group: Group, modules: int, policy: Policy) -> tuple[Result, str]:
    d, margin = group.difference, stated(policy.margin)
    unheard = f" ({group.missing} of {group.asked} are missing and count at their worst)" if group.missing else ""
    figures, sure = f"right answers: {points(d.estimate)} points{unheard}", confidence(policy.alpha)
    low = f"{points(d.lower)}{' (by module)' if d.by_module else ''}"
    if d.lower > -policy.margin:
        allowed = "; a real loss, but one that the margin allows" if d.upper < 0 else ""
        return (
            "PASS",
            f"{figures}, and with {sure} confidence no lower than {low}: within the margin of {margin}{allowed}",
        )
    if d.worse_p <= policy.alpha:
        most = f"perhaps by as much as {points(-d.lower).lstrip('+')} (margin {margin})"
        return "FAIL", f"{figures}: tuned is worse (p = {d.worse_p:.2g}), {most}"
    flips = max(d.discordance, 1 / group.asked)
    together = 1 if modules == group.asked else min(modules, MODULES)
    needed = power.needed([power.Planned(flips, modules=together)], policy)
    if needed > group.asked:
        often = f"to pass {policy.power:.0%} of the time"
        ask = f"two equal models would need about {_items(needed)} {often}, not {group.asked}"
    else:
        ask = f"{_items(group.asked)} would be enough for two equal models, so the loss seen speaks against tuned"
    return "INCONCLUSIVE", f"{figures}, but it may be as low as {low}, beyond the margin of {margin}; {ask}"


def _better(group: Group, policy: Policy) -> tuple[Result, str]:
    d, margin = group.difference, stated(policy.margin)
    gets = f"base gets {percent(group.base or 0.0)} where blind guessing gets {percent(group.guess)}"
    words = f"right answers: {gets}, and is not shown to beat it by more than the margin of {margin}"
    better, knows = f"{points(d.estimate)} points, p = {group.better_p:.2g}", f"p = {group.guessing_p:.2g}"
    if group.gain_p <= policy.alpha:
        return "PASS", f"{words}; but tuned is shown to be better ({better}) and to do more than guess ({knows})"
    if d.worse_p <= policy.alpha:
        return "FAIL", f"{words}; and tuned is shown to be worse ({points(d.estimate)} points, p = {d.worse_p:.2g})"
    lacking = f"be better ({better})" if group.better_p > policy.alpha else f"do more than guess ({knows})"
    return "INCONCLUSIVE", f"{words}; and tuned is not shown to {lacking}; take items that base can answer"


def words(made: Judgement, base: str, tuned: str) -> str:
    """As `evalsuite gate` says it: the outcome, the figures, the reasons."""
    lines = [f"{made.verdict.outcome}: {tuned} against {base}"]
    if (g := made.right) and g.paired:
        sides = []
        for name, share in (("base", g.base), ("tuned", g.tuned)):
            low, high = statistics.wilson(round((share or 0.0) * g.paired), g.paired, 0.025)
            sides.append(f"{name} {percent(share)} ({percent(low)} to {percent(high)})")
        about = f"{_items(g.paired)} of both, {made.modules} module{'' if made.modules == 1 else 's'}"
        lines.append(f"{about}; {', '.join(sides)}; lost {g.lost}, gained {g.gained}")
    return "\n".join([*lines, *made.verdict.reasons])
