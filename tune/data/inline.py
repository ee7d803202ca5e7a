"""What is inside one HTML node -> text: inline content, code as it stands, attributes.

In: a node of a parsed tree. Out: text on one line with code between backticks, or verbatim. Knows nothing about blocks.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_TAGS = re.compile(
    "a|abbr|b|bdi|bdo|big|br|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strong|sub|"
    "sup|time|tt|u|var|wbr|-text"
)
_CODE = {"code", "tt", "kbd", "samp"}
_LANGUAGE = re.compile(r"\b(?:highlight|language)-([a-z0-9]+)")
_UNSEEN = re.compile("[\u200b\u2060\ufeff\u00ad]")  # characters that nobody sees, and no break between words


def is_inline(node: "LexborNode") -> bool:
    """Whether the node belongs in a paragraph: its tag and those right inside it are inline, or it is text."""
    return all(_TAGS.fullmatch(one.tag or "") for one in (node, *node.iter()))


def squeezed(text: str) -> str:
    """Text on one line, without invisible characters."""
    return re.sub(r"\s+", " ", _UNSEEN.sub("", text)).strip()


def classes(node: "LexborNode") -> list[str]:
    return (node.attributes.get("class") or "").split()


def marked(node: "LexborNode") -> str:
    """Inline content as text, code between backticks."""
    if node.tag == "-text":
        return str(node.text())
    if node.tag == "br":
        return " "
    if node.tag in _CODE:
        text = squeezed(node.text())
        return f"`` {text} ``" if "`" in text else f"`{text}`" if text else ""
    return "".join(marked(child) for child in node.iter(include_text=True))


def verbatim(node: "LexborNode") -> str:
    """Text as it stands, without blank lines around it."""
    return "".join(_pieces(node)).strip("\n")


def language(pre: "LexborNode", code: str) -> str:
    """python when Sphinx says so, or does not say and the code is a session; else what the page says."""
    nodes = [*pre.css("code")[:1], pre]
    while len(nodes) < 5 and (above := nodes[-1].parent) is not None:
        nodes.append(above)
    said = next((found[1] for node in nodes if (found := _LANGUAGE.search(" ".join(classes(node))))), "")
    if said in {"", "default", "none"}:
        return "python" if said == "default" or code.lstrip().startswith(">>> ") else ""
    return "python" if said.startswith("py") else said


def number(node: "LexborNode", name: str, otherwise: int) -> int:
    """A whole number in an attribute, at least 0."""
    said = node.attributes.get(name) or ""
    return int(said) if re.fullmatch(r"\d{1,9}", said.strip()) else otherwise


def _pieces(node: "LexborNode") -> Iterator[str]:
    for child in node.iter(include_text=True):
        if child.tag == "-text":
            yield child.text()
        elif child.tag == "br":
            yield "\n"
        else:
            yield from _pieces(child)
