"""A budget of reasoning tokens for every request that the engine gets, by whichever API it came. Knows no HTTP.

The engine ends a thought after `thinking_token_budget` tokens, but only a chat request can say so; a response and a
message cannot. All of them pass the engine client's `generate`, in the task of their request or one started by it: the
door notes the budget there, and here it is written into the sampling parameters.

What is forced is the end of the thought, a lone <|end|>, since that is also how the engine sees that one has ended.
With the whole way to an answer in its place, arguments of a tool call would count as thoughts and be cut. What follows
is the model's choice, but for another thought: that would start the count anew, so the words for it are forbidden.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

TOKENS: ContextVar[int | None] = ContextVar("tokens of reasoning, at most", default=None)

REASONING = {
    "reasoning_start_str": "<|channel|>analysis<|message|>",
    "reasoning_end_str": "<|end|>",
}  # --reasoning-config
AGAIN = "<|end|><|start|>assistant<|channel|>analysis"

Generate = Callable[..., Any]


def hold(engine: Any) -> None:
    """Make an engine client keep to TOKENS, from now on."""
    engine.generate = _within(engine.generate)


def _within(generate: Generate) -> Generate:
    def within(prompt: Any, sampling_params: Any, *rest: Any, **named: Any) -> Any:
        own, tokens = sampling_params.thinking_token_budget, TOKENS.get()
        if tokens is not None and (own is None or own > tokens):
            sampling_params.thinking_token_budget = own = tokens
        if own is not None:
            sampling_params.bad_words = [*(sampling_params.bad_words or []), AGAIN]
        return generate(prompt, sampling_params, *rest, **named)

    return within
