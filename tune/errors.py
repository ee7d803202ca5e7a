"""The one error a user sees: what was wrong, why, and the next command. No traceback."""

import sys
from typing import IO, Any

import click


class UserError(click.ClickException):
    """Something the user must change. Printed as one message, exit code 2.

    `what` names the thing and what is wrong with it; `why` the reason, when it is not plain;
    `fix` the command or edit that mends it.
    """

    exit_code = 2

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        lines = [what]
        if why:
            lines.append(f"  why: {why}")
        if fix:
            lines.append(f"  fix: {fix}")
        super().__init__("\n".join(lines))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it, over the progress line that a terminal may still hold."""
        if file is None and sys.stderr.isatty():
            click.echo("\r\x1b[2K", nl=False, err=True)
        super().show(file)


class Group(click.Group):
    """A command line whose file errors are UserErrors: a full disk, a wrong path, a missing permission."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read our output left; click ends quietly
            raise
        except OSError as e:
            raise UserError(
                f"{e.filename or 'a file'} cannot be used",
                why=e.strerror or str(e),
                fix="check the path, its permissions and the free disk space",
            ) from e
