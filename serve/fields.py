"""What a request may not say: fields that go round the effort, that the engine ignores with 200, or that it breaks at.

In: a body as JSON values, its effort decided. Out: nothing, or FieldError naming the field. What vLLM 0.32 does with
each was read in its source, for a GPT-OSS model. Pure; knows no HTTP.
"""

from collections.abc import Iterator
from typing import Any

from serve.asked import Api

# Fields by which a request replaces or cuts the prompt after its effort was decided, and the value that does neither.
# vLLM 0.32 acts on the first five; GPT-OSS's renderer ignores the others today.
ROUND: dict[str, object] = {
    "kv_transfer_params": None,  # prompt_token_ids in it are the prompt
    "previous_input_messages": None,  # harmony messages as they are
    "truncation": "disabled",  # "auto" cuts what is too long at the end, the words that make the model answer with it
    "vllm_xargs": None,  # goes where kv_transfer_params goes
    "ec_transfer_params": None,
    "truncate_prompt_tokens": None,
    "prompt_embeds": None,
    "chat_template": None,
    "documents": None,
    "add_generation_prompt": True,
    "continue_final_message": False,
}
CONSTRAIN = "use response_format or structured_outputs"
# Fields that are taken and do nothing, and what does instead.
IGNORED = {
    "extra_body": "what stands in it belongs beside it: client libraries put it there by themselves",
    "model_identity": "the prompt is the one that was trained on",
    "guided_json": CONSTRAIN,
    "guided_regex": CONSTRAIN,
    "guided_choice": CONSTRAIN,
    "guided_grammar": CONSTRAIN,
    "guided_decoding_backend": CONSTRAIN,
    "guided_whitespace_pattern": CONSTRAIN,
    "functions": "use tools",
    "function_call": "use tool_choice",
}
RESPONSES = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "use max_output_tokens"),
    "conversation": "none is stored; send the whole input",
}
NOT_MESSAGES = {"thinking": "use reasoning_effort, or thinking_token_budget"}
TEXT = {"text", "input_text", "output_text"}  # kinds of parts that are read; of a message's, all but these two
PICTURES = {"image", "document"}


class FieldError(ValueError):
    """A request with a field that cannot be taken. `param` is that field, dotted; `code` the kind of fault."""

    def __init__(self, message: str, param: str, code: str = "unsupported_parameter") -> None:
        super().__init__(message)
        self.param, self.code = param, code


def check(data: dict[str, Any], api: Api | None, *, tokens: int | None = None) -> None:
    """Raise FieldError for what cannot be taken. `api` None: a prompt as it is. `tokens`: the budget it goes under."""
    for field, harmless in ROUND.items():
        if (value := data.get(field)) is not None and value != harmless:
            why = "it changes the prompt after the reasoning effort was decided"
            raise FieldError(f"{field} is not accepted here: {why}", field)
    ignored = IGNORED if api == "messages" else IGNORED | NOT_MESSAGES | (RESPONSES if api == "responses" else {})
    for field in ignored:
        if data.get(field) is not None:
            raise FieldError(f"{field} would be ignored: {ignored[field]}", field)
    if (outputs := data.get("structured_outputs")) is not None and not isinstance(outputs, dict):
        raise FieldError("structured_outputs must be an object", "structured_outputs", "invalid_value")
    if tokens and data.get("use_beam_search"):
        what = "use_beam_search is not accepted here: a budget of reasoning tokens does not hold in it"
        raise FieldError(what, "use_beam_search")
    if (own := data.get("thinking_token_budget")) == 0 and own is not False:
        what = "thinking_token_budget must be at least 1: with no token for it, reasoning falls into the answer"
        raise FieldError(what, "thinking_token_budget", "invalid_value")
    if api:
        _conversation(data, api)


def _conversation(data: dict[str, Any], api: Api) -> None:
    kwargs = data.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and (set_ := sorted(str(k) for k, v in kwargs.items() if v is not None)):
        param = f"chat_template_kwargs.{set_[0][:40]}"
        raise FieldError(f"{param} would be ignored: the prompt is rendered by the harmony library", param)
    if api == "responses" and data.get("background"):
        raise FieldError("background is not accepted here: no response is stored", "background")
    where = "input" if api == "responses" else "messages"
    turns = data.get(where)
    if turns == []:
        raise FieldError(f"{where} is empty: there is nothing to answer", where, "invalid_value")
    turns = turns if isinstance(turns, list) else []
    for param, part in _parts(turns, where, api):
        told = part if isinstance(part, dict) else {"type": type(part).__name__}
        kind = str(told.get("type") or "text")
        read = kind not in PICTURES if api == "messages" else kind in TEXT and isinstance(told.get("text"), str)
        if not read:
            raise FieldError(f"{param} ({kind[:40]}) would be left out: this model reads text, in `text`", param)
    if api != "responses":  # there the engine says so itself
        for param, call in _uncalled(turns, where, api):
            what = f"{param}: no call {str(call)[:80]!r} stands before this result"
            raise FieldError(what, param, "invalid_value")


def _parts(turns: list[Any], where: str, api: Api) -> Iterator[tuple[str, Any]]:
    """Every part of what was said, with its place; for messages, of tool results too."""
    for n, turn in enumerate(turns):
        if not isinstance(turn, dict):
            continue
        if api == "responses" and isinstance(turn.get("output"), list):
            told = "of a tool's result this model reads text alone, as a string or in parts of type input_text"
            raise FieldError(f"{where}.{n}.output is a list: {told}", f"{where}.{n}.output", "invalid_value")
        if api == "responses" and turn.get("type", "message") != "message":
            continue
        for m, part in enumerate(content if isinstance(content := turn.get("content"), list) else []):
            yield f"{where}.{n}.content.{m}", part
            inner = part.get("content") if api == "messages" and isinstance(part, dict) else None
            for k, piece in enumerate(inner if isinstance(inner, list) else []):
                yield f"{where}.{n}.content.{m}.content.{k}", piece


def _uncalled(turns: list[Any], where: str, api: Api) -> Iterator[tuple[str, object]]:
    """Every result of a tool that nobody called before, with its place: it would be rendered without a name."""
    called: list[object] = []
    for n, turn in enumerate(turns):
        if not isinstance(turn, dict):
            continue
        if api == "chat":
            calls = turn.get("tool_calls")
            called += [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
            if turn.get("role") == "tool" and (id := turn.get("tool_call_id")) not in called:
                yield f"{where}.{n}.tool_call_id", id
        for m, block in enumerate(content if isinstance(content := turn.get("content"), list) else []):
            if api != "messages" or not isinstance(block, dict):
                continue
            if block.get("type") == "tool_use":
                called.append(block.get("id"))
            elif block.get("type") == "tool_result" and (id := block.get("tool_use_id")) not in called:
                yield f"{where}.{n}.content.{m}.tool_use_id", id
