"""`python -m launched PART FOLDER PROCESSES`: what test_tune_launch.py starts, and what its workers do."""

import json
import os
import signal
import sys
from pathlib import Path

from tiny_gptoss import recipe

from tune.data.row import read
from tune.errors import UserError, exit_codes
from tune.terminal import say, tell
from tune.training import loading
from tune.training.processes import launch, worker


def main(part: str, folder: Path, processes: str) -> int:
    made = recipe(folder, train={"gpus": int(processes), "rank": 4, "accumulate": 4 // int(processes), "max_steps": 6})
    if not worker.inside() and int(processes) > 1:
        argv = launch.arguments(folder / "recipe.toml", made, threads=1)
        return launch.start(
            [*argv[: argv.index("--module")], "--module", "launched", part, str(folder), processes], cpu=True
        )
    with worker.speaking():
        PARTS[part](folder, made)
    return 0


def meet(folder, made):
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=True)
    worker.require_world(made.train, torch.distributed.get_world_size())
    total = torch.tensor([state.process_index + 1.0])
    torch.distributed.all_reduce(total)
    (folder / f"{state.process_index}.json").write_text(
        json.dumps([torch.distributed.get_backend(), total.item(), worker.sharded()])
    )
    tell(f"rank {state.process_index} speaks")
    say(f"rank {state.process_index} reports")
    torch.distributed.destroy_process_group()


def refuse(folder, made):
    if not worker.is_main():
        raise UserError("rank 1 does not like it", why="a test", fix="tune train")
    signal.pause()  # as one that waits for the other in a collective


def refuse_all(folder, made):
    raise UserError("nobody likes it", fix="tune train")


def bug(folder, made):
    if not worker.is_main():
        raise KeyError("no such thing")
    signal.pause()


def killed(folder, made):
    if not worker.is_main():
        say("last words")
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def wait(folder, made):
    (folder / f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    signal.pause()


def fit(folder, made):
    """TRL through the peft backend; every process writes into a folder of its own."""
    from tune.training import fit as training
    from tune.training.backends import peft

    source, rank = folder / "work" / "dataset", os.environ.get("RANK", "0")
    rows = {name: read(source / f"{name}.jsonl", 512) for name in ("train", "eval")}
    model, kind = peft.load(folder / "base", made.train, gpu=False)
    into = folder / f"of{made.train.gpus}" / rank
    into.mkdir(parents=True)
    done = training.fit(
        model,
        kind,
        loading.tokenizer(folder / "base"),
        rows,
        made.train,
        into=into,
        state=folder / f"state{made.train.gpus}",
        name="base",
        report=lambda _: None,
    )
    norm = sum(float(p.detach().double().square().sum()) for p in model.parameters() if p.requires_grad)
    told = {"norm": norm, "history": done.history, "before": done.eval_before, "after": done.eval_after}
    (into / "told.json").write_text(json.dumps(told))


PARTS = {f.__name__: f for f in (meet, refuse, refuse_all, bug, killed, wait, fit)}

if __name__ == "__main__":
    with exit_codes():  # as the command line does
        sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
