"""An answer that is code in, whether it is right out, and what running it said. Read as Python before it is run.

`call`: an expression in place of the blank of a line; the line has to give the value. `fix`: the same line with other
names of its keyword arguments; it has to show the value. `doctest`: the given line as a doctest that passes.

The language of a `call` is expressions over the module asked about, plain values and a few built-ins: no name and no
attribute that begins with an underscore or leads to a frame. The other two run nothing but the question's own line,
with other names of keyword arguments at most.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from evalsuite.code import execution, inside
from evalsuite.code.execution import Program
from evalsuite.questions import Code, Question

BLANK = "____"  # as pydocs/running.py has it
SHOWN = 100  # characters of what a wrong answer gives
_REFUSED = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
_HIDDEN = re.compile(r"_|(?:gi|cr|ag|tb|co|f)_")


class Verdict(NamedTuple):
    right: bool
    log: str = ""  # why it is not


class _Wrong(Exception):
    """Why an answer is not run, or wrong before it is."""


def verdict(question: Question, code: Code, readings: Sequence[str]) -> Verdict:
    """`readings` of the answer: the first that is Python counts. Raises UserError where nothing may be run."""
    try:
        program, want = _program(question, code, readings)
    except _Wrong as e:
        return Verdict(False, str(e))
    found = execution.ran(program)
    if found.error:
        return Verdict(False, found.error)
    gives = f"gives {found.shown[:SHOWN] or 'nothing'}"
    if question.grader == "call":
        return Verdict(True) if found.typed == inside.typed(ast.literal_eval(code.value)) else Verdict(False, gives)
    if found.shown != code.value:
        return Verdict(False, gives)
    if want is None or _shows(want, found.shown):
        return Verdict(True)
    return Verdict(False, f"the line {gives}, and the example says {want.strip()[:SHOWN] or 'nothing'}")


def program(question: Question, code: Code, readings: Sequence[str]) -> Program | None:
    """What has to be run for the verdict; None where nothing has."""
    try:
        return _program(question, code, readings)[0]
    except _Wrong:
        return None


def _program(question: Question, code: Code, readings: Sequence[str]) -> tuple[Program, str | None]:
    """What to run, and of a doctest what it says will be shown."""
    want: str | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a model's string is no news of ours
            if question.grader == "call":
                tree = _filled(code, _free(_parsed(readings), question.module, code.about))
            elif question.grader == "fix":
                tree = _same(_parsed(readings), code, keywords=True)
            else:
                tree, want = _doctest(readings[0], question.module)
                tree = _same(tree, code, keywords=False)
            return Program(question.module, ast.unparse(tree)), want
    except (ValueError, MemoryError, RecursionError) as e:
        raise _Wrong(f"is no Python that can be read: {type(e).__name__}") from None


def _parsed(readings: Sequence[str]) -> ast.Expression:
    for text in readings:
        try:
            return ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError):
            continue
    raise _Wrong("is no Python expression")


def _free(tree: ast.Expression, module: str, about: str) -> ast.expr:
    """A call of the object asked about, and nothing around it."""
    called = tree.body
    if not isinstance(called, ast.Call) or ast.unparse(called.func) != f"{module}.{about}":
        raise _Wrong(f"is no call of {module}.{about}")
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    root = module.partition(".")[0]
    if root in bound:
        raise _Wrong(f"gives {root} another meaning")
    for node in ast.walk(tree):
        if isinstance(node, _REFUSED):
            raise _Wrong(f"uses {type(node).__name__}, which no answer needs")
        if isinstance(node, ast.Name) and node.id not in {root, *bound, *inside.SAFE}:
            raise _Wrong(f"uses the name {node.id}, which there is not")
        if isinstance(node, ast.Attribute) and _HIDDEN.match(node.attr):
            raise _Wrong(f"uses the attribute {node.attr}, which no answer needs")
    return called


def _filled(code: Code, answer: ast.expr) -> ast.Expression:
    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return answer if node.id == BLANK else node

    return ast.Expression(Fill().visit(ast.parse(code.source, mode="eval").body))


def _same(tree: ast.Expression, code: Code, *, keywords: bool) -> ast.Expression:
    """The tree, if it is the question's own line; with `keywords`, whatever the names of its keyword arguments."""
    own = ast.parse(code.source, mode="eval")
    form = (lambda each: _nameless(ast.unparse(each))) if keywords else ast.dump
    if form(tree) != form(own):
        raise _Wrong("is another line than the one asked about")
    return tree


def _nameless(source: str) -> str:
    """Calls with their keyword arguments in one order and without names. What stands in its place stays there: with the
    wrong name left out, a line could be made right by who knows no name."""

    class Nameless(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.Call:
            self.generic_visit(node)
            given = [ast.keyword(k.arg and "_", k.value) for k in node.keywords]  # None is `**`
            return ast.Call(node.func, node.args, sorted(given, key=ast.dump))

    return ast.dump(Nameless().visit(ast.parse(source, mode="eval")))


def _doctest(text: str, module: str) -> tuple[ast.Expression, str]:
    """The line of the last example, written as after `import module`, and what it says will be shown. Before it may
    stand imports of the module; around them a docstring's quotes, and what the docstring is of."""
    import doctest

    try:
        examples = doctest.DocTestParser().get_examples(_docstrings(text) or text)
        trees = [ast.parse(example.source) for example in examples]
    except SyntaxError as e:
        raise _Wrong(f"is no Python that can be read: {type(e).__name__}") from None
    if not examples:
        raise _Wrong("is no doctest with a line behind >>> and what it shows below")
    *before, last = [statement for tree in trees for statement in tree.body]
    if any(example.want for example in examples[:-1]) or not isinstance(last, ast.Expr):
        raise _Wrong("is not one example that ends in an expression")
    names = dict[str, str]()
    for statement in before:
        names |= _imported(statement, module)

    class Full(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return ast.parse(names[node.id], mode="eval").body if node.id in names else node

    return ast.Expression(Full().visit(last.value)), examples[-1].want


def _docstrings(text: str) -> str:
    """What the docstrings of a text say that is Python, as Python 3.13 keeps them; "" for another text."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return ""
    owners = [n for n in nodes if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    return "\n\n".join(filter(None, map(ast.get_docstring, owners)))


def _imported(statement: ast.stmt, module: str) -> dict[str, str]:
    """The names that an import of the module makes, and what each is after `import module`."""
    if isinstance(statement, ast.Import) and all(each.name == module for each in statement.names):
        return {each.asname: module for each in statement.names if each.asname}
    if isinstance(statement, ast.ImportFrom) and statement.module == module and not statement.level:
        return {each.asname or each.name: f"{module}.{each.name}" for each in statement.names if each.name != "*"}
    raise _Wrong(f"does more than import {module} before its line")


def _shows(want: str, shown: str) -> bool:
    import doctest

    return doctest.OutputChecker().check_output(want, f"{shown}\n" if shown else "", 0)
