"""What URLs gave, kept on disk: an interrupted run, or one with failures, asks only for what is missing.

In: a folder for one way of fetching, since what one gave says nothing of another. A file a URL, named by its digest;
delete the folder to ask again. Knows nothing about what is kept.
"""

import base64
import binascii
import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tune.errors import UserError


class Html(NamedTuple):
    """The HTML of a page. `at` is the address that gave it, after redirects."""

    text: str
    at: str


def html(cache: Path, url: str) -> Html | None:
    """What this URL gave before, if it was kept whole."""
    kept = _read(cache, url)
    if isinstance(kept.get("html"), str):
        return Html(kept["html"], str(kept.get("at", url)))
    return None


def keep_html(cache: Path, url: str, text: str, at: str = "") -> None:
    """Raises UserError when the disk will not take it."""
    _write(cache, url, {"html": text} | ({"at": at} if at and at != url else {}))


def file(cache: Path, url: str, age: float = math.inf) -> bytes | None:
    """The file that this URL gave before, if it was kept whole and at most `age` seconds ago."""
    try:
        if time.time() - _slot(cache, url).stat().st_mtime > age:
            return None
        kept = _read(cache, url).get("file")
        return base64.b64decode(kept, validate=True) if isinstance(kept, str) else None
    except (OSError, binascii.Error):
        return None


def keep_file(cache: Path, url: str, data: bytes) -> None:
    """Raises UserError when the disk will not take it."""
    _write(cache, url, {"file": base64.b64encode(data).decode()})


def _read(cache: Path, url: str) -> dict[str, Any]:
    try:
        kept = json.loads(_slot(cache, url).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and kept.get("url") == url else {}


def _write(cache: Path, url: str, kept: Mapping[str, str]) -> None:
    """Whole or not at all; without waiting for the disk, since what a power cut leaves in half is asked for again."""
    path = _slot(cache, url)
    part = path.with_name(path.name + ".part")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"url": url, **kept}), encoding="utf-8")
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise UserError(
            f"a page cannot be kept in {cache}",
            why=e.strerror or str(e),
            fix="free space there, then tune collect: it goes on after the last page that was kept",
        ) from None


def _slot(cache: Path, url: str) -> Path:
    return cache / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
