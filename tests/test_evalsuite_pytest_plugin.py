import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from evalsuite.stub.server import Fault, Model, Script, serving
from tune import harmony

FILE = Path(__file__).parents[1] / "benchmarks" / "test_endpoint.py"

LENIENT = """# A busy machine makes a run void, rightly; what is looked at here is something else.
from evalsuite.speed import metrics

void = metrics.void
metrics.void = lambda found: void(found, metrics.Limits(loop_floor_s=9, cpu=99))
"""


@pytest.fixture
def pytest_in(tmp_path):
    """Runs pytest on a copy of the benchmark file, in a folder of its own, strict about everything."""
    shutil.copy(FILE, tmp_path)

    def run(*args, **env):
        command = [sys.executable, "-W", "error", "-m", "pytest", "-W", "error", "--strict-config", "--strict-markers",
                   "-ra", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *args]  # fmt: skip
        # pytest-benchmark measures nothing in a worker of xdist, and knows one by the environment that is inherited.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**ours, **env})

    return run


def test_without_an_endpoint_it_skips_and_other_tests_run_undisturbed(pytest_in, tmp_path):
    (tmp_path / "test_other.py").write_text("def test_it(): pass\n")
    both = pytest_in()
    assert both.returncode == 0, both.stdout + both.stderr
    assert "give --endpoint http://" in both.stdout
    assert "1 passed, 5 skipped" in both.stdout


def test_other_runs_load_nothing_heavy(pytest_in, tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_it(): assert not {'numpy', 'openai', 'httpx', 'pydantic'} & set(sys.modules)\n"
    )
    other = pytest_in("test_other.py")
    assert other.returncode == 0, other.stdout + other.stderr


def test_measured_latencies_become_the_benchmark_and_can_be_compared(pytest_in, tmp_path):
    (tmp_path / "conftest.py").write_text(LENIENT)
    models = {"quick": Model(first_token_s=0.05, per_token_s=0.002), "slow": Model(first_token_s=0.5)}
    with serving(Script(models=models, api_key="sesame")) as url:
        common = [
            "test_endpoint.py",
            "--endpoint",
            url,
            "--endpoint-key-env",
            "KEY",
            "--endpoint-requests",
            "6",
            "--endpoint-prompt-tokens",
            "40",
        ]
        first = pytest_in(
            *common, "--endpoint-model=quick", "--benchmark-json=out.json", "--benchmark-save=one", KEY="sesame"
        )
        assert first.returncode == 0, first.stdout + first.stderr
        worse = pytest_in(*common, "--endpoint-model=slow", "--endpoint-concurrency=6", "--benchmark-compare",
                          "--benchmark-compare-fail=median:100%", "-k", "first", KEY="sesame")  # fmt: skip
        unset = pytest_in(*common, "-k", "end")
        seen = httpx.get(f"{url}/requests", headers={"Authorization": "Bearer sesame"}).json()
    assert {len(harmony.encode(request["prompt"])) for request in seen} == {40}
    assert len({request["prompt"].split()[0] for request in seen if request["model"] == "quick"}) == 8  # 2 to warm up
    rows = {b["param"]: b for b in json.loads((tmp_path / "out.json").read_text())["benchmarks"]}
    ttft, whole = rows["time to first token"], rows["end to end"]
    assert ttft["stats"]["rounds"] == 6
    assert 0.05 <= ttft["stats"]["min"] <= ttft["stats"]["median"] == pytest.approx(ttft["extra_info"]["p50"])
    assert whole["stats"]["min"] >= 0.05 + 19 * 0.002  # 4 thoughts and 16 words
    assert rows["1k output tokens"]["stats"]["mean"] == pytest.approx(whole["stats"]["mean"] * 1000 / 20)
    assert set(ttft["extra_info"]) == {"n", "mean", "p50", "p95", "p99", "tokens_counted"}
    assert worse.returncode != 0
    assert "Performance has regressed" in worse.stdout + worse.stderr
    assert unset.returncode == 4
    assert "the environment variable KEY is not set" in unset.stderr
    assert "sesame" not in (tmp_path / "out.json").read_text() + first.stdout


def test_failing_or_wrong_endpoint_fails_with_one_message(pytest_in):
    faulty = Model(faults=(Fault(kind="hangup", share=0.5),))  # of the prompts: the seed says which
    with serving(Script(models={"m": faulty, "dead": Model(faults=(Fault(kind="hangup"),))})) as url:
        void = pytest_in("test_endpoint.py", "--endpoint", url, "--endpoint-model=m", "--endpoint-seed=1", "-k", "end")
        dead = pytest_in("test_endpoint.py", "--endpoint", url, "--endpoint-model=dead", "-k", "end")
    assert "the measurement is void" in void.stdout, void.stdout + void.stderr
    assert "does not answer" in dead.stdout, dead.stdout + dead.stderr
    for failed in void, dead:
        assert failed.returncode == 1
        assert "During handling" not in failed.stdout


@pytest.mark.parametrize("more", [(), ("--benchmark-json=x.json",)])
def test_an_endpoint_that_is_not_there_is_one_clear_error_whatever_is_to_be_saved(pytest_in, tmp_path, more):
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    gone = pytest_in("test_endpoint.py", "--endpoint", "http://127.0.0.1:1/v1", *more)
    assert gone.returncode == 4
    assert gone.stderr.startswith("ERROR: ")
    assert "cannot be reached" in gone.stderr
    assert "Traceback" not in gone.stdout + gone.stderr
    assert "benchmark" not in gone.stderr
