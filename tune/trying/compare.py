"""`tune try`: the same questions to base and tuned at every effort, shown side by side as they answer.

Which sides there are is settled here: by default one model in memory, its adapter off and on; or a checkpoint folder or
an endpoint for either. Reads; writes no file.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast, get_args

from tune import recipe as recipes
from tune.errors import UserError
from tune.harmony import Effort
from tune.recipe import Recipe
from tune.terminal import tell
from tune.trying import endpoint, local, questions, show
from tune.trying.show import Show
from tune.trying.take import Frozen, Question, Reply, Sampling, Side, Take, Voice

SIDES: tuple[Side, ...] = get_args(Side)


class Asked(Frozen):
    """What the user named. A side is "" (the recipe's), a URL or a folder; the recipe is read when it is needed."""

    recipe: Path
    base: str = ""
    tuned: str = ""
    base_model: str = ""
    tuned_model: str = ""
    prompts: tuple[str, ...] = ()
    efforts: tuple[Effort, ...]
    sampling: Sampling

    @cached_property
    def read(self) -> Recipe:
        return recipes.read(self.recipe)

    def side(self, side: Side) -> str:
        return self.base if side == "base" else self.tuned


def run(asked: Asked, report: Callable[[str], None], *, as_json: bool = False) -> None:
    """The command: everything is printed as it comes, and a table, or JSON, at the end. Ctrl-C ends with what was said
    so far. Raises UserError as `prepare` does, and for a server that breaks off."""
    voices, wanted = prepare(asked, report)
    held = Conversation(show.Lines(err=True) if as_json else show.chosen())
    try:
        held.hold(voices, wanted, asked.efforts, asked.sampling)
    finally:
        replies = held.replies
        if as_json:
            told = {"questions": [q.model_dump() for q in wanted], "replies": [r.model_dump() for r in replies]}
            tell(json.dumps(told, indent=1))
        elif replies:
            tell("\n" + show.table(replies))


class Conversation:
    """What was said so far; more when `hold` returns or is stopped."""

    def __init__(self, show: Show) -> None:
        self.show = show
        self.takes: list[Take] = []

    @property
    def replies(self) -> list[Reply]:
        return [take.reply for take in self.takes]

    def hold(
        self, voices: dict[Side, Voice], asked: Sequence[Question], efforts: Sequence[Effort], sampling: Sampling
    ) -> None:
        """Ask both sides each question at each effort. What was interrupted stays as it was heard, and is shown."""
        for number, question in enumerate(asked, 1):
            self.show.question(number, len(asked), question)
            for effort in efforts:
                self.show.effort(effort)
                pair: list[Take] = []
                try:
                    for side, voice in voices.items():
                        self._one(Take(side, voice, effort, number), pair, voice, question, sampling)
                finally:
                    self.show.done(pair)

    def _one(self, take: Take, pair: list[Take], voice: Voice, question: Question, sampling: Sampling) -> None:
        take.watch = self.show.piece
        pair.append(take)
        self.takes.append(take)
        self.show.begin(take)
        try:
            voice.speak(question, take, sampling)
        except BaseException:
            take.ended = "stopped"
            raise
        finally:
            take.close()
            self.show.end(take)


def prepare(asked: Asked, report: Callable[[str], None] = lambda _: None) -> tuple[dict[Side, Voice], list[Question]]:
    """Both sides, loaded or reached, and the questions. What is cheap to find missing is looked for first.

    Raises UserError when a side is not there, or both are the same model.
    """
    adapter = None if asked.tuned else local.adapter_of(asked.read)
    if asked.prompts:
        wanted = [Question(prompt=prompt) for prompt in asked.prompts]
    else:
        wanted = questions.held_out(asked.read, adapter)
    voices: dict[Side, Voice] = {}
    for side in SIDES:
        if _is_url(asked.side(side)):
            voices[side] = endpoint.reach(asked.side(side), side, getattr(asked, f"{side}_model"))
    _different(voices)
    for side in SIDES:
        if (place := asked.side(side)) and side not in voices:
            report(f"loading {place}")
            voices[side] = local.of_folder(Path(place))
    if len(voices) < len(SIDES):
        report("loading the recipe's base")
        found = local.of_recipe(asked.read, tuned="tuned" not in voices)
        voices = {side: voices.get(side) or found[side] for side in SIDES}
    return {side: voices[side] for side in SIDES}, wanted


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _different(voices: dict[Side, Voice]) -> None:
    found = [cast("endpoint.Endpoint", voice) for voice in voices.values()]
    if len({(one.url, one.model) for one in found}) < len(found):
        raise UserError(
            f"base and tuned are one model: {found[0].name} at {found[0].url}",
            why="there would be nothing to compare",
            fix="tune try --help",
        )
