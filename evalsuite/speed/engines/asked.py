"""What every tool is asked, and what it says in return: the prompts, the load and the body in, a Sample a request out.

Knows no tool.
"""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.speed.load import Load, bodies
from evalsuite.speed.metrics import Frozen, Sample
from tune.section import EffortName

PROMPTS = "prompts.jsonl"  # in the tool's folder, one object a line
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class Asked(Frozen):
    """One run of a tool: so many requests as there are prompts, offered as `load` says."""

    prompts: tuple[str, ...]
    load: Load
    max_tokens: int
    effort: EffortName
    seed: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """What our own engine sends beside messages and model; the seed is that of its first request."""
        (body,) = bodies(("",), max_tokens=self.max_tokens, effort=self.effort, seed=self.seed)
        return {name: value for name, value in body.items() if name != "messages"}


class Written(BaseModel):
    """A part of what a tool wrote: wrong values are refused, what is not read is let through."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def route(url: str) -> tuple[str, str]:
    """A base URL as server and path: ("http://host:8000", "/v1/chat/completions")."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", f"{parts.path}/chat/completions"


def write_prompts(folder: Path, prompts: tuple[str, ...], name: str) -> Path:
    """The prompts as JSON lines, each {name: prompt}."""
    path = folder / PROMPTS
    path.write_text("".join(json.dumps({name: text}) + "\n" for text in prompts), encoding="utf-8")
    return path


def failed(error: str) -> Sample:
    """A request that gave nothing; of a traceback the last line says what it was."""
    lines = [line for line in error.splitlines() if line.strip()]
    return Sample(start=None, error=lines[-1].strip() if lines else "failed")
