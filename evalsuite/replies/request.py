"""A question as the chat request that is sent, and the digest that tells two requests apart. Knows no endpoint."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.questions import ADVICE, Question
from tune.evaluate import tokens_at
from tune.section import EffortName, Limits


class Sampling(BaseModel):
    """What every request of a run has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: Limits
    temperature: float = Field(ge=0)
    seed: int
    repeats: int = Field(
        default=1, ge=1, exclude_if=lambda count: count == 1
    )  # of every request, each with its own seed


def body(
    question: Question,
    model: str,
    effort: EffortName | None,
    sampling: Sampling,
    usage: bool = True,
    repeat: int = 0,
) -> dict[str, Any]:
    """The chat completion to ask for. Without an effort the server's own default counts. `usage`: count tokens.

    `repeat` counts from 0, and moves the seed on: else the server might say the same again.
    """
    messages = [{"role": "developer", "content": question.developer}] if question.developer else []
    return {
        "model": model,
        "messages": [*messages, {"role": "user", "content": question.prompt}],
        **({"reasoning_effort": effort} if effort else {}),
        "max_completion_tokens": tokens_at(sampling.max_tokens, effort),
        "temperature": sampling.temperature,
        "seed": sampling.seed + repeat,
        "stream": True,
        **({"stream_options": {"include_usage": True}} if usage else {}),
    }


def repeats(question: Question, sampling: Sampling) -> range:
    """The repeats that are asked of a question. One of a free-text answer: it is read, and in no mean."""
    return range(1 if question.split == ADVICE else sampling.repeats)


def digest(request: dict[str, Any]) -> str:
    """16 hex characters over everything that is sent."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
