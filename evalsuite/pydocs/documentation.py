"""Runs inside the sandbox: docstring and signature in, where the documentation disagrees or is silent out.

Docstrings are the documentation here: no page of docs.python.org is read, and `pydoc_data.topics` describes the
language, not the library's signatures. Checked: the signature lines that a docstring begins with (names, order,
defaults); a default that it states of a parameter ("x (default: 3)", "x defaults to 3", "x is None (the default)"), in
words too; the order of a list of parameters; parameters that it leaves out where it names others; and a C class against
its Python twin (`_Name`), if the module has one. Not checked: what prose says otherwise, and what a docstring is
silent about altogether. Imports nothing of ours.
"""

import ast
import contextlib
import doctest
import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

UNDOCUMENTED = "undocumented"
DISAGREES = "documentation disagrees"
DEPRECATED = "deprecated"

_VALUE = r"(?:None|[Tt]rue|[Ff]alse|-?\d[\w.]*|'[^'\n]*'|\"[^\"\n]*\"|`+[^`\n]+`+)(?![\w*])"
_GENERIC = "See help(type(self)) for accurate signature."
LONGEST_DOCTEST = 400  # characters of the lines that lead to an example's output
_NEAR = 80  # characters between a parameter and the default that is said of it


def text(value: Any) -> str:
    """An object's docstring; a class's own, behind it that of its `__init__`. "" when it has none."""
    if not inspect.isclass(value):
        return inspect.getdoc(value) or ""
    own = (value.__doc__, getattr(vars(value).get("__init__"), "__doc__", None))
    return "\n\n".join(inspect.cleandoc(d) for d in own if isinstance(d, str) and _GENERIC not in d)


def examples(doc: str) -> Iterator[str]:
    """A docstring's examples as runnable lines: each one that shows something, behind those that lead to it."""
    lines = ""
    with contextlib.suppress(ValueError):
        for example in doctest.DocTestParser().get_examples(doc):
            if example.exc_msg is not None:
                continue
            lines += example.source
            if example.want and len(lines) <= LONGEST_DOCTEST and _runnable(lines):
                yield lines.rstrip("\n")


def _runnable(lines: str) -> bool:
    """Whether it is Python at all: some examples hold placeholders."""
    with contextlib.suppress(SyntaxError, ValueError):
        return bool(lines.encode() and ast.parse(lines).body)
    return False


def standing(doc: str, *, exported: bool = False) -> str:
    """Why nothing is asked about an object with this docstring, or "". `exported`: it stands in `__all__`."""
    if re.search(r"\bdeprecated\b", doc[:400], re.I):
        return DEPRECATED
    return "" if doc or exported else UNDOCUMENTED


def order(name: str, doc: str, found: Sequence[inspect.Parameter]) -> str:
    """Why parameters must not be asked by place: the docstring names others, or lists them in another order."""
    names = [p.name for p in found]
    lines = _signatures(name, doc)
    if lines and all(list(line) != names for line in lines):
        return DISAGREES
    listed = [(m.start(), n) for n in names if (m := re.search(rf"^\s*[-*]?\s*{_named(n)}\s*(?:\(|:|--)", doc, re.M))]
    return "" if [n for _, n in sorted(listed)] == [n for _, n in listed] else DISAGREES


def parameter(name: str, doc: str, asked: inspect.Parameter, found: Sequence[inspect.Parameter]) -> str:
    """Why nothing is asked about a parameter: the docstring's signature lacks it, or its prose, which names others."""
    lines = _signatures(name, doc)
    if lines:
        return "" if any(asked.name in line for line in lines) else DISAGREES
    mentioned = {p.name for p in found if re.search(_named(p.name), doc)}
    needed = (asked.default is not asked.empty and mentioned) or asked.kind is asked.POSITIONAL_ONLY
    return UNDOCUMENTED if needed and asked.name not in mentioned else ""


def default(name: str, doc: str, asked: inspect.Parameter, found: Sequence[inspect.Parameter], twin: Any) -> str:
    """Why a parameter's default must not be asked: a signature line, a statement or the twin gives another."""
    said = [line[asked.name] for line in _signatures(name, doc) if line.get(asked.name)]
    said += _stated(doc, asked.name, [p.name for p in found if p is not asked])
    with contextlib.suppress(ValueError, TypeError):
        other = inspect.signature(twin).parameters.get(asked.name) if twin is not None else None
        if other is not None:
            said.append(repr(other.default))
    return "" if all(_same(each, asked.default) for each in said) else DISAGREES


def _named(name: str) -> str:
    return rf"(?<![\w.])[*`']*{re.escape(name)}[*`']*(?!\w)"


@cache
def _signatures(name: str, doc: str) -> list[dict[str, str]]:
    """Parameter -> default as written ("" without one), of each signature that stands in the first paragraph."""
    found = []
    for line in doc.split("\n\n")[0].splitlines():
        match = re.match(rf"\s*(?:\w+\.)*{re.escape(name)}\((.*?)\)\s*(?:(?:->|--|=>).*|[:.]?)$", line)
        with contextlib.suppress(SyntaxError, ValueError):
            if match:
                made = ast.parse(f"def f({re.sub(r'[][]', '', match[1])}): pass").body[0]
                found.append(_parameters(made.args) if isinstance(made, ast.FunctionDef) else {})
    return found


def _parameters(given: ast.arguments) -> dict[str, str]:
    places = [a.arg for a in (*given.posonlyargs, *given.args)]
    defaults = [None] * (len(places) - len(given.defaults)) + given.defaults
    both = zip([*places, *(a.arg for a in given.kwonlyargs)], [*defaults, *given.kw_defaults], strict=True)
    return {name: ast.unparse(d) if d else "" for name, d in both if name not in {"self", "cls"}}


def _stated(doc: str, name: str, others: Sequence[str]) -> Iterator[str]:
    """Defaults that prose gives a parameter: literals, or words where it gives no literal."""
    if "default" not in doc:
        return
    near = rf"{_named(name)}(?P<between>[^.;]{{0,{_NEAR}}}?)"
    forms = (
        rf"{near}\bis\s+(?P<said>{_VALUE})\s*[,(]+\s*(?:the |by )?default",
        rf"{near}\bdefault(?:s|ing)?\b(?:\s+value)?(?:\s+(?:to|is|of)\b|\s*[:=])?\s+(?P<said>{_VALUE})",
        rf"{near}\bdefault(?:s\s+to|\s+is|:|\s*=)\s+(?!{_VALUE})(?P<said>[^\s,.;)]+)",
        rf"{near}\([^()]*\bdefault\s+(?!{_VALUE})(?P<said>[^()]+)\)",
    )
    for form in forms:
        for match in re.finditer(form, doc):
            if not any(re.search(_named(other), match["between"]) for other in others):
                yield match["said"]


def _same(said: str, value: Any) -> bool:
    """Whether what is written is the value: as a literal, a bare text, or in lower case."""
    bare = said.strip("`*")
    if bare in {"true", "false"}:
        bare = bare.title()
    with contextlib.suppress(ValueError, SyntaxError, TypeError):
        return repr(ast.literal_eval(bare)) == repr(value)
    return bool(bare.strip("'\"") == value)
