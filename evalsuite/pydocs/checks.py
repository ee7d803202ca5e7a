"""Runs inside the sandbox: an object's place in, one fact about it out. Imports nothing of ours."""

import ast
import enum
import importlib
import inspect
import types
from typing import Any


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


def signature(module: str, path: str) -> str:
    """As a `def` writes it, without annotations. Raises where a default is no literal, or it takes `*` or `**`."""
    found = parameters(module, path)
    if {p.kind for p in inspect.signature(look(module, path)).parameters.values()} & {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    }:
        raise ValueError("variadic")
    for p in found:
        if p.default is not p.empty and literal(p.default) != repr(p.default):
            raise ValueError("a default is no literal")
    plain = inspect.Signature([p.replace(annotation=p.empty) for p in found])
    return f"{path.rpartition('.')[2]}{plain}"


def keyword_only(module: str, path: str, name: str) -> str:
    found = parameter(module, path, name)
    return "yes" if found.kind is found.KEYWORD_ONLY else "no"


def by_name(module: str, path: str, name: str) -> str:
    found = parameter(module, path, name)
    return "no" if found.kind is found.POSITIONAL_ONLY else "yes"


def optional(module: str, path: str, name: str) -> str:
    found = parameter(module, path, name)
    return "no" if found.default is found.empty else "yes"


def required(module: str, path: str) -> str:
    return str(sum(p.default is p.empty for p in parameters(module, path)))


def only_parameter(module: str, path: str, options: list[str], *, keyword: bool = False) -> str:
    """The one of these names that is a parameter; with `keyword`, a keyword-only one."""
    names = [p.name for p in parameters(module, path) if p.kind is p.KEYWORD_ONLY or not keyword]
    (found,) = (option for option in options if option in names)
    return found


def only_attribute(module: str, path: str, options: list[str]) -> str:
    """The one of these names that a class (path "": the module) has."""
    holder = look(module, path) if path else importlib.import_module(module)
    (found,) = (option for option in options if hasattr(holder, option))
    return found


def only_owner(module: str, name: str, options: list[str]) -> str:
    """The one of these classes that has an attribute."""
    (found,) = (option for option in options if hasattr(look(module, option), name))
    return found


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
