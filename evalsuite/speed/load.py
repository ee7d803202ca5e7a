"""One block of load on one endpoint: how requests are offered, the request bodies, the warm-up, the samples.

In: a Target and prompts. Out: a Sample a request, and the Run they came from. Knows nothing about arms.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import SecretStr, TypeAdapter, ValidationError

from evalsuite.asking.endpoint import Endpoint, client, served
from evalsuite.speed.client import Raw, Run, Target, closed_loop, open_loop
from evalsuite.speed.metrics import Frozen, Sample, sample
from evalsuite.speed.schedule import Arrivals, offsets
from evalsuite.speed.wire import Malformed, parse
from tune.errors import UserError
from tune.section import EffortName
from tune.terminal import one_line

Line = Callable[[str], None]
Body = Mapping[str, Any]
NEEDS: dict[Arrivals, str] = {
    "poisson": "--rate 4",
    "constant": "--rate 4",
    "closed": "--concurrency 4",
    "trace": "--trace FILE",
}


class Load(Frozen):
    """How requests are offered: closed with `concurrency` in flight, or open: at `rate` a second, or as in `trace`."""

    arrivals: Arrivals
    rate: float | None = None
    concurrency: int | None = None
    trace: tuple[float, ...] = ()  # seconds from the first
    effort: str = ""
    timeout_s: float = 300.0


def load(
    rate: float | None = None,
    concurrency: int | None = None,
    arrivals: Arrivals | None = None,
    trace: Sequence[float] = (),
    *,
    effort: EffortName | Literal[""] = "",
    timeout_s: float = 300.0,
) -> Load:
    """The load that these make; `arrivals` None: what goes with the rest. Raises UserError for what does not, and for
    what is no name of an effort."""
    try:
        TypeAdapter(EffortName | Literal[""]).validate_python(effort)
    except ValidationError:
        raise UserError(
            f"{one_line(effort, 40)!r} is no name of an effort", fix="give one that the endpoint knows, such as low"
        ) from None
    if (rate is not None) + (concurrency is not None) + bool(trace) != 1:
        raise UserError(
            "a load is a rate or a concurrency or a trace", fix="give one of --rate, --concurrency, --trace"
        )
    given = {"--rate": rate is not None, "--concurrency": concurrency is not None, "--trace": bool(trace)}
    fit = [way for way, needs in NEEDS.items() if given[needs.split()[0]]]
    chosen = arrivals or fit[0]
    if chosen not in fit:
        fix = f"--arrivals {chosen} {NEEDS[chosen]}"
        raise UserError(f"{chosen} arrivals are not made of what was given", why=f"they need {NEEDS[chosen]}", fix=fix)
    if concurrency is not None and concurrency < 1:
        raise UserError(f"cannot keep {concurrency} requests in flight", fix="give a positive --concurrency")
    moments = tuple(trace)
    return Load(arrivals=chosen, rate=rate, concurrency=concurrency, trace=moments, effort=effort, timeout_s=timeout_s)


def resolve(endpoint: Endpoint, name: str, report: Line = lambda _line: None) -> Target:
    """The endpoint with the model that it serves. `name`: base, tuned or endpoint; `report` is told that it is waited
    for. Raises UserError as `served`."""

    async def model() -> str:
        async with client(endpoint) as asking:
            return (await served(asking, endpoint, name, report)).model

    return target(endpoint, asyncio.run(model()))


def target(endpoint: Endpoint, model: str) -> Target:
    """What to send load to, when the id of the model is known."""
    door = endpoint.door
    extra = tuple((name, SecretStr(value)) for name, value in door.headers.items())
    return Target(url=endpoint.base_url, model=model, key=SecretStr(door.bearer()), headers=extra)


def bodies(
    prompts: Sequence[str], *, max_tokens: int, effort: str, seed: int, extra: Body | None = None
) -> list[dict[str, Any]]:
    """One request a prompt, each with a seed of its own."""
    fixed = {"max_completion_tokens": max_tokens, "reasoning_effort": effort, "temperature": 0, **(extra or {})}
    return [
        {"messages": [{"role": "user", "content": text}], "seed": seed + i, **fixed} for i, text in enumerate(prompts)
    ]


def measure(target: Target, bodies: Sequence[Body], load: Load, *, seed: int = 0) -> tuple[list[Sample], Run]:
    """One block. Raises UserError for more requests than a trace has, and as `schedule.offsets`."""
    if load.concurrency is not None:
        run = closed_loop(target, bodies, load.concurrency, load.timeout_s)
    elif load.rate is not None:
        due = offsets(len(bodies), load.rate, even=load.arrivals == "constant", seed=seed)
        run = open_loop(target, bodies, due, load.timeout_s)
    else:
        if len(bodies) > len(load.trace):
            why = f"the trace has {len(load.trace)}"
            raise UserError(f"no trace of {len(bodies)} requests", why=why, fix=f"--requests {len(load.trace)}")
        run = open_loop(target, bodies, load.trace[: len(bodies)], load.timeout_s)
    return [sample(raw, load.effort, run.ticks) for raw in run.raws], run


def warmed(name: str, target: Target, bodies: Sequence[Body], load: Load, report: Line = lambda _line: None) -> Target:
    """Warm an endpoint up, one request after the other, and give it as it has to be asked: without `stream_options` if
    it refuses them. Raises UserError when not one request is answered."""
    alone = Load(arrivals="closed", concurrency=1, effort=load.effort, timeout_s=load.timeout_s)
    found, run = measure(target, bodies, alone)
    if target.usage and any(map(_refuses_options, run.raws)):
        report(f"{name} {target.model} refuses stream_options: its tokens are counted by chunks")
        return warmed(name, target.model_copy(update={"usage": False}), bodies, load, report)
    if found and all(s.error for s in found):
        raise UserError(f"{name}, {target.model} at {target.url}, does not answer", why=found[0].error,
                        fix=f"curl {target.url}/models")  # fmt: skip
    return target


def _refuses_options(raw: Raw) -> bool:
    try:
        response = parse(raw.pieces)
    except Malformed:
        return False
    return response.status in {400, 422} and b"stream_options" in response.body
