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


def test_a_reader_that_left_is_no_error_of_the_user() -> None:
    def act() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    out = CliRunner().invoke(group(act), ["go"])
    assert (out.exit_code, out.output) == (1, "")


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
