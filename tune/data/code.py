"""Python code that stands in a text: whether it parses, and what it is up to the names that it gives.

In: Markdown. Out: why a block does not parse; trees as text. Code is parsed and never run. Documentation shows more
than programs: sessions, signatures, headers whose body is a comment or none, `...` for what is left out, a shell's `%`
and `!` lines; all of these stay, and so does what is marked as Python and has nothing of it. Pure; knows no files.
"""

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterator

LONGEST = 20_000  # characters of code that are parsed
LEAST = 12  # nodes of a tree: less is everybody's

_FENCED = re.compile(r"(?ms)^[ \t]*(`{3,}+|~{3,}+)[ \t]*([^\n`]*)\n(.*?)^[ \t]*\1")
_PROMPT = re.compile(r"(?m)^[ \t]*(?:>>>|In \[\d+\]:)")
_PYTHON = {"python", "py", "python3", "py3", "pycon", "python-repl"}
_BUILTINS = frozenset(dir(builtins))
# Sphinx marks shell, SQL and the heads of its own entries as Python: what is to parse must have a line that is.
_TELLS = re.compile(
    r"(?m)^[ \t]*(?:>>> |In \[\d+\]:|(?:async )?def \w+\(|class \w+(?:\(.*\))?:|from [\w.]+ import |print[ (]|"
    r"return\b|raise \w|import \w+(?:\.\w+)*(?: as \w+)?[ \t]*$|"
    r"(?:for \w.* in .+|while .+|if .+|elif .+|with .+|else|try|except\b.*):[ \t]*(?:#.*)?$)"
)
_SIGNATURE = re.compile(
    r"^(?:(?:abstract|async|class|classmethod|attribute|data|decorator|def|exception|final|function|method|property|"
    r"static|staticmethod|type)[ ]+)+@?[A-Za-z_][\w.]*(?:\(.*\))?(?:[ ]*(?:->|→|=|:).*)?$|"
    r"^@?[A-Za-z_][\w.]*\(.*\)(?:[ ]*(?:->|→).*)?:?$"
)


def problem(text: str) -> str:
    """Where the first block that says it is Python does not parse, in words; "" when every one does."""
    for tag, source in _fenced(text):
        if tag in _PYTHON and len(source) <= LONGEST and (wrong := _wrong(source)):
            return wrong
    return ""


def shapes(text: str) -> set[str]:
    """The tree of each block of Python in a text, and of each session, with the names that it binds counted.

    Two blocks with one tree are the same program up to layout, comments, quotes and the names of what they bind. A
    block of fewer than LEAST nodes has none, nor one that does not parse.
    """
    return {shape for tag, source in _fenced(text) if tag in _PYTHON or not tag for shape in [_shape(source)] if shape}


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """The first word after the fence, in lower case, and the code."""
    for _, tag, source in _FENCED.findall(text):
        yield re.split(r"[\s{},:]+", tag.strip().lower().lstrip("{."))[0], source


def _statements(source: str) -> str:
    """The code without prompts and what was printed."""
    if not _PROMPT.search(source):
        return textwrap.dedent(source)
    out, inside = list[str](), False
    for line in source.split("\n"):
        if first := re.match(r"[ \t]*(?:>>>|In \[\d+\]:) ?", line):
            out.append(line[first.end() :])
        elif inside and (more := re.match(r"[ \t]*\.{3,}:? ?", line)):
            out.append(line[more.end() :])
        inside = bool(first) or (inside and line.lstrip().startswith("..."))
    return "\n".join(out)


def _wrong(source: str) -> str:
    said = _statements(source)
    error = _error(said)
    if not error or not _TELLS.search(source):
        return ""
    more = "\n".join("" if re.match(r"[ \t]*[%!?]", line) else line for line in said.split("\n"))
    body = re.sub(r"…|\.\.\.", "...", more).rstrip()
    said_to_do = re.sub(r"(?m)^([ \t]+)#.*$", r"\1...", body)  # a comment in place of a body
    left_out = re.sub(r"(?<=[{,(\[])([ \n]*)\.\.\.", r"\1**_", body)
    for attempt in (more, body + _body(body), said_to_do, left_out, _unsigned(body), _sketched(body)):
        if not _error(attempt):
            return ""
    return error


def _body(source: str) -> str:
    """A body for what ends at a colon."""
    last = source.rpartition("\n")[2]
    return "\n" + " " * (len(last) - len(last.lstrip()) + 4) + "..." if last.endswith(":") else ""


def _sketched(source: str) -> str:
    """The code with `...` for `... what to do ...`, `.` and `<what-to-do>`, and a name for a `<name>` within a line."""
    source = re.sub(r"(?m)^([ \t]*)(?:\.{3,}.*|\.|<[\w .-]+>)[ \t]*$", r"\1...", source)
    return re.sub(r"<[a-z][\w-]*>", "_", source)


def _unsigned(source: str) -> str:
    """The code without lines that are signatures, as a manual writes them: `range(start, stop[, step]) -> range`."""
    joined = re.sub(r"(?<=[,(\[])[ \t]*\n[ \t]*", " ", source)
    return "\n".join("" if _SIGNATURE.match(line.strip()) else line for line in joined.split("\n"))


def _error(source: str) -> str:
    """Why a program does not parse, in one line; "" when it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody's code is no news of ours
            ast.parse(source)
    except SyntaxError as e:
        return f"line {e.lineno}: {e.msg}"
    except (ValueError, MemoryError, RecursionError) as e:
        return str(e) or "too deep"
    return ""


def _shape(source: str) -> str:
    said = _statements(source)
    if len(said) > LONGEST or _error(said):
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(said)
        nodes = [node for node in ast.walk(tree) if not isinstance(node, ast.expr_context)]
        if len(nodes) < LEAST:
            return ""
        _rename(tree)
        return ast.dump(tree)
    except (MemoryError, RecursionError):
        return ""


def _rename(tree: ast.AST) -> None:
    """Give what the code binds, variables, parameters, functions and classes, names by the order of their first use."""
    bound = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
    new: dict[str, str] = {}

    def name(old: str) -> str:
        return new.setdefault(old, f"_{len(new)}") if old in bound and old not in _BUILTINS else old

    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = name(node.id)
        elif isinstance(node, ast.arg):
            node.arg = name(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.name = name(node.name)
