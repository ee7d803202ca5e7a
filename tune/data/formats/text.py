"""What the readers of plain-text formats share: bytes -> text, and a body of HTML -> Document.

In: a file's bytes, or the HTML that a library made of them. Out: text, or what `tune.data.html` reads in it. What
cannot be read is a ValueError that says why in one line. Knows nothing about any format.
"""

import codecs
import re
from html import escape

from tune.data import html

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark; lines end in "\\n". Raises ValueError for anything else."""
    name = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(name).removeprefix("\ufeff")
    except UnicodeError as e:
        raise ValueError(f"its bytes are not {name}: {e}; save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("holds NUL: no text, or UTF-16 without a byte order mark")
    if len(text) > html.LARGEST:
        raise ValueError(f"more than {html.LARGEST:,} characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def document(body: str, name: str, title: str = "") -> html.Document:
    """What a body of HTML says. Its title is its first <h1>, else `title`, else the file's `name` in words."""
    body = _SURROGATE.sub("\ufffd", body)  # a PDF's fonts and JSON's escapes can name what is no character
    own = title or name.replace("-", " ").replace("_", " ").strip() or "untitled"
    return html.parse(f"<html><head><title>{escape(own)}</title></head><body><main>{body}</main></body></html>", own)
