"""`serve`: run | reload | adapters | preflight | command | hosts | ask | wait | keys new. Parses and prints."""

import json
import shlex
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serve import commands
from serve.options import engine_options, hosts_options, spoken
from tune import errors
from tune.errors import Group, UserError

if TYPE_CHECKING:
    from serve.command import Options
    from serve.preflight import Preflight


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gptoss-kit", prog_name="gptoss-kit")
def main() -> None:
    """Checkpoint in, OpenAI-compatible URL out."""


@main.command()
@engine_options
@click.option("--log", type=click.Path(path_type=Path), help="The engine's output.  [default: beside FOLDER]")
@click.option("--ready-timeout", type=float, default=900, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when ready.")
def run(folder: Path, log: Path | None, ready_timeout: float, as_json: bool, **given: Any) -> None:
    """Serve the checkpoint in FOLDER until Ctrl-C. What follows -- goes to vLLM."""
    from serve import command, jobs, supervisor

    options = _options(**given)
    key = _key(options.key_env)
    found = _preflight(folder, options, quiet=as_json, digests=False)  # they are taken while the engine loads
    found.require()
    if options.port == 0:
        options = options.model_copy(update={"port": _free_port(options.host)})
    names = command.served_names(found.checkpoint, options)
    names += [name for a in found.adapters for name in (a.name, a.served_name)]
    more: dict[str, Any] = {"key": key, "log": log, "ready_timeout": ready_timeout}
    job = jobs.job(found, options, **more)

    def ready() -> None:
        facts = {"url": f"{job.url}/v1", "models": names, "digest": found.checkpoint.digest, "log": str(job.log)}
        if as_json:
            click.echo(json.dumps(facts))
        else:
            beside = "".join(f", {a.name} beside it" for a in found.adapters)
            click.echo(f"{facts['url']}  model {names[0]}{beside}  (Ctrl-C stops)")

    supervisor.run(job, lambda line: click.echo(line, err=True), ready, jobs.remake(options, **more))


main.add_command(commands.reload)
main.add_command(commands.adapters)


@main.command()
@engine_options
@click.option("--gpu", default="", metavar="NAME", help="Judge for such a GPU, not for this machine: H100, L4, ...")
@click.option(
    "--gpus",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="How many of them; --tensor-parallel says what shares the model.",
)
@click.option("--digests/--no-digests", default=True, help="Prove every file: 1 s a GB that was not read before.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def preflight(folder: Path, gpu: str, gpus: int, digests: bool, as_json: bool, **given: Any) -> None:
    """Say all that is wrong with FOLDER, this machine or these options, without starting anything."""
    with errors.as_json(as_json, "S000"):
        options = _options(**given)
        if gpus > 1 and not gpu:
            raise UserError("--gpus counts the GPUs that --gpu names", fix=f"--gpu H100 --gpus {gpus}")
        found = _preflight(folder, options, quiet=as_json, digests=digests, gpu=gpu, gpus=gpus)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
        sys.exit(2 if found.errors else 0)
    found.require()
    shown = {
        name.removesuffix("_bytes"): f"{size / 2**20:,.0f} MiB" if name.endswith("_bytes") else f"{size:,}"
        for name, size in found.figures.items()
    }
    click.echo(f"{folder} can be served {found.where}: " + ", ".join(f"{n} {size}" for n, size in shown.items()))
    for line in found.unchecked:
        click.echo(f"note: {line}", err=True)


@main.command("command")
@engine_options
def show_command(folder: Path, **given: Any) -> None:
    """Print the engine's environment and command line. Holds no secrets."""
    from serve import jobs

    options = _options(**given)
    nothing = {"port": 0, "key_env": ""}  # is bound here, or let in
    found = _preflight(folder, options.model_copy(update=nothing), quiet=True)
    found.require()
    built = jobs.engine(found, options)
    for name, value in built.env.items():
        click.echo(f"{name}={shlex.quote(value)} \\")
    click.echo(shlex.join(built.argv))


@main.command()
@hosts_options
def hosts(folder: Path, addresses: tuple[str, ...], door: str, master_port: int, gpu: str, **given: Any) -> None:
    """Print what to run on each of several hosts, so that their GPUs serve FOLDER together.

    The first is where clients ask, and where the others report to. Each needs the same FOLDER at the same path, and
    this installation. What follows -- goes to vLLM.
    """
    from serve import hosts, parts

    addresses = hosts.checked(addresses)
    options = _options(**given, host=door)
    told = parts.counted(options, len(addresses)).model_copy(update={"port": 0, "key_env": ""})
    found = _preflight(folder, told, quiet=True, digests=False, gpu=gpu, gpus=told.tuning.gpus)
    found.require()
    recipe = given["recipe"] or Path("recipe.toml")
    run = [*(["--recipe", str(recipe.absolute())] if recipe.is_file() else []), *spoken(click.get_current_context())]
    for host in hosts.commands(found, options, addresses, master_port, run):
        click.echo(f"# {host.address}\n{host.command}\n")


@main.command()
@click.argument("url")
@click.argument("prompt")
@click.option("--effort", default="", help="low, medium or high, or several: low,high.  [default: the server's]")
@click.option("--model", default="", help="[default: the first that the server lists]")
@click.option("--max-tokens", type=int, default=512, show_default=True, help="Thinking and answer.")
@click.option("--api-key-env", default="", metavar="NAME", help="Environment variable that holds the API key.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of answers with tokens and seconds.")
def ask(url: str, prompt: str, effort: str, model: str, max_tokens: int, api_key_env: str, as_json: bool) -> None:
    """Ask the server at URL. One answer streams: thinking to stderr, the answer to stdout. Several efforts are asked
    one after the other and shown side by side."""
    from serve import sides
    from serve.ask import ask as ask_server
    from tune.terminal import say, tell

    key = _key(api_key_env)
    efforts = list(dict.fromkeys(part.strip() for part in effort.split(",")))
    streams = len(efforts) == 1 and not as_json
    answers = []
    for one in efforts:
        if not streams:
            say(f"asking at {one or 'the default effort'}")
        write = sides.stream if streams else sides.silent
        answers.append(ask_server(url, prompt, effort=one, model=model, key=key, max_tokens=max_tokens, write=write))
    if streams:
        click.echo()
        if answers[0].ended == "length":
            click.echo(f"(cut off after {max_tokens} tokens: --max-tokens)", err=True)
    elif as_json:
        tell(json.dumps([answer.model_dump() for answer in answers], indent=1))
    else:
        tell("\n".join(sides.rows(answers, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)))


@main.command()
@click.argument("url")
@click.option("--timeout", type=float, default=300, show_default=True, help="Seconds.")
def wait(url: str, timeout: float) -> None:
    """Return when the server at URL is ready."""
    from serve import probe

    with probe.client(url) as http:
        why = probe.wait(http, timeout)
    if why:
        raise UserError(f"{url} is not ready", why=why, fix="serve run FOLDER, or a larger --timeout")
    click.echo(f"{url} is ready")


@main.group()
def keys() -> None:
    """API keys of a server, each with its own efforts."""


@keys.command()
@click.argument("name")
def new(name: str) -> None:
    """Make a key for NAME. Shows it once, on stderr; its lines go to stdout: serve keys new NAME >> keys.toml"""
    from serve import keys

    key, lines = keys.new(name)
    click.echo(f"{key}  (the key of {name}: it is shown this once)", err=True)
    click.echo(lines)


def _options(**given: Any) -> "Options":
    """The recipe's [serve] with what was given on the command line, which wins. Raises UserError for unusable keys."""
    from serve import command
    from serve import keys as key_file
    from tune import recipe

    path = given.pop("recipe")
    if path is None and Path("recipe.toml").is_file():
        path = Path("recipe.toml")
    section = recipe.read(path).serve if path else recipe.Serve()
    keys = given.pop("keys", None) or (path.parent / section.keys if path and section.keys else None)
    given["keys"] = str(Path(keys).absolute()) if keys else None
    named = {name: path.parent / folder for name, folder in section.adapters.items()} if path else {}
    named |= given.get("adapters") or {}
    given["adapters"] = {name: str(Path(folder).absolute()) for name, folder in named.items()}
    given |= {name: str(Path(given[name]).absolute()) for name in ("tls_cert", "tls_key") if given.get(name)}
    options = command.options(section, key_env=given.pop("api_key_env"), **given)
    if options.keys:
        key_file.read(Path(options.keys), options.policy)
    return options


def _preflight(
    folder: Path, options: "Options", *, quiet: bool, digests: bool = True, gpu: str = "", gpus: int = 1
) -> "Preflight":
    from serve import machine, preflight

    there = machine.named(gpu, gpus) if gpu else machine.detect()
    found = preflight.check(folder, options, there, digests=digests)
    for problem in found.problems:
        if problem.severity == "warning" and not quiet:
            click.echo(f"note: {problem.id} {problem.what}: {problem.why}", err=True)
    return found


def _key(name: str) -> str:
    from serve.preflight import api_key

    return api_key(name) if name else ""


def _free_port(host: str) -> int:
    family, both = (
        (socket.AF_INET6, host == "::" and socket.has_dualstack_ipv6()) if ":" in host else (socket.AF_INET, False)
    )
    with socket.create_server((host, 0), family=family, dualstack_ipv6=both) as s:
        port: int = s.getsockname()[1]
        return port
