"""One reply as it comes, and what is told of it afterwards. Knows no model, no server and no terminal."""

import time
from collections.abc import Callable
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from tune.harmony import Effort

Side = Literal["base", "tuned"]
Ended = Literal["ended", "cut", "stopped", "malformed"]  # by itself, by max_tokens, by Ctrl-C, by leaving the format


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(Frozen):
    """What is asked. `reference` is the answer of the data, "" for a question that somebody typed."""

    prompt: str
    developer: str = ""
    reference: str = ""
    source: str = ""  # the row that it is from


class Sampling(Frozen):
    """Greedy at temperature 0. `max_tokens` are of thinking and answer together."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


class Reply(Frozen):
    """What one side said at one effort. Token counts are of text in the two channels, `tokens` of all that was
    generated; seconds from the question on, None for an answer that never began."""

    question: int
    effort: Effort
    side: Side
    model: str
    thinking: str
    answer: str
    thinking_tokens: int
    answer_tokens: int
    tokens: int
    seconds: float
    first_answer_s: float | None
    ended: Ended

    @property
    def tokens_per_second(self) -> float:
        """All tokens over all seconds, the reading of the prompt included."""
        return self.tokens / self.seconds if self.seconds else 0.0


class Take:
    """A reply in the making. A voice adds what it says, and sets the counts and how it ended."""

    def __init__(self, side: Side, voice: "Voice", effort: Effort, question: int) -> None:
        self.side, self.model, self.effort, self.question = side, voice.name, effort, question
        self.said: list[tuple[str, bool]] = []  # text, and whether it is thinking
        self.thinking_tokens = self.answer_tokens = self.tokens = 0
        self.first_answer_s: float | None = None
        self.seconds = 0.0
        self.ended: Ended = "stopped"
        self.watch: Callable[[str, bool], None] = lambda *_: None
        self._began = time.perf_counter()

    def add(self, text: str, thinking: bool) -> None:
        """Some more text of one channel."""
        if not text:
            return
        if not thinking and self.first_answer_s is None:
            self.first_answer_s = time.perf_counter() - self._began
        self.said.append((text, thinking))
        self.watch(text, thinking)

    def text(self, thinking: bool) -> str:
        return "".join(text for text, kind in self.said if kind == thinking)

    def close(self) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self._began

    @property
    def reply(self) -> Reply:
        return Reply(
            question=self.question,
            effort=self.effort,
            side=self.side,
            model=self.model,
            thinking=self.text(True),
            answer=self.text(False),
            thinking_tokens=self.thinking_tokens,
            answer_tokens=self.answer_tokens,
            tokens=self.tokens,
            seconds=self.seconds,
            first_answer_s=self.first_answer_s,
            ended=self.ended,
        )


class Voice(Protocol):
    """One side: a model in memory or an endpoint."""

    name: str

    def speak(self, question: Question, take: Take, sampling: Sampling) -> None:
        """Say one reply into `take`. Raises UserError; what was added before it, or before Ctrl-C, stays."""
