"""What becomes of requests, by effort and key: counted beside the engine's own metrics, and a line in the log for each.

Counted is what runs the model, once it is over: refusals too, but not the supervisor's own requests. Tokens are the
engine's count; of an answer that did not come to its end (its client left, the server stopped) nobody has one, and it
adds nothing. The first token of an answer is seen only in streams. No word of a prompt or an answer is kept.
"""

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING

from serve.asgi import Message
from serve.record import Record

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LOG = logging.getLogger("serve.requests")
LABELS = ("effort", "key")
ANSWERS = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions", "/invocations"})
FIRST = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)  # seconds: a long thought comes before an answer
WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


class Counts:
    """The counters. `registry`: where the engine's /metrics collects."""

    def __init__(self, registry: "CollectorRegistry") -> None:
        from prometheus_client import Counter, Histogram

        def counter(name: str, what: str, *more: str) -> Counter:
            return Counter(name, what, [*LABELS, *more], registry=registry)

        def seconds(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, LABELS, buckets=buckets, registry=registry)

        self.requests = counter("gptoss_requests", "Requests that were answered, or whose client left.", "status")
        self.reasoning = counter("gptoss_reasoning_tokens", "Tokens of reasoning and of tool calls.")
        self.answer = counter("gptoss_answer_tokens", "All other tokens that were generated.")
        self.truncated = counter("gptoss_truncated_in_reasoning", "Answers that ran out of tokens before they began.")
        self.off_format = counter("gptoss_off_format", "Answers that lost the model's format.", "kind")
        self.first = seconds("gptoss_first_answer_seconds", "Until the first piece of a streamed answer.", FIRST)
        self.whole = seconds("gptoss_request_seconds", "From a request's coming to the end of its answer.", WHOLE)

    def close(self, record: Record) -> None:
        """Count one request, which is over, and log it."""
        labels = (record.effort, record.key)
        tokens, verdict, seconds = record.tokens, record.verdict, record.seconds
        self.requests.labels(*labels, f"{record.status // 100}xx" if record.status else "gone").inc()
        if tokens:
            self.reasoning.labels(*labels).inc(tokens.reasoning)
            self.answer.labels(*labels).inc(tokens.answer)
        if verdict.truncated:
            self.truncated.labels(*labels).inc()
        if verdict.kind:
            self.off_format.labels(*labels, verdict.kind).inc()
            LOG.warning("id=%s key=%s effort=%s off_format=%s", record.id, record.key, record.effort, verdict.kind)
        if record.first_answer is not None and verdict.kind != "markers":
            self.first.labels(*labels).observe(record.first_answer)
        self.whole.labels(*labels).observe(seconds)
        LOG.info(
            "id=%s key=%s asked=%s effort=%s status=%s reasoning=%s answer=%s first_answer_s=%s seconds=%.3f",
            record.id,
            record.key or "-",
            record.asked or "-",
            record.effort or "-",
            record.status or "gone",
            tokens.reasoning if tokens else "-",
            tokens.answer if tokens else "-",
            "-" if record.first_answer is None else f"{record.first_answer:.3f}",
            seconds,
        )


def counted(scope: Message) -> bool:
    """Whether a request asks the model for an answer."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] == "POST" and path in ANSWERS


@cache
def counts() -> Counts:
    """Those of this process, among the engine's own."""
    from prometheus_client import REGISTRY

    return Counts(REGISTRY)


def to_log() -> None:
    """Let the lines out on stderr, which is the engine's log: it lets nobody's through but its own."""
    LOG.setLevel(logging.INFO)
    if not LOG.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s %(name)s: %(message)s"))
        LOG.addHandler(handler)
