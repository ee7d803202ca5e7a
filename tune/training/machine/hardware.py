"""What this machine has to train on: GPUs, their driver, processor, memory. Reads, never loads a model.

A GPU that torch cannot use is an error with its reason, never a silent fall to the CPU.
"""

import os
import platform
import re
import subprocess
import warnings
from pathlib import Path
from typing import NamedTuple

from tune import ram
from tune.errors import UserError, reason

GB = 1_000_000_000
SMALL = 15 * GB  # need.py's total of gpt-oss-20b, packed, is 14.1 GB for 2 rows of 512 tokens
# The oldest driver branch that runs each CUDA: "CUDA minor version compatibility" in NVIDIA's CUDA release notes.
OLDEST_DRIVER = {"11": 450, "12": 525, "13": 580}
ON_CPU = "CUDA_VISIBLE_DEVICES= tune train   # to train on the CPU"


class Gpu(NamedTuple):
    """One GPU as CUDA shows it; bytes that a process can still take, and all. `uuid` is how nvidia-smi names it."""

    name: str
    free_bytes: int
    total_bytes: int = 0
    capability: str = ""  # "9.0"
    uuid: str = ""


class Hardware(NamedTuple):
    """`free_bytes` is RAM that can be had now; `amx` is what vLLM's MXFP4 kernels on CPU ask for. `unused` says why
    a GPU that is there is not among `gpus`."""

    processor: str
    cores: int
    free_bytes: int
    amx: bool
    gpus: tuple[Gpu, ...]
    driver: str = ""
    cuda: str = ""  # what torch is built for; "": no CUDA
    unused: str = ""

    @property
    def trains_on(self) -> str:
        if self.gpus:
            return f"{self.gpus[0].name} GPU"
        return f"CPU, {self.cores} cores" + (f"; {self.unused}" if self.unused else "")


def here() -> Hardware:
    """This machine, as torch sees it. Raises UserError when torch is built for GPUs, one is there, and it cannot be
    used; CUDA_VISIBLE_DEVICES set to nothing is the user's word for the CPU."""
    import torch

    cuda, driver, unused = torch.version.cuda or "", driver_version(), ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what is raised below
        usable = torch.cuda.is_available()
    if driver and not usable and os.environ.get("CUDA_VISIBLE_DEVICES") not in {"", "-1"}:
        if cuda:
            raise unusable(driver, cuda, _said())
        unused = f"an NVIDIA GPU is here (driver {driver}), and this torch is built without CUDA"
    flags = _lines("/proc/cpuinfo")
    name = next((line.split(":")[1].strip() for line in flags if line.startswith("model name")), platform.processor())
    amx = any("amx_tile" in line for line in flags if line.startswith("flags"))
    gpus = tuple(_gpu(i) for i in range(torch.cuda.device_count())) if usable else ()
    return Hardware(name, len(os.sched_getaffinity(0)), ram.free(), amx, gpus, driver, cuda, unused)


def table(machine: Hardware) -> str:
    """The machine for people, a line a thing, and a warning for each GPU that is small for GPT-OSS."""
    lines = [
        f"GPU {i}      {g.name}, {g.free_bytes / GB:.1f} of {g.total_bytes / GB:.1f} GB free"
        + (f", compute capability {g.capability}" if g.capability else "")
        for i, g in enumerate(machine.gpus)
    ] or [f"GPU        none{': ' + machine.unused if machine.unused else ''}"]
    if machine.gpus:
        lines.append(f"driver     {machine.driver or 'unknown'}, torch built for CUDA {machine.cuda}")
    lines.append(f"processor  {machine.processor}, {machine.cores} cores{', AMX' if machine.amx else ''}")
    lines.append(f"memory     {machine.free_bytes / GB:.1f} GB free")
    lines += [
        f"warning: GPU {i} has {g.total_bytes / GB:.1f} GB; gpt-oss-20b needs 15 GB to be tuned, even with its experts"
        " kept packed"
        for i, g in enumerate(machine.gpus)
        if g.total_bytes < SMALL
    ]
    return "\n".join(lines)


def unusable(driver: str, cuda: str, said: str) -> UserError:
    """The error of a GPU whose `driver` torch, built for `cuda`, cannot work with; `said` is what torch says."""
    oldest = OLDEST_DRIVER.get(cuda.partition(".")[0], 0)
    if int(driver.partition(".")[0]) < oldest:
        return UserError(
            f"this machine's NVIDIA driver {driver} is too old for this torch",
            why=f"torch is built for CUDA {cuda}, which needs driver {oldest} or later",
            fix=f"update the driver, or install a torch for an older CUDA (pytorch.org/get-started)\n       {ON_CPU}",
        )
    return UserError(
        f"there is an NVIDIA GPU (driver {driver}), and torch cannot use it",
        why=f"{said or 'CUDA shows no device'}; torch is built for CUDA {cuda}",
        fix=f"nvidia-smi   # must list a GPU; in a container: docker run --gpus all\n       {ON_CPU}",
    )


def driver_version(kernel: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The NVIDIA driver's version, as its kernel module or nvidia-smi tells; "" where there is none."""
    for line in _lines(str(kernel)):
        if found := re.search(r"\s(\d{3}\.[\d.]+\d)\s", f"{line} "):
            return found[1]
    answers = smi("--query-gpu=driver_version")
    return answers[0][0] if answers and re.fullmatch(r"\d[\d.]*", answers[0][0]) else ""


def cards() -> tuple[Gpu, ...]:
    """Every GPU of this machine, CUDA_VISIBLE_DEVICES or not, in nvidia-smi's order. Takes no memory of them, as
    asking torch does."""
    found = smi("--query-gpu=name,memory.free,memory.used,compute_cap,uuid")
    try:  # free and used leave out what the driver keeps
        return tuple(
            Gpu(name, int(free) * 2**20, (int(free) + int(used)) * 2**20, capability, uuid)
            for name, free, used, capability, uuid in found
        )
    except ValueError:
        return ()


def others_on(gpu: Gpu) -> list[str]:
    """The processes that hold memory of a GPU, as "python (pid 7) 70.1 GB"; [] where nvidia-smi cannot tell."""
    rows = [row for row in smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory") if len(row) == 4]
    return [
        f"{name} (pid {pid})" + (f" {int(used) * 2**20 / GB:.1f} GB" if used.isdigit() else "")
        for uuid, pid, name, used in rows
        if uuid == gpu.uuid and pid != str(os.getpid())
    ]


def smi(query: str) -> list[list[str]]:
    """What nvidia-smi answers, a list of values a line; [] where it is missing or fails."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[value.strip() for value in line.split(",")] for line in out.splitlines() if line.strip()]


def _gpu(index: int) -> Gpu:
    import torch

    about = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return Gpu(about.name, free, total, f"{about.major}.{about.minor}", f"GPU-{about.uuid}")


def _said() -> str:
    """Why CUDA does not start, in torch's words."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except (RuntimeError, AssertionError) as e:
        return reason(e)
    return ""


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
