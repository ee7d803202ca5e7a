"""The container's entry: serves the checkpoint that the report passed, proven as `serve run` proves it.

Reads deployment.json beside this file. Another checkpoint is refused before the engine starts; its files are digested
while the engine loads; nobody is let in before its prompts and answers are found to be the checkpoint's.
Rendered by `deploy render`: change the recipe and render again.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve import contents, findings, kernels, machine, supervisor, warming
from serve.command import Command, Options
from tune import checkpoint
from tune.errors import UserError, exit_codes, reason

REMAKE = "mount or copy the checkpoint again"


def job(deployment: Mapping[str, Any]) -> supervisor.Job:
    """What to run. Raises UserError unless the model folder holds this checkpoint and can be served as it is told."""
    folder, options = Path(deployment["model_path"]), Options.model_validate(deployment["options"])
    found = checkpoint.look(folder, remake=REMAKE)
    if (found.digest, found.served_name) != (deployment["digest"], deployment["model"]):
        raise UserError(
            f"{folder} holds {found.served_name}, this deployment is for {deployment['model']}",
            why="the report that allowed this deployment is about the other checkpoint",
            fix="deploy render for the checkpoint that is to run",
        )
    findings.require(contents.look(found, options, remake=REMAKE).problems, f"{folder} cannot be served")

    def proof() -> None:
        checkpoint.verify(folder, remake=REMAKE)

    experts, step = contents.shape(folder).num_local_experts, options.tuning.batched_tokens
    here = machine.detect()
    early = kernels.env(found, here.kind, experts, step)
    return supervisor.Job(
        command=Command(list(deployment["args"]), {**deployment["env"], **early}),
        host=options.host,
        port=deployment["port"],
        model=deployment["model"],
        checkpoint=found,
        policy=options.policy,
        key=key(options.key_env),
        drain=options.drain,
        hang_after=options.hang_after,
        log=None,
        ready_timeout=deployment["limits"]["startup_seconds"],
        proof=proof,
        ranks=options.tuning.data_parallel,
        waves=warming.waves(options.max_model_len, step, experts) if here.device == "cuda" else (),
    )


def key(name: str) -> str:
    """The API key in the environment variable `name`; "" without a name: the target asks every caller for its own.

    Raises UserError, which never shows it, when no client could send what is there.
    """
    found = os.environ.get(name, "") if name else ""
    if name and not re.fullmatch(r"[\x21-\x7e]+", found):
        state = "holds what no header can carry" if found else "is empty"
        raise UserError(
            f"the environment variable {name} {state}",
            why="this deployment asks its callers for the API key that stands there",
            fix="give it that secret at the target: [deploy] secrets names it",
        )
    return found


def read() -> dict[str, Any]:
    """What `deploy render` wrote. Raises UserError when it is no longer that."""
    path = Path(__file__).with_name("deployment.json")
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())["settings"]["deployment"]
        Options.model_validate(found["options"])
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{path} is not what was rendered", why=reason(e), fix="deploy render, then build again"
        ) from None
    return found


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; the commands' exit status: 0 after a stop, 2 for what must be changed, 70 for a bug of ours.

    SageMaker gives `serve`.
    """
    if arguments not in ([], ["serve"]):
        sys.stderr.write(f"start.py takes no arguments, got {arguments}\n")
        return 2

    def report(line: str) -> None:
        sys.stderr.write(f"start.py: {line}\n")
        sys.stderr.flush()

    try:
        with exit_codes():
            supervisor.run(job(read()), report)
    except UserError as e:
        e.show()
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
