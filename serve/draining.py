"""The requests under way, and how they end at a stop: finished within the time they get, or told that they were cut.

The engine's own drain answers new requests with 200 and no tokens, and takes its whole time even when idle.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serve.asgi import Message, Send, answer
from serve.doors import Refused

TELLING = 1.5  # seconds that clients get to be told, once the drain is over
QUIET = 11.0  # seconds: a head may take 10
# How long the engine keeps a connection on which nothing is asked: longer than clients do (httpx and openai 5 s, load
# balancers 60), since who closes first may meet a request that is on its way.
KEEP_ALIVE, KEPT = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "75"
LATER = [(b"retry-after", b"5"), (b"connection", b"close")]


def lingers() -> float:
    """Seconds that a door which is left waits for a client that is connected and asks nothing."""
    return max(QUIET, float(os.environ.get(KEEP_ALIVE) or KEPT) + 1)


class UnderWay:
    """What is being answered. Its end is one for good: `stop` may only be hurried by another."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.cutting = False
        self.ending: asyncio.Task[None] | None = None
        self.leaving: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def held(self, path: str, told: "Told", *, cut: Send) -> AsyncIterator[None]:
        """While it is read and answered a request is under way. When the server stops before the answer is whole, its
        client is told, by `cut`."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self.cutting:
                raise
            task.uncancel()
            await _cut_short(cut, told, path)
        finally:
            self.tasks.discard(task)

    def stop(self, drain: float) -> None:
        """End the process within `drain` seconds and a moment, by the SIGINT that the engine stops at."""
        if self.ending is None or drain == 0:
            self.ending = asyncio.get_running_loop().create_task(self._end(drain))

    def leave(self, connections: Callable[[], int]) -> None:
        """End the process when nothing was asked for QUIET: clients may be shaking hands, or send a head slowly."""
        self.leaving = self.leaving or asyncio.get_running_loop().create_task(self._leave(connections))

    async def _leave(self, connections: Callable[[], int]) -> None:
        clock = asyncio.get_running_loop().time
        began = busy = clock()
        kept = lingers()
        while clock() < began + QUIET or (connections() and clock() < busy + kept):
            await asyncio.sleep(0.05)
            busy = clock() if self.tasks else busy
        self.stop(0)

    async def _end(self, drain: float) -> None:
        await self._empty(drain)
        self.cutting = True
        for task in self.tasks:
            task.cancel()
        await self._empty(TELLING)
        os.kill(os.getpid(), signal.SIGINT)

    async def _empty(self, seconds: float) -> None:
        """Wait until nothing is under way, for some seconds at most."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while self.tasks and clock() < deadline:
            await asyncio.sleep(0.05)


class Told:
    """How far an answer has come: not begun, a stream under way, or whole."""

    def __init__(self) -> None:
        self.begun = self.events = self.whole = False

    def note(self, message: Message) -> None:
        """Look at one message on its way to the client."""
        if message["type"] == "http.response.start":
            self.begun = True
            self.events = any(n.lower() == b"content-type" and b"event-stream" in v for n, v in message["headers"])
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)


async def _cut_short(send: Send, told: Told, path: str) -> None:
    """Tell a client that its answer ends here: an error event at the end of a stream, 503 where none has begun.

    Half a body of another kind can hold no word: it is left as it is, and the server closes the connection.
    """
    cut = Refused(503, "shutting_down", "the server is shutting down before this answer is whole", headers=LATER)
    if not told.begun:
        await answer(send, cut.status, cut.body(path), cut.headers)
    elif told.events and not told.whole:
        await send({"type": "http.response.body", "body": cut.event(path)})
