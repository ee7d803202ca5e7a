"""CONTRACT: how an OpenAI client reaches a deployed endpoint: address, model, where its key and headers come from.

Holds names of environment variables, never values. `deploy client` writes one, `evalsuite compare` and `deploy smoke`
read it. Asks nothing.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.asking.endpoint import Address
from tune.section import EnvName


class ClientInfo(BaseModel):
    """`base_url` ends in /v1. The key is what the variable `key_env` holds, or, with `signed` "sagemaker", a bearer
    token of at most 12 hours that is made from AWS credentials and made anew before it ends; `region` is its region.
    `headers`: name of a header: the variable that holds its value.

    `retry`: statuses that mean "not yet" there (a cold start, no worker), which are asked again within
    `patience_seconds`. `stream`: an answer that is not streamed is cut off there, so all are. `lists`: whether
    /v1/models is routed. `answer_seconds`: after so long the platform ends an answer, streamed or not; 0: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    base_url: Address
    model: str
    key_env: EnvName | Literal[""] = ""
    signed: Literal["", "sagemaker"] = ""
    region: str = ""
    headers: dict[str, EnvName] = {}
    retry: tuple[int, ...] = (429, 502, 503)
    patience_seconds: int = Field(default=600, ge=0)
    stream: bool = False
    lists: bool = True
    answer_seconds: int = Field(default=0, ge=0)
