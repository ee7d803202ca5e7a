"""What the sections of recipe.toml are made of: their base class, and the values that several of them take."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from tune.harmony import Effort


def once(given: list[str]) -> list[str]:
    """What is named twice would be counted twice, and done once or twice."""
    if twice := [name for n, name in enumerate(given) if name in given[:n]]:
        raise ValueError(f"{twice[0]} is named more than once: leave one out")
    return given


Positive = Annotated[int, Field(gt=0)]
Efforts = Annotated[list[Effort], Field(min_length=1), AfterValidator(once)]
EffortName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]  # of any endpoint: GPT-OSS has three
EffortNames = Annotated[list[EffortName], Field(min_length=1), AfterValidator(once)]
KINDS = ("number", "table")  # of Limits: no part of a key's name
Limits = Annotated[  # tokens of a reply, thinking and answer: one number, or a table by effort
    Annotated[Positive, Tag(KINDS[0])] | Annotated[dict[EffortName, Positive], Field(min_length=1), Tag(KINDS[1])],
    Discriminator(lambda given: KINDS[isinstance(given, dict)]),
]
Share = Annotated[float, Field(gt=0, lt=1)]
Margin = Annotated[float, Field(ge=1e-4, lt=1)]  # finer ones no number of questions shows
EnvName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def named(given: Any) -> Any:
    """An empty path would be the folder itself, and no file system takes a NUL."""
    if isinstance(given, str) and (not given.strip() or "\0" in given):
        raise ValueError("a path holds no NUL character" if given.strip() else "an empty path names nothing")
    return given


Place = Annotated[Path, BeforeValidator(named)]
Open = Literal[
    "open-parameter", "open-default", "open-keyword", "open-section", "open-doctest", "open-value", "open-silent"
]  # the passage stands in the prompt


class Section(BaseModel):
    """A section of recipe.toml: unknown keys are refused, and TOML's inf and nan; values never change after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
