"""Everything a client does with `serve run`, through the openai package alone: python client.py URL [MODEL].

The key comes from OPENAI_API_KEY, or is "none" for a server without one.
"""

import os
import sys

import openai

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
client = openai.OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
model = sys.argv[2] if len(sys.argv) > 2 else client.models.list().data[0].id
question = "What does Python's len return?"

for effort in ("low", "medium", "high"):
    # Chat: thinking comes in `reasoning`, which the openai package has no field for; the answer in `content`.
    chat = client.chat.completions.create(
        model=model, reasoning_effort=effort, max_tokens=64, messages=[{"role": "user", "content": question}]
    )
    said = chat.choices[0].message
    thinking = getattr(said, "reasoning", None) or ""
    print(f"chat {effort}: {len(thinking)} characters of thinking, {said.content!r} ({chat.choices[0].finish_reason})")

    # Responses: thinking and answer are items of `output`.
    response = client.responses.create(model=model, reasoning={"effort": effort}, max_output_tokens=64, input=question)
    kinds = ", ".join(item.type for item in response.output)
    print(f"responses {effort}: {kinds or 'nothing'} ({response.status}) {response.output_text!r}")

# No effort: the server's default. A streamed answer comes in pieces.
print("chat streamed: ", end="")
stream = client.chat.completions.create(
    model=model, max_tokens=64, stream=True, messages=[{"role": "user", "content": question}]
)
for chunk in stream:
    if chunk.choices:
        print(getattr(chunk.choices[0].delta, "reasoning", None) or chunk.choices[0].delta.content or "", end="")
print("\nresponses streamed: ", end="")
for event in client.responses.create(model=model, max_output_tokens=64, input=question, stream=True):
    if event.type in {"response.output_text.delta", "response.reasoning_text.delta"}:
        print(event.delta, end="")
print()

# What cannot work is refused with words.
try:
    client.chat.completions.create(
        model=model, reasoning_effort="ultra", messages=[{"role": "user", "content": question}]
    )
except openai.BadRequestError as error:
    print(f"bad effort: {error.status_code} {error.body['message']}")
try:
    client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": question}])
except openai.NotFoundError as error:
    print(f"bad model: {error.status_code} {error.body['message']}")
