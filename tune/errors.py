"""The one error a user sees: what was wrong, why, and the next command. No traceback."""

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
