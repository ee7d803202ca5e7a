"""pydantic-ai, with its models for chat and for the Responses API: runs, streams, tools, output types, history."""

import asyncio

import openai
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from told import BIAS, MODEL, THINKING, TOKENS, URL, anote, done


class Vote(BaseModel):
    """Cast a vote."""

    sure: bool


async def main():
    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [anote]})
    client = openai.AsyncOpenAI(base_url=URL, max_retries=0, http_client=http)
    own = {"max_tokens": TOKENS, "temperature": 0, "extra_body": {**THINKING, "logit_bias": BIAS}}
    for api, kind in (("chat", OpenAIChatModel), ("responses", OpenAIResponsesModel)):
        model = kind(MODEL, provider=OpenAIProvider(openai_client=client))
        for output in (NativeOutput(Vote, strict=True), ToolOutput(Vote, strict=True)):
            name = f"{api} {type(output).__name__}"
            agent = Agent(model, model_settings=own, output_type=output)
            said = await agent.run("Is 7 prime?")
            done(name, "medium", isinstance(said.output, Vote), 0 < said.usage.output_tokens <= TOKENS)
            for word, effort in {"low": "low", "high": "high", "minimal": "low"}.items():
                said = await agent.run("Is 7 prime?", model_settings={"openai_reasoning_effort": word})
                done(f"{name} {word}", effort, isinstance(said.output, Vote))
            longer = await agent.run("Is 9?", message_history=said.all_messages())  # with the thought and the call
            done(f"{name} turns", "medium", longer.usage.input_tokens > said.usage.input_tokens)
            async with agent.run_stream("Is 7 prime?", model_settings={"openai_reasoning_effort": "high"}) as stream:
                parts = [part async for part in stream.stream_output()]
            done(f"{name} stream", "high", isinstance(parts[-1], Vote))


asyncio.run(main())
