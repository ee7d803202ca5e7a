"""Start the server in the container, once the weights there are proven to be the ones that the report passed.

Reads deployment.json beside this file. Rendered by `deploy render`: change the recipe and render again.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tune import checkpoint
from tune.errors import UserError


def command(deployment: Mapping[str, Any]) -> list[str]:
    """The server's argument list. Raises UserError unless the model folder holds this checkpoint, byte for byte."""
    found = checkpoint.verify(Path(deployment["model_path"]), remake="mount or copy the checkpoint again")
    if found.served_name != deployment["model"]:
        raise UserError(
            f"{deployment['model_path']} holds {found.served_name}, this deployment is for {deployment['model']}",
            why="the report that allowed this deployment is about the other checkpoint",
            fix="deploy render for the checkpoint that is to run",
        )
    return list(deployment["args"])


def main(arguments: list[str]) -> int:
    """Run the server and return its exit status. SageMaker gives the one argument `serve`."""
    if arguments not in ([], ["serve"]):
        sys.stderr.write(f"start.py takes no arguments, got {arguments}\n")
        return 2
    manifest = json.loads(Path(__file__).with_name("deployment.json").read_text(encoding="utf-8"))
    deployment = manifest["settings"]["deployment"]
    try:
        argv = command(deployment)
    except UserError as e:
        e.show()
        return e.exit_code
    child: subprocess.Popen[bytes] | None = None
    stopping = False

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if child:
            child.terminate()  # the middleware drains: requests under way finish, new ones are refused

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # The launcher stops when the thread that started it ends, so that thread is this process's only one.
    child = subprocess.Popen(argv, env={**deployment["env"], **os.environ})
    if stopping:
        child.terminate()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
