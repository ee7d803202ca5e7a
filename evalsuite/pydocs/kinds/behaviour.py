"""Kinds about behaviour, executed: what lines show, what they return, and which exception they raise."""

import ast
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from evalsuite.pydocs.facts import Expression, Module, Session
from evalsuite.pydocs.kinds.candidate import SHOWN, Candidate, call, session
from evalsuite.pydocs.kinds.mutation import mutated

MUTATIONS = 3  # fresh variants of each session, of which one at most is asked as its twin
NAME = "Answer with the name of its class, without a module."


def doctest(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    """Docstring examples."""
    for module in modules:
        for example in module.sessions:
            if source := _needed(example.lines):
                yield _session(module.name, example, source)


def result(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    """Expressions of our own."""
    return (_result(m, e, e.source) for m, e in _shown(modules) if is_expression(e.source))


def state(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    """Statements of our own, and what there is behind them."""
    return (_result(m, e, _lines(e.source)) for m, e in _shown(modules) if not is_expression(e.source))


def returned(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for e in module.expressions:
            if is_expression(e.source) and not e.raises:
                prompt = session(module.name, e.source, "what is the type of the value of this expression?", NAME)
                check = call("returned", module.name, e.source)
                yield Candidate(module.name, e.about, prompt, check, "exact", unfit=e.unfit)


def raises(modules: Sequence[Module], _: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for e in module.expressions:
            if e.raises:
                source = _lines(e.source)
                prompt = session(module.name, source, "which exception does the last line of this raise?", NAME)
                check = call("raised", module.name, source)
                yield Candidate(module.name, e.about, prompt, check, "exact", unfit=e.unfit)


def doctest_twins(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    """Docstring examples with other literals: what cannot have been memorised."""
    for module in modules:
        for example in module.sessions:
            if source := _needed(example.lines):
                yield from _twins(partial(_session, module.name, example), source, rng)


def result_twins(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    return (
        t for m, e in _shown(modules) if is_expression(e.source) for t in _twins(partial(_result, m, e), e.source, rng)
    )


def state_twins(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    return (
        t
        for m, e in _shown(modules)
        if not is_expression(e.source)
        for t in _twins(partial(_result, m, e), _lines(e.source), rng)
    )


def is_expression(source: str) -> bool:
    body = ast.parse(source).body
    return len(body) == 1 and isinstance(body[0], ast.Expr)


def _twins(make: "partial[Candidate]", source: str, rng: random.Random) -> Iterator[Candidate]:
    item = make(source)
    for other in (mutated(source, rng) for _ in range(MUTATIONS)):
        if other:
            yield make(other)._replace(twin_of=item.prompt)


def _shown(modules: Sequence[Module]) -> Iterator[tuple[str, Expression]]:
    return ((m.name, e) for m in modules for e in m.expressions if e.shown)


def _lines(source: str) -> str:
    """Statements, each on its line; an expression as it was written."""
    return source if is_expression(source) else "\n".join(ast.unparse(s) for s in ast.parse(source).body)


def _needed(lines: str) -> str:
    """An example's last statement and what came before it, less the lines that only showed something; "" for an
    f-string that cannot be written out again."""
    tree = ast.parse(lines)
    tree.body = [s for s in tree.body[:-1] if not isinstance(s, ast.Expr)] + tree.body[-1:]
    with suppress(ValueError):
        return ast.unparse(tree)
    return ""


def _session(module: str, example: Session, source: str) -> Candidate:
    prompt = session(module, source, "what does the last line of this session show?", SHOWN, star=True)
    return Candidate(module, example.path, prompt, call("printed", module, source), None, unfit=example.unfit)


def _result(module: str, e: Expression, source: str) -> Candidate:
    prompt = session(module, source, "what does the last line of this session show?", SHOWN)
    return Candidate(module, e.about, prompt, call("shown", module, source), None, unfit=e.unfit)
