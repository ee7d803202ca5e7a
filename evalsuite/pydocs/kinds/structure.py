"""Kinds about structure: what stands where: modules, classes, what they come from and what they have."""

import random
from collections.abc import Iterator, Sequence
from itertools import permutations

from evalsuite.pydocs.facts import Class, Module
from evalsuite.pydocs.kinds.candidate import CHOICES, LITERAL, YESNO, Candidate, call

BINDINGS = ("a property", "a class method", "a static method", "an ordinary method")
EACH = 2  # questions of a kind about one class or module, where it could give many
_BUILT_IN = {"tuple", "list", "dict", "set", "frozenset", "int", "float", "str", "bytes", "type"}
_PUBLIC_BASES = {*_BUILT_IN, "Enum", "IntEnum", "Flag", "IntFlag", "StrEnum"}


def exporter(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for name, unfit in module.exports.items():
            told = module.name.split(".")[-1].lower() in name.lower()
            others = [m.name for m in modules if m is not module and name not in m.exports]
            if not told and len(others) >= 3:
                options = (module.name, *rng.sample(others, 3))
                check = f"' '.join(m for m in {options!r} if exports(m, {name!r}))"
                prompt = f"Which module exports `{name}`?"
                yield Candidate(module.name, name, prompt, check, "choice", options, unfit)


def names(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    every = sorted({(m.name, name) for m in modules for name in m.exports})
    for module in modules:
        strangers = sorted({name for m, name in every if m != module.name} - module.exports.keys())
        told = module.name.split(".")[-1].lower()
        own = [name for name, unfit in module.exports.items() if not unfit and told not in name.lower()]
        if len(strangers) >= CHOICES - 1:
            for name in rng.sample(own, min(4 * EACH, len(own))):
                options = (name, *rng.sample(strangers, CHOICES - 1))
                prompt = f"Which of these names does the module `{module.name}` have?"
                check = call("only_attribute", module.name, "", options)
                yield Candidate(module.name, name, prompt, check, "choice", options)


def exception_base(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for c in module.classes:
            if c.exception:
                prompt = f"What is the direct base class of the exception `{module.name}.{c.path}`? "
                prompt += "Answer with its name, without a module."
                check = call("base", module.name, c.path)
                yield Candidate(module.name, c.path, prompt, check, "exact", unfit=c.unfit)


def base(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    """Of classes that come from a public one: what comes from a private class is no fact of the library."""
    for module in modules:
        public = {c.path for c in module.classes} | _PUBLIC_BASES
        for c in module.classes:
            if not c.exception and c.ancestors and c.ancestors[0] in public:
                prompt = f"What is the direct base class of `{module.name}.{c.path}`? "
                prompt += "Answer with its name, without a module."
                check = call("base", module.name, c.path)
                yield Candidate(module.name, c.path, prompt, check, "exact", unfit=c.unfit)


def binding(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for c in module.classes:
            for name, unfit in c.members.items():
                prompt = f"What is `{name}` in the class `{module.name}.{c.path}`?"
                check = call("binding", module.name, c.path, name)
                yield Candidate(module.name, c.path, prompt, check, "choice", BINDINGS, c.unfit or unfit)


def method(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    every = {name for m in modules for c in m.classes for name in c.members}
    for module in modules:
        near = {name for c in module.classes for name in c.members}
        for c in module.classes:
            own = _documented(c)
            strangers = sorted((near if len(near - c.members.keys()) >= CHOICES else every) - c.members.keys())
            if not c.exception and len(strangers) >= CHOICES - 1:
                for name in rng.sample(own, min(EACH, len(own))):
                    options = (name, *rng.sample(strangers, CHOICES - 1))
                    prompt = f"Which of these attributes does the class `{module.name}.{c.path}` have?"
                    check = call("only_attribute", module.name, c.path, options)
                    yield Candidate(module.name, c.path, prompt, check, "choice", options, c.unfit)


def owner(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        classes = [c for c in module.classes if not c.exception and not c.unfit]
        for c in classes:
            for name in rng.sample(_documented(c), min(EACH, len(_documented(c)))):
                others = [o.path for o in classes if name not in o.members and c.path not in o.ancestors]
                if len(others) >= CHOICES - 1:
                    options = (c.path, *rng.sample(others, CHOICES - 1))
                    prompt = f"Which of these classes of `{module.name}` has an attribute `{name}`?"
                    check = call("only_owner", module.name, name, options)
                    yield Candidate(module.name, c.path, prompt, check, "choice", options)


def constant(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for name, unfit in module.constants.items():
            prompt = f"What is the value of the constant `{module.name}.{name}`? {LITERAL}"
            check = f"literal({call('look', module.name, name)})"
            yield Candidate(module.name, name, prompt, check, "literal", unfit=unfit)


def subclass(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        related = {
            pair
            for c, other in permutations(module.classes, 2)
            if other.path in c.ancestors
            for pair in ((c.path, other.path), (other.path, c.path))
        }
        unfit = {c.path: c.unfit for c in module.classes}
        paths = list(unfit)
        strangers = {(a, b) for a in paths for b in rng.sample(paths, min(2, len(paths))) if a != b}
        for a, b in sorted(related | strangers):
            prompt = f"Is `{module.name}.{a}` a subclass of `{module.name}.{b}`? {YESNO}"
            check = call("subclass", module.name, a, b)
            yield Candidate(module.name, a, prompt, check, "yesno", unfit=unfit[a] or unfit[b])


def _documented(c: Class) -> list[str]:
    return [name for name, unfit in c.members.items() if not unfit]
