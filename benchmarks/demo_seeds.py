"""Whether the demo's verdict hangs on its seeds: the demo's own commands, once a seed, and what the gate said.

    python benchmarks/demo_seeds.py FOLDER [--seeds 0-9] [--plant shuffled|steep] [--gpus 0,1] [--file GGUF] [-- FLAGS]

Every seed of the recipe is set to it: the base's teaching, the split of the dataset, the training, the choice of
questions. `--plant` ruins the tuning on purpose: answers of other examples, or a learning rate of 0.1. What is there
already is kept, as in the demo. Prints a Markdown table of every seed in FOLDER; seventeen minutes a seed on two cores.
With --gpus all walk at once, shared out among them. FLAGS are the engines': they share a GPU out in turn, for which
`--gpu-memory-utilization 0.1 --kv-cache-memory-bytes 400000000 --enforce-eager` is enough.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from tune import artefact, recipe
from tune.data import filling
from tune.data.examples import Example
from tune.data.row import Row
from tune.recipe import Recipe

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "tune" / "recipe.example.toml"
STEEP = {"learning_rate": "0.1", "max_steps": "40"}
HEAD = """\
| seed | planted | base right | tuned right | readable | largest p | verdict | minutes |
|--:|---|--:|--:|--:|--:|---|--:|"""


def project(folder: Path, seed: int, file: Path | None, plant: str) -> None:
    """The demo's recipe in `folder`, with every seed set."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in ("dataset", "train", "evaluate"):
        text, found = re.subn(rf"(?m)^(\[{section}\].*)$", rf"\1\nseed = {seed}", text)
        assert found == 1, section
    for key, value in STEEP.items() if plant == "steep" else ():
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    text += f"\n[nano]\nseed = {seed}\n" + (f'file = "{file.resolve()}"\n' if file else "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(text, encoding="utf-8")


def shuffle(made: Recipe) -> None:
    """Give every example the reply of the next one of its kind and effort, on each side of the split."""
    folder = made.work / "dataset"
    told = artefact.read(folder, "dataset", remake="tune dataset")
    lines = (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    examples = [Example.model_validate_json(line) for line in lines]
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        groups.setdefault((example.kind, example.effort), []).append(example)
    rows = {}
    for group in groups.values():
        for one, other in zip(group, [*group[1:], group[0]], strict=True):
            wrong = one.model_copy(update={"messages": (*one.messages[:-1], other.messages[-1])})
            done = filling.render(wrong, made.dataset.date)
            rows[one.id] = Row(id=one.id, page=one.page, effort=one.effort, input_ids=done.ids, labels=done.labels).line
    for side in ("train.jsonl", "eval.jsonl"):
        ids = [json.loads(line)["id"] for line in (folder / side).read_text(encoding="utf-8").splitlines()]
        (folder / side).write_text("".join(rows[i] for i in ids), encoding="utf-8")
    (folder / "dataset.json").unlink()
    artefact.finish(folder, "dataset", inputs=told.inputs, settings=told.settings, figures=told.figures)


def run(folder: Path, *command: str, allowed: Sequence[int] = (0,)) -> None:
    """One of our commands in `folder`; ends the benchmark when it fails."""
    with (folder / "log.txt").open("a") as log:
        print(f"{time.strftime('%H:%M:%S')} {folder.name}: {' '.join(command)[:100]}", flush=True)
        done = subprocess.run([sys.executable, "-m", *command], cwd=folder, stdout=log, stderr=log, check=False)
    if done.returncode not in allowed:
        raise SystemExit(f"{folder}: {' '.join(command)}: exit {done.returncode}, see log.txt there")


@contextmanager
def served(folder: Path, checkpoint: str, port: int, flags: Sequence[str]):  # type: ignore[no-untyped-def]
    """A checkpoint of `folder` behind an endpoint of its own."""
    argv = [sys.executable, "-m", "serve", "run", f"work/{checkpoint}", "--port", str(port)]
    with (folder / "log.txt").open("a") as log:
        server = subprocess.Popen([*argv, *(("--", *flags) if flags else ())], cwd=folder, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def walk(folder: Path, port: int, flags: Sequence[str], plant: str) -> None:
    """The demo's path in `folder`, up to the gate; leaves `minutes` there."""
    began = time.monotonic()
    for command in ("tune collect", "evalsuite questions", "tune dataset"):
        run(folder, *command.split())
    if plant == "shuffled":
        shuffle(recipe.read(folder / "recipe.toml"))
    for command in ("tune nano", "tune train", "tune export --format merged"):
        run(folder, *command.split())
    with ExitStack() as both:
        urls = [both.enter_context(served(folder, name, port + n, flags)) for n, name in enumerate(("nano", "merged"))]
        for url in urls:
            run(folder, "serve", "wait", url, "--timeout", "300")
        run(
            folder,
            "evalsuite",
            "compare",
            "--base",
            urls[0],
            "--tuned",
            urls[1],
            "--concurrency",
            "64",
            "--no-speed",
            allowed=range(4),
        )
    run(folder, "evalsuite", "gate", "work/report.json", allowed=range(4))
    (folder / "minutes").write_text(f"{(time.monotonic() - began) / 60:.1f}")


def line(folder: Path) -> str:
    """A row of the table: counts at low, medium and high of the held-out questions."""
    name, _, plant = folder.name.partition("-")
    report = json.loads((folder / "work" / "report.json").read_text(encoding="utf-8"))
    held = [c for c in report["comparisons"] if c["split"] == "held-out"]

    def counts(arm: str) -> str:
        return " ".join(str(round(c[arm]["accuracy"] * c["paired"])) for c in held)

    def readable(arm: str) -> str:
        return " ".join(str(c[arm]["outcomes"]["answered"]) for c in held)

    worst = max(max(c["better_p"], c["guessing_p"]) for c in held)
    cells = [
        name, plant or "nothing", counts("base"), counts("tuned"), f"{readable('base')} → {readable('tuned')}",
        f"{worst:.1g}", report["verdict"]["outcome"], (folder / "minutes").read_text(),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def side_by_side(seeds: Sequence[int], gpus: Sequence[str], port: int) -> None:
    """This very command for each seed, all at once. One that fails is told, and the others go on."""
    argv = [sys.executable, __file__, *sys.argv[1:]]
    for flag in ("--seeds", "--gpus", "--port"):
        if flag in argv:
            del argv[argv.index(flag) : argv.index(flag) + 2]
    walks = {}
    for number, seed in enumerate(seeds):
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
        own = ["--seeds", str(seed), "--port", str(port + 2 * number)]
        walks[seed] = subprocess.Popen([*argv[:2], *own, *argv[2:]], env=env, stdout=subprocess.DEVNULL)
    for seed, walk in walks.items():
        if walk.wait():
            print(f"seed {seed} ended with {walk.returncode}", flush=True)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seeds", default="0-9", show_default=True, help="N or FIRST-LAST.")
@click.option("--plant", type=click.Choice(["", "shuffled", "steep"]), default="")
@click.option("--file", type=click.Path(path_type=Path, exists=True), help="The wheel or GGUF, where no index is.")
@click.option("--gpus", default="", help="Numbers with commas between them.")
@click.option("--port", default=8300, show_default=True)
@click.argument("flags", nargs=-1)
def main(folder: Path, seeds: str, plant: str, file: Path | None, gpus: str, port: int, flags: tuple[str, ...]) -> None:
    """Run the seeds, one after another where no GPUs are named, and print the table of all that FOLDER holds."""
    first, _, last = seeds.partition("-")
    wanted = range(int(first), int(last or first) + 1)
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    if gpus:
        side_by_side(wanted, gpus.split(","), port)
    for seed in wanted if not gpus else ():
        here = folder / (f"{seed}-{plant}" if plant else str(seed))
        if not (here / "minutes").exists():
            project(here, seed, file, plant)
            walk(here, port, flags, plant)
            shutil.rmtree(here / "work" / "merged")
            shutil.rmtree(here / "work" / "nano")
    print(HEAD)
    done = [p.parent for p in folder.glob("*/minutes")]
    print(
        "\n".join(
            line(p) for p in sorted(done, key=lambda p: (p.name.partition("-")[2], int(p.name.partition("-")[0])))
        )
    )


if __name__ == "__main__":
    main()
