"""Interactive examples found in pages, run for real; an example counts only if Python prints what the page shows.

In: code with `>>>` prompts. Out: the statements whose output was verified, with the session that leads to them.

Each page's sessions run in one child: a fresh interpreter without the user's site or environment, in an empty
folder, with limits on time, memory, files and output, and an audit hook that refuses writes, sockets and programs.
That guards against accidents, not against a hostile page: callers run only pages from this machine. Knows nothing
about questions or pages.
"""

import doctest
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SECONDS = 10.0  # of wall clock for one page's sessions


class Session(NamedTuple):
    """Statements that share one namespace. `prelude` runs first, unseen; a failing prelude voids the session."""

    prelude: str
    sources: tuple[str, ...]


class Step(NamedTuple):
    """A statement whose output was verified: the session's lines up to it, its source, what it prints."""

    shown: tuple[str, ...]
    source: str
    printed: str


def verified(code: Sequence[str], prelude: str, counts: Counter[str]) -> list[list[Step]]:
    """The verified statements of each piece of code, a piece a session; all pieces run in one child.

    `counts` learns the outcomes: matched; unlike, what Python prints is not what the page shows; raised; unstable,
    it changes with the hash seed; unreadable, not a session. The first of a session that is unlike or raised ends
    it: from there on the page and Python tell different stories.
    """
    pieces = [_steps(text, counts) for text in code]
    sessions = [Session(prelude, tuple(step.source for step in steps)) for steps in pieces]
    if not any(pieces):
        return [[] for _ in pieces]
    first = run(sessions)
    # The order of a set shows in braces: such output must come out alike under another hash seed.
    braces = any("{" in (said or "") for session in first for said in session)
    second = run(sessions, seed=1) if braces else first
    out: list[list[Step]] = []
    for steps, said, again in zip(pieces, first, second, strict=True):
        out.append([])
        shown = [f">>> {prelude}"] if prelude else []
        for step, printed, repeated in zip(steps, said, again, strict=True):
            lines = step.source.rstrip("\n").split("\n")
            shown += [f">>> {lines[0]}", *(f"... {line}".rstrip() for line in lines[1:])]
            if step.exc_msg is not None and printed is None:
                shown += step.want.rstrip("\n").split("\n")
                continue
            outcome = _outcome(step, printed, repeated)
            if outcome != "silent":
                counts[outcome] += 1
            if outcome in {"unlike", "raised"}:
                break
            if outcome == "matched" and printed:
                out[-1].append(Step(tuple(shown), step.source.rstrip("\n"), printed.rstrip("\n")))
                shown += printed.rstrip("\n").split("\n")
    return out


def _steps(text: str, counts: Counter[str]) -> list[doctest.Example]:
    try:
        steps = doctest.DocTestParser().get_examples(text)
    except ValueError:
        counts["unreadable"] += 1
        return []
    return [step for step in steps if not step.options.get(doctest.SKIP)]


def _outcome(step: doctest.Example, printed: str | None, repeated: str | None) -> str:
    if printed is None:
        return "raised"
    # An ellipsis would let text through that differs from run to run.
    flags = sum(flag for flag, on in step.options.items() if on and flag != doctest.ELLIPSIS)
    if step.exc_msg is not None or not doctest.OutputChecker().check_output(step.want, printed, flags):
        return "unlike"
    if printed != repeated:
        return "unstable"
    return "matched" if printed else "silent"


def run(sessions: Sequence[Session], *, seed: int = 0, seconds: float = SECONDS) -> list[list[str | None]]:
    """What each statement of each session printed; None where it raised or was not reached.

    `seed` orders sets: output that depends on it is no fact. A hang or a crash loses that session from there on
    and the sessions after it, nothing else.
    """
    # -s -P and an empty environment are -I, but for the hash seed, which has to be the same in every run.
    argv = [sys.executable, "-s", "-P", "-X", "utf8", "-W", "ignore", "-c", f"{inspect.getsource(_child)}\n_child()"]
    with tempfile.TemporaryDirectory(prefix="doctest-") as empty:
        env = {"PYTHONHASHSEED": str(seed), "HOME": empty, "TZ": "UTC", "LC_ALL": "C.UTF-8", "COLUMNS": "80"}
        child = subprocess.Popen(
            argv,
            cwd=empty,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with child:
            try:
                printed, _ = child.communicate(json.dumps(sessions).encode(), timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, 9)
                printed, _ = child.communicate()
    out: list[list[str | None]] = [[None] * len(session.sources) for session in sessions]
    for line in printed.split(b"\n")[:-1]:  # a last line without its newline was cut short
        i, j, said = json.loads(line)
        out[i][j] = said
    return out


def _child() -> None:
    """Runs alone in the child, by its source: imports all that it uses."""
    import contextlib
    import io
    import json
    import os
    import resource
    import sys

    sessions = json.load(sys.stdin)
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for kind, limit in (
        (resource.RLIMIT_CPU, 10),
        (resource.RLIMIT_AS, 1 << 30),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    refused = ("socket.", "subprocess.", "signal.", "shutil.", "ctypes.", "os.system", "os.exec", "os.fork", "os.kill")
    changes = (
        "os.posix_spawn",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.mkdir",
        "os.chmod",
        "os.chown",
        "os.link",
        "os.symlink",
    )

    def watch(event: str, args: tuple[object, ...]) -> None:
        writing = event == "open" and (args[1] is None or not isinstance(args[1], str) or set(args[1]) & set("wax+"))
        if writing and not (args[1] is None and not int(str(args[2])) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            raise PermissionError("a session writes no files")
        if event.startswith(refused + changes):
            raise PermissionError(f"a session has no {event}")

    sys.addaudithook(watch)
    for i, (prelude, sources) in enumerate(sessions):
        names: dict[str, object] = {"__name__": "__main__"}
        try:
            exec(prelude, names)  # noqa: S102 - this is what the child is for
        except Exception:  # noqa: BLE001, S112 - anything a page can raise; the parent sees None
            continue
        for j, source in enumerate(sources):
            said: str | None = None
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                try:
                    exec(compile(source, "<session>", "single"), names)  # noqa: S102
                    said = printed.getvalue()
                except BaseException:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too
                    said = None
            results.write(json.dumps([i, j, said]) + "\n")
            results.flush()
