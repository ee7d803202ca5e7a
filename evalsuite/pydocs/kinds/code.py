"""Kinds about code, executed: which of four calls, names or lines does what is wanted; the other three do not."""

import ast
import random
import re
from collections.abc import Iterator, Sequence

from evalsuite.pydocs.facts import Expression, Module, Parameter, Routine
from evalsuite.pydocs.kinds.behaviour import is_expression
from evalsuite.pydocs.kinds.candidate import CHOICES, Candidate, call, routines
from evalsuite.pydocs.kinds.mutation import mutated

BLANK = "____"  # as running.py fills it
LONGEST_SHOWN = 60
TRIES = 20  # to find other literals
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
CAUGHT = ("ValueError", "TypeError", "OSError", "LookupError", "ArithmeticError", "RuntimeError", "ImportError",
          "AttributeError", "SyntaxError", "EOFError", "Warning")  # fmt: skip


def fits(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    """Of functions and classes: a call that the signature takes, and three that raise TypeError."""
    for m, r, parameters in routines(modules):
        unfit = r.unfit or r.order_unfit or next((p.unfit for p in parameters if p.unfit), "")
        wrong = _misfits(r, parameters) if parameters and not r.variadic and "." not in r.path else []
        if len(wrong) >= CHOICES - 1:
            options = tuple(f"{m}.{each}" for each in (_call(r, parameters), *rng.sample(wrong, CHOICES - 1)))
            prompt = f"Which of these calls does `{m}.{r.path}` take, whatever its arguments are?"
            prompt += " The others raise TypeError, since they do not fit its parameters."
            yield Candidate(m, r.path, prompt, call("only_fitting", m, r.path, options), "choice", options, unfit)


def blank(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        classes = {c.path for c in module.classes}
        functions = [r.path for r in module.routines if "." not in r.path and r.path not in classes]
        for e in module.expressions:
            others = [name for name in functions if name != e.about]
            named = f"{module.name}.{e.about}("
            if _asks(e) and e.about in functions and e.source.count(named) == 1 and len(others) >= CHOICES - 1:
                options = (e.about, *rng.sample(others, CHOICES - 1))
                source = e.source.replace(named, f"{module.name}.{BLANK}(")
                prompt = f"After `import {module.name}`, which name in place of `{BLANK}` makes this "
                prompt += f"evaluate to `{e.shown}`?\n\n```python\n{source}\n```"
                check = call("only_filling", module.name, source, options, e.shown)
                yield Candidate(module.name, e.about, prompt, check, "choice", options, e.unfit)


def which_result(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for e in module.expressions:
            others = _others(e, rng) if _asks(e) else []
            if others:
                options = (ast.unparse(ast.parse(e.source)), *others)
                prompt = f"After `import {module.name}`, which of these evaluates to `{e.shown}`?"
                check = call("only_shown", module.name, options, e.shown)
                yield Candidate(module.name, e.about, prompt, check, "choice", options, e.unfit)


def which_raises(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        fine = [e for e in module.expressions if _asks(e)]
        for e in module.expressions:
            near = [o.source for o in fine if o.about == e.about]
            far = [o.source for o in fine if o.about != e.about]
            if e.raises and is_expression(e.source) and len(fine) >= CHOICES - 1:
                others = [*rng.sample(near, len(near)), *rng.sample(far, len(far))][: CHOICES - 1]
                options = (e.source, *others)
                prompt = f"After `import {module.name}`, which of these raises an exception?"
                check = call("only_raising", module.name, options)
                yield Candidate(module.name, e.about, prompt, check, "choice", options, e.unfit)


def catches(modules: Sequence[Module], rng: random.Random) -> Iterator[Candidate]:
    for module in modules:
        for c in module.classes:
            fitting = [name for name in CAUGHT if name in c.ancestors]
            others = [name for name in CAUGHT if name not in c.ancestors and name != c.path]
            if c.exception and fitting:
                options = (rng.choice(fitting), *rng.sample(others, CHOICES - 1))
                prompt = f"An `except` clause with which of these catches `{module.name}.{c.path}`?"
                check = call("only_catching", module.name, c.path, options)
                yield Candidate(module.name, c.path, prompt, check, "choice", options, c.unfit)


def _asks(e: Expression) -> bool:
    """Whether it is an expression with a value that a prompt can show."""
    return is_expression(e.source) and 0 < len(e.shown) <= LONGEST_SHOWN and "`" not in e.shown + e.source


def _others(e: Expression, rng: random.Random) -> list[str]:
    """Variants of an expression: with other numbers, or where that gives too few, with other words, unless what is
    shown holds one and would tell."""
    told = any(word in e.shown for word in re.findall(r"[a-zA-Z]+", " ".join(_QUOTED.findall(e.source))))
    for letters in (False, True):
        made = {v for _ in range(TRIES) if (v := mutated(e.source, rng, letters=letters))}
        if len(made) >= CHOICES - 1 and not (letters and told):
            return rng.sample(sorted(made), CHOICES - 1)
    return []


def _call(r: Routine, parameters: Sequence[Parameter], *, less: int = 0, more: str = "") -> str:
    """A call with an argument for each parameter without a default, less the last ones by place, and more."""
    needed = [p for p in parameters if not p.default]
    placed = [f"x{i}" for i, p in enumerate(needed) if not p.keyword_only]
    named = [f"{p.name}=y{i}" for i, p in enumerate(needed) if p.keyword_only]
    return f"{r.path}({', '.join([*placed[: len(placed) - less], *named, *filter(None, [more])])})"


def _misfits(r: Routine, parameters: Sequence[Parameter]) -> list[str]:
    """Calls that lack an argument, or have one too many, twice or unknown."""
    places = [p for p in parameters if not p.keyword_only]
    needed = [p for p in parameters if not p.default]
    found = [f"{r.path}({', '.join(f'x{i}' for i in range(len(places) + extra))})" for extra in (1, 2)]
    if any(not p.keyword_only for p in needed):
        found.append(_call(r, parameters, less=1))
        first = next(p for p in needed if not p.keyword_only)
        found.append(_call(r, parameters, more=f"{first.name}=z"))
    for p in parameters:
        if not p.default and p.keyword_only:
            found.append(f"{r.path}({', '.join(f'x{i}' for i in range(len(needed)))})")
    return list(dict.fromkeys(found))
