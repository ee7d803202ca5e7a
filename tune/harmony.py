"""CONTRACT: messages and an effort to token ids and a loss mask, in the harmony format.

The only file that knows the format. Ids come from the harmony library, the one that vLLM renders with, so
training and serving see the same prompt. Text is always encoded as text: a control token spelled out in a
page stays ordinary characters.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import openai_harmony as oh

Effort = Literal["low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

VOCABULARY = 201_088
RANKS = 199_998  # ids below are byte-pair ranks, above are control tokens
START, END, MESSAGE, CHANNEL, RETURN, CALL = 200_006, 200_007, 200_008, 200_005, 200_002, 200_012
PAD = 199_999
CONTROL = {
    "<|start|>": START,
    "<|end|>": END,
    "<|message|>": MESSAGE,
    "<|channel|>": CHANNEL,
    "<|return|>": RETURN,
    "<|call|>": CALL,
    "<|endoftext|>": PAD,
}
IGNORE = -100  # the label that PyTorch's cross entropy skips


class Message(BaseModel):
    """One turn. `thinking` is the analysis that came before an assistant's answer; None when there was none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["developer", "user", "assistant"]
    content: str
    thinking: str | None = None


# What training, export and serving are compared on, at every effort.
PROBE = (Message(role="developer", content="Be exact."), Message(role="user", content="What does len return?"))


class Rendered(NamedTuple):
    """Token ids and, of the same length, which of them are learned."""

    ids: list[int]
    learned: list[bool]

    @property
    def labels(self) -> list[int]:
        """Ids where learned, -100 elsewhere."""
        return [i if on else IGNORE for i, on in zip(self.ids, self.learned, strict=True)]


class Reply(NamedTuple):
    """What a model said: its analysis, its answer, and whether it ended the answer itself."""

    thinking: str
    answer: str
    finished: bool


@cache
def encoding() -> "oh.HarmonyEncoding":
    """The harmony encoding, loaded once (0.3 s), from the vocabulary inside the package: no network."""
    import openai_harmony as oh

    return oh.load_harmony_encoding(oh.HarmonyEncodingName.HARMONY_GPT_OSS)


def encode(text: str) -> list[int]:
    """Ids of plain text; never a control token, whatever the text spells."""
    ids: list[int] = encoding().encode(text, disallowed_special=())
    return ids


def decode(ids: Sequence[int]) -> str:
    """Text of ids, control tokens spelled out."""
    text: str = encoding().decode(list(ids))
    return text


def render_prompt(messages: Sequence[Message], effort: Effort, date: str) -> list[int]:
    """Ids of a conversation up to and including `<|start|>assistant`, as the server sends them to the model.

    `date` is YYYY-MM-DD, the system message's date line.
    """
    import openai_harmony as oh

    ids: list[int] = encoding().render_conversation_for_completion(
        _conversation(messages, effort, date), oh.Role.ASSISTANT, oh.RenderConversationConfig(auto_drop_analysis=False)
    )
    return ids


def render_training(messages: Sequence[Message], effort: Effort, date: str) -> Rendered:
    """Ids of a conversation that ends with an assistant turn, with that turn learned.

    The prompt part equals `render_prompt` of the turns before, id for id. Earlier turns lose their analysis, as
    at serving time. An answer without analysis is learned from its first content token on: learning the bare
    `final` header would teach the model to skip thinking.
    """
    if not messages or messages[-1].role != "assistant":
        raise ValueError("a training conversation ends with an assistant turn")
    _prove(date)
    *before, last = messages
    ids = [*_system(effort, date)]
    for message in before:
        ids += _turn(message.role, message.content)
    first = len(ids) + 2  # the prompt ends with `<|start|>assistant`
    if last.thinking is not None:
        ids += _turn("assistant", last.thinking, "analysis")
    else:
        first = len(ids) + len(_opening("assistant", "final"))
    ids += [*_turn("assistant", last.content)[:-1], RETURN]
    return Rendered(ids, [False] * first + [True] * (len(ids) - first))


def _turn(role: str, text: str, channel: str = "final") -> list[int]:
    """Ids of one turn, `<|end|>` too. What stands before a text and behind it never changes its ids, so it is encoded
    alone: a tenth of the time that the library takes to render a conversation."""
    if role == "developer":
        return [*_developer(text)]
    return [*_opening(role, channel if role == "assistant" else ""), *encode(text), END]


@cache
def _opening(role: str, channel: str) -> tuple[int, ...]:
    return (START, *encode(role), *((CHANNEL, *encode(channel)) if channel else ()), MESSAGE)


@cache
def _system(effort: Effort, date: str) -> tuple[int, ...]:
    return tuple(encoding().render_conversation(_conversation((), effort, date)))


@lru_cache(maxsize=64)
def _developer(text: str) -> tuple[int, ...]:
    import openai_harmony as oh

    content = oh.DeveloperContent.new().with_instructions(text)
    return tuple(encoding().render(oh.Message.from_role_and_content(oh.Role.DEVELOPER, content)))


@cache
def _prove(date: str) -> None:
    """Raises RuntimeError unless the turns put together are what the library makes of the whole, and what is served."""
    import openai_harmony as oh

    said = Message(role="assistant", content="How <|end|> many?", thinking="Hm.")
    for effort in EFFORTS:
        asked = (*PROBE, said, Message(role="user", content=" 1\n"))
        whole = encoding().render_conversation_for_training(
            _conversation((*asked, said), effort, date), oh.RenderConversationConfig(auto_drop_analysis=False)
        )
        ids = [*_system(effort, date), *(i for m in asked for i in _turn(m.role, m.content))]
        prompt = render_prompt(asked, effort, date)
        ids += [*_turn("assistant", "Hm.", "analysis"), *_turn("assistant", said.content)[:-1], RETURN]
        if whole != ids or whole[: len(prompt)] != prompt:
            raise RuntimeError("the harmony library renders a training prompt unlike the serving prompt")


class Listener:
    """A completion after `render_prompt`, token by token as it comes. `broken`: it left the format, for good."""

    def __init__(self) -> None:
        import openai_harmony as oh

        self._parser = oh.StreamableParser(encoding(), role=oh.Role.ASSISTANT, strict=False)
        self._error, self.broken = oh.HarmonyError, False

    def hear(self, token: int) -> tuple[str, str]:
        """Whose token it is, "analysis", "final" or "" for what stands in neither; and the text that it completes, ""
        for a part of the format and in the middle of a character."""
        try:
            if not self.broken:
                self._parser.process(token)
        except self._error:
            self.broken = True
        channel, text = self._parser.current_channel, self._parser.last_content_delta or ""
        if self.broken or channel not in {"analysis", "final"} or (token >= RANKS and not text):
            return "", ""
        return channel, text


def parse_reply(ids: Sequence[int]) -> Reply:
    """What a completion after `render_prompt` says. Text outside every channel is neither."""
    listener, said = Listener(), {"analysis": "", "final": "", "": ""}
    for i in ids:
        channel, text = listener.hear(i)
        said[channel] += text
    return Reply(said["analysis"], said["final"], bool(ids) and ids[-1] == RETURN)


@cache
def fingerprint(date: str) -> str:
    """sha256 over the ids of `PROBE` at each effort: equal on both sides, or the prompts differ."""
    ids = {effort: render_prompt(PROBE, effort, date) for effort in EFFORTS}
    return hashlib.sha256(json.dumps(ids, sort_keys=True).encode()).hexdigest()


def _conversation(messages: Sequence[Message], effort: Effort, date: str) -> "oh.Conversation":
    import openai_harmony as oh

    system = (
        oh.SystemContent.new()
        .with_reasoning_effort(oh.ReasoningEffort(effort.capitalize()))
        .with_conversation_start_date(date)
    )
    out = [oh.Message.from_role_and_content(oh.Role.SYSTEM, system)]
    for i, message in enumerate(messages):
        if message.role == "developer":
            content = oh.DeveloperContent.new().with_instructions(message.content)
            out.append(oh.Message.from_role_and_content(oh.Role.DEVELOPER, content))
        elif message.role == "user":
            out.append(oh.Message.from_role_and_content(oh.Role.USER, message.content))
        else:
            if message.thinking is not None and i == len(messages) - 1:
                turn = oh.Message.from_role_and_content(oh.Role.ASSISTANT, message.thinking)
                out.append(turn.with_channel("analysis"))
            turn = oh.Message.from_role_and_content(oh.Role.ASSISTANT, message.content)
            out.append(turn.with_channel("final"))
    return oh.Conversation.from_messages(out)
