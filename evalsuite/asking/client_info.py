"""CONTRACT: how an OpenAI client reaches a deployed endpoint: address, model, where its key and headers come from.

Holds names of environment variables, never values. `deploy client` writes one, `evalsuite compare` and `deploy smoke`
read it. Asks nothing.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evalsuite.asking.access import HEADER, Door, door
from evalsuite.asking.endpoint import Address, Endpoint
from tune.errors import UserError, unusable
from tune.section import EnvName

MOST_BYTES = 1 << 16


class ClientInfo(BaseModel):
    """`base_url` ends in /v1. The key is what the variable `key_env` holds, or, with `signed` "sagemaker", a bearer
    token of at most 12 hours that is made from AWS credentials and made anew before it ends; `region` is its region.
    `headers`: name of a header: the variable that holds its value.

    `retry`: statuses that mean "not yet" there (a cold start, no worker), which are asked again within
    `patience_seconds`. `stream`: an answer that is not streamed is cut off there, so all are. `lists`: whether
    /v1/models is routed. `answer_seconds`: after so long the platform ends an answer, streamed or not; 0: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    base_url: Address
    model: str
    key_env: EnvName | Literal[""] = ""
    signed: Literal["", "sagemaker"] = ""
    region: str = Field(default="", pattern=r"^[a-z0-9-]{0,40}$")
    headers: dict[Annotated[str, Field(pattern=HEADER)], EnvName] = {}
    retry: tuple[int, ...] = (429, 502, 503)
    patience_seconds: int = Field(default=600, ge=0)
    stream: bool = False
    lists: bool = True
    answer_seconds: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.signed and (self.key_env or not self.region):
            raise ValueError("a signed token needs its region, and no key_env")
        if not (self.lists or self.model):
            raise ValueError("where /v1/models is not routed, model has to name the one that is asked")
        return self

    @property
    def endpoint(self) -> Endpoint:
        """The same, as an arm that is asked: evalsuite streams every answer anyway."""
        told = self.model_dump(exclude={"schema_version", "base_url", "stream"})
        return Endpoint(url=self.base_url, **told)

    def door(self) -> Door:
        """Its key and headers, in values. Raises UserError as `access.door`."""
        return door(self.key_env, self.signed, self.region, self.headers)


def read(path: Path) -> ClientInfo:
    """What `deploy client --json` wrote. Raises UserError; a value of the file is not shown, should it be a key."""
    fix = f"deploy client FOLDER --json > {path}"
    try:
        data = path.read_bytes()
    except OSError as e:
        raise unusable(e) from None
    try:
        if len(data) > MOST_BYTES:
            raise UserError(f"{path} is no client file", why=f"it is over {MOST_BYTES:,} bytes long", fix=fix)
        return ClientInfo.model_validate_json(data)
    except ValidationError as e:
        first = e.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        why = f"{where + ': ' if where else ''}{first['msg']}"
        raise UserError(f"{path} is no client file", why=why[:300], fix=fix) from None
