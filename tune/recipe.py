"""CONTRACT: recipe.toml, one file a project, a section a stage. Every problem is reported at once."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from tune.artefact import file_digest
from tune.errors import UserError
from tune.harmony import EFFORTS, Effort
from tune.terminal import one_line

Positive = Annotated[int, Field(gt=0)]
Efforts = Annotated[list[Effort], Field(min_length=1)]
EffortName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]  # of any endpoint: GPT-OSS has three
Limits = Annotated[  # tokens of a reply, thinking and answer: one number, or a table by effort
    Annotated[Positive, Tag("number")] | Annotated[dict[EffortName, Positive], Field(min_length=1), Tag("table")],
    Discriminator(lambda given: "table" if isinstance(given, dict) else "number"),
]
Share = Annotated[float, Field(gt=0, lt=1)]
Margin = Annotated[float, Field(ge=1e-4, lt=1)]  # finer ones no number of questions shows
EnvName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def _named(given: Any) -> Any:
    """An empty path would be the folder itself, and no file system takes a NUL."""
    if isinstance(given, str) and (not given.strip() or "\0" in given):
        raise ValueError("a path holds no NUL character" if given.strip() else "an empty path names nothing")
    return given


Place = Annotated[Path, BeforeValidator(_named)]


class Section(BaseModel):
    """A section of recipe.toml: unknown keys are refused, and TOML's inf and nan; values never change after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Project(Section):
    name: str = Field(default="python-docs", pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")
    work: Place = Path("work")  # where stages write, relative to the recipe


class Collect(Section):
    """Where pages come from. One source a recipe."""

    source: Literal["stdlib", "sphinx", "web", "brightdata"] = "stdlib"
    modules: list[str] = []  # stdlib: modules whose docstrings and signatures become pages
    topics: bool = True  # stdlib: pydoc's language-reference topics too
    folder: Place | None = None  # sphinx: a folder of built HTML
    urls: list[str] = []  # web, brightdata
    zone: str = ""  # brightdata: the Web Unlocker zone to bill

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if self.source == "sphinx" and self.folder is None:
            raise ValueError('source = "sphinx" needs folder')
        if self.source in {"web", "brightdata"} and not self.urls:
            raise ValueError(f'source = "{self.source}" needs urls')
        if self.source == "brightdata" and not self.zone:
            raise ValueError('source = "brightdata" needs zone: the Web Unlocker zone to bill')
        if self.source == "stdlib" and not (self.modules or self.topics):
            raise ValueError('source = "stdlib" needs modules or topics = true')
        return self


Open = Literal[
    "open-parameter", "open-default", "open-keyword", "open-section", "open-doctest", "open-value", "open-silent"
]  # the passage stands in the prompt
Kind = Literal["section", "signature", "default", "keyword-only", "parameter", "module", "doctest", Open]  # of example


class Dataset(Section):
    kinds: Annotated[list[Kind], Field(min_length=1)] = list(get_args(Kind))
    efforts: Efforts = ["low", "medium", "high"]
    eval_share: Share = 0.1  # of pages, not of rows
    max_tokens: Positive = 512  # longer examples are dropped and counted
    date: str = Field(default="2026-01-01", pattern=r"^\d{4}-\d{2}-\d{2}$")  # the prompt's date line, kept to serving
    seed: int = 0


class Base(Section):
    model: Annotated[str, BeforeValidator(_named)] = "nano"  # "nano", a Hub id such as openai/gpt-oss-20b, or a folder
    revision: str = ""  # a Hub id needs a commit


# How a model from a random start is taught, where the recipe does not say.
_RANDOM = {"steps": 400, "batch_tokens": 1024, "learning_rate": 3e-3}
_SHAPE = {"layers", "hidden", "experts"}


class Nano(Section):
    """The embedded base model: what it starts from, and how it is taught to speak harmony."""

    kind: Literal["smollm2", "random"] = "smollm2"  # SmolLM2-135M-Instruct rewritten, which can read
    file: Place | None = None  # smollm2: its wheel or GGUF, for a machine without a package index
    layers: Positive = 4  # random: the shape
    hidden: Annotated[int, Field(gt=0, multiple_of=32)] = 128  # what vLLM's CPU kernels take
    experts: Positive = 4
    steps: Positive = 72
    batch_tokens: Positive = 512
    learning_rate: float = Field(default=2e-4, gt=0)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _taught(cls, given: Any) -> Any:
        return {**_RANDOM, **given} if isinstance(given, dict) and given.get("kind") == "random" else given

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind == "smollm2" and (shape := sorted(_SHAPE & self.model_fields_set)):
            raise ValueError(f'{", ".join(shape)} shape kind = "random" alone')
        if self.kind == "random" and self.file:
            raise ValueError('file is what kind = "smollm2" is made from')
        return self

    @property
    def about_model(self) -> dict[str, Any]:
        """What of the section decides which model it is: where the file lies does not."""
        shape = set() if self.kind == "random" else _SHAPE
        return self.model_dump(exclude={"file", *shape})


class Train(Section):
    """LoRA training. A step learns from batch x accumulate x gpus x hosts rows."""

    backend: Literal["auto", "packed", "unsloth", "peft"] = "auto"
    targets: Literal["attention", "all"] = "attention"  # all: the experts' gate, up and down projections too
    rank: Positive = 8
    alpha: Positive = 16
    optimizer: Literal["auto", "adamw_8bit", "adamw"] = "auto"  # auto: 8 bit where bitsandbytes runs
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"  # after the warm-up
    warmup_steps: int = Field(default=5, ge=0)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int = -1  # over epochs when positive
    batch: Positive = 2  # rows at a time
    accumulate: Positive = 4
    eval_rows: Positive = 64  # held-out rows whose loss is taken before and after, spread over all pages
    eval_every: int = Field(default=0, ge=0)  # steps between further looks at them; 0: none
    patience: int = Field(default=0, ge=0)  # looks without a better loss before training stops; 0: never
    save_every: int = Field(default=0, ge=0)  # steps between savings; 0: a minute, or 50 of several GPUs
    gpus: Positive = 1  # of each host
    hosts: list[str] = []  # addresses, the first one leads; none: this machine alone
    seed: int = 3407

    @property
    def about_adapter(self) -> dict[str, Any]:
        """What decides which adapter `tune train` makes: hosts by their number, whatever their addresses are."""
        return {**self.model_dump(mode="json"), "hosts": max(1, len(self.hosts))}

    @model_validator(mode="after")
    def _looks(self) -> Self:
        if self.patience and not self.eval_every:
            raise ValueError("patience counts looks at held-out rows, and eval_every = 0 takes none")
        return self


class Export(Section):
    format: Literal["merged", "mxfp4", "lora", "gguf"] = "merged"  # gguf: of the mxfp4 or merged export, by llama.cpp
    allow_lossy: bool = False  # write MXFP4 that keeps less than 0.9 of what the adapter does to the experts


class Serve(Section):
    """How a checkpoint is served, here and when deployed. `serve run` has a flag for each key, and the flag wins."""

    default_effort: Effort | None = None  # of a request that names none; not set: medium, or max_effort if lower
    max_effort: Effort = "high"  # higher ones are lowered to it
    spelling: Literal["strict", "map"] = "strict"  # map: none and minimal mean low, xhigh and max mean high
    max_model_len: Positive = 2048  # tokens of prompt and answer
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get at a stop
    max_body: Positive = 8 * 2**20  # bytes of one request
    raw_completions: bool = False  # open /v1/completions, where no effort is applied

    @model_validator(mode="after")
    def _cap(self) -> Self:
        if self.default_effort and EFFORTS.index(self.default_effort) > EFFORTS.index(self.max_effort):
            raise ValueError(f"default_effort {self.default_effort} is above the maximum, max_effort {self.max_effort}")
        return self


OWN = "questions_file"  # of [evaluate], and of the header of a set that was taken from it
GENERAL = "general"  # of [evaluate], and of the header of a set that has such questions
_GENERATED = {"book", "open_kinds", "taught"}  # say nothing about one's own questions
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
    require_gain: bool = False  # tuned has to be shown better too, on taught or open-book questions
    efforts: Annotated[list[EffortName], Field(min_length=1)] = ["low", "medium", "high"]
    max_tokens: Limits = 256  # one for every effort, or {low = ..., medium = ..., high = ...}
    answer_rule: str = "End with one line: ANSWER: <value>"  # developer message of short-answer questions
    temperature: float = Field(default=0.0, ge=0)
    repeats: int = Field(default=1, ge=1, le=32)  # answers to each question, each with a seed of its own
    margin: Margin = 0.05  # how much worse tuned may be, in accuracy
    alpha: float = Field(default=0.05, ge=1e-6, lt=0.5)  # one-sided chance of releasing one worse by the margin
    seed: int = 0
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
            made = {OWN: path.name, "sha256": file_digest(path), **least, "answer_rule": self.answer_rule}
            return {**made, **self._against_forgetting}
        sets = {"modules": sorted(set(self.modules)), "open_kinds": sorted(set(self.open_kinds))}
        return {**self.model_dump(include=ABOUT_QUESTIONS), **sets, **self._against_forgetting}

    @property
    def _against_forgetting(self) -> dict[str, int]:
        """Nothing where none are asked: such a set is what it was before there were any. One's own file has no seed."""
        return {GENERAL: self.general, **({"seed": self.seed} if self.questions_file else {})} if self.general else {}

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
        if GENERAL in made:
            now.setdefault(GENERAL, 0)
        if other := [key for key in now if made.get(key) != now[key]]:
            raise UserError(
                f"{path} is not the question set of this recipe",
                why="\n       ".join(f"{key} was {made.get(key)}, and [evaluate] has {now[key]}" for key in other),
                fix=f"evalsuite questions --out {path}, then tune dataset",
            )


def tokens_at(limits: Limits, effort: EffortName | None) -> int:
    """The limit at an effort; the highest one where none is named."""
    if isinstance(limits, int):
        return limits
    return limits[effort] if effort in limits else max(limits.values())


class Deploy(Section):
    gpu: str = Field(default="H100", pattern=r"^[A-Za-z0-9-]{1,32}$")  # a name in deploy/hardware.toml
    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]{2,12}){1,3}-\d$")  # SageMaker
    registry: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.:/_-]{0,200})?$")  # where you push images
    min_replicas: int = Field(default=0, ge=0)
    max_replicas: Positive = 1  # not set: min_replicas, if that is more
    concurrency: Positive = 16  # requests in flight a replica, before another is started
    idle_seconds: int = Field(default=300, ge=2, le=3600)  # before an idle replica stops
    startup_seconds: int = Field(default=1800, ge=60, le=3600)  # to load weights and answer
    request_seconds: Positive = 300  # the longest answer that is waited for
    secrets: dict[EnvName, SecretName] = {}  # environment variable: the name of a secret kept at the target

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        if isinstance(given, dict) and "max_replicas" not in given and isinstance(given.get("min_replicas"), int):
            return {**given, "max_replicas": max(1, given["min_replicas"])}
        return given

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas = {self.min_replicas} is over max_replicas = {self.max_replicas}")
        return self


class Recipe(Section):
    """A whole recipe. `folder` is where recipe.toml lies."""

    folder: Path = Field(default=Path(), exclude=True)
    project: Project = Project()
    collect: Collect = Collect()
    dataset: Dataset = Dataset()
    base: Base = Base()
    nano: Nano = Nano()
    train: Train = Train()
    export: Export = Export()
    serve: Serve = Serve()
    evaluate: Evaluate = Evaluate()
    deploy: Deploy = Deploy()

    @model_validator(mode="after")
    def _held_out(self) -> Self:
        both = sorted(set(self.collect.modules) & set(self.evaluate.modules))
        if both:
            raise ValueError(
                f"collect.modules and evaluate.modules share {', '.join(both)}: questions must be held out"
            )
        return self

    @model_validator(mode="after")
    def _beside(self) -> Self:
        self.evaluate._folder = self.folder
        return self

    @property
    def work(self) -> Path:
        """The folder that stages write to: one sub-folder a stage."""
        return self.folder / self.project.work


def read(path: Path) -> Recipe:
    """Read recipe.toml. Raises UserError that lists every wrong section, key and value."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no {path}", fix="tune init") from None
    except OSError as e:
        raise UserError(
            f"{path} cannot be read", why=e.strerror or "", fix="make it a file that you may read"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path} is not TOML", why=str(e), fix=f"edit {path}") from None
    try:
        return Recipe(**{**data, "folder": path.parent})
    except ValidationError as e:
        raise UserError(
            f"{path} has {e.error_count()} problem{'s' if e.error_count() > 1 else ''}",
            why="\n       ".join(_problem(p["loc"], p["type"], p["msg"]) for p in e.errors()),
            fix=f"edit {path}",
        ) from None


def _problem(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(map(str, loc)) or "recipe"
    if kind == "extra_forbidden":
        section: Any = Recipe
        for part in loc[:-1]:
            section = section.model_fields[str(part)].annotation
        known = ", ".join(f for f in getattr(section, "model_fields", {}) if f != "folder")
        return f"{where}: no such {'key' if len(loc) > 1 else 'section'}; there are {known}"
    return f"{where}: {message.removeprefix('Value error, ')}"
