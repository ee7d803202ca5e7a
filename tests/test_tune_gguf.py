"""GGUF by llama.cpp's converter: one that speaks its command line and its exit codes stands in for it."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from checkpoints import DATE, fill
from click.testing import CliRunner

from tune import artefact, checkpoint, cli
from tune.errors import UserError
from tune.recipe import Recipe
from tune.status import status
from tune.weights import gguf

# The arguments are those of llama.cpp's convert_hf_to_gguf.py (2026), which logs to standard error.
CONVERTER = """
import argparse, json, logging, os, sys
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("model", nargs="?")
parser.add_argument("--outfile", type=Path)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto"], default="auto")
args = parser.parse_args()
logging.basicConfig(level=logging.INFO)
config = json.loads((Path(args.model) / "config.json").read_text())
mode = os.environ.get("MODE", "")
if not Path(args.model).is_dir() or mode == "unsupported":
    logging.error("Model GptOssForCausalLM is not supported")
    sys.exit(1)
if mode != "nothing":
    magic = b"GGUF" if mode != "other" else b"GGML"
    args.outfile.write_bytes(magic + json.dumps([args.outtype, config["vocab_size"]]).encode())
logging.info("Model successfully exported")
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A project with an export, and a clone of llama.cpp."""
    (tmp_path / "llama cpp").mkdir()
    (tmp_path / "llama cpp" / gguf.CONVERTER).write_text(CONVERTER)
    monkeypatch.setenv(gguf.HOME, str(tmp_path / "llama cpp"))
    finish(fill(tmp_path / "work" / "merged", "merged"), "merged")
    return Recipe(folder=tmp_path, export={"format": "gguf"})


def finish(folder: Path, kind: str) -> None:
    checkpoint.finish(
        folder, name="python-docs", base="b", format=kind, prompt_date=DATE, inputs={}, settings={}, figures={}
    )


def test_it_is_made_of_the_export_with_a_manifest(made: Recipe) -> None:
    done = gguf.export(made)
    (file,) = done.files
    path = made.work / "gguf" / file
    assert file == "python-docs-merged.gguf"
    assert json.loads(path.read_bytes()[4:]) == ["bf16", 201088]
    assert done.inputs == {"checkpoint": checkpoint.read(made.work / "merged").digest}
    assert done.figures == {"bytes": path.stat().st_size, "of": "merged", "converter": gguf.CONVERTER}
    said: list[str] = []
    assert gguf.export(made, said.append) == done
    assert "is there already" in said[0]
    finish(fill(made.work / "mxfp4", "mxfp4"), "mxfp4")
    assert list(gguf.export(made).files) == ["python-docs-mxfp4.gguf"]  # FP4 experts stay FP4


def test_status_shows_it_and_that_it_is_of_an_older_export(made: Recipe) -> None:
    def told() -> str:
        (row,) = [row for row in status(made).rows if row.what == "gguf"]
        return row.figures

    gguf.export(made)
    assert told().startswith("bytes ")
    finish(fill(made.work / "merged", "merged", note="another"), "merged")
    assert told() == "stale: made of another checkpoint; tune export --format gguf"


def test_what_serves_and_deploys_refuses_it_with_words(made: Recipe) -> None:
    gguf.export(made)
    with pytest.raises(UserError, match="holds a finished gguf, not a checkpoint"):
        checkpoint.read(made.work / "gguf")


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("unsupported", r"exit code 1: .*Model GptOssForCausalLM is not supported"),
        ("nothing", "it wrote no GGUF: .*successfully"),
        ("other", "it wrote no GGUF"),
    ],
)
def test_a_converter_that_fails_is_quoted(made: Recipe, monkeypatch: pytest.MonkeyPatch, mode: str, why: str) -> None:
    monkeypatch.setenv("MODE", mode)
    with pytest.raises(UserError, match=rf"{gguf.CONVERTER} failed\n  why: {why}"):
        gguf.export(made)
    assert not (made.work / "gguf").exists()


def test_no_converter_and_no_export_are_told_with_the_command(made: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    home = os.environ[gguf.HOME]
    monkeypatch.setenv("PATH", str(made.folder))
    monkeypatch.delenv(gguf.HOME)
    with pytest.raises(UserError, match="is not installed") as caught:
        gguf.export(made)
    assert caught.value.fix.startswith("git clone --depth 1 --branch ")
    script = made.folder / gguf.CONVERTER
    script.write_text(f"#!{sys.executable}\n{CONVERTER}")
    script.chmod(0o755)
    assert gguf.export(made).figures["of"] == "merged"  # found on PATH
    monkeypatch.setenv(gguf.HOME, str(made.folder / "nowhere"))
    shutil.rmtree(made.work / "gguf")
    with pytest.raises(UserError, match=rf"{gguf.HOME} holds no {gguf.CONVERTER}"):
        gguf.export(made)
    monkeypatch.setenv(gguf.HOME, home)
    (made.work / "merged" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json is not the file"):
        gguf.export(made)
    shutil.rmtree(made.work / "merged")
    with pytest.raises(UserError, match="there is no checkpoint to make a GGUF of") as caught:
        gguf.export(made)
    assert caught.value.fix == "tune export --format mxfp4"


def test_the_command_line_makes_it(made: Recipe) -> None:
    (made.folder / "recipe.toml").write_text('[project]\nname = "python-docs"\n')
    arguments = ["export", "--recipe", str(made.folder / "recipe.toml"), "--format", "gguf", "--json"]
    out = CliRunner().invoke(cli.main, arguments)
    assert out.exit_code == 0, out.output
    assert artefact.Artefact.model_validate_json(out.stdout).kind == "gguf"
