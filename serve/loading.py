"""An adapter into a running engine, proven there before any client may ask for it, and out again. Knows only HTTP.

vLLM says 200 to an adapter of which it applies nothing, and reads an adapter's files again whenever it has let it go.
So it reads a copy that nobody else writes to, and is asked about the fixed prompt under both names: the answers must
differ as the canaries of base and adapter do, and the adapter's be near its own canary.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from serve import probe
from serve.adapters import Adapter
from serve.doors import LISTING, LOADING, UNLOADING
from tune import checkpoint as checkpoints
from tune.checkpoint import Canary
from tune.errors import UserError, reason
from tune.harmony import PROBE, render_prompt

if TYPE_CHECKING:
    import httpx

SHARE = 0.25  # of the way from the base's canary to the adapter's, at least so much must be seen
SEEN = 0.001  # nats a token: of a shorter way no share can be told from rounding


def keep(adapter: Adapter, shelf: Path) -> Adapter:
    """The adapter with a copy of its own on `shelf`. Raises UserError when it is another by now."""
    place = shelf / adapter.served_name
    shutil.rmtree(place, ignore_errors=True)
    try:
        shutil.copytree(adapter.checkpoint.folder, place)
    except OSError as e:
        fix = "make room there, or set TMPDIR; then again"
        raise UserError(f"{adapter.name} cannot be copied to {shelf}", why=reason(e), fix=fix) from None
    if checkpoints.verify(place).digest != adapter.digest:
        what = f"{adapter.checkpoint.folder} holds another adapter than the one that {adapter.name} stands for"
        raise UserError(what, why="it was exported anew meanwhile", fix="the same command again")
    return adapter.model_copy(update={"copy_at": place})


def load(http: "httpx.Client", model: str, adapter: Adapter, base: Canary, ranks: int = 1) -> None:
    """Load and prove it beside `model`, whose canary is `base`. Raises UserError; then the engine holds it no more."""
    path = str(adapter.read.folder.resolve())
    try:
        probe.send(http, LOADING, {"lora_name": adapter.served_name, "lora_path": path, "is_3d_lora_weight": True})
        for _ in probe.each_rank(http, ranks):
            prove(http, model, adapter, base)
    except BaseException:
        with suppress(UserError):  # the cause is what is told
            drop(http, adapter)
        raise


def prove(http: "httpx.Client", model: str, adapter: Adapter, base: Canary) -> None:
    """Raise UserError unless the engine answers as base and adapter together do, and not as the base.

    What moves at random, as a busy GPU's rounding does, moves no way: counted is what goes the way of the canaries.
    """
    canary, date = checkpoints.canary(adapter.read), adapter.checkpoint.prompt_date
    for effort in canary.logprobs:
        ids = render_prompt(PROBE, effort, date)
        moved = _less(probe.prompt_logprobs(http, adapter.served_name, ids), probe.prompt_logprobs(http, model, ids))
        meant = _less(canary.logprobs[effort], base.logprobs[effort])
        far = sum(map(abs, meant)) / len(meant)
        share = sum(a * b for a, b in zip(moved, meant, strict=True)) / (sum(b * b for b in meant) or 1)
        if not (share > SHARE if far > SEEN else any(moved)):  # NaN is not
            raise UserError(
                f"the engine answers under the name {adapter.name} as the base does, at effort {effort}",
                why=f"the fixed prompt moves {share:.0%} of the way that is meant, {far:.4f} nats a token on average",
                fix="tune check on the adapter's folder; then look at what follows -- on the server's command line",
            )
    probe.check_canary(http, adapter.served_name, date, canary)


def show(http: "httpx.Client", adapters: Sequence[Adapter]) -> None:
    """Let clients ask for these adapters, and for no others."""
    listed = [{"name": a.name, "engine": a.served_name, "digest": a.digest} for a in adapters]
    probe.post(http, LISTING, {"adapters": listed})


def drop(http: "httpx.Client", adapter: Adapter) -> None:
    """Take its name out of the engine. What is under way goes on."""
    probe.send(http, UNLOADING, {"lora_name": adapter.served_name})


def _less(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]
