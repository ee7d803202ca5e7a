"""What is inside one HTML node -> text: inline content, code as it stands, attributes.

In: a node of a parsed tree. Out: text on one line with code between backticks, or verbatim. Knows nothing about blocks.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_TAGS = re.compile(
    "a|abbr|b|bdi|bdo|big|br|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strong|sub|"
    "sup|time|tt|u|var|wbr|-text"
)
_CODE = {"code", "tt", "kbd", "samp"}
_LINES = {"div", "p", "li", "tr"}  # each on a line of its own, inside code too
_APART = {*_LINES, "br", "dd", "dt", "label", "td", "th"}  # no part of the words beside them
_NOT_INLINE = "address, article, blockquote, div, dl, figure, h1, h2, h3, h4, h5, h6, ol, p, pre, section, table, ul"
_LANGUAGE = re.compile(r"(?:^|\s)(?:highlight|language)-(?:source-)?(\w[\w+#.-]*)")
_UNSEEN = re.compile("[\u200b\u2060\ufeff\u00ad]")  # characters that nobody sees, and no break between words


def is_inline(tag: str) -> bool:
    """Whether an element of this tag is part of a paragraph, as long as there is no block in it."""
    return _TAGS.fullmatch(tag) is not None


def is_code(node: "LexborNode") -> bool:
    """Whether it is inline code: no block is in it."""
    return _is_set_as_code(node) and node.css_first(_NOT_INLINE) is None


def squeezed(text: str) -> str:
    """Text on one line, without invisible characters."""
    return re.sub(r"\s+", " ", _UNSEEN.sub("", text)).strip()


def classes(node: "LexborNode") -> list[str]:
    return (node.attributes.get("class") or "").split()


def marked(node: "LexborNode", tick: str = "`") -> str:
    """Inline content as text, code between backticks."""
    if node.tag == "-text":
        return str(node.text())
    if tick and _is_set_as_code(node):
        text = plain(node)
        return f"`` {text} ``" if tick in text else f"`{text}`" if text else ""
    text = "".join(marked(child, tick) for child in node.iter(include_text=True))
    return f" {text} " if node.tag in _APART else text


def plain(node: "LexborNode") -> str:
    """Inline content as text on one line, without backticks."""
    return squeezed(marked(node, tick=""))


def verbatim(node: "LexborNode") -> str:
    """Text as it stands, without blank lines around it."""
    _gather(node, pieces := list[str]())
    return "".join(pieces).strip("\n")


def language(pre: "LexborNode", code: str) -> str:
    """python when Sphinx says so, or does not say and the code is a session; else what the page says."""
    nodes = [*pre.css("code")[:1], pre]
    while len(nodes) < 5 and (above := nodes[-1].parent) is not None:
        nodes.append(above)
    said = next((found[1] for node in nodes if (found := _LANGUAGE.search(" ".join(classes(node))))), "").lower()
    if said in {"", "default", "none"}:
        return "python" if said == "default" or code.lstrip().startswith(">>> ") else ""
    return "python" if said.startswith("py") else said


def number(node: "LexborNode", name: str, otherwise: int) -> int:
    """A whole number in an attribute, at least 0."""
    found = re.fullmatch(r"\d{1,9}", (node.attributes.get(name) or "").strip())
    return int(found[0]) if found else otherwise  # not of the attribute: strip takes more off than int does, U+001F


def _is_set_as_code(node: "LexborNode") -> bool:
    """Whether its letters are a program's: by its tag, or by the class that docutils' HTML 5 has for it."""
    return node.tag in _CODE or (node.tag == "span" and {"docutils", "literal"} <= set(classes(node)))


def _gather(node: "LexborNode", pieces: list[str]) -> None:
    for child in node.iter(include_text=True):
        if child.tag == "-text":
            pieces.append(child.text())
        elif child.tag == "br":
            pieces.append("\n")
        else:
            _end_line(child, pieces)
            _gather(child, pieces)
            _end_line(child, pieces)


def _end_line(node: "LexborNode", pieces: list[str]) -> None:
    if node.tag in _LINES and pieces and not pieces[-1].endswith("\n"):
        pieces.append("\n")
