"""Runs inside the sandbox: one expression over one module in; out what it gives, as text that no class can forge.

This file's source is sent there as text and imports nothing of ours; `typed` is called outside, too. What a value
should be never comes in here: whoever reads this process finds no answer. Standard output is the only way out, kept
on a descriptor that the expression is not told; what it prints goes nowhere.
"""

import ast
import builtins
import importlib
import json
import os
import resource
import sys
import types
from typing import Any

CPU_SECONDS = 5  # of the processor, for what takes microseconds: no load of the machine uses it up
LONGEST = 4_000  # characters of what is reported
# No way to a class, a file, an import or a frame.
SAFE = set(
    """abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float format frozenset hex
int isinstance iter len list map max memoryview min next oct ord pow range repr reversed round set slice sorted str sum
tuple zip""".split()  # noqa: SIM905  forty quoted names read worse
)


def typed(value: object) -> str:
    """JSON that is equal for equal plain values of equal types. Raises ValueError for one of any other class, be it
    one that says it is equal to everything."""
    return json.dumps(_tree(value, 20))


def _tree(value: Any, depth: int) -> list[Any]:
    kind = type(value)
    if not depth:
        raise ValueError("it is nested too deeply")
    if kind in (int, str, bytes, float, complex, bool, type(None), type(...)):
        return [kind.__name__, repr(value)]
    if kind in (list, tuple):
        return [kind.__name__, [_tree(each, depth - 1) for each in value]]
    if kind in (set, frozenset):
        return [kind.__name__, sorted((_tree(each, depth - 1) for each in value), key=json.dumps)]
    if kind is dict:
        pairs = [[_tree(k, depth - 1), _tree(v, depth - 1)] for k, v in value.items()]
        return [kind.__name__, sorted(pairs, key=json.dumps)]
    raise ValueError(f"it is a {kind.__name__}")


def beyond(tree: ast.AST, name: str) -> str:
    """Which attribute of the module is not for its users, such as another module that it imports; "" for none."""
    for node in ast.walk(tree):
        path, at = list[str](), node
        while isinstance(at, ast.Attribute):
            path.insert(0, at.attr)
            at = at.value
        if path and isinstance(at, ast.Name) and at.id == name.partition(".")[0]:
            found: Any = sys.modules[at.id]
            for attribute in path:
                owner, found = found, getattr(found, attribute, None)
                inner = isinstance(found, types.ModuleType)
                if inner and not f"{found.__name__}.".startswith(f"{name}.") and found is not sys.modules[name]:
                    return attribute
                if not inner and isinstance(owner, types.ModuleType) and not _own(owner, attribute, found):
                    return attribute
    return ""


def _own(module: types.ModuleType, name: str, value: Any) -> bool:
    if hasattr(module, "__all__"):
        return name in module.__all__
    home = getattr(value, "__module__", None)
    return not isinstance(home, str) or home.lstrip("_").split(".")[0] == module.__name__.split(".")[0]


def given(name: str, source: str) -> dict[str, str]:
    """What an expression gives after `import name`: `shown` as the interpreter would, and `typed` where it is plain; or
    `error`."""
    try:
        importlib.import_module(name)
        tree = ast.parse(source, mode="eval")
        if attribute := beyond(tree, name):
            return {"error": f"{attribute} is not for users of {name}"}
        root = name.partition(".")[0]
        names = {"__builtins__": {each: getattr(builtins, each) for each in SAFE}, root: sys.modules[root]}
        value = eval(compile(tree, "<answer>", "eval"), names)  # noqa: S307  that is the job, in the sandbox
        said = {"shown": "" if value is None else repr(value)[:LONGEST]}
        try:
            said["typed"] = typed(value)
        except ValueError as e:
            said["not_plain"] = str(e)
        return said if len(said.get("typed", "")) <= LONGEST else {"error": "its value is too long"}
    except BaseException as e:  # noqa: BLE001  SystemExit too: whatever an answer raises, it is wrong
        return {"error": f"{type(e).__name__}: {e}"[:LONGEST]}


def main(token: str, name: str, source: str) -> None:
    """Write a line that says ready, and one with what the expression gives, each behind the token."""
    out, nowhere = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # standard input was this program
        os.dup2(nowhere, descriptor)
    os.write(out, f"{token} ready\n".encode())
    most = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))  # a signal of its own, then one that none survives
    said = json.dumps(given(name, source))
    os.write(out, f"{token} {said}\n".encode())
