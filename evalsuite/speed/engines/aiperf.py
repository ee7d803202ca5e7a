"""`aiperf profile` as a second opinion: its configuration, and the record of each request that it exports.

Definitions as of aiperf 0.13, metrics/types/: TTFT is to the first response with content, of any channel; request
latency to the last such one; both from before the connection. Token counts are the server's. It wants a tokeniser all
the same, and gets one that nothing is counted with.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from evalsuite.speed.client import Target
from evalsuite.speed.engines.asked import Asked, Count, Seconds, Written, failed, route, write_prompts
from evalsuite.speed.metrics import Sample
from tune.errors import UserError

NAME = "aiperf"
PACKAGES = ("aiperf",)
PIN = "aiperf==0.13.0"
NOTES = {"ttft": "aiperf: from before the connection", "e2e": "aiperf: from before the connection"}
RESULT, CONFIG, TOKENISER = "profile_export.jsonl", "config.json", "tokeniser"
KEY = "EVALSUITE_ENGINE_KEY"  # its configuration names the variable
_WORDS = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}


class _Milliseconds(Written):
    value: Seconds
    unit: Literal["ms"]


class _Tokens(Written):
    value: Count
    unit: Literal["tokens"]


class _Metrics(Written):
    """Empty for a request that failed."""

    time_to_first_token: _Milliseconds | None = None
    request_latency: _Milliseconds | None = None
    output_sequence_length: _Tokens | None = None


class _Metadata(Written):
    request_start_ns: Annotated[int, Field(ge=0)]
    benchmark_phase: str
    was_cancelled: bool


class _Error(Written):
    code: int | None = None
    type: str | None = None


class _Record(Written):
    metadata: _Metadata
    metrics: _Metrics
    error: _Error | None = None


def command(folder: Path, _python: Path, binary: Path, target: Target, asked: Asked) -> list[str]:
    """The arguments, once prompts, tokeniser and configuration are written to `folder`.

    Raises UserError for a model or an address that its configuration would take for a template.
    """
    if {"$", "{"} & {*target.model, *target.url}:
        raise UserError(f"aiperf cannot be asked about {target.model!r} at {target.url}",
                        why="its configuration would read $ and { as a template", fix="--engine vllm")  # fmt: skip
    server, path = route(target.url)
    tokeniser = folder / TOKENISER
    tokeniser.mkdir()
    (tokeniser / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": _WORDS}))
    (tokeniser / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    endpoint = {
        "urls": [server],
        "path": path,
        "type": "chat",
        "streaming": True,
        "use_server_token_count": True,
        "timeout": asked.load.timeout_s,
        "extra": asked.body,
        **({"api_key": f"${{{KEY}}}"} if target.key.get_secret_value() else {}),
    }
    offered = (
        {"type": "concurrency", "concurrency": asked.load.concurrency}
        if asked.load.rate is None
        else {"type": asked.load.arrivals, "rate": asked.load.rate}
    )
    prompts = write_prompts(folder, asked.prompts, "text")
    config = {
        "models": [target.model],
        "endpoint": endpoint,
        "tokenizer": {"name": str(tokeniser)},
        "datasets": [{"name": "prompts", "type": "file", "path": str(prompts), "format": "single_turn",
                      "sampling": "sequential"}],
        "phases": [{"name": "profiling", **offered, "requests": len(asked.prompts)}],
        "gpu_telemetry": {"enabled": False},
        "server_metrics": {"enabled": False},
        "artifacts": {"dir": str(folder)},
        "runtime": {"ui": "none"},
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps({"benchmark": config, "random_seed": asked.seed % 2**32}))
    return [str(binary), "profile", "--config", str(folder / CONFIG)]


def environment(key: str) -> dict[str, str]:
    """Variables of the process, the key among them."""
    return {KEY: key} if key else {}


def read(folder: Path) -> tuple[Sample, ...]:
    """A Sample a request of the measured phase. Raises OSError or ValueError for what is no such result."""
    lines = (folder / RESULT).read_bytes().splitlines()
    records = [_Record.model_validate_json(line) for line in lines]
    return tuple(_sample(r) for r in records if r.metadata.benchmark_phase == "profiling")


def _sample(found: _Record) -> Sample:
    if found.error or found.metadata.was_cancelled:
        error = found.error or _Error()
        return failed(f"http {error.code}" if error.code else error.type or "cancelled")
    first, last, tokens = (
        found.metrics.time_to_first_token, found.metrics.request_latency, found.metrics.output_sequence_length
    )  # fmt: skip
    if first is None or last is None:
        return failed("empty: no token came")
    return Sample(
        start=found.metadata.request_start_ns / 1e9,
        ttft_s=first.value / 1000,
        e2e_s=last.value / 1000,
        output_tokens=tokens.value if tokens else 0,
    )
