"""LiteLLM, through its providers hosted_vllm/ and openai/: completion, stream, tools, structured output, responses."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # prices are of no interest here
import litellm
from pydantic import BaseModel
from told import ASK, BIAS, MODEL, SCHEMA, THINKING, TOKENS, URL, done, efforts


class Vote(BaseModel):
    sure: bool


def heard(answer):
    """LiteLLM keeps the headers of an answer, of a stream too."""
    efforts.append(answer._hidden_params["additional_headers"]["llm_provider-x-reasoning-effort"])
    return answer


common = {"api_base": URL, "api_key": os.environ["OPENAI_API_KEY"], "max_retries": 0}
own = {"temperature": 0, "extra_body": {**THINKING, "logit_bias": BIAS}}
tools = [{"type": "function", "function": {"name": "vote", "parameters": SCHEMA, "strict": True}}]
forced = {"type": "function", "function": {"name": "vote"}}
for provider in ("hosted_vllm", "openai"):
    chat = {**common, **own, "model": f"{provider}/{MODEL}", "max_tokens": TOKENS, "messages": ASK}
    said = heard(litellm.completion(**chat))
    done(f"{provider}", "medium", 0 < said.usage.completion_tokens <= TOKENS)
    for word, effort in {"low": "low", "high": "high", "minimal": "low"}.items():
        said = heard(litellm.completion(**chat, reasoning_effort=word))
        done(f"{provider} {word}", effort, said.choices[0].finish_reason in {"stop", "length"})
    stream = heard(litellm.completion(**chat, reasoning_effort="high", stream=True))
    pieces = list(stream)
    done(f"{provider} stream", "high", len(pieces) > 1, pieces[-1].choices[0].finish_reason in {"stop", "length"})
    said = heard(litellm.completion(**chat, response_format=Vote))
    done(f"{provider} structured", "medium", Vote.model_validate_json(said.choices[0].message.content))
    said = heard(litellm.completion(**chat, tools=tools))
    done(f"{provider} tools", "medium", said.choices[0].finish_reason)
    said = heard(litellm.completion(**chat, tools=tools, tool_choice=forced))
    turn = said.choices[0].message
    call = turn.tool_calls[0].function  # hosted_vllm takes `strict` off, and with it what holds the arguments
    held = provider == "hosted_vllm" or Vote.model_validate_json(call.arguments)
    done(f"{provider} forced tool", "medium", call.name == "vote", turn.reasoning_content, held)
    result = {"role": "tool", "tool_call_id": turn.tool_calls[0].id, "content": "counted"}
    longer = heard(litellm.completion(**{**chat, "messages": [*ASK, turn, result]}, tools=tools))
    done(f"{provider} result back", "medium", longer.usage.prompt_tokens > said.usage.prompt_tokens)
    for effort in ("low", "high"):
        asked = {"model": f"{provider}/{MODEL}", "input": "Is 7 prime?", "max_output_tokens": TOKENS}
        said = heard(litellm.responses(**common, **asked, reasoning={"effort": effort}))
        done(f"{provider} responses {effort}", effort, said.usage.output_tokens > 0)
