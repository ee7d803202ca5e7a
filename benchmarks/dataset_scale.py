"""Time and memory of `tune dataset` by the number of pages: made-up API references, as many as asked for.

    python benchmarks/dataset_scale.py FOLDER [--pages 1000 --pages 10000 --pages 100000] [--workers 2]

A page documents three functions of one module of twenty: signature, two paragraphs of words drawn as often as words are
(Zipf), a field list, a table and a line of code, some 2,000 characters. The command runs in a process of its own, by
its own recipe; seconds are that process's and its workers', memory is the most that one of them had, disk what lies in
work in the end: twice the rows in between. Prints a table.
"""

import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from tune import artefact
from tune.data.block import Block, Code, Fields, Prose, Table
from tune.data.page import Page

ROOT = Path(__file__).parent.parent
WORDS = 20_000
RECIPE = "[collect]\nmodules = ['heapq']\n[evaluate]\nmodules = []\n"


def vocabulary(dice: random.Random) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
    return ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(WORDS)]


def said(dice: random.Random, words: list[str], weights: list[float]) -> str:
    """A sentence."""
    return " ".join(dice.choices(words, cum_weights=weights, k=dice.randint(8, 20))).capitalize() + "."


def made(number: int, words: list[str], weights: list[float]) -> Page:
    """Page `number`, the same for every count of pages."""
    dice = random.Random(number)

    sentence = partial(said, dice, words, weights)
    module = f"library.part{number % 20}.m{number}"
    blocks: list[Block] = [Prose(headings=(module,), text=sentence())]
    for k in range(3):
        name = f"{module}.{dice.choice(words)}_{k}"
        path, own = (module, name), dice.choices(words, cum_weights=weights, k=4)
        parameters = f"{own[0]}_a, {own[1]}_b={dice.randint(0, 99)}, *, {own[2]}_c=None"
        blocks += [
            Code(headings=path, language="python", text=f"{name}({parameters})"),
            Prose(headings=path, text=f"{sentence()} {sentence()} {sentence()}"),
            Prose(headings=path, text=f"If {own[0]}_a is {own[3]}, `ValueError` is raised."),
            Fields(headings=path, pairs=(("Returns", sentence()), (f"`--{own[3]}`", sentence()))),
        ]
    head = ("Name", "Meaning", "Since")
    rows = tuple((f"{dice.choice(words)}{i}", sentence(), f"{number % 9}.{i}") for i in range(4))
    blocks.append(Table(headings=(module, "Values"), rows=(head, *rows)))
    return Page(id=f"p{number}", title=module, module=module, blocks=tuple(blocks), source="made", licence="none")


def pages(count: int) -> Iterator[Page]:
    words = vocabulary(random.Random(0))
    total, weights = 0.0, []
    for rank in range(1, WORDS + 1):
        weights.append(total := total + 1 / rank)
    return (made(number, words, weights) for number in range(count))


def run(folder: Path, count: int, workers: int) -> str:
    """A row of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    if not (folder / "work" / "pages" / "pages.json").exists():
        (folder / "work" / "pages").mkdir(parents=True, exist_ok=True)
        with (folder / "work" / "pages" / "pages.jsonl").open("w", encoding="utf-8") as f:
            f.writelines(page.model_dump_json() + "\n" for page in pages(count))
        artefact.finish(folder / "work" / "pages", "pages", figures={"pages": count, "failures": 0})
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "tune", "dataset", "--workers", str(workers)]
    subprocess.run(command, cwd=folder, check=True, env={"PYTHONPATH": str(ROOT)})
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = artefact.read(folder / "work" / "dataset", "dataset", remake="").figures["rows"]
    size = (folder / "work" / "pages" / "pages.jsonl").stat().st_size / 1e6
    examples = sum(rows.values())
    cells = [count, f"{size:.0f}", examples, f"{seconds:.1f}", f"{wall:.1f}", f"{examples / seconds:,.0f}"]
    disk = sum(path.stat().st_size for path in (folder / "work").rglob("*") if path.is_file()) / 1e9
    return f"| {' | '.join(map(str, cells))} | {after.ru_maxrss / 1024:,.0f} | {disk:.1f} |"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pages", "counts", type=click.IntRange(2), multiple=True, default=(1000, 10_000, 100_000))
@click.option("--workers", type=click.IntRange(1), default=1)
def main(folder: Path, counts: tuple[int, ...], workers: int) -> None:
    print("| pages | MB of pages | rows | processor s | s | rows a processor second | memory, MiB | GB of disk |")
    print("| --: | --: | --: | --: | --: | --: | --: | --: |")
    for count in sorted(counts):  # memory is that of the largest child so far
        print(run(folder / str(count), count, workers), flush=True)


if __name__ == "__main__":
    main()
