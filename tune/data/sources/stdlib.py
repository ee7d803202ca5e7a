"""The installed CPython as a page source: docstrings, signatures, and pydoc's language topics.

In: module names. Out: a page for each module (its own text, functions and small classes) and for each larger
class. Only what a listed module defines itself is taken: a re-export from another module stays out, so a
held-out module cannot come in through a neighbour. Knows nothing about files, HTML or the network.
"""

import contextlib
import difflib
import importlib
import inspect
import io
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from tune.data import docstring
from tune.data.block import Block, Code, Prose, render
from tune.data.page import Failure, Page
from tune.errors import UserError

LICENCE = "PSF-2.0"
TOPICS = "topics"  # the grouping key of pydoc's language topics
SMALL = 600  # characters: a class with less to say is a section of its module's page

_ACTS_ON_IMPORT = {"antigravity", "this"}  # opens a browser; prints
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def pages(modules: Sequence[str], *, topics: bool, key: str = "collect.modules") -> Iterator[Page | Failure]:
    """Pages of the modules in the given order, then of the topics.

    Raises UserError, before the first page, that names every module which is not in the standard library or
    does not import here, and the recipe's `key` that lists them.
    """
    found = _import(list(dict.fromkeys(modules)), key)
    for name, module in found.items():
        made = list(_module_pages(name, module))
        yield from made
        if not made:
            yield Failure(id=f"stdlib:{name}", reason="nothing public in it has a docstring or a signature")
    if topics:
        yield from _topic_pages()


def _import(names: Sequence[str], key: str) -> dict[str, ModuleType]:
    out, problems = {}, []
    for name in names:
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names or top in _ACTS_ON_IMPORT or name.endswith("__main__"):
            close = difflib.get_close_matches(name, sorted(sys.stdlib_module_names), n=1)
            hint = f"; did you mean {close[0]}?" if close and close[0] != name else ""
            problems.append(f"{name}: not a standard-library module that can be documented{hint}")
            continue
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                out[name] = importlib.import_module(name)
        except ImportError as e:
            problems.append(f"{name}: {e}")
    if problems:
        what = f"{key} names a module that cannot be read" if len(problems) == 1 else f"{key} is wrong"
        raise UserError(what, why="\n       ".join(problems), fix=f"edit {key} in recipe.toml")
    return out


def _module_pages(name: str, module: ModuleType) -> Iterator[Page]:
    """The module's own page, then one for each larger class."""
    blocks: list[Block] = []
    classes: list[tuple[str, list[Block]]] = []
    if module.__doc__:
        blocks += docstring.read(module.__doc__, (name,))
    for attribute, found in _public(name, module):
        qualified = f"{name}.{attribute}"
        if inspect.isclass(found):
            alone = _class_blocks(qualified, found, ())
            if len(render(alone)) < SMALL:
                blocks += _class_blocks(qualified, found, (name,))
            else:
                classes.append((qualified, alone))
        else:
            blocks += _entry(qualified, found, found.__doc__, (name,))
    if blocks:
        names = ", ".join(f"`{attribute}`" for attribute in _exported(module))
        text = f"The module `{name}` provides {names}."
        yield _page(name, name, [*blocks, Prose(headings=(name, f"Names in {name}"), text=text)])
    for qualified, said in classes:
        yield _page(qualified, name, said)


def _page(title: str, module: str, blocks: Sequence[Block]) -> Page:
    source = f"cpython-{platform.python_version()}"
    return Page(id=f"stdlib:{title}", title=title, module=module, blocks=tuple(blocks), source=source, licence=LICENCE)


def _exported(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if not inspect.ismodule(v)]
    return sorted({n for n in names if not n.startswith("_")})


def _public(name: str, module: ModuleType) -> list[tuple[str, Any]]:
    """Functions and classes that the module defines itself, or through a private implementation of it."""
    out = []
    for attribute in _exported(module):
        found = getattr(module, attribute, None)
        if not (inspect.isclass(found) or inspect.isroutine(found)):
            continue
        origin = getattr(found, "__module__", None) or name
        own = origin in {name, module.__name__, "builtins", "genericpath"} or origin.startswith(("_", name + "."))
        if own and not (origin == "builtins" and name != "types" and inspect.isclass(found)):  # IOError is OSError
            out.append((attribute, found))
    return out


def _class_blocks(qualified: str, cls: type, above: tuple[str, ...]) -> list[Block]:
    blocks = _entry(qualified, cls, cls.__dict__.get("__doc__"), above)
    above = (*above, qualified)
    for attribute, raw in vars(cls).items():
        if attribute.startswith("_"):
            continue
        if isinstance(raw, property):
            blocks += _entry(f"{qualified}.{attribute}", None, raw.__doc__, above)
        elif isinstance(raw, staticmethod | classmethod) or inspect.isroutine(raw):
            bound: Callable[..., Any] = getattr(cls, attribute)
            blocks += _entry(f"{qualified}.{attribute}", bound, bound.__doc__, above)
    return blocks


def _entry(qualified: str, found: Any, doc: str | None, above: tuple[str, ...]) -> list[Block]:
    """Signature and docstring under a heading; empty without a docstring."""
    path = (*above, qualified)
    signature = _signature(qualified, found) if found is not None else ""
    told = list(docstring.read(doc, path)) if isinstance(doc, str) else []
    if not told:
        return []
    return [*([Code(headings=path, language="python", text=signature)] if signature else []), *told]


def _signature(qualified: str, found: Any) -> str:
    """`module.name(parameters)`, addresses cut out of defaults; empty when Python does not know it."""
    try:
        text = str(inspect.signature(found))
    except (ValueError, TypeError):
        return ""
    text = _ADDRESS.sub("", text)
    # A set's order changes from run to run, the interpreter's path from machine to machine.
    return "" if "frozenset({" in text or repr(sys.executable) in text else qualified + text


def _topic_pages() -> Iterator[Page]:
    from pydoc_data.topics import topics  # 0.5 MB of text

    for name, text in sorted(topics.items()):
        blocks = docstring.read_topic(text, name)
        yield Page(
            id=f"{TOPICS}:{name}",
            title=blocks[0].headings[0],
            module=TOPICS,
            blocks=blocks,
            source=f"cpython-{platform.python_version()}",
            licence=LICENCE,
        )
