"""A second opinion: the real tool and our own engine against the same stub, asked the same, side by side."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from evalsuite.cli import main
from evalsuite.speed.bench import bench
from evalsuite.speed.client import Target, closed_loop
from evalsuite.speed.engines import run, second
from evalsuite.speed.engines.second import Pair
from evalsuite.speed.load import load
from evalsuite.speed.metrics import Limits, Sample, figures
from evalsuite.speed.prompts import made
from evalsuite.speed.wire import parse
from evalsuite.stub.server import Fault, Model, Script, serving
from tune import harmony
from tune.errors import UserError

LENIENT = Limits(lag_share=9, lag_floor_s=9, loop_floor_s=9, achieved=0, cpu=99)
PACE = {"first_token_s": 0.03, "per_token_s": 0.002, "role_first": False}
MODEL = Model(**PACE, answer_tokens=20)
KEY = "sk-of-the-stub"


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Script(models={"docs@0123456789abcdef": MODEL}, api_key=KEY)) as found:
        yield found


@pytest.fixture(params=list(run.ENGINES))
def tool(request: pytest.FixtureRequest) -> tuple[str, run.Installed]:
    """vLLM is here wherever it can be; of the others those that EVALSUITE_GUIDELLM and EVALSUITE_AIPERF name."""
    try:
        return request.param, run.installed(request.param)
    except UserError as e:
        pytest.skip(e.what)


def log(url: str) -> list[dict]:
    return httpx.get(f"{url}/requests", headers={"Authorization": f"Bearer {KEY}"}).json()


def test_the_tool_is_asked_what_we_asked_and_its_figures_stand_beside_ours(url, tool, monkeypatch):
    name, found = tool
    monkeypatch.setenv("THE_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "of somebody else")
    command = ["bench", "--base", url, "--base-key-env", "THE_KEY", "--engine", name, "--engine-bin", str(found.binary),
               "--blocks", "1", "--requests", "6", "--concurrency", "3", "--max-tokens", "9", "--seed", "4",
               "--prompt-tokens", "24-40", "--json"]  # fmt: skip
    result = CliRunner().invoke(main, command)
    assert result.exit_code in {0, 3}, result.output  # a busy machine makes ours void
    pair = Pair.model_validate_json(result.stdout)
    assert KEY not in result.output
    theirs = pair.opinion.figures
    assert (pair.opinion.tool, pair.opinion.version) == (name, found.version)
    assert (theirs.requests, theirs.errors, theirs.output_tokens) == (6, {}, 6 * 9)
    # The stub never sends early, and the role's chunk leaves with the first token.
    assert theirs.ttft_s is not None
    assert theirs.ttft_s.p50 >= 0.03 * 0.99
    assert theirs.e2e_s is not None
    assert theirs.e2e_s.p50 >= (0.03 + 8 * 0.002) * 0.99
    assert theirs.output_tokens_per_s <= 3 * 9 / (0.03 + 8 * 0.002) * 1.01
    asked = log(url)
    assert {(a["effort"], a["max_tokens"]) for a in asked} == {("low", 9)}
    prompts = [a["prompt"] for a in asked]
    warm, ours, others = prompts[:2], prompts[2:8], prompts[8:]
    assert len(warm + ours + others) == len(prompts) == len(set(prompts)) == 14
    tails = [sorted(text.partition(" ")[2] for text in arm) for arm in (ours, others)]
    assert tails[0] == tails[1]  # but for the first word
    assert len({text.partition(" ")[0] for text in prompts}) == 14
    lines = second.table(pair).splitlines()
    assert lines[2].startswith("| evalsuite ")
    assert lines[3].startswith(f"| {name} {found.version} | 6 / 0 | {theirs.ttft_s.p50 * 1e3:.1f} / ")
    assert pair.sent.note == ""


def pair(theirs: list[Sample]) -> Pair:
    """Ours as the stub gives it, theirs as given."""
    with serving(Script(models={"m": MODEL})) as stub:
        ours = bench(Target(url=stub, model="m"), blocks=1, requests=2, concurrency=2, max_tokens=4, limits=LENIENT)
    notes = {"ttft": ("a", "b"), "e2e": ("b",)}
    said = run.Opinion(tool="vllm", version="1.0", figures=figures(theirs), cpu_s=1.0, notes=notes)
    return Pair(bench=ours, opinion=said, sent=ours.prompts)


def test_a_note_stands_once_and_marks_every_cell_it_is_about():
    good = [Sample(start=5.0, ttft_s=0.01, e2e_s=0.03, output_tokens=11),
            Sample(start=5.5, ttft_s=0.02, e2e_s=0.5, output_tokens=5)]  # fmt: skip
    found = pair([*good, Sample(start=None, error="http 500")])
    lines = second.table(found).splitlines()
    assert lines[3] == ("| vllm 1.0 | 2 / 1 | 15.0 / 19.5 / 19.9 [1] [2] | 61.0 | 265.0 / 476.5 / 495.3 [2] | 16.0 |")
    assert lines[4:] == ["", "[1] a", "[2] b", "vllm, failed: 1 x http 500"]


def test_what_a_tool_did_not_find_is_no_number():
    lines = second.table(pair([Sample(start=None, error="refused")] * 2)).splitlines()
    assert lines[3] == "| vllm 1.0 | 0 / 2 | n/a | n/a | n/a | n/a |"
    assert lines[4:] == ["", "vllm, failed: 2 x refused"]
    uncounted = second.table(pair([Sample(start=1.0, ttft_s=0.01, e2e_s=0.03)])).splitlines()
    assert uncounted[3].endswith("| n/a [3] |")
    assert "[3] vllm: the server did not say how many tokens there were" in uncounted


def test_a_void_run_of_ours_and_prompts_that_repeat_are_said():
    found = pair([Sample(start=1.0, ttft_s=0.01, e2e_s=0.03, output_tokens=2)])
    void = found.bench.model_copy(update={"void": ("base: it measured itself",)})
    twice = found.sent.model_copy(update={"requests": 9})
    void = void.model_copy(update={"notes": (void.prompts.note, "base: counted by chunks")})
    lines = second.table(found.model_copy(update={"bench": void, "sent": twice})).splitlines()
    assert lines[-3:] == [twice.note, "base: counted by chunks", "void: base: it measured itself"]


def test_a_first_word_is_swapped_for_another_of_one_token():
    a, b = made(2, "64", seed=3)
    other = second.swapped(a, b)
    assert other != a
    assert other.partition(" ") == (b.partition(" ")[0], " ", a.partition(" ")[2])
    assert len(harmony.encode(other)) == len(harmony.encode(a)) == 64


@pytest.mark.parametrize("more", [["--tuned", "http://127.0.0.1:9/v1"], ["--slo-ttft-ms", "5"], ["--trace", "t"]])
def test_an_engine_goes_with_one_endpoint_and_a_load_that_it_can_offer(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    Path("t").write_text("0\n1\n")
    result = CliRunner().invoke(main, ["bench", "--base", "http://127.0.0.1:9/v1", "--engine", "vllm", *more])
    assert result.exit_code == 2
    assert "--engine goes without" in result.output
    alone = CliRunner().invoke(main, ["bench", "--base", "http://127.0.0.1:9/v1", "--engine-bin", "x"])
    assert (alone.exit_code, "--engine-bin is of --engine" in alone.output) == (2, True)


def test_readme_s_command_is_one(monkeypatch):
    """Nobody listens there: that it goes so far says that its options are right."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (command,) = re.findall(r"^    evalsuite (bench .*--engine .*)$", readme, re.M)
    found = run.Installed(Path("x"), Path("x"), "1")
    monkeypatch.setattr(run, "installed", lambda tool, _binary: found if tool in run.ENGINES else None)
    result = CliRunner().invoke(main, shlex.split(command.replace(":8000", ":9")))
    assert (result.exit_code, "cannot be reached" in result.output) == (2, True)


def test_our_own_engine_failing_is_said_before_the_tool_is_run():
    fault = Model(faults=(Fault(kind="500"),))
    with serving(Script(models={"m": fault})) as stub, pytest.raises(UserError, match="does not answer"):
        second.second("vllm", run.Installed(Path("x"), Path("x"), "1"), Target(url=stub, model="m"),
                      load(concurrency=1), requests=2)  # fmt: skip


def test_the_role_may_leave_with_the_first_token():
    """What a client takes for the first chunk then says when the first token came, as of vLLM's server."""
    body = {"messages": [{"role": "user", "content": "go"}], "max_completion_tokens": 2}
    shown = {}
    for early in (True, False):
        script = Script(models={"m": Model(first_token_s=0.2, answer_tokens=2, role_first=early)})
        with serving(script) as stub:
            (raw,) = closed_loop(Target(url=stub, model="m"), [body], 1, 60).raws
        events = list(parse(raw.pieces).events())
        shown[early] = [json.loads(data)["choices"][0]["delta"] for _, data in events[:2]]
        assert raw.sent is not None
        assert events[0][0] - raw.sent >= 0.199 * (not early)  # the stub never sends early
    assert shown[True] == shown[False]
    assert shown[True][0] == {"role": "assistant", "content": ""}
