"""The options of `serve run`, `preflight` and `command` that decide the engine's command line."""

from collections.abc import Callable
from pathlib import Path

import click
from click.core import ParameterSource

EFFORT = click.Choice(["low", "medium", "high"])  # tune.harmony.EFFORTS, without its import time


def _budgets(_: click.Context, __: click.Parameter, text: str | None) -> dict[str, int] | None:
    """`low=512,high=8192` as a table."""
    try:
        pairs = [part.split("=") for part in text.split(",")] if text else []
        return {effort.strip(): int(tokens) for effort, tokens in pairs} if text is not None else None
    except ValueError:
        raise click.BadParameter(f"{text!r} is not like low=512,medium=2048") from None


def _efforts(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """`low,medium` as words."""
    return tuple(EFFORT(word.strip()) for word in text.split(",")) if text is not None else None


PATHS = {"keys", "tls_cert", "tls_key"}
OF_HOSTS = {"addresses", "master_port", "gpu", "recipe"}  # what `serve hosts` says in its own words
LISTENS: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--host", default="127.0.0.1", show_default=True, help="0.0.0.0: every network."
)


def _adapters(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    """Each `NAME=FOLDER` as an entry of a table."""
    pairs = [text.partition("=") for text in given]
    if wrong := next((name for name, is_, folder in pairs if not (is_ and folder)), ""):
        raise click.BadParameter(f"{wrong!r} is not like NAME=FOLDER")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("two adapters have the same name")
    return {name: folder for name, _, folder in pairs} or None


def engine_options(
    command: Callable[..., None], host: Callable[[Callable[..., None]], Callable[..., None]] = LISTENS
) -> Callable[..., None]:
    """The options that decide the engine's command line, shared by run, preflight, command and hosts."""
    folder = click.Path(path_type=Path)
    for decorate in (
        click.argument("extra", nargs=-1, type=click.UNPROCESSED),
        click.argument("folder", type=folder),
        click.option("--recipe", type=folder, help="Its [serve] gives defaults.  [default: ./recipe.toml, if any]"),
        click.option("--raw-completions/--no-raw-completions", default=None,
                     help="Open /v1/completions, where no effort is applied.  [default: closed]"),
        click.option("--max-body", type=int, help="Bytes of one request.  [default: 8388608]"),
        click.option("--max-concurrent", type=int,
                     help="Requests under way at once, others get 503; 0: no limit.  [default: 0]"),
        click.option("--adapter", "adapters", multiple=True, callback=_adapters, metavar="NAME=FOLDER",
                     help="A LoRA checkpoint to serve beside the base, under that name. Repeatable.  [default: none]"),
        click.option("--adapter-rank", type=int,
                     help="Room for adapters of that rank, added later too.  [default: that of the named]"),
        click.option("--adapter-slots", type=int, help="And for so many.  [default: as many as are named, at least 2]"),
        click.option("--drain", type=int, help="Seconds to finish requests at a stop.  [default: 10]"),
        click.option("--hang-after", type=int, help="Restart after seconds without a step; 0: never.  [default: 25]"),
        click.option("--data-parallel", type=int,
                     help="Groups of GPUs with requests of their own, which share the experts.  [default: 1]"),
        click.option("--tensor-parallel", type=int, help="GPUs that share one model.  [default: 1]"),
        click.option("--profile", type=click.Choice(["latency", "throughput", "fast-start", "none"]),
                     help="Engine flags for that aim on this kind of GPU.  [default: none]"),
        click.option("--max-model-len", type=int, help="Tokens of prompt and answer.  [default: 2048]"),
        click.option("--reasoning-content/--no-reasoning-content", default=None,
                     help="Chat answers carry `reasoning` as `reasoning_content` too.  [default: when a client asks]"),
        click.option("--strict-format/--no-strict-format", default=None,
                     help="An answer off the harmony format is an error.  [default: it is counted and logged]"),
        click.option("--thinking-tokens", callback=_budgets, metavar="low=N,high=N",
                     help="At most so many tokens of reasoning at an effort.  [default: no budget]"),
        click.option("--spelling", type=click.Choice(["strict", "map"]),
                     help="map: none and minimal mean low, xhigh and max mean high. strict: they are refused."
                          "  [default: map]"),
        click.option("--max-effort", type=EFFORT, help="Higher ones are lowered.  [default: high]"),
        click.option("--allowed-efforts", callback=_efforts, metavar="low,medium",
                     help="Others are refused, where --max-effort lowers.  [default: all]"),
        click.option("--default-effort", type=EFFORT,
                     help="For requests that name none.  [default: medium, or the maximum if that is lower]"),
        click.option("--sagemaker", is_flag=True, help="Open /invocations, for SageMaker."),
        click.option("--tls-key", type=click.Path(), help="Its private key, unencrypted PEM."),
        click.option("--tls-cert", type=click.Path(),
                     help="Certificate with its chain, PEM: https. Read again when it changes."),
        click.option("--keys", type=click.Path(), help="File of API keys, read again when it changes: serve keys new."),
        click.option("--api-key-env", default="", metavar="NAME", help="Environment variable that holds the API key."),
        click.option("--name", default="", help="What clients call the model.  [default: the checkpoint's name]"),
        host,
        click.option("--port", type=int, default=8000, show_default=True, help="0 takes a free one."),
    ):  # fmt: skip
        command = decorate(command)
    return command


def hosts_options(command: Callable[..., None]) -> Callable[..., None]:
    """Those of `serve hosts`: the same, but for --host, which names each host."""
    for decorate in (
        click.option("--gpu", default="", metavar="NAME", help="Each host has such GPUs.  [default: this machine's]"),
        click.option("--master-port", type=click.IntRange(1, 65535), default=29501, show_default=True,
                     help="Where the other hosts reach the first; more ports are chosen by the engine."),
        click.option("--door", default="127.0.0.1", show_default=True, help="Where the first host's server listens."),
    ):  # fmt: skip
        command = decorate(command)
    each = click.option(
        "--host", "addresses", multiple=True, help="A host's address, as the others reach it; the first leads."
    )
    return engine_options(command, each)


def spoken(ctx: click.Context) -> list[str]:
    """What was said on `serve hosts`' command line that `serve run` takes as well, the door as --host."""
    words = []
    for option in ctx.command.params:
        value = ctx.params[option.name or ""]
        said = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if not said or not isinstance(option, click.Option) or option.name in OF_HOSTS:
            continue
        flag = "--host" if option.name == "door" else option.opts[0]
        if option.is_flag:
            words.append(flag if value else option.secondary_opts[0])
        elif option.multiple:
            words += [word for name, folder in value.items() for word in (flag, f"{name}={Path(folder).absolute()}")]
        elif isinstance(value, tuple):
            words += [flag, ",".join(value)]
        elif isinstance(value, dict):
            words += [flag, ",".join(f"{k}={n}" for k, n in value.items())]
        else:
            words += [flag, str(Path(value).absolute()) if option.name in PATHS else str(value)]
    return words
