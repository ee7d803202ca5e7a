"""Modal's servers, behind a `modal` on PATH: what it is told is parsed by the real program's own parser.

A word or flag that the installed `modal` does not have ends with its exit status 2. What is printed is what the real
one prints with --json. The program hands its words over a socket, so that modal is imported once and not a command.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import click
from modal.cli.entry_point import entrypoint_cli

PROGRAM = """#!{python} -SE
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", {port})) as there, there.makefile("rwb") as line:
    line.write(json.dumps([os.getcwd(), *sys.argv[1:]]).encode() + b"\\n")
    line.flush()
    code, out, err = json.loads(line.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class Refused(Exception):
    pass


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that is meant, in full, and its parameters. Raises click.UsageError as the program would."""
    command, names, context = entrypoint_cli, [], None
    while True:
        context = command.make_context(command.name or "modal", list(words), parent=context)
        if not isinstance(command, click.Group):
            return " ".join(names), context.params
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        names.append(name)


@dataclass
class Account:
    """`faults`: by command, what it says on standard error before it exits with 1. `asked`: every command so far."""

    volumes: dict[str, dict[str, int]] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def run(self, here: Path, words: list[str]) -> tuple[int, str, str]:
        """Exit status, standard output and error of `modal WORDS`."""
        self.asked.append(" ".join(words))
        try:
            command, told = parsed(words)
            if command in self.faults:
                raise Refused(self.faults[command])
            given = getattr(self, command.replace(" ", "_"))(here, told)
        except click.UsageError as e:
            return 2, "", f"Error: {e.format_message()}\n"
        except Refused as e:
            return 1, "", f"{e}\n"
        return 0, given if isinstance(given, str) else json.dumps(given, indent=2) + "\n", ""

    def running(self, name: str) -> dict[str, Any]:
        app = self.apps.get(name)
        if not app or app["state"] != "deployed":
            raise Refused(f"App '{name}' is not deployed.")
        return app

    def volume_list(self, here: Path, told: dict[str, Any]) -> Any:
        return [{"name": n, "created_at": "2026-11-28", "created_by": "me"} for n in self.volumes]

    def volume_create(self, here: Path, told: dict[str, Any]) -> Any:
        if told["name"] in self.volumes:
            raise Refused(f"Volume '{told['name']}' already exists")
        self.volumes[told["name"]] = {}
        return "Created\n"

    def volume_ls(self, here: Path, told: dict[str, Any]) -> Any:
        at = told["path"].strip("/")
        found = {k: n for k, n in self.volumes.get(told["volume_name"], {}).items() if k.startswith(f"{at}/")}
        if not found:
            raise Refused(f"No such file or directory: '{at}'")
        return [{"filename": k, "type": "file", "created_modified": "", "size": n} for k, n in found.items()]

    def volume_put(self, here: Path, told: dict[str, Any]) -> Any:
        local, at = here / told["local_path"], told["remote_path"].strip("/")
        for path in sorted(p for p in local.rglob("*") if p.is_file()):
            self.volumes[told["volume_name"]][f"{at}/{path.relative_to(local).as_posix()}"] = path.stat().st_size
        return "Uploaded\n"

    def secret_list(self, here: Path, told: dict[str, Any]) -> Any:
        return [{"name": n, "created_at": "", "created_by": "me", "last_used_at": "-"} for n in self.secrets]

    def deploy(self, here: Path, told: dict[str, Any]) -> Any:
        spec = json.loads((here / told["app_ref"]).with_name("modal.json").read_text())
        app = self.apps.setdefault(spec["app"], {"versions": []})
        app["state"] = "deployed"
        app["versions"].append({"tag": told["tag"], "strategy": told["strategy"], "server": spec["server"]})
        return "App deployed\n"

    def app_list(self, here: Path, told: dict[str, Any]) -> Any:
        others = [{"app_id": "ap-0", "description": "other", "state": "deployed", "tasks": "9", "created_at": "2027"}]
        return others + [
            {"app_id": "ap-1", "description": n, "state": a["state"], "tasks": "1", "created_at": "2026"}
            for n, a in self.apps.items()
        ]

    def app_history(self, here: Path, told: dict[str, Any]) -> Any:
        versions = self.apps[told["app_identifier"]]["versions"]
        return [{"version": f"v{i}", "time_deployed": "now", "tag": v["tag"]} for i, v in enumerate(versions, 1)][::-1]

    def app_rollback(self, here: Path, told: dict[str, Any]) -> Any:
        versions = self.running(told["app_identifier"])["versions"]
        older = versions[int(told["version"].removeprefix("v")) - 1]
        versions.append({**older, "tag": None, "strategy": told["strategy"]})
        return "Deployment rollback successful!\n"

    def app_stop(self, here: Path, told: dict[str, Any]) -> Any:
        self.running(told["app_identifier"])["state"] = "stopped"
        return ""

    def app_logs(self, here: Path, told: dict[str, Any]) -> Any:
        return "2026-11-28 ready\nkey ak-" + "a1B2" * 6 + "\n"

    def server_info(self, here: Path, told: dict[str, Any]) -> Any:
        name, _, server = told["server_identifier"].partition("/")
        self.running(name)
        return {"name": server, "object_id": "fu-1", "server_url": f"https://me--{name}-server.us-east.modal.direct"}


@contextmanager
def program(folder: Path) -> Iterator[Account]:
    """An account, and the program `modal` in that folder which reaches it."""
    account = Account()

    class Door(StreamRequestHandler):
        def handle(self) -> None:
            here, *words = json.loads(self.rfile.readline())
            self.wfile.write(json.dumps(account.run(Path(here), words)).encode() + b"\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Door) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        path = folder / "modal"
        path.write_text(PROGRAM.format(python=sys.executable, port=server.server_address[1]))
        path.chmod(0o755)
        yield account
        server.shutdown()
        thread.join()
