import json

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


@pytest.mark.parametrize("facts", [None, {"name": "x"}, []])
def test_a_manifest_of_something_else_is_no_checkpoint(folder, facts):
    path = folder / "checkpoint.json"
    data = json.loads(path.read_text())
    data["settings"] = {"checkpoint": facts} if facts is not None else {}
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="describes no checkpoint"):
        checkpoint.read(folder)
