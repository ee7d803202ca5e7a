"""`tune train` on several GPUs or hosts: accelerate starts a process a GPU; one of them speaks, and one error is told.

In: a recipe and where it lies. Out: the exit code of the training. Inside a worker the same command just trains.
"""

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tune.errors import UserError
from tune.recipe import Recipe
from tune.training.machine import fitting, hardware
from tune.training.machine.need import world
from tune.training.processes import worker
from tune.weights import shards
from tune.weights.base_model import base_of

PORT = 29500  # of the first host, which the others must reach
NO_CONFIG = Path(__file__).with_name("accelerate.json")  # else accelerate reads the one in the user's home
FSDP = {
    "fsdp_version": "2",
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_transformer_layer_cls_to_wrap": "GptOssDecoderLayer",
    "fsdp_reshard_after_forward": "true",
    "fsdp_state_dict_type": "FULL_STATE_DICT",
    "fsdp_cpu_ram_efficient_loading": "false",  # each process reads its own files, and checks them
    "fsdp_activation_checkpointing": "false",  # TRL's gradient_checkpointing does it
}


def needed(recipe: Recipe) -> bool:
    """Whether `tune train` has to start workers: the recipe asks for several, and this is none."""
    return world(recipe.train) > 1 and not worker.inside()


def arguments(
    path: Path, recipe: Recipe, host_rank: int = 0, *, fsdp: bool = False, threads: int = 1, more: Sequence[str] = ()
) -> list[str]:
    """What accelerate's launcher is told, every choice in it; `more` are further options of `tune train`."""
    hosts = recipe.train.hosts
    flags = [
        f"--config_file={NO_CONFIG}",
        f"--num_processes={world(recipe.train)}",
        f"--num_machines={max(1, len(hosts))}",
        f"--machine_rank={host_rank}",
        *([f"--main_process_ip={hosts[0]}", f"--main_process_port={PORT}"] if len(hosts) > 1 else []),
        *([] if len(hosts) > 1 else ["--main_process_port=0"]),  # any that is free
        "--mixed_precision=no",  # TRL's bf16 does it
        "--dynamo_backend=no",
        f"--num_cpu_threads_per_process={threads}",
        *(["--use_fsdp", *(f"--{k}={v}" for k, v in FSDP.items())] if fsdp else ["--multi_gpu"]),
        "--module",
    ]
    return [*flags, "tune", "train", f"--recipe={path}", *more]


def run(
    path: Path,
    recipe: Recipe,
    host_rank: int | None = None,
    *,
    report: Callable[[str], None],
    more: Sequence[str] = (),
) -> int:
    """Train with all workers of this host and return the exit code: 0, or what the first that failed left with.

    That worker's error is told here. accelerate's launcher runs in this process: as a program it would
    leave with 1 whatever happened, under two tracebacks.
    """
    import torch

    settings, gpus = recipe.train, torch.cuda.device_count()  # counted without taking memory
    here = host_rank_of(settings.hosts) if host_rank is None else host_rank
    if not 0 <= here < max(1, len(settings.hosts)):
        raise UserError(f"--host-rank {here} is no host of [train] hosts", fix="tune train --host-rank 0")
    if not gpus:
        hardware.here()  # says so when a GPU is here and cannot be used
    elif gpus < settings.gpus:
        raise UserError(
            f"train.gpus = {settings.gpus}, and {gpus} can be seen here", fix=f"set train.gpus = {gpus}, or: nvidia-smi"
        )
    fsdp = bool(gpus) and fitting.spread(shards.config(base_of(recipe).folder), recipe.train, recipe.dataset.max_tokens)
    threads = max(1, len(os.sched_getaffinity(0)) // settings.gpus)
    argv = arguments(path, recipe, here, fsdp=fsdp, threads=threads, more=more)
    device = f"{settings.gpus} GPUs" if gpus else f"{settings.gpus} processes on the CPU"
    where = f"host {here} of {len(settings.hosts)}, " if settings.hosts else ""
    each = f"{settings.batch} x {settings.accumulate} x {world(settings)}"
    total = settings.batch * settings.accumulate * world(settings)
    report(f"train: {where}{device}{', weights spread over all' if fsdp else ''}; {each} = {total} rows a step")
    return start(argv, cpu=not gpus)


def host_rank_of(hosts: Sequence[str]) -> int:
    """Which of `hosts` this machine is: the one whose address is one of its own. UserError when none or several are."""
    mine = [n for n, host in enumerate(hosts) if _is_here(host)]
    if len(mine) == 1 or len(hosts) < 2:
        return mine[0] if mine else 0
    raise UserError(
        f"this machine is {'several' if mine else 'none'} of [train] hosts: {', '.join(hosts)}",
        why=f"it calls itself {socket.gethostname()}",
        fix="tune train --host-rank 0   # on the first of them; 1 on the second, and so on",
    )


def start(argv: list[str], *, cpu: bool) -> int:
    """Run accelerate's launcher on `argv` in this process; on the `cpu` the workers talk over gloo."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "FSDP_"))]:
        del os.environ[name]  # it would be heeded without a word
    if cpu:
        os.environ |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    logging.disable(logging.CRITICAL)  # the agent's account of a failure, a screen long
    with tempfile.TemporaryDirectory() as logs:
        try:
            launch_command(launch_command_parser().parse_args([f"--log_dir={logs}", *argv]))
        except ChildFailedError as e:
            return worker.failed(e.failures, Path(logs))
        except SignalException as e:
            return 128 + int(e.sigval)
        except (ConnectionError, TimeoutError, DistError, RendezvousError) as e:
            why = str(e).strip().partition("\n")[0]
            fix = f"start tune train on every host; the first one's port {PORT} must be free and open to the others"
            raise UserError("the workers did not come together", why=why, fix=fix) from None
    return 0


def _is_here(host: str) -> bool:
    """Whether `host` is an address of this machine: only those can be bound to."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, _, _, address in found:
        with socket.socket(family, kind) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False
