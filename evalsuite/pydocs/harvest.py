"""Runs inside the sandbox: module names in, facts about what they define out, as JSON. Also answers checks.

This file's source is sent to the sandbox as text, where only the standard library is, with `checks`, `running`,
`documentation` and `lasting`: it imports nothing else of ours. `unfit` beside a fact says why it is not asked, "" for
one that is. What checks call are the functions that the harvest itself uses, so that both agree on what a fact means.
"""

import contextlib
import enum
import importlib
import inspect
import itertools
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from evalsuite.pydocs import checks, documentation, lasting, running
from evalsuite.pydocs.checks import binding, literal, look, parameters
from evalsuite.pydocs.running import expressions

IMPORT_SECONDS = 20.0
FUNCTIONAL = "functional API of an enum"


def facts(modules: list[str], lines: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """One entry a module, in the order given; `error` in place of contents when nothing can be said of it. `lines` to
    run, by module."""
    return (_module(name, lines.get(name, [])) for name in modules)


def answers(asked: list[str], seconds: float) -> Iterator[str | None]:
    """The value of each check, an expression over this file's functions; None when it fails or takes too long."""
    return (_answer(check, seconds) for check in asked)


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
            found = eval(check, {**globals(), **vars(checks), **vars(running)})  # noqa: S307  our own expression, inside the sandbox
        return found if isinstance(found, str) and found.encode() is not None else None
    except (Exception, SystemExit):  # noqa: BLE001  a check that fails has no answer, whatever the reason
        return None


def _module(name: str, lines: list[str]) -> dict[str, Any]:
    try:
        with _within(IMPORT_SECONDS), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", DeprecationWarning)
            module = importlib.import_module(name)
        gone = lasting.removed(name, [str(w.message) for w in warned if issubclass(w.category, DeprecationWarning)])
        return {"name": name, "error": gone} if gone else _contents(name, module) | _expressions(name, module, lines)
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
                "positional_only": p.kind is p.POSITIONAL_ONLY,
                "default": p.default is not p.empty,
                "unfit": documentation.parameter(name, doc, p, found),
                "default_unfit": documentation.default(name, doc, p, found, twin) or lasting.default(value, p),
            }
            for p in found
        ]
        order = documentation.order(name, doc, found)
        kinds = {p.kind for p in inspect.signature(value).parameters.values()}
        variadic = bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
        known = {"path": path, "parameters": rows, "variadic": variadic, "unfit": unfit, "order_unfit": order}
        out["routines"].append(known)


def _expressions(name: str, module: Any, lines: list[str]) -> dict[str, Any]:
    listed, found = getattr(module, "__all__", None), []
    for known in expressions(name, lines):
        doc = documentation.text(look(name, known["about"]))
        unfit = documentation.standing(doc, exported=listed is not None)
        found.append({**known, "unfit": unfit})
    return {"expressions": found}


def _sessions(path: str, doc: str) -> list[dict[str, str]]:
    unfit = documentation.standing(doc)
    return [{"path": path, "lines": lines, "unfit": unfit} for lines in documentation.examples(doc)]
