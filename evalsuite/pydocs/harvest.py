"""Runs inside the sandbox: module names in, facts about what they define out, as JSON. Also answers checks.

This file's source is sent to the sandbox as text, where only the standard library is, with `documentation` and
`lasting`: it imports nothing else of ours. `unfit` beside a fact says why it is not asked, "" for one that is.
The functions that checks call (`look`, `parameter`, `binding`, `exports`, `printed`, ...) are the ones that the harvest
itself uses, so a fact and its check agree on what they mean.
"""

import ast
import contextlib
import enum
import importlib
import inspect
import io
import itertools
import json
import os
import re
import signal
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from evalsuite.pydocs import documentation, lasting

IMPORT_SECONDS = 20.0
FUNCTIONAL = "functional API of an enum"


def look(module: str, path: str) -> Any:
    """The object at a dotted path in a module."""
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def exports(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)


def parameters(module: str, path: str) -> list[inspect.Parameter]:
    """What a caller passes: a method's own first parameter and the * and ** ones left out."""
    found = list(inspect.signature(look(module, path)).parameters.values())
    if "." in path and found and found[0].name in {"self", "cls"}:
        del found[0]
    return [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def parameter(module: str, path: str, name: str) -> inspect.Parameter:
    return next(p for p in parameters(module, path) if p.name == name)


def default(module: str, path: str, name: str) -> str:
    """The default as a Python literal. Raises when there is none, or it is not a literal."""
    found = parameter(module, path, name)
    if found.default is found.empty:
        raise ValueError("no default")
    return literal(found.default)


def keyword_only(module: str, path: str, name: str) -> str:
    found = parameter(module, path, name)
    return "yes" if found.kind is found.KEYWORD_ONLY else "no"


def literal(value: Any) -> str:
    """A value's literal form; members of an int, str or flag enum by their plain value. Raises for anything else."""
    if isinstance(value, enum.Enum):
        value = value.value
    text = repr(value)
    if repr(ast.literal_eval(text)) != text and not isinstance(value, set):
        raise ValueError("not a literal")
    return text


def binding(module: str, path: str, name: str) -> str:
    """How a class defines an attribute, in the words of the question."""
    found = vars(look(module, path))[name]
    if isinstance(found, property):
        return "a property"
    if isinstance(found, classmethod | types.ClassMethodDescriptorType):
        return "a class method"
    if isinstance(found, staticmethod):
        return "a static method"
    if isinstance(found, types.FunctionType | types.MethodDescriptorType):
        return "an ordinary method"
    raise ValueError("something else")


def base(module: str, path: str) -> str:
    """The name of a class's only base."""
    (found,) = look(module, path).__bases__
    return str(found.__name__)


def subclass(module: str, path: str, other: str) -> str:
    return "yes" if issubclass(look(module, path), look(module, other)) else "no"


def printed(module: str, source: str) -> str:
    """What a session's last statement shows, after `from module import *`; the ones before must succeed."""
    *before, last = ast.parse(source).body
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(f"import {module}\nfrom {module} import *", names)  # noqa: S102
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(ast.Module(before, []), "<session>", "exec"), names)  # noqa: S102
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(compile(ast.Interactive([last]), "<session>", "single"), names)  # noqa: S102
    return shown.getvalue().removesuffix("\n")


def facts(modules: list[str]) -> Iterator[dict[str, Any]]:
    """One entry a module, in the order given; `error` in place of contents when nothing can be said of it."""
    return (_module(name) for name in modules)


def answers(checks: list[str], seconds: float) -> Iterator[str | None]:
    """The value of each check, an expression over this file's functions; None when it fails or takes too long."""
    return (_answer(check, seconds) for check in checks)


def emit(items: Iterable[Any]) -> None:
    """Print a line that says ready, then each item as a line of JSON as it comes, alone on standard output: imported
    modules and examples may print too, and may end the process."""
    real = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    warnings.simplefilter("ignore")
    with os.fdopen(real, "w") as out:
        for item in itertools.chain(["ready"], items):
            out.write(f"{json.dumps(item)}\n")
            out.flush()


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(check: str, seconds: float) -> str | None:
    try:
        with _within(seconds):
            found = eval(check, globals())  # noqa: S307  our own expression, inside the sandbox
        return found if isinstance(found, str) and found.encode() is not None else None
    except (Exception, SystemExit):  # noqa: BLE001  a check that fails has no answer, whatever the reason
        return None


def _module(name: str) -> dict[str, Any]:
    try:
        with _within(IMPORT_SECONDS), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", DeprecationWarning)
            module = importlib.import_module(name)
        gone = lasting.removed(name, [str(w.message) for w in warned if issubclass(w.category, DeprecationWarning)])
        return {"name": name, "error": gone} if gone else _contents(name, module)
    except (Exception, SystemExit) as e:  # noqa: BLE001  whatever a module does when imported, the others go on
        return {"name": name, "error": f"{type(e).__name__}: {e}".splitlines()[0][:200]}


def _contents(name: str, module: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"name": name, "routines": [], "classes": [], "constants": {}, "exports": {}, "sessions": []}
    listed, about = getattr(module, "__all__", None), inspect.getdoc(module) or ""
    out["sessions"] += _sessions("", about)
    for path, value in sorted(_public(module), key=lambda found: found[0]):
        unfit = documentation.standing(documentation.text(value), exported=listed is not None)
        if inspect.isclass(value):
            out["exports"][path] = unfit
            _class(out, name, path, value, unfit)
        elif callable(value):
            out["exports"][path] = unfit
            _routine(out, name, path)
        elif not isinstance(value, enum.Enum) or isinstance(value, (int, str)):
            with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError):
                literal(value)
                told = lasting.listed(module, path) or re.search(rf"\b{path}\b", about) or name in lasting.MATHEMATICAL
                out["constants"][path] = lasting.constant(module, path, value) or (
                    "" if told else documentation.UNDOCUMENTED
                )
    return out


def _public(module: Any) -> Iterator[tuple[str, Any]]:
    """Names in `__all__`, or without one those that the module defines itself, as far as that can be told."""
    listed = getattr(module, "__all__", None)
    for name in vars(module) if listed is None else listed:
        value = getattr(module, name, module)  # a name that is listed and not there is a module, not imported yet
        home = getattr(value, "__module__", None)
        ours = not isinstance(home, str) or home.lstrip("_").split(".")[0] == module.__name__.split(".")[0]
        if not name.startswith("_") and not inspect.ismodule(value) and (listed is not None or ours):
            yield name, value


def _class(out: dict[str, Any], module: str, path: str, value: type, unfit: str) -> None:
    members = {}
    for name in sorted(n for n in vars(value) if not n.startswith("_")):
        with contextlib.suppress(ValueError):
            bound = binding(module, path, name)
            members[name] = documentation.standing(inspect.getdoc(vars(value)[name]) or "")
            if bound != "a property":
                _routine(out, module, f"{path}.{name}")
    ancestors = [c.__name__ for c in value.__mro__[1:-1]]
    exception = issubclass(value, BaseException)
    known = {"path": path, "exception": exception, "ancestors": ancestors, "members": members, "unfit": unfit}
    out["classes"].append(known)
    _routine(out, module, path)


def _routine(out: dict[str, Any], module: str, path: str) -> None:
    value = look(module, path)
    doc, name = documentation.text(value), path.rpartition(".")[2]
    out["sessions"] += _sessions(path, doc)
    with contextlib.suppress(Exception):  # a signature's text is evaluated, and may name what is not there
        found = parameters(module, path)
        functional = inspect.isclass(value) and issubclass(value, enum.Enum)
        unfit = FUNCTIONAL if functional else documentation.standing(doc)
        if inspect.isclass(value) and lasting.inherited(value):
            unfit = unfit or documentation.UNDOCUMENTED
        twin = None
        if getattr(value, "__code__", getattr(getattr(value, "__init__", None), "__code__", None)) is None:
            twin = getattr(sys.modules[module], f"_{path}", None)
        rows = [
            {
                "name": p.name,
                "keyword_only": p.kind is p.KEYWORD_ONLY,
                "default": p.default is not p.empty,
                "unfit": documentation.parameter(name, doc, p, found),
                "default_unfit": documentation.default(name, doc, p, found, twin) or lasting.default(value, p),
            }
            for p in found
        ]
        order = documentation.order(name, doc, found)
        out["routines"].append({"path": path, "parameters": rows, "unfit": unfit, "order_unfit": order})


def _sessions(path: str, doc: str) -> list[dict[str, str]]:
    unfit = documentation.standing(doc)
    return [{"path": path, "lines": lines, "unfit": unfit} for lines in documentation.examples(doc)]
