"""Lines that say whether they are as they were written: JSON that ends in a sha256 over the rest of it.

Knows nothing about what a line holds.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tune.errors import UserError

AGAIN = "remove the line: its question is asked again"

_SEAL = b',"sha256":"'  # then 64 hex characters and the end of the line
_SEALED = len(_SEAL) + 64 + len(b'"}')


def seal(text: bytes) -> bytes:
    """A JSON object of one line, sealed and ended."""
    return text[:-1] + _SEAL + hashlib.sha256(text).hexdigest().encode() + b'"}\n'


def read(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and JSON of each line; of a missing file none. A last line without its end, cut short by a kill, is
    dropped. Raises UserError for any other that is not as it was written."""
    whole = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # bytes: a kill may cut within a character
    for number, text in enumerate(whole, 1):
        if text:
            yield number, _unsealed(text, path, number)


def _unsealed(text: bytes, path: Path, number: int) -> bytes:
    where = f"{path}:{number}"
    body, found = text[:-_SEALED] + b"}", text[-_SEALED:]
    if not found.startswith(_SEAL):
        try:
            old = isinstance(held := json.loads(text), dict) and "score" in held
        except (ValueError, RecursionError):
            old = False
        if old:
            raise UserError(
                f"{where} is an answer of an earlier version",
                why="it holds a score that would have to be believed, and does not say which request it answers",
                fix=f"mv {path} {path}.old, and run evalsuite compare again: everything is asked again",
            )
        raise UserError(f"{where} is not an answer", fix=AGAIN)
    if found != _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}':
        raise UserError(f"{where} was changed after it was written", why="its sha256 differs", fix=AGAIN)
    return body
