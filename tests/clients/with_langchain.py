"""LangChain's ChatOpenAI: invoke, stream, tools, structured output, history, and over the Responses API."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai import DefaultHttpxClient
from pydantic import BaseModel
from told import BIAS, MODEL, THINKING, TOKENS, URL, done, note


class Vote(BaseModel):
    """Cast a vote."""

    sure: bool


common = {"model": MODEL, "base_url": URL, "temperature": 0, "max_retries": 0}
common["http_client"] = DefaultHttpxClient(event_hooks={"response": [note]})
common |= {"max_tokens": TOKENS}
own = {**THINKING, "logit_bias": BIAS}
chat = ChatOpenAI(**common, extra_body=own)
said = chat.invoke("Is 7 prime?")
done("invoke", "medium", 0 < said.usage_metadata["output_tokens"] <= TOKENS)
for word, effort in {"low": "low", "high": "high", "minimal": "low"}.items():
    said = ChatOpenAI(**common, extra_body=own, reasoning_effort=word).invoke("Is 7 prime?")
    done(f"invoke {word}", effort, said.response_metadata["finish_reason"] in {"stop", "length"})
pieces = list(ChatOpenAI(**common, extra_body=own, reasoning_effort="high").stream("Is 7 prime?"))
done("stream", "high", len(pieces) > 1)
for method in ("json_schema", "function_calling"):
    asked = chat.with_structured_output(Vote, method=method, strict=True).invoke("Is 7 prime?")
    done(f"structured {method}", "medium", isinstance(asked, Vote))
done_auto = chat.bind_tools([Vote]).invoke("Is 7 prime?")
done("tools", "medium", done_auto.response_metadata["finish_reason"])
turn = chat.bind_tools([Vote], tool_choice="Vote", strict=True).invoke("Is 7 prime?")
call = turn.tool_calls[0]
done("forced tool", "medium", call["name"] == "Vote", Vote.model_validate(call["args"]))
history = [HumanMessage("Is 7 prime?"), turn, ToolMessage("counted", tool_call_id=call["id"])]
longer = chat.bind_tools([Vote]).invoke(history)
done("result back", "medium", longer.usage_metadata["input_tokens"] > turn.usage_metadata["input_tokens"])

for effort in ("low", "high"):
    responses = ChatOpenAI(**common, extra_body=own, use_responses_api=True, reasoning={"effort": effort})
    said = responses.invoke("Is 7 prime?")
    done(f"response {effort}", effort, said.response_metadata["status"] in {"completed", "incomplete"})
    done_twice = responses.invoke([HumanMessage("Is 7 prime?"), said, HumanMessage("Is 9?")])
    done(f"response {effort} back", effort, done_twice.usage_metadata["output_tokens"] > 0)
pieces = list(responses.stream("Is 7 prime?"))
done("response stream", "high", len(pieces) > 1)
done("response structured", "high", isinstance(responses.with_structured_output(Vote).invoke("Is 7 prime?"), Vote))
