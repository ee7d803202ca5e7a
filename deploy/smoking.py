"""`deploy smoke`: whether a deployed endpoint does what a client of GPT-OSS needs, as an exit code and a receipt."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tune.terminal import note, tell

if TYPE_CHECKING:
    from deploy.smoke import Smoke
    from evalsuite.asking.client_info import ClientInfo

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=PATH, required=False)
@click.option("--url", default="", metavar="URL", help="Instead of a folder: any endpoint, …/v1.")
@click.option("--model", default="", metavar="ID", help="With --url: the model that is asked for.")
@click.option("--key-env", default="", metavar="NAME", help="With --url: the variable that holds its key.")
@click.option("--client", type=PATH, metavar="FILE", help="Instead of a folder: what deploy client --json printed.")
@click.option("--answer-seconds", type=click.IntRange(1), help="Most that one answer may take.  [default: 300, or the "
              "platform's limit]")  # fmt: skip
@click.option("--patience", type=click.IntRange(0), metavar="SECONDS", help="How long a cold start is waited for.  "
              "[default: as the target says, or 600]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def smoke(
    folder: Path | None, url: str, model: str, key_env: str, client: Path | None, answer_seconds: int | None,
    patience: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Ask a deployed endpoint a handful of questions: cold start, names, chat, stream, effort, tools, a long prompt,
    wrong keys. Exit 0 all passed, 1 something failed, 2 something to change.

    Of a FOLDER that was pushed, the receipt is kept beside it: FOLDER.smoke.json.
    """
    from deploy import folder as rendered
    from deploy import smoke as work
    from tune import artefact

    if [bool(folder), bool(url), bool(client)].count(True) != 1:
        raise click.UsageError("Give a FOLDER that was pushed, or --url, or --client.")
    if (model or key_env) and not url:
        raise click.UsageError("--model and --key-env go with --url.")
    if url and not model:
        raise click.UsageError("Missing option '--model'.")
    known: dict[str, Any] = {}
    if folder:
        with rendered.named(folder):
            info, known = _pushed(folder)
    elif client:
        info = _read(client)
    else:
        info = _given(url, model, key_env)
    if patience is not None:
        info = info.model_copy(update={"patience_seconds": patience})
    made = work.smoke(info, seconds=answer_seconds or 0.0, tell=note, **known)
    if folder:
        place = folder.resolve().with_name(f"{folder.resolve().name}.smoke.json")
        artefact.write_text(place, made.model_dump_json(indent=1) + "\n")
        note(f"receipt: {place}")
    tell(made.model_dump_json(indent=1) if as_json else _words(made))
    sys.exit(0 if made.passed else 1)


def _pushed(folder: Path) -> "tuple[ClientInfo, dict[str, Any]]":
    """How it is reached, and what is to answer there. Raises UserError for a folder that is none, or not pushed."""
    from deploy import folder as rendered
    from deploy import looking
    from tune.harmony import EFFORTS

    info, at = looking.client(rendered.read(folder)), looking.standing(rendered.read(folder))
    found, policy = at.deployment, at.deployment.options.policy
    most = EFFORTS.index(policy.maximum) + 1  # a higher one is lowered to it
    efforts = [effort for effort in EFFORTS[:most] if effort in policy.allowed]
    known = {"digest": found.digest, "release": at.digest, "length": found.limits.max_model_len}
    return info, {**known, "efforts": efforts}


def _read(file: Path) -> "ClientInfo":
    from evalsuite.asking import client_info

    return client_info.read(file)


def _given(url: str, model: str, key_env: str) -> "ClientInfo":
    from pydantic import ValidationError

    from evalsuite.asking.client_info import ClientInfo

    base = url.rstrip("/")
    try:
        return ClientInfo(base_url=base if base.endswith("/v1") else f"{base}/v1", model=model, key_env=key_env)
    except ValidationError as e:
        first = e.errors(include_input=False)[0]
        name = {"base_url": "--url", "key_env": "--key-env"}.get(str(first["loc"][0]), "--model")
        raise click.UsageError(f"{name}: {first['msg']}") from None


def _words(made: "Smoke") -> str:
    counts = [f"{n} {word}" for word in ("passed", "failed", "warned", "skipped")
              if (n := sum(c.outcome == word for c in made.checks))]  # fmt: skip
    again = ", ".join(f"{n} times {f'HTTP {s}' if s != '0' else 'no answer'}" for s, n in made.asked_again.items())
    first = f"{made.model} at {made.base_url}: {', '.join(counts)}{f'; asked again after {again}' if again else ''}"
    return "\n".join([first, *(f"  {c.outcome:8}{c.id:13}{c.words}" for c in made.checks if c.outcome != "passed")])
