"""Sphinx's object descriptions (`.. py:function:: name(args)`) -> the definition lists that Sphinx's HTML has of them.

In: a directive that docutils runs. Out: docutils nodes: signatures with full names as ids, what is said of the object,
its parameters as one list. Knows nothing about other directives.
"""

import re
from collections.abc import Sequence
from typing import Any

_DOMAINS = {"py", "c", "cpp", "js", "rst", "std"}
_OBJECTS_WORDS = (
    "function method classmethod staticmethod class attribute data exception property decorator decoratormethod "
    "coroutinefunction coroutinemethod abstractmethod awaitablefunction awaitablemethod opcode pdbcommand "
    "cfunction cmember cmacro ctype cvar option cmdoption envvar describe object confval setting program-option "
    "django-admin django-admin-option templatefilter templatetag fieldlookup macro type struct union enum "
    "enumerator member var typedef alias concept directive role module-attribute 2to3fixer"
)
_OBJECTS = set(_OBJECTS_WORDS.split())
_BARE = {"2to3fixer",
         "option", "cmdoption", "envvar", "describe", "object", "confval", "setting", "django-admin", "opcode",
         "django-admin-option", "templatefilter", "templatetag", "fieldlookup", "pdbcommand", "role",
         "directive"}  # fmt: skip
_C = {"cfunction", "cmember", "cmacro", "ctype", "cvar", "macro", "struct", "union", "enum", "enumerator", "typedef"}
_PARAMETER = re.compile(r"(param|parameter|arg|argument|key|keyword|kwarg)\s+(.*)", re.IGNORECASE | re.DOTALL)
_TYPE = re.compile(r"(?:param|kw)?type\s+(.*)", re.IGNORECASE | re.DOTALL)
_RAISES = re.compile(r"(?:raises?|except|exception)\s+(.*)", re.IGNORECASE | re.DOTALL)
_NAMED = {"return": "Returns", "returns": "Returns", "rtype": "Return type", "yield": "Yields", "yields": "Yields"}
_FLAGS = {"final": "final", "abstractmethod": "abstract", "abstract": "abstract", "async": "async",
          "classmethod": "classmethod", "staticmethod": "static"}  # fmt: skip
_WORDS = {"class": "class ", "exception": "exception ", "classmethod": "classmethod ", "staticmethod": "static ",
          "decorator": "@", "coroutinefunction": "async ", "coroutinemethod": "async "}  # fmt: skip


def is_signature(name: str) -> bool:
    domain, _, kind = name.rpartition(":")
    return kind in _OBJECTS and (not domain or domain in _DOMAINS)


def described(self: Any, name: str, said: str) -> Sequence[Any]:
    """The definition list of one object: its signatures, a line each, and its content under them."""
    from docutils import nodes

    domain, _, kind = name.rpartition(":")
    domain = domain or ("c" if kind in _C else "std" if kind in _BARE else "py")
    settings = self.state.document.settings
    module = self.options.get("module") or getattr(settings, "signed_module", "") if domain == "py" else ""
    around = getattr(settings, "signed_class", "") if domain == "py" else ""
    item = nodes.definition_list_item()
    full = ""
    for line in re.sub(r"\\\n\s*", " ", said).split("\n"):
        if line := re.sub(r"\\(.)", r"\1", line.strip()):
            term, full = _term(_with_options(self, line) if domain == "py" else line, kind, domain, module, around)
            item += term
    body = nodes.definition()
    if domain == "py" and kind in {"class", "exception"}:
        settings.signed_class = full
    self.state.nested_parse(self.content, self.content_offset, body, match_titles=1)
    if domain == "py":
        settings.signed_class = around
    for fields in [child for child in body.children if isinstance(child, nodes.field_list)]:
        _group(fields)
    item += body
    return [nodes.definition_list("", item, classes=[domain, kind])] if full else list(body.children)


def _with_options(self: Any, line: str) -> str:
    """The signature with what its options say, as Sphinx shows it: `async go()`, `x: int = 3`."""
    flags = " ".join(word for option, word in _FLAGS.items() if option in self.options)
    kind, value = self.options.get("type"), self.options.get("value")
    return f"{flags} {line}".lstrip() + (f": {kind}" if kind else "") + (f" = {value}" if value else "")


def _term(line: str, kind: str, domain: str, module: str, around: str) -> tuple[Any, str]:
    """The signature's line with the object's full name as id, and that name."""
    from docutils import nodes

    called = re.match(r"(?:(?:class|exception|final|abstract|async|classmethod|static) +)*([\w.]+)", line)
    if domain != "py" or called is None:
        shown = _name(line, kind, domain)
        before, _, after = line.partition(shown)
        parts = [nodes.Text(before), nodes.inline("", shown, classes=["descname"]), nodes.Text(after)]
        return nodes.term("", "", *parts, classes=["sig"]), shown
    words = _WORDS.get(kind, "")
    before = "" if line.startswith(words) else words
    full = _full(called[1], module, around)
    above, _, own = full.rpartition(".")
    prefix = [nodes.inline("", f"{above}.", classes=["descclassname"])] if above and not around else []
    name = nodes.inline("", own, classes=["descname"])
    flags = line[: called.start(1)]
    parts = [nodes.Text(flags + before), *prefix, name, nodes.Text(line[called.end() :])]
    return nodes.term("", "", *parts, classes=["sig", "sig-object"], ids=[full]), full


def _name(line: str, kind: str, domain: str) -> str:
    """What another language's line declares: the word before its parenthesis, or its last one; an option as it is."""
    if domain in {"c", "cpp"}:
        found = re.search(r"(\w+)\s*\(", line) or re.search(r"(\w+)(?:\s*=.*|\[.*)?$", line)
        return found[1] if found else line
    return line.partition(" ")[0] if kind == "envvar" else line


def _full(name: str, module: str, around: str) -> str:
    """The dotted name from the module on; a class above may stand in the name already."""
    above, _, last = around.rpartition(".")
    if around:
        if name.startswith(f"{around}."):
            return name
        return f"{above}.{name}".lstrip(".") if name.startswith(f"{last}.") else f"{around}.{name}"
    return name if not module or name.startswith(f"{module}.") else f"{module}.{name}"


def _group(fields: Any) -> None:
    """`:param int x: ...` and `:type x:` as one field Parameters with a list, the errors as one field Raises."""
    from docutils import nodes

    types = {m[1].strip(): f[1].astext() for f in fields if (m := _TYPE.fullmatch(f[0].astext()))}
    parameters, raised, kept = [], [], []
    for field in list(fields):
        name, body = field[0].astext().strip(), field[1]
        if parameter := _PARAMETER.fullmatch(name):
            kind, _, own = parameter[2].strip().rpartition(" ")
            told = kind or types.get(own, "")
            parameters.append(_item(own.strip("*`") and own, f" ({told})" if told else "", body))
        elif error := _RAISES.fullmatch(name):
            raised.append(_item(error[1], "", body))
        elif not _TYPE.fullmatch(name):
            field[0].children = [nodes.Text(_NAMED.get(name.lower(), name))]
            kept.append(field)
    grouped = [("Parameters", parameters), ("Raises", raised)]
    made = [
        nodes.field("", nodes.field_name("", title), nodes.field_body("", nodes.bullet_list("", *items)))
        for title, items in grouped
        if items
    ]
    fields.children = []
    fields += [*made, *kept]


def _item(name: str, kind: str, body: Any) -> Any:
    from docutils import nodes

    first, rest = (body.children[0], body.children[1:]) if body.children else (nodes.paragraph(), [])
    if not isinstance(first, nodes.paragraph):
        first, rest = nodes.paragraph(), list(body.children)
    dash = nodes.Text(" – " if first.children else "")
    said = nodes.paragraph("", "", nodes.strong("", name), nodes.Text(kind), dash, *first.children)
    return nodes.list_item("", said, *rest)
