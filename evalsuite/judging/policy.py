"""When a tuned model may be released, and whether a verdict is as strict as a recipe asks for. Knows no figure."""

from collections.abc import Iterable

from pydantic import Field, JsonValue

from evalsuite.judging.paired import Part
from evalsuite.questions import Split
from tune.evaluate import CODE, GENERAL, TUTORIAL, Evaluate, Gated, tokens_at
from tune.section import EffortName, Limits

FORGETTING = 0.05  # not in a report that has it, so that those without general questions stay what they were


class Policy(Part):
    """When a tuned model may be released."""

    margin: float = Field(default=0.05, gt=0, lt=1)  # how much worse it may be, in accuracy, on held-out questions
    forgetting_margin: float = Field(
        default=FORGETTING, gt=0, lt=1, exclude_if=lambda m: m == FORGETTING
    )  # on general ones
    alpha: float = Field(default=0.05, gt=0, lt=0.5)  # one-sided chance of releasing one that is worse by the margin
    require_gain: bool = False  # it has to be shown better too, on taught or on open-book questions
    missing_cap: float = Field(default=0.02, ge=0, lt=1)  # share of answers without a score on both sides
    power: float = Field(default=0.8, gt=0.5, lt=1)  # for the number of questions that an INCONCLUSIVE names
    limits: Gated = Gated()
    allow_unlike_servers: bool = Field(default=True, exclude_if=lambda allowed: allowed)  # if a run allowed them too

    def at(self, split: Split) -> float:
        """How much worse tuned may be on the questions of a split."""
        return self.forgetting_margin if split == "general" else self.margin


def of(asked: Evaluate) -> Policy:
    """What a recipe asks for."""
    return Policy(
        margin=asked.margin,
        forgetting_margin=asked.forgetting_margin,
        alpha=asked.alpha,
        require_gain=asked.require_gain,
        limits=asked.limits,
        allow_unlike_servers=asked.allow_unlike_servers,
    )


class Judged(Part):
    """What a verdict holds for, of what a recipe's [evaluate] section may ask for otherwise."""

    efforts: tuple[EffortName, ...]
    margin: float
    forgetting_margin: float = FORGETTING
    alpha: float
    require_gain: bool = False
    limits: Gated = Gated()
    unlike: str = Field(default="", exclude_if=lambda why: not why)  # in what the servers differ beside the model
    max_tokens: Limits
    temperature: float
    repeats: int = 1
    modules: tuple[str, ...]  # that the held-out questions are about
    questions: int  # held-out ones
    general: int = 0  # general ones
    code: int = 0  # those whose answers are code
    made: dict[str, JsonValue] = Field(default_factory=dict)  # QuestionSet.made; empty: by hand


def weaker(judged: Judged, asked: Evaluate) -> list[str]:
    """Where a verdict is not the one that a recipe asks for: less strict, on other requests, or on fewer or other
    questions."""
    out = [
        f"{name} {getattr(judged, name):g}, and the recipe has {getattr(asked, name):g}"
        for name in ("margin", "forgetting_margin", "alpha")
        if getattr(judged, name) > getattr(asked, name)
    ]
    if asked.require_gain and not judged.require_gain:
        out.append("require_gain false, and the recipe has true")
    if judged.unlike and not asked.allow_unlike_servers:
        out.append(f"unlike servers ({judged.unlike}), and the recipe has allow_unlike_servers = false")
    out += _laxer(judged.limits, asked.limits)
    limits = [(tokens_at(judged.max_tokens, e), tokens_at(asked.max_tokens, e), e) for e in asked.efforts]
    every = len({(was, now) for was, now, _ in limits}) == 1  # then no effort is named
    said = [
        f"max_tokens {was}{'' if every else f' at effort {e}'}, and the recipe has {now}"
        for was, now, e in limits
        if was != now
    ]
    out += dict.fromkeys(said)
    if judged.temperature != asked.temperature:
        out.append(f"temperature {judged.temperature:g}, and the recipe has {asked.temperature:g}")
    if judged.repeats < asked.repeats:
        out.append(f"repeats {judged.repeats}, and the recipe has {asked.repeats}")
    return (
        out
        + _modules(judged, asked)
        + _code(judged, asked)
        + (_made(judged, asked) if judged.made or asked.questions_file else _by_hand(judged, asked))
    )


def _laxer(judged: Gated, asked: Gated) -> list[str]:
    """Limits that a verdict was held to, and that a recipe has otherwise: higher ones, and none where it has one."""
    out = []
    for key, limit in asked:
        was = getattr(judged, key)
        if limit is True and not was:
            out.append(f"limits.{key} false, and the recipe has true")
        elif not isinstance(limit, bool) and limit is not None and (was is None or was > limit):
            out.append(f"limits.{key} {'none' if was is None else f'{was:g}'}, and the recipe has {limit:g}")
    return out


def _modules(judged: Judged, asked: Evaluate) -> list[str]:
    """A generated set is about what it was made from, even where a module had no question to give: no set has more."""
    wanted, recipe = set(asked.modules), f"the recipe's modules are {', '.join(asked.modules)}"
    found = judged.made.get("modules", [])
    about = {str(name) for name in found} if judged.made and isinstance(found, list) else set(judged.modules)
    if wanted and (others := set(judged.modules) - wanted):
        return [f"questions about {_some(others)}, and {recipe}"]
    if lacking := wanted - about:
        return [f"no question about {_some(lacking)}, and {recipe}"]
    return []


def _made(judged: Judged, asked: Evaluate) -> list[str]:
    """Of a set that was generated for fewer questions, or otherwise: for more is no less strict."""
    out, now = [], asked.about_questions
    for name in sorted(now.keys() - {"modules", TUTORIAL, CODE}):  # advice makes no verdict stricter
        # Of general ones those that there are: the templates may have given fewer than were wanted.
        was = judged.general if name == GENERAL else judged.made.get(name)
        fewer = name in ("questions", "taught", GENERAL)
        if was != now[name] and not (fewer and isinstance(was, int) and was > now[name]):
            out.append(f"{name} {_said(name, was)}, and the recipe has {_said(name, now[name])}")
    return out


def _code(judged: Judged, asked: Evaluate) -> list[str]:
    """Code questions share split and margin with the other held-out ones: more than asked for dilute those. Fewer are
    as strict where the set was made for enough: then the modules gave no more."""
    wanted, there = judged.made.get(CODE), judged.code
    no_more = isinstance(wanted, int) and wanted >= asked.code
    if there > asked.code or (there < asked.code and not no_more):
        return [f"{CODE} {there}, and the recipe has {asked.code}"]
    return []


def _by_hand(judged: Judged, asked: Evaluate) -> list[str]:
    """How questions are generated says nothing about one's own; how many there have to be does, if it was written."""
    least = {"questions": ("held-out", judged.questions), GENERAL: (GENERAL, judged.general)}
    return [
        f"{was} {split} questions, made by hand, and the recipe has {key} = {getattr(asked, key)}"
        for key, (split, was) in least.items()
        if key in asked.model_fields_set and was < getattr(asked, key)
    ]


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(name or "no module" for name in shown[:5]) + (", …" if shown[5:] else "")


def _said(name: str, value: object) -> str:
    if name == "sha256" and value is not None:
        return str(value)[:12]
    return ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
