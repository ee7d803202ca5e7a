import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from scipy import stats

from evalsuite.cli import main
from evalsuite.speed import connection
from evalsuite.speed.bench import Bench, bench, paired_ratio
from evalsuite.speed.client import Target, open_loop
from evalsuite.speed.compared import throughput
from evalsuite.speed.metrics import Limits
from evalsuite.speed.schedule import offsets
from evalsuite.stub.server import Fault, Model, Script, serving
from tune import harmony
from tune.errors import UserError

# A busy machine makes a run void, rightly; what these tests look at is something else.
LENIENT = Limits(lag_share=9, lag_floor_s=9, loop_floor_s=9, achieved=0, cpu=99)
FAST, SLOW = Model(first_token_s=0.01, per_token_s=0.001), Model(first_token_s=0.2, per_token_s=0.015)


def test_slow_endpoint_shows_as_slower_in_every_metric():
    with serving(Script(models={"fast": FAST, "slow": SLOW})) as url:
        found = bench(Target(url=url, model="fast"), Target(url=url, model="slow"), blocks=3, requests=4,
                      concurrency=4, limits=LENIENT)  # fmt: skip
    assert found.void == ()
    assert found.exit_code == 0
    # What the blocks show is what the ratios say, however late a busy machine makes either arm.
    shown = {"ttft_p50": lambda f: f.ttft_s.p50, "tpot_p50": lambda f: f.tpot_s.p50,
             "output_tokens_per_s": lambda f: f.output_tokens_per_s}  # fmt: skip
    assert {r.metric for r in found.ratios} == set(shown)
    for r in found.ratios:
        base, tuned = (stats.gmean([shown[r.metric](f) for f in found.arms[arm].blocks]) for arm in ("base", "tuned"))
        assert (r.base, r.tuned, r.ratio) == pytest.approx((base, tuned, tuned / base))
    # The stub never sends early.
    slow = found.arms["tuned"].blocks
    assert min(f.ttft_s.p50 for f in slow) >= 0.2
    assert max(f.output_tokens_per_s for f in slow) <= 80 / (0.2 + 19 * 0.015)
    assert found.arms["base"].pooled.requests == 12
    assert len(found.arms["tuned"].blocks) == 3
    assert Bench.model_validate_json(found.model_dump_json()) == found


def test_a_report_shows_each_arm_s_own_figures_in_their_units():
    with serving(Script(models={"fast": FAST, "slow": SLOW})) as url:
        found = bench(Target(url=url, model="fast"), Target(url=url, model="slow"), blocks=2, requests=2,
                      concurrency=2, limits=LENIENT)  # fmt: skip
    shown = throughput(found)
    assert shown.load == "2 requests in flight, 2 blocks of 2 an arm, at most 128 tokens, effort low"
    measured = {  # name and unit on the page: of a block, in that unit
        ("time to first token, median", "ms"): lambda f: f.ttft_s.p50 * 1e3,
        ("time per output token, median", "ms"): lambda f: f.tpot_s.p50 * 1e3,
        ("output tokens per second", "tokens/s"): lambda f: f.output_tokens / f.span_s,
    }
    assert [(row.metric, row.unit) for row in shown.rows] == list(measured)
    for row, of in zip(shown.rows, measured.values(), strict=True):
        base, tuned = (stats.gmean([of(f) for f in found.arms[arm].blocks]) for arm in ("base", "tuned"))
        assert (row.base, row.tuned, row.ratio) == pytest.approx((base, tuned, tuned / base))
        assert row.interval[0] < row.ratio < row.interval[1]
    assert [row.higher_is_better for row in shown.rows] == [False, False, True]
    # The stub never sends early.
    first, _, rate = shown.rows
    assert first.tuned >= 200
    assert rate.tuned <= 40 / (0.2 + 19 * 0.015)


def test_blocks_alternate_and_both_arms_get_the_same_requests():
    lines = []
    with serving(Script(models={"a": Model(), "b": Model()})) as url:
        bench(Target(url=url, model="a"), Target(url=url, model="b"), blocks=4, requests=3, concurrency=1, warmup=0,
              prompts=[f"p{i}" for i in range(12)], max_tokens=7, limits=LENIENT, report=lines.append)  # fmt: skip
        seen = httpx.get(f"{url}/requests").json()
    assert [s["model"] for s in seen] == [m for m in "abbaabba" for _ in range(3)]
    prompts = {m: [s["prompt"] for s in seen if s["model"] == m] for m in "ab"}
    assert prompts["a"] == prompts["b"] == [f"p{i}" for i in range(12)]
    assert {(s["effort"], s["max_tokens"]) for s in seen} == {("low", 7)}
    assert any("block 4 of 4, tuned" in line for line in lines)


def test_open_loop_with_late_requests_is_void():
    with serving(Script(models={"m": FAST})) as url:
        strict = LENIENT.model_copy(update={"lag_share": 0.0, "lag_floor_s": 0.0})
        found = bench(Target(url=url, model="m"), blocks=1, requests=5, rate=50, limits=strict)
    assert found.exit_code == 3
    assert "base: requests left late" in found.void[0]
    assert found.ratios == ()


def test_errors_over_the_cap_make_it_void_and_name_the_arm():
    broken = FAST.model_copy(update={"faults": (Fault(kind="hangup", share=0.5),)})
    with serving(Script(models={"a": FAST, "b": broken})) as url:
        found = bench(Target(url=url, model="a"), Target(url=url, model="b"), blocks=2, requests=10, concurrency=2,
                      prompts=[f"p{i}" for i in range(20)], limits=LENIENT, warmup=0)  # fmt: skip
    assert found.exit_code == 3
    assert any(r.startswith("tuned: ") and "cut" in r for r in found.void)
    assert not any(r.startswith("base: ") for r in found.void)
    assert 0 < found.arms["tuned"].pooled.errors["cut"] < 20


def test_a_void_run_says_why_in_one_line_on_standard_error():
    broken = FAST.model_copy(update={"faults": (Fault(kind="hangup", share=0.5),)})
    with serving(Script(models={"m": broken})) as url:
        done = CliRunner().invoke(main, ["bench", "--base", url, "--blocks", "1", "--requests", "20", "--seed", "1"])
    assert done.exit_code == 3
    void, *more = [line for line in done.stderr.splitlines() if line.startswith("void")]
    assert more == []
    assert void == f"void, so the figures say nothing: {'; '.join(json.loads(done.stdout)['void'])}"


def test_block_without_figures_is_not_dropped_in_silence():
    with serving(Script(models={"a": Model(), "b": Model(faults=(Fault(kind="500"),))})) as url:
        found = bench(Target(url=url, model="a"), Target(url=url, model="b"), blocks=2, requests=2, concurrency=1,
                      warmup=0, limits=LENIENT)  # fmt: skip
    assert found.ratios == ()
    assert any("no ratio of" in r for r in found.void)


@pytest.mark.parametrize(
    "load", [{}, {"rate": 1.0, "concurrency": 1}, {"concurrency": 0}, {"rate": -1.0}, {"concurrency": 1, "blocks": 0},
             {"concurrency": 1, "prompts": []}, {"rate": 1.0, "arrivals": "closed"},
             {"concurrency": 1, "arrivals": "poisson"},
             {"concurrency": 1, "trace": (0.0,)}, {"trace": (0.0,)}, {"concurrency": 1, "prompt_tokens": "9-8"},
             {"concurrency": 1, "prompt_tokens": "1"}]
)  # fmt: skip
def test_senseless_load_is_a_user_error(load):
    with serving() as url, pytest.raises(UserError):
        bench(Target(url=url, model="stub@0123456789abcdef"), **{"blocks": 1, "requests": 2, **load})


def test_dead_or_refusing_endpoint_is_a_user_error_that_says_why_but_not_the_key():
    with serving(Script(models={"m": Model()}, api_key="sesame")) as url:
        with pytest.raises(UserError, match="http 401"):
            bench(Target(url=url, model="m"), blocks=1, concurrency=1)
        with_key = Target(url=url, model="m", key=SecretStr("sesame"))
        found = bench(with_key, blocks=1, requests=2, concurrency=1, limits=LENIENT)
    assert "sesame" not in found.model_dump_json()
    with pytest.raises(UserError, match="does not answer"):
        bench(with_key, blocks=1, concurrency=1)


def test_every_request_of_a_run_has_a_prompt_that_begins_as_no_other_does():
    lines = []
    with serving(Script(models={"a": Model(), "b": Model()})) as url:
        found = bench(Target(url=url, model="a"), Target(url=url, model="b"), blocks=2, requests=4, concurrency=2,
                      prompt_tokens="40-60", seed=7, limits=LENIENT, report=lines.append)  # fmt: skip
        seen = httpx.get(f"{url}/requests").json()
    asked = {m: [s["prompt"] for s in seen if s["model"] == m] for m in "ab"}
    assert sorted(asked["a"]) == sorted(asked["b"])
    for m in "ab":  # warm-up, then the blocks: as sets, since two are in flight at once
        assert len(asked[m]) == 10
        assert len({harmony.encode(text)[0] for text in asked[m]}) == 10
    assert [set(asked["a"][at : at + 4]) for at in (2, 6)] == [set(asked["b"][at : at + 4]) for at in (2, 6)]
    sizes = [len(harmony.encode(text)) for text in asked["a"]]
    assert found.prompts.model_dump() == {"requests": 10, "distinct": 10, "median_tokens": np.median(sizes),
                                          "lengths": "40-60", "seed": 7}  # fmt: skip
    assert found.notes == ()
    assert not any("prefix cache" in line for line in lines)


def test_prompts_that_do_not_suffice_are_said_to_repeat():
    lines = []
    with serving(Script(models={"m": Model()})) as url:
        found = bench(Target(url=url, model="m"), blocks=1, requests=4, concurrency=1, prompts=["a", "b", "c"],
                      limits=LENIENT, report=lines.append)  # fmt: skip
    note = "3 distinct prompts for 6 requests: they repeat, and a prefix cache may answer"
    assert lines[0] == note
    assert found.notes == (note,)
    assert (found.prompts.distinct, found.prompts.requests, found.prompts.lengths) == (3, 6, "")


def test_a_client_that_is_blocked_as_first_tokens_come_makes_the_run_void(monkeypatch):
    received = connection.Connection.buffer_updated

    def slow(self, size):
        time.sleep(0.04)  # the fault: the event loop does something else
        received(self, size)

    limits = LENIENT.model_copy(update={"loop_floor_s": Limits().loop_floor_s})
    monkeypatch.setattr(connection.Connection, "buffer_updated", slow)
    with serving(Script(models={"m": Model(answer_tokens=1, reasoning_tokens={"low": 0, "medium": 0, "high": 0},
                                           first_token_s=0.01)})) as url:  # fmt: skip
        found = bench(Target(url=url, model="m"), blocks=1, requests=8, concurrency=4, limits=limits)
    assert found.exit_code == 3
    (reason,) = found.void
    assert reason.startswith("base: the client read first tokens late: p95 ")
    assert found.arms["base"].pooled.loop_lag_s.p95 > 0.03


def test_an_endpoint_that_refuses_stream_options_is_measured_without_and_that_is_said():
    lines = []
    paced = Model(answer_tokens=5, per_token_s=0.001)  # else a reply may come in one piece, and gives no ratio
    with serving(Script(models={"a": paced, "b": paced}, stream_options=False)) as url:
        found = bench(Target(url=url, model="a"), Target(url=url, model="b"), blocks=2, requests=2, concurrency=1,
                      limits=LENIENT, report=lines.append)  # fmt: skip
    assert found.void == ()
    assert found.arms["base"].pooled.tokens_counted == ("chunks",)
    assert found.arms["base"].pooled.output_tokens == 4 * 9
    assert [note.partition(",")[0] for note in found.notes] == [
        f"{arm}: tokens were counted by chunks" for arm in ("base", "tuned")
    ]
    assert "base a refuses stream_options: its tokens are counted by chunks" in lines
    assert "tokens were counted by chunks" in throughput(found).load


@pytest.mark.parametrize(
    ("load", "arrivals", "gaps"),
    [
        ({"rate": 40.0, "arrivals": "constant"}, "constant", [0.025] * 3),
        ({"rate": 40.0}, "poisson", None),
        ({"trace": (0.0, 0.01, 0.01, 0.05, 9.0), "requests": 4}, "trace", [0.01, 0.0, 0.04]),
    ],
)
def test_requests_are_due_as_the_arrivals_say(load, arrivals, gaps, monkeypatch):
    offered = []
    opened = open_loop

    def noted(target, bodies, offsets, timeout_s):
        offered.append(offsets)
        return opened(target, bodies, offsets, timeout_s)

    monkeypatch.setattr("evalsuite.speed.load.open_loop", noted)
    with serving(Script(models={"m": Model()})) as url:
        found = bench(Target(url=url, model="m"), blocks=1, limits=LENIENT, **{"requests": 4, **load})
    (due,) = offered
    assert found.settings["arrivals"] == arrivals
    assert found.arms["base"].pooled.requests == len(due) == 4
    assert list(np.diff(due)) == (pytest.approx(gaps) if gaps else pytest.approx(np.diff(offsets(4, 40.0))))


def test_interval_agrees_with_scipy_and_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    logs = [tuple(pair) for pair in rng.normal(size=(6, 2))]
    found = paired_ratio("ttft_p50", logs, more_is_better=False)
    base, tuned = zip(*logs, strict=True)
    oracle = stats.ttest_rel(tuned, base)
    interval = oracle.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert found.ratio == pytest.approx(found.tuned / found.base)
    true = np.log(1.1)
    runs = [paired_ratio("x", [(0.0, d) for d in rng.normal(true, 0.1, size=6)], False) for _ in range(600)]
    covered = np.mean([r.low <= 1.1 <= r.high for r in runs])
    assert 0.92 < covered < 0.98  # binomial sd 0.009


@pytest.mark.parametrize(
    ("logs", "more_is_better", "reading"),
    [
        ([0.5, 0.6, 0.7], False, "worse"),
        ([0.5, 0.6, 0.7], True, "better"),
        ([-0.5, -0.6, -0.7], False, "better"),
        ([-0.5, -0.6, -0.7], True, "worse"),
        ([-0.5, 0.6, 0.1], True, "not distinguishable"),
    ],
)
def test_a_ratio_is_read_in_its_metric_s_direction(logs, more_is_better, reading):
    assert paired_ratio("x", [(1.0, 1.0 + d) for d in logs], more_is_better).reading == reading


def test_the_client_s_cost_is_shown_beside_openai_s():
    script = Path(__file__).parents[1] / "benchmarks" / "client_cost.py"
    small = [sys.executable, script, "--streams", "2", "--tokens", "20", "--rounds", "1", "--json"]
    found = json.loads(subprocess.run(small, capture_output=True, text=True, check=True).stdout)
    ours, theirs = found["us_per_chunk"]["evalsuite, while requests run"], found["us_per_chunk"]["openai 3.54.0"]
    assert found["chunks"] == 40
    assert 0 < ours < theirs


def test_any_effort_that_an_endpoint_knows_can_be_loaded_and_no_other_text():
    with serving(Script(models={"m": Model(reasoning_tokens={"xhigh": 2})}, efforts=("xhigh",))) as url:
        load = ["bench", "--base", url, "--blocks", "1", "--requests", "2", "--concurrency", "1", "--effort"]
        done = CliRunner().invoke(main, [*load, "xhigh"])
        assert done.exit_code in (0, 3), done.output  # 3: of a busy machine
        for wrong in ("very high", "XHIGH", "x" * 33):
            refused = CliRunner().invoke(main, [*load, wrong])
            assert (refused.exit_code, "is no name of an effort" in refused.output) == (2, True)
        assert {s["effort"] for s in httpx.get(f"{url}/requests").json()} == {"xhigh"}
