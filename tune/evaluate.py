"""CONTRACT: [evaluate] of recipe.toml: what is asked of both models, how, and what a tuned one is held to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from tune.artefact import file_digest
from tune.errors import UserError
from tune.section import EffortName, EffortNames, Limits, Margin, Open, Place, Positive, Section, Share
from tune.terminal import one_line

OWN = "questions_file"  # of [evaluate], and of the header of a set that was taken from it
GENERAL = "general"  # of [evaluate], and of the header of a set that has such questions
TUTORIAL = "tutorial"  # the same, of questions that are answered in prose
CODE = "code"  # the same of questions whose answers are code
_GENERATED = {"book", "open_kinds", "taught", CODE}  # say nothing about one's own questions
ABOUT_QUESTIONS = {"questions", "book", "open_kinds", "taught", "answer_rule", "seed"}


class Gated(Section):
    """[evaluate.limits]: what else the gate holds tuned to, each by itself. What is not set is not looked at.

    Shares are of a whole, 0 to 1, at every effort: of held-out questions asked, and of questions that have a twin.
    """

    steering: bool = True  # reasoning grows with effort, from each effort asked to the next, where that of base does
    empty: Share | None = None  # replies without any answer: empty, or a tool call in place of text
    truncated: Share | None = None  # replies that max_tokens cut off, in reasoning or in the answer
    unparsed: Share | None = None  # replies without the answer line that was asked for
    contamination: float | None = Field(default=None, ge=0, lt=1)  # held-out questions that stand in the dataset
    memorisation: Share | None = None  # accuracy on items less that on their twins, tuned's over base's
    first_answer_ms: float | None = Field(default=None, gt=0)  # 95th percentile of the time to the first answer token
    tokens_per_right: float | None = Field(default=None, gt=0)  # generated tokens, reasoning too, by right answers


class Evaluate(Section):
    modules: list[str] = []  # questions come from these; never trained on
    questions_file: Place | None = None  # your own, CSV or JSONL, relative to the recipe, in place of generated ones
    questions: Positive = 200  # of your own: held-out ones, at least, where this is set
    book: Literal["closed", "open", "both"] = "both"  # open: the passage that holds the answer stands in the prompt
    open_kinds: Annotated[list[Open], Field(min_length=1)] = list(get_args(Open))
    taught: int = Field(default=50, ge=0)  # more questions, about pages that were trained on, in other words
    general: int = Field(default=0, ge=0)  # more questions, against forgetting: arithmetic, logic, JSON and the like
    forgetting_margin: Margin = 0.05  # how much worse tuned may be on those
    tutorial: bool = False  # and free-text questions, of which key points are found and nothing is decided
    code: int = Field(default=0, ge=0)  # more held-out questions, whose answers are code that is run in a sandbox
    require_gain: bool = False  # tuned has to be shown better too, on taught or open-book questions
    efforts: EffortNames = ["low", "medium", "high"]
    max_tokens: Limits = 256  # one for every effort, or {low = ..., medium = ..., high = ...}
    answer_rule: str = "End with one line: ANSWER: <value>"  # developer message of short-answer questions
    temperature: float = Field(default=0.0, ge=0)
    repeats: int = Field(default=1, ge=1, le=32)  # answers to each question, each with a seed of its own
    margin: Margin = 0.05  # how much worse tuned may be, in accuracy
    alpha: float = Field(default=0.05, ge=1e-6, lt=0.5)  # one-sided chance of releasing one worse by the margin
    stop_early: bool = False  # asks effort by effort, and no more once no answer could lead to a PASS
    seed: int = 0
    allow_unlike_servers: bool = True  # whether --allow-unlike-servers may be given; false: no flag talks a gate round
    limits: Gated = Gated()
    _folder: Path = Path()  # where recipe.toml lies

    @model_validator(mode="before")
    @classmethod
    def _own(cls, given: Any) -> Any:
        if not (isinstance(given, dict) and given.get(OWN)):
            return given
        if idle := sorted(_GENERATED & given.keys()):
            raise ValueError(f"{', '.join(idle)} shape generated questions, and {OWN} names your own")
        return {**given, "taught": 0}

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if isinstance(self.max_tokens, dict) and (none := [e for e in self.efforts if e not in self.max_tokens]):
            raise ValueError(f"max_tokens is a table without a limit for effort {', '.join(none)}")
        if self.repeats > 1 and not self.temperature:
            again = f"repeats = {self.repeats} at temperature = 0 asks for the same answer again"
            raise ValueError(f"{again}: set temperature = 1, at which GPT-OSS samples by default, or repeats = 1")
        return self

    @property
    def asks(self) -> bool:
        """Whether questions have to be frozen before anything is trained on."""
        return bool(self.modules or self.questions_file)

    @property
    def about_questions(self) -> dict[str, Any]:
        """What decides which questions `evalsuite questions` makes, or takes: it is written into their header.

        Of one's own file its name and sha256: raises UserError where it is not there, for nothing could be held
        against it."""
        if self.questions_file:
            path = self._folder / self.questions_file
            if not path.is_file():
                why = f"[evaluate] {OWN} names it, and questions cannot be held against a file that is not there"
                fix = f"put {self.questions_file} beside recipe.toml, where a CI job runs the gate too"
                raise UserError(f"there is no file {path}", why=why, fix=fix)
            least = {"questions": self.questions} if "questions" in self.model_fields_set else {}
            digest = file_digest(path)
            return {OWN: path.name, "sha256": digest, **least, "answer_rule": self.answer_rule, **self._besides}
        sets = {"modules": sorted(set(self.modules)), "open_kinds": sorted(set(self.open_kinds))}
        return {**self.model_dump(include=ABOUT_QUESTIONS), **sets, **self._besides}

    @property
    def _besides(self) -> dict[str, Any]:
        """General, tutorial and code questions; nothing where none are asked: such a set is what it was before there
        were any. One's own file has no seed."""
        seed = {"seed": self.seed} if self.questions_file and self.general else {}
        asked = {GENERAL: self.general, CODE: self.code, TUTORIAL: self.tutorial}
        return {key: value for key, value in asked.items() if value} | seed

    def require_questions(self, path: Path, made: Mapping[str, Any]) -> None:
        """Raise UserError when the set in `path` was made from other settings, or taken from another file, than these
        name. `made` is {} for one that was made by hand: a recipe without a questions_file says nothing about it."""
        if OWN in made and not self.questions_file:
            file = one_line(str(made[OWN]), 80)
            raise UserError(
                f"{path} is not the question set of this recipe",
                why=f"it was taken from {file}, and [evaluate] names no {OWN}",
                fix=f'add {OWN} = "{file}" to [evaluate] of the recipe, or evalsuite questions --out {path}',
            )
        now = self.about_questions if made or self.questions_file else {}
        count = made.get("questions")
        if self.questions_file and isinstance(count, int) and count >= now.get("questions", 0):
            now.pop("questions", None)  # one's own file has what it has: more is no less strict
        now = {key: none for key, none in {GENERAL: 0, CODE: 0, TUTORIAL: False}.items() if key in made} | now
        self.require_unchanged(path, made)
        if other := [key for key in now if made.get(key) != now[key]]:
            raise UserError(
                f"{path} is not the question set of this recipe",
                why="\n       ".join(f"{key} was {made.get(key)}, and [evaluate] has {now[key]}" for key in other),
                fix=f"evalsuite questions --out {path}, then tune dataset",
            )

    def require_unchanged(self, path: Path, made: Mapping[str, Any]) -> None:
        """Raise UserError when the set in `path`, or the one that the report in it is of, was taken from one's own file
        before that was changed."""
        now = self.about_questions if self.questions_file else {}
        if self.questions_file and made.get(OWN) == now[OWN] and made.get("sha256") != now["sha256"]:
            raise UserError(
                f"{self._folder / self.questions_file} is no longer the file that was asked",
                why=f"it was changed after the questions of {path} were taken from it",
                fix="put it back as it was, or: evalsuite questions, then tune dataset, then evalsuite compare",
            )


def tokens_at(limits: Limits, effort: EffortName | None) -> int:
    """The limit at an effort; the highest one where none is named."""
    if isinstance(limits, int):
        return limits
    return limits[effort] if effort in limits else max(limits.values())
