"""CONTRACT: keys.toml, the API keys of a server: who may come in, and with how much less than the server's policy.

    [[key]]
    name = "batch"
    sha256 = "..."                # of the key, which stands nowhere
    default_effort = "low"        # these six may be left out
    max_effort = "medium"         # higher ones are lowered to it
    allowed_efforts = ["low", "medium"]  # others are refused
    thinking_tokens = { low = 256 }
    requests_per_minute = 60      # over it, and over what may be under way at once, 429
    max_concurrent = 4

Read again when it changes. A new file counts whole or not at all: one that cannot be read leaves the old keys valid,
and where there are none, as after a restart, lets nobody in until it can.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serve.effort import Budgets, EffortPolicy
from tune.errors import UserError
from tune.harmony import EFFORTS, Effort

LOG = logging.getLogger(__name__)
SETTLED = 1.0  # seconds that a file has not been written to before it is read: an editor may be half through
LARGEST = 2**20  # bytes of such a file
NOTHING = hashlib.sha256(b"").hexdigest()  # what a request without a key would show
OWN = "env"  # the server's own key, in metrics and the log
REMAKE = "serve keys new NAME prints the lines of a key"

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Key(BaseModel):
    """One key, known by its digest. What is not set is the server's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=f"^{NAME}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    default_effort: Effort | None = None
    max_effort: Effort | None = None
    allowed_efforts: tuple[Effort, ...] = ()
    thinking_tokens: Budgets = {}
    requests_per_minute: int = Field(default=0, ge=0)  # 0: as many as come
    max_concurrent: int = Field(default=0, ge=0)  # under way at once; 0: as many as the server takes

    @field_validator("name")
    @classmethod
    def _not_the_server_s(cls, name: str) -> str:
        if name == OWN:
            raise ValueError(f"{OWN} is what metrics and the log call the key of --api-key-env")
        return name


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: list[Key] = Field(min_length=1)


class Held(NamedTuple):
    """A key as the door needs it. The server's own, and whoever needs none, has no name and no limits."""

    name: str
    digest: bytes
    policy: EffortPolicy
    requests_per_minute: int = 0
    max_concurrent: int = 0


class Keys:
    """The keys of a file, as it is now."""

    def __init__(self, path: Path, policy: EffortPolicy, clock: Callable[[], float] = time.time) -> None:
        self._path, self._policy, self._clock = path, policy, clock
        self._seen: tuple[int, ...] | None = None
        self._held: tuple[Held, ...] = ()
        self._look()

    def find(self, token: bytes) -> Held | None:
        """Whose key this is. Takes as long for every token."""
        self._look()
        digest, found = hashlib.sha256(token).digest(), None
        for held in self._held:
            if hmac.compare_digest(digest, held.digest):
                found = held
        return found

    def _look(self) -> None:
        """Take the file's keys anew if it changed and nobody is writing it."""
        stamp = stamp_of(self._path)
        first = self._seen is None
        fresh = bool(stamp) and abs(self._clock() - stamp[0] / 1e9) < SETTLED
        if stamp == self._seen or (fresh and not first):
            return
        try:
            held = read(self._path, self._policy)
        except UserError as e:
            left = "the keys read before stay valid" if self._held else "none of its keys is let in"
            LOG.warning("%s (%s): %s", e.what, e.why, left)
        else:
            if stamp != stamp_of(self._path):
                return  # written meanwhile
            self._held = held
            if not first:
                LOG.warning("%s was read again: %d keys", self._path, len(held))
        self._seen = stamp


def read(path: Path, policy: EffortPolicy) -> tuple[Held, ...]:
    """The keys in a file, each with its policy. Raises UserError, which shows nothing of what stands in the file."""
    what = f"{path} holds no keys that can be used"
    try:
        with path.open("rb") as f:
            text = f.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UserError(what, why=f"it is over {LARGEST} bytes", fix=REMAKE)
        keys = _File.model_validate(tomllib.loads(text.decode())).key
    except OSError as e:
        raise UserError(f"{path} cannot be read", why=e.strerror or type(e).__name__, fix=REMAKE) from None
    except ValidationError as e:
        first = e.errors(include_input=False, include_url=False)[0]
        ours = {*Key.model_fields, *_File.model_fields, *EFFORTS}  # another word could be a key in the wrong place
        where = (str(part + 1) if isinstance(part, int) else part if part in ours else "?" for part in first["loc"])
        raise UserError(what, why=f"{'.'.join(where)}: {first['msg']}", fix=REMAKE) from None
    except ValueError as e:  # no TOML, or no text
        why = str(e) if isinstance(e, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise UserError(what, why=why, fix=REMAKE) from None
    for field in ("name", "sha256"):
        if len({getattr(key, field) for key in keys}) < len(keys):
            raise UserError(what, why=f"two keys have the same {field}", fix="each key once, under its own name")
    if any(key.sha256 == NOTHING for key in keys):
        raise UserError(what, why="one is the digest of nothing: it would let in whoever shows no key", fix=REMAKE)
    held = []
    for key in keys:
        try:
            own = policy.narrowed(
                default=key.default_effort,
                maximum=key.max_effort,
                allowed=key.allowed_efforts,
                thinking_tokens=key.thinking_tokens,
            )
        except ValueError as e:
            raise UserError(what, why=f"{key.name}: {e}", fix="a key may have less than [serve], never more") from None
        held.append(Held(key.name, bytes.fromhex(key.sha256), own, key.requests_per_minute, key.max_concurrent))
    return tuple(held)


def new(name: str) -> tuple[str, str]:
    """A fresh key, and the lines of keys.toml that let it in. Raises UserError for what is no name."""
    if not re.fullmatch(NAME, name) or name == OWN:
        why = f"letters, digits, dot, dash and underscore, but not {OWN}, as the key of --api-key-env is called"
        raise UserError(f"{name[:80]!r} is no name for a key", why=why, fix="serve keys new NAME")
    key = f"sk-{secrets.token_urlsafe(32)}"
    return key, f'[[key]]\nname = "{name}"\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'


def stamp_of(path: Path) -> tuple[int, ...]:
    """What changes when a file does; () for none."""
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_mtime_ns, told.st_ctime_ns, told.st_size, told.st_ino
