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
from tune.terminal import say
from tune.training import trainer
from tune.training.machine import need
from tune.training.memory import BEST
from tune.training.saving import saving
from tune.training.views.history import Look
from tune.training.views.progress import Meter

SAVE_SECONDS = 60  # work that a kill may lose


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
    """One run's callback. Only the first process reads and writes; all of them judge, and stop together."""

    def __init__(self, made: Any, state: Path, settings: Train, report: Callable[[str], None]) -> None:
        self.made, self.state, self.settings, self.report = made, state, settings, report
        self.saved = time.monotonic()
        self.meter: Meter | None = None
        kept = (
            [Look(*json.loads(p.read_text())) for p in state.glob(f"{BEST}-*/look.json")]
            if made.is_world_process_zero()
            else []
        )
        self.best = trainer.same_everywhere(made, min(kept, key=lambda look: look.loss, default=None))
        self.last: Look | None = None

    def loss_now(self) -> float:
        """The loss on held-out rows after the last step: the last look's where that was then."""
        if self.last is None or self.last.step != self.made.state.global_step:
            self.made.evaluate()
        assert self.last
        return self.last.loss

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
        live = sys.stderr.isatty()
        self.meter = self.meter or Meter(state.max_steps, live=live)
        if line := self.meter.seen({**logs, "step": state.global_step}):
            (say if live and state.global_step < state.max_steps else self.report)(line)

    def on_evaluate(
        self, _args: Any, state: Any, control: Any, metrics: Any = None, model: Any = None, **_: Any
    ) -> None:
        if not metrics:
            return
        now, best = Look(state.global_step, float(metrics["eval_loss"])), self.best
        self.last = now
        if not self.settings.eval_every or not now.step:
            return
        if best and not now.loss < best.loss:
            self._say(state, f"held-out loss {now.loss:.3f} at step {now.step}, best {best.loss:.3f} at {best.step}")
            looks = (now.step - best.step) // self.settings.eval_every
            if self.settings.patience and looks >= self.settings.patience and now.step < state.max_steps:
                self._say(state, f"no better in {looks} look{'s' * (looks > 1)}: training stops at step {now.step}")
                control.should_training_stop = True
            return
        self._say(state, f"held-out loss {now.loss:.3f} at step {now.step}, the best so far")
        self.best = now
        if state.is_world_process_zero:
            self._keep(now, model)

    def _keep(self, look: Look, model: Any) -> None:
        """The adapter of the best look, look.json last; then those before it go."""
        folder = self.state / f"{BEST}-{look.step}"
        with saving(folder):
            model.save_pretrained(folder, save_embedding_layers=False)
        artefact.write_text(folder / "look.json", json.dumps(look))
        for other in self.state.glob(f"{BEST}-*"):
            if other != folder:
                shutil.rmtree(other)

    def _say(self, state: Any, line: str) -> None:
        if state.is_world_process_zero:
            self.report(line)
