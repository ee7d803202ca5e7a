"""Bytes that anybody may have made -> JSON values, with bounds: size, depth, encoding, and what a zip holds."""

import io
import json
import struct
import zipfile
import zlib
from typing import Any

from evalsuite.imports.item import Refused, shown

MOST_BYTES = 256 * 2**20  # of a file, and of all that is unpacked of a zip
MOST_ITEMS = 50_000
BROKEN = (  # what zipfile raises for bytes that are no zip, or are one that somebody bent
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    OverflowError,
)


def document(data: bytes) -> Any:
    """One JSON value; a list of them where each line is one. Raises Refused, and RecursionError for one too deep."""
    try:
        written = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise Refused(f"it is not UTF-8: line {line}: {e.reason}", "save it as UTF-8") from None
    if not written.strip():
        raise Refused("it is empty")
    lines = [(n, line) for n, line in enumerate(written.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and lines[0][1].strip().endswith("}") and lines[0][1].startswith("{"):
        return [_value(line, f"line {n}: ") for n, line in lines]
    return _value(written, "")


def records(found: Any) -> list[dict[str, Any]]:
    """A list of objects, or one as a list. Raises Refused for anything else, and for too many."""
    rows = found if isinstance(found, list) else [found]
    if len(rows) > MOST_ITEMS:
        raise Refused(f"it holds {len(rows)} items, and at most {MOST_ITEMS} are judged")
    for n, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise Refused(f"item {n} is no JSON object")
    return rows


def is_zip(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04")


class Archive:
    """A zip in memory. Nothing of it is written anywhere; a name is no more than a key."""

    def __init__(self, data: bytes, unpack: str) -> None:
        """`unpack`: the command that gives the same as plain JSON. Raises Refused for what is no zip."""
        self._left, self._unpack = MOST_BYTES, unpack
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except BROKEN as e:
            raise Refused(f"it is a zip that cannot be read: {shown(str(e))}", unpack) from None
        self.names = list(dict.fromkeys(self._zip.namelist()))  # of one written twice, the last counts
        if len(self.names) > 2 * MOST_ITEMS:
            raise Refused(f"it is a zip of {len(self.names)} files")

    def value(self, name: str) -> Any:
        """The JSON value of a file of it; however large it says it is, no more is read than what is left."""
        if self._zip.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{shown(name)} in it is not packed by deflate, and nothing else is unpacked", self._unpack)
        try:
            with self._zip.open(name) as file:
                data = file.read(self._left + 1)
        except BROKEN as e:
            raise Refused(f"{shown(name)} in it cannot be read: {shown(str(e))}", self._unpack) from None
        self._left -= len(data)
        if self._left < 0:
            raise Refused(f"it unpacks to more than {MOST_BYTES // 2**20} MiB")
        return document(data)


def _value(written: str, where: str) -> Any:
    try:
        return json.loads(written)
    except ValueError as e:
        raise Refused(f"{where}it is not JSON: {shown(str(e))}") from None
