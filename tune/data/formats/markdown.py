"""Markdown and MDX -> Document, through markdown-it to HTML and then the reader of all HTML.

In: a file's bytes. Out: the Document: GitHub's tables and alerts, footnotes, definition lists, the admonitions of
MkDocs, Docusaurus and MyST. Front matter gives a title and is no text. What cannot be read is a ValueError. Knows
nothing about folders, nor about HTML's elements.
"""

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tune.data.formats import included, mdx, rst
from tune.data.formats.included import Place
from tune.data.formats.text import decode, document
from tune.data.html import Document

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_TOML = re.compile(r"\+\+\+[ \t]*\n(.*?)\n\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)  # Hugo's front matter
_TAB = re.compile(r'^([ \t]*)={3}[!+]*[ \t]+"(.*?)"[ \t]*$', re.MULTILINE)  # MkDocs: === "Title", indented like !!!
_ALERT = re.compile(r"\[!(note|tip|important|warning|caution)\][ \t]*(?:\n|\Z)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"[ \t]*\{:?[ \t]*[#.:][^{}\n]*\}[ \t]*$")  # {#id}, {: .class }
_ROLE = re.compile(r"\{[\w:.+-]+\}$")  # MyST: {func}`x`
_DIRECTIVE = re.compile(r"\{([\w:.+-]+)\}[ \t]*(.*)")  # MyST: ```{note} Title
_OPTIONS = re.compile(r"\A(?:---\n(?:[^\n]*\n)*?---\n|(?:[ \t]*:[\w-]+:[^\n]*\n?)+)")
_OPTION = re.compile(r"^[ \t]*:?([\w-]+):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_CLASSED = re.compile(r"\{ *\.([\w+#-]+)")  # a fence's language as a class: {.python .annotate}
_KRAMDOWN = re.compile(r"[ \t]*\{:[ \t]*[^{}\n]*\}")  # attributes behind text
_LISTED = re.compile(r"^\{:?[ \t]*(?:[.#:][\w-]|\w+=)[^{}\n]*\}")  # behind a link
_TEMPLATE = re.compile(r"\{%.*?%\}|\{\{([<%]).*?[%>]\}\}", re.DOTALL)  # Jekyll's, GitBook's; Hugo's
_SHOWN = re.compile(r"\btext=\"([^\"]*)\"")
_CONTAINER = re.compile(r"\{?([\w.+-]*)\}?[ \t]*(.*)")
_MARKS = re.compile(r"^[ \t]*(\[\[?toc\]?\]|\[\[_toc_\]\])[ \t]*$", re.MULTILINE | re.IGNORECASE)
_UNSEEN = re.compile(r"\([\w:.-]+\)=|\*\[[^\]\n]+\]:.*")  # lines: MyST's targets, abbreviations
_ADMONITIONS_WORDS = (
    "note info tip hint important warning caution danger attention error seealso admonition abstract summary tldr "
    "success check done question help faq failure fail missing bug example quote cite todo versionadded "
    "versionchanged deprecated details dropdown tab tab-item"
)
_ADMONITIONS = set(_ADMONITIONS_WORDS.split())
_CODE = {"code", "code-block", "sourcecode", "code-cell", "parsed-literal"}
_NOTHING = {"toctree", "contents", "tableofcontents", "image", "raw", "index"}
_INCLUDES = {"include", "literalinclude"}
DEPTH = 12  # directives in directives


def read(data: bytes, name: str = "", place: Place | None = None) -> Document:
    """The document in a Markdown file; `name` is its title when it states none. Raises ValueError without text.

    Without a `place` it includes no file.
    """
    return _document(decode(data), name, place)


def read_mdx(data: bytes, name: str = "", place: Place | None = None) -> Document:
    """The document in an MDX file: Markdown whose imports, exports and JSX tags are taken out, not what is in them."""
    return _document(decode(data), name, place, jsx=True)


def _document(text: str, name: str, place: Place | None, jsx: bool = False) -> Document:
    title, text = _front(text)
    text = mdx.plain(text) if jsx else text
    return document(_render(included.snippets(text, place), place, 0), name, title)


def _front(text: str) -> tuple[str, str]:
    """The title that front matter states, and the text behind it."""
    import tomllib

    import yaml

    said: Any = None
    try:
        if toml := _TOML.match(text):
            text = text[toml.end() :]
            said = tomllib.loads(toml[1])
        elif text.startswith("---\n") and (end := re.search(r"^(?:---|\.\.\.)[ \t]*$", text[4:], re.MULTILINE)):
            said = yaml.safe_load(text[4 : 4 + end.start()])
            if isinstance(said, dict) or said is None:  # else two rules with words between them
                text = text[4 + end.end() :]
    except (yaml.YAMLError, ValueError, RecursionError):
        end = re.search(r"^---[ \t]*$", text[4:], re.MULTILINE)
        text = text[4 + end.end() :] if end and text.startswith("---\n") else text
    title = said.get("title") if isinstance(said, dict) else ""
    return (title.strip() if isinstance(title, str) else ""), text


def _render(text: str, place: Place | None, depth: int) -> str:
    parser = _parser()
    tokens = parser.parse(_MARKS.sub("", _TAB.sub(r"\1!!! tab \2", text)))
    _alerts(tokens)
    for token in tokens:
        if token.type == "inline":
            _inline(token.children or [])
        elif token.type == "fence" and (classed := _CLASSED.match(token.info.strip())):
            token.info = classed[1]
    for before, token in pairwise(tokens):
        if before.type == "heading_open" and token.children and token.children[-1].type == "text":
            token.children[-1].content = _ATTRIBUTES.sub("", token.children[-1].content)
    for token in tokens:
        if token.type == "fence" and (told := _DIRECTIVE.fullmatch(token.info.strip())):
            _directive(token, told[1].lower(), told[2].strip(), place, depth)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt
    from mdit_py_plugins.admon import admon_plugin
    from mdit_py_plugins.container import container_plugin
    from mdit_py_plugins.deflist import deflist_plugin
    from mdit_py_plugins.footnote import footnote_plugin

    def container(_: Any, tokens: Any, i: int, *__: Any) -> str:
        told = _CONTAINER.match(tokens[i].info.strip()) if tokens[i].nesting == 1 else None
        return opened(told[1], told[2].strip("[] ")) if told else "</div>\n"

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.use(admon_plugin).use(deflist_plugin).use(footnote_plugin)
    parser.use(container_plugin, "any", validate=lambda params, *_: bool(params.strip()), render=container)
    parser.add_render_rule("footnote_ref", lambda *_: "")
    parser.add_render_rule("footnote_anchor", lambda *_: "")
    return parser


def opened(name: str, title: str) -> str:
    """The begin of an admonition, or of a part that is none."""
    said = title or (name.replace("-", " ").capitalize() if name in _ADMONITIONS else "")
    head = f'<p class="admonition-title">{_titled(said)}</p>\n' if said else ""
    return f'<div class="{"admonition" if name in _ADMONITIONS and head else ""}">\n{head}'


def _titled(text: str) -> str:
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": False}).renderInline(text))


def _alerts(tokens: "list[Token]") -> None:
    """GitHub's `> [!NOTE]`: a quotation whose first line names the kind."""
    for i in range(len(tokens) - 2):
        quote, inside = tokens[i], tokens[i + 2]
        if quote.type != "blockquote_open" or inside.type != "inline" or not (said := _ALERT.match(inside.content)):
            continue
        quote.type = "html_block"
        quote.content = opened("note", said[1].capitalize())
        inside.content = inside.content[said.end() :]
        children = inside.children or []
        breaks = [at for at, child in enumerate(children) if child.type in {"softbreak", "hardbreak"}]
        inside.children = children[breaks[0] + 1 :] if breaks else []
        depth = 0
        for at in range(i + 1, len(tokens)):
            token = tokens[at]
            depth += token.nesting if token.type.startswith("blockquote") else 0
            if depth < 0:
                token.type, token.content = "html_block", "</div>\n"
                break


def _inline(children: "list[Token]") -> None:
    """MyST's role before code goes; the code of a link to an object is what it shows."""
    for before, token in pairwise([None, *children]):
        if token and token.type == "text":
            said = _TEMPLATE.sub(_shown, token.content)
            linked = before is not None and before.type in {"link_close", "image"}
            token.content = "" if _UNSEEN.fullmatch(said) else (_LISTED if linked else _KRAMDOWN).sub("", said)
    for token, code in pairwise(children):
        if token.type == "text" and code.type == "code_inline" and _ROLE.search(token.content):
            token.content = _ROLE.sub("", token.content)
            code.content = re.sub(r"^(.+?)\s*<[^<>]+>$", r"\1", code.content).lstrip("!")
            code.content = code.content[1:].rpartition(".")[2] if code.content.startswith("~") else code.content


def _shown(template: re.Match[str]) -> str:
    said = _SHOWN.search(template[0])
    return said[1] if said else ""


def _directive(token: "Token", name: str, title: str, place: Place | None, depth: int) -> None:
    """MyST's fenced directive as HTML, when its content is text; another `{name}` is the language of code."""
    content = _OPTIONS.sub("", token.content)
    if name in _INCLUDES and depth < DEPTH:
        _included(token, name, title, place, depth)
    elif name in _CODE:
        token.info, token.content = title, content
    elif name in _NOTHING:
        token.type, token.content = "html_block", ""
    elif name == "eval-rst":
        token.type, token.content = "html_block", rst.to_html(content, place)
    elif (name in _ADMONITIONS or name in {"figure", "div", "list-table", "grid", "card"}) and depth < DEPTH:
        title = title if name not in {"figure", "list-table"} else ""
        token.type, token.content = "html_block", f"{opened(name, title)}{_render(content, place, depth + 1)}</div>\n"
    else:
        token.info = name


def _included(token: "Token", name: str, said: str, place: Place | None, depth: int) -> None:
    """The file that MyST's include or literalinclude names, as text or as code."""
    head = _OPTIONS.match(token.content)
    options = dict(_OPTION.findall(head[0] if head else ""))
    path = place.find(said, *place.above()) if place else None
    text = included.selected(included.text(path), options) if path else ""
    if name == "literalinclude" and path and text.strip():
        token.info, token.content = options.get("language") or path.suffix.lstrip("."), f"{text}\n"
    else:
        token.type, token.content = "html_block", _render(_front(text)[1], place, depth + 1)
