"""The command that serves an export: a recipe and a folder of its work in, what to type out. Starts nothing."""

from pathlib import Path

from tune import checkpoint
from tune.recipe import Recipe


def command(recipe: Recipe, folder: Path) -> str:
    """Of a checkpoint in `folder`: on its own; an adapter beside its base, which may have to be exported first; a GGUF
    by llama.cpp."""
    if folder.name == "gguf":
        return f"llama-server -m {folder}/*.gguf"
    if folder.name != "lora":
        return f"serve run {folder}"
    given = recipe.folder / recipe.base.model
    base = given if _made(given) else recipe.work / ("nano" if recipe.base.model == "nano" else "base")
    first = "" if _made(base) else "tune export --format base, then "
    return f"{first}serve run {base} --adapter tuned={folder}"


def _made(folder: Path) -> bool:
    return (folder / f"{checkpoint.KIND}.json").is_file()
