import json
import re

import pytest

from tune import checkpoint, harmony
from tune.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    checkpoint.finish(
        tmp_path,
        name="python-docs",
        base="nano@0123456789abcdef",
        format="merged",
        prompt_date="2026-01-01",
        inputs={"adapter": "a", "base": "b"},
        settings={},
        figures={},
    )
    return tmp_path


def test_a_checkpoint_says_what_it_is(folder):
    found = checkpoint.verify(folder)
    assert (found.format, found.base) == ("merged", "nano@0123456789abcdef")
    assert found.base_digest == "b"
    assert found.served_name == f"python-docs@{found.digest[:16]}"
    assert found.prompt_fingerprint == harmony.fingerprint("2026-01-01")


def test_another_file_is_another_checkpoint(folder):
    before = checkpoint.read(folder).digest
    (folder / "config.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"config\.json is not the file") as e:
        checkpoint.verify(folder, remake="copy it again")
    assert e.value.fix == "copy it again"
    checkpoint.finish(
        folder, name="x", base="", format="merged", prompt_date="2026-01-01", inputs={}, settings={}, figures={}
    )
    assert checkpoint.read(folder).digest != before


def test_a_checkpoint_whose_prompts_say_another_date_is_another_checkpoint(folder):
    before = checkpoint.read(folder)
    path = folder / "checkpoint.json"
    path.write_text(path.read_text().replace("2026-01-01", "2026-01-02"))
    after = checkpoint.read(folder)
    assert after.prompt_date != before.prompt_date
    assert after.served_name != before.served_name


@pytest.mark.parametrize("facts", [None, {"name": "x"}, []])
def test_a_manifest_of_something_else_is_no_checkpoint(folder, facts):
    path = folder / "checkpoint.json"
    data = json.loads(path.read_text())
    data["settings"] = {"checkpoint": facts} if facts is not None else {}
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="describes no checkpoint"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    "name", ["model-00002.safetensors", "modeling.py", ".hidden", "parts/x.bin", "config.json.part"]
)
def test_a_file_that_the_manifest_does_not_name_is_refused_by_name(folder, name):
    (folder / "parts" / "empty").mkdir(parents=True)  # a folder is no file
    checkpoint.verify(folder)
    (folder / name).write_text("x")
    with pytest.raises(UserError, match=re.escape(name)) as e:
        checkpoint.verify(folder)
    assert e.value.fix == "move it out of the folder"


def test_what_the_hub_puts_beside_a_checkpoint_is_no_part_of_it(folder):
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    for name in (".gitattributes", "README.md", ".cache/huggingface/download/config.json.metadata"):
        (folder / name).write_text("x")
    checkpoint.verify(folder)
    for name in ("parts/README.md", ".cache/other", "readme.md", "README.md.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
        with pytest.raises(UserError, match=f"does not name: {re.escape(name)}\n"):
            checkpoint.verify(folder)
        (folder / name).unlink()


def test_a_link_beside_the_files_is_refused(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name, target in (("link", elsewhere), ("dangling", elsewhere / "nothing")):
        (folder / name).symlink_to(target)
        with pytest.raises(UserError, match=f"does not name: {name}$|does not name: {name}\n"):
            checkpoint.verify(folder)
        (folder / name).unlink()


def test_a_canary_is_read_or_its_absence_is_explained(folder):
    found = checkpoint.read(folder)
    with pytest.raises(UserError, match="made by an older version") as e:
        checkpoint.canary(found)
    assert e.value.fix == found.remake == f"tune export --format {found.format}"
    with pytest.raises(UserError) as e:
        checkpoint.canary(found.model_copy(update={"base": ""}))
    assert e.value.fix == "tune nano"
    path = folder / checkpoint.CANARY
    good = '{"logprobs": {"low": [-1.5, 0], "medium": [], "high": [-2]}, "rounding": 0.01}'
    for part, wrong in (('"low": [-1.5, 0], ', ""), ("-1.5", "1.5"), ("-1.5", "NaN"), (', "rounding": 0.01', ""),
                        ("0.01", "-0.01"), ("0.01", "Infinity"), (good, ""), (good, "{}")):  # fmt: skip
        path.write_text(good.replace(part, wrong))
        with pytest.raises(UserError, match="cannot be read"):
            checkpoint.canary(found)
    path.write_text(good)
    assert checkpoint.canary(found).logprobs == {"low": [-1.5, 0.0], "medium": [], "high": [-2.0]}
