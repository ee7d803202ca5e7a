"""Time and memory of `tune collect` by the number of pages: made-up HTML files in a folder, as many as asked for.

    python benchmarks/collect_scale.py FOLDER [--pages 1000 --pages 10000 --pages 100000] [--tree ROOT]

A page has a menu that stands on all of them, a table, three functions with their signatures and words drawn as often as
words are (Zipf), some 3 kB. The command runs in a process of its own, by its own recipe; seconds are that process's,
and memory is the most that it had. `--tree` measures another checkout on the same files. Prints a table.
"""

import os
import random
import subprocess
import sys
import time
from functools import partial
from itertools import accumulate
from pathlib import Path

import click
from dataset_scale import WORDS, said, vocabulary

from tune import artefact

ROOT = Path(__file__).parent.parent
RECIPE = "[collect]\nsource = 'folder'\nfolder = 'docs'\n[evaluate]\nmodules = ['library.part7']\n"
MENU = "".join(f"<li><a href='{n}.html'>Chapter {n}</a></li>" for n in range(12))


def made(number: int, words: list[str], weights: list[float]) -> str:
    """The HTML of page `number`, the same for every count of pages."""
    dice = random.Random(number)

    sentence = partial(said, dice, words, weights)
    module = f"library.part{number % 20}.m{number}"
    parts = [f"<title>{module}</title><body><ul>{MENU}</ul><h1>{module}</h1><p>{sentence()}</p>"]
    for k in range(3):
        name = f"{dice.choice(words)}_{k}"
        parts.append(
            f"<dl class='py function'><dt class='sig sig-object py' id='{module}.{name}'>"
            f"<span class='sig-prename descclassname'>{module}.</span><span class='sig-name descname'>{name}</span>"
            f"(<em>{dice.choice(words)}</em>, limit={dice.randint(0, 99)})</dt>"
            f"<dd><p>{sentence()} {sentence()}</p><p>{sentence()}</p></dd></dl>"
        )
    rows = "".join(f"<tr><td>{dice.choice(words)}</td><td>{sentence()}</td></tr>" for _ in range(4))
    return f"{''.join(parts)}<table><tr><th>Name</th><th>Meaning</th></tr>{rows}</table></body>"


def write(docs: Path, count: int) -> None:
    """The files, a thousand to a folder."""
    words = vocabulary(random.Random(0))
    weights = [*accumulate(1 / rank for rank in range(1, WORDS + 1))]
    for number in range(count):
        path = docs / f"{number // 1000}" / f"{number}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made(number, words, weights), encoding="utf-8")


def run(folder: Path, count: int, tree: Path) -> str:
    """A row of the table."""
    docs, pages = folder / "docs", folder / "work" / "pages"
    if not (folder / "recipe.toml").exists():
        write(docs, count)
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")  # the files are all there
    (pages / "pages.json").unlink(missing_ok=True)  # each run collects
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "tune", "collect"], cwd=folder, env={"PYTHONPATH": str(tree)})
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(child.returncode)
    seconds = used.ru_utime + used.ru_stime
    figures = artefact.read(pages, "pages", remake="").figures
    size = sum((pages / name).stat().st_size for name in ("pages.jsonl", "held_out.jsonl")) / 1e6
    found = figures["pages"] + figures["held_out"]
    cells = [f"{found:,}", f"{size:,.0f}", f"{seconds:.1f}", f"{wall:.1f}", f"{found / seconds:,.0f}"]
    return f"| {' | '.join(cells)} | {used.ru_maxrss / 1024:,.0f} |"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pages", "counts", type=click.IntRange(2), multiple=True, default=(1000, 10_000))
@click.option("--tree", type=click.Path(path_type=Path, exists=True), default=ROOT, help="The checkout that is run.")
def main(folder: Path, counts: tuple[int, ...], tree: Path) -> None:
    print("| pages | MB of pages | processor s | s | pages a processor second | memory at most, MiB |")
    print("| --: | --: | --: | --: | --: | --: |")
    for count in counts:
        print(run(folder / str(count), count, tree.resolve()), flush=True)


if __name__ == "__main__":
    main()
