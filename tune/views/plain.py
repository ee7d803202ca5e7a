"""Strangers' text made fit for a page: what cannot be seen is spelled out, and JSON cannot end the script it lies in.

Text in, text out. Knows nothing about datasets. The template escapes what it is given; this is about the rest: NUL and
other controls, marks that reorder a line, lone surrogates, which no UTF-8 file can hold, and texts without an end.
"""

import json
import re
from typing import Any

# Marks that only say a direction (U+200E, U+200F) and joiners stay: Hebrew, Persian and emoji are written with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_SCRIPT = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def plain(text: str) -> str:
    """The text with line breaks and tabs as they are, and every other control as Python would write it."""
    return _UNSEEN.sub(lambda c: c[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def cut(text: str, most: int) -> tuple[str, int]:
    """The first `most` characters, made plain, and how long the whole is when that is not all of it, else 0."""
    return plain(text[:most]), len(text) if len(text) > most else 0


def one_line(text: str, most: int) -> str:
    """The beginning of a text on one line, with an ellipsis where it was cut."""
    flat = " ".join(text[: 4 * most].split())
    return plain(flat if len(flat) <= most and len(text) <= 4 * most else f"{flat[: most - 1]}…")


def script_json(value: Any) -> str:
    """JSON for a <script> of type application/json: without a character that HTML would take for its end, or for a
    comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SCRIPT.sub(lambda c: f"\\u{ord(c[0]):04x}", text)
