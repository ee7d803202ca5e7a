"""The Hub on this machine: its API's shape, as huggingface_hub 1.33 asks it, and it can fail.

Written after the library's requests and the Hub's documented replies: accounts, repositories, preupload, LFS, commits,
trees (in pages) and files. No Xet. Knows no socket (hub_socket.py has it) and nothing about checkpoints.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import unquote

import yaml

ATTRIBUTES = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Repo:
    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((self.branches.get(branch), sorted(files.items()))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def at(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Fault:
    """What becomes of the next `times` requests whose "METHOD path" matches: a status, or what `spoil` makes of it."""

    pattern: str
    status: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    spoil: Callable[[bytes], bytes] | None = None
    cut: int = -1  # bytes of the body after which the connection is closed
    large: bool = False  # only a reply that is longer than that


class Hub:
    def __init__(self) -> None:
        self.url = ""
        self.roles: dict[str, str] = {}  # by token
        self.repos: dict[tuple[str, str], Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, str]] = []  # method and path, range, authorization
        self.pages = 3  # entries of a tree in one reply
        self.lock = Lock()

    @property
    def cdn(self) -> str:
        """The same server by another name, as large files lie on another host than the Hub."""
        return self.url.replace("127.0.0.1", "localhost")

    def repo(self, name: str, kind: str = "model", *, private: bool = True, **files: bytes) -> Repo:
        made = self.repos[kind, name] = Repo(private)
        made.commit("main", {**ATTRIBUTES, **files})
        return made

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, asked)) for asked, _, _ in self.asked)

    def fault(self, asked: str) -> Fault | None:
        for one in self.faults:
            if one.times and re.search(one.pattern, asked):
                one.times -= 1
                return one
        return None

    def answer(self, method: str, path: str, query: str, token: str, body: bytes) -> Reply:
        role = self.roles.get(token)
        if token and role is None:
            return _error(401, "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            access = {"displayName": "test", "role": role}
            return as_json({"type": "user", "name": "me", "orgs": [], "auth": {"accessToken": access}})
        if path == "/api/validate-yaml":
            head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            wrong = [] if isinstance(head.get("license"), str) else [{"message": '"license" must be a string'}]
            return as_json({"errors": wrong, "warnings": []}, 400 if wrong else 200)
        if path == "/api/repos/create":
            return self.create(json.loads(body), role)
        if found := re.fullmatch(r"/lfs/(\w{64})", path):
            return self.store(method, found[1], body)
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body), role)
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            return self.within("model", found[1], role, token, lambda r: self.resolve(r, found[2], found[3]))
        if found := re.fullmatch(r"/api/(model|dataset|space)s/([\w.-]+/[\w.-]+)(?:/(\w+)/([^/]+))?", path):
            kind, name, what, argument = found.groups()
            return self.within(
                kind, name, role, token, lambda r: self.about(r, name, what, unquote(argument or ""), query, role, body)
            )
        return _error(404, "no such page")

    def create(self, wanted: dict[str, Any], role: str | None) -> Reply:
        name, kind = f"{wanted['organization']}/{wanted['name']}", wanted.get("type", "model")
        if role != "write" or wanted["organization"] != "me":
            return _error(403, f"You don't have the rights to create a {kind} under the namespace")
        if (kind, name) in self.repos:
            return _error(409, "You already created this model repo")
        self.repo(name, kind, private=wanted.get("visibility") == "private")
        return as_json({"url": f"{self.url}/{name}", "name": name})

    def within(self, kind: str, name: str, role: str | None, token: str, then: Callable[[Repo], Reply]) -> Reply:
        found = self.repos.get((kind, name))
        if found is None or (found.private and not token):
            return _error(404 if token else 401, "Repository not found", "RepoNotFound")
        if found.gated:
            return _error(403, "Access to this model is restricted", "GatedRepo")
        return then(found)

    def about(
        self, repo: Repo, name: str, what: str | None, argument: str, query: str, role: str | None, body: bytes
    ) -> Reply:
        if what == "branch":
            repo.branches[argument] = repo.branches["main"]
            return as_json({})
        oid = repo.at(argument or "main")
        if oid is None:
            return _error(404, f"Invalid rev id: {argument}", "RevisionNotFound")
        files = repo.commits[oid]
        if what in (None, "revision"):
            return as_json({"id": name, "private": repo.private, "sha": oid, "tags": [], "siblings": []})
        if what == "tree":
            begin = int(re.sub(r".*cursor=", "", query)) if "cursor=" in query else 0
            shown = [_entry(path, files[path]) for path in sorted(files)[begin : begin + self.pages]]
            more = begin + self.pages
            url = f"{self.url}/api/models/{name}/tree/{argument}?recursive=true&cursor={more}"
            return as_json(shown, 200, {"Link": f'<{url}>; rel="next"'} if more < len(files) else {})
        if role != "write":
            return _error(403, "You need write right")
        if what == "preupload":
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False} for f in asked]
            return as_json({"files": modes})
        if what == "commit":
            return self.commit(repo, name, argument, [json.loads(line) for line in body.splitlines()])
        return _error(404, "no such page")

    def commit(self, repo: Repo, name: str, branch: str, lines: list[dict[str, Any]]) -> Reply:
        files = dict(repo.commits[repo.branches[branch]])
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header" and value.get("parentCommit") not in (None, repo.branches[branch]):
                return _error(412, "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if key == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            if key == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(branch, files)
        return as_json({"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{name}/commit/{oid}"})

    def batch(self, wanted: dict[str, Any], role: str | None) -> Reply:
        objects = []
        for one in wanted["objects"]:
            href = f"{self.url}/lfs/{one['oid']}?X-Amz-Signature=SIGNED"
            objects.append(one if one["oid"] in self.stored else {**one, "actions": {"upload": {"href": href}}})
        return as_json({"transfer": "basic", "objects": objects}) if role == "write" else _error(403, "no write right")

    def store(self, method: str, oid: str, body: bytes) -> Reply:
        if method == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                return _error(400, "XAmzContentSHA256Mismatch")
            self.stored[oid] = body
            return 200, {}, b""
        return (200, {}, self.stored[oid]) if oid in self.stored else _error(404, "no such object")

    def resolve(self, repo: Repo, revision: str, path: str) -> Reply:
        oid = repo.at(revision)
        if oid is None or unquote(path) not in repo.commits[oid]:
            return _error(404, "Entry not found", "EntryNotFound")
        data = repo.commits[oid][unquote(path)]
        entry, headers = _entry(path, data), {"X-Repo-Commit": oid}
        if "lfs" not in entry:
            return 200, {**headers, "ETag": f'"{entry["oid"]}"'}, data
        sha = entry["lfs"]["oid"]
        self.stored[sha] = data
        linked = {
            "X-Linked-Etag": f'"{sha}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"{self.cdn}/lfs/{sha}?Signature=SIGNED",
        }
        return 302, {**headers, **linked}, b""


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", "tokenizer.json")) else "regular"


def _entry(path: str, data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    large = {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
    return {"type": "file", "path": path, "size": len(data), "oid": blob, **(large if _mode(path) == "lfs" else {})}


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode()


def _error(status: int, message: str, code: str = "") -> Reply:
    return as_json({"error": message}, status, {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})})
