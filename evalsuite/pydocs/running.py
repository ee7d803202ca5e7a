"""Runs inside the sandbox: lines of Python over one module in, what they show or raise out, or which of them is right.

`____` in a line is the blank that options fill. Imports nothing of ours.
"""

import ast
import contextlib
import importlib
import inspect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

BLANK = "____"


def printed(module: str, source: str) -> str:
    """What a session's last statement shows, after `from module import *`; the ones before must succeed."""
    return _show(f"import {module}\nfrom {module} import *", source)


def shown(module: str, source: str) -> str:
    """The same after `import module` alone."""
    return _show(f"import {module}", source)


def raised(module: str, source: str) -> str:
    """The name of the class of the exception that the last statement raises. Raises where one before it does, or none
    does."""
    *before, last = ast.parse(source).body
    names = _run(f"import {module}", ast.Module(before, []))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Interactive([last]), "<session>", "single"), names)  # noqa: S102
    except Exception as e:  # noqa: BLE001  what it is, is asked
        return _public(type(e))
    raise ValueError("nothing is raised")


def returned(module: str, source: str) -> str:
    """The name of the type of an expression's value."""
    return _public(type(_value(module, source)))


def only_shown(module: str, options: Sequence[str], value: str) -> str:
    """The one option that shows this value. Raises where another shows nothing: it would be no likely answer."""
    each = {option: shown(module, option) for option in options}
    if not all(each.values()):
        raise ValueError("an option shows nothing")
    return _only(options, lambda option: each[option] == value)


def only_raising(module: str, options: Sequence[str]) -> str:
    """The one option that raises; the others show something."""
    return _only(options, lambda option: not _tried(lambda: bool(shown(module, option))))


def only_filling(module: str, source: str, options: Sequence[str], value: str) -> str:
    """The one option that makes the line show this value in place of the blank."""
    return _only(options, lambda option: shown(module, source.replace(BLANK, option)) == value)


def only_catching(module: str, path: str, options: Sequence[str]) -> str:
    """The one of these built-in exceptions that an exception is, or comes from."""
    import builtins

    caught = attrgetter(path)(importlib.import_module(module))
    return _only(options, lambda option: issubclass(caught, getattr(builtins, option)))


def only_fitting(module: str, path: str, options: Sequence[str]) -> str:
    """The one of these calls, of names alone, that the signature takes."""
    signature = inspect.signature(attrgetter(path)(importlib.import_module(module)))

    def fits(option: str) -> bool:
        called = ast.parse(option, mode="eval").body
        assert isinstance(called, ast.Call)
        signature.bind(*called.args, **{str(k.arg): k.value for k in called.keywords})
        return True

    return _only(options, fits)


def expressions(module: str, lines: Sequence[str]) -> Iterator[dict[str, str]]:
    """Each line with the object that it is about, and what it shows, or the class that it raises."""
    for source in lines:
        match = re.search(rf"(?<![\w.]){re.escape(module)}\.(\w+(?:\.\w+)*)", source)
        if match:
            known = {"source": source, "about": match[1], "shown": "", "raises": ""}
            with contextlib.suppress(Exception):
                known["raises"] = raised(module, source)
            with contextlib.suppress(Exception):
                known["shown"] = shown(module, source)
            yield known


def _show(imports: str, source: str) -> str:
    *before, last = ast.parse(source).body
    names = _run(imports, ast.Module(before, []))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(ast.Interactive([last]), "<session>", "single"), names)  # noqa: S102
    return said.getvalue().removesuffix("\n")


def _value(module: str, source: str) -> Any:
    return eval(source, _run(f"import {module}", ast.Module([], [])))  # noqa: S307


def _run(imports: str, before: ast.Module) -> dict[str, Any]:
    """The names that there are after imports and statements."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(imports, names)  # noqa: S102
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(before, "<session>", "exec"), names)  # noqa: S102
    return names


def _public(found: type) -> str:
    if found.__name__.startswith("_"):
        raise ValueError("no name that anyone documents")
    return found.__name__


def _only(options: Sequence[str], right: Callable[[str], bool]) -> str:
    (found,) = (option for option in options if _tried(lambda option=option: right(option)))  # type: ignore[misc]
    return found


def _tried(right: Callable[[], bool]) -> bool:
    try:
        return right()
    except Exception:  # noqa: BLE001  what raises is not right, whatever it raises
        return False
