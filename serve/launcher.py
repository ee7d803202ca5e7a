"""The child's entry point: `python -m serve.launcher <vLLM arguments>`. The only file that imports vllm.

vLLM's own entry leaves uvicorn waiting forever for open streams after SIGTERM; starting the same server with
a time limit is the one thing done differently. Knows nothing about checkpoints.
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Sequence

KNOWN = ((0, 32), (0, 33))  # from, up to but not including: the entry points moved three times in a year
GRACE = 3  # seconds that open streams get to end after the engine has


def main() -> None:
    """Serve until SIGTERM. Exits 3 when the installed vLLM is not one that this file knows."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a killed supervisor leaves no engine behind
        if os.getppid() != parent:
            sys.exit("serve.launcher: the supervisor has gone")
    try:
        import uvloop
        from vllm import __version__
        from vllm.entrypoints.launchers.api_server.entry import run_server
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
        from vllm.logger import configure_logging_from_args
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError as e:
        sys.stderr.write(f"serve.launcher: vLLM 0.32 is needed and cannot be imported: {e}\n")
        sys.exit(3)
    if not KNOWN[0] <= tuple(int(n) for n in __version__.split(".")[:2]) < KNOWN[1]:
        sys.stderr.write(f"serve.launcher: vLLM 0.32 is needed and {__version__} is installed\n")
        sys.exit(3)

    if not compiler(sys.argv):
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    cli_env_setup()
    args = make_arg_parser(FlexibleArgumentParser(prog="serve.launcher")).parse_args()
    configure_logging_from_args(args)
    validate_parsed_serve_args(args)
    uvloop.run(run_server(args, timeout_graceful_shutdown=GRACE))


def compiler(arguments: Sequence[str]) -> bool:
    """Whether torch may compile. Even an eager CPU engine does, to rank log-probabilities, and where there is no C++
    compiler the first request that asks for them would end it.
    """
    return "--enforce-eager" not in arguments or shutil.which(os.environ.get("CXX") or "g++") is not None


if __name__ == "__main__":
    main()
