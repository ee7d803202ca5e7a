"""`tune push` and `tune pull` as a user runs them, against the Hub of hub_server.py; and a project to push from."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
from hub_server import Hub

from tune import artefact, checkpoint
from tune.checkpoint import Checkpoint, Format

TOKEN = "hf_NeverToBeSeen0123456789"
PLAIN = "another-kind-of-secret"  # without the prefix that tokens have
READER = "hf_MayOnlyRead0123456789"
REPO = "me/docs-20b"


def tune(hub: Hub, cwd: Path, *words: str, token: str = TOKEN, **env: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of `tune WORDS`. No word of it may hold a token or a signature."""
    hub.roles |= {TOKEN: "write", PLAIN: "write", READER: "read"}
    known = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    known |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    known |= {
        "HF_HOME": str(cwd / "hf"),
        "XDG_CACHE_HOME": str(cwd / "cache"),
        **({"HF_TOKEN": token} if token else {}),
    }
    known |= {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "tune", *words],
        cwd=cwd,
        env={**known, **env},
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    for secret in (TOKEN, PLAIN, READER, "SIGNED", *([token] if token else [])):
        assert secret not in said, said
    return done.returncode, done.stdout, done.stderr


def fails(hub: Hub, cwd: Path, *words: str, **more: str) -> str:
    """What it says when it must not work: one message with a way out."""
    code, _, said = tune(hub, cwd, *words, **more)
    assert code == 2, said
    assert "  fix: " in said, said
    return said


def commit_of(out: str) -> str:
    found = re.search(r"--revision ([0-9a-f]{40})", out)
    assert found, out
    return found[1]


def make(
    folder: Path,
    format: Format = "merged",
    *,
    name: str = "python-docs",
    base: str = "openai/gpt-oss-20b@0123456789abcdef",
    inputs: dict[str, str] | None = None,
    **config: Any,
) -> Checkpoint:
    """A whole tiny checkpoint with its manifest."""
    checkpoints.fill(folder, format, **{"vocab_size": 256, **config})
    return checkpoint.finish(
        folder,
        name=name,
        base=base,
        format=format,
        prompt_date=checkpoints.DATE,
        inputs=inputs or {"base": "0123456789abcdef" * 2 + "01234567"},
        settings={},
        figures={"tensors": 37, "bytes": 1234567},
    )


def files(folder: Path) -> dict[str, str]:
    """Every file's digest by path."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): artefact.file_digest(p) for p in paths}
