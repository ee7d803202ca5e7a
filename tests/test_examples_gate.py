"""The gate in CI: every command and option of the examples is there, and what proves the verdict is kept."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from evalsuite import cli as evalsuite
from tune import cli as tune

EXAMPLES = Path(__file__).parent.parent / "examples"
PROOF = {f"work/{name}" for name in ("questions.jsonl", "answers.jsonl", "report.json", "report.html")}
STEPS = ["tune collect", "evalsuite questions", "evalsuite compare", "evalsuite gate"]


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def of_github() -> tuple[list[str], set[str], str]:
    """Commands in order, what is kept, and under which condition."""
    steps = read("gate.yml")["jobs"]["gate"]["steps"]
    [kept] = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    return [step["run"] for step in steps if "run" in step], set(kept["with"]["path"].split()), kept["if"]


def of_gitlab() -> tuple[list[str], set[str], str]:
    job = read("gate.gitlab-ci.yml")["release gate"]
    return job["script"] + job["after_script"], set(job["artifacts"]["paths"]), job["artifacts"]["when"]


@pytest.mark.parametrize("of", [of_github, of_gitlab])
def test_the_example_runs_what_is_there_and_keeps_what_proves_the_verdict(of: Any) -> None:
    commands, kept, when = of()
    assert kept >= PROOF
    assert "always" in when
    ours = [shlex.split(command) for command in commands if command.startswith(("tune ", "evalsuite "))]
    steps = [" ".join(words[:2]) for words in ours]
    assert [step for step in steps if step != "evalsuite report"] == STEPS
    [report] = [words for words in ours if words[1] == "report"]
    assert report[report.index("--junit") + 1] == "work/gate.xml"
    for program, name, *rest in ours:
        command = {"tune": tune, "evalsuite": evalsuite}[program].main.commands[name]
        command.make_context(name, rest, resilient_parsing=False)  # raises click.UsageError
        with pytest.raises(click.UsageError):
            command.make_context(name, [*rest, "--no-such-option"])


def test_a_report_is_shown_when_the_comparison_was_void() -> None:
    """evalsuite compare then ends with 3, and steps after it are left out if nothing else is said."""
    [step] = [s for s in read("gate.yml")["jobs"]["gate"]["steps"] if "evalsuite report" in s.get("run", "")]
    assert "!cancelled()" in step["if"]
    assert any("evalsuite report" in c for c in read("gate.gitlab-ci.yml")["release gate"]["after_script"])


def test_gitlab_gets_the_junit_file_that_is_written_and_keys_stay_variables() -> None:
    job = read("gate.gitlab-ci.yml")["release gate"]
    assert job["artifacts"]["reports"]["junit"] == "work/gate.xml"
    assert "variables" not in job
    assert set(re.findall(r"--(?:base|tuned)-key-env (\w+)", "\n".join(job["script"]))) == {"BASE_KEY", "TUNED_KEY"}
