"""The house rules that a machine can hold: sizes, names, import weight, help."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("tune", "serve", "evalsuite", "deploy")
MODULES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "vllm",
    "openai",
    "openai_harmony",
    "safetensors",
    "tokenizers",
    "scipy",
    "numpy",
    "httpx",
    "jinja2",
    "pydantic",
    "pydantic_core",
)
LIGHT = {
    "tune",
    "tune.errors",
    "tune.terminal",
    "serve.options",
    "deploy.trying",  # one command
}  # what every command line may load of ours, besides itself


def test_there_are_modules_to_check():
    assert len(MODULES) > 40
    assert {p.relative_to(ROOT).parts[0] for p in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_module_is_small_named_for_its_job_and_says_what_it_is(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    assert not re.fullmatch(r"_?(utils?|common|core|helpers?|misc|base|types)", path.stem)
    assert path.name == "__main__.py" or text.startswith(('"""', "#!")), "a module begins with its docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_command_line_starts_light(package):
    """No model is built and no array library read before a command is known: --help comes at once."""
    command = [sys.executable, "-X", "importtime", "-m", package, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert f"{package}.cli" in loaded
    assert sorted(loaded & set(HEAVY)) == []
    ours = {name for name in loaded if name.partition(".")[0] in PACKAGES}
    commands = {name for name in ours if name.startswith(f"{package}.commands")}  # the room of a command line
    assert sorted(ours - LIGHT - {package, f"{package}.cli"} - commands) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_command_has_help(package):
    import importlib

    group = importlib.import_module(f"{package}.cli").main
    assert len(group.commands) >= 2
    for name, command in group.commands.items():
        assert command.help, f"{package} {name} has no help"
        for option in command.params:
            assert option.param_type_name == "argument" or option.help, f"{package} {name} {option.name} has no help"


def test_the_changelog_names_the_version():
    from tune.artefact import VERSION

    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
    heading = re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heading
    assert heading[1] == VERSION


def test_readme_tree_has_a_line_for_every_module_as_it_describes_itself():
    import ast

    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        for path in (p for p in MODULES if p.relative_to(ROOT).parts[0] == package and not p.name.startswith("__")):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            name = path.relative_to(ROOT / package).as_posix()
            lines.append(f"  {name:24} {docstring.splitlines()[0]}")
    tree = "```\n" + "\n".join(lines) + "\n```"
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition("<!-- tree -->\n")
    shown, mark, after = rest.partition("\n<!-- /tree -->")
    assert mark, "README has no tree"
    if os.environ.get("GOLDEN") == "write":
        readme.write_text(f"{before}<!-- tree -->\n{tree}{mark}{after}")
    else:
        assert shown == tree, "GOLDEN=write make tests rewrites it"
