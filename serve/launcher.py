"""The child's entry point: `python -m serve.launcher <vLLM arguments>`. The only file that imports vllm.

vLLM's own entry leaves uvicorn waiting forever for open streams after SIGTERM; starting the same server with
a time limit, at the sockets that the supervisor opened, is what is done differently. And it says which of its processes
a signal ended, and outlives no supervisor. Knows nothing about checkpoints.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any

from serve import kernels, processes
from serve.draining import KEEP_ALIVE, KEPT
from serve.entrance import Entrance
from serve.front import inherited
from serve.middleware import SETTINGS
from serve.tls import shown

KNOWN = ((0, 32), (0, 33))  # from, up to but not including: the entry points moved three times in a year
GRACE = 3  # seconds that open streams get to end after the engine has
LOOK = 20  # seconds between two looks at shared memory, which is taken as the engine loads
ORPHAN = 10  # seconds past the drain that an engine without a supervisor gets to end by itself


def main() -> None:
    """Serve until SIGTERM. Exits 3 when the installed vLLM is not one that this file knows."""
    if "--headless" in sys.argv and os.environ.get(processes.SUPERVISOR) != str(os.getppid()):
        sys.exit(host([sys.executable, "-m", "serve.launcher", *sys.argv[1:]]))
    with tied():
        kernels.begin()
        _serve()


@contextmanager
def tied() -> Iterator[None]:
    """A killed supervisor leaves no engine behind: it is told to drain, and what is left of its group ends with it."""
    parent = int(os.environ.get(processes.SUPERVISOR) or os.getppid())  # it may be gone before this line is reached
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the door has its own
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit("serve.launcher: the supervisor has gone")
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()
    try:
        yield
    finally:
        if os.getppid() != parent:
            processes.end_own()


def _serve() -> None:
    started = _note_started()
    os.environ.setdefault(KEEP_ALIVE, KEPT)
    try:
        import uvloop
        from vllm import __version__
        from vllm.entrypoints.cli.serve import run_headless
        from vllm.entrypoints.launchers import launcher as http
        from vllm.entrypoints.launchers.api_server.entry import run_server_worker
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
        from vllm.logger import configure_logging_from_args
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.utils.system_utils import decorate_logs, set_ulimit

        from serve import listening
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
    if args.headless:
        _headless(run_headless, args)
        return
    public, private = inherited()

    class Server(Entrance, http.NoSignalServer):  # type: ignore[misc]
        """vLLM's, closed to all but the supervisor until it is opened."""

    Server.private = private
    http.NoSignalServer = Server
    # What vLLM's run_server does around this, but for binding a port.
    decorate_logs("APIServer", skip_if_decorated=True)
    http.validate_api_server_args(args)
    set_ulimit()
    try:
        how = listening.options(shown())
        uvloop.run(run_server_worker("", public, args, timeout_graceful_shutdown=GRACE, **how))
    finally:
        _tell_killed(started)


def host(argv: Sequence[str], env: Mapping[str, str] | None = None, proof: Callable[[], None] | None = None) -> int:
    """Another host's part of an engine, run as `argv` in a group of its own: no server, no door. Its exit code.

    SIGTERM ends it; so does the end of either process, by whatever, of which vLLM's workers would take no notice.
    `proof` is called while it loads: what that raises ends it, and is raised.
    """
    told, wrong = threading.Event(), list[Exception]()

    def prove(proof: Callable[[], None]) -> None:
        try:
            proof()
        except Exception as e:  # noqa: BLE001 - raised below, where it ends this process
            wrong.append(e)
            told.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: told.set())
    engine, _ = processes.start(argv, env or {}, None, (), again=False)
    if proof:
        threading.Thread(target=prove, args=(proof,), daemon=True).start()
    while engine.poll() is None and not told.wait(0.2):
        pass
    processes.stop(engine, drain=0, urgent=threading.Event(), drained=lambda: None)
    if wrong:
        raise wrong[0]
    if told.is_set():
        return 0
    if engine.returncode < 0:
        sys.stderr.write(f"serve.launcher: the engine was ended by {signal.Signals(-engine.returncode).name}\n")
    return engine.returncode if engine.returncode >= 0 else 128 - engine.returncode


def _headless(run: Callable[[Namespace], None], args: Namespace) -> None:
    """What `host` runs. It ends with the first host's part, which vLLM's own would wait for without end."""
    args.api_server_count = 0  # as `vllm serve --headless` sets it
    threading.Thread(target=_follow, args=(args.master_addr, args.master_port), daemon=True).start()
    run(args)


def _follow(address: str, port: int) -> None:
    """Hold a connection to where the first host keeps its engine's store; end with it."""
    while True:
        try:
            first = socket.create_connection((address, port), timeout=5)
            break
        except OSError:  # it is not there yet
            time.sleep(1)
    first.settimeout(None)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":  # a host that lost its power is noticed after a minute
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            first.setsockopt(socket.IPPROTO_TCP, option, value)
    with suppress(OSError):
        while first.recv(64):
            pass
    sys.stderr.write(f"serve.launcher: the engine at {address} has gone\n")
    os.kill(os.getppid(), signal.SIGTERM)  # who started us ends us with our workers, which may hear nothing


def _note_started() -> list[BaseProcess]:
    """Every process that is started from here on: who watches them knows that one died, and does not say of what."""
    started: list[BaseProcess] = []
    start = BaseProcess.start

    def noted(process: BaseProcess) -> None:
        start(process)
        started.append(process)

    BaseProcess.start = noted  # type: ignore[assignment,method-assign]
    return started


def _tell_killed(started: Sequence[BaseProcess]) -> None:
    """Say which processes a signal ended that nobody here sends."""
    for process in started:
        if process.exitcode is not None and process.exitcode < 0 and -process.exitcode != signal.SIGTERM:
            name = signal.Signals(-process.exitcode).name
            sys.stderr.write(f"serve.launcher: {process.name} was ended by {name}\n")


def _outlive_nobody(parent: int) -> None:
    """Without a supervisor the engine was told to drain and end. Should it not, end its group.

    Its workers may have gone by then, and what shared memory they had is seen of the living alone.
    """
    looks = 0
    while os.getppid() == parent:
        if looks % LOOK == 0:
            processes.note_own()
        looks += 1
        time.sleep(1)
    processes.note_own()
    settings = json.loads(os.environ.get(SETTINGS) or "{}")
    time.sleep(settings.get("drain", 0) + ORPHAN)
    processes.end_own()


def leave_experts() -> None:
    """A CPU engine beside whose base adapters of attention lie keeps its kernel for experts: vLLM 0.32 takes Triton's
    for any engine with adapters, which no CPU has. serve.adapters lets no adapter of experts near such an engine.
    """
    from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as method
    from vllm.platforms import current_platform

    select = method.select_unquantized_moe_backend

    def chosen(moe_config: Any) -> Any:
        moe_config.is_lora_enabled = False
        return select(moe_config=moe_config)

    if current_platform.is_cpu():
        method.select_unquantized_moe_backend = chosen


def compiler(arguments: Sequence[str]) -> bool:
    """Whether torch may compile. Even an eager CPU engine does, to rank log-probabilities, and where there is no C++
    compiler the first request that asks for them would end it.
    """
    return "--enforce-eager" not in arguments or shutil.which(os.environ.get("CXX") or "g++") is not None


if __name__ == "__mp_main__" and "--enable-lora" in sys.argv:  # in each process of the engine, which are spawned
    leave_experts()
if __name__ == "__main__":
    main()
