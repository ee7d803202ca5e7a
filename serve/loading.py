"""An adapter into a running engine, proven there before any client may ask for it, and out again. Knows only HTTP.

vLLM says 200 to an adapter of which it applies nothing. So the engine is asked about the fixed prompt under both names:
the answers must differ by about what the canaries of base and adapter say, and the adapter's be near its own canary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from serve import probe
from serve.adapters import Adapter
from serve.doors import LISTING, LOADING, UNLOADING
from tune import checkpoint as checkpoints
from tune.checkpoint import Canary
from tune.errors import UserError
from tune.harmony import PROBE, render_prompt

if TYPE_CHECKING:
    import httpx

SHARE = 0.25  # of what the canaries say that an adapter moves the fixed prompt, at least so much must be seen
SEEN = 0.001  # nats a token: less is not told apart from rounding


def load(http: "httpx.Client", model: str, adapter: Adapter, base: Canary) -> None:
    """Load and prove it beside `model`, whose canary is `base`. Raises UserError; then the engine holds it no more."""
    _whole(adapter)
    path = str(adapter.checkpoint.folder.resolve())
    probe.send(http, LOADING, {"lora_name": adapter.served_name, "lora_path": path, "is_3d_lora_weight": True})
    try:
        _whole(adapter)  # what was read is what was looked at
        prove(http, model, adapter, base)
    except UserError:
        drop(http, adapter)
        raise


def prove(http: "httpx.Client", model: str, adapter: Adapter, base: Canary) -> None:
    """Raise UserError unless the engine answers as base and adapter together do, and not as the base."""
    canary, date = checkpoints.canary(adapter.checkpoint), adapter.checkpoint.prompt_date
    for effort in canary.logprobs:
        ids = render_prompt(PROBE, effort, date)
        moved = _apart(probe.prompt_logprobs(http, adapter.served_name, ids), probe.prompt_logprobs(http, model, ids))
        meant = _apart(canary.logprobs[effort], base.logprobs[effort])
        if not moved > (SHARE * meant if meant > SEEN else 0):  # NaN is not
            raise UserError(
                f"the engine answers under the name {adapter.name} as the base does, at effort {effort}",
                why=f"a token of the fixed prompt moves by {moved:.4f} nats on average, {meant:.4f} are meant",
                fix="tune check on the adapter's folder; then look at what follows -- on the server's command line",
            )
    probe.check_canary(http, adapter.served_name, date, canary)


def show(http: "httpx.Client", adapters: Sequence[Adapter]) -> None:
    """Let clients ask for these adapters, and for no others."""
    listed = [{"name": a.name, "engine": a.served_name, "digest": a.digest} for a in adapters]
    probe.post(http, LISTING, {"adapters": listed})


def drop(http: "httpx.Client", adapter: Adapter) -> None:
    """Take it out of the engine. What is under way ends with it."""
    probe.send(http, UNLOADING, {"lora_name": adapter.served_name})


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def _whole(adapter: Adapter) -> None:
    folder = adapter.checkpoint.folder
    if checkpoints.verify(folder).digest != adapter.digest:
        what = f"{folder} holds another adapter than the one that {adapter.name} stands for"
        raise UserError(what, why="it was exported anew meanwhile", fix="serve adapters add FOLDER --name ANOTHER")
