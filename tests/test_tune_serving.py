"""The next command after an export is one that its format can be served by."""

from pathlib import Path

import lora_folder
import pytest
from click.testing import CliRunner

from serve.cli import main
from tune import checkpoint, serving
from tune.cli import main as tune
from tune.recipe import Base, Recipe, read


def recipe(folder: Path, model: str = "nano") -> Recipe:
    return Recipe(folder=folder, base=Base(model=model))


@pytest.mark.parametrize("format", ["merged", "mxfp4", "base"])
def test_a_whole_checkpoint_is_served_alone(tmp_path: Path, format: str) -> None:
    work = recipe(tmp_path).work
    assert serving.command(recipe(tmp_path), work / format) == f"serve run {work / format}"


def test_a_gguf_is_llama_cpp_s(tmp_path: Path) -> None:
    work = recipe(tmp_path).work
    assert serving.command(recipe(tmp_path), work / "gguf") == f"llama-server -m {work / 'gguf'}/*.gguf"


def test_an_adapter_lies_beside_its_base_and_preflight_takes_the_command(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    base = lora_folder.base(made.work / "nano")
    lora_folder.make(made.work / "lora", base)
    command = serving.command(made, made.work / "lora")
    assert command == f"serve run {made.work / 'nano'} --adapter tuned={made.work / 'lora'}"
    for words, wrong in ((command.split()[2:], False), ([str(made.work / "lora")], True)):  # alone it would be refused
        out = CliRunner().invoke(main, ["preflight", *words, "--port", "0"])
        assert ("S003" in out.output) == wrong
        assert "S046" not in out.output


@pytest.mark.parametrize(("model", "beside"), [("openai/gpt-oss-20b", "work/base"), ("given", "given")])
def test_the_base_may_have_to_be_exported_first(tmp_path: Path, model: str, beside: str) -> None:
    made = recipe(tmp_path, model)
    then = f"serve run {tmp_path / beside} --adapter tuned={made.work / 'lora'}"
    if model != "given":
        assert serving.command(made, made.work / "lora") == f"tune export --format base, then {then}"
    lora_folder.base(tmp_path / beside)
    assert serving.command(made, made.work / "lora") == then


def test_export_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.toml").write_text("")
    made = read(tmp_path / "recipe.toml")
    lora_folder.make(made.work / "lora", lora_folder.base(made.work / "nano"))
    monkeypatch.setattr("tune.weights.export.export", lambda *_, **__: checkpoint.read(made.work / "lora"))
    done = CliRunner().invoke(tune, ["export", "--format", "lora", "--recipe", str(tmp_path / "recipe.toml")])
    assert done.exit_code == 0, done.output
    assert f"next: {serving.command(made, made.work / 'lora')}" in done.output
