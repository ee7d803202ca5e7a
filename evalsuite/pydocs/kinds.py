"""Facts in, candidate questions out: one function a kind. Pure; truths are found later, by running `check`.

To add a kind: write a function like these, add it to KINDS, and give harvest.py what its check calls.
"""

import ast
import random
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import permutations
from typing import NamedTuple

from evalsuite.pydocs.facts import Module, Parameter, Routine, Session
from evalsuite.questions import Grader

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
BINDINGS = ("a property", "a class method", "a static method", "an ordinary method")
MUTATIONS = 3  # fresh variants of each docstring example

_LITERAL = "Answer with a Python literal."
_YESNO = "Answer yes or no."


class Candidate(NamedTuple):
    """A question whose answer is not known yet.

    `check` is an expression over the functions of harvest.py; its value is the answer, for a choice one of
    `options` word for word. `grader` None: literal where the answer turns out to be one, else exact. `about` is the
    path of the object in its module; `unfit` says why it must not be asked.
    """

    module: str
    about: str
    prompt: str
    check: str
    grader: Grader | None
    options: tuple[str, ...] = ()
    unfit: str = ""


Kind = Callable[[Sequence[Module], random.Random], Iterator[Candidate]]


def default(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for m, r, parameters in _parameters(modules):
        for p in parameters:
            if p.default:
                prompt = f"What is the default value of the parameter `{p.name}` of `{m}.{r.path}`? {_LITERAL}"
                check, unfit = _call("default", m, r.path, p.name), r.unfit or p.unfit or p.default_unfit
                yield Candidate(m, r.path, prompt, check, "literal", unfit=unfit)


def keyword_only(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for m, r, parameters in _parameters(modules):
        if len({p.keyword_only for p in parameters}) == 2:
            for p in parameters:
                prompt = f"Is the parameter `{p.name}` of `{m}.{r.path}` keyword-only? {_YESNO}"
                check = _call("keyword_only", m, r.path, p.name)
                yield Candidate(m, r.path, prompt, check, "yesno", unfit=r.unfit or p.unfit)


def position(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    classes = {(m.name, c.path) for m in modules for c in m.classes}
    for m, r, parameters in _parameters(modules):
        less = ", not counting `self`" if "." in r.path or (m, r.path) in classes else ""
        for k, (ordinal, p) in enumerate(zip(ORDINALS, parameters, strict=False)):
            if not p.keyword_only:
                prompt = f"What is the name of the {ordinal} parameter of `{m}.{r.path}`{less}? "
                prompt += "Answer with the bare name."
                check, unfit = f"{_call('parameters', m, r.path)}[{k}].name", r.unfit or r.order_unfit or p.unfit
                yield Candidate(m, r.path, prompt, check, "exact", unfit=unfit)


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


def exception_base(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for c in module.classes:
            if c.exception:
                prompt = f"What is the direct base class of the exception `{module.name}.{c.path}`? "
                prompt += "Answer with its name, without a module."
                check = _call("base", module.name, c.path)
                yield Candidate(module.name, c.path, prompt, check, "exact", unfit=c.unfit)


def binding(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for c in module.classes:
            for name, unfit in c.members.items():
                prompt = f"What is `{name}` in the class `{module.name}.{c.path}`?"
                check = _call("binding", module.name, c.path, name)
                yield Candidate(module.name, c.path, prompt, check, "choice", BINDINGS, c.unfit or unfit)


def constant(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for name, unfit in module.constants.items():
            prompt = f"What is the value of the constant `{module.name}.{name}`? {_LITERAL}"
            check = f"literal({_call('look', module.name, name)})"
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
            prompt = f"Is `{module.name}.{a}` a subclass of `{module.name}.{b}`? {_YESNO}"
            check = _call("subclass", module.name, a, b)
            yield Candidate(module.name, a, prompt, check, "yesno", unfit=unfit[a] or unfit[b])


def session(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for example in module.sessions:
            yield from _session(module.name, example, _needed(example.lines))


def mutated(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    """Docstring examples with other literals: what cannot have been memorised."""
    for module in modules:
        for example in module.sessions:
            for _ in range(MUTATIONS):
                yield from _session(module.name, example, _Mutate(rng).visit(_needed(example.lines)))


KINDS: dict[str, Kind] = {
    "default": default,
    "keyword-only": keyword_only,
    "position": position,
    "exporter": exporter,
    "exception-base": exception_base,
    "binding": binding,
    "constant": constant,
    "subclass": subclass,
    "session": session,
    "mutated": mutated,
}


def _parameters(modules: Sequence[Module]) -> Iterator[tuple[str, Routine, tuple[Parameter, ...]]]:
    """(module, routine, its parameters) of every routine without private parameters."""
    for module in modules:
        for r in module.routines:
            if not any(p.name.startswith("_") for p in r.parameters):
                yield module.name, r, r.parameters


def _call(function: str, *arguments: str) -> str:
    return f"{function}({', '.join(map(repr, arguments))})"


def _needed(lines: str) -> ast.Module:
    """An example's last statement and what came before it, less the lines that only showed something."""
    tree = ast.parse(lines)
    tree.body = [s for s in tree.body[:-1] if not isinstance(s, ast.Expr)] + tree.body[-1:]
    return tree


def _session(module: str, example: Session, tree: ast.Module) -> Iterator[Candidate]:
    with suppress(ValueError):  # an f-string that cannot be written out again
        source = ast.unparse(tree)
        prompt = (
            f"After `import {module}` and `from {module} import *`, what does the last line of this session show?\n\n"
            f"```python\n{source}\n```\n\nAnswer with exactly what is shown."
        )
        yield Candidate(module, example.path, prompt, _call("printed", module, source), None, unfit=example.unfit)


class _Mutate(ast.NodeTransformer):
    """Other letters, digits, bytes and numbers of the same shape; what stops running is dropped when verified."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        value = node.value
        if isinstance(value, bool):
            return node
        if isinstance(value, int):
            return ast.Constant(self.rng.randint(value // 2, 2 * value + 3) if value >= 0 else value)
        if isinstance(value, str):
            return ast.Constant("".join(map(self._letter, value)))
        if isinstance(value, bytes):
            return ast.Constant(bytes(self._letter(chr(b)).encode("latin-1")[0] for b in value))
        return node

    def _letter(self, letter: str) -> str:
        for family in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
            if letter in family:
                return self.rng.choice(family)
        return chr(self.rng.randrange(128, 256)) if "\x80" <= letter <= "\xff" else letter
