"""Runs inside the sandbox: whether a value is a fact of the library, or of this version, this platform, this machine.

A constant lasts when its module's source writes it out as a literal, once and under no condition; a default when the
`def` does. What C defines or a call computes does not, and neither does a module that later Pythons deprecate.
Imports nothing of ours.
"""

import ast
import enum
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

BOUND = "version- or platform-bound"
SENTINEL = "default is a sentinel or the machine's"

_PEP_594 = """aifc audioop cgi cgitb chunk crypt imghdr mailcap msilib nis nntplib ossaudiodev pipes sndhdr spwd sunau
telnetlib uu xdrlib"""
_NUMBERED = """token tokenize symbol opcode dis keyword stat os os.path posixpath ntpath sre_constants
encodings.aliases"""
REMOVED = {
    **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), "3.12"),
    **dict.fromkeys((*_PEP_594.split(), "lib2to3", "tkinter.tix"), "3.13"),
}
NUMBERED = frozenset(_NUMBERED.split())  # literals in their source, and yet those of one version or platform
MATHEMATICAL = frozenset({"math", "cmath"})  # C, and true everywhere
_OF_A_VERSION = re.compile(r"version|protocol|encoding|platform|warn|compatible|path|(?:^|_)(?:sep|magic)", re.I)
_SMALLEST, _LARGEST = -1, 2**31 - 1  # a default below or above stands for "not given", or for a size of this machine


def removed(name: str, warned: list[str]) -> str:
    """Why later Pythons do without the module; "" when nothing says so. `warned`: what its import warned of."""
    for known in (name, name.partition(".")[0]):
        if known in REMOVED:
            return f"it is removed in Python {REMOVED[known]}"
    said = [line for line in warned if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", line)]
    return f"its import warns: {said[0]}" if said else ""


def constant(module: Any, name: str, value: Any) -> str:
    """Why a module's constant is no lasting fact, or ""."""
    if module.__name__ in MATHEMATICAL:
        return ""
    if isinstance(value, enum.Enum) or module.__name__ in NUMBERED or _OF_A_VERSION.search(name):
        return BOUND
    return "" if any(_written(file).get(name) == repr(value) for file in _files(module)) else BOUND


def listed(module: Any, name: str) -> bool:
    """Whether a constant is in `__all__` by its own name: not by a pattern that takes in what nobody describes."""
    return hasattr(module, "__all__") and any(name in _texts(file) for file in _files(module))


def default(routine: Any, parameter: inspect.Parameter) -> str:
    """Why a parameter's default is not what its documentation would write, or ""."""
    value = parameter.default
    if isinstance(value, enum.Enum):
        return SENTINEL  # its members go by their names
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        return SENTINEL
    code = getattr(_function(routine), "__code__", None)
    node = _definitions(code.co_filename).get(code.co_firstlineno) if code else None
    if node is None:
        return ""  # C: its signature is what its documentation shows
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    given = dict(zip((a.arg for a in positional[::-1]), arguments.defaults[::-1], strict=False))
    given |= {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d}
    return "" if parameter.name not in given or _literal(given[parameter.name]) is not None else SENTINEL


def inherited(cls: type) -> bool:
    """Whether a class's signature is only that of a C class it comes from, as a structure's `iterable=()` is."""
    return cls.__text_signature__ is None and all(
        getattr(getattr(cls, name), "__code__", None) is None for name in ("__init__", "__new__")
    )


def _function(routine: Any) -> Any:
    if inspect.isclass(routine):
        routine = vars(routine).get("__init__") or vars(routine).get("__new__")
    return inspect.unwrap(getattr(routine, "__func__", routine)) if routine is not None else None


def _literal(node: ast.expr, known: dict[str, str] | None = None) -> str | None:
    """The repr of what an expression writes out, sums of such texts included; None when it computes more."""
    if isinstance(node, ast.Name) and known is not None:
        return known.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and known is not None:
        left, right = _literal(node.left, known), _literal(node.right, known)
        both = [ast.literal_eval(part) for part in (left, right) if part is not None]
        return repr(both[0] + both[1]) if len(both) == 2 and all(isinstance(part, str) for part in both) else None
    try:
        return repr(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError):
        return None


def _files(module: Any) -> list[str]:
    """Source files of a module and of the package's parts that are imported."""
    inside = f"{module.__name__}."
    parts = [module, *(m for key, m in sorted(sys.modules.items()) if key.startswith(inside) and m)]
    return [file for m in parts if (file := getattr(m, "__file__", None))]


@cache
def _texts(file: str) -> frozenset[str]:
    return frozenset(n.value for n in ast.walk(_tree(file)) if isinstance(n, ast.Constant) and isinstance(n.value, str))


@cache
def _tree(file: str) -> ast.Module:
    try:
        return ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


@cache
def _written(file: str) -> dict[str, str]:
    """Names that the top level of a file assigns a literal, and nothing else anywhere: their values' reprs."""
    tree, found = _tree(file), dict[str, str]()
    stored = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    for node in tree.body:
        if isinstance(node, ast.Assign) and (text := _literal(node.value, found)) is not None:
            found |= {t.id: text for t in node.targets if isinstance(t, ast.Name) and stored.count(t.id) == 1}
    return found


@cache
def _definitions(file: str) -> dict[int, ast.FunctionDef | ast.AsyncFunctionDef]:
    """A file's functions by the line that their code starts at: the first decorator's, where there is one."""
    defs = [n for n in ast.walk(_tree(file)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {min([n.lineno, *(d.lineno for d in n.decorator_list)]): n for n in defs}
