import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from click.testing import CliRunner

from evalsuite.cli import main
from evalsuite.speed import connection
from evalsuite.speed.calibrate import Calibration, calibrate, paced, row, table
from evalsuite.speed.client import Raw, Tick, closed_loop
from evalsuite.speed.metrics import Limits, Sample, figures, sample, void
from tune.errors import UserError

LENIENT = Limits(loop_floor_s=9, cpu=99)
EVENT = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)


def test_a_row_counts_every_chunk_and_splits_what_was_measured_into_truth_and_error() -> None:
    with paced(tokens=20, gap_s=0.002, ttft_s=0.01) as stub:
        found = row(stub, 4, limits=LENIENT)
    assert (found.streams, found.requests, found.chunks) == (4, 8, 160)
    assert found.void == ()
    assert found.us_per_chunk > 0
    assert found.parse_us_per_chunk > 0
    assert found.true_ttft_s.mean >= 0.01  # the stub never sends early
    assert found.error_s.mean >= 0
    assert found.ttft_s.mean == pytest.approx(found.true_ttft_s.mean + found.error_s.mean)


def test_a_slow_client_is_the_error_and_never_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    received = connection.Connection.buffer_updated

    def slow(self: connection.Connection, size: int) -> None:
        time.sleep(0.05)  # the fault: the event loop does something else
        received(self, size)

    monkeypatch.setattr(connection.Connection, "buffer_updated", slow)
    with paced(tokens=1, ttft_s=0.01) as stub:
        found = row(stub, 8, limits=LENIENT.model_copy(update={"loop_floor_s": Limits().loop_floor_s}))
    assert found.error_s.p50 >= 0.05
    assert any("read first tokens late" in reason for reason in found.void)


def test_the_table_has_a_line_a_concurrency_and_says_what_is_void_and_whose_fault_lateness_is() -> None:
    with paced(tokens=2, ttft_s=0.01) as stub:
        measured = row(stub, 2, limits=LENIENT)
    kept = measured.true_ttft_s.model_copy(update={"p50": 0.0104})
    rows = (
        measured.model_copy(update={"true_ttft_s": kept}),
        measured.model_copy(update={"streams": 64, "true_ttft_s": kept, "void": ("it measured itself",)}),
        measured.model_copy(update={"streams": 256, "true_ttft_s": kept.model_copy(update={"p50": 0.09})}),
    )
    made = Calibration(scripted_ttft_s=0.01, gap_s=0.0, tokens=2, floor_s=0.0007, rows=rows)
    lines = table(made).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["streams", "2", "64", "256"]
    assert [line.split()[1] for line in lines[2:5]] == ["10.4", "10.4", "90.0"]
    assert [line.split()[-1] for line in lines[2:5]] == ["counts", "void", "counts"]
    assert lines[5].startswith("256 streams: the stub itself was late")
    assert lines[6] == "64 streams: it measured itself"
    assert lines[7].startswith("floor: 0.70 ms")


def test_the_command_prints_figures_that_can_be_read_back() -> None:
    run = CliRunner().invoke(main, ["calibrate", "--streams", "1", "--streams", "3", "--tokens", "2", "--gap-ms", "0",
                                    "--ttft-ms", "2", "--json"])  # fmt: skip
    assert run.exit_code == 0, run.output
    found = Calibration.model_validate_json(run.stdout)
    assert [(r.streams, r.requests, r.chunks) for r in found.rows] == [(1, 8, 16), (3, 8, 16)]
    assert (found.scripted_ttft_s, found.gap_s, found.tokens) == (0.002, 0.0, 2)
    assert found.floor_s > 0
    assert json.loads(run.stdout)["rows"][0]["void"] is not None


@pytest.mark.parametrize(
    ("ticks", "late"),
    [
        ([Tick(0.9, 0.9), Tick(1.002, 1.002)], 0.0),
        ([Tick(0.9, 0.9), Tick(0.92, 1.001)], 0.08),  # it was still late when the token was read
        ([Tick(0.93, 0.9995), Tick(1.0015, 1.0015)], 0.0695),  # it had just come, late
        ([Tick(0.9, 0.96), Tick(0.999, 1.05)], 0.001),  # what came long before, or after, is another matter
        ([Tick(0.7, 0.75)], 0.3),
    ],
)
def test_the_lag_of_a_request_is_that_of_the_loop_when_its_first_token_came(ticks: list[Tick], late: float) -> None:
    found = sample(Raw(None, 0.5, ((1.0, WHOLE),), ""), ticks=ticks)
    assert (found.error, found.ttft_s) == ("", 0.5)
    assert found.loop_lag_s == pytest.approx(late)


def lagging(ttft_s: float, *lags: float) -> list[Sample]:
    return [Sample(start=i, ttft_s=ttft_s, e2e_s=ttft_s, output_tokens=1, loop_lag_s=lag) for i, lag in enumerate(lags)]


@pytest.mark.parametrize(
    ("ttft_s", "lags", "is_void"),
    [
        (0.091, [0.081] * 20, True),  # what a closed loop of 256 made of 10 ms
        (0.01, [0.0029] * 20, False),  # no tick can tell
        (0.01, [0.0031] * 20, True),
        (1.0, [0.049] * 20, False),
        (1.0, [0.051] * 20, True),
        (1.0, [0.0] * 39 + [0.5], False),  # one in forty
        (1.0, [0.0] * 9 + [0.5], True),
    ],
)
def test_a_client_that_read_late_is_void_beyond_a_share_of_what_it_measured(
    ttft_s: float, lags: list[float], is_void: bool
) -> None:
    reasons = void(figures(lagging(ttft_s, *lags)))
    assert bool(reasons) == is_void
    assert all("it measured itself" in reason for reason in reasons)


def test_the_first_requests_of_a_closed_loop_leave_when_all_are_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[str] = []  # of the first requests and the others
    made = connection.Connection.connection_made

    def connected(self: connection.Connection, transport: object) -> None:
        moments.append("connected")
        sending = transport.write  # type: ignore[attr-defined]

        def sent(data: bytes) -> None:
            moments.append("sent")
            sending(data)

        transport.write = sent  # type: ignore[attr-defined]
        made(self, transport)  # type: ignore[arg-type]

    monkeypatch.setattr(connection.Connection, "connection_made", connected)
    connect, waiting = asyncio.BaseEventLoop.create_connection, itertools.count()

    async def one_after_the_other(*args: Any, **more: Any) -> Any:
        for _ in range(50 * next(waiting)):  # turns of the event loop
            await asyncio.sleep(0)
        return await connect(*args, **more)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", one_after_the_other)
    with paced(tokens=1) as stub:
        run = closed_loop(stub, [{"messages": [{"role": "user", "content": "go"}]}] * 7, 5, 30)
    assert all(sample(raw).error == "" for raw in run.raws)
    assert moments[:10] == ["connected"] * 5 + ["sent"] * 5
    assert moments[10:] == ["sent"] * 2  # on the same connections


def test_nothing_to_calibrate_on_is_said() -> None:
    with pytest.raises(Exception, match="nothing to calibrate on"):
        calibrate([])
    with pytest.raises(UserError, match="a reply would take 62 s"):
        calibrate([1], ttft_s=2, gap_s=2, tokens=30)
