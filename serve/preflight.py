"""Everything that can be known before the engine starts here, in seconds: all problems at once.

serve.contents judges the checkpoint and the options; here is what depends on this machine: installation, port,
processor, memory; or on a GPU that is only named. Loads no tensor, so that no value is looked at.
"""

import errno
import hashlib
import importlib.metadata
import os
import re
import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from serve import beside, contents, fitting, profiles, tls
from serve.adapters import Adapter, Room
from serve.command import Options
from serve.findings import Finding, finding, of_error, require
from serve.last_words import INSTALL
from serve.launcher import KNOWN
from serve.machine import Machine
from tune import checkpoint
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.weights.tensors import Shape

KERNEL_STEP = 32  # hidden and intermediate sizes of the CPU expert kernels
HOSTS = "--host 127.0.0.1 for this machine alone, --host 0.0.0.0 for every network"
UNREAD = "no value of a tensor is read, so NaN and infinity are not looked for: tune check FOLDER reads every one"


class Preflight(BaseModel):
    """What was found, and the figures it rests on: bytes of weights, of cache for the options, needed, free; on a GPU
    also those around them, and the full-length requests that the cache holds."""

    model_config = ConfigDict(frozen=True)

    checkpoint: Checkpoint
    machine: Machine
    problems: tuple[Finding, ...]
    figures: dict[str, int]
    adapters: tuple[Adapter, ...] = ()
    room: Room | None = None
    unchecked: tuple[str, ...] = (UNREAD,)

    @property
    def errors(self) -> list[Finding]:
        return [p for p in self.problems if p.severity == "error"]

    @property
    def where(self) -> str:
        """On which machine, in words."""
        return f"on {self.machine.gpus} x {self.machine.name}" if self.machine.name else "here"

    def require(self) -> None:
        """Raise one UserError that lists every error."""
        require(self.problems, f"{self.checkpoint.folder} cannot be served {self.where}")


def check(folder: Path, options: Options, machine: Machine, *, digests: bool = True) -> Preflight:
    """Look at a checkpoint folder and a machine. Raises UserError only when the folder holds no checkpoint at all.

    `digests`: prove every file's, too: 1 s a GB for what was not read before. `serve run` does that while the engine
    loads.
    """
    found = checkpoint.read(folder)
    problems: list[Finding] = []
    figures = {"free_bytes": machine.memory}
    problems += profiles.findings(options, machine.kind)
    options = profiles.on(options, machine.kind)
    try:
        (checkpoint.verify if digests else checkpoint.look)(folder)
    except UserError as e:
        problems.append(of_error("S001", e))
    if not machine.name:  # another has its own engine, ports and environment
        problems += _installation(machine)
        problems += _key(options)
        problems += _port(options)
        problems += tls.findings(options.tls) if options.tls else ()
    inside = contents.look(found, options)
    problems += inside.problems
    near = beside.Beside()
    if inside.shape and inside.tensors:
        near = beside.look(found, inside.shape, options, machine)
        problems += near.problems
        problems += _kernels(found, inside.shape, options, machine)
        held_by = fitting.on_cpu if machine.device == "cpu" else fitting.on_gpu
        problems += held_by(inside.shape, inside.tensors, options, machine, figures, near.room)
    return Preflight(
        checkpoint=found,
        machine=machine,
        problems=tuple(problems),
        figures=figures,
        adapters=near.adapters,
        room=near.room,
    )


def _installation(machine: Machine) -> Iterator[Finding]:
    version = tuple(int(n) for n in machine.vllm.split(".")[:2]) if machine.vllm else (0, 0)
    if not KNOWN[0] <= version < KNOWN[1]:
        why = f"{machine.vllm or 'none'} is installed; serving is tested with {KNOWN[0][0]}.{KNOWN[0][1]}"
        yield finding("S050", "this vLLM is not one that serve knows", why=why, fix=INSTALL)
    fix = "pip uninstall -y openai-harmony && pip install --force-reinstall --no-deps oss-harmony==0.0.11"
    try:
        files = importlib.metadata.files("oss-harmony") or []
    except importlib.metadata.PackageNotFoundError:
        why = "openai-harmony has the same module without the vocabulary"
        yield finding("S051", "oss-harmony is not installed", why=why, fix=fix)
        return
    for file in files:
        if file.parts[0] == "openai_harmony" and file.hash is not None:
            with Path(str(file.locate())).open("rb") as f:
                digest = hashlib.file_digest(f, file.hash.mode).digest()
            if urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                why = "another distribution wrote over it"
                yield finding("S051", f"{file} is not oss-harmony's", why=why, fix=fix)


def api_key(name: str) -> str:
    """The API key in the environment variable `name`. Raises UserError, which never shows it."""
    key = os.environ.get(name, "")
    if not key:
        what = f"the environment variable {name} is empty"
        raise UserError(what, why="it should hold the API key", fix=f"export {name}=...")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        what = f"the API key in {name} holds a space, a line break or a character that no header can carry"
        raise UserError(what, why="no client could send it", fix=f"export {name}=..., the key alone")
    return key


def _key(options: Options) -> Iterator[Finding]:
    try:
        if options.key_env:
            api_key(options.key_env)
    except UserError as e:
        yield of_error("S053", e)


def _port(options: Options) -> Iterator[Finding]:
    host, port = options.host, options.port
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, port))
    except (OSError, TypeError, UnicodeError) as e:  # the last two for a name that no resolver can be asked
        why = str(getattr(e, "strerror", None) or e)
        if isinstance(e, OSError) and e.errno in {errno.EADDRINUSE, errno.EACCES}:
            yield finding("S052", f"port {port} of {host} cannot be used", why=why, fix="--port 0 takes a free one")
        else:
            yield finding("S052", f"{host} is no address of this machine", why=why, fix=HOSTS)
        return
    if not (options.key_env or options.keys) and host not in {"127.0.0.1", "localhost", "::1"}:
        why = f"{host} is not this machine alone, and neither --api-key-env nor --keys is given"
        fix = "export KEY=..., then --api-key-env KEY"
        yield finding("S054", "anyone who reaches the port can use the model", why=why, fix=fix)


def _kernels(found: Checkpoint, shape: Shape, options: Options, machine: Machine) -> Iterator[Finding]:
    if machine.device != "cpu":
        return
    if options.tuning.data_parallel > 1:
        why = "the CPU engine cannot share a GPT-OSS's experts among them"
        yield finding("S060", "data-parallel engines need GPUs", why=why, fix="--data-parallel 1")
    uneven = [n for n in ("hidden_size", "intermediate_size") if getattr(shape, n) % KERNEL_STEP]
    if uneven:
        what = f"{found.folder}/config.json: {' and '.join(uneven)} cannot be served on a CPU"
        fix = f"serve it on a GPU: serve preflight {found.folder} --gpu L4 judges one"
        yield finding("S060", what, why="the CPU engine's expert kernels need multiples of 32", fix=fix)
    if machine.amx:
        return
    why = "this processor has no AMX (Intel's matrix instructions, from Sapphire Rapids on)"
    if not machine.bfloat16:
        why += ", and none for bfloat16: it computes in float32, which takes twice the memory"
    if found.format == "mxfp4":
        fix = "tune export --format merged serves here; or serve this one on a GPU, or on a CPU with AMX"
        yield finding("S060", "MXFP4 experts cannot be served on this processor", why=why, fix=fix)
    else:
        what = "the engine's portable expert kernel is used: right, but slower than with AMX"
        yield finding("S061", what, why=why, fix=f"nothing; or serve preflight {found.folder} --gpu L4 judges a GPU")
