"""Bytes as they arrived, with their times, to a response and its server-sent events. Read after the run, not during it.

In: (time, bytes) pieces of one HTTP/1.1 response, cut anywhere. Out: status, headers, body, and events stamped with the
arrival of their last byte. Knows nothing about JSON, tokens or sockets.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Malformed(ValueError):
    """Not HTTP/1.1."""


class Response(NamedTuple):
    """One response. `complete` is False when the connection ended before the body did.

    `spans` maps the body to the bytes received: (start in body, start in received), ascending.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    spans: tuple[tuple[int, int], ...]
    ends: tuple[int, ...]  # received bytes up to and with each piece
    times: tuple[float, ...]  # arrival of each piece, in seconds on the caller's clock

    def arrival(self, end: int) -> float:
        """When body[:end] was all there; `end` at least 1."""
        at = bisect_left(self.spans, (end,)) - 1
        body_start, received_start = self.spans[at]
        return self.times[bisect_left(self.ends, received_start + end - body_start)]

    def events(self) -> Iterator[tuple[float, bytes]]:
        """(arrival, data) of each finished event; data lines joined by a newline, comments and other fields skipped."""
        start = 0
        for end in _EVENT_END.finditer(self.body):
            lines = _LINE_END.split(self.body[start : end.start()])
            data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
            if data:
                yield self.arrival(end.end()), b"\n".join(data)
            start = end.end()


def parse(pieces: Sequence[tuple[float, bytes]]) -> Response:
    """Read one response. Raises Malformed when what arrived is not HTTP/1.1 with an identity body."""
    raw = b"".join(piece for _, piece in pieces)
    status, headers, at = _head(raw, 0)
    while 100 <= status < 200:  # interim responses say nothing yet
        status, headers, at = _head(raw, at)
    if headers.get("content-encoding", "identity") != "identity":
        raise Malformed(f"compressed body, which was not asked for: {headers['content-encoding']}")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        found, complete = _chunks(raw, at)
    else:
        length = headers.get("content-length", "")
        if length and not re.fullmatch(r"[0-9]{1,15}", length):
            raise Malformed(f"content-length {length[:20]}")
        end = at + int(length) if length else len(raw)  # no length: the body ends with the connection
        found, complete = [(at, min(end, len(raw)))], len(raw) >= end
    starts = accumulate((end - start for start, end in found), initial=0)
    return Response(
        status=status,
        headers=headers,
        body=b"".join(raw[start:end] for start, end in found),
        complete=complete,
        spans=tuple((body, start) for body, (start, _) in zip(starts, found, strict=False)),
        ends=tuple(accumulate(len(piece) for _, piece in pieces)),
        times=tuple(time for time, _ in pieces),
    )


def _head(raw: bytes, at: int) -> tuple[int, dict[str, str], int]:
    end = raw.find(b"\r\n\r\n", at)
    if end < 0:
        raise Malformed("the response has no end of headers")
    first, *lines = raw[at:end].decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] ([1-5]\d\d)(?: .*)?", first)
    if match is None:
        raise Malformed(f"status line {first[:60]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(match[1]), headers, end + 4


def _chunks(raw: bytes, at: int) -> tuple[list[tuple[int, int]], bool]:
    """(start, end) in `raw` of each chunk's data, and whether the last chunk came (RFC 9112, 7.1)."""
    found: list[tuple[int, int]] = []
    while (line_end := raw.find(b"\r\n", at)) >= 0:
        size_text = raw[at:line_end].partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size_text):
            raise Malformed(f"chunk size {size_text[:20]!r}")
        start, size = line_end + 2, int(size_text, 16)
        if size == 0:  # trailers, if any, end with an empty line
            return found, raw.startswith(b"\r\n", start) or raw.find(b"\r\n\r\n", start) >= 0
        if start < len(raw):
            found.append((start, min(start + size, len(raw))))
        at = start + size + 2
        if len(raw) >= at and raw[at - 2 : at] != b"\r\n":
            raise Malformed("a chunk is longer than it said")
    return found, False
