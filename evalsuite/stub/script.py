"""What the stub says: a script, and the reply that follows from it, the prompt, the model id and the effort alone.

In: a Script and one request's messages. Out: a Reply of words. Knows neither HTTP nor time; a token is a word.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.questions import Question
from evalsuite.replies.graders import said
from tune.harmony import EFFORTS, Effort

Kind = Literal[
    "500", "503", "429", "401", "404", "hangup", "empty", "truncated", "garbage", "slow", "wrong_effort",
    "error_in_200", "other_model", "other_digest", "restless"
]  # fmt: skip

Share = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    """Written once, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(Frozen):
    """What goes wrong, with a `share` of the (prompt, effort) pairs, on the first `times` attempts (None: on all)."""

    kind: (
        Kind  # other_model, other_digest: as a router's fall-back names itself; restless: no reply like the one before
    )
    prompt: str = ""  # only prompts that hold this
    share: float = Field(default=1.0, ge=0, le=1)
    times: int | None = Field(default=None, ge=0)
    seconds: float = Field(default=0.05, ge=0)  # slow: added before the first token; 429, 503: Retry-After
    dated: bool = False  # 429, 503: Retry-After as a date, by the clock of the Date beside it


class Model(Frozen):
    """How one model id behaves. Models with the same `seed` get nested sets of questions right."""

    accuracy: Share | dict[str, Share] = 1.0
    seed: str = ""  # default: the model id
    sampled: bool = False  # whether it is right hangs on the request's seed too, as at a temperature over 0
    reasoning_tokens: dict[str, int] = {"low": 4, "medium": 16, "high": 48}
    voice: str = "word"  # what it says, over and over, to a prompt that is in no question set
    root: str = ""  # what it is listed as standing for, as vLLM does
    max_model_len: int | None = None  # tokens, as vLLM lists it; nothing is cut or refused by it
    says: dict[str, str] = {}  # and to one in which this pattern is found, the first that is, this text instead
    answer_tokens: int = 16  # the length of an answer to a prompt that is in no question set
    first_token_s: float = Field(default=0.0, ge=0)
    per_token_s: float = Field(default=0.0, ge=0)
    role_first: bool = True  # False: the chunk that says the role leaves with the first token, as vLLM's does
    rate: float | None = Field(default=None, gt=0)  # requests a second, at most so many at once; more get 429
    faults: tuple[Fault, ...] = ()


class Script(Frozen):
    """Which models the server lists, in order, and what it knows."""

    models: dict[str, Model] = {"stub@0123456789abcdef": Model()}
    questions: Path | None = None  # a question set; prompts found in it are answered, right or wrong
    efforts: tuple[str, ...] = EFFORTS  # others are refused
    default_effort: Effort = "medium"
    digest: str = ""  # sent as x-model-digest with every response, as `serve run` does
    version: str = ""  # what /version says; "": there is no such path
    usage: bool = True  # False: a server that never says how many tokens there were
    stream_options: bool = True  # False: a strict proxy's, which refuses requests that hold them
    replies: int | None = Field(default=None, ge=0)  # to questions of the set; later ones are read and never answered
    api_key: str = ""  # when set, anything else than this bearer token gets 401


class Reply(BaseModel):
    """One scripted completion: words, where the reasoning ends, and how it finished."""

    words: list[str]
    reasoning: int
    prompt_tokens: int
    finish: Literal["stop", "length"]

    @property
    def usage(self) -> dict[str, Any]:
        n, details = len(self.words), {"reasoning_tokens": self.reasoning}
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": n, "total_tokens": self.prompt_tokens + n,
                "completion_tokens_details": details}  # fmt: skip


def chance(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:7], "big") / 2**56


def wrong(question: Question) -> str:
    """A value of the asked-for form that is not the answer."""
    if question.grader == "yesno":
        return "no" if question.answer.lower() == "yes" else "yes"
    if question.grader == "choice" and re.fullmatch("[A-Z]", question.answer):
        return "A" if question.answer != "A" else "B"
    return f"'not {hashlib.sha256(question.answer.encode()).hexdigest()[:8]}'"


def compose(
    model: Model, name: str, effort: str, messages: list[dict[str, Any]], known: Mapping[str, Question],
    seed: int | None = None,
) -> Reply:  # fmt: skip
    """The faultless reply, before any token limit: reasoning of the effort's length, then the answer."""
    prompted = prompt_of(messages)
    question = known.get(prompted)
    scripted = next((text for pattern, text in model.says.items() if re.search(pattern, prompted)), None)
    reasoning = [f"thought{i} " for i in range(model.reasoning_tokens[effort])]
    if scripted is not None:
        answer = re.findall(r"\s*\S+\s?", scripted)
    elif question is None or question.points:
        answer = [f"{model.voice}{i} " for i in range(model.answer_tokens)]
    else:
        accuracy = model.accuracy if isinstance(model.accuracy, float) else model.accuracy[effort]
        drawn = [str(seed)] if model.sampled else []
        right = chance(model.seed or name, question.id, effort, *drawn) < accuracy
        value = question.answer if right else wrong(question)
        end = said(question.grader, value)
        answer = re.findall(r"\s*\S+\s?", f"That is what the documentation says.\n{end}")
    prompt = sum(len(text_of(m).split()) for m in messages)
    return Reply(words=reasoning + answer, reasoning=len(reasoning), prompt_tokens=prompt, finish="stop")


def limit(reply: Reply, tokens: int | None, ignore_eos: bool) -> Reply:
    """Cut at the token limit; with `ignore_eos` also go on until it, as vLLM does."""
    if tokens is None:
        return reply
    words = reply.words + [f"more{i} " for i in range(tokens - len(reply.words))] * ignore_eos
    finish: Literal["stop", "length"] = "length" if len(words) > tokens or ignore_eos else "stop"
    return reply.model_copy(
        update={"words": words[:tokens], "reasoning": min(reply.reasoning, tokens), "finish": finish}
    )


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whether a string or a list of parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def prompt_of(messages: list[dict[str, Any]]) -> str:
    """The last user message: what a question set is looked up by."""
    return next((text_of(m).strip() for m in reversed(messages) if m.get("role") == "user"), "")
