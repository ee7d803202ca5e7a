"""Rows of a file, one at a time: JSON Lines, a JSON array, either in gzip, Parquet; or of a data set on the Hub.

In: a path, or a Hub id at a commit. Out: each row's number, from 1, and what it holds. Whatever the size of a file,
one row is in memory, of Parquet one batch. Knows nothing of what is in a row.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from tune.errors import UserError, reason

LONGEST = 2**24  # bytes of a row
CHUNK = 2**16
BATCH = 256  # rows of Parquet
SHUFFLED = 10_000  # rows of a Hub data set among which the next is drawn
INSTALL = 'pip install "gptoss-kit[train]"'


class Bad(NamedTuple):
    """A line that is no JSON, and why."""

    why: str


def read(path: Path) -> Iterator[tuple[int, object]]:
    """Number and contents of each row; `Bad` for a line that cannot be read. Blank lines count and are passed over.

    Raises UserError when there is no such file, when it cannot be read to its end, or when an array is broken off.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
            return
        with _opened(path) as f:
            start = f.read(CHUNK).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        with _opened(path) as f:
            yield from _array(path, f) if start == b"[" else _lines(f)
    except FileNotFoundError:
        raise UserError(f"there is no {path}", fix="edit [dataset] in recipe.toml") from None
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"{path} cannot be read", why=reason(e), fix="edit [dataset] in recipe.toml") from None


def hub(name: str, commit: str, seed: int) -> Iterator[tuple[int, object]]:
    """Number and contents of each row of a Hub data set's `train`, shuffled by the seed as far as a stream can be.

    That it is there is known at once. Raises UserError when it, or a part of it, cannot be had.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"{name} is read from the Hub by `datasets`", fix=INSTALL) from None
    with _reached(name, commit):
        rows = load_dataset(name, revision=commit, split="train", streaming=True)
        return _streamed(rows.shuffle(seed=seed, buffer_size=SHUFFLED), name, commit)


def _streamed(rows: Iterable[object], name: str, commit: str) -> Iterator[tuple[int, object]]:
    with _reached(name, commit):
        yield from enumerate(rows, 1)


@contextmanager
def _reached(name: str, commit: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError) as e:  # what `datasets` and its network raise
        why = str(e).splitlines()[0][:300] if str(e) else type(e).__name__
        fix = "check the network and dataset.general_revision, or name a file of rows"
        raise UserError(f"{name}@{commit[:12]} cannot be read from the Hub", why=why, fix=fix) from None


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _lines(f: IO[bytes]) -> Iterator[tuple[int, object]]:
    number = 0
    while line := f.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            while line and not line.endswith(b"\n"):
                line = f.readline(LONGEST)
            yield number, Bad(f"longer than {LONGEST >> 20} MB")
        elif said := line.removeprefix(b"\xef\xbb\xbf").strip():
            yield number, _parsed(said)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        return Bad("not UTF-8")
    except (ValueError, RecursionError) as e:
        return Bad(f"not JSON: {reason(e)}")


def _array(path: Path, f: IO[bytes]) -> Iterator[tuple[int, object]]:
    """Elements of an array, each parsed when all of it has been read."""
    import codecs

    decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")()
    text, number, begun, ended, more = "", 0, False, False, CHUNK

    def broken(why: str) -> UserError:
        what = f"{path} is no JSON array to its end: element {number + 1}"
        return UserError(what, why=why, fix="write it as JSON Lines, one row a line, where a bad row is counted")

    while True:
        text = text.lstrip(" \t\r\n," if begun else " \t\r\n")
        if text and not begun:
            text, begun = text.removeprefix("[").lstrip(), True
        if text.startswith("]"):
            return
        value, end, why = None, 0, ""
        try:
            if text:
                value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as e:
            why = reason(e)
        if end and (end < len(text) or ended):  # a number at the edge may go on
            number += 1
            yield number, value
            text, more = text[end:], CHUNK
            continue
        if ended or len(text) > LONGEST:
            raise broken(why or "it ends without ]")
        try:
            read = f.read(more)
            text += utf8.decode(read, not read)
        except UnicodeDecodeError:
            raise broken("it is not UTF-8") from None
        ended, more = not read, min(2 * more, LONGEST)  # a long element is parsed again as often as it doubles


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path} is Parquet, which `datasets` brings the reader of", fix=INSTALL) from None
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except arrow.ArrowException as e:
        raise UserError(
            f"{path} is not Parquet that can be read", why=reason(e), fix="edit [dataset] in recipe.toml"
        ) from None
