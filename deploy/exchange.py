"""One chat completion asked of a deployed endpoint: a body in, what came back, streamed or whole, out.

Reads server-sent events itself, since a client library hides what a smoke test looks for: a missing [DONE], an error
inside a 200, a stream that is cut. Whatever a server says is data: kept as far as it is counted, shown as one line.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from evalsuite.asking.access import Door
from evalsuite.asking.client_info import ClientInfo
from evalsuite.asking.patience import not_yet
from evalsuite.asking.stream import UNREADABLE, Said, Stream
from tune.terminal import one_line

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS, WAIT_SECONDS, TOLD_EVERY = 10.0, 2.0, 30.0
MOST_BYTES = 8 << 20  # of one answer
LONGEST = 160  # characters of a server's words that are shown


class Called(NamedTuple):
    """A tool call as it was put together. `arguments` as text."""

    name: str
    arguments: str


class Heard(NamedTuple):
    """What came back. `status` 0: nothing did. `wrong`: why it is no whole answer, in words; "" for one that is.

    `first_s`: seconds to the first token. `done`: the stream ended with [DONE].
    """

    status: int
    wrong: str
    said: Said | None = None
    calls: tuple[Called, ...] = ()
    headers: Mapping[str, str] = {}
    done: bool = False
    first_s: float = 0.0
    total_s: float = 0.0
    again: bool = False  # the platform said "not yet"
    json: Any = None  # of a plain GET


class Line:
    """To one endpoint, with its key. `answer_seconds`: the most that a whole answer may take.

    `asked_again`: how often it turned a request away with which status, 0 where no answer came. "Not yet" is waited
    for until `patience_seconds` have gone in all; `tell` hears of it. While it is `cold`, silence means the same.
    """

    def __init__(
        self, info: ClientInfo, door: Door, answer_seconds: float, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        import httpx

        self.info, self.door, self.seconds, self.tell = info, door, answer_seconds, tell
        self.asked_again: dict[int, int] = {}
        self.cold, self.waited, self.told = True, 0.0, -TOLD_EVERY
        here = httpx.URL(info.base_url).host in {"127.0.0.1", "::1", "localhost"}  # no proxy leads there
        timeout = httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS)
        self.http: httpx.Client = httpx.Client(timeout=timeout, trust_env=not here)

    def close(self) -> None:
        self.http.close()

    def get(self, path: str) -> Heard:
        """The JSON at a path beside /v1, asked again while it is "not yet"."""
        while True:
            began = time.monotonic()
            heard, data = self._send("GET", f"{self.info.base_url.removesuffix('/v1')}{path}", None, None)
            if not self._wait(heard, began):
                break
        if heard.wrong:
            return heard
        self.cold = False
        if why := _error_in(data, self._shown):
            return heard._replace(wrong=why)
        try:
            return heard._replace(json=json.loads(data))
        except (ValueError, RecursionError):
            return heard._replace(wrong="answers 200 with what is no JSON")

    def ask(
        self, body: Mapping[str, Any], *, stream: bool, headers: Mapping[str, str] | None = None, patient: bool = True
    ) -> Heard:
        """One completion, asked again while it is "not yet". `headers` in place of the door's. Not `patient`: a 4xx
        is an answer, whatever the platform may mean by it."""
        asked = {"model": self.info.model, **body}
        if stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        while True:
            began = time.monotonic()
            heard, data = self._send("POST", f"{self.info.base_url}/chat/completions", asked, headers)
            if not patient and 400 <= heard.status < 500 and heard.status != 429:
                return heard
            if not self._wait(heard, began):
                self.cold &= bool(heard.wrong)
                return heard if heard.wrong or stream else _whole(heard, data, self._shown)

    def _wait(self, heard: Heard, began: float) -> bool:
        """Whether it is to be asked again, after a pause; counted."""
        held, most = time.monotonic() - began + WAIT_SECONDS, self.info.patience_seconds
        if not heard.again or self.waited + held > most:
            return False
        if self.waited - self.told >= TOLD_EVERY:
            self.told = self.waited
            self.tell(f"not yet, after {self.waited:.0f} s of {most}: {heard.wrong}")
        self.waited += held
        self.asked_again[heard.status] = self.asked_again.get(heard.status, 0) + 1
        time.sleep(WAIT_SECONDS)
        return True

    @property
    def _starting(self) -> bool:
        return self.cold and bool(self.info.retry)

    def _shown(self, text: str) -> str:
        return one_line(self.door.hidden(text), LONGEST)

    def _send(self, method: str, url: str, body: Any, headers: Mapping[str, str] | None) -> tuple[Heard, bytes]:
        import httpx

        sent = {"User-Agent": "gptoss-kit", **(self.door.sent() if headers is None else headers)}
        began = time.monotonic()
        try:
            with self.http.stream(method, url, json=body, headers=sent) as response:
                told = {k.lower(): v for k, v in response.headers.items()}
                if response.status_code != 200:
                    data = b"".join(_read(response, began + self.seconds))
                    again = not_yet(response.status_code, told, data, self.info.retry)
                    why = f"HTTP {response.status_code}: {self._shown(data[:2000].decode('utf-8', 'replace'))}"
                    return Heard(response.status_code, why, headers=told, again=again), data
                if body is not None and body.get("stream") and "event-stream" in told.get("content-type", ""):
                    return self._streamed(response, began)._replace(headers=told), b""
                data = b"".join(_read(response, began + self.seconds))
                heard = Heard(200, "", headers=told, total_s=time.monotonic() - began)
                if body is not None and body.get("stream"):
                    why = _error_in(data, self._shown) or "was asked for a stream and answers in one piece"
                    return heard._replace(wrong=why), data
                return heard, data
        except TimeoutError:
            return Heard(0, f"no end of the answer after {self.seconds:g} s"), b""
        except httpx.TimeoutException:
            return Heard(0, f"no answer within {self.seconds:g} s", again=self._starting), b""
        except ValueError as e:
            return Heard(0, str(e)), b""
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as e:
            again = self._starting and "refused" in str(e)
            return Heard(0, f"the connection failed: {self._shown(str(e) or type(e).__name__)}", again=again), b""

    def _streamed(self, response: "httpx.Response", began: float) -> Heard:
        import httpx

        stream, calls, done = Stream(), dict[int, list[str]](), False
        try:
            for text in _lines(_read(response, began + self.seconds)):
                if not text.startswith(b"data:"):
                    continue
                data = text[5:].strip()
                if data == b"[DONE]":
                    done = True
                    break
                if why := _error_in(data, self._shown):
                    return Heard(200, why)
                chunk = json.loads(data)
                stream.add(time.monotonic() - began, chunk)
                _called(calls, chunk, "delta")
            said = stream.said()
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as e:
            return Heard(200, f"the stream was cut off: {self._shown(str(e) or type(e).__name__)}")
        except UNREADABLE as e:
            return Heard(200, f"the stream is not a chat completion: {self._shown(str(e))}")
        wrong = (
            f"the stream {said.unfinished}" if said.unfinished else "" if done else "the stream ended without [DONE]"
        )
        first = said.moments[0] if said.moments else 0.0
        told = tuple(Called(*both) for both in calls.values())
        return Heard(200, wrong, said, told, done=done, first_s=first, total_s=time.monotonic() - began)


def _whole(heard: Heard, data: bytes, shown: Any) -> Heard:
    if why := _error_in(data, shown):
        return heard._replace(wrong=why)
    try:
        body = json.loads(data)
        stream, calls = Stream(), dict[int, list[str]]()
        choices = [{"delta": c["message"], "finish_reason": c["finish_reason"]} for c in body["choices"]]
        stream.add(heard.total_s, {"choices": choices, "usage": body.get("usage")})
        _called(calls, body, "message")
        said = stream.said()
    except UNREADABLE as e:
        return heard._replace(wrong=f"answers 200 with no chat completion: {shown(str(e))}")
    wrong = f"the answer {said.unfinished}" if said.unfinished else ""
    return heard._replace(said=said, calls=tuple(Called(*both) for both in calls.values()), wrong=wrong)


def _error_in(data: bytes, shown: Any) -> str:
    """RunPod's queue answers with 200 and {"error": ...} what the engine refused."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if isinstance(body, dict) and body.get("error"):
        return f"answers 200 with an error inside: {shown(json.dumps(body['error']))}"
    return ""


def _called(calls: dict[int, list[str]], chunk: Any, where: str) -> None:
    """Add the pieces of tool calls that a chunk carries."""
    for choice in chunk.get("choices") or ():
        for n, piece in enumerate((choice.get(where) or {}).get("tool_calls") or ()):
            told, function = calls.setdefault(int(piece.get("index", n)), ["", ""]), piece.get("function") or {}
            told[0] += function.get("name") or ""
            told[1] += function.get("arguments") or ""


def _read(response: "httpx.Response", until: float) -> Iterator[bytes]:
    """The body as it comes. Raises TimeoutError past the moment, ValueError past MOST_BYTES: a trickle may not end."""
    size = 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > MOST_BYTES:
            raise ValueError(f"an answer is over {MOST_BYTES:,} bytes long")
        if time.monotonic() > until:
            raise TimeoutError
        yield piece


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest
