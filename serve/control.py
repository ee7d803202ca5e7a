"""How `serve reload` and `serve adapters` reach a running server: a Unix socket of the user, a line in, lines out.

A line out is {"said": "..."} as things go on, then {"done": {...}} or {"error": {what, why, fix}}. The socket lies in a
folder that nobody else may enter, and is named by the port. Knows nothing of engines.
"""

import json
import os
import queue
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tune.errors import UserError, reason
from tune.terminal import one_line

LONGEST = 65_536  # bytes of a line
SCARCE = 0.2  # seconds until accepting is tried again
PATIENT = 5.0  # seconds for the line to arrive


Action = Literal["reload", "add", "remove", "list"]


class Asked(BaseModel):
    """The line in. `reload` serves the folder instead; the others are of adapters beside what is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    folder: Path = Path()
    name: str = ""


class Request:
    """What somebody wants served, and how he is told what becomes of it. Told once how it ended."""

    def __init__(self, client: socket.socket, asked: Asked) -> None:
        self.action, self.folder, self.name = asked.action, asked.folder, asked.name
        self._client = client

    def say(self, words: str) -> None:
        """Tell how it goes."""
        self._send({"said": words})

    def done(self, facts: dict[str, Any]) -> None:
        """It is served."""
        self._end({"done": facts})

    def failed(self, error: UserError) -> None:
        """It is not, and what was served before still is."""
        self._end({"error": {"what": error.what, "why": error.why, "fix": error.fix}})

    def _end(self, told: dict[str, Any]) -> None:
        self._send(told)
        self._client.close()

    def _send(self, told: dict[str, Any]) -> None:
        with suppress(OSError):  # who asked has left: what he asked for goes on
            self._client.sendall(json.dumps(told).encode() + b"\n")


class Control:
    """The server's end. `next` gives what was asked for since, one at a time; `why` says why it cannot be reached."""

    def __init__(self, port: int) -> None:
        self.why = ""
        self._asked = queue.SimpleQueue[Request]()
        self._path = where(port)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _own(self._path.parent)
            if _answers(self._path):  # the same port at another address
                raise OSError("another server of yours at this port number takes reloads there")
            self._path.unlink(missing_ok=True)  # of a server that was killed
            self._socket.bind(str(self._path))
            self._socket.listen(8)
        except OSError as e:
            self.why = f"{self._path}: {reason(e)}"
            return
        self._closing = False
        threading.Thread(target=self._listen, name="control", daemon=True).start()

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        if not self.why:
            self._closing = True
            self._path.unlink(missing_ok=True)
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()
        while request := self.next():
            request.failed(UserError("the server is stopping", fix="serve run FOLDER"))

    def next(self) -> Request | None:
        """What was asked for, if anything."""
        try:
            return self._asked.get_nowait()
        except queue.Empty:
            return None

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                if self._closing:
                    return
                time.sleep(SCARCE)  # no descriptor was left
                continue
            try:
                client.settimeout(PATIENT)
                request = Request(client, Asked.model_validate_json(_line(client)))
                request.say("asked for; it is taken up when the server is ready")
                self._asked.put(request)
            except (OSError, ValueError, RecursionError):
                client.close()


def ask(
    port: int, folder: Path, say: Callable[[str], None], *, action: Action = "reload", name: str = ""
) -> dict[str, Any]:
    """Have the server at `port` of this machine serve another folder, or do what else `action` says, and wait. Raises
    UserError when it does not."""
    path = next((each for each in _places(port) if _answers(each)), where(port))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.connect(str(path))
            asked = Asked(action=action, folder=folder.absolute(), name=name)
            server.sendall(asked.model_dump_json().encode() + b"\n")
        except OSError as e:
            why = f"{path}: {e.strerror or reason(e)}"
            what = f"no server of yours at port {port} can be reached"
            fix = "serve run FOLDER, --port, or XDG_RUNTIME_DIR as that server has it"
            raise UserError(what, why=why, fix=fix) from None
        for line in _lines(server):
            told = json.loads(line)
            if "done" in told:
                done: dict[str, Any] = told["done"]
                return done
            if "error" in told:
                raise UserError(**told["error"])
            say(one_line(told["said"], LONGEST))
    raise UserError("the server went before it was done", fix="read its log")


def where(port: int) -> Path:
    """The socket of the server at a port of this machine, if this user runs it."""
    return _places(port)[0]


def _places(port: int) -> list[Path]:
    """Where a server may have put it: one that the system started has no runtime folder, which its user's shell has."""
    bases = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), f"/run/user/{os.getuid()}"]
    return [Path(base) / f"gptoss-kit-{os.getuid()}" / f"serve-{port}.sock" for base in bases if base]


def _answers(path: Path) -> bool:
    """Whether a server of this user listens there."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        if path.parent.lstat().st_uid == os.getuid():
            client.connect(str(path))
            return True
    return False


def _own(folder: Path) -> None:
    """Make the folder. Raises PermissionError when others may write there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")


def _line(client: socket.socket) -> bytes:
    return next(_lines(client), b"")


def _lines(peer: socket.socket) -> Iterator[bytes]:
    kept = b""
    while b"\n" in kept or (len(kept) <= LONGEST and (more := peer.recv(LONGEST))):
        if b"\n" not in kept:
            kept += more
            continue
        line, _, kept = kept.partition(b"\n")
        yield line
