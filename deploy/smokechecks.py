"""The checks of `deploy smoke`, one after the other: an endpoint in, what was found out.

What it cannot know a check skips, in words; what may be a small model's weakness is a warning.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from deploy import probing
from deploy.exchange import Heard, Line
from deploy.probing import Found
from evalsuite.asking.client_info import ClientInfo
from tune.harmony import Effort
from tune.terminal import one_line

TOKENS = 1024  # of an answer, thought included: enough for a short one at low effort
HELLO = "Say hello in one short sentence."
PUZZLE = "A farmer has 17 sheep, and all but 9 run away. How many are left? Explain."


class Endpoint(NamedTuple):
    """What is known of it so far. `length`: tokens of its context, 0 for unknown; `efforts`: those that it takes, the
    lowest first; `seen`: digests that it sent."""

    line: Line
    info: ClientInfo
    digest: str
    length: int
    efforts: Sequence[Effort]
    seen: set[str]

    def ask(self, prompt: str, *, tokens: int = TOKENS, stream: bool | None = None, **more: Any) -> Heard:
        """One completion at the lowest effort, unless `more` says otherwise; streamed where the platform needs it."""
        messages = [{"role": "user", "content": prompt}]
        known = {"messages": messages, "reasoning_effort": self.efforts[0], "temperature": 0}
        most = min(tokens, self.length // 2) if self.length else tokens
        heard = self.line.ask(
            {**known, "max_completion_tokens": most, **more},
            stream=self.info.stream if stream is None else stream,
        )
        if stamp := heard.headers.get("x-model-digest", ""):
            self.seen.add(one_line(stamp, 64))
        return heard


def _cold(at: Endpoint) -> Found:
    """The first answer, waited for as long as the endpoint's client file says."""
    start, length = time.monotonic(), 0
    heard = at.line.get("/v1/models") if at.info.lists else at.ask(HELLO, tokens=1, stream=True)
    if heard.wrong and not (heard.status == 200 and heard.said):
        return Found("failed", heard.wrong)
    told = sum(at.line.asked_again.values())
    if at.info.lists:
        length = probing.context(heard.json, at.info.model)
    again = f", asked {told + 1} times" if told else ""
    return Found("passed", f"answers after {time.monotonic() - start:.1f} s{again}", length)


def _names(at: Endpoint) -> Found:
    """Whether the model is listed, and whether the weights that answer say they are the deployment's."""
    heard = at.ask(HELLO, tokens=1)
    if at.info.lists:
        listed = at.line.get("/v1/models")
        if listed.wrong:
            return Found("failed", f"/v1/models: {listed.wrong}")
        names = probing.listed(listed.json)
        if at.info.model not in names:
            told = ", ".join(one_line(n, 60) for n in [*names][:5]) or "nothing"
            return Found("failed", f"lists {told}, and not {at.info.model}")
        if (own := names[at.info.model]) and own != at.digest and at.digest:
            return Found("failed", f"lists {at.info.model} with the digest {one_line(own, 64)}, not {at.digest}")
    if heard.wrong and not heard.said:
        return Found("failed", heard.wrong)
    where = f"{at.info.model} is listed" if at.info.lists else "no models are listed there"
    if not at.seen:
        return Found("warned" if at.digest else "passed", f"{where}; no x-model-digest comes: which weights answer is "
                     "not shown")  # fmt: skip
    if at.digest and at.seen != {at.digest}:
        return Found("failed", f"x-model-digest is {' and '.join(sorted(at.seen))}, not {at.digest}")
    return Found("passed", f"{where}; x-model-digest is {'the deployment’s' if at.digest else min(at.seen)[:16]}")


def _chat(at: Endpoint) -> Found:
    if at.info.stream:
        return Found("skipped", "the platform cuts off answers that are not streamed: all are streamed")
    return probing.answered(at.ask(HELLO, stream=False))


def _stream(at: Endpoint) -> Found:
    return probing.streamed(at.ask(HELLO, stream=True))


def _effort(at: Endpoint) -> Found:
    low, high = at.efforts[0], at.efforts[-1]
    if low == high:
        return Found("skipped", f"it takes the effort {low} alone")
    told: dict[str, Heard] = {effort: at.ask(PUZZLE, stream=True, reasoning_effort=effort) for effort in (low, high)}
    return probing.efforts(told)


def _tools(at: Endpoint) -> Found:
    heard = at.ask(probing.WEATHER, tools=[probing.TOOL])
    found = probing.called(heard)
    if found.outcome != "warned":
        return found
    forced = {"type": "function", "function": {"name": probing.TOOL["function"]["name"]}}
    heard = at.ask(probing.WEATHER, tools=[probing.TOOL], tool_choice=forced)
    after = probing.called(heard)
    # What a model writes that would not have called is no word on the parser: vLLM 0.32 leaves a nano's raw.
    weak = after.outcome == "failed" and not heard.wrong
    return after._replace(outcome="warned" if weak else after.outcome, words=f"{found.words}; forced: {after.words}")


def _long(at: Endpoint) -> Found:
    """One prompt just within the context is taken, one over it refused as the client's fault."""
    if not at.length:
        return Found("skipped", "the length of its context is not known")
    few, more = (at.ask(probing.filler(n), tokens=1) for n in (64, 128))
    if not (few.said and more.said):
        return Found("failed", few.wrong or more.wrong)
    count = probing.words_for(at.length - probing.SPARE, few, more)
    if count is None:
        return Found("warned", "its usage counts no prompt tokens: how long a prompt is is not known")
    near = at.ask(probing.filler(count), tokens=8)
    took = near.said.prompt_tokens if near.said else None
    if near.status != 200 or not took:
        return Found("failed", f"a prompt of some {at.length - probing.SPARE} of {at.length} tokens: {near.wrong}")
    longer = probing.words_for(at.length + probing.SPARE, few, more) or 0
    body = {"messages": [{"role": "user", "content": probing.filler(longer)}], "max_completion_tokens": 8}
    over = at.line.ask(body, stream=at.info.stream, patient=False)
    if 400 <= over.status < 500:
        return Found("passed", f"{took} of {at.length} tokens are taken, more is refused with {over.status}")
    return Found(
        "failed", f"a prompt over {at.length} tokens is not refused with 4xx: {over.wrong or 'it is answered'}"
    )


def _wrong_key(at: Endpoint) -> Found:
    return _refused(at, probing.wrong(at.line.door), "a wrong key")


def _no_key(at: Endpoint) -> Found:
    return _refused(at, {}, "a request without a key")


def _refused(at: Endpoint, headers: Mapping[str, str], what: str) -> Found:
    if not at.line.door.sent():
        return Found("skipped", "the deployment asks for no key")
    body = {"messages": [{"role": "user", "content": HELLO}], "max_completion_tokens": 1}
    heard = at.line.ask(body, stream=at.info.stream, headers=headers, patient=False)
    if heard.status in {401, 403}:
        return Found("passed", f"{what} is refused with {heard.status}")
    return Found("failed", f"{what} is not refused with 401 or 403: {heard.wrong or 'it is answered'}")


def _one(at: Endpoint) -> Found:
    """Whether all answers came from the same weights: behind one address there may be an old release beside the new."""
    odd = sorted(at.seen - {at.digest}) if at.digest else []
    if odd or len(at.seen) > 1:
        which = f", and {at.digest} is the deployment’s" if at.digest else ""
        return Found("failed", f"x-model-digest was {' and '.join(sorted(at.seen))}{which}")
    return Found("passed", "every answer says so") if at.seen else Found("skipped", "no x-model-digest comes")


CHECKS: dict[str, Callable[[Endpoint], Found]] = {
    "cold-start": _cold,
    "names": _names,
    "chat": _chat,
    "stream": _stream,
    "effort": _effort,
    "tools": _tools,
    "long-prompt": _long,
    "wrong-key": _wrong_key,
    "no-key": _no_key,
    "one-model": _one,
}
