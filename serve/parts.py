"""An engine's parts on several hosts: options in, the options of each part out.

vLLM's own way, without Ray: each process is told how many hosts there are, which one it is and where the first is. The
first has the server and the supervisor; the others are the engine without one. Pure.
"""

from collections.abc import Mapping

from serve.command import Options
from serve.memory import Tuning
from serve.middleware import SETTINGS
from serve.tls import TLS
from tune.errors import UserError

OWN = "VLLM_HOST_IP"  # by which the others reach a host that has several addresses
JOIN = 600  # seconds that a host waits for the others, beside what a start takes
PORT = 29501  # of the first host, where the others find it; more are chosen by the engine
SERVERS = {SETTINGS, TLS}  # what a host without a server has no use for


def shared(tuning: Tuning, hosts: int) -> None:
    """Raise UserError unless these GPUs can be shared out among so many hosts."""
    each = tuning.tensor_parallel * tuning.pipeline_parallel
    total = each * tuning.data_parallel
    if total % hosts:
        what = f"{total} GPUs cannot be shared out among {hosts} hosts"
        why = "--tensor-parallel times --data-parallel is how many there are, and each host has as many"
        raise UserError(
            what, why=why, fix=f"--tensor-parallel {hosts} ([serve] tensor_parallel), or another multiple of {hosts}"
        )
    groups = tuning.data_parallel // max(1, total // hosts // each)
    if hosts % groups:  # as vLLM's ParallelConfig.nnodes_within_dp holds it
        what = f"{tuning.data_parallel} models of {each} GPUs cannot be shared out among {hosts} hosts"
        why = "a host has whole models, or a model has whole hosts"
        raise UserError(what, why=why, fix=f"--data-parallel {hosts} ([serve] data_parallel), or 1")


def counted(options: Options, hosts: int) -> Options:
    """The options of an engine on so many hosts, whichever it is. Raises UserError where GPUs cannot be shared out."""
    shared(options.tuning, hosts)
    return options.model_copy(update={"extra": (*options.extra, "--nnodes", str(hosts))})


def ranked(rank: int, first: str, port: int = PORT) -> tuple[str, ...]:
    """What the engine is told of the host of that rank, beside how many there are. `first`: the address of rank 0."""
    return ("--node-rank", str(rank), "--master-addr", first, "--master-port", str(port))


def part(options: Options, rank: int, first: str, port: int) -> Options:
    """The options of the host of that rank."""
    return options.model_copy(update={"extra": (*options.extra, *ranked(rank, first, port))})


def serverless(env: Mapping[str, str]) -> dict[str, str]:
    """Of an engine's environment what a host without a server has use for."""
    return {name: value for name, value in env.items() if name not in SERVERS}
