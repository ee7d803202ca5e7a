"""The openai package, 1.x to 3.x: chat, streams, tools, structured output and the Responses API."""

import json

import openai
from pydantic import BaseModel, ConfigDict
from told import ASK, BIAS, MODEL, SCHEMA, THINKING, TOKENS, URL, done, note


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sure: bool


http = openai.DefaultHttpxClient(event_hooks={"response": [note]})
client = openai.OpenAI(base_url=URL, max_retries=0, http_client=http)
chat = {"model": MODEL, "max_tokens": TOKENS, "temperature": 0, "logit_bias": BIAS, "extra_body": THINKING}
said = client.chat.completions.create(**chat, messages=ASK)
done("chat", "medium", said.choices[0].message.role == "assistant", 0 < said.usage.completion_tokens <= TOKENS)
for word, effort in {"low": "low", "high": "high", "minimal": "low", "xhigh": "high"}.items():
    said = client.chat.completions.create(**chat, messages=ASK, reasoning_effort=word)
    done(f"chat {word}", effort, said.choices[0].finish_reason in {"stop", "length"})
pieces = list(client.chat.completions.create(**chat, messages=ASK, stream=True, reasoning_effort="low"))
done("stream", "low", [p.choices[0].finish_reason for p in pieces if p.choices][-1] in {"stop", "length"})
with client.chat.completions.stream(**chat, messages=ASK, stream_options={"include_usage": True}) as stream:
    kinds = {event.type for event in stream}
    done("stream helper", "medium", "chunk" in kinds, stream.get_final_completion().usage.completion_tokens > 0)

said = client.chat.completions.parse(**chat, messages=ASK, response_format=Answer, reasoning_effort="low")
done("structured", "low", isinstance(said.choices[0].message.parsed, Answer))
with client.chat.completions.stream(**chat, messages=ASK, response_format=Answer, reasoning_effort="high") as stream:
    whole = stream.until_done().get_final_completion().choices[0].message
done("structured streamed", "high", isinstance(whole.parsed, Answer))
function = {"name": "vote", "description": "Cast a vote.", "parameters": SCHEMA, "strict": True}
tools = [{"type": "function", "function": function}]
forced = {"type": "function", "function": {"name": "vote"}}
said = client.chat.completions.create(**chat, messages=ASK, tools=tools)
done("tools", "medium", said.choices[0].finish_reason)
said = client.chat.completions.create(**chat, messages=ASK, tools=tools, tool_choice=forced, reasoning_effort="high")
turn = said.choices[0].message
arguments = json.loads(turn.tool_calls[0].function.arguments)
done("forced tool", "high", turn.tool_calls[0].function.name == "vote", Answer.model_validate(arguments))
result = {"role": "tool", "tool_call_id": turn.tool_calls[0].id, "content": "counted"}
history = [*ASK, turn, result]  # the turn as it came, with its `reasoning`
longer = client.chat.completions.create(**chat, messages=history, tools=tools)
done("result back", "medium", longer.usage.prompt_tokens > said.usage.prompt_tokens, turn.model_extra["reasoning"])
pieces = list(client.chat.completions.create(**chat, messages=history, tools=tools, stream=True))
done("result back streamed", "medium", [p.choices[0].finish_reason for p in pieces if p.choices][-1])
with client.chat.completions.stream(**chat, messages=ASK, tools=tools, tool_choice=forced) as stream:
    whole = stream.until_done().get_final_completion().choices[0].message
done("forced tool streamed", "medium", Answer.model_validate(whole.tool_calls[0].function.parsed_arguments))

own = {"model": MODEL, "max_output_tokens": TOKENS, "temperature": 0, "extra_body": {**THINKING, "logit_bias": BIAS}}
answer = client.responses.create(**own, input="Is 7 prime?", instructions="Be short.", reasoning={"effort": "low"})
done("response", "low", answer.reasoning.effort == "low", answer.usage.output_tokens > 0, answer.output)
if hasattr(client.responses, "input_tokens"):
    asked = {"model": MODEL, "input": "Is 7 prime?", "instructions": "Be short.", "reasoning": {"effort": "low"}}
    counted = client.responses.input_tokens.count(**asked)
    done("input counted", "low", counted.input_tokens == answer.usage.input_tokens)
again = [{"role": "user", "content": "Is 7 prime?"}, *answer.output, {"role": "user", "content": "Is 9?"}]
longer = client.responses.create(**own, input=again)
done("output back", "medium", longer.usage.input_tokens > answer.usage.input_tokens)
events = [event.type for event in client.responses.create(**own, input="x", stream=True, reasoning={"effort": "high"})]
ends = {"response.completed", "response.incomplete"}
done("response stream", "high", events[0] == "response.created", events[-1] in ends)
parsed = client.responses.parse(**own, input="Is 7 prime?", text_format=Answer)
done("response structured", "medium", isinstance(parsed.output_parsed, Answer))
with client.responses.stream(**own, input="Is 7 prime?", text_format=Answer, reasoning={"effort": "low"}) as stream:
    parsed = stream.until_done().get_final_response()
done("response structured streamed", "low", isinstance(parsed.output_parsed, Answer))
flat, only = [{"type": "function", **function}], {"type": "function", "name": "vote"}
answer = client.responses.create(**own, input="Is 7 prime?", tools=flat, tool_choice=only)
call = next(item for item in answer.output if item.type == "function_call")
done("response tool", "medium", Answer.model_validate_json(call.arguments))
back = {"type": "function_call_output", "call_id": call.call_id, "output": "counted"}
turns = [{"role": "user", "content": "Is 7 prime?"}, *answer.output, back]
longer = client.responses.create(**own, input=turns)
done("response result back", "medium", longer.usage.input_tokens > answer.usage.input_tokens)
back["output"] = [{"type": "input_text", "text": "counted"}]
again = client.responses.create(**own, input=turns)
done("the same in parts", "medium", again.usage.input_tokens == longer.usage.input_tokens)
with client.responses.stream(**own, input="Is 7 prime?", tools=flat, tool_choice=only) as stream:
    whole = stream.until_done().get_final_response()
done("response tool streamed", "medium", "function_call" in [item.type for item in whole.output])
