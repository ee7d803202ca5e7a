"""reStructuredText, Sphinx's too -> Document, through docutils to HTML and then the reader of all HTML.

In: a file's bytes, and where it lies. Out: the Document. docutils reads no file but what `included` finds, no network
and no configuration, writes nothing, and what it complains about is left as it stands. What Sphinx adds is in
`sphinx_rst`. What cannot be read is a ValueError.
"""

import io
import re
from typing import TYPE_CHECKING

from tune.data.formats import sphinx_rst
from tune.data.formats.included import Place
from tune.data.formats.text import decode, document
from tune.data.html import NO_TEXT, Document

if TYPE_CHECKING:
    from docutils import nodes

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 5,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "sectsubtitle_xform": False,
    "smart_quotes": False,
    "syntax_highlight": "none",
    "initial_header_level": 1,
    "line_length_limit": 1_000_000,
    "embed_stylesheet": False,
    "stylesheet": None,
    "stylesheet_path": None,
    "math_output": "LaTeX",
    "footnote_references": "brackets",
    "toc_backlinks": False,
    "section_self_link": False,
    "input_encoding": "unicode",
    "output_encoding": "unicode",
}
LONGEST = 5_000  # letters of a word: docutils' patterns take the square of it
_FLAGS = re.compile(r"[ \t]*#\s*doctest:.+$", re.MULTILINE)
_BLANK = re.compile(r"^\s*<BLANKLINE>", re.MULTILINE)
_AUTODOC = re.compile(r"^[ \t]*\.\. (?:auto\w+|autosummary)::", re.MULTILINE)
_META = {"orphan", "nosearch", "no-search", "tocdepth", "nocomments", "tags", "date", "author", "authors", "status"}


def read(data: bytes, name: str = "", place: Place | None = None) -> Document:
    """The document in an RST file; `name` is its title when it has no heading. Raises ValueError when there is none.

    Without a `place` it includes no file.
    """
    text = decode(data)
    try:
        return document(to_html(text, place), name)
    except ValueError as e:
        if str(e) == NO_TEXT and _AUTODOC.search(text):
            raise ValueError(
                f"{NO_TEXT} but what autodoc takes from the program: read the HTML that is built"
            ) from None
        raise


def to_html(text: str, place: Place | None = None) -> str:
    """The body of the HTML that docutils makes of `text`."""
    from docutils.core import publish_doctree, publish_from_doctree

    if re.search(rf"\S{{{LONGEST}}}", text):
        raise ValueError(f"a word of more than {LONGEST:,} letters, which docutils does not end with")
    settings = {**_SETTINGS, "warning_stream": io.StringIO(), "place": place, "included": {}}
    with sphinx_rst.known(text):
        tree = publish_doctree(text, settings_overrides=settings)
    _mend(tree)
    settings["warning_stream"] = io.StringIO()
    whole = str(publish_from_doctree(tree, writer="html5", settings_overrides=settings))
    body = re.search(r"<body[^>]*>\n?(.*)</body>", whole, re.DOTALL)
    return re.sub(r"</?main[^>]*>", "", body[1]) if body else ""


def _mend(tree: "nodes.document") -> None:
    """What hangs on the whole document: titles of references, the language of literal blocks, what is no text."""
    from docutils import nodes

    titles = _titles(tree)
    for reference in list(tree.findall(nodes.inline)):
        if sphinx_rst.REFERENCE in reference["classes"]:
            label = reference.astext()
            reference["classes"] = []
            reference.replace_self(nodes.Text(titles.get(nodes.fully_normalize_name(label), label)))
    for wrong in list(tree.findall(nodes.problematic)):
        wrong["ids"] = []
        wrong.replace_self(nodes.Text(re.sub(r"^\|?`+(.*?)(?:\s*<[^<>]+>)?`+_{0,2}$", r"\1", wrong.astext())))
    for message in list(tree.findall(nodes.system_message)):
        message["ids"] = []
        message.replace_self(list(message.findall(nodes.literal_block)))  # what docutils could not read, as it stands
    spoken = ""
    for node in list(tree.findall(lambda n: isinstance(n, nodes.literal_block | nodes.comment))):
        if isinstance(node, nodes.comment):
            spoken = node.astext() if sphinx_rst.SPOKEN in node["classes"] else spoken
            node.parent.remove(node)
        elif spoken and not any(name.startswith("highlight-") or name == "code" for name in node["classes"]):
            node["classes"].append(f"highlight-{spoken}")
        elif "code" in node["classes"]:  # docutils' own directive says it as a bare class
            node["classes"] = [f"highlight-{name}" for name in node["classes"] if name != "code"]
    for session in list(tree.findall(lambda n: isinstance(n, nodes.literal_block | nodes.doctest_block))):
        if (text := session.astext()).lstrip().startswith(">>>"):  # as Sphinx does, what is for doctest alone goes
            session.children = [nodes.Text(_BLANK.sub("", _FLAGS.sub("", text)))]
    for field in list(tree.findall(nodes.field)):
        above = field.parent.parent
        if field[0].astext().lower() in _META and (above is tree or above.parent is tree):
            field.parent.remove(field)
    for fields in list(tree.findall(nodes.field_list)):
        if not len(fields):
            fields.parent.remove(fields)


def _titles(tree: "nodes.document") -> dict[str, str]:
    """The title of the section that each label stands before."""
    from docutils import nodes

    out: dict[str, str] = {}
    for section in tree.findall(nodes.section):
        title = section.next_node(nodes.title)
        names = [*section["names"], *section["dupnames"], *section["ids"]]
        for target in section.parent.children[: section.parent.index(section)][::-1]:
            if not isinstance(target, nodes.target):
                break
            names += [*target["names"], *target["ids"]]
        if title is not None:
            out |= {nodes.fully_normalize_name(name): title.astext() for name in names}
    return out
