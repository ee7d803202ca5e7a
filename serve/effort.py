"""CONTRACT: which reasoning effort a request gets: default, allowed words, cap, budget of reasoning tokens. Pure.

GPT-OSS knows three efforts; the engine has no default and no cap for them, and refuses the client libraries' other
four words. Here one policy decides: for the server, for each of its keys, for the probe that proves it. Knows nothing
about HTTP; where a request names its effort is serve.asked's.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tune.harmony import EFFORTS, Effort

# Words of the OpenAI API that GPT-OSS was not trained on, and the nearest that it was.
NEAREST: dict[str, Effort] = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}

Budgets = dict[Effort, Annotated[int, Field(gt=0)]]


class EffortError(ValueError):
    """A request whose effort cannot be applied. `param` is the field at fault, dotted; `word` what it named, if any."""

    def __init__(self, message: str, param: str, word: str = "") -> None:
        super().__init__(message)
        self.param, self.word = param, word


class EffortPolicy(BaseModel):
    """What a server does with efforts.

    An effort outside `allowed` is refused; one above `maximum` is lowered to it. `default` is used when a request names
    none. Not given, `maximum` is the highest that is allowed, and `default` is medium or what is allowed below it.
    `spelling`: "map" reads none and minimal as low, xhigh and max as high, takes any case, and refuses the rest;
    "strict" refuses every word but the three as they are. `thinking_tokens`: at most so many tokens of reasoning at an
    effort; no entry, no budget.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Effort = "medium"
    allowed: tuple[Effort, ...] = EFFORTS
    maximum: Effort = "high"
    spelling: Literal["strict", "map"] = "map"
    thinking_tokens: Budgets = {}

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        allowed: Any = given.get("allowed", EFFORTS) if isinstance(given, dict) else None
        listed = isinstance(allowed, list | tuple | set)
        if not listed or not all(effort in EFFORTS for effort in allowed):
            return given  # refused for that
        maximum = given.get("maximum", nearest("high", allowed))
        default = nearest(min("medium", maximum, key=EFFORTS.index), allowed) if maximum in EFFORTS else "medium"
        return {"maximum": maximum, "default": default, **given, "allowed": tuple(e for e in EFFORTS if e in allowed)}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for effort in (self.default, self.maximum):
            if effort not in self.allowed:
                raise ValueError(f"default or maximum {effort} is not among those allowed, {', '.join(self.allowed)}")
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
        plain = word.lower()
        if (plain if self.spelling == "map" else word) not in self.words:
            known = (*self.allowed, *(w for w, effort in NEAREST.items() if effort in self.allowed))
            hint = "; a server with spelling map (serve run --spelling map) takes it" if plain in known else ""
            raise EffortError(
                f"reasoning effort {word[:40]!r} is not one of {', '.join(self.words)}{hint}", param, word
            )
        effort = NEAREST[plain] if plain in NEAREST else next(e for e in EFFORTS if e == plain)
        return min(effort, self.maximum, key=EFFORTS.index)

    def answers(self) -> Iterator[tuple[str | None, Effort | None]]:
        """What a client may ask for, and what it gets: no effort, then every known word. None: it is refused."""
        yield None, self.default
        for word in (*EFFORTS, *NEAREST):
            yield word, self.resolve(word) if word in self.words else None

    def narrowed(
        self,
        *,
        default: Effort | None,
        maximum: Effort | None,
        allowed: Sequence[Effort] = (),
        thinking_tokens: Mapping[Effort, int],
    ) -> "EffortPolicy":
        """This policy with less in it, for a key; no `allowed`: its own. Raises ValueError for what would be more."""
        if beyond := [effort for effort in allowed if effort not in self.allowed]:
            raise ValueError(f"allowed_efforts has {beyond[0]}, which the server does not allow")
        allowed = tuple(allowed) or self.allowed
        most = maximum or nearest(self.maximum, allowed)
        if EFFORTS.index(most) > EFFORTS.index(self.maximum):
            raise ValueError(f"max_effort {most} is above the server's, {self.maximum}")
        if default and EFFORTS.index(default) > EFFORTS.index(most):
            raise ValueError(f"default_effort {default} is above the maximum, {most}")
        for name, effort in {"max_effort": most, "default_effort": default or most}.items():
            if effort not in allowed:
                raise ValueError(f"{name} {effort} is none of allowed_efforts, {', '.join(allowed)}")
        for effort, tokens in thinking_tokens.items():
            if tokens > self.thinking_tokens.get(effort, tokens):
                more = f"thinking_tokens {effort} = {tokens} is over the server's, {self.thinking_tokens[effort]}"
                raise ValueError(more)
        return EffortPolicy(
            default=default if default else nearest(min(self.default, most, key=EFFORTS.index), allowed),
            allowed=allowed,
            maximum=most,
            spelling=self.spelling,
            thinking_tokens={**self.thinking_tokens, **thinking_tokens},
        )


def nearest(effort: Effort, allowed: Sequence[Effort]) -> Effort:
    """The highest that is allowed and not above an effort; else the lowest that is."""
    known = sorted(allowed or EFFORTS, key=EFFORTS.index)
    return next((e for e in reversed(known) if EFFORTS.index(e) <= EFFORTS.index(effort)), known[0])
