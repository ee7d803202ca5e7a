"""A signature's text -> its parameters. Read with `ast`: nothing is imported, nothing is run.

In: text such as `heapq.merge(*iterables, key=None)`, as docstrings and Sphinx print it. Out: names, kinds and
defaults. Knows nothing about pages.
"""

import ast
import re
import warnings
from functools import lru_cache
from typing import Literal, NamedTuple

_PATTERN = re.compile(
    r"(?:(?:async|class|classmethod|static|staticmethod|abstract|abstractmethod|final) +)*@?([\w.]+)(\(.*\))"
    r"( *(?:->|→) *[^\n]+)?"
)


class Parameter(NamedTuple):
    """`kind`: passed by position only, by either way, by keyword only, or a collector (*args, **kwargs)."""

    name: str
    kind: Literal["position", "either", "keyword", "collector"]
    default: str = ""  # source text; empty when there is none

    @property
    def literal(self) -> bool:
        """Whether the default is a value that can be written down: None, True, 3, 'utf-8', ()."""
        if not self.default:
            return False
        try:
            ast.literal_eval(self.default)
        except (ValueError, SyntaxError):
            return False
        return True


class Signature(NamedTuple):
    """`parameters` leaves out self and cls; `skipped` says so, or is empty."""

    name: str
    text: str
    parameters: tuple[Parameter, ...]
    skipped: str


@lru_cache(maxsize=256)  # a page's signatures are looked at by several kinds of question
def parse(text: str) -> Signature | None:
    """The signature on the first line; None when that is not one that Python could have written."""
    line = text.partition("\n")[0].strip()
    found = _PATTERN.fullmatch(line)
    if not found:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # '\\d' in a default
            definition = ast.parse(f"def f{found[2]}: pass").body[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(definition, ast.FunctionDef):
        return None
    a = definition.args
    ordered = [*a.posonlyargs, *a.args]
    defaults: list[ast.expr | None] = [None] * (len(ordered) - len(a.defaults)) + list(a.defaults)
    out = [
        Parameter(arg.arg, "position" if i < len(a.posonlyargs) else "either", _source(default))
        for i, (arg, default) in enumerate(zip(ordered, defaults, strict=True))
    ]
    if a.vararg:
        out.append(Parameter(a.vararg.arg, "collector"))
    out += [
        Parameter(arg.arg, "keyword", _source(value)) for arg, value in zip(a.kwonlyargs, a.kw_defaults, strict=True)
    ]
    if a.kwarg:
        out.append(Parameter(a.kwarg.arg, "collector"))
    if len({p.name for p in out}) < len(out):
        return None
    first = out[0].name if out else ""
    bound = first in {"self", "cls"}
    parameters = tuple(p for p in (out[1:] if bound else out) if not p.name.startswith("_"))
    return Signature(found[1], line, parameters, f", not counting `{first}`" if bound else "")


def _source(default: ast.expr | None) -> str:
    return ast.unparse(default) if default is not None else ""
