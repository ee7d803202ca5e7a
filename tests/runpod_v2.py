"""RunPod's REST v2 on loopback: endpoints, pods, volumes, releases and workers, held to its schema, and faults."""

import json
import re
from contextlib import contextmanager
from pathlib import Path

import jsonschema
from runpod_worker import Quiet, listening

SCHEMA = json.loads((Path(__file__).parent / "data" / "runpod_v2.schema.json").read_text())
KEY = "rp-0123456789-secret"
MADE = "2026-11-01T12:00:00Z"
PATHS = (r"/v2/(serverless|pods|network-volumes)", r"(/[A-Za-z0-9_-]+)?", r"(/workers|/releases|/action)?")


def problems(name, value):
    """Everything in `value` that the schema of that name does not allow."""
    schema = {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{name}"}
    return [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def endpoint(id, body):
    """What v2 shows of an endpoint that was made by `body`."""
    url = f"https://api.runpod.ai/v2/{id}/"
    jobs = ("run", "runSync", "status", "stream", "cancel", "retry", "purgeQueue", "health")
    balanced = {"base": f"https://{id}.api.runpod.ai", "health": f"https://{id}.api.runpod.ai/ping"}
    gpu = {"allowedCudaVersions": [], "minCudaVersion": None, "count": 1, **body["gpu"]}
    shown = {"args": "", "disk": 20, "ports": [], "env": {}, "registry": None, "timeout": 300000, "flashboot": "OFF"}
    return {
        **shown,
        "dataCenterIds": [],
        "networkVolumes": [],
        "createdAt": MADE,
        **body,
        "id": id,
        "gpu": gpu,
        "workers": {"min": 0, "max": 3, "idleTimeout": 10, **body.get("workers", {})},
        "requestUrls": balanced if body["type"] == "LOAD_BALANCER" else {k: url + k for k in jobs},
    }


def pod(id, body):
    """What v2 shows of a pod that was made by `body`."""
    gpu = {k: v for k, v in body["gpu"].items() if k != "minCudaVersion"}
    nothing = {"args": "", "disk": 20, "mounts": {}, "ports": [], "env": {}, "registry": None, "cloud": "SECURE"}
    machine = {
        "dataCenterId": "US-KS-2",
        "cudaVersion": "13.0",
        "ssh": {"proxy": None, "direct": None},
        "template": None,
        "cost": 2.99,
    }
    life = {"locked": False, "runtime": None, "createdAt": MADE, "startedAt": MADE, "status": "RUNNING"}
    more = {"actions": ["stop", "restart", "terminate"], "globalNetworking": {"enabled": False}}
    body = {k: v for k, v in body.items() if k != "dataCenterIds"}
    return {**nothing, **machine, **life, **more, **body, "id": id, "gpu": gpu}


KINDS = {
    "serverless": ("endpoints", "CreateEndpointRequest", "UpdateEndpointRequest", endpoint),
    "pods": ("pods", "CreatePodRequest", "UpdatePodRequest", pod),
}


class V2(Quiet):
    def _any(self):
        body = self.body()
        told = json.loads(body) if body else None
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path, told))
        fault = next((f for f in self.server.faults if f[0] == self.command and re.fullmatch(f[1], path)), None)
        if fault:
            self.server.faults.remove(fault)
        if fault is None or fault[4:]:
            status, answer = self.act(path, told)
        if fault:
            status, answer = fault[2], {"title": "No", "status": fault[2], "detail": fault[3]}
        if status >= 400:
            assert not problems("ErrorResponse", answer)
        self.whole(status, b"" if answer is None else answer)

    do_GET = do_POST = do_PATCH = do_DELETE = _any

    def no(self, status, detail, errors=()):
        more = {"errors": list(errors)} if errors else {}
        return status, {"title": "No", "status": status, "detail": detail, **more}

    def act(self, path, told):
        there = self.server
        if self.headers.get("authorization") != f"Bearer {KEY}":
            return self.no(401, "invalid API key")
        match = re.fullmatch("".join(PATHS), path)
        if not match:
            return self.no(404, "no such path")
        kind, id, below = match[1], (match[2] or "").strip("/"), (match[3] or "").strip("/")
        if kind == "network-volumes":
            found = there.volumes.get(id)
            return (200, found) if found else self.no(404, "network volume not found")
        many, create, update, shown = KINDS[kind]
        things = there.things[kind]
        if not id and self.command == "GET":
            return 200, {many: list(things.values())}
        if not id:
            if wrong := problems(create, told):
                return self.no(422, "the request is not valid", wrong)
            made = shown(f"id{len(there.asked)}x", told)
            return 201, self.keep(kind, made)
        if id not in things:
            return self.no(404, f"{kind} {id} not found")
        if below:
            return 200, self.below(things[id], below)
        if self.command == "DELETE":
            del things[id]
            return 204, None
        if self.command == "PATCH":
            if wrong := problems(update, told):
                return self.no(422, "the request is not valid", wrong)
            parts = {k: {**things[id][k], **v} for k, v in told.items() if k in ("gpu", "workers")}
            told = {**told, **parts}
            return 200, self.keep(kind, {**things[id], **told})
        return 200, things[id]

    def keep(self, kind, thing):
        assert not problems("Endpoint" if kind == "serverless" else "Pod", thing)
        self.server.things[kind][thing["id"]] = thing
        self.server.releases.append(thing["image"])
        return thing

    def below(self, thing, what):
        kinds = ("running", "idle", "initializing", "throttled", "unhealthy")
        workers = [
            {"id": f"w{n}", "status": s.upper(), "gpuCount": 1, "isStale": False}
            for n, s in enumerate(self.server.workers)
        ]
        summary = {k: self.server.workers.count(k) for k in kinds} | {"total": len(workers)}
        if what == "workers":
            answer = {"workers": workers, "summary": summary}
            assert not problems("ListEndpointWorkersResponse", answer)
            return answer
        rollout = {"inProgress": True, "workersOnLatest": 1, "workersTotal": 2, "percentOnLatest": 50}
        release = {"id": "r", "source": "MANUAL", "createdAt": MADE, "workerCount": 1, "diff": []}
        releases = [{**release, "id": f"r{n}"} for n in range(len(self.server.releases))]
        answer = {"rollout": rollout, "releases": releases}
        assert not problems("ListEndpointReleasesResponse", answer)
        return answer


@contextmanager
def opened():
    things = {"serverless": {}, "pods": {}}
    with listening(V2, asked=[], faults=[], things=things, volumes={}, releases=[], workers=[]) as server:
        yield server
