"""An agent with a tool on `serve run`, by the openai-agents package: python agent.py URL MODEL.

The key comes from OPENAI_API_KEY, or is "none" for a server without one.
"""

import builtins
import inspect
import os
import sys

import openai
from agents import Agent, ModelSettings, OpenAIProvider, RunConfig, Runner, function_tool, set_tracing_disabled
from openai.types.shared import Reasoning

url, model = sys.argv[1:3]
set_tracing_disabled(True)  # else each run is sent to OpenAI


@function_tool
def signature(name: str) -> str:
    """The signature of a function that Python has built in, such as sorted."""
    return str(inspect.signature(getattr(builtins, name)))


client = openai.AsyncOpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
settings = ModelSettings(reasoning=Reasoning(effort="low"), max_tokens=256)
clerk = Agent("clerk", instructions="Answer in one sentence.", tools=[signature], model=model, model_settings=settings)
run = Runner.run_sync(
    clerk, "What does sorted take?", run_config=RunConfig(model_provider=OpenAIProvider(openai_client=client))
)
for item in run.new_items:
    print(item.type)  # reasoning_item, tool_call_item, tool_call_output_item, message_output_item
print(run.final_output)
