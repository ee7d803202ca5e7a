"""Do one action at a platform: a Command as a process, a Request or a Call by the modules for them; its result out.

Every failure is a UserError that shows no secret. Knows nothing of flows, records and targets.
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from deploy import refusal, secrets
from deploy.leash import leashed
from deploy.steps import Action, Command, Request, Result
from tune.errors import UserError
from tune.terminal import escaped

# Of a command that lists, that does (weights by a slow line), that is told to stop.
LOOK_SECONDS, WORK_SECONDS, END_SECONDS = 120, 86_400, 10
# As its own client has it: one of a browser's session, or one that a team has already.
MODAL_KEY = "modal token new; of a token that you have: modal token set"


def _out(line: str) -> None:
    click.echo(line)


@dataclass(frozen=True)
class Hands:
    """`folder`: the rendered one, where commands run. `show`: where the lines of a command that `shows` go. `patience`:
    seconds that a request may wait for a platform to be well again. `routes` is for tests: an https URL's beginning,
    and what stands for it on loopback."""

    folder: Path
    show: Callable[[str], None] = _out
    patience: float = 120.0
    routes: Mapping[str, str] = field(default_factory=dict)

    def do(self, action: Action) -> Result:
        """Raises UserError for everything that a platform, a network or a missing part can do."""
        if isinstance(action, Command):
            return command(action, self.folder, self.show)
        if isinstance(action, Request):
            from deploy import sending

            return sending.send(action, patience=self.patience, routes=self.routes)
        from deploy import calling

        return calling.call(action, patience=self.patience)


def command(action: Command, folder: Path, show: Callable[[str], None]) -> Result:
    """`out`: standard output, and `code`. Of a command that shows, `out` is empty: its lines, those of its standard
    error too, went to `show`, cleaned. Raises UserError when it is not there, lacks a variable, fails or hangs."""
    program = _program(action)
    for name in action.needs:
        if not os.environ.get(name):
            raise refusal.no_variable(name, program)
    if shutil.which(program) is None:
        raise refusal.no_program(program, program)
    limit = LOOK_SECONDS if action.lists else WORK_SECONDS
    process = subprocess.Popen(
        leashed(action.argv),
        cwd=folder / action.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if action.shows else subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # no terminal to ask questions on, and a group of its own to be ended with
    )
    out, err = "", ""
    late = threading.Event()

    def stop() -> None:  # not communicate's own time-out: lines are shown as they come
        late.set()
        _kill(process)

    watch = threading.Timer(limit, stop)
    watch.daemon = True  # if Ctrl-C comes before it can be cancelled, nothing waits for it
    try:
        watch.start()
        if action.shows and process.stdout:
            for line in process.stdout:
                err = line if line.strip() else err
                show(escaped(secrets.cleaned(line.rstrip("\n"), action.needs)))
            process.wait()
        else:
            out, err = process.communicate()
    finally:
        watch.cancel()
        _end(process)
    if late.is_set():
        fix = f"look whether it asks for something: run it by hand in {folder}"
        raise refusal.Perhaps(f"{program} did not end within {limit} seconds", why=str(action)[:200], fix=fix)
    if process.returncode and not action.lists:
        raise _failed(action, process.returncode, err.strip() or out.strip())
    return {"out": out, "code": process.returncode}


def _program(action: Command) -> str:
    """Which it is: behind `env` and the variables that it is given."""
    words = action.argv[1:] if action.argv[0] == "env" else action.argv
    return next((word for word in words if "=" not in word), action.argv[0])


def _failed(action: Command, code: int, text: str) -> UserError:
    """Its last line says most; a status in it, what to do."""
    last = text.splitlines()[-1] if text else ""
    shown = secrets.said(last, action.needs)
    program = _program(action)
    what = f"{program} failed (exit {code})"
    if refusal.full(text):
        return refusal.of(what, 0, last, key="", names=action.needs)
    denied = any(word in text.lower() for word in ("unauthorized", "token missing", "401", "not logged in", "denied"))
    login = {"modal": MODAL_KEY, "docker": "docker login", "hf": "hf auth login", "aws": "aws configure"}
    fix = login.get(program, refusal.AGAIN) if denied else f"run it by hand: {secrets.cleaned(str(action))[:200]}"
    return refusal.Perhaps(what, why=shown, fix=fix)


def _end(process: "subprocess.Popen[str]") -> None:
    """End what may still run, with all that it started."""
    if process.poll() is None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            _kill(process, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
                break
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _kill(process: "subprocess.Popen[str]", sign: signal.Signals = signal.SIGKILL) -> None:
    """It and all that it started, which would hold its output open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sign)
