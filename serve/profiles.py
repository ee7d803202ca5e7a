"""Named sets of engine flags, each for one kind of GPU: profiles.toml and Options in, Options with those flags out.

Decides what a profile is on a machine, and says so where it is nothing. Knows the machine by its GPU's name alone.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from serve import engine_flags
from serve.command import Options
from serve.findings import Finding, finding
from tune.recipe import Profile

Family = Literal["A100", "H100", "H200", "B200", "CPU"]
FAMILIES: tuple[Family, ...] = get_args(Family)
NAMES = tuple(name for name in get_args(Profile) if name != "none")


class Set(BaseModel):
    """Some flags of a profile. `unless`: those after `--` beside which they are left out: the engine refuses both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile
    on: tuple[Family, ...]
    flags: tuple[str, ...] = ()
    env: dict[str, str] = {}
    unless: tuple[str, ...] = ()
    measured: str  # machine and date; empty: not measured
    source: Annotated[str, Field(min_length=20)]


@cache
def sets() -> tuple[Set, ...]:
    """The table that comes with the package."""
    table = tomllib.loads(files("serve").joinpath("profiles.toml").read_text(encoding="utf-8"))
    return tuple(Set.model_validate(one) for one in table["set"])


def family(gpu: str) -> Family | None:
    """The kind that a GPU's name tells, as gpus.toml or its driver gives it ("CPU" for none); None for any other."""
    words = set(re.findall(r"[A-Z0-9]+", gpu.upper()))
    return next((kind for kind in FAMILIES if kind in words), None)


def on(options: Options, gpu: str, first: tuple[str, ...] = ()) -> Options:
    """The options with the flags that their profile has on such a GPU, but for rivals of what stands after `--`.

    `first`: flags that stand before those of the profile, which win.
    """
    kind, said = family(gpu), engine_flags.names(options.extra)
    chosen = [s for s in sets() if s.profile == options.profile and kind in s.on and not said.intersection(s.unless)]
    return options.model_copy(
        update={
            "profiled": (*first, *(word for one in chosen for word in one.flags)),
            "profile_env": {name: value for one in chosen for name, value in one.env.items()},
        }
    )


def findings(options: Options, gpu: str) -> Iterator[Finding]:
    """Whether the profile is one for this GPU, and changes anything there."""
    kind = family(gpu)
    if options.profile == "none":
        return
    if kind is None:
        what = f"--profile {options.profile} has no flags for {gpu or 'a GPU that tells no name'}"
        fix = '[serve] profile = "none" (serve run: --profile none), and the flags that you know of after --'
        yield finding("S042", what, why=f"they are known for {', '.join(FAMILIES)}", fix=fix)
    elif not any(s.profile == options.profile and kind in s.on for s in sets()):
        what = f"--profile {options.profile} changes nothing on a {kind}"
        why = "what it changes is CUDA graphs, which there are on GPUs alone"
        yield finding("S043", what, why=why, fix="nothing; or --profile none")
