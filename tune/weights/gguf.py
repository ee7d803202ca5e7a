"""The export as one GGUF file for llama.cpp: work/mxfp4 or work/merged -> work/gguf, by llama.cpp's own converter.

The converter is a program that the user has (LLAMA_CPP_DIR, or on PATH); it is started with an argument list and told
nothing but folders. It is no checkpoint: its manifest is gguf.json, so `serve` and `deploy` refuse it by its kind.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tune import artefact, checkpoint
from tune.artefact import Artefact
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import shards

KIND = "gguf"
SOURCES = ("mxfp4", "merged")  # the first that is there: experts stay MXFP4 in GGUF
CONVERTER = "convert_hf_to_gguf.py"
HOME = "LLAMA_CPP_DIR"
CLONE = "git clone --depth 1 --branch gguf-v0.19.0 https://github.com/ggml-org/llama.cpp"
MAGIC = b"GGUF"
SPARE = 1.05  # of the source's bytes, in room asked for
_SAID = 400  # characters of a failing converter's last words


def export(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/gguf, or keep it when it is of the same checkpoint. Figures: bytes, and the format it was made from.

    Raises UserError when there is no checkpoint to convert or no converter, and when the converter fails.
    """
    folder, source = recipe.work / KIND, _source(recipe)
    inputs, settings = {"checkpoint": source.digest}, {"name": source.served_name}
    if current := artefact.is_current(folder, KIND, inputs=inputs, settings=settings):
        report(f"gguf: of {source.served_name}, is there already")
        return current
    command = _converter()
    checkpoint.verify(source.folder)
    size = sum(p.stat().st_size for p in source.folder.glob("*.safetensors"))
    shards.require_space(recipe.work, int(size * SPARE))

    def fill(fresh: Path) -> None:
        out = fresh / f"{source.name}-{source.format}.gguf"
        report(f"gguf: {Path(command[-1]).name} reads {source.folder}")
        arguments = [str(source.folder.resolve()), "--outfile", str(out.resolve()), "--outtype", "bf16"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not out.is_file() or not _is_gguf(out):
            said = (done.stderr or done.stdout).strip()[-_SAID:] or "it said nothing"
            why = f"exit code {done.returncode}: {said}" if done.returncode else f"it wrote no GGUF: {said}"
            raise UserError(f"{command[-1]} failed", why=why, fix=f"try it: {' '.join([*command, *arguments[:1]])}")
        figures = {"bytes": out.stat().st_size, "of": source.format, "converter": Path(command[-1]).name}
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)

    artefact.remake_folder(folder, KIND, fill)
    return artefact.read(folder, KIND, remake="tune export --format gguf")


def _source(recipe: Recipe) -> Checkpoint:
    for kind in SOURCES:
        if (recipe.work / kind / f"{checkpoint.KIND}.json").is_file():
            return checkpoint.read(recipe.work / kind)
    raise UserError(
        "there is no checkpoint to make a GGUF of",
        why=f"{recipe.work} has neither mxfp4 nor merged",
        fix="tune export --format mxfp4",
    )


def _converter() -> list[str]:
    """The command that starts llama.cpp's converter, with this Python: its libraries are those of a training host."""
    home = os.environ.get(HOME, "")
    if home:
        path = Path(home) / CONVERTER
        if not path.is_file():
            raise UserError(
                f"{HOME} holds no {CONVERTER}", why=f"{path} is not there", fix=f"set {HOME} to a clone of llama.cpp"
            )
        return [sys.executable, str(path)]
    if found := shutil.which(CONVERTER):
        return [sys.executable, found]
    raise UserError(
        f"llama.cpp's {CONVERTER} is not installed",
        why=f"it is neither on PATH nor in {HOME}",
        fix=f"{CLONE} && pip install gguf==0.19.0 && export {HOME}=$PWD/llama.cpp",
    )


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(len(MAGIC)) == MAGIC
