"""instructor: a model out of a forced tool call, out of JSON that a schema holds, streamed in parts, and in lists."""

import instructor
import openai
from instructor.core import InstructorRetryException
from pydantic import BaseModel
from told import ASK, BIAS, MODEL, THINKING, TOKENS, URL, done, note


class Vote(BaseModel):
    """Cast a vote."""

    sure: bool


http = openai.DefaultHttpxClient(event_hooks={"response": [note]})
plain = openai.OpenAI(base_url=URL, max_retries=0, http_client=http)
own = {"model": MODEL, "max_tokens": TOKENS, "temperature": 0, "logit_bias": BIAS, "messages": ASK}
own |= {"extra_body": THINKING, "response_model": Vote, "max_retries": 0}
client = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)  # which the engine holds
done("schema", "medium", isinstance(client.create(**own), Vote))
for word, effort in {"low": "low", "high": "high", "minimal": "low"}.items():
    vote, raw = client.create_with_completion(**own, reasoning_effort=word)
    done(f"schema {word}", effort, isinstance(vote, Vote), 0 < raw.usage.completion_tokens <= TOKENS)
parts = list(client.create_partial(**own))
done("schema streamed", "medium", parts, Vote.model_validate(parts[-1].model_dump()))

client = instructor.from_openai(plain, mode=instructor.Mode.TOOLS)  # the default: a call is sure, its arguments are not
try:
    raw = client.create_with_completion(**own, reasoning_effort="low")[1]
except InstructorRetryException as wrong:
    raw = wrong.last_completion
done("forced tool", "low", raw.choices[0].message.tool_calls[0].function.name == "Vote")
