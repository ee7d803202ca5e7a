"""`guidellm run` as a second opinion: its scenario, and the requests in the JSON that it writes.

Definitions as of guidellm 0.8.1, backends/openai/http.py: a request starts when its headers are written; its first and
last tokens are of any channel. Latencies are taken from these moments, for its own end to end goes on to the end of
the stream. It does not look at a server's certificate unless it is told to.
"""

import json
from pathlib import Path

from evalsuite.speed.client import Target
from evalsuite.speed.engines.asked import Asked, Count, Seconds, Written, failed, route, write_prompts
from evalsuite.speed.metrics import Sample

NAME = "guidellm"
PACKAGES = ("guidellm",)
PIN = "guidellm==0.8.1"
NOTES: dict[str, str] = {}
RESULT, SCENARIO = "result.json", "scenario.json"


class _Timings(Written):
    """Seconds since 1970; None when it never came."""

    request_start: Seconds | None
    first_token_iteration: Seconds | None
    last_token_iteration: Seconds | None


class _Info(Written):
    timings: _Timings
    error: str | None


class _Request(Written):
    info: _Info
    output_tokens: Count | None


class _Requests(Written):
    successful: tuple[_Request, ...]
    errored: tuple[_Request, ...]
    incomplete: tuple[_Request, ...]


class _Benchmark(Written):
    requests: _Requests


class _Result(Written):
    benchmarks: tuple[_Benchmark]


def command(folder: Path, _python: Path, binary: Path, target: Target, asked: Asked) -> list[str]:
    """The arguments, once prompts and scenario are written to `folder`."""
    server, path = route(target.url)
    profile = (
        {"kind": "concurrent", "streams": [asked.load.concurrency]}
        if asked.load.rate is None
        else {"kind": asked.load.arrivals, "rate": [asked.load.rate]}
    )
    backend = {
        "kind": "openai_http",
        "target": server,
        "model": target.model,
        "api_routes": {"/v1/chat/completions": path.lstrip("/")},
        "http2": False,
        "verify": True,
        "validate_backend": False,
        "timeout": asked.load.timeout_s,
        "max_tokens": asked.max_tokens,
        "extras": {"body": asked.body},
    }
    spec = {
        "backend": backend,
        "profile": profile,
        "constraints": [{"kind": "max_requests", "count": len(asked.prompts)}],
        "data": [{"kind": "json_file", "path": str(write_prompts(folder, asked.prompts, "prompt"))}],
        "outputs": [{"kind": "json", "path": str(folder / RESULT)}],
    }
    (folder / SCENARIO).write_text(json.dumps({"spec": spec}), encoding="utf-8")
    return [str(binary), "run", "--config", str(folder / SCENARIO), "--disable-console"]


def environment(key: str) -> dict[str, str]:
    """Variables of the process, the key among them."""
    return {"HF_HUB_OFFLINE": "1", **({"GUIDELLM__SPEC__BACKEND__API_KEY": key} if key else {})}


def read(folder: Path) -> tuple[Sample, ...]:
    """A Sample a request. Raises OSError or ValueError for what is no such result."""
    (benchmark,) = _Result.model_validate_json((folder / RESULT).read_bytes()).benchmarks
    asked = benchmark.requests
    lost = [failed((r.info.error or "incomplete").partition(" for url")[0]) for r in asked.errored + asked.incomplete]
    return (*map(_sample, asked.successful), *lost)


def _sample(found: _Request) -> Sample:
    at = found.info.timings
    if at.request_start is None or at.first_token_iteration is None or at.last_token_iteration is None:
        return failed("empty: no token came")
    if not at.request_start <= at.first_token_iteration <= at.last_token_iteration:
        raise ValueError("a request whose first token came before it was sent, or after its last")
    return Sample(
        start=at.request_start,
        ttft_s=at.first_token_iteration - at.request_start,
        e2e_s=at.last_token_iteration - at.request_start,
        output_tokens=found.output_tokens or 0,
    )
