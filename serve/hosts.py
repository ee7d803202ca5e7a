"""A checkpoint on several hosts: preflight's findings, options and addresses in, the command of each host out.

What each part of the engine is told is serve.parts'. Pure; no secret enters it.
"""

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from serve import jobs, parts
from serve.command import Options
from serve.preflight import Preflight
from tune.errors import UserError


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


def commands(found: Preflight, options: Options, addresses: Sequence[str], port: int, run: Sequence[str]) -> list[Host]:
    """The command of each host. `run`: what follows `serve run FOLDER` on the first, as far as the --."""
    first, *others = addresses
    whole = parts.counted(options, len(addresses))
    folder = str(found.checkpoint.folder.resolve())
    told = parts.part(whole, 0, first, port).extra
    made = [Host(first, shlex.join(["env", f"{parts.OWN}={first}", "serve", "run", folder, *run, "--", *told]))]
    for rank, address in enumerate(others, 1):
        built = jobs.engine(found, parts.part(whole, rank, first, port))
        env = parts.serverless(built.env) | {parts.OWN: address}
        words = ["env", *(f"{name}={value}" for name, value in env.items()), "python", *built.argv[1:], "--headless"]
        made.append(Host(address, shlex.join(words)))
    return made
