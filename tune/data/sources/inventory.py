"""Sphinx's objects.inv, version 2 -> the pages that it names.

The format is that of sphinx.util.inventory: four lines of head, the last of which says zlib; then, compressed, a line
an object: name, domain:role, priority, location, shown name. A location that ends in $ ends in the object's name.
"""

import re
import zlib

LARGEST = 64_000_000  # bytes, unzipped: CPython's has 1.4 million
_HEAD = re.compile(rb"# Sphinx inventory version 2\r?\n# Project:[^\n]*\n# Version:[^\n]*\n#[^\n]*zlib[^\n]*\n")
_LINE = re.compile(r"(.+?)\s+\S+:\S+\s+-?\d+\s+(\S+)(?:\s|$)")  # a name may hold spaces


def pages(data: bytes) -> list[str]:
    """Locations relative to objects.inv, without anchors, each once and in order. Raises ValueError in one line."""
    head = _HEAD.match(data)
    if not head:
        raise ValueError("no inventory of version 2")
    unzip = zlib.decompressobj()
    try:
        text = unzip.decompress(data[head.end() :], LARGEST)
    except zlib.error as e:
        raise ValueError(f"its zlib data is broken: {e}") from None
    if not unzip.eof:
        raise ValueError(f"its zlib data ends in the middle, or holds more than {LARGEST:,} bytes")
    found: dict[str, None] = {}
    for line in text.decode("utf-8", errors="replace").splitlines():
        if told := _LINE.match(line):
            name, location = told.groups()
            location = location[:-1] + name if location.endswith("$") else location
            found[location.partition("#")[0]] = None
    found.pop("", None)
    return list(found)
