"""What happens between steps: progress is told, work is saved by the clock, looks at held-out rows are judged."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback  # imported where training starts, never by a command line

from tune import artefact
from tune.recipe import Train
from tune.training import trainer
from tune.training.machine import need
from tune.training.views.progress import Meter

SAVE_SECONDS = 60  # work that a kill may lose
BEST = "best"  # in the state folder: the adapter of the best look, and look.json


class Before(TrainerCallback):  # type: ignore[misc]
    """The base's loss on held-out rows, taken as training begins and remembered for a resumed run.

    Not sooner: accelerate takes a model that was evaluated before train() for prepared, and each of several processes
    would train alone, without a word.
    """

    def __init__(self, made: Any, path: Path) -> None:
        known = json.loads(path.read_text()) if made.is_world_process_zero() and path.is_file() else None
        self.made, self.path = made, path
        self.loss: float | None = trainer.same_everywhere(made, known)

    def on_train_begin(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
        if self.loss is not None:
            return
        self.loss = float(self.made.evaluate()["eval_loss"])
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            artefact.write_text(self.path, json.dumps(self.loss))


class Watch(TrainerCallback):  # type: ignore[misc]
    """One run's callback. Only the first process writes; all of them stop together."""

    def __init__(self, state: Path, settings: Train, report: Callable[[str], None]) -> None:
        self.state, self.settings, self.report = state, settings, report
        self.saved = time.monotonic()
        self.meter: Meter | None = None

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        if (
            not self.settings.save_every
            and need.world(self.settings) == 1
            and time.monotonic() - self.saved > SAVE_SECONDS
        ):
            control.should_save = True

    def on_save(self, *_at: Any, **_: Any) -> None:
        self.saved = time.monotonic()

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or not state.is_world_process_zero:
            return
        self.meter = self.meter or Meter(state.max_steps, live=sys.stderr.isatty())
        if line := self.meter.seen({**logs, "step": state.global_step}):
            self.report(line)

    def on_evaluate(
        self, _args: Any, state: Any, control: Any, metrics: Any = None, model: Any = None, **_: Any
    ) -> None:
        if not self.settings.eval_every or not state.global_step or not metrics:
            return
        note, loss = self.state / BEST / "look.json", metrics["eval_loss"]
        best = json.loads(note.read_text()) if note.is_file() else None
        if best and best["eval_loss"] <= loss:
            looks = (state.global_step - best["step"]) // self.settings.eval_every
            self._say(state, f"held-out loss {loss:.3f}, best {best['eval_loss']:.3f} at step {best['step']}")
            if self.settings.patience and looks >= self.settings.patience:
                self._say(state, f"no better in {looks} looks: training stops at step {state.global_step}")
                control.should_training_stop = True
            return
        self._say(state, f"held-out loss {loss:.3f} at step {state.global_step}, the best so far")
        if state.is_world_process_zero:
            shutil.rmtree(note.parent, ignore_errors=True)
            model.save_pretrained(note.parent, save_embedding_layers=False)
            artefact.write_text(note, json.dumps({"step": state.global_step, "eval_loss": loss}))

    def _say(self, state: Any, line: str) -> None:
        if state.is_world_process_zero:
            self.report(line)
