"""What a user sees when something is wrong: one message, exit code 2, nothing glued to it."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import deploy.cli
import evalsuite.cli
import serve.cli
import tune.cli
from tune.errors import Group, UserError


def group(act: Callable[[], object]) -> Group:
    """A command line with one command."""
    main = Group("main")
    main.add_command(click.Command("go", callback=act))
    return main


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: Path("/no/such/folder/x").write_text(""), ["/no/such/folder/x cannot be used", "No such file"]),
        (lambda: Path("/").read_text(), ["/ cannot be used", "Is a directory"]),
        (lambda: os.write(os.open("/dev/full", os.O_WRONLY), b"x"), ["a file cannot be used", "No space left"]),
    ],
)
def test_a_file_that_cannot_be_used_is_one_message(act: Callable[[], object], says: list[str]) -> None:
    out = CliRunner().invoke(group(act), ["go"])
    assert out.exit_code == 2
    assert isinstance(out.exception, SystemExit)
    assert all(words in out.output for words in [*says, "fix: check the path"]), out.output


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (EOFError(), 130, "\nstopped\n"),
        (click.Abort(), 130, "\nstopped\n"),
        (ValueError("a bug"), 70, "ValueError: a bug\n"),
        (RecursionError("deep"), 70, "RecursionError: deep\n"),
        (ExceptionGroup("two", [ValueError("a bug")]), 70, "ValueError: a bug"),
        (UserError("no"), 2, "Error: no\n"),
        (click.UsageError("no such"), 2, "no such\n"),
        (click.exceptions.Exit(3), 3, ""),
        (SystemExit(1), 1, ""),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else "",
)
def test_no_accident_leaves_with_the_code_of_a_verdict(error: BaseException, code: int, says: str) -> None:
    out = CliRunner().invoke(group(raising(error)), ["go"])
    assert out.exit_code == code, out.output
    assert says in out.output if says else out.output == ""
    assert ("Traceback" in out.output) == (code == 70)


WIDE = """
import click
from tune.errors import Group
@click.group(cls=Group)
def main(): "Help."
@main.command()
def go():
    click.echo("x" * 1_000_000)
main()
"""


@pytest.mark.parametrize("words", [["go"], ["--help"]])
def test_a_pipe_that_nobody_reads_is_neither_pass_nor_fail(words: list[str]) -> None:
    """A real pipe, closed before the first byte is written."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", WIDE, *words], stdout=write, stderr=subprocess.PIPE, env=env, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_in_the_middle_is_130() -> None:
    code = WIDE.replace("import click", "import click, os, signal").replace(
        'click.echo("x" * 1_000_000)', "os.kill(os.getpid(), signal.SIGINT)"
    )
    # A shell gives what it starts in the background an ignored SIGINT, and this would inherit it.
    code = code.replace("@", "signal.signal(signal.SIGINT, signal.default_int_handler)\n@", 1)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code, "go"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\nstopped\n")


def test_every_command_line_has_it() -> None:
    mains: list[click.Command] = [m.cli.main for m in (tune, serve, evalsuite, deploy)]
    assert [type(main) for main in mains] == [Group] * 4


@pytest.mark.parametrize(
    "words", [["-m", "tune", "init", "taken/project"], ["-m", "tune", "dataset", "--recipe", "taken/x"]]
)
def test_a_path_through_a_file_is_one_message(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "taken").touch()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    out = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr.startswith("Error: "), out.stderr
    assert "Traceback" not in out.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "begins"), [(Terminal, "\r\x1b[2KError: no"), (io.StringIO, "Error: no")])
def test_an_error_is_not_glued_to_the_progress_line(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], begins: str
) -> None:
    err = stream()
    monkeypatch.setattr(sys, "stderr", err)
    UserError("no", why="so", fix="do").show()
    assert err.getvalue() == f"{begins}\n  why: so\n  fix: do\n"
