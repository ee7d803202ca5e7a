"""Latencies of any OpenAI-compatible endpoint as a pytest-benchmark table, to be saved and compared over time.

pytest benchmarks/test_endpoint.py --endpoint http://127.0.0.1:8000/v1 --benchmark-json=endpoint.json

One run of requests feeds every row. Time is the endpoint's: seconds from the request's deadline (or from sending it,
in a closed loop), not the time that the test takes. Throughput is a row in seconds per 1,000 tokens, so that less is
better everywhere. Percentiles are in the JSON's extra_info. Options: pytest --help, group "endpoint".
"""

from collections.abc import Callable

import pytest

from evalsuite.speed.metrics import Sample
from evalsuite.speed.pytest_plugin import clock

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed: pip install 'gptoss-kit[bench]'")

ROWS: dict[str, Callable[[Sample], float | None]] = {
    "time to first token": lambda s: s.ttft_s,
    "time to first answer token": lambda s: s.ttfa_s,
    "time per output token": lambda s: s.tpot_s,
    "end to end": lambda s: s.e2e_s,
    "1k output tokens": lambda s: s.ntpot_s and 1000 * s.ntpot_s,
}


@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("row", ROWS)
def test_endpoint(row, endpoint_samples, benchmark, replay):
    benchmark.group = row
    values = [ROWS[row](sample) for sample in endpoint_samples]
    replay(benchmark, [v for v in values if v is not None])
    benchmark.extra_info["tokens_counted"] = sorted({s.counted for s in endpoint_samples})
