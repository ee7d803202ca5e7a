"""Kinds about signatures: parameters' names, places and defaults, and how they may be passed."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from evalsuite.pydocs.facts import Module, Routine
from evalsuite.pydocs.kinds.candidate import CHOICES, LITERAL, YESNO, Candidate, call, routines, without_self

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def default(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for m, r, parameters in routines(modules):
        for p in parameters:
            if p.default:
                prompt = f"What is the default value of the parameter `{p.name}` of `{m}.{r.path}`? {LITERAL}"
                check, unfit = call("default", m, r.path, p.name), r.unfit or p.unfit or p.default_unfit
                yield Candidate(m, r.path, prompt, check, "literal", unfit=unfit)


def keyword_only(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for m, r, parameters in routines(modules):
        if len({p.keyword_only for p in parameters}) == 2:
            for p in parameters:
                prompt = f"Is the parameter `{p.name}` of `{m}.{r.path}` keyword-only? {YESNO}"
                check = call("keyword_only", m, r.path, p.name)
                yield Candidate(m, r.path, prompt, check, "yesno", unfit=r.unfit or p.unfit)


def position(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    less = without_self(modules)
    for m, r, parameters in routines(modules):
        for k, (ordinal, p) in enumerate(zip(ORDINALS, parameters, strict=False)):
            if not p.keyword_only:
                prompt = f"What is the name of the {ordinal} parameter of `{m}.{r.path}`{less[m, r.path]}? "
                prompt += "Answer with the bare name."
                check, unfit = f"{call('parameters', m, r.path)}[{k}].name", r.unfit or r.order_unfit or p.unfit
                yield Candidate(m, r.path, prompt, check, "exact", unfit=unfit)


def required(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    less = without_self(modules)
    for m, r, parameters in routines(modules):
        if not r.variadic and parameters:
            prompt = f"How many parameters of `{m}.{r.path}` have no default value{less[m, r.path]}? {LITERAL}"
            yield Candidate(m, r.path, prompt, call("required", m, r.path), "literal", unfit=_unfit(r))


def optional(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for m, r, parameters in routines(modules):
        if len({p.default for p in parameters}) == 2:
            for p in parameters:
                prompt = f"Can a call of `{m}.{r.path}` leave out the parameter `{p.name}`? {YESNO}"
                check = call("optional", m, r.path, p.name)
                yield Candidate(m, r.path, prompt, check, "yesno", unfit=r.unfit or p.unfit)


def by_name(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    """Of routines that take some by place alone, and as many other parameters of the same modules."""
    for module in modules:
        takes = [(r, p) for _, r, parameters in routines([module]) for p in parameters if not (r.unfit or p.unfit)]
        placed = [(r, p) for r, p in takes if p.positional_only]
        named = [(r, p) for r, p in takes if not p.positional_only and not p.keyword_only]
        for r, p in [*placed, *named[: len(placed)]]:
            prompt = f"Can a call of `{module.name}.{r.path}` pass the parameter `{p.name}` by its name? {YESNO}"
            yield Candidate(module.name, r.path, prompt, call("by_name", module.name, r.path, p.name), "yesno")


def takes(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    others = _names(modules)
    for m, r, parameters in routines(modules):
        strangers = sorted(others[m] - {p.name for p in parameters})
        if parameters and not r.variadic and len(strangers) >= CHOICES - 1:
            p = rng.choice(parameters)
            options = (p.name, *rng.sample(strangers, CHOICES - 1))
            prompt = f"Which of these is a parameter of `{m}.{r.path}`?"
            check = call("only_parameter", m, r.path, options)
            yield Candidate(m, r.path, prompt, check, "choice", options, r.unfit or p.unfit)


def which_keyword_only(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for m, r, parameters in routines(modules):
        known = [p for p in parameters if not p.unfit]
        placed = [p.name for p in known if not p.keyword_only]
        if len(placed) >= CHOICES - 1:
            for p in known:
                if p.keyword_only:
                    options = (p.name, *rng.sample(placed, CHOICES - 1))
                    prompt = f"Which of these parameters of `{m}.{r.path}` is keyword-only?"
                    check = f"only_parameter({m!r}, {r.path!r}, {options!r}, keyword=True)"
                    yield Candidate(m, r.path, prompt, check, "choice", options, r.unfit)


def _names(modules: Sequence[Module]) -> dict[str, set[str]]:
    """Module -> names of parameters of its routines; those of all modules where it has few."""
    each: dict[str, set[str]] = defaultdict(set)
    for m, _, parameters in routines(modules):
        each[m] |= {p.name for p in parameters}
    every = set[str]().union(*each.values())
    return defaultdict(lambda: every, {m: names for m, names in each.items() if len(names) > 2 * CHOICES})


def _unfit(r: Routine) -> str:
    """Why nothing is said of all parameters together."""
    return r.unfit or r.order_unfit or next((p.unfit for p in r.parameters if p.unfit), "")
