"""What is done at a platform, as data: a command of its own tool, an HTTP request, or a call of its SDK. Does nothing.

A target's flow is a generator. It yields a Step and is sent what the step gave: of a Command its standard output
(`out`), of a Request the JSON of the answer, of a Call what the SDK returned, each as a mapping. What it returns is
what people are told at the end, a line each. So one flow serves a dry run, a push, and a push that is taken up again.
"""

import shlex
from collections.abc import Generator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tune.section import EnvName

LOOKS_APART = 5  # seconds between two looks of a flow at the same thing, for which it waits


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Command(Part):
    """A program of the platform's, by name from PATH. `needs`: variables that it reads, which must be set.

    `folder`: where it runs, the rendered folder if empty. `lists`: it shows what is there, and its failure is an answer
    (`code`), not an error. `shows`: its output goes to the screen as it comes, and is not kept.
    """

    kind: Literal["command"] = "command"
    argv: tuple[str, ...]
    needs: tuple[EnvName, ...] = ()
    folder: str = ""
    lists: bool = False
    shows: bool = False

    def __str__(self) -> str:
        return shlex.join(self.argv)


class Request(Part):
    """An HTTPS request with the key in the environment variable `key_env` as its bearer token.

    `missing`: 404 is an answer ({}), not an error: what is to be removed has gone already.
    """

    kind: Literal["request"] = "request"
    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    url: str = Field(pattern=r"^https://[!-~]+$")
    body: Any = None
    key_env: EnvName
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


class Call(Part):
    """A method of a client of an SDK: `sdk` boto3 with its `service` and `region`, or huggingface_hub.

    `missing`: that it is not there is an answer ({}), not an error.
    """

    kind: Literal["call"] = "call"
    sdk: Literal["boto3", "huggingface_hub"]
    service: str = ""
    region: str = ""
    method: str
    arguments: dict[str, Any] = {}
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.sdk} {self.service}{'.' if self.service else ''}{self.method}"


Action = Annotated[Command | Request | Call, Field(discriminator="kind")]


class Step(Part):
    """One action of a flow. `id` is stable, so that a push that is taken up again knows what it has done.

    `makes`: what is there afterwards and was not before, in words; `remove`: the command that removes it, for people,
    in which {name} stands for a part of what the action gave. `ends`: the id of a step whose thing is gone after it.
    `again`: done anew at each push, as a look is.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    what: str
    action: Action
    makes: str = ""
    remove: str = ""
    ends: str = ""
    again: bool = False


Result = Mapping[str, Any]
Flow = Generator[Step, Result, tuple[str, ...]]
