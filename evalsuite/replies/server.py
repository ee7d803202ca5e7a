"""Who answers: what is known of the server behind one arm, and the id that its answers are filed under.

A name is no identity: anything can be served under any name. A digest is one; failing that, whatever the server shows
of itself together with what it says to a few fixed questions. Knows no HTTP.
"""

import hashlib
import json
import re

from pydantic import BaseModel, ConfigDict, Field

DIGEST = re.compile(r"@([0-9a-f]{16})$")  # ends the id of a model that `serve run` lists


class Server(BaseModel):
    """One arm's server. Two servers with one `id` are taken for the same, and answers of one for answers of the other.

    `url` is part of it: another address may be another machine, or the same weights with other flags, so its answers
    are asked for again even when the digest is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    model: str  # the id that is asked for
    names: tuple[str, ...] = ()  # what its replies may call themselves besides: other ids of the very same model
    header: str = ""  # what it sends as x-model-digest with this model's responses
    root: str = ""  # what the id stands for, as vLLM lists it
    listed: str = ""  # its entry in the list of models, as JSON, without what changes from call to call
    version: str = ""  # what it says at /version, as JSON
    max_model_len: int | None = Field(default=None, exclude_if=lambda n: n is None)  # tokens, as vLLM lists it
    probes: tuple[str, ...] = ()  # digests of its greedy replies; none when it does not repeat itself
    usage: bool = Field(default=True, exclude_if=lambda asked: asked)  # False: it refuses stream_options
    once: str = ""  # a random word when nothing above tells it from another: its answers are never used again

    @property
    def digest(self) -> str:
        """16 hex characters of the weights it says it serves, by header or else by name. "" if it does not."""
        named = DIGEST.search(self.model)
        return self.header[:16] or (named[1] if named else "")

    @property
    def engine(self) -> str:
        """The version of the program that serves, as /version of vLLM names it. "" if it does not."""
        try:
            said = json.loads(self.version)
        except ValueError:
            return ""
        found = said.get("version") if isinstance(said, dict) else None
        return found[:80] if isinstance(found, str) and found.isprintable() else ""

    @property
    def id(self) -> str:
        """16 hex characters over all of it; a header makes probes needless."""
        known = self.model_dump(mode="json", exclude={"max_model_len", *(["probes"] if self.header else [])})  # listed
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def same(base: Server, tuned: Server) -> str:
    """Why the two are one model, or ""."""
    if base.digest and base.digest == tuned.digest:
        return f"both are the checkpoint {base.digest}"
    if base.model == tuned.model and base.url != tuned.url:
        return f"both call themselves {base.model}, and a report tells two models by their names"
    if base.header and tuned.header:  # what an id alone says is no more than a name
        return ""
    if base.url == tuned.url and base.model == tuned.model:
        return f"both are {base.model} at {base.url}"
    if base.url == tuned.url and base.root and base.root == tuned.root:
        return f"both are {base.root} at {base.url}"
    return ""


def told_apart(base: Server, tuned: Server) -> bool:
    """Whether anything but a name shows that the two are not one model. A digest in an id is no more than a name."""
    if base.header and tuned.header:
        return base.header != tuned.header
    return bool(base.probes and tuned.probes) and base.probes != tuned.probes
