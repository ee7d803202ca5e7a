"""What other load testers wrote in real runs is read as it is meant, and anything else is refused in words."""

import json
import shlex
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from evalsuite.speed.client import Target
from evalsuite.speed.engines import aiperf, guidellm, run, vllm
from evalsuite.speed.engines.asked import Asked, route
from evalsuite.speed.load import load
from evalsuite.speed.metrics import figures
from tune.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "engines"
FILES = {"vllm": vllm.RESULT, "guidellm": guidellm.RESULT, "aiperf": aiperf.RESULT}
TOOLS = list(FILES)
KEY = "sk-not-to-be-seen"
TARGET = Target(url="http://127.0.0.1:9/proxy/v1", model="docs@0123456789abcdef", key=SecretStr(KEY))
# Runs of three requests, two at once, the second a scripted 500; replies of 3 + 5 tokens. From the files, by hand:
# start, seconds to the first and to the last token.
RECORDED = {
    "vllm": [(83265.703909491, 0.0044538609945448115, 0.09474580700043589),
             (83265.706780848, 0.0022901699994690716, 0.09296510799322277)],
    "guidellm": [(1795736123.8089526, 0.026151657104492188, 0.0973668098449707),
                 (1795736123.8224843, 0.022518634796142578, 0.09183812141418457)],
    "aiperf": [(1795736129.5114832, 0.035192654, 0.10597891), (1795736129.5343418, 0.021862578, 0.091246533)],
}  # fmt: skip
WHY = {"vllm": "Internal Server Error", "guidellm": "HTTPStatusError(\"Server error '500 Internal Server Error'",
       "aiperf": "http 500"}  # fmt: skip


def asked(count: int = 3, **more) -> Asked:
    offered = load(**(more or {"concurrency": 2}))
    return Asked(prompts=tuple(f"P{i} é\n" for i in range(count)), load=offered, max_tokens=8, effort="low", seed=5)


def planted(tmp_path: Path, tool: str, change) -> Path:
    (tmp_path / FILES[tool]).write_bytes(change((GOLDEN / tool / FILES[tool]).read_bytes()))
    return tmp_path


@pytest.mark.parametrize("tool", TOOLS)
def test_a_recorded_run_is_read_request_by_request(tool):
    found = run.ENGINES[tool].read(GOLDEN / tool)
    good = [s for s in found if not s.error]
    assert [(s.start, s.ttft_s, s.e2e_s) for s in good] == [pytest.approx(row, rel=1e-9) for row in RECORDED[tool]]
    assert [s.output_tokens for s in good] == [8, 8]
    assert [s.tpot_s for s in good] == [pytest.approx((e2e - ttft) / 7) for _, ttft, e2e in RECORDED[tool]]
    assert [s.error for s in found if s.error] == [WHY[tool]]
    pooled = figures(found)
    (a, _, x), (b, _, y) = RECORDED[tool]
    assert (pooled.requests, sum(pooled.errors.values()), pooled.output_tokens) == (3, 1, 16)
    assert pooled.output_tokens_per_s == pytest.approx(16 / (max(a + x, b + y) - min(a, b)), rel=1e-4)


def value(tool: str) -> bytes:
    """A time in the recorded file, as it is written there."""
    return {"vllm": b"0.0044538609945448115", "guidellm": b"1795736123.8351042", "aiperf": b"35.192654"}[tool]


MALFORMED = {
    "truncated": lambda text, _: text[: len(text) // 2],
    "no JSON": lambda *_: b"\xff\xfe not json",
    "a list": lambda *_: b"[1, 2]",
    "nan": lambda text, known: text.replace(known, b"NaN"),
    "infinite": lambda text, known: text.replace(known, b"1e999"),
    "negative": lambda text, known: text.replace(known, b"-" + known),
    "no number": lambda text, known: text.replace(known, b'"soon"'),
    "missing": lambda text, _: text.replace(b'"start_times"', b'"x"').replace(b'"timings"', b'"x"').replace(
        b'"metadata": {"session', b'"x": {"session'),
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_output_is_refused(tmp_path, tool, fault):
    recorded = (GOLDEN / tool / FILES[tool]).read_bytes()
    changed = MALFORMED[fault](recorded, value(tool))
    assert changed != recorded
    with pytest.raises(ValueError, match=r".+"):
        run.ENGINES[tool].read(planted(tmp_path, tool, lambda _: changed))


def test_moments_out_of_order_are_refused(tmp_path):
    with pytest.raises(ValueError, match="before it was sent"):
        guidellm.read(planted(tmp_path, "guidellm", lambda t: t.replace(value("guidellm"), b"1795736123.7")))


def test_a_token_that_nobody_counted_is_none(tmp_path):
    """Without usage vLLM says one token for all nine chunks."""
    found = vllm.read(planted(tmp_path, "vllm", lambda t: t.replace(b"\n  8,", b"\n  1,")))
    assert [s.output_tokens for s in found] == [0, 0, 8]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("offered", [{"concurrency": 7}, {"rate": 2.5}, {"rate": 2.5, "arrivals": "constant"}])
def test_a_tool_is_told_the_load_and_no_key(tmp_path, tool, offered):
    engine = run.ENGINES[tool]
    argv = engine.command(tmp_path, Path("/p/python3"), Path("/p/tool"), TARGET, asked(**offered))
    told = shlex.join(argv) + "".join(p.read_text() for p in sorted(tmp_path.rglob("*")) if p.is_file())
    assert KEY not in told
    assert KEY in engine.environment(KEY).values()
    assert not any("KEY" in name for name in engine.environment(""))
    assert str(offered.get("rate", offered.get("concurrency"))) in told
    assert all(json.dumps(prompt) in told for prompt in asked().prompts)
    sent = json.loads(told[told.index('{"seed": 5') :].partition("}")[0] + "}")
    assert sent == {"max_completion_tokens": 8, "reasoning_effort": "low", "temperature": 0, "seed": 5}
    assert "http://127.0.0.1:9" in told
    assert "proxy/v1/chat/completions" in told
    even = {"vllm": "--burstiness inf", "guidellm": '"constant"', "aiperf": '"constant"'}[tool]
    assert (even in told) == (offered.get("arrivals") == "constant")


def test_a_route_is_server_and_path():
    assert route("https://host:8/a/v1") == ("https://host:8", "/a/v1/chat/completions")


def test_what_aiperf_would_take_for_a_template_is_not_given_to_it(tmp_path):
    with pytest.raises(UserError, match="cannot be asked about"):
        aiperf.command(tmp_path, Path("p"), Path("b"), TARGET.model_copy(update={"model": "${HOME}"}), asked())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_not_there_is_said_with_how_to_get_it(tmp_path, monkeypatch, tool):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.delenv(f"EVALSUITE_{tool.upper()}", raising=False)
    with pytest.raises(UserError) as e:
        run.installed(tool)
    assert e.value.what == f"{tool} is not installed"
    assert f"pip install {run.ENGINES[tool].pin}" in e.value.fix
    assert f"--engine-bin .venv-{tool}/bin/{tool}" in e.value.fix
    monkeypatch.setenv(f"EVALSUITE_{tool.upper()}", str(tmp_path / "none"))
    with pytest.raises(UserError, match="cannot be run"):
        run.installed(tool)


def test_a_program_of_another_package_is_no_tool(tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "guidellm").write_text("#!/bin/sh\n")
    (tmp_path / "guidellm").chmod(0o755)
    with pytest.raises(UserError, match="is no guidellm"):
        run.installed("guidellm", tmp_path / "guidellm")


def playing(monkeypatch, code: str) -> run.Installed:
    """A tool that runs this Python in its folder instead."""
    argv = [sys.executable, "-c", code]
    monkeypatch.setitem(run.ENGINES, "vllm", run.ENGINES["vllm"]._replace(command=lambda *_: argv))
    return run.Installed(Path("tool"), Path(sys.executable), "1.0")


def test_a_crash_is_said_with_the_end_of_what_the_tool_said_and_without_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "another server's")
    code = "import os, sys; sys.exit('x' * 9999 + '\\x1b[31m it broke on ' + os.environ['OPENAI_API_KEY'])"
    with pytest.raises(UserError) as e:
        run.opinion("vllm", playing(monkeypatch, code), TARGET, asked())
    assert e.value.what == "vllm 1.0 measured nothing"
    assert e.value.why.endswith("\\x1b[31m it broke on ***")
    assert len(e.value.why) <= run.SAID
    assert "vllm==0.32.0" in e.value.fix
    keyless = TARGET.model_copy(update={"key": SecretStr("")})
    with pytest.raises(UserError, match="KeyError: 'OPENAI_API_KEY'"):  # ours is nobody else's
        run.opinion("vllm", playing(monkeypatch, code), keyless, asked())


def test_what_cannot_be_read_and_another_number_of_requests_are_no_figures(monkeypatch):
    recorded = str(GOLDEN / "vllm" / vllm.RESULT)
    copy = f"import shutil; shutil.copy({recorded!r}, {vllm.RESULT!r})"
    found = run.opinion("vllm", playing(monkeypatch, copy), TARGET, asked(3))
    assert (found.figures.requests, found.figures.errors) == (3, {"Internal Server Error": 1})
    assert found.cpu_s > 0
    with pytest.raises(UserError, match="of 4 requests it wrote 3"):
        run.opinion("vllm", playing(monkeypatch, copy), TARGET, asked(4))
    echoed = f"""{copy}
text = open({vllm.RESULT!r}).read().replace("Internal Server Error", r"Traceback\\n  x\\n\\u001b[31mno {KEY}\\n\\n")
open({vllm.RESULT!r}, "w").write(text)"""
    found = run.opinion("vllm", playing(monkeypatch, echoed), TARGET, asked(3))
    assert found.figures.errors == {"\\x1b[31mno ***": 1}
    cut = f"{copy}; open({vllm.RESULT!r}, 'r+').truncate(99)"
    with pytest.raises(UserError, match="wrote what cannot be read"):
        run.opinion("vllm", playing(monkeypatch, cut), TARGET, asked(3))
    with pytest.raises(UserError, match="is given no trace"):
        run.opinion("vllm", playing(monkeypatch, copy), TARGET, asked(3, trace=(0.0, 1.0, 2.0)))


def test_nothing_of_a_tool_that_does_not_end_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "START_S", -298.0)  # of 300 that a request may take
    pid = tmp_path / "pid"
    child = "import time; time.sleep(600)"
    code = (f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
            f"open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep(600)")  # fmt: skip
    with pytest.raises(UserError, match="did not end"):
        run.opinion("vllm", playing(monkeypatch, code), TARGET, asked(2))
    end = time.monotonic() + 60
    while time.monotonic() < end and running(int(pid.read_text())):
        time.sleep(0.01)
    assert not running(int(pid.read_text()))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_tool_finds_by_another_definition_has_its_note(monkeypatch):
    copy = f"import shutil; shutil.copy({str(GOLDEN / 'vllm' / vllm.RESULT)!r}, {vllm.RESULT!r})"
    closed = run.opinion("vllm", playing(monkeypatch, copy), TARGET, asked(3))
    offered = run.opinion("vllm", playing(monkeypatch, copy), TARGET, asked(3, rate=9.0))
    assert "the role's too" in closed.notes["ttft"][0]
    assert [len(closed.notes[column]) for column in ("ttft", "tpot", "e2e")] == [1, 1, 1]
    assert "tokens" not in closed.notes
    assert offered.notes["tokens"] == (run.DRAWN.format(tool="vllm"),)
    assert offered.notes["ttft"][1] == offered.notes["e2e"][1] == run.OPEN.format(tool="vllm")
