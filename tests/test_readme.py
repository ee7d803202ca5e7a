"""README tells the truth: its files exist, its client is the tested one, its path and outputs are the demo's."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from evaluation import evaluated, reply
from story import Story, commands

from evalsuite import questions
from evalsuite.judging import shares
from evalsuite.stub.server import Model, Script, serving
from serve.cli import _free_port
from tune import evaluate, recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    """What stands between <!-- name --> and <!-- /name -->, without its fence."""
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```\n<!-- /{name} -->", README, re.S)
    assert found, f"README has no {name}"
    return found[1]


def shown(name: str = "path") -> dict[str, str]:
    """Each command of the path, or of another block, and the output shown below it."""
    parts = re.split(r"^\$ (.+)\n", block(name), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shape(text: str) -> str:
    """The text with digests and numbers masked: they differ from run to run."""
    return re.sub(r"\d[\d.,]*", "N", re.sub(r"\b[0-9a-f]{12,16}\b", "DIGEST", text)).strip()


def test_every_link_of_the_documents_leads_to_a_file():
    found = 0
    for name in ("README.md", "CONTRIBUTING.md", "BENCHMARKS.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / name).read_text()):
            assert (ROOT / target).is_file(), f"{name} links to {target}"
            found += 1
    assert found >= 5


@pytest.mark.parametrize("name", ["client", "agent"])
def test_the_client_shown_is_the_one_that_is_tested(name):
    assert block(name) == (ROOT / f"examples/{name}.py").read_text()


def test_the_path_shown_is_what_the_demo_runs():
    script = (ROOT / "examples/demo.sh").read_text()
    (targets,) = re.findall(r"for target in (.*?);", script)
    (render,) = re.findall(r"step (deploy render .*)", script)
    *before, last = commands()
    rendered = [render.replace('"', "").replace("$target", target) for target in targets.split()]
    assert [c for c in shown() if not c.startswith("serve run")] == [*before, *rendered, last]
    served = re.findall(r"^serve run .*?(?= & )", script, re.M)
    assert [c.removesuffix(" &") for c in shown() if c.startswith("serve run")] == served


def test_the_shares_shown_as_limits_can_be_kept_with_the_default_number_of_questions(tmp_path):
    (tmp_path / "recipe.toml").write_text(block("limits"))
    asked = recipe.read(tmp_path / "recipe.toml").evaluate
    for share in (asked.limits.empty, asked.limits.truncated, asked.limits.unparsed):
        assert share is not None
        assert shares.exact_upper(1, asked.questions, asked.alpha) <= share  # and one reply may go wrong
    stated = re.findall(r"(\d+) for (0\.\d+)", re.findall(r"about 3 / limit questions .*", README)[0])
    assert len(stated) == 2
    for count, share in stated:
        at_least = [shares.exact_upper(0, n, asked.alpha) <= float(share) for n in (int(count) - 1, int(count))]
        assert at_least == [False, True], share


def test_own_questions_are_taken_and_checked_as_shown(tmp_path):
    (tmp_path / "own.csv").write_text(block("own-file"))
    (tmp_path / "recipe.toml").write_text('[evaluate]\nefforts = ["low"]\n')
    project = Story(tmp_path, {})
    for command, output in shown("own").items():
        project.run(command)
        assert project.said[command] == output, command


def test_every_limit_is_shown_and_read_as_shown(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(block("limits"))
    assert recipe.read(path).evaluate.limits.model_fields_set == set(evaluate.Gated.model_fields)


def test_general_questions_are_added_and_planned_for_as_shown(tmp_path):
    (tmp_path / "own.csv").write_text(block("own-file"))
    (tmp_path / "recipe.toml").write_text(block("general-recipe"))
    project = Story(tmp_path, {})
    for command, output in shown("general").items():
        project.run(command)
        assert project.said[command] == output, command


def test_free_text_questions_are_added_and_judged_as_shown(tmp_path):
    (tmp_path / "own.csv").write_text(block("own-file"))
    (tmp_path / "recipe.toml").write_text(block("tutorial-recipe"))
    project = Story(tmp_path, {})
    for command, output in shown("tutorial").items():
        project.run(command)
        assert project.said[command] == output, command
    asked = questions.read(tmp_path / "work/questions.jsonl")
    told = [reply(q, arm, text=f"{arm} says") for q in asked.questions for arm in ("base", "tuned")]
    evaluated(tmp_path / "work/report.json", asked, told)
    prefers = {"(?s)A:.*tuned says.*B:": "ANSWER: A", "(?s)B:.*tuned says": "ANSWER: B"}
    [(command, output)] = shown("advise").items()
    with serving(Script(models={"judge": Model(says=prefers), "other": Model()})) as url:
        here = command.replace("http://127.0.0.1:9000/v1", url)
        project.run(here)
    assert project.said[here] == output.replace("http://127.0.0.1:9000/v1", url)


def test_runs_of_another_tool_are_judged_as_shown(tmp_path):
    for name, arm in (("base", "base"), ("tuned", "passes")):
        shutil.copy(ROOT / f"tests/golden/imports/inspect/{arm}.json", tmp_path / f"{name}.json")
    project = Story(tmp_path, {})
    for command, output in shown("judge").items():
        project.run(command)
        assert project.said[command] == output, command


@pytest.mark.engine
def test_the_outputs_shown_are_what_the_commands_say(story):
    compared = 0
    for command, output in shown().items():
        if command in story.said and not command.startswith(("evalsuite compare", "evalsuite gate")):
            assert shape(story.said[command]) == shape(output), command
            compared += 1
    assert compared >= 7


def test_every_command_named_in_the_documents_exists():
    import importlib

    named = set(
        re.findall(r"`(tune|serve|evalsuite|deploy) ([a-z]+)\b", README + (ROOT / "CONTRIBUTING.md").read_text())
    )
    assert len(named) >= 5
    for package, command in named:
        assert command in importlib.import_module(f"{package}.cli").main.commands, f"{package} {command}"


def test_the_path_is_written_from_a_run():
    """The run that README shows, as the demo prints it, gives README again; what another says otherwise is taken."""
    log = "\n".join(
        f"\n\033[1m$ {command}\033[0m\n{as_printed(command, output)}" for command, output in shown().items()
    )
    assert from_run().path(README, log) == README
    other = re.sub(r"^adapter: .*$", "step 3 of 7\nadapter: steps 7, tokens 9; next: tune export", log, flags=re.M)
    assert from_run().path(README, other) == re.sub(
        r"^adapter: .*; next: .*$", "adapter: steps 7, tokens 9; next: tune export", README, flags=re.M
    )


def as_printed(command: str, output: str) -> str:
    """Of a comparison with what README leaves out: empty lines, reasons, and the table of limits."""
    if not command.startswith("evalsuite compare"):
        return output + ("\nstopped\nstopped\n" if command == "tune status" else "")
    tables = re.sub(r"^(Held-out questions:|A gain is required:)\n", r"\n- a reason\n\n\1\n\n", output, flags=re.M)
    return tables.replace("…", "\nLimits:\n\n| effort | what |\n|---|---|\n\n- seed: 0")


def from_run():
    spec = importlib.util.spec_from_file_location("from_run", ROOT / "docs" / "from_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gate_without_a_model_is_what_its_commands_say(tmp_path, monkeypatch):
    """README's own commands, on free ports."""
    first, *stubs, compare, gate = shown("stub")
    ports = [str(_free_port("127.0.0.1")) for _ in stubs]

    def run(command):
        for named, free in zip(("8010", "8011"), ports, strict=True):
            command = command.replace(named, free)
        return ["bash", "-c", f"exec {command.removesuffix(' &')}" if command.endswith(" &") else command]

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subprocess.run(run(first), cwd=tmp_path, check=True, capture_output=True)
    with ExitStack() as end:
        for stub in stubs:
            playing = end.enter_context(
                subprocess.Popen(run(stub), cwd=tmp_path / "try", stdout=subprocess.PIPE, text=True)
            )
            end.callback(playing.terminate)
            assert playing.stdout.readline().startswith("http://127.0.0.1:")
        subprocess.run(run(compare), cwd=tmp_path / "try", check=True, capture_output=True)
    verdict = subprocess.run(run(gate), cwd=tmp_path / "try", check=True, capture_output=True, text=True)
    assert verdict.stdout.startswith(shown("stub")[gate])
