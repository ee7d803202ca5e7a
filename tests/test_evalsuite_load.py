import contextlib
import itertools
import socket
import threading

import h11
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from evalsuite.speed.client import Raw, Target, closed_loop, open_loop
from evalsuite.speed.metrics import Figures, Limits, Sample, Slo, distribution, figures, sample, span_of, void
from evalsuite.speed.schedule import offsets
from evalsuite.speed.wire import Malformed, parse
from evalsuite.stub.server import Fault, Model, Script, serving
from tune.errors import UserError

BODY = {"messages": [{"role": "user", "content": "hello"}], "reasoning_effort": "low"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


# schedule


@given(count=st.integers(1, 200), rate=st.floats(0.1, 1e4), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_schedule_is_sorted_starts_at_zero_and_offers_the_rate(count, rate, seed):
    due = offsets(count, rate, seed=seed)
    assert len(due) == count
    assert due[0] == 0
    assert list(due) == sorted(due)
    assert due[-1] == pytest.approx((count - 1) / rate)
    assert due == offsets(count, rate, seed=seed)


def test_poisson_gaps_are_exponential_and_constant_ones_are_constant():
    gaps = np.diff(offsets(5000, 10, seed=1))
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.06)
    assert offsets(3, 2, even=True) == pytest.approx((0, 0.5, 1))
    with pytest.raises(UserError):
        offsets(3, 0)


# wire


def chunked(body: bytes, cuts: list[int]) -> bytes:
    edges = sorted({0, len(body), *(c % (len(body) + 1) for c in cuts)})
    parts = [body[a:b] for a, b in itertools.pairwise(edges)]
    return HEAD + b"".join(b"%X;x=y\r\n%b\r\n" % (len(p), p) for p in parts if p) + b"0\r\n\r\n"


def pieces(raw: bytes, cuts: list[int]) -> list[tuple[float, bytes]]:
    edges = sorted({0, len(raw), *(c % (len(raw) + 1) for c in cuts)})
    return [(float(i), raw[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges))]


def h11_events(received: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The oracle: h11 fed piece by piece, as a client that reads while bytes come would see them."""
    connection, body, out = h11.Connection(h11.CLIENT), b"", []
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    for time, data in received:
        connection.receive_data(data)
        while (event := connection.next_event()) is not h11.NEED_DATA and not isinstance(event, h11.EndOfMessage):
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
        *done, body = body.split(b"\n\n")
        out += [(time, d.removeprefix(b"data: ")) for d in done]
    return out


lines = st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\n", b"_").replace(b"\r", b"_"))
cut_points = st.lists(st.integers(0, 10_000), max_size=60)


@given(events=st.lists(lines, max_size=12), chunk_cuts=cut_points, read_cuts=cut_points)
@settings(max_examples=200)
def test_events_and_their_arrival_agree_with_h11_however_the_bytes_are_cut(events, chunk_cuts, read_cuts):
    received = pieces(chunked(b"".join(b"data: " + e + b"\n\n" for e in events), chunk_cuts), read_cuts)
    response = parse(received)
    assert response.complete
    assert list(response.events()) == h11_events(received)
    assert [data for _, data in response.events()] == events


@given(events=st.lists(lines, min_size=1, max_size=8), chunk_cuts=cut_points, end=st.integers(0, 10_000))
@settings(max_examples=100)
def test_cut_stream_is_incomplete_and_gives_a_prefix(events, chunk_cuts, end):
    whole = chunked(b"".join(b"data: " + e + b"\n\n" for e in events), chunk_cuts)
    cut = whole[: len(HEAD) + end % (len(whole) - len(HEAD))]
    response = parse([(0.0, cut)])
    assert not response.complete
    found = [data for _, data in response.events()]
    assert found == events[: len(found)]


@given(data=st.binary(max_size=200), framed=st.booleans())
@settings(max_examples=150)
def test_no_bytes_make_a_sample_raise(data, framed):
    found = sample(Raw(0.0, 0.0, ((1.0, HEAD * framed + data),), ""))
    assert found.error


STOP = '{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]'


@pytest.mark.parametrize(
    "event",
    [
        '{"choices":' + "[" * 100_000,
        STOP + ',"usage":{"completion_tokens":Infinity}}',
        STOP + ',"usage":{"completion_tokens":1e400}}',
        STOP + f',"usage":{{"completion_tokens":1{"0" * 400}}}}}',
        STOP + ',"usage":{"completion_tokens":"12"}}',
        STOP + ',"usage":{"completion_tokens":-1}}',
        STOP + ',"usage":"12"}',
        '{"choices":[{"delta":{"content":"x"},"finish_reason":["stop"]}]}',
    ],
    ids=range(8),
)
def test_no_json_makes_a_sample_or_its_figures_raise(event):
    found = sample(Raw(0.0, 0.0, tuple(pieces(chunked(f"data: {event}\n\ndata: [DONE]\n\n".encode(), []), [])), ""))
    assert found.error == "protocol: an event is not a chat completion chunk"
    assert figures([found]).errors == {"protocol": 1}


def test_a_length_of_thousands_of_digits_is_named():
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {'9' * 5000}\r\n\r\n"
    assert sample(Raw(0.0, 0.0, ((0.0, head.encode()),), "")).error.startswith("protocol: content-length 999")


@pytest.mark.parametrize(
    ("raw", "body", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", b"abc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.1 200\r\n\r\nabc", b"abc", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nabc", b"abc", True),
        (HEAD + b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", b"abc", True),
        (HEAD + b"3\r\nabc\r\n0\r\nTrailer: x\r\n", b"abc", False),
    ],
)
def test_body_framing(raw, body, complete):
    response = parse([(0.0, raw)])
    assert (response.body, response.complete) == (body, complete)


@pytest.mark.parametrize(
    "raw",
    [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0\r\n\r\n", HEAD + b"xyz\r\n", HEAD + b"2\r\nabcd\r\n", HEAD + b"-1\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"],
)  # fmt: skip
def test_malformed_responses_are_named(raw):
    with pytest.raises(Malformed):
        parse([(0.0, raw)])


def test_server_sent_events_of_other_dialects():
    body = b": ping\r\n\r\nevent: x\r\ndata:one\r\ndata: two\r\n\r\ndata: three\r\rdata: unfinished"
    assert [d for _, d in parse([(0.0, b"HTTP/1.1 200 OK\r\n\r\n" + body)]).events()] == [b"one\ntwo", b"three"]


# metrics


def test_latencies_count_from_the_deadline_not_from_the_sending():
    def event(time, text):
        data = b"data: " + text.encode() + b"\n\n"
        return (time, b"%x\r\n%b\r\n" % (len(data), data))

    stream = (
        (10.9, HEAD),
        event(11.0, '{"choices":[{"delta":{"role":"assistant","content":""}}]}'),
        event(11.5, '{"choices":[{"delta":{"reasoning_content":"hm"}}]}'),
        event(12.5, '{"choices":[{"delta":{"content":"a b"}}]}'),
        event(13.0, '{"choices":[{"delta":{"content":"c"},"finish_reason":"stop"}]}'),
        event(14.0, '{"choices":[],"usage":{"completion_tokens":4,"completion_tokens_details":null}}'),
        (14.0, b"0\r\n\r\n"),
    )
    s = sample(Raw(10.0, 10.25, stream, ""))
    assert (s.error, s.lag_s, s.ttft_s, s.ttfa_s, s.e2e_s) == ("", 0.25, 1.5, 2.5, 3.0)
    assert s.itl_s == (1.0, 0.5)
    assert (s.tpot_s, s.ntpot_s) == (0.5, 0.75)
    assert (s.output_tokens, s.counted, s.reasoning_tokens, s.reasoning_counted) == (4, "usage", 1, "chunks")
    found = figures([s, s], slo=Slo(ttfa_s=2.5))
    assert (found.span_s, found.output_tokens_per_s, found.goodput) == (3.0, pytest.approx(8 / 3), 1.0)
    assert figures([s], slo=Slo(ttfa_s=2.4)).goodput == 0.0
    assert span_of([s.model_copy(update={"start": 11.0}), s]) == 4.0


@pytest.mark.parametrize(
    ("events", "last_chunk", "error"),
    [
        (['{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}'], b"0\r\n\r\n", ""),
        (['{"choices":[{"delta":{"content":"x"}}]}', "[DONE]"], b"0\r\n\r\n", "cut"),  # nobody said why it ended
        (['{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}'], b"", "cut"),  # usage would have come
        (['{"choices":[{"delta":{"content":"x"}}]}'], b"0\r\n\r\n", "cut"),  # a proxy ended it neatly
        (['{"choices":[{"delta":{},"finish_reason":"stop"}]}'], b"0\r\n\r\n", "empty"),
        (["[1]"], b"0\r\n\r\n", "protocol"),
    ],
)
def test_only_a_whole_stream_with_tokens_is_good(events, last_chunk, error):
    body = b"".join(b"data: %b\n\n" % e.encode() for e in events)
    found = sample(Raw(0.0, 0.0, ((1.0, HEAD + b"%x\r\n%b\r\n" % (len(body), body) + last_chunk),), ""))
    assert found.error.partition(":")[0] == error


def test_percentiles_agree_with_their_definition():
    found = distribution(range(101))
    assert (found.n, found.mean, found.p50, found.p95, found.p99) == (101, 50, 50, 95, 99)
    assert distribution([None]) is None


def good(start, lag=0.0, **more):
    return Sample(start=start, lag_s=lag, ttft_s=0.1, e2e_s=0.2, output_tokens=5, **more)


@pytest.mark.parametrize(
    ("samples", "cpu", "reason"),
    [
        ([good(i, 0.001) for i in range(100)], 0.1, None),
        ([good(i, 0.006 * (i > 90)) for i in range(100)], 0.1, "left late: p99 6.00 ms"),
        ([good(i * 0.01, i * 0.00001) for i in range(100)], 0.1, None),
        ([good(i * 0.001, i * 0.00004) for i in range(100)], 0.1, "96.2% of the requested rate"),
        ([good(i) for i in range(97)] + [Sample(start=0.0, lag_s=0.0, error="http 500")] * 3, 0.1, "3 x http 500"),
        ([Sample(start=0.0, error="cut: x")] * 3, 0.1, "no request gave a token"),
        ([good(i) for i in range(9)], 0.9, "90% of its core"),
    ],
)
def test_void_reasons(samples, cpu, reason):
    reasons = void(figures(samples, cpu=cpu))
    assert (reason is None) == (not reasons)
    assert reason is None or any(reason in r for r in reasons)


def test_requests_never_sent_lower_the_achieved_rate():
    samples = [good(float(i)) for i in range(9)] + [Sample(start=9.0, error="connect: refused")]
    assert figures(samples).achieved == pytest.approx(0.9)


# client against real sockets


def run(url, model="m", n=1, body=BODY, effort="low", **more):
    raws = closed_loop(Target(url=url, model=model), [body] * n, 4, more.pop("timeout_s", 30)).raws
    return [sample(raw, effort) for raw in raws]


def test_figures_of_a_good_run_match_the_script():
    model = Model(reasoning_tokens={"low": 3, "medium": 9, "high": 27}, answer_tokens=5)
    with serving(Script(models={"m": model})) as url:
        found = figures(run(url, n=10))
    assert (found.requests, found.errors, found.finish_reasons) == (10, {}, {"stop": 10})
    assert (found.output_tokens, found.reasoning_tokens, found.answer_tokens) == (80, 30, 50)
    assert found.tokens_counted == ("usage",)
    assert found.itl_s.n == 10 * 7
    assert found.lag_s is None
    assert found.ttft_s.p50 <= found.ttfa_s.p50 <= found.e2e_s.p50
    Figures.model_validate_json(found.model_dump_json())


@pytest.mark.parametrize(
    ("kind", "error"),
    [("500", "http 500"), ("429", "http 429"), ("401", "http 401"), ("hangup", "cut"), ("garbage", "protocol"),
     ("error_in_200", "error in a 200"), ("wrong_effort", "effort: asked low, got medium")],
)  # fmt: skip
def test_every_fault_is_an_error_and_gives_no_figures(kind, error):
    with serving(Script(models={"m": Model(faults=(Fault(kind=kind),))})) as url:
        [found] = run(url)
    assert found.error.startswith(error)
    assert figures([found]).ttft_s is None
    assert void(figures([found]))


def test_truncated_and_empty_answers_are_no_errors_but_have_no_first_answer_token():
    models = {k: Model(faults=(Fault(kind=k),)) for k in ("truncated", "empty")}
    with serving(Script(models=models)) as url:
        [cut], [empty] = run(url, "truncated"), run(url, "empty")
    assert (cut.error, cut.finish_reason, cut.ttfa_s) == ("", "length", None)
    assert (empty.error, empty.finish_reason, empty.ttfa_s) == ("", "stop", None)


def test_tokens_without_usage_are_marked_as_counted_by_chunks():
    with serving(Script(models={"m": Model(answer_tokens=5)}, usage=False)) as url:
        found = figures(run(url, n=3))
    assert (found.tokens_counted, found.reasoning_counted) == (("chunks",), ("chunks",))
    assert (found.output_tokens, found.reasoning_tokens) == (27, 12)


def test_open_loop_does_not_wait_for_a_slow_endpoint():
    with serving(Script(models={"m": Model(first_token_s=1.0)})) as url:
        raws = open_loop(Target(url=url, model="m"), [BODY] * 10, offsets(10, 100), 30).raws
    assert all(sample(raw).error == "" for raw in raws)
    assert max(raw.sent for raw in raws) < min(sample(raw).ttft_s + raw.due for raw in raws)
    assert all(raw.sent >= raw.due for raw in raws)


def test_closed_loop_keeps_to_its_concurrency():
    with serving(Script(models={"m": Model(first_token_s=0.01)})) as url:
        raws = closed_loop(Target(url=url, model="m"), [BODY] * 12, 3, 30).raws
    marks = sorted([(raw.sent, 1) for raw in raws] + [(raw.pieces[-1][0], -1) for raw in raws])
    in_flight = list(itertools.accumulate(step for _, step in marks))
    assert max(in_flight) <= 3


@contextlib.contextmanager
def raw_server(*parts: bytes):
    """Answers each connection with these parts, then stays silent with the connection open."""
    listener, held = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                connection.recv(65536)
                for part in parts:
                    connection.sendall(part)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in held:
            connection.close()


def test_end_is_seen_though_the_server_keeps_the_connection_open():
    data = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    with raw_server(HEAD, b"%x\r\n%b\r\n" % (len(data), data), b"0\r", b"\n\r\n") as url:
        [found] = run(url, timeout_s=20)
    assert (found.error, found.output_tokens) == ("", 1)


def test_silence_is_a_timeout_and_a_closed_port_a_connect_error():
    with raw_server() as url:
        [silent] = run(url, timeout_s=0.3)
    [refused] = run(url)
    assert silent.error == "timeout"
    assert refused.error.startswith("connect: ")


def test_key_is_sent_but_never_shown():
    with serving(Script(models={"m": Model()}, api_key="sesame")) as url:
        with_key = Target(url=url, model="m", key=SecretStr("sesame"))
        assert sample(closed_loop(with_key, [BODY], 1, 30).raws[0]).error == ""
        assert run(url)[0].error == "http 401"
    assert "sesame" not in repr(with_key) + with_key.model_dump_json()
    with pytest.raises(UserError, match="line break") as e:
        closed_loop(Target(url=url, model="m", key=SecretStr("sesame\nX: y")), [BODY], 1, 30)
    assert "sesame" not in str(e.value)
    with pytest.raises(UserError, match="not an http"):
        Target(url="localhost:8000", model="m")


def test_limits_can_be_stated():
    assert void(figures([good(0.0, 0.05)]), Limits(lag_floor_s=0.1)) == ()
