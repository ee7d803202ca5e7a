"""Sphinx's directives and roles, and unknown ones, for docutils: signatures, code, notes, references.

In: the text whose names are to be known. Out: a context in which docutils knows them: an unknown directive keeps its
content, an unknown role its text. Knows nothing about HTML, nor about files.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tune.data import docstring
from tune.data.formats import rst_included, signed

REFERENCE = "refers"  # class of a reference to a section, whose title is known when all is read
SPOKEN = "spoken"  # class of the comment that says in which language literal blocks are from here on

_DIRECTIVE = re.compile(
    r"^[ \t]*(?:[-*+] +|\d+\. +)?\.\.[ \t]+(?:\|[^|\n]+\|[ \t]+)?(\w[\w:.+-]*?)[ \t]?::", re.MULTILINE
)
_ROLE = re.compile(
    r"(?<!\w):(\w[\w:.+-]*?):`|`:(\w[\w:.+-]*?):|(?:default-role|role)::[^\n]*?(\w[\w:.+-]*)\)?[ \t]*$",
    re.MULTILINE,
)
_TITLED = re.compile(r"(.+?)\s*<[^<>]*>", re.DOTALL)

_CODE = {"code-block", "sourcecode", "code", "highlight-code", "prompt", "terminal", "ipython", "testcode",
         "testoutput", "doctest", "productionlist", "graphviz", "digraph", "mermaid", "uml", "plantuml",
         "console"}  # fmt: skip
_LANGUAGES = {"testcode": "python", "doctest": "python", "ipython": "python", "prompt": "shell", "terminal": "shell",
              "productionlist": "", "testoutput": "", "console": "console"}  # fmt: skip
# What Sphinx shows nothing of; to-dos only where it is told to.
_NOTHING = {"toctree", "index", "contents", "sectnum", "tabularcolumns", "testsetup",
            "testcleanup", "currentmodule", "py:currentmodule", "raw",
            "meta", "title", "default-domain", "cssclass", "codeauthor", "sectionauthor",
            "moduleauthor", "autosummary", "figure-md", "highlight", "highlightlang",
            "todo", "todolist"}  # fmt: skip
_CHANGES = {"versionadded": "New in version", "versionchanged": "Changed in version",
            "deprecated": "Deprecated since version", "versionremoved": "Removed in version",
            "deprecated-removed": "Deprecated since version"}  # fmt: skip
_NOTES = {"seealso": "See also", "impl-detail": "Implementation detail",
          "availability": "Availability", "info": "Info", "danger": "Danger", "caution": "Caution",
          "attention": "Attention"}  # fmt: skip
_FOLDED = {"details", "dropdown", "collapse"}  # their argument is their title
_PRINTED = {"latex", "man", "epub", "texinfo", "text"}  # builders of no HTML
_SIGNED_TOO = "class"  # Sphinx's object description, where docutils' own directive names CSS classes
_CALLED = {"func", "meth", "py:func", "py:meth", "c:func", "js:func", "cpp:func"}
_WORDS = {"ref", "numref", "doc", "term", "std:ref", "std:doc", "std:term", "any", "download", "abbr", "guilabel",
          "menuselection", "dfn", "keyword", "token", "pep", "rfc", "eq", "cite", "issue", "ticket", "pr", "user",
          "gh", "bpo", "cve", "cwe", "emphasis", "strong", "index", "sub", "sup", "ctype", "source"}  # fmt: skip


class _Anything(dict[str, Any]):
    """The options that a directive takes: all."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: str) -> Any:
        return lambda said: said or ""

    def __contains__(self, key: object) -> bool:
        return True


@contextmanager
def known(text: str) -> Iterator[None]:
    """docutils knows every directive and role that `text` names. Afterwards it knows those that it knew before."""
    from docutils.parsers.rst import directives, roles

    kept = dict(directives._directives), dict(roles._roles)
    _learn(text)
    for name in ("raw", "image", "include", "literalinclude"):
        directives.register_directive(name, _directive(name))
    directives.register_directive("csv-table", _csv_table())
    try:
        yield
    finally:
        for registry, before in zip((directives._directives, roles._roles), kept, strict=True):
            registry.clear()
            registry.update(before)


def _learn(text: str) -> None:
    from docutils.parsers.rst import directives, roles
    from docutils.parsers.rst.languages import en as english

    for name in {found.lower() for found in _DIRECTIVE.findall(text)}:
        if name not in english.directives or name in _NOTHING | _CODE | {_SIGNED_TOO, *_NOTES, "figure"}:
            directives.register_directive(name, _directive(name))
    for name in {next(filter(None, found)).lower() for found in _ROLE.findall(text)}:
        if name not in english.roles or name in {"pep-reference", "rfc-reference", "pep", "rfc", "index"}:
            roles.register_local_role(name, _role)


def _csv_table() -> Any:
    from docutils.parsers.rst.directives.tables import CSVTable

    def run(self: Any) -> Sequence[Any]:
        return rst_included.table(self, lambda: CSVTable.run(self))

    return type("Known", (CSVTable,), {"run": run})


def _directive(name: str) -> Any:
    """docutils' class for the directive, made where docutils is imported."""
    from docutils.parsers.rst import Directive

    def run(self: Any) -> Sequence[Any]:
        return _run(self, name)

    made = {"option_spec": _Anything(), "has_content": True, "optional_arguments": 1,
            "final_argument_whitespace": True, "run": run}  # fmt: skip
    return type("Known", (Directive,), made)


def _run(self: Any, name: str) -> Sequence[Any]:
    from docutils import nodes

    said = self.arguments[0] if self.arguments else ""
    if name in {"highlight", "highlightlang"}:
        return [nodes.comment(said, said.strip().split(" ")[0], classes=[SPOKEN])]
    if name in {"currentmodule", "py:currentmodule", "module", "py:module", "automodule"}:
        module = said.strip()
        self.state.document.settings.signed_module = module
        target = [] if "current" in name else [nodes.target("", "", ids=[f"module-{module}"], classes=["target"])]
        return [*([nodes.paragraph("", "", *target)] if target else []), *_content(self)]
    if name == "include":
        return rst_included.included_text(self, _learn)
    if name == "literalinclude":
        return rst_included.literal(self)
    if name == "image":  # docutils' own would open the file
        return [nodes.inline()]
    if (
        name in _NOTHING
        or (name == "only" and _is_printed(said))
        or (name == _SIGNED_TOO and not self.content and not re.search(r"[(.A-Z]", said))
    ):
        return []
    if name in _CODE:
        return _code(self, name, said)
    if name in _CHANGES:
        return _changed(self, _CHANGES[name], said)
    if name in _NOTES:
        return [_noted(self, _NOTES[name], said)]
    if name in _FOLDED:
        return [_noted(self, said or "Details", "")]
    if name == "glossary":
        self.content = _terms_joined(self.content)
    if signed.is_signature(name):
        return signed.described(self, name, said)
    if name == "code-tab" or (self.content and docstring.is_python("\n".join(self.content))):
        return _code(self, name, said if name == "code-tab" else "python")
    if self.content and (documented := re.fullmatch(r"auto(class|exception|function|method|data|attribute)", name)):
        return signed.described(self, documented[1], said)
    if ":" in name and self.content and said:  # an object of a domain that an extension brings
        return signed.described(self, "std:object", said)
    head = [nodes.paragraph("", "", *_inline(self, said))] if said and _is_text(name, said) else []
    return [*head, *_content(self)]


def _is_text(name: str, said: str) -> bool:
    """Whether an unknown directive's argument is to be read: words, not a file or a name in a program."""
    if name in {"only", "ifconfig", "figure"}:
        return False
    return bool(re.search(r"\w\s+\w", said) or re.search(r"(?:^|[:-])(?:tab|tab-item|rubric|card|centered)$", name))


def _is_printed(said: str) -> bool:
    """Whether an `only` is for books and manual pages alone."""
    tags = set(re.findall(r"\w+", said)) - {"or", "and"}
    return tags <= _PRINTED if "not" not in tags else tags == {"not", "html"}


def _terms_joined(lines: Any) -> Any:
    """A glossary's lines, terms that share a definition on one line, as docutils' definition lists have them."""
    from docutils.statemachine import StringList

    out = StringList()
    for line, (source, at) in zip(lines, lines.items, strict=True):
        if line[:1].strip() and out and out[-1][:1].strip() and not out[-1].startswith(".. "):
            out[-1] += f", {line}"
        else:
            out.append(line, source, at)
    return out


def _content(self: Any) -> list[Any]:
    from docutils import nodes

    part = nodes.Element()
    self.state.nested_parse(self.content, self.content_offset, part, match_titles=1)
    return list(part.children)


def _inline(self: Any, text: str) -> list[Any]:
    found, _ = self.state.inline_text(text, self.lineno)
    return list(found)


def _code(self: Any, name: str, said: str) -> list[Any]:
    from docutils import nodes

    text = "\n".join(self.content) or (said if name in {"productionlist", "prompt"} else "")
    if name == "productionlist":  # its first line names the group
        first, _, rest = said.partition("\n")
        text = "\n".join(filter(None, [first if ":" in first else "", inspect.cleandoc(rest), *self.content]))
    if not text.strip():
        return []
    spoken = _LANGUAGES.get(name, said.strip().lower() or self.options.get("language") or "")
    caption = self.options.get("caption")
    spoken = spoken if re.fullmatch(r"[\w+#.-]+", spoken) else "none"
    block = nodes.literal_block(text, text, classes=[f"highlight-{spoken}"])
    return [*([nodes.paragraph("", "", *_inline(self, caption))] if caption else []), block]


def _changed(self: Any, words: str, said: str) -> list[Any]:
    """`.. versionadded:: 3.2  what` and what stands under it, as one paragraph where it is one."""
    from docutils import nodes

    version, rest = [*said.split(None, 1), "", ""][:2]
    if removed := words.startswith("Deprecated") and re.match(r"([\d.]+)\s*", rest):
        version, rest = f"{version}, removed in version {removed[1]}", rest[removed.end() :]
    first = nodes.paragraph("", "", nodes.Text(f"{words} {version}"))
    below = _content(self)
    if not rest and below and isinstance(below[0], nodes.paragraph):
        first += [nodes.Text(": "), *below.pop(0).children]
    elif rest:
        first += [nodes.Text(": "), *_inline(self, rest)]
    else:
        first += nodes.Text(".")
    return [nodes.container("", first, *below, classes=["versionmodified"])]


def _noted(self: Any, title: str, said: str) -> Any:
    from docutils import nodes

    inside = [nodes.paragraph("", "", *_inline(self, said))] if said else []
    return nodes.admonition("", nodes.title("", "", *_inline(self, title)), *inside, *_content(self), classes=["note"])


def _role(name: str, raw: str, text: str, *_: Any, **__: Any) -> tuple[list[Any], list[Any]]:
    """A role's text as the reader sees it: the title before <target>, the last part of ~a.b.c, code as code."""
    from docutils import nodes
    from docutils.utils import unescape

    text = unescape(text)
    name = name.lower()
    titled = _TITLED.fullmatch(text)
    shown = titled[1] if titled else text
    if name in {"pep", "rfc"}:
        return [nodes.Text(shown if titled else f"{name.upper()} {shown}")], []
    if name == "ref" or name == "std:ref":
        return [nodes.Text(shown) if titled else nodes.inline("", shown, classes=[REFERENCE])], []
    if name in _WORDS:
        return [
            nodes.Text(re.sub(r"\s*-->\s*", " > ", shown).replace("&", "") if name == "menuselection" else shown)
        ], []
    if not titled and shown.startswith("~"):
        shown = shown[1:].rpartition(".")[2]
    shown = shown.removeprefix("!")
    if name in _CALLED and not titled and not shown.endswith(")"):
        shown += "()"
    code = ":" in name or name in _AS_CODE
    return [nodes.literal(raw, shown) if code else nodes.Text(shown)], []


_AS_CODE_WORDS = (
    "func meth class mod attr data const exc obj file samp command option envvar program kbd type var macro member "
    "confval setting djadmin django-admin tfilter ttag lookup regexp mimetype makevar makefile newsgroup paramref "
    "cfunc cmacro cdata property code opcode pdbcmd 2to3fixer function method module"
)
_AS_CODE = set(_AS_CODE_WORDS.split())
