"""The one error a user sees: what was wrong, why, and the next command. No traceback."""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import click

INTERRUPTED, READER_LEFT, BUG = 130, 141, 70  # as shells have it for SIGINT and SIGPIPE; EX_SOFTWARE of sysexits.h


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
        with suppress(BrokenPipeError):  # nobody reads it: the exit code still says it
            if file is None and sys.stderr.isatty():
                click.echo("\r\x1b[2K", nl=False, err=True)
            super().show(file)


@contextmanager
def as_json(asked: bool, id: str = "") -> Iterator[None]:
    """What a check with --json could not go past is printed as its one problem: a script reads it off the same stream
    as all others, under the `id` of that rule. The exit code stays."""
    try:
        yield
    except (UserError, OSError) as e:
        if not asked or isinstance(e, BrokenPipeError):
            raise
        error = unusable(e) if isinstance(e, OSError) else e
        problem = {"severity": "error", "what": error.what, "why": error.why, "fix": error.fix}
        click.echo(json.dumps({"problems": [{"id": id, **problem} if id else problem]}, indent=1))
        sys.exit(error.exit_code)


def unusable(e: OSError) -> UserError:
    """What the system would not do with a file, in the user's words."""
    return UserError(
        f"{e.filename or 'a file'} cannot be used",
        why=e.strerror or str(e),
        fix="check the path, its permissions and the free disk space",
    )


def reason(e: Exception) -> str:
    """The first line of what a parser said. A KeyError's own words are the bare key."""
    return f"it has no {e}" if isinstance(e, KeyError) else str(e).partition("\n")[0]


class Group(click.Group):
    """A command line whose exit codes each mean one thing, so that no accident reads as a verdict.

    0 done, or the gate's PASS; 1 the gate's FAIL and nothing else; 2 something the user must change, a file that
    cannot be used included (for the gate INCONCLUSIVE, too); 3 a void measurement; 70 a bug of ours, with its
    traceback; 130 Ctrl-C; 141 whoever read our output left.
    """

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with exit_codes():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with exit_codes():
            return super().invoke(ctx)


def distrust(error: BaseException | None) -> str:
    """What to do about an error that came of a server's certificate; "" for any other."""
    import ssl

    while error and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    if not isinstance(error, ssl.SSLCertVerificationError):
        return ""
    if error.verify_code in {62, 64}:  # OpenSSL's X509_V_ERR_*_MISMATCH, of a name and of an address
        return "use the name that the certificate is for, in the URL"
    return "export SSL_CERT_FILE=FILE, the server's certificate or that of who signed it"


@contextmanager
def exit_codes() -> Iterator[None]:
    """click and Python would leave with 1, the gate's FAIL, for most of these."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit):
        raise
    except (KeyboardInterrupt, EOFError, click.Abort):
        click.echo("\nstopped", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _let_go()
        sys.exit(READER_LEFT)
    except OSError as e:
        raise unusable(e) from e
    except Exception:  # noqa: BLE001 whatever it is, it is no verdict
        traceback.print_exc()
        sys.exit(BUG)


def _let_go() -> None:
    """Leave nothing in a buffer that no one reads: at its end Python would try once more, and leave with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            with suppress(OSError):  # a stream without a descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
