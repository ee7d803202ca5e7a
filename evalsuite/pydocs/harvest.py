"""Runs inside the sandbox: module names in, facts about what they define out, as JSON. Also answers checks.

This file's source is sent to the sandbox as text, where only the standard library is: it imports nothing of ours.
The functions that checks call (`look`, `parameter`, `binding`, `exports`, `printed`, ...) are the ones that the harvest
itself uses, so a fact and its check agree on what they mean.
"""

import ast
import contextlib
import doctest
import enum
import importlib
import inspect
import io
import json
import os
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

LONGEST_DOCTEST = 400  # characters of the lines that lead to an example's output


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


def facts(modules: list[str]) -> list[dict[str, Any]]:
    """One entry a module, in the order given; `error` in place of contents when it cannot be imported."""
    return [_module(name) for name in modules]


def answers(checks: list[str], seconds: float) -> list[str | None]:
    """The value of each check, an expression over this file's functions; None when it fails or takes too long."""
    return [_answer(check, seconds) for check in checks]


def emit(make: Callable[[], Any]) -> None:
    """Print a result as JSON, alone on standard output: imported modules and examples may print too."""
    real = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    warnings.simplefilter("ignore")
    result = json.dumps(make())
    sys.stdout.flush()
    with os.fdopen(real, "w") as out:
        out.write(result)


def _answer(check: str, seconds: float) -> str | None:
    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        found = eval(check, globals())  # noqa: S307  our own expression, inside the sandbox
        return found if isinstance(found, str) else None
    except (Exception, SystemExit):  # noqa: BLE001  a check that fails has no answer, whatever the reason
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _module(name: str) -> dict[str, Any]:
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as e:  # noqa: BLE001  whatever a module does when imported, the others go on
        return {"name": name, "error": str(e) or type(e).__name__}
    out: dict[str, Any] = {"name": name, "routines": [], "classes": [], "constants": [], "exports": [], "sessions": []}
    out["sessions"] += _sessions(inspect.getdoc(module))
    for path in sorted(_public(module)):
        value = getattr(module, path)
        if inspect.isclass(value):
            out["exports"].append(path)
            _class(out, name, path, value)
        elif callable(value):
            out["exports"].append(path)
            _routine(out, name, path)
        elif not isinstance(value, enum.Enum) or isinstance(value, (int, str)):
            with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError):
                literal(value)
                out["constants"].append(path)
    return out


def _public(module: Any) -> Iterator[str]:
    """Names in `__all__`, or without one those that the module defines itself, as far as that can be told."""
    listed = getattr(module, "__all__", None)
    for name in vars(module) if listed is None else listed:
        value = getattr(module, name, None)
        home = getattr(value, "__module__", None)
        ours = not isinstance(home, str) or home.lstrip("_").split(".")[0] == module.__name__.split(".")[0]
        if not name.startswith("_") and not inspect.ismodule(value) and (listed is not None or ours):
            yield name


def _class(out: dict[str, Any], module: str, path: str, value: type) -> None:
    members = {}
    for name in sorted(n for n in vars(value) if not n.startswith("_")):
        with contextlib.suppress(ValueError):
            members[name] = binding(module, path, name)
            if members[name] != "a property":
                _routine(out, module, f"{path}.{name}")
    ancestors = [c.__name__ for c in value.__mro__[1:-1]]
    exception = issubclass(value, BaseException)
    out["classes"].append({"path": path, "exception": exception, "ancestors": ancestors, "members": members})
    _routine(out, module, path)


def _routine(out: dict[str, Any], module: str, path: str) -> None:
    out["sessions"] += _sessions(inspect.getdoc(look(module, path)))
    with contextlib.suppress(ValueError, TypeError):
        found = parameters(module, path)
        rows = [
            {"name": p.name, "keyword_only": p.kind is p.KEYWORD_ONLY, "default": p.default is not p.empty}
            for p in found
        ]
        out["routines"].append({"path": path, "parameters": rows})


def _sessions(text: str | None) -> Iterator[str]:
    """Docstring examples as runnable lines: each one that shows something, behind those that lead to it."""
    lines = ""
    with contextlib.suppress(ValueError):
        for example in doctest.DocTestParser().get_examples(text or ""):
            if example.exc_msg is not None:
                continue
            lines += example.source
            if example.want and len(lines) <= LONGEST_DOCTEST:
                yield lines.rstrip("\n")
