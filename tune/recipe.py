"""CONTRACT: recipe.toml, one file a project, a section a stage. Every problem is reported at once."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tune.deploy import Deploy
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.harmony import EFFORTS, Effort
from tune.section import KINDS, Efforts, Open, Place, Positive, Section, Share, named, once


class Project(Section):
    name: str = Field(default="python-docs", pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")
    work: Place = Path("work")  # where stages write, relative to the recipe


class Collect(Section):
    """Where pages come from. One source a recipe. From the network: `source` finds the URLs, `through` fetches them."""

    source: Literal["stdlib", "folder", "sphinx", "web", "site", "brightdata"] = "stdlib"
    modules: list[str] = []  # stdlib: modules whose docstrings and signatures become pages
    topics: bool = True  # stdlib: pydoc's language-reference topics too
    folder: Place | None = None  # folder: HTML, Markdown, MDX, RST, PDF and DOCX, mixed; sphinx: the same, older name
    allow_failures: bool = False  # folder: go on though most of its files give no page
    urls: list[str] = []  # web: the pages; brightdata: the same as web through = "brightdata"
    url: str = ""  # site: pages under it are found by its sitemap, else objects.inv, else links
    max_pages: Positive = 1000  # site: URLs that are fetched
    through: Literal["direct", "brightdata"] = "direct"  # web, site: who fetches
    zone: str = ""  # Bright Data: the Web Unlocker zone to bill
    max_requests: int = Field(default=0, ge=0)  # web, site: of one run, the next goes on after it; 0: no limit
    price_per_thousand: float = Field(default=0.0, ge=0)  # Bright Data: dollars, for the estimate; 0: none is made

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if self.source in {"folder", "sphinx"} and self.folder is None:
            raise ValueError(f'source = "{self.source}" needs folder')
        if self.source in {"web", "brightdata"} and not self.urls:
            raise ValueError(f'source = "{self.source}" needs urls')
        if self.source == "site" and not self.url:
            raise ValueError('source = "site" needs url: pages under it are found')
        if self.through == "brightdata" and self.source not in {"web", "site", "brightdata"}:
            raise ValueError(f'through = "brightdata" fetches for web and site, and source is "{self.source}"')
        if self.by_brightdata and not self.zone:
            named = "source" if self.source == "brightdata" else "through"
            raise ValueError(f'{named} = "brightdata" needs zone: the Web Unlocker zone to bill')
        if self.source == "stdlib" and not (self.modules or self.topics):
            raise ValueError('source = "stdlib" needs modules or topics = true')
        return self

    @property
    def by_brightdata(self) -> bool:
        """Whether pages are fetched by Bright Data and billed."""
        return "brightdata" in {self.source, self.through}

    @property
    def remote(self) -> bool:
        """Whether pages come from the network."""
        return self.source in {"web", "site", "brightdata"}

    @property
    def about_pages(self) -> dict[str, Any]:
        """What decides which pages there are: neither where a folder lies, nor what fetching may cost; of a source on
        this machine nothing that is for the network."""
        unasked = {"folder", "allow_failures", "max_requests", "price_per_thousand"}
        local = set() if self.remote else {"url", "max_pages", "through"}
        return self.model_dump(mode="json", exclude=unasked | local)


Python = Literal["section", "signature", "default", "keyword-only", "parameter", "module", "doctest"]
Reference = Literal["raises", "version", "entry"]
Kind = Literal[Python, Reference, Open, "synthetic", "neighbours"]  # of example
COMPARED = ("neighbours",)  # kinds that are made only where they are named: to see what they do


class Dataset(Section):
    """What is trained on. Rows of your own are conversations in files; formats are found by their keys."""

    kinds: Annotated[list[Kind], Field(min_length=1)] = [k for k in get_args(Kind) if k not in COMPARED]  # from pages
    efforts: Efforts = ["low", "medium", "high"]
    eval_share: Share = 0.1  # of pages, not of rows
    max_tokens: Positive = 512  # longer examples are dropped and counted
    date: str = Field(default="2026-01-01", pattern=r"^\d{4}-\d{2}-\d{2}$")  # the prompt's date line, kept to serving
    personal: Literal["drop", "keep"] = "drop"  # rows with addresses, telephone, account or card numbers of people
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2}$")]] = []  # of answers' prose, as ["en"]; none: any
    rows: list[Place] = []  # your own: .jsonl, .json, either .gz, .parquet, relative to the recipe
    general: str = ""  # such a file or a Hub id: general conversations against forgetting, to train on alone
    general_revision: str = ""  # a Hub id needs a commit
    general_share: Share = 0.1  # of the rows to train on
    seed: int = 0

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        once([path.as_posix() for path in self.rows])
        return self


class Synthesis(Section):
    """Questions and answers about the pages that another model writes, behind any OpenAI-compatible endpoint."""

    url: str = Field(pattern=r"^https?://\S+$")
    model: Annotated[str, Field(min_length=1)]
    judge: str = ""  # the model there that judges them; not set: the same
    key_env: Annotated[str, Field(pattern=r"^([A-Z][A-Z0-9_]{0,63})?$")] = ""  # the variable that holds the key
    questions: Annotated[int, Field(ge=1, le=10)] = 2  # about a passage, at most
    effort: Effort | None = None  # of models that take one
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Positive = 4096  # of a reply, thinking too
    seed: int = 0


class Base(Section):
    model: Annotated[str, BeforeValidator(named)] = "nano"  # "nano", a Hub id such as openai/gpt-oss-20b, or a folder
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
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"  # in 8 bit its moments are too coarse for a small LoRA
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


Profile = Literal["none", "latency", "throughput", "fast-start"]  # of serve/profiles.toml


class Serve(Section):
    """How a checkpoint is served, here and when deployed. `serve run` has a flag for each key, and the flag wins."""

    default_effort: Effort | None = None  # of a request that names none; not set: medium, or max_effort if lower
    max_effort: Effort = "high"  # higher ones are lowered to it
    allowed_efforts: tuple[Effort, ...] = Field(default=EFFORTS, min_length=1)  # others are refused
    spelling: Literal["strict", "map"] = "map"  # map: none and minimal mean low, xhigh and max high; strict: refused
    thinking_tokens: dict[Effort, Positive] = {}  # { low = 512 }: at most so many of reasoning at an effort
    keys: str = ""  # a file of API keys (serve keys new NAME), each with a policy within this one; not for deployments
    reasoning_content: bool = False  # chat answers carry their `reasoning` under this name too
    strict_format: bool = False  # an answer off the harmony format is an error, not 200
    max_model_len: Positive = 2048  # tokens of prompt and answer
    profile: Profile = "none"  # engine flags for an aim
    tensor_parallel: Positive = 1  # GPUs that share one model
    data_parallel: Positive = 1  # such groups, each with requests of its own; all share the experts
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get at a stop
    hang_after: int = Field(default=25, ge=0)  # seconds without a step before the engine is restarted; 0: never
    max_body: Positive = 8 * 2**20  # bytes of one request
    max_concurrent: int = Field(default=0, ge=0)  # requests under way at once, others get 503; 0: no limit
    adapters: dict[str, str] = {}  # { mine = "work/lora" }: served beside the base under that name; not for deployments
    adapter_rank: int = Field(default=0, ge=0)  # room for adapters of so large a rank; 0: for those named, if any
    adapter_slots: int = Field(default=0, ge=0)  # and for so many; 0: as many as are named, at least 2
    raw_completions: bool = False  # open /v1/completions, where no effort is applied

    @model_validator(mode="after")
    def _cap(self) -> Self:
        if self.default_effort and EFFORTS.index(self.default_effort) > EFFORTS.index(self.max_effort):
            raise ValueError(f"default_effort {self.default_effort} is above the maximum, max_effort {self.max_effort}")
        return self


class Recipe(Section):
    """A whole recipe. `folder` is where recipe.toml lies."""

    folder: Path = Field(default=Path(), exclude=True)
    project: Project = Project()
    collect: Collect = Collect()
    dataset: Dataset = Dataset()
    synthesis: Synthesis | None = None
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
    where = ".".join(str(part) for part in loc if part not in KINDS) or "recipe"
    if kind == "extra_forbidden":
        section: Any = Recipe
        for part in loc[:-1]:
            section = section.model_fields[str(part)].annotation
        known = ", ".join(f for f in getattr(section, "model_fields", {}) if f != "folder")
        return f"{where}: no such {'key' if len(loc) > 1 else 'section'}; there are {known}"
    return f"{where}: {message.removeprefix('Value error, ')}"
