"""What preflight found and the options to the job that a supervisor takes, and to that of another folder later on.

Decides whether two engines fit beside each other. Starts nothing.
"""

from pathlib import Path
from typing import Any

from serve import command, contents, kernels, preflight, profiles
from serve.command import Command, Options
from serve.machine import detect
from serve.preflight import Preflight
from serve.reloading import Plan, Remake
from serve.starting import Job
from serve.warming import Wave, waves
from tune import checkpoint
from tune.checkpoint import Checkpoint
from tune.errors import UserError

FULL = {"S070", "S073"}  # findings about memory that the engine which serves may hold


def job(found: Preflight, options: Options, *, key: str, log: Path | None, ready_timeout: float) -> Job:
    """The job. `log` None: `log_of` the folder."""
    folder = found.checkpoint.folder
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
        log=log or log_of(folder, options.port),
        ready_timeout=ready_timeout,
        tls=options.tls,
        proof=lambda: _prove(found.checkpoint),
        need=found.figures["need_bytes"],
        adapters=found.adapters,
        room=found.room,
        device=found.machine.device,
        ranks=options.tuning.data_parallel,
        waves=_waves(found, options) if found.machine.device == "cuda" else (),
    )


def _waves(found: Preflight, options: Options) -> tuple[Wave, ...]:
    """What the engine is asked before it is ready."""
    return waves(options.max_model_len, _step(found, options), _experts(found))


def log_of(folder: Path, port: int) -> Path:
    """Beside the folder, and of this server alone."""
    whole = folder.resolve()
    return whole.with_name(f"serve-{whole.name}-{port}.log")


def engine(found: Preflight, options: Options) -> Command:
    """The engine's command line, on the machine that was looked at."""
    here = found.checkpoint.model_copy(update={"folder": found.checkpoint.folder.resolve()})
    machine, cache = found.machine, found.figures["cache_bytes"]
    built = command.build(
        here,
        profiles.on(options, machine.kind),
        device=machine.device,
        kv_bytes=cache,
        cores=machine.cores,
        dtype="bfloat16" if machine.bfloat16 else "float32",
        room=found.room,
    )
    adapted = found.room is not None and found.room.experts
    early = kernels.env(here, machine.kind, _experts(found), _step(found, options), adapted=adapted)
    return built._replace(env={**built.env, **early})


def _experts(found: Preflight) -> int:
    return contents.shape(found.checkpoint.folder).num_local_experts


def _step(found: Preflight, options: Options) -> int:
    """Tokens of one step of the engine, at most."""
    return profiles.on(options, found.machine.kind).tuning.batched_tokens


def remake(options: Options, *, key: str, log: Path | None, ready_timeout: float) -> Remake:
    """What makes a job of another folder while one runs."""
    alone = options.model_copy(update={"port": 0})  # its own port is in use

    def made(folder: Path, serving: Job) -> Plan:
        if options.tuning.hosts > 1:
            why = "the other hosts' parts of the engine hold the one before"
            raise UserError("several hosts exchange no checkpoint", why=why, fix=f"end all, then serve hosts {folder}")
        now = detect()
        ours: dict[str, Any] = {"adapters": staying(folder, serving)}  # others than at the start, perhaps
        if room := serving.room:
            kept = {"adapter_rank": room.rank, "adapter_slots": room.slots, "adapter_experts": room.experts}
            ours |= kept
        there = alone.model_copy(update=ours)
        looked = preflight.check(folder, there, now, digests=False)
        beside = not any(problem.id in FULL for problem in looked.errors)
        if not beside:  # once more, for when the engine that serves has gone
            emptied = now.model_copy(update={"memory": now.total or now.memory + serving.need})
            looked = preflight.check(folder, there, emptied, digests=False)
        if looked.errors:
            what = f"{folder} is not served: {'; '.join(p.what for p in looked.errors)}"
            raise UserError(what, why="; ".join(p.why for p in looked.errors if p.why), fix=f"serve preflight {folder}")
        next_job = job(
            looked, there.model_copy(update={"port": options.port}), key=key, log=log, ready_timeout=ready_timeout
        )
        same = tuple(a for a in serving.adapters if a.name in ours["adapters"])
        next_job = next_job._replace(adapters=same, shelf=serving.shelf)
        if beside and next_job.log and next_job.log == serving.log:  # two engines' words in one would mislead
            own = f"{next_job.log.stem}-{looked.checkpoint.digest[:8]}{next_job.log.suffix}"
            next_job = next_job._replace(log=next_job.log.with_name(own))
        return Plan(next_job, beside)

    return made


def staying(folder: Path, serving: Job) -> dict[str, str]:
    """The folders of the adapters that are of the checkpoint in `folder` as well, by name."""
    if not serving.adapters:
        return {}
    known = checkpoint.bases(checkpoint.read(folder))
    return {a.name: str(a.read.folder) for a in serving.adapters if a.checkpoint.base_digest in known}


def _prove(found: Checkpoint) -> None:
    """Raise UserError unless the folder still holds that checkpoint, whole."""
    if checkpoint.verify(found.folder).digest != found.digest:
        what = f"{found.folder} holds another checkpoint than the one that this server was told to serve"
        raise UserError(what, why="it was exported anew meanwhile", fix="serve reload FOLDER, or serve run FOLDER")
