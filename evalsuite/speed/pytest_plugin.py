"""pytest options and fixtures that carry one endpoint's recorded latencies into pytest-benchmark.

In: --endpoint and its companions. Out: `endpoint_samples`, measured once a session, and `replay`. Registered for every
pytest run of an environment that has gptoss-kit, so importing it imports pytest alone, and without --endpoint it does
nothing. pytest-benchmark times calls; a replayed call moves `clock` on by a latency that was measured.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from evalsuite.asking.endpoint import Endpoint
    from evalsuite.speed.metrics import Sample

WARMUP = 2  # requests


class Clock:
    """Seconds that pass only when told to. For @pytest.mark.benchmark(timer=clock)."""

    __name__ = "clock"

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("endpoint", "throughput of an OpenAI-compatible endpoint (gptoss-kit)")
    add = group.addoption
    add("--endpoint", metavar="URL", help="base URL to measure, such as http://127.0.0.1:8000/v1")
    add("--endpoint-model", metavar="ID", help="model id; default: the one that /v1/models lists")
    add("--endpoint-key-env", metavar="NAME", help="environment variable that holds the API key")
    add("--endpoint-effort", default="low", metavar="NAME", help="reasoning_effort; default: low")
    add("--endpoint-requests", type=int, default=32, metavar="N", help="requests to measure; default: 32")
    add("--endpoint-rate", type=float, metavar="R", help="requests per second in an open loop; default: a closed loop")
    add("--endpoint-concurrency", type=int, default=1, metavar="N", help="of the closed loop; default: 1")
    add("--endpoint-max-tokens", type=int, default=128, metavar="N", help="token limit of a reply; default: 128")
    add("--endpoint-prompt-tokens", metavar="N[-M]", help="length of a prompt; default: 128-384, drawn evenly")
    add("--endpoint-seed", type=int, metavar="N", help="of prompts and arrivals; default: another for every run, since "
        "the endpoint's prefix cache may hold the prompts of the last")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--endpoint"):  # a void run leaves nothing to save; why is said, and this would hide it
        config.addinivalue_line("filterwarnings", "default:Not saving anything")


def pytest_sessionstart(session: pytest.Session) -> None:
    """One line and exit code 4 when the endpoint cannot be asked: before any test, and before a run that is saved."""
    if not session.config.getoption("--endpoint") or session.config.getoption("--collect-only"):
        return
    from evalsuite.speed import load
    from tune.errors import UserError

    try:
        load.resolve(_endpoint(session.config), "endpoint")
    except UserError as e:
        raise pytest.UsageError(str(e)) from None


def _endpoint(config: pytest.Config) -> "Endpoint":
    from evalsuite.asking.endpoint import Endpoint

    option = config.getoption
    return Endpoint(
        url=option("--endpoint"), model=option("--endpoint-model") or "", key_env=option("--endpoint-key-env") or ""
    )


@pytest.fixture(scope="session")
def endpoint_samples(request: pytest.FixtureRequest) -> "list[Sample]":
    """Every good request of one run against --endpoint. Skips without the option, fails when the run is void."""
    option = request.config.getoption
    if not option("--endpoint"):
        pytest.skip("no endpoint to measure: give --endpoint http://127.0.0.1:8000/v1")
    from evalsuite.speed import load, prompts
    from evalsuite.speed.metrics import figures, void
    from tune.errors import UserError

    rate, count = option("--endpoint-rate"), option("--endpoint-requests")
    effort, seed = option("--endpoint-effort"), option("--endpoint-seed")
    try:
        offered = load.load(rate, None if rate else option("--endpoint-concurrency"), effort=effort)
        seed = prompts.drawn() if seed is None else seed
        texts = prompts.made(count + WARMUP, option("--endpoint-prompt-tokens") or prompts.LENGTHS, seed=seed)
        every = load.bodies(texts, max_tokens=option("--endpoint-max-tokens"), effort=effort, seed=seed)
        target = load.warmed(
            "the endpoint", load.resolve(_endpoint(request.config), "endpoint"), every[count:], offered
        )
        samples, run = load.measure(target, every[:count], offered, seed=seed)
    except UserError as e:
        raise pytest.fail.Exception(str(e), pytrace=False) from None
    reasons = void(figures(samples, cpu=run.cpu_s / run.wall_s))
    if reasons:
        pytest.fail("the measurement is void: " + "; ".join(reasons), pytrace=False)
    return [s for s in samples if not s.error]


@pytest.fixture
def replay() -> Callable[[Any, Sequence[float]], None]:
    """replay(benchmark, seconds): one round a measured value; p50, p95, p99 go to extra_info.

    The test has to be marked @pytest.mark.benchmark(timer=clock), with `clock` from this module.
    """
    from evalsuite.speed.metrics import distribution

    def play(benchmark: Any, seconds: Sequence[float]) -> None:
        found = distribution(seconds)
        if found is None:
            pytest.skip("no request had such a moment")
        left = iter(seconds)

        def step() -> None:
            clock.now += next(left)

        benchmark.extra_info.update(found.model_dump())
        benchmark.pedantic(step, rounds=len(seconds))

    return play
