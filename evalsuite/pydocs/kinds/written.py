"""Kinds whose answer is code of the model's own: a call, a signature, a doctest, a call made right.

What they give, and that the wrong call raises, is found by running them, as of all kinds; unlike those, their answers
are run too (evalsuite/code).
"""

import ast
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from evalsuite.pydocs.facts import Expression, Module
from evalsuite.pydocs.kinds.behaviour import is_expression
from evalsuite.pydocs.kinds.candidate import call, routines, without_self
from evalsuite.pydocs.running import BLANK
from evalsuite.questions import Grader

LONGEST_SHOWN = 60
# Modules with functions that run text, reach any attribute by its name, or open files: an answer of one's own choice
# could say there what the language of answers does not let it say.
POWERFUL = {
    *("codecs", "configparser", "copy", "dataclasses", "functools", "inspect", "io", "linecache", "lzma", "operator"),
    *("pickle", "plistlib", "string", "tarfile", "traceback", "types"),
}


class Written(NamedTuple):
    """A question whose answer is code. `check` gives its truth: `value`, or where that is "" the answer itself."""

    module: str
    about: str
    prompt: str
    check: str
    grader: Grader
    answer: str = ""
    source: str = ""
    value: str = ""
    unfit: str = ""


def called(modules: Sequence[Module], _: random.Random) -> Iterator[Written]:
    for module, e in _lines(modules):
        name, tree = f"{module.name}.{e.about}", ast.parse(e.source, mode="eval")
        found = _calls(tree, name)
        if len(found) == 1 and module.name not in POWERFUL:
            answer = ast.unparse(found[0])
            source = ast.unparse(_Put(found[0], ast.Name(BLANK)).visit(tree))
            prompt = f"After `import {module.name}`, which call of `{name}` in place of `{BLANK}` makes this hold, the "
            prompt += f"type of the value too?\n\n```python\nassert {source} == {e.shown}\n```\n\n"
            prompt += "Several may do. Answer with the call alone, in one line."
            check = f"literal({call('_value', module.name, e.source)})"
            yield Written(module.name, e.about, prompt, check, "call", answer, source, e.shown, e.unfit)


def signature(modules: Sequence[Module], _: random.Random) -> Iterator[Written]:
    """Of those with neither parameters by place alone nor `*` and `**`: documentation leaves out many a `/`, and gives
    what a wrapper hands on a signature of its own (`subprocess.run` takes `*popenargs, **kwargs`). The grader can tell
    both, but an answer as documented would be wrong, and one that overlooked them no full signature."""
    less = without_self(modules)
    for m, r, parameters in routines(modules):
        if len(parameters) > 1 and not r.variadic and not any(p.positional_only for p in parameters):
            prompt = f"What is the full signature of `{m}.{r.path}`{less[m, r.path]}? Write it as a `def` does, "
            prompt += "without annotations: every parameter in its place, every default, and `*` if there is one."
            unfit = next((why for p in parameters for why in (p.unfit, p.default_unfit) if why), "")
            check = call("signature", m, r.path)
            yield Written(m, r.path, prompt, check, "signature", unfit=r.unfit or r.order_unfit or unfit)


def doctest(modules: Sequence[Module], _: random.Random) -> Iterator[Written]:
    for module, e in _lines(modules):
        if _calls(ast.parse(e.source), f"{module.name}.{e.about}"):
            prompt = f"After `import {module.name}`, write this line as an example of a docstring, such that `doctest` "
            prompt += "passes: the line behind `>>> `, and below it what the interpreter shows."
            prompt += f"\n\n```python\n{e.source}\n```"
            answer = f">>> {e.source}\n{e.shown}"
            check = call("shown", module.name, e.source)
            yield Written(module.name, e.about, prompt, check, "doctest", answer, e.source, e.shown, e.unfit)


def fixed(modules: Sequence[Module], rng: random.Random) -> Iterator[Written]:
    """With the name of another function's parameter in place of a keyword."""
    for module, e in _lines(modules):
        name, tree = f"{module.name}.{e.about}", ast.parse(e.source, mode="eval")
        taken = {p.name for r in module.routines if r.path == e.about for p in r.parameters}
        near = {p.name for r in module.routines if not r.unfit for p in r.parameters}
        strangers = sorted(s for s in near - taken if not s.startswith("_"))
        given = [k for found in _calls(tree, name) for k in found.keywords if k.arg]
        if given and strangers:
            right, chosen = ast.unparse(tree), rng.choice(given)
            chosen.arg = wrong = rng.choice(strangers)
            source = ast.unparse(tree)
            prompt = f"After `import {module.name}`, this raises TypeError, since `{wrong}` is no parameter of "
            prompt += f"`{name}`. With the right name in its place it evaluates to `{e.shown}`."
            prompt += f"\n\n```python\n{source}\n```\n\nAnswer with the whole line, with that name replaced "
            prompt += "and nothing else changed."
            raises = f"{call('raised', module.name, source)} == 'TypeError'"
            check = f"{call('shown', module.name, right)} if {raises} else None"
            yield Written(module.name, e.about, prompt, check, "fix", right, source, e.shown, e.unfit)


WRITTEN: dict[str, Callable[[Sequence[Module], random.Random], Iterator[Written]]] = {
    "code-call": called,
    "code-signature": signature,
    "code-doctest": doctest,
    "code-fix": fixed,
}


class _Put(ast.NodeTransformer):
    def __init__(self, old: ast.Call, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _lines(modules: Sequence[Module]) -> Iterator[tuple[Module, Expression]]:
    """Expressions of our own with a value that a prompt can show."""
    for module in modules:
        for e in module.expressions:
            shown = 0 < len(e.shown) <= LONGEST_SHOWN and e.shown.isprintable() and "`" not in e.shown + e.source
            if shown and not e.raises and is_expression(e.source):
                yield module, e


def _calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]
