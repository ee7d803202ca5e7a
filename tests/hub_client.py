"""`tune push` and `tune pull` as a user runs them, against the Hub of hub_server.py; and a project to push from."""

import os
import re
import subprocess
import sys
import warnings
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import checkpoints
from click.testing import CliRunner
from hub_server import Hub
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from tune import artefact, checkpoint
from tune.checkpoint import Checkpoint, Format
from tune.cli import main

TOKEN = "hf_NeverToBeSeen0123456789"
PLAIN = "another-kind-of-secret"  # without the prefix that tokens have
READER = "hf_MayOnlyRead0123456789"
REPO = "me/docs-20b"


def tune(hub: Hub, cwd: Path, *words: str, token: str = TOKEN, own: bool = False, **env: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of `tune WORDS`. No word of it may hold a token or a signature.

    In this process, where the library's own log is not heard; with `own`, or with `env`, in one of its own.
    """
    hub.roles |= {TOKEN: "write", PLAIN: "write", READER: "read"}
    known = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    known |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    known |= {
        "HF_HOME": str(cwd / "hf"),
        "XDG_CACHE_HOME": str(cwd / "cache"),
        **({"HF_TOKEN": token} if token else {}),
    }
    known |= {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}
    ran = _own({**known, **env}, cwd, words) if own or env else _here(hub, known, cwd, words)
    said = ran[1] + ran[2]
    assert "Traceback" not in said, said
    for secret in (TOKEN, PLAIN, READER, "SIGNED", *([token] if token else [])):
        assert secret not in said, said
    return ran


def _own(env: dict[str, str], cwd: Path, words: tuple[str, ...]) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "tune", *words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout, done.stderr


def _here(hub: Hub, env: dict[str, str], cwd: Path, words: tuple[str, ...]) -> tuple[int, str, str]:
    """The library reads its environment once, at import: what it made of it is set for this call."""
    now = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cwd / "hf/token"),
        "HF_STORED_TOKENS_PATH": str(cwd / "hf/stored_tokens"),
        "HF_HUB_CACHE": str(cwd / "hf/hub"),
    }
    with ExitStack() as stack:
        stack.enter_context(chdir(cwd))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # the library hands files to httpx in its old way
        stack.enter_context(patch.dict(os.environ, env, clear=True))
        for name, value in now.items():
            stack.enter_context(patch.object(constants, name, value))
        done = CliRunner().invoke(main, list(words))
        close_session()
    return done.exit_code, done.stdout, done.stderr


def fails(hub: Hub, cwd: Path, *words: str, **more: Any) -> str:
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
