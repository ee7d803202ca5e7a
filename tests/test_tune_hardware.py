"""What this machine has, and what is said when a GPU is there that cannot be used."""

import stat
from pathlib import Path

import pytest
import torch

from tune.errors import UserError
from tune.training.machine import hardware
from tune.training.machine.hardware import GB, Gpu, Hardware

KERNELS = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024": "535.183.01",
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs)": "580.159.04",
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)": "",
}


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Makes `nvidia-smi` a program that answers each query with the given lines, in the real one's format."""

    def answer(**replies: str) -> None:
        cases = "\n".join(f'--query-{name.replace("_", "-")}=*) printf "{text}\\n";;' for name, text in replies.items())
        program = tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return answer


def test_this_machine_is_described():
    found = hardware.here()
    assert found.free_bytes > 0
    assert found.cores > 0
    shown = hardware.table(found)
    assert f"{found.cores} cores" in shown
    assert f"memory     {found.free_bytes / GB:.1f} GB free" in shown


def test_a_small_gpu_is_warned_of_and_a_large_one_is_not():
    large = Gpu("H100", 79 * GB, 80 * GB, "9.0")
    machine = Hardware("a processor", 16, 100 * GB, False, (large, Gpu("T4", 10 * GB, 11 * GB)), "580.1", "13.0")
    lines = hardware.table(machine).splitlines()
    assert lines[0] == "GPU 0      H100, 79.0 of 80.0 GB free, compute capability 9.0"
    assert "driver     580.1, torch built for CUDA 13.0" in lines
    assert [line for line in lines if line.startswith("warning")] == [
        "warning: GPU 1 has 11.0 GB; gpt-oss-20b needs 15 GB to be tuned, even with its experts kept packed"
    ]
    assert "GPU        none" in hardware.table(machine._replace(gpus=()))


@pytest.mark.parametrize(("line", "version"), KERNELS.items())
def test_the_driver_is_read_from_its_kernel_module(tmp_path, monkeypatch, line, version):
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    (tmp_path / "version").write_text(line + "\n")
    assert hardware.driver_version(tmp_path / "version") == version
    assert hardware.driver_version(tmp_path / "missing") == ""


def test_a_driver_too_old_for_torch_is_an_error_and_no_fall_to_the_cpu(nvidia_smi, monkeypatch):
    nvidia_smi(gpu="535.183.01")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match=r"driver 535\.183\.01 is too old") as caught:
        hardware.here()
    assert caught.value.why == "torch is built for CUDA 13.0, which needs driver 580 or later"
    assert "CUDA_VISIBLE_DEVICES= tune train" in caught.value.fix
    nvidia_smi(gpu="580.65.06")
    with pytest.raises(UserError, match=r"torch cannot use it\n  why: .*torch is built for CUDA 13\.0") as caught:
        hardware.here()
    assert "docker run --gpus all" in caught.value.fix
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the user's own word
    assert hardware.here().gpus == ()


def test_a_torch_without_cuda_says_that_a_gpu_lies_idle(nvidia_smi, monkeypatch):
    nvidia_smi(gpu="580.65.06")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = hardware.here()
    assert "(driver 580.65.06), and this torch is built without CUDA" in found.trains_on
    assert found.unused in hardware.table(found)


def test_what_nvidia_smi_tells(nvidia_smi, monkeypatch, tmp_path):
    nvidia_smi(
        gpu=r"NVIDIA H100 80GB HBM3, 4000, 77000, 9.0, GPU-a\nNVIDIA H100 80GB HBM3, 81000, 0, 9.0, GPU-b",
        compute_apps=r"GPU-a, 7, python, 76000\nGPU-b, 8, python, 5\nGPU-a, 9, [Not Found], [N/A]",
    )
    first, second = hardware.cards()
    assert (first.free_bytes, first.total_bytes, second.uuid) == (4000 * 2**20, 81000 * 2**20, "GPU-b")
    assert hardware.others_on(first) == ["python (pid 7) 79.7 GB", "[Not Found] (pid 9)"]
    nvidia_smi(gpu="NVIDIA-SMI has failed")
    assert hardware.cards() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert hardware.cards() == ()
    assert hardware.others_on(first) == []
    assert Path("/proc/meminfo").is_file()
