"""Answers as the engine gives them, of each API, whole and streamed: what is thought, said, called, and the end."""

import json

ENDS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
DONE = b"data: [DONE]\n\n"


def counted(thought):
    return {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4 if thought else 0}}


def chat(thought="", said="", called=False, end="stop", stop_reason=None, usage=True):
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}] if called else []
    message = {"role": "assistant", "content": said or None, "reasoning": thought or None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": end, "stop_reason": stop_reason}
    return {"object": "chat.completion", "choices": [choice], "usage": counted(thought) if usage else None}


def response(thought="", said="", called=False, end="stop", used=9, most=64):
    output = [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": thought}]}] if thought else []
    output += [{"type": "message", "content": [{"type": "output_text", "text": said}]}] if said else []
    output += [{"type": "function_call", "name": "f", "arguments": "{}"}] if called else []
    status = "incomplete" if end == "length" or not output else "completed"  # as vLLM 0.32 has it
    usage = {"output_tokens": used, "output_tokens_details": {"reasoning_tokens": 4 if thought else 0}}
    told = {"id": "r", "object": "response", "error": None, "status": status, "output": output, "usage": usage}
    return {**told, "max_output_tokens": used if end == "length" else most}


def message(thought="", said="", called=False, end="stop"):
    content = [{"type": "thinking", "thinking": thought}] if thought else []
    content += [{"type": "text", "text": said}] if said else []
    content += [{"type": "tool_use", "id": "c", "name": "f", "input": {}}] if called else []
    content = content or [{"type": "text", "text": ""}]  # as vLLM 0.32 has it
    return {"type": "message", "content": content, "stop_reason": ENDS[end], "usage": {"output_tokens": 9}}


WHOLE = {"chat": chat, "responses": response, "messages": message}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


def event(data, name=""):
    """As the engine writes it: without spaces, and with letters of all the world."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    return (f"event: {name}\n" if name else "").encode() + b"data: " + text + b"\n\n"


def chat_events(thought=(), said=(), called=False, end="stop", usage=False):
    def part(delta, end=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
        choice |= {"stop_reason": None} if end else {}
        return event({"object": "chat.completion.chunk", "choices": [{**choice, "token_ids": None}]})

    calls = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]
    yield part({"role": "assistant", "content": ""})
    yield from (part({"reasoning": text}) for text in thought)
    yield from (part({"content": text}) for text in said)
    yield from [part({"tool_calls": calls})] if called else []
    yield part({}, end)
    if usage:
        yield event({"choices": [], "usage": counted(thought)})
    yield DONE


def response_events(thought=(), said=(), called=False, end="stop"):
    def named(kind, **told):
        return event({"type": kind, **told}, kind)

    yield named("response.created", response={**response(), "status": "in_progress", "usage": None})
    yield from (named("response.reasoning_text.delta", delta=text) for text in thought)
    yield from (named("response.output_text.delta", delta=text) for text in said)
    whole = response("".join(thought), "".join(said), called, end)
    yield named("response.completed", response=whole)


def message_events(thought=(), said=(), called=False, end="stop"):
    def named(kind, **told):
        return event({"type": kind, **told}, kind)

    yield named("message_start", message={"type": "message", "content": [], "stop_reason": None, "usage": {}})
    for kind, field, texts in (("thinking", "thinking", thought), ("text", "text", said)):
        if texts:
            yield named("content_block_start", content_block={"type": kind, field: ""}, index=0)
            for text in texts:
                yield named("content_block_delta", delta={"type": f"{kind}_delta", field: text}, index=0)
    if called:
        yield named("content_block_start", index=1, content_block={"type": "tool_use", "id": "c", "name": "f"})
    yield named("message_delta", delta={"stop_reason": ENDS[end]}, usage={"output_tokens": 9})
    yield named("message_stop")


STREAMED = {"chat": chat_events, "responses": response_events, "messages": message_events}
