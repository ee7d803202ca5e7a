"""Raw exchanges to figures: latencies from the deadline, tokens, errors, and the reasons that make a run void.

In: the Raws of one run, its ticks, and the effort asked for. Out: a Sample a request, Figures a run. Pure. Definitions:
  TTFT  first token of any channel - deadline            TTFA  first token of the answer - deadline
  E2E   last token - deadline                            TPOT  (E2E - TTFT) / (output tokens - 1)
  ITL   gaps between arrivals of chunks (a chunk may hold several tokens)
  NTPOT E2E / output tokens                              output tok/s  tokens of all good requests / the run's span
In a closed loop the moment of sending stands for the deadline.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from evalsuite.asking.stream import UNREADABLE, Stream
from evalsuite.judging.statistics import percentiles
from evalsuite.speed.client import TICK_S, Raw, Tick
from evalsuite.speed.wire import Malformed, parse

Counted = Literal["usage", "chunks"]


class Frozen(BaseModel):
    """Written once, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sample(Frozen):
    """One request. Seconds; latencies from `start` (deadline or sending); None when that moment never came.

    `counted`: where token counts come from. Without the server's usage a chunk counts as a token, and says so.
    """

    start: float | None
    lag_s: float | None = None  # sent - due; None in a closed loop
    error: str = ""
    ttft_s: float | None = None
    ttfa_s: float | None = None
    e2e_s: float | None = None
    itl_s: tuple[float, ...] = ()
    output_tokens: int = 0
    reasoning_tokens: int = 0
    counted: Counted = "usage"
    reasoning_counted: Counted = "usage"
    finish_reason: str = ""
    loop_lag_s: float | None = None  # how late the client woke up when the first token came: so much too long, at most

    @property
    def tpot_s(self) -> float | None:
        if self.ttft_s is None or self.e2e_s is None or self.output_tokens < 2:
            return None
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1)

    @property
    def ntpot_s(self) -> float | None:
        return self.e2e_s / self.output_tokens if self.e2e_s is not None and self.output_tokens else None


class Slo(Frozen):
    """What a good request keeps within, in seconds; None: not asked."""

    ttft_s: float | None = None
    ttfa_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def met(self, sample: Sample) -> bool:
        """A request without the asked-for moment (no answer at all, say) does not meet it."""
        for name in Slo.model_fields:
            most, found = getattr(self, name), getattr(sample, name)
            if most is not None and (found is None or found > most):
                return False
        return not sample.error


class Distribution(Frozen):
    """Linear-interpolation percentiles of `n` values."""

    n: int
    mean: float
    p50: float
    p95: float
    p99: float


class Figures(Frozen):
    """One run, or several pooled. Latencies of requests without error alone; tokens too."""

    requests: int
    errors: dict[str, int]  # kind -> how many
    finish_reasons: dict[str, int]
    ttft_s: Distribution | None
    ttfa_s: Distribution | None
    tpot_s: Distribution | None
    itl_s: Distribution | None
    e2e_s: Distribution | None
    ntpot_s: Distribution | None
    output_tokens: int
    reasoning_tokens: int
    answer_tokens: int
    tokens_counted: tuple[Counted, ...]
    reasoning_counted: tuple[Counted, ...]
    span_s: float  # first deadline to last token
    output_tokens_per_s: float
    requests_per_s: float
    goodput: float | None  # share of all requests that met the SLO
    lag_s: Distribution | None
    loop_lag_s: Distribution | None  # by how much, at most, the client made the TTFT of each request too long
    achieved: float | None  # achieved / requested rate
    cpu: float  # share of one core that the client used


class Limits(Frozen):
    """When a run is void. The emission lag may be `lag_share` of the median TTFT, or `lag_floor_s` if that is more:
    the event loop's own clock ticks in milliseconds. So may its lag at first tokens, which is what a TTFT errs by:
    `loop_share` of the median, or `loop_floor_s`, which is as well as a tick of `client.TICK_S` can tell."""

    lag_share: float = 0.05
    lag_floor_s: float = 0.002
    loop_share: float = 0.05
    loop_floor_s: float = 0.003
    achieved: float = 0.99
    errors: float = 0.02
    cpu: float = 0.7


def sample(raw: Raw, effort: str = "", ticks: Sequence[Tick] = ()) -> Sample:
    """What became of one request. Never raises: whatever is wrong with the response is the sample's error."""
    found = _sample(raw, effort)
    if not ticks or found.start is None or found.ttft_s is None:
        return found
    return found.model_copy(update={"loop_lag_s": _late(ticks, found.start + found.ttft_s)})


def _late(ticks: Sequence[Tick], at: float) -> float:
    """How long the loop had not been to be had at `at`: by the tick still to come, or by one that has just come."""
    after = min(bisect_left(ticks, at, key=lambda tick: tick.woke), len(ticks) - 1)
    before = ticks[after - 1] if after and at - ticks[after - 1].woke < TICK_S else None
    return max(0.0, at - ticks[after].due, before.woke - before.due if before else 0.0)


def _sample(raw: Raw, effort: str) -> Sample:
    start = raw.sent if raw.due is None else raw.due
    lag = raw.sent - raw.due if raw.sent is not None and raw.due is not None else None
    blank = Sample(start=start, lag_s=lag)
    if raw.failure:
        return blank.model_copy(update={"error": raw.failure})
    if not raw.pieces or start is None:
        return blank.model_copy(update={"error": "cut: closed without a response"})
    try:
        response = parse(raw.pieces)
    except Malformed as e:
        return blank.model_copy(update={"error": f"protocol: {e}"})
    if response.status != 200:
        return blank.model_copy(update={"error": f"http {response.status}"})
    try:
        found = _heard(response.events(), start)
    except UNREADABLE:
        return blank.model_copy(update={"error": "protocol: an event is not a chat completion chunk"})
    applied = response.headers.get("x-reasoning-effort", effort)
    if not found["error"]:
        if not response.complete:
            found["error"] = "cut: the stream ended before its end"
        elif effort and applied != effort:
            found["error"] = f"effort: asked {effort}, got {applied}"
        elif not found["output_tokens"]:
            found["error"] = "empty: no token came"
    return blank.model_copy(update=found)


def _heard(events: Iterable[tuple[float, bytes]], start: float) -> dict[str, Any]:
    """What a Sample says of the reply itself."""
    stream = Stream()
    for time, data in events:
        if data.startswith(b"[DONE]"):
            break
        stream.add(time, json.loads(data))
    said = stream.said()
    moments, pieces = said.moments, len(said.thoughts) + len(said.answers)
    output, reasoning = said.completion_tokens, said.reasoning_tokens
    total = len(moments) if output is None else output
    return {
        "error": "error in a 200" if said.failed else f"cut: the stream {said.unfinished}" if said.unfinished else "",
        "finish_reason": said.finish_reason,
        "ttft_s": moments[0] - start if moments else None,
        "ttfa_s": said.answers[0] - start if said.answers else None,
        "e2e_s": moments[-1] - start if moments else None,
        "itl_s": tuple(b - a for a, b in pairwise(moments)),
        "output_tokens": total,
        "counted": "chunks" if output is None else "usage",
        "reasoning_tokens": round(total * len(said.thoughts) / max(pieces, 1)) if reasoning is None else reasoning,
        "reasoning_counted": "chunks" if reasoning is None else "usage",
    }


def figures(
    samples: Sequence[Sample], *, cpu: float = 0.0, spans: Sequence[float] = (), slo: Slo | None = None
) -> Figures:
    """Figures of one run; for pooled runs give the span of each: between them nothing was asked."""
    good = [s for s in samples if not s.error]
    span = sum(spans) if spans else span_of(samples)
    tokens, thoughts = sum(s.output_tokens for s in good), sum(s.reasoning_tokens for s in good)
    return Figures(
        requests=len(samples),
        errors=dict(sorted(Counter(s.error.partition(":")[0] for s in samples if s.error).items())),
        finish_reasons=dict(sorted(Counter(s.finish_reason or "none" for s in good).items())),
        **{n: distribution(getattr(s, n) for s in good) for n in ("ttft_s", "ttfa_s", "tpot_s", "e2e_s", "ntpot_s")},
        itl_s=distribution(gap for s in good for gap in s.itl_s),
        output_tokens=tokens,
        reasoning_tokens=thoughts,
        answer_tokens=tokens - thoughts,
        tokens_counted=tuple(sorted({s.counted for s in good})),
        reasoning_counted=tuple(sorted({s.reasoning_counted for s in good})),
        span_s=span,
        output_tokens_per_s=tokens / span if span else 0.0,
        requests_per_s=len(good) / span if span else 0.0,
        goodput=sum(map(slo.met, samples)) / len(samples) if slo and samples else None,
        lag_s=distribution(s.lag_s for s in samples),
        loop_lag_s=distribution(s.loop_lag_s for s in good),
        achieved=_achieved(samples),
        cpu=cpu,
    )


def span_of(samples: Sequence[Sample]) -> float:
    """Seconds from the first deadline to the last token; 0 when no token came."""
    ends = [s.start + s.e2e_s for s in samples if s.start is not None and s.e2e_s is not None]
    return max(ends) - min(s.start for s in samples if s.start is not None) if ends else 0.0


def distribution(values: Iterable[float | None]) -> Distribution | None:
    """None for no values."""
    found = [v for v in values if v is not None]
    if not found:
        return None
    p50, p95, p99 = percentiles(found, 50, 95, 99)
    return Distribution(n=len(found), mean=fmean(found), p50=p50, p95=p95, p99=p99)


def _achieved(samples: Sequence[Sample]) -> float | None:
    """Achieved / requested rate of an open loop: (share sent) x (span asked for) / (span taken)."""
    timed = [(s.start, s.start + s.lag_s) for s in samples if s.start is not None and s.lag_s is not None]
    if not timed:
        return None
    asked = max(due for due, _ in timed) - min(due for due, _ in timed)
    took = max(sent for _, sent in timed) - min(sent for _, sent in timed)
    return len(timed) / len(samples) * (asked / took if asked and took > asked else 1.0)


def void(found: Figures, limits: Limits | None = None) -> tuple[str, ...]:
    """Why this run says nothing about the endpoint; empty when it does."""
    limits = limits or Limits()
    reasons = []
    failed = sum(found.errors.values())
    if failed > limits.errors * found.requests:
        kinds = ", ".join(f"{n} x {kind}" for kind, n in found.errors.items())
        reasons.append(f"{failed} of {found.requests} requests failed ({kinds}); at most {limits.errors:.0%} may")
    if found.ttft_s is None:
        reasons.append("no request gave a token")
    elif found.lag_s is not None:
        most = max(limits.lag_share * found.ttft_s.p50, limits.lag_floor_s)
        if found.lag_s.p99 > most:
            lag, most = found.lag_s.p99 * 1e3, most * 1e3
            reasons.append(f"requests left late: p99 {lag:.2f} ms after their deadline, at most {most:.2f} ms allowed")
    if found.ttft_s and found.loop_lag_s:
        most = max(limits.loop_share * found.ttft_s.p50, limits.loop_floor_s)
        if found.loop_lag_s.p95 > most:
            late = f"p95 {found.loop_lag_s.p95 * 1e3:.2f} ms, at most {most * 1e3:.2f} ms allowed"
            reasons.append(f"the client read first tokens late: {late}; it measured itself")
    if found.achieved is not None and found.achieved < limits.achieved:
        reasons.append(f"{found.achieved:.1%} of the requested rate was achieved, not {limits.achieved:.0%}")
    if found.cpu > limits.cpu:
        reasons.append(f"the client used {found.cpu:.0%} of its core, over {limits.cpu:.0%}: it measured itself")
    return tuple(reasons)
