"""The whole path for tests, with the real parts: the demo's own commands on the demo's own recipe, made smaller."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from engine import Server

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "demo.sh"
SMALLER = {
    "questions": 12,
    "taught": 6,
    "max_steps": 8,
    "learning_rate": 5e-4,  # the demo's is for a model that can read: eight steps of it leave a random one a wreck
    "max_tokens": 160,
}
NANO = '\n[nano]\nkind = "random"\n'  # minutes less, and no package index


class Endpoints(NamedTuple):
    """The two servers of a comparison."""

    base: Server
    tuned: Server


class Story(NamedTuple):
    """A project folder and what each command said on standard output."""

    folder: Path
    said: dict[str, str]

    def run(self, command: str, expect: int = 0) -> str:
        """Run one of our commands in the project folder; all it said, with the exit code checked."""
        package, *arguments = command.split()
        out = subprocess.run(
            [sys.executable, "-m", package, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert out.returncode == expect, f"{command}: exit {out.returncode}\n{out.stdout}{out.stderr}"
        assert "Traceback" not in out.stderr
        self.said[command] = out.stdout
        return out.stdout + out.stderr


def commands() -> list[str]:
    """The demo's steps, in order, as it prints them."""
    lines = re.findall(r"^(?:\[.*\|\| |verdict=0; )?(step|up) (.*?)(?: \|\| verdict=\$\?)?$", DEMO.read_text(), re.M)
    return [f"serve wait {rest.split()[0]}" if verb == "up" else rest for verb, rest in lines]


def smaller(recipe: str) -> str:
    """The recipe with fewer questions, steps and tokens, on a nano from a random start."""
    for key, value in SMALLER.items():
        recipe, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", recipe, flags=re.M)
        assert found, f"the example recipe no longer sets {key}"
    return recipe + NANO
