"""kubectl, helm and docker for tests, by the name it is called: a cluster in the folder $CLUSTER, strict as they are.

Takes the words that our flows say and refuses others. Manifests are held to Kubernetes' own schemas when applied; a
claim is a folder, and what is executed in a pod runs here, with /models as that folder. `$CLUSTER/faults` has a line
for each command, by its beginning, that is to fail.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["CLUSTER"])
SHORT = {"inferenceservice": "InferenceService", "persistentvolumeclaim": "PersistentVolumeClaim"}
APIS = {"leaderworkerset.x-k8s.io": "leaderworkersets", "serving.kserve.io": "inferenceservices"}
KINDS = {k.lower(): k for k in ("Namespace", "Secret", "Pod", "Deployment", "Service", "ConfigMap")} | SHORT
PLURAL = {f"{name}s": kind for name, kind in KINDS.items()} | {
    "inferenceservices.serving.kserve.io": "InferenceService",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "networkpolicies.networking.k8s.io": "NetworkPolicy",
    "leaderworkersets.leaderworkerset.x-k8s.io": "LeaderWorkerSet",
}


def main(program: str, words: list[str]) -> int:
    with (ROOT / "said").open("a") as said:
        said.write(json.dumps([program, *words]) + "\n")
    line = " ".join([program, *words])
    faults = (ROOT / "faults").read_text().splitlines() if (ROOT / "faults").exists() else []
    if any(line.startswith(fault) or f" {fault}" in line for fault in faults):
        return fail("Error from server (Forbidden): planted")
    return {"kubectl": kubectl, "helm": helm, "docker": docker}[program](words)


def fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1


def objects() -> dict[str, dict]:
    path = ROOT / "objects.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(found: dict[str, dict]) -> None:
    (ROOT / "objects.json").write_text(json.dumps(found))


def kubectl(words: list[str]) -> int:
    space = "default"
    if words[0] == "--namespace":
        space, words = words[1], words[2:]
    verb, rest = words[0], words[1:]
    if words == ["config", "current-context"]:
        print((ROOT / "context").read_text() if (ROOT / "context").exists() else "here")  # noqa: T201
        return 0
    if verb == "api-resources":
        assert (rest[0], *rest[2:]) == ("--api-group", "--output", "name"), rest
        if not (ROOT / "bare").exists():  # a cluster that knows Kubernetes' own alone
            print(f"{APIS[rest[1]]}.{rest[1]}")  # noqa: T201
        return fail("unable to retrieve: metrics.k8s.io/v1beta1") if (ROOT / "ill").exists() else 0
    if verb == "create" and rest[0] == "namespace":
        keep({**objects(), f"Namespace/{rest[1]}": {"kind": "Namespace"}})
        return 0
    if verb == "get":
        return get(rest)
    if verb == "apply":
        return apply(rest, space)
    if verb == "exec":
        return execute(rest)
    if verb == "cp":
        return copy(rest)
    if verb == "delete":
        return delete(rest)
    if verb == "wait" and rest[0] == "--for=condition=Ready":
        kind, name = rest[-1].split("/")
        return 0 if f"{KINDS[kind]}/{name}" in objects() else fail(f"{rest[-1]} not found")
    if verb == "wait" and rest[0] == "--for=delete":
        assert rest[2:4] == ["pod", "--selector"], rest
        return fail("timed out") if any(key.startswith("LeaderWorkerSet/") for key in objects()) else 0
    if verb == "rollout" and rest[0] in {"status", "undo"}:
        return 0 if f"Deployment/{rest[1].removeprefix('deployment/')}" in objects() else fail("not found")
    if verb == "logs":
        assert {"--selector", "--container", "--tail=200", "--prefix"} <= set(rest), rest
        print("[pod/x] ready after 60 s")  # noqa: T201
        return 0
    return fail(f"unknown command {words}")


def groups() -> str:
    """The pods of a LeaderWorkerSet as they are asked for; at the first look those of the release before are there."""
    looked = ROOT / "looked"
    lines = []
    for each in objects().values():
        if each.get("kind") == "LeaderWorkerSet":
            first = each["spec"]["leaderWorkerTemplate"]["leaderTemplate"]
            now = first["metadata"]["annotations"]["gptoss-kit/template"] if looked.exists() else "before"
            lines += [f"{part} {now} True" for part in ("engine", "inference")] * each["spec"]["replicas"]
    looked.touch()
    return "\n".join(lines)


def get(rest: list[str]) -> int:
    if rest[0] == "pods" and "component}" in rest[-1]:
        print(groups())  # noqa: T201
        return 0
    if rest[0] == "pods" and "--selector" in rest:
        print("python-docs-1 Running True\npython-docs-2 Pending ")  # noqa: T201
        return 0
    if "jsonpath={.status.url}" in rest:
        print("http://python-docs.default.example.com", end="")  # noqa: T201
        return 0
    kind, name, *flags = rest
    assert flags == ["--ignore-not-found", "--output", "name"], flags  # never a value
    if f"{KINDS[kind]}/{name}" in objects() or rest[:2] == ["namespace", "default"]:
        print(f"{kind}/{name}")  # noqa: T201
    return 0


def apply(rest: list[str], space: str) -> int:
    assert rest[:2] == ["--server-side", "--field-manager=gptoss-kit"], rest
    import kubernetes_validate  # most commands need it not, and it is slow to come
    import yaml

    dry = "--dry-run=server" in rest
    found = objects()
    if space != "default" and f"Namespace/{space}" not in found:
        return fail(f'namespaces "{space}" not found')
    for each in yaml.load_all(Path(rest[rest.index("--filename") + 1]).read_text(), yaml.CSafeLoader):
        if each["metadata"]["namespace"] != space:
            return fail("the namespace from the provided object does not match")
        if each["kind"] not in {"InferenceService", "LeaderWorkerSet"}:
            kubernetes_validate.validate(each, "1.37", strict=True)
        found[f"{each['kind']}/{each['metadata']['name']}"] = each
        if each["kind"] == "PersistentVolumeClaim" and not dry:
            (ROOT / "models").mkdir(exist_ok=True)
    if not dry:
        keep(found)
    return 0


def inside(words: list[str]) -> list[str]:
    return [w.replace("/models/", f"{ROOT}/models/") if w.startswith("/models/") else w for w in words]


def execute(rest: list[str]) -> int:
    pod, dashes, *words = rest
    if f"Pod/{pod}" not in objects() or dashes != "--":
        return fail("pod not found")
    words = inside(words)
    return subprocess.run([sys.executable if words[0] == "python3" else words[0], *words[1:]], check=False).returncode


def copy(rest: list[str]) -> int:
    retries, source, place = rest
    pod, _, folder = place.partition(":")
    assert retries == "--retries=10"
    if f"Pod/{pod}" not in objects():
        return fail("pod not found")
    there = Path(inside([folder])[0])
    there = there / Path(source).name if there.is_dir() else there  # as kubectl cp has it
    shutil.copytree(source, there)
    if (ROOT / "torn").exists():
        victim = there / "model.safetensors"
        victim.write_bytes(victim.read_bytes()[:-1])
    return 0


def delete(rest: list[str]) -> int:
    found = objects()
    if "--selector" in rest:
        wanted = dict(pair.split("=") for pair in rest[rest.index("--selector") + 1].split(","))
        kinds = {PLURAL[word] for word in rest[0].split(",")}
        ours = [
            key
            for key, value in found.items()
            if key.split("/")[0] in kinds and wanted.items() <= value.get("metadata", {}).get("labels", {}).items()
        ]
        keep({key: value for key, value in found.items() if key not in ours})
        return 0
    assert rest[0] == "pod", rest
    assert "--ignore-not-found" in rest, rest
    found.pop(f"Pod/{rest[1]}", None)
    keep(found)
    return 0


def helm(words: list[str]) -> int:
    releases = ROOT / "releases"
    if words[:2] == ["upgrade", "--install"]:
        need = {"--repo", "--version", "--values", "--atomic", "--timeout", "--namespace"}
        assert need <= set(words), words
        import yaml

        values = yaml.safe_load(Path(words[words.index("--values") + 1]).read_text())
        assert values["servingEngineSpec"]["modelSpec"][0]["name"] == words[2]
        releases.write_text(words[2])
        return 0
    if words[0] in {"rollback", "uninstall"}:
        if words[0] == "uninstall":
            releases.unlink(missing_ok=True)
        return 0
    return fail(f"unknown command {words}")


def docker(words: list[str]) -> int:
    if words[0] == "build":
        assert words[1:3] == ["--platform", "linux/amd64"]
        assert words[-1] == "."
        assert Path("Dockerfile").is_file()
        return 0
    return 0 if words[0] == "push" else fail(f"unknown command {words}")
