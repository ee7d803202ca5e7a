"""What preflight found and the options to the job that a supervisor takes, and to that of another folder later on.

Decides whether two engines fit beside each other. Starts nothing.
"""

from pathlib import Path

from serve import command, preflight
from serve.command import Command, Options
from serve.machine import detect
from serve.preflight import Preflight
from serve.reloading import Plan, Remake
from serve.starting import Job
from tune import checkpoint
from tune.errors import UserError

FULL = {"S070", "S073"}  # findings about memory that the engine which serves may hold


def job(found: Preflight, options: Options, *, key: str, log: Path | None, ready_timeout: float) -> Job:
    """The job. `log` None: beside the folder, and of this server alone."""
    folder = found.checkpoint.folder
    whole = folder.resolve()
    return Job(
        command=engine(found, options),
        host=options.host,
        port=options.port,
        model=command.served_names(found.checkpoint, options)[0],
        checkpoint=found.checkpoint,
        policy=options.policy,
        key=key,
        drain=options.drain,
        hang_after=options.hang_after,
        log=log or whole.with_name(f"serve-{whole.name}-{options.port}.log"),
        ready_timeout=ready_timeout,
        tls=options.tls,
        proof=lambda: _prove(folder),
    )


def engine(found: Preflight, options: Options) -> Command:
    """The engine's command line, on the machine that was looked at."""
    here = found.checkpoint.model_copy(update={"folder": found.checkpoint.folder.resolve()})
    machine, cache = found.machine, found.figures["cache_bytes"]
    return command.build(
        here,
        options,
        device=machine.device,
        kv_bytes=cache,
        cores=machine.cores,
        dtype="bfloat16" if machine.bfloat16 else "float32",
    )


def remake(found: Preflight, options: Options, *, key: str, log: Path | None, ready_timeout: float) -> Remake:
    """What makes a job of another folder while that of `found` runs."""
    taken, alone = found.figures["need_bytes"], options.model_copy(update={"port": 0})  # its own port is in use

    def made(folder: Path) -> Plan:
        now = detect()
        looked = preflight.check(folder, alone, now, digests=False)
        beside = not any(problem.id in FULL for problem in looked.errors)
        if not beside:  # once more, for when the engine that serves has gone
            emptied = now.model_copy(update={"memory": now.total or now.memory + taken})
            looked = preflight.check(folder, alone, emptied, digests=False)
        if looked.errors:
            what = f"{folder} is not served: {'; '.join(p.what for p in looked.errors)}"
            raise UserError(what, why="; ".join(p.why for p in looked.errors if p.why), fix=f"serve preflight {folder}")
        return Plan(job(looked, options, key=key, log=log, ready_timeout=ready_timeout), beside)

    return made


def _prove(folder: Path) -> None:
    checkpoint.verify(folder)
