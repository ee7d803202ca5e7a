"""What Triton would make when a step first needs it is made beside the engine's loading, by idle processors.

vLLM 0.32's routing of experts has a stride in its kernels that is a constant of theirs (stride_rn, stride_bn: a step's
tokens, rounded up to 32), so that each 32 tokens more are two kernels more, and a client waits 0.6 s for each: for
hundreds of sizes, days after the start. Made here they lie in Triton's cache when the engine asks for them. Nothing is
launched, and no GPU is needed or touched. Imports of vLLM only the kernels that it brings.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from serve.machine import kernel
from serve.warming import CHOSEN
from tune.checkpoint import Checkpoint

WANTED = "GPTOSS_KIT_KERNELS"  # environment variable of the launcher: the experts, and the tokens of a step at most
CACHE = "TRITON_CACHE_DIR"
ROUNDED = 32  # tokens
HOPPER = 90  # what a GPU on which vLLM takes these kernels computes: sm_90
WARP = 32
AHEAD = 8  # sizes that a process takes at once
MOST = 16  # processes, each of some 300 MB


def env(found: Checkpoint, gpu: str, experts: int, step: int, *, adapted: bool = False) -> dict[str, str]:
    """What tells the launcher to have them made, for steps of at most so many tokens; nothing where the engine
    multiplies such a checkpoint's experts, or those that have adapters, by other kernels."""
    if found.format != "mxfp4" or kernel(gpu, adapted=adapted) != "triton":
        return {}
    return {WANTED: f"{experts} {step}"}


def begin() -> None:
    """Have made what WANTED says, by a process of this one's group. The engine that follows uses the same cache."""
    if not os.environ.get(WANTED):
        return
    home = os.path.expanduser("~")  # noqa: PTH111 - which a user may lack
    caches = os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache"
    root = os.environ.get("VLLM_CACHE_ROOT") or Path(caches) / "vllm"  # as vLLM has it
    os.environ.setdefault(CACHE, str(Path(root) / "triton"))
    subprocess.Popen([sys.executable, "-m", "serve.kernels"], stdin=subprocess.DEVNULL)


def sizes(longest: int) -> Iterator[int]:
    """Counts of tokens, the shortest first, that need what any count up to `longest` does: the last two of each 32,
    since Triton makes what is for multiples of 16 apart, and what is for 1."""
    yield 1
    for top in range(ROUNDED, longest + ROUNDED, ROUNDED):
        yield from (top - 1, top)


def main() -> None:
    """Make all that WANTED names, with all processors but two and MOST of them, at the lowest priority."""
    began, (experts, longest) = time.monotonic(), map(int, os.environ[WANTED].split())
    os.nice(19)
    try:
        _prepare()
    except ImportError as e:
        sys.exit(f"serve.kernels: kernels are made when they are first needed: {e}")
    workers = min(max(1, len(os.sched_getaffinity(0)) - 2), MOST)
    with get_context("fork").Pool(workers) as pool:
        made = sum(pool.imap_unordered(partial(make, experts), sizes(longest), chunksize=AHEAD))
    took = time.monotonic() - began
    sys.stderr.write(f"serve.kernels: {made} kernels made for steps up to {longest} tokens in {took:.0f} s\n")


def make(experts: int, tokens: int) -> int:
    """Have made what routing so many tokens needs, as far as the cache lacks it. How many kernels that were."""
    import torch
    from triton import knobs
    from triton_kernels.routing import routing

    made = []
    knobs.compilation.listener = lambda *, cache_hit, **_: made.append(not cache_hit)
    routing(torch.empty(tokens, experts, dtype=torch.bfloat16), CHOSEN)
    return sum(made)


def _prepare() -> None:
    """Triton for a GPU that need not be there, launching nothing; and vLLM's kernels by the name that vLLM gives them,
    which is part of what Triton's cache is asked for."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    class Device:
        """What Triton asks of a driver before it launches."""

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, _: int) -> int:
            return 0

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", HOPPER, WARP)

    torch.set_num_threads(1)
    driver.set_active(Device())
    run = JITFunction.run

    def prepared(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:  # noqa: ARG001
        return run(kernel, *args, grid=grid, warmup=True, **kwargs)

    JITFunction.run = prepared
    if find_spec("triton_kernels") is None and (vllm := find_spec("vllm")) and vllm.origin:
        sys.path.append(str(Path(vllm.origin).parent / "third_party"))
    import triton_kernels.routing  # noqa: F401 - before the processes are forked


if __name__ == "__main__":
    main()
