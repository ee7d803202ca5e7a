"""A checkpoint on several hosts: preflight's findings, options and addresses in, the command of each host out.

vLLM's own way, without Ray: each process is told how many hosts there are, which one it is and where the first is. The
first has the server and the supervisor; the others are the engine without one. Pure; no secret enters it.
"""

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from serve import jobs
from serve.command import Options
from serve.middleware import SETTINGS
from serve.preflight import Preflight
from serve.tls import TLS
from tune.errors import UserError

OWN = "VLLM_HOST_IP"  # by which the others reach a host that has several addresses
SERVERS = {SETTINGS, TLS}  # what a host without a server has no use for


class Host(NamedTuple):
    """One host and what is to be run there."""

    address: str
    command: str


def checked(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses. Raises UserError unless there are several, each once, that a command line can hold."""
    if len(set(addresses)) < 2 or len(set(addresses)) < len(addresses):
        what = "several hosts are needed, each named once"
        raise UserError(what, fix="serve hosts FOLDER --host 10.0.0.1 --host 10.0.0.2 --tensor-parallel 2")
    for address in addresses:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:-]*", address):
            raise UserError(
                f"--host {address!r} is no address", fix="--host 10.0.0.1, by which the other hosts reach it"
            )
    return tuple(addresses)


def spread(options: Options, addresses: Sequence[str], port: int, rank: int = 0) -> Options:
    """The options of the host of that rank. Raises UserError where the GPUs cannot be shared out among the hosts."""
    tuning, hosts = options.tuning, len(addresses)
    each = tuning.tensor_parallel * tuning.pipeline_parallel
    total = each * tuning.data_parallel
    if total % hosts:
        what = f"{total} GPUs cannot be shared out among {hosts} hosts"
        why = "--tensor-parallel times --data-parallel is how many there are, and each host has as many"
        raise UserError(what, why=why, fix=f"--tensor-parallel {hosts}, or another multiple of {hosts}")
    groups = tuning.data_parallel // max(1, total // hosts // each)
    if hosts % groups:  # as vLLM's ParallelConfig.nnodes_within_dp holds it
        what = f"{tuning.data_parallel} models of {each} GPUs cannot be shared out among {hosts} hosts"
        why = "a host has whole models, or a model has whole hosts"
        raise UserError(what, why=why, fix=f"--data-parallel {hosts}, or --data-parallel 1")
    told = ("--nnodes", hosts, "--node-rank", rank, "--master-addr", addresses[0], "--master-port", port)
    return options.model_copy(update={"extra": (*options.extra, *map(str, told))})


def commands(found: Preflight, options: Options, addresses: Sequence[str], port: int, run: Sequence[str]) -> list[Host]:
    """The command of each host. `run`: what follows `serve run FOLDER` on the first, as far as the --."""
    ranked = [spread(options, addresses, port, rank) for rank in range(len(addresses))]
    folder = str(found.checkpoint.folder.resolve())
    first = ["env", f"{OWN}={addresses[0]}", "serve", "run", folder, *run, "--", *ranked[0].extra]
    made = [Host(addresses[0], shlex.join(first))]
    for address, told in list(zip(addresses, ranked, strict=True))[1:]:
        built = jobs.engine(found, told)
        env = {name: value for name, value in built.env.items() if name not in SERVERS} | {OWN: address}
        words = ["env", *(f"{name}={value}" for name, value in env.items()), "python", *built.argv[1:], "--headless"]
        made.append(Host(address, shlex.join(words)))
    return made
