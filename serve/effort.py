"""CONTRACT: which reasoning effort a request gets: default, allowed words, cap. Pure.

GPT-OSS knows three efforts; the engine has no default and no cap for them, ignores an effort in
`chat_template_kwargs`, and refuses the client libraries' other four words. Here one policy decides, for both APIs,
and the result is written where the engine reads it. Knows nothing about HTTP.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from tune.harmony import EFFORTS, Effort

Api = Literal["chat", "responses"]

# Words of the OpenAI API that GPT-OSS was not trained on, and the nearest that it was.
NEAREST: dict[str, Effort] = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}


class EffortError(ValueError):
    """A request whose effort cannot be applied. `param` is the field at fault, dotted."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class EffortPolicy(BaseModel):
    """What a server does with efforts.

    `default` is used when a request names none; not given, it is medium, or `maximum` where that is lower. An effort
    outside `allowed` is refused; one above `maximum` is lowered to it. `spelling`: "strict" refuses every word but the
    three; "map" reads none and minimal as low, xhigh and max as high, and refuses the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Effort = "medium"
    allowed: tuple[Effort, ...] = EFFORTS
    maximum: Effort = "high"
    spelling: Literal["strict", "map"] = "strict"

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        if isinstance(given, dict) and "default" not in given and given.get("maximum") in EFFORTS:
            return {**given, "default": min("medium", given["maximum"], key=EFFORTS.index)}
        return given

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.default not in self.allowed or self.maximum not in self.allowed:
            raise ValueError("default and maximum must be among allowed")
        if EFFORTS.index(self.default) > EFFORTS.index(self.maximum):
            raise ValueError(f"default effort {self.default} is above the maximum {self.maximum}")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that a request may name, lowered to the maximum or not."""
        mapped = NEAREST if self.spelling == "map" else {}
        return (*self.allowed, *(word for word, effort in mapped.items() if effort in self.allowed))

    def resolve(self, word: str, param: str = "reasoning_effort") -> Effort:
        """The effort that a word gets. Raises EffortError naming the words that work."""
        if word not in self.words:
            raise EffortError(f"reasoning effort {word[:40]!r} is not one of {', '.join(self.words)}", param)
        effort = NEAREST[word] if word in NEAREST else next(e for e in EFFORTS if e == word)
        return min(effort, self.maximum, key=EFFORTS.index)


def apply(policy: EffortPolicy, api: Api, body: dict[str, Any]) -> tuple[dict[str, Any], Effort | None]:
    """The request body with its effort decided, and that effort; the given body is not changed.

    Looks in `reasoning_effort`, `reasoning.effort` and `chat_template_kwargs.reasoning_effort`; null counts as
    absent. Raises EffortError for an unknown word, for two places that disagree, and for an effort on a stored
    response's next turn, where the engine would keep the first turn's effort and echo the new one. That last
    kind of request without an effort passes as it is, and its effort is None: the first turn's, unknown here.
    """
    body = dict(body)
    found: dict[str, str] = {}
    if (top := body.pop("reasoning_effort", None)) is not None:
        found["reasoning_effort"] = top
    for field, key in (("reasoning", "effort"), ("chat_template_kwargs", "reasoning_effort")):
        inner = body.get(field)
        if inner is None:
            continue
        if not isinstance(inner, dict):
            raise EffortError(f"{field} must be an object", field)
        if inner.get(key) is not None:
            found[f"{field}.{key}"] = inner[key]
        body[field] = {k: v for k, v in inner.items() if k != key}

    for param, word in found.items():
        if not isinstance(word, str):
            raise EffortError(f"{param} must be one of {', '.join(policy.words)}", param)
    efforts = {param: policy.resolve(word, param) for param, word in found.items()}
    if len(set(found.values())) > 1:
        raise EffortError("efforts disagree: " + ", ".join(f"{p} is {found[p]}" for p in found), next(iter(found)))

    if api == "responses" and body.get("previous_response_id") is not None:
        if efforts:
            why = "an effort cannot change within a stored conversation; send the whole input instead"
            raise EffortError(f"{why} of previous_response_id", next(iter(efforts)))
        return body, None
    effort = next(iter(efforts.values()), policy.default)
    if api == "chat":
        body["reasoning_effort"] = effort
    else:
        body["reasoning"] = {**(body.get("reasoning") or {}), "effort": effort}
    return body, effort
