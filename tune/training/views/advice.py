"""Advice in words from a training history: what the curve shows, with figures, and which recipe keys to change.

Pure: the same history gives the same sentences in the same order. Every threshold is in nats, so it means the same at
any level of loss: 0.1 nats less is 10 % less perplexity.
"""

from collections.abc import Sequence
from math import exp, isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np

from tune.training.views.history import Entry, Floats, History, Look, number, read, spread

Kind = Literal["broken", "diverged", "jumping", "overfitting", "near zero", "falling", "flat"]

LEAST = 8  # steps: fewer have no trend, two windows of four are all there is to compare
FLAT = 0.02  # nats: 2 % of perplexity, too little to be worth an adapter
STEEP = 0.05  # nats over the last quarter: as many steps again would show in the answers
RISE = 0.1  # nats over the best quarter: rows are shuffled, so no quarter is harder than another by that much
JUMP = 0.5  # nats: e^0.5 = 1.6 times the perplexity in one step; less is what a batch of hard rows does
FAR = 8  # spreads over the median before it: a step's loss has longer tails than a normal one, where 5 would do
BEFORE = 15  # steps of that median: it follows a fall, and fewer than half of them may be jumps themselves
ZERO = 0.05  # nats: 95 % on every learned token, which no text has that was not seen before
SURE = 3  # standard errors between two medians that are called different
OVERFIT = 0.02  # nats over the best look: the same rows each time, so there is no noise of rows in it
NAMES: dict[Kind, str] = {
    "broken": "Not a number",
    "diverged": "Diverged",
    "jumping": "Jumping",
    "overfitting": "Overfitting",
    "near zero": "Near zero",
    "falling": "Still falling",
    "flat": "Flat",
}


class Finding(NamedTuple):
    """One thing that the curve shows: `what` with its figures, what to `do`, and the steps it is about."""

    kind: Kind
    what: str
    do: str
    steps: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return NAMES[self.kind]


def advice(history: Sequence[Entry], base_eval: float | None = None) -> list[str]:
    """What to change, a sentence or three a finding, worst first; nothing when nothing stands out.

    `base_eval` is the untouched base's loss on the held-out rows. Under LEAST steps only values that are no number
    are named.
    """
    return [f"{found.name}: {found.what} {found.do}" for found in findings(history, base_eval)]


def findings(history: Sequence[Entry], base_eval: float | None = None) -> list[Finding]:
    """The findings behind `advice`. No two of them contradict each other: a run that broke, diverged or jumps is not
    told to learn faster, and one that overfits not to go on."""
    h = read(history)
    found = _broken(h, base_eval)
    whole = np.isfinite(h.loss)
    steps, losses = h.step[whole], h.loss[whole]
    if len(losses) < LEAST:
        return found
    base = base_eval if isfinite(number(base_eval)) else None
    looks = ((Look(0, base),) if base is not None else ()) + h.looks
    lr = float(np.nanmax(h.lr)) if np.isfinite(h.lr).any() else None
    found += _diverged(steps, losses, lr) or _jumping(steps, losses, lr)
    unsteady = bool(found)
    overfit, zero = _overfitting(steps, losses, looks), _near_zero(losses, h.looks)
    found += overfit + zero
    if not unsteady and not overfit:
        found += _falling(steps, losses) or ([] if zero else _flat(steps, losses, looks, lr))
    return found


def _broken(h: History, base_eval: float | None) -> list[Finding]:
    words = {"loss": "the loss", "eval_loss": "the held-out loss", "grad_norm": "the norm of the gradient"}
    found = []
    if base_eval is not None and not isfinite(number(base_eval)):
        what = f"the held-out loss of the base is {base_eval} before the first step."
        found.append(Finding("broken", what, "Nothing was trained then: look at the held-out rows and the base."))
    lr = float(np.nanmax(h.lr)) if np.isfinite(h.lr).any() else None
    for key, name in words.items():
        broken = [b for b in h.broken if b.key == key]
        if broken:
            steps = tuple(b.step for b in broken)
            more = f" and at {len(steps) - 1} more, up to step {steps[-1]}" if len(steps) > 1 else ""
            what = f"{name} is {broken[0].value} at step {steps[0]}{more}."
            found.append(Finding("broken", what, f"{_lower(lr)}, and look at the rows of step {steps[0]}.", steps))
    return found


def _diverged(steps: Floats, losses: Floats, lr: float | None) -> list[Finding]:
    """The last quarter lies over the best one. The factor is that of jumps: the best of four is the lucky one."""
    quarters = np.array_split(losses, 4)
    medians = [float(np.median(q)) for q in quarters]
    best = int(np.argmin(medians))
    if medians[-1] - medians[best] <= max(RISE, _few(len(losses)) * _error(losses, quarters[best], quarters[-1])):
        return []
    span = np.array_split(steps, 4)[best]
    what = (
        f"the loss ends at {medians[-1]:.2f} (median of the last {len(quarters[-1])} steps) and had been "
        f"{medians[best]:.2f} (steps {span[0]:.0f} to {span[-1]:.0f})."
    )
    return [Finding("diverged", what, f"{_lower(lr)}; more warmup_steps help too.")]


def _jumping(steps: Floats, losses: Floats, lr: float | None) -> list[Finding]:
    far = max(JUMP, _few(len(losses)) * spread(losses))
    over = np.array([losses[i] - np.median(losses[max(0, i - BEFORE) : i]) for i in range(3, len(losses))])
    jumps = np.flatnonzero(over > far)
    if not len(jumps):
        return []
    at = tuple(int(steps[i + 3]) for i in jumps)
    worst = int(np.argmax(over))
    also = [str(step) for step in at if step != int(steps[worst + 3])]
    rest = f", and far over it at {_some(also)} too" if also else ""
    what = (
        f"the loss jumps to {losses[worst + 3]:.2f} at step {steps[worst + 3]:.0f}, {over[worst]:.2f} over the median "
        f"of the steps before{rest}."
    )
    rows = "the rows of that step" if not also else "the rows of those steps"
    return [Finding("jumping", what, f"Look at {rows}: garbled or very short ones do that. {_lower(lr)}.", at)]


def _overfitting(steps: Floats, losses: Floats, looks: tuple[Look, ...]) -> list[Finding]:
    """Held-out rows got worse since the best look and train rows did not. Three looks, the base's among them."""
    if len(looks) < 3:
        return []
    best, last = min(looks, key=lambda look: (look.loss, look.step)), looks[-1]
    size = max(3, len(losses) // 8)
    before, after = losses[steps <= best.step][-size:], losses[-size:]
    before = before if len(before) >= 3 else losses[:size]
    train = float(np.median(before)), float(np.median(after))
    if last.loss - best.loss <= OVERFIT or train[1] > train[0] + SURE * _error(losses, before, after):
        return []
    when = f"at step {best.step}" if best.step else "before the first step"
    what = (
        f"the held-out loss was best {when} ({best.loss:.3f}) and is {last.loss:.3f} at step {last.step}, while the "
        f"train loss went from {train[0]:.2f} to {train[1]:.2f}."
    )
    share = f"Train less: epochs at {100 * best.step / last.step:.0f} % of what they are, or max_steps = {best.step}"
    do = share if best.step else "Train less, at a lower learning_rate, or on more rows: fewer epochs"
    return [Finding("overfitting", what, f"{do}; patience with eval_every stops there by itself.", (best.step,))]


def _near_zero(losses: Floats, looks: tuple[Look, ...]) -> list[Finding]:
    """Rows that were not trained on tell what stands in every prompt from what was learned by heart."""
    quarters = np.array_split(losses, 4)
    start, end = float(np.median(quarters[0])), float(np.median(quarters[-1]))
    if end >= ZERO:
        return []
    what = f"the loss ends at {end:.3f}: {100 * min(1.0, exp(-end)):.1f} % on every learned token."
    if start < ZERO:
        return [Finding("near zero", what, "It began there: look whether labels leak, the answer in its own prompt.")]
    if looks and looks[-1].loss < ZERO:
        what += f" So does the held-out loss, at {looks[-1].loss:.3f}."
        do = "Right where each answer follows from its prompt, as in open-book rows; else rows are on both sides."
        return [Finding("near zero", what, do)]
    return [Finding("near zero", what, "Labels leak or rows repeat: look for equal rows, and lower epochs.")]


def _falling(steps: Floats, losses: Floats) -> list[Finding]:
    """Theil and Sen's slope of the last quarter is below zero at 99 %, and the fall along it is worth more steps."""
    size = max(LEAST, len(losses) // 4)
    slope, _, upper = _slope(steps[-size:], losses[-size:])
    fall = -slope * float(steps[-1] - steps[-size])
    if upper >= 0 or fall < STEEP:
        return []
    what = f"the loss fell by {fall:.2f} over the last {size} steps, to {np.median(losses[-max(3, size // 4) :]):.2f}."
    steps_now = int(steps[-1])
    return [Finding("falling", what, f"Train on: max_steps = {steps_now + size} (now {steps_now}) or more, or epochs.")]


def _flat(steps: Floats, losses: Floats, looks: tuple[Look, ...], lr: float | None) -> list[Finding]:
    """Neither the windows at both ends, nor the slope of the whole, nor the held-out rows show a fall worth having."""
    first, last = losses[: min(5, len(losses) // 4)], losses[-(len(losses) // 4) :]
    start, end = float(np.median(first)), float(np.median(last))
    slope, _, upper = _slope(steps, losses)
    held_out = looks[0].loss - min(look.loss for look in looks) if looks else 0.0
    if (
        start - end > max(FLAT, SURE * _error(losses, first, last))
        or (upper < 0 and -slope * float(steps[-1] - steps[0]) > FLAT)
        or held_out > FLAT
    ):
        return []
    what = (
        f"the loss went from {start:.3f} (median of the first {len(first)} steps) to {end:.3f} (of the last "
        f"{len(last)}), and steps scatter by {spread(losses):.3f}: nothing shows that anything was learned."
    )
    faster = f"learning_rate ({lr:.2g} at its peak, try {3 * lr:.1g})" if lr else "learning_rate"
    return [Finding("flat", what, f"Raise {faster} or max_steps ({steps[-1]:.0f} now).")]


def _slope(steps: Floats, losses: Floats) -> tuple[float, float, float]:
    """Nats a step and its 99 % interval: the median of all pairs' slopes, of at most 64 windows' medians."""
    from scipy.stats import theilslopes

    parts = min(64, len(losses))
    x = [float(np.mean(part)) for part in np.array_split(steps, parts)]
    y = [float(np.median(part)) for part in np.array_split(losses, parts)]
    slope, _, low, high = theilslopes(y, x, 0.99)
    return float(slope), float(low), float(high)


def _error(losses: Floats, one: Floats, other: Floats) -> float:
    """Standard error of the difference of two windows' medians; a median has sqrt(pi / 2) that of a mean."""
    return 1.2533 * spread(losses) * sqrt(1 / len(one) + 1 / len(other))


def _few(n: int) -> float:
    """FAR, and more where few steps know their own spread badly: ten times that at LEAST, 1.06 times at 100."""
    return FAR * (1 + (24 / n) ** 2)


def _lower(lr: float | None) -> str:
    return f"Lower learning_rate ({lr:.2g} at its peak, try {lr / 3:.1g})" if lr else "Lower learning_rate"


def _some(steps: list[str]) -> str:
    more = f" and {len(steps) - 5} more" if len(steps) > 5 else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(steps[:5])}{more}"
