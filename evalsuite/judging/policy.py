"""When a tuned model may be released, and whether a verdict is as strict as a recipe asks for. Knows no figure."""

from pydantic import Field

from evalsuite.judging.paired import Part
from tune.harmony import Effort
from tune.recipe import Evaluate, Limits, tokens_at


class Policy(Part):
    """When a tuned model may be released."""

    margin: float = Field(default=0.05, gt=0, lt=1)  # how much worse it may be, in accuracy, on held-out questions
    alpha: float = Field(default=0.05, gt=0, lt=0.5)  # one-sided chance of releasing one that is worse by the margin
    require_gain: bool = False  # it has to be shown better too, on taught or on open-book questions
    missing_cap: float = Field(default=0.02, ge=0, lt=1)  # share of questions without a score on both sides
    power: float = Field(default=0.8, gt=0.5, lt=1)  # for the number of questions that an INCONCLUSIVE names


class Judged(Part):
    """What a verdict holds for, of what a recipe's [evaluate] section may ask for otherwise."""

    efforts: tuple[Effort, ...]
    margin: float
    alpha: float
    require_gain: bool = False
    max_tokens: Limits
    temperature: float
    modules: tuple[str, ...]  # that the held-out questions are about


def weaker(judged: Judged, asked: Evaluate) -> list[str]:
    """Where a verdict is not the one that a recipe asks for: less strict, on other requests or about other modules."""
    out = [
        f"{name} {getattr(judged, name):g}, and the recipe has {getattr(asked, name):g}"
        for name in ("margin", "alpha")
        if getattr(judged, name) > getattr(asked, name)
    ]
    if asked.require_gain and not judged.require_gain:
        out.append("require_gain false, and the recipe has true")
    limits = [(tokens_at(judged.max_tokens, e), tokens_at(asked.max_tokens, e), e) for e in asked.efforts]
    every = len({(was, now) for was, now, _ in limits}) == 1  # effort's, so none is named
    said = [
        f"max_tokens {was}{'' if every else f' at effort {e}'}, and the recipe has {now}"
        for was, now, e in limits
        if was != now
    ]
    out += dict.fromkeys(said)
    if judged.temperature != asked.temperature:
        out.append(f"temperature {judged.temperature:g}, and the recipe has {asked.temperature:g}")
    if asked.modules and (others := sorted(set(judged.modules) - set(asked.modules))):
        shown = ", ".join(name or "no module" for name in others[:5]) + (", …" if others[5:] else "")
        out.append(f"questions about {shown}, and the recipe's modules are {', '.join(asked.modules)}")
    return out
