"""The text of a signature in, an `inspect.Signature` out. Parsed, never run."""

import ast
import inspect
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any

_HEAD = re.compile(r"(?s)\s*(?:(?:async\s+)?def\s+|class\s+)?[\w.]*\s*(\(.*)")
_SELF = {"self", "cls"}
_P = inspect.Parameter


def read(text: str, value: Callable[[str], Hashable | None]) -> inspect.Signature | None:
    """None where it is no signature, or `value` knows no value of a default; in place of the default stands that value.

    Annotations are left out, and so are the name and a first `self` or `cls`. Keyword-only parameters are equal in any
    order, as Python has it."""
    head = _HEAD.fullmatch(text)
    try:
        body = ast.parse(f"def f{head[1].strip().removesuffix(':')}: pass").body if head else []
        if not head or len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or len(body[0].body) != 1:
            return None
        found = list(_parameters(body[0].args, value))
        if found and found[0].name in _SELF:
            del found[0]
        return inspect.Signature(found)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _parameters(given: ast.arguments, value: Callable[[str], Hashable | None]) -> Iterator[inspect.Parameter]:
    placed: list[tuple[str, Any]] = [(a.arg, _P.POSITIONAL_ONLY) for a in given.posonlyargs]
    placed += [(a.arg, _P.POSITIONAL_OR_KEYWORD) for a in given.args]
    defaults = [None] * (len(placed) - len(given.defaults)) + list(given.defaults)
    for (name, kind), default in zip(placed, defaults, strict=True):
        yield _P(name, kind, default=_default(default, value))
    if given.vararg:
        yield _P(given.vararg.arg, _P.VAR_POSITIONAL)
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _P(argument.arg, _P.KEYWORD_ONLY, default=_default(default, value))
    if given.kwarg:
        yield _P(given.kwarg.arg, _P.VAR_KEYWORD)


def _default(node: ast.expr | None, value: Callable[[str], Hashable | None]) -> Hashable:
    if node is None:
        return _P.empty
    if (found := value(ast.unparse(node))) is None:
        raise ValueError("no literal")
    return found
