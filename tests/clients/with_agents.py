"""openai-agents, over the Responses API (its default) and over chat: runs, streams, a tool's round, output types."""

import asyncio

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    Runner,
    ToolOutputText,
    function_tool,
    set_tracing_disabled,
)
from openai.types.shared import Reasoning
from pydantic import BaseModel
from told import BIAS, MODEL, THINKING, TOKENS, URL, anote, done


class Vote(BaseModel):
    sure: bool


called = []


@function_tool
def vote(sure: bool) -> str:
    """Cast a vote."""
    called.append(sure)
    return "counted"


@function_tool
def tally(sure: bool) -> ToolOutputText:
    """Count the votes."""
    called.append(sure)
    return ToolOutputText(text="one vote")  # goes back as a list of parts, as results of MCP servers do


def agent(effort=None, output=None, tools=(), choice=None):
    own = {"max_tokens": TOKENS, "temperature": 0, "extra_body": {**THINKING, "logit_bias": BIAS}}
    thinking = Reasoning(effort=effort) if effort else None
    settings = ModelSettings(**own, tool_choice=choice, reasoning=thinking)
    known = {"model": MODEL, "model_settings": settings, "output_type": output, "tools": list(tools)}
    return Agent("clerk", instructions="Answer in short.", **known)


async def main():
    set_tracing_disabled(True)
    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [anote]})
    client = openai.AsyncOpenAI(base_url=URL, max_retries=0, http_client=http)
    for api in ("responses", "chat"):
        provider = OpenAIProvider(openai_client=client, use_responses=api == "responses")
        config = RunConfig(model_provider=provider)
        said = await Runner.run(agent(), "Is 7 prime?", run_config=config)
        done(f"{api}", "medium", said.raw_responses[0].usage.output_tokens <= TOKENS)
        for word, effort in {"low": "low", "high": "high", "none": "low", "xhigh": "high"}.items():
            said = await Runner.run(agent(word), "Is 7 prime?", run_config=config)
            done(f"{api} {word}", effort, said.raw_responses[0].usage.output_tokens > 0)
        turns = [*said.to_input_list(), {"role": "user", "content": "Is 9?"}]  # with the reasoning
        longer = await Runner.run(agent("low"), turns, run_config=config)
        grown = longer.raw_responses[0].usage.input_tokens > said.raw_responses[0].usage.input_tokens
        done(f"{api} turns", "low", grown)
        streamed = Runner.run_streamed(agent("high"), "Is 7 prime?", run_config=config)
        kinds = [event.type async for event in streamed.stream_events()]
        done(f"{api} streamed", "high", "raw_response_event" in kinds)
        said = await Runner.run(agent("low", output=Vote), "Is 7 prime?", run_config=config)
        done(f"{api} structured", "low", isinstance(said.final_output, Vote))
        for tool in (vote, tally):
            called.clear()
            said = await Runner.run(agent("low", tools=[tool], choice=tool.name), "Is 7 prime?", run_config=config)
            done(f"{api} tool {tool.name}", "low", called in ([True], [False]), len(said.raw_responses) == 2)
            called.clear()
            clerk = agent("high", tools=[tool], choice=tool.name)
            streamed = Runner.run_streamed(clerk, "Is 7 prime?", run_config=config)
            kinds = [event.type async for event in streamed.stream_events()]
            done(
                f"{api} tool {tool.name} streamed",
                "high",
                called in ([True], [False]),
                len(streamed.raw_responses) == 2,
            )


asyncio.run(main())
