"""sky and docker for tests, by the name it is called: services and machines in the folder $CLUSTER.

Takes the words that skypilot 0.14.1's commands take (sky/client/cli/command.py) and refuses others, reads the task as
SkyPilot does before it starts one, and shows its tables, in colour. A service is ready at the third look.
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(os.environ["CLUSTER"])
FLAGS = {  # of each command: those with a value, and those without
    "serve up": ({"--service-name", "--secret"}, {"--yes"}),
    "serve update": ({"--mode", "--secret"}, {"--yes"}),
    "serve status": (set(), {"--endpoint"}),
    "serve logs": ({"--tail"}, {"--no-follow", "--controller"}),
    "serve down": (set(), {"--yes"}),
    "launch": ({"--cluster", "--secret"}, {"--yes", "--detach-run"}),
    "status": ({"--endpoint"}, set()),
    "cancel": (set(), {"--yes", "--all"}),
    "logs": (set(), {"--no-follow"}),
    "down": (set(), {"--yes"}),
}


def main(program: str, words: list[str]) -> int:
    with (ROOT / "said").open("a") as said:
        said.write(json.dumps([program, *words]) + "\n")
    if program == "docker":
        return 0
    length = 2 if words[0] == "serve" else 1
    command, rest = " ".join(words[:length]), words[length:]
    if command not in FLAGS:
        return fail(f"No such command {command!r}")
    values, bare = FLAGS[command]
    names, options = [], {}
    while rest:
        word = rest.pop(0)
        if word in values:
            options.setdefault(word, []).append(rest.pop(0))
        elif word in bare:
            options[word] = True
        elif word.startswith("-"):
            return fail(f"No such option: {word}")
        else:
            names.append(word)
    for secret in options.get("--secret", []):
        if secret not in os.environ:
            return fail(f"{secret} is not set in local environment.")
    return run(command, names, options)


def fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1


def say(text: str) -> int:
    print(text)  # noqa: T201
    return 0


def run(command: str, names: list[str], options: dict) -> int:
    serves = command.startswith("serve")
    state = ROOT / ("services" if serves else "machines")
    there = json.loads(state.read_text()) if state.exists() else {}
    if command in {"serve up", "serve update", "launch"}:
        name = (options.get("--service-name") or options.get("--cluster") or names)[0]
        read(Path(names[-1]), options.get("--secret", []))
        if (command == "serve up") == (name in there) and serves:
            return fail(f"Service {name!r} is {'already running' if name in there else 'not found'}.")
        assert options["--yes"]
        there[name] = {"looks": 0, "version": there.get(name, {}).get("version", 0) + 1}
    elif command in {"serve down", "down"}:
        there.pop(names[0])
    elif command in {"serve logs", "logs"}:
        return say(f"(replica {names[1:]}) ready after 60 s")
    elif command == "cancel":
        return 0 if names[0] in there else fail("cluster not found")
    elif "--endpoint" in options:
        if names[0] not in there:
            return fail("No service found. Please specify an existing service to show its endpoint.")
        return say("Checking services\n1.2.3.4:30001" if serves else "http://1.2.3.4:8000")
    elif names[0] not in there:
        return say("No existing services.")
    else:
        there[names[0]]["looks"] += 1
        state.write_text(json.dumps(there))
        table(names[0], there[names[0]])
        return 0
    state.write_text(json.dumps(there))
    return 0


def read(path: Path, secrets: list[str]) -> None:
    """As far as sky itself does before it starts anything: mounts are there, and each secret has a value."""
    import yaml

    task = yaml.safe_load(path.read_text())
    for source in task.get("file_mounts", {}).values():
        assert "://" in source or Path(source).exists(), f"File mount source {source!r} does not exist"
    assert sorted(task.get("secrets", {})) == sorted(secrets), "a secret has no value"


def table(name: str, known: dict) -> None:
    fault = (ROOT / "faults").read_text().strip() if (ROOT / "faults").exists() else ""
    state = fault or ("READY" if known["looks"] > 2 else "REPLICA_INIT")
    say("Services\nNAME         VERSION  UPTIME  STATUS        REPLICAS  ENDPOINT")
    say(f"{name}  {known['version']}        2m 3s   \x1b[32m{state}\x1b[0m  1/1       1.2.3.4:30001")
    say("\nService Replicas\nSERVICE_NAME  ID  VERSION  ENDPOINT  LAUNCHED  INFRA  RESOURCES  STATUS")
    for number in (3, 12):
        say(f"{name}   {number}   1        http://1.2.3.4:8000  2 mins ago  AWS  1x(H100:1)  \x1b[32mREADY\x1b[0m")
