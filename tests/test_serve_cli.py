import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import fill
from click.testing import CliRunner

from serve.cli import main
from serve.command import Options
from serve.front import reach
from serve.jobs import log_of
from tune import checkpoint, digests
from tune.recipe import Serve


def serve(*words, **env):
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "no-such-folder"], "holds no finished checkpoint"),
        (["preflight", "no-such-folder"], "tune export"),
        (["command", "no-such-folder"], "holds no finished checkpoint"),
        (["run", "x", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is empty"),
        (["run", "x", "--port", "99999"], "--port"),
        (["run", "x", "--host", ""], "--host"),
        (["ask", "http://127.0.0.1:1", "hi", "--api-key-env", "BAD_KEY"], "no header can carry"),
        (["run", "x", "--default-effort", "high", "--max-effort", "low"], "above the maximum"),
        (["run", "x", "--recipe", "no-such.toml"], "tune init"),
        (["run", "x", "--", "--api-key", "sk-1"], "--api-key-env"),
        (["run", "x", "--max-model-len", "0"], "--max-model-len"),
        (["run", "x", "--", "--max-model-len", "9"], "use --max-model-len before the --"),
        (["run", "x", "--", "-tp", "two"], "-tp two: not a number"),
        (["run", "x", "stray"], "'stray' is no flag of the engine"),
        (["preflight", "x", "--", "--no-such-flag", "3"], "--no-such-flag is no flag of vLLM 0.32"),
        (["run", "x", "--", "--served_model_name=y"], "Error: --served_model_name is not for the engine: use --name"),
        (["ask", "http://127.0.0.1:1", "hi"], "does not answer"),
        (["wait", "http://127.0.0.1:1", "--timeout", "0"], "Connection refused"),
        (["wait", "127.0.0.1:8000"], "is not a URL"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(words, says):
    out = serve(*words, BAD_KEY="schl\xfcssel")
    assert out.exit_code == 2, out.output
    assert says in out.output
    assert "Traceback" not in out.output


def test_a_recipe_gives_defaults_and_options_win(tmp_path, monkeypatch):
    from serve.cli import _options

    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[serve]\ndefault_effort = "high"\nmax_model_len = 512\n')
    given = {"api_key_env": "", "recipe": recipe}
    options = _options(default_effort=None, max_model_len=None, **given)
    assert isinstance(options, Options)
    assert (options.policy.default, options.max_model_len) == ("high", 512)
    options = _options(default_effort="low", max_model_len=99, **given)
    assert (options.policy.default, options.max_model_len) == ("low", 99)
    monkeypatch.chdir(tmp_path)
    options = _options(default_effort=None, max_model_len=None, **{**given, "recipe": None})
    assert (options.policy.default, options.max_model_len) == ("high", 512)  # the one that lies here


RECIPE = """[serve]
default_effort = "low"
max_effort = "medium"
allowed_efforts = ["low", "medium"]
spelling = "map"
max_model_len = 777
drain = 3
max_body = 9
raw_completions = true
"""


@pytest.mark.parametrize("name", ["run", "preflight", "command"])
def test_every_key_of_the_recipe_has_a_flag_that_wins_and_no_default_of_its_own(name):
    flags = {p.name: p for p in main.commands[name].params}
    assert [k for k in Serve.model_fields if k not in flags] == []
    given = main.commands[name].make_context(name, ["folder"]).params
    assert [k for k in Serve.model_fields if given[k] is not None] == []
    words = {"raw_completions": "closed", "thinking_tokens": "no budget", "reasoning_content": "when a client asks"}
    words |= {"strict_format": "it is counted and logged", "adapters": "none", "adapter_rank": "that of the named"}
    words["adapter_slots"] = "as many as are named, at least 2"
    words |= {"profile": "none", "allowed_efforts": "all"}
    defaults = {k: str(f.default).lower() for k, f in Serve.model_fields.items()} | words
    said = {k: d for k, d in defaults.items() if k not in {"default_effort", "keys"}}  # of no effort, and no file
    assert [k for k, d in said.items() if f"[default: {d}]" not in flags[k].help] == []


def test_the_engine_is_told_what_the_recipe_says(tmp_path):
    folder = fill(tmp_path / "tiny")
    facts = {"name": "m", "base": "nano", "format": "merged", "prompt_date": "2026-01-01"}
    checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})
    (tmp_path / "recipe.toml").write_text(RECIPE)

    def told(*words):
        out = serve("command", str(folder), "--recipe", str(tmp_path / "recipe.toml"), *words)
        assert out.exit_code == 0, out.output
        (line,) = [text for text in out.output.splitlines() if text.startswith("GPTOSS_SERVE_SETTINGS=")]
        found = json.loads(shlex.split(line.removesuffix("\\"))[0].partition("=")[2])
        return {**found.pop("policy"), **found}

    found = told()
    assert [found[k] for k in ("default", "maximum", "spelling")] == ["low", "medium", "map"]
    assert [found[k] for k in ("max_model_len", "drain", "max_body", "raw_completions")] == [777, 3, 9, True]
    (tmp_path / "recipe.toml").write_text("[serve]\n")
    assert told("--max-effort", "low")["default"] == "low"
    words = "--default-effort medium --max-effort high --spelling strict --max-model-len 99 --drain 1 --max-body 8"
    found = told(*words.split(), "--no-raw-completions")
    assert [found[k] for k in ("default", "maximum", "spelling")] == ["medium", "high", "strict"]
    assert [found[k] for k in ("max_model_len", "drain", "max_body", "raw_completions")] == [99, 1, 8, False]


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"),
     ("::", "http://[::1]:8000"), ("fd00::7", "http://[fd00::7]:8000"), ("box", "http://box:8000")],
)  # fmt: skip
def test_a_server_is_reached_where_it_listens(host, url):
    assert reach(host, 8000) == url


def test_two_servers_of_a_project_do_not_share_a_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = {log_of(Path("work/merged"), 8000), log_of(Path("work/mxfp4"), 8000), log_of(Path("work/merged"), 8001)}
    assert len(logs) == 3
    assert tmp_path / "work" / "serve-merged-8000.log" in logs


@pytest.mark.parametrize("words", [["x"], ["x", "--recipe", "no-such.toml"], ["x", "--", "--model", "y"]])
def test_what_preflight_cannot_go_past_is_json_too(words):
    out = serve("preflight", "--json", *words)
    assert out.exit_code == 2
    (problem,) = json.loads(out.stdout)["problems"]
    assert problem["severity"] == "error"
    assert problem["what"]
    assert problem["fix"]


def test_a_command_is_shown_without_the_key(tmp_path):
    folder = fill(tmp_path / "tiny")
    facts = {"name": "m", "base": "nano", "format": "merged", "prompt_date": "2026-01-01"}
    checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})
    words = (str(folder), "--api-key-env", "NO_SUCH_KEY")
    assert "NO_SUCH_KEY is empty" in serve("preflight", "--port", "0", *words).output
    out = serve("command", *words)
    assert out.exit_code == 0, out.output
    assert '"key_env":"NO_SUCH_KEY"' in out.output


def test_no_command_is_shown_for_what_cannot_be_served(tmp_path):
    facts = {"name": "m", "base": "nano", "format": "lora", "prompt_date": "2026-01-01"}
    checkpoint.finish(tmp_path, **facts, inputs={}, settings={}, figures={})
    out = serve("command", str(tmp_path))
    assert out.exit_code == 2, out.output
    assert "LoRA adapter" in out.output


def test_help_needs_none_of_the_heavy_libraries():
    code = """
import sys
from click.testing import CliRunner
from serve.cli import main
for words in ([], ["run"], ["preflight"], ["command"], ["ask"], ["wait"]):
    assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0
print([m for m in ("pydantic", "httpx", "openai", "torch", "vllm", "openai_harmony") if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


RUN = """
import sys
from serve import cli, command, jobs

def stand_in(found, options):
    folder = str(found.checkpoint.folder)
    built = command.build(found.checkpoint, options, device="cpu", kv_bytes=1, cores=1)
    return built._replace(argv=[sys.executable, {standin!r}, folder])

jobs.engine = stand_in
cli.main()
"""


@pytest.fixture
def running(tmp_path):
    """`serve run` of a tiny checkpoint, its engine a stand-in; ended with the test."""
    folder = fill(tmp_path / "tiny")
    facts = {"name": "m", "base": "nano", "format": "merged", "prompt_date": "2026-01-01"}
    checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})
    started = []

    def run(*words):
        code = RUN.format(standin=str(Path(__file__).parent / "standin.py"))
        command = [sys.executable, "-c", code, "run", str(folder), "--port", "0", "--json", *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield folder, run
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def test_a_capped_server_is_proven_and_stops_when_told(running):
    _, run = running
    process = run("--max-effort", "medium")
    facts = json.loads(process.stdout.readline())
    assert facts["models"][0] == "m"
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def test_what_was_proven_before_is_proven_again_when_a_byte_changes_and_its_time_does_not(
    running, tmp_path, monkeypatch
):
    """A start reads none of the files that were verified and left alone since, and each that was not."""
    folder, run = running
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(digests, "RACY", -(10**15))  # as if they had been there for long
        checkpoint.verify(folder)
    (place,) = (tmp_path / "cache/gptoss-kit/digests").iterdir()
    assert "model.safetensors" in place.read_text()
    process = run()
    assert json.loads(process.stdout.readline())["digest"] == checkpoint.read(folder).digest
    process.terminate()
    process.communicate(timeout=60)
    weights = folder / "model.safetensors"
    before = weights.stat()
    with weights.open("r+b") as f:
        f.seek(-1, 2)
        f.write(b"\1")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    out, said = run().communicate(timeout=60)
    assert "model.safetensors is not the file that checkpoint.json describes" in said
    assert out == ""


def test_files_are_digested_beside_the_engine_and_not_before(running):
    folder, run = running
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    out, said = run().communicate(timeout=60)
    assert "starting: the engine loads" in said
    assert "model.safetensors is not the file that checkpoint.json describes" in said
    assert out == ""
