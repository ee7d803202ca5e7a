"""The anthropic package, on /v1/messages: messages, streams, thinking, tools and counting."""

import os

import anthropic
from told import ASK, MODEL, SCHEMA, URL, done, note

client = anthropic.Anthropic(
    base_url=URL.removesuffix("/v1"),
    api_key=os.environ["OPENAI_API_KEY"],
    max_retries=0,
    http_client=anthropic.DefaultHttpxClient(event_hooks={"response": [note]}),
)
chat = {"model": MODEL, "max_tokens": 40, "messages": ASK}
said = client.messages.create(**chat)
done("message", "medium", said.role == "assistant", 0 < said.usage.output_tokens <= 40, said.model == MODEL)
for word, effort in {"low": "low", "high": "high", "max": "high"}.items():
    said = client.messages.create(**chat, output_config={"effort": word})
    done(f"message {word}", effort, said.stop_reason in {"end_turn", "max_tokens"})
said = client.messages.create(**chat, thinking={"type": "disabled"})
done("thinking disabled", "low", said.usage.output_tokens > 0)
chat["max_tokens"] = 1200
said = client.messages.create(**chat, thinking={"type": "enabled", "budget_tokens": 1024})
done("thinking with a budget", "medium", said.content)
chat["max_tokens"] = 40
with client.messages.stream(**chat, output_config={"effort": "high"}) as stream:
    kinds = [event.type for event in stream]
    done("stream", "high", kinds[0] == "message_start", kinds[-1] == "message_stop", stream.get_final_message().content)

tools = [{"name": "vote", "description": "Cast a vote.", "input_schema": SCHEMA}]
for choice in ({"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "vote"}):
    said = client.messages.create(**chat, tools=tools, tool_choice=choice)
    done(f"tools {choice['type']}", "medium", {part.type for part in said.content} <= {"thinking", "text", "tool_use"})
call = {"type": "tool_use", "id": "toolu_1", "name": "vote", "input": {"sure": True}}
result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "counted"}
thought = [part for part in said.content if part.type == "thinking"]  # goes back with its signature
turns = [*ASK, {"role": "assistant", "content": [*thought, call]}, {"role": "user", "content": [result]}]
longer = client.messages.create(**{**chat, "messages": turns}, tools=tools)
done("result back", "medium", longer.usage.input_tokens > said.usage.input_tokens)
counted = client.messages.count_tokens(model=MODEL, messages=turns, tools=tools)
done("count", "medium", counted.input_tokens == longer.usage.input_tokens)
