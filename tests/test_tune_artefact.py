import hashlib
import json
from pathlib import Path

import pytest

from tune import artefact
from tune.errors import UserError


def stage(folder, text="one\n", **about):
    folder.mkdir(exist_ok=True)
    (folder / "pages.jsonl").write_text(text)
    return artefact.finish(folder, "pages", **about)


def test_digest_depends_on_contents_and_inputs_alone(tmp_path):
    a = stage(tmp_path / "a", inputs={"x": "1"}, figures={"seconds": 1})
    b = stage(tmp_path / "b", inputs={"x": "1"}, figures={"seconds": 2})
    assert a.digest == b.digest
    assert stage(tmp_path / "c", inputs={"x": "2"}).digest != a.digest
    assert stage(tmp_path / "d", text="two\n", inputs={"x": "1"}).digest != a.digest


def test_what_an_artefact_was_made_with_is_in_its_digest(tmp_path):
    made = stage(tmp_path / "a", settings={"date": "2026-01-01", "sizes": (1, 2)})
    assert artefact.read(tmp_path / "a", "pages", remake="").digest == made.digest  # a list, once it was written
    assert stage(tmp_path / "b", settings={"date": "2026-01-02", "sizes": (1, 2)}).digest != made.digest
    assert stage(tmp_path / "c", settings={"sizes": [1, 2], "date": "2026-01-01"}).digest == made.digest


def test_a_manifest_of_the_version_before_says_why_it_must_be_made_again(tmp_path):
    stage(tmp_path / "pages")
    path = tmp_path / "pages/pages.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    with pytest.raises(UserError, match="it is of version 1, this tool reads version 2: its digest covers") as e:
        artefact.read(tmp_path / "pages", "pages", remake="tune collect")
    assert e.value.fix == "tune collect"


def test_a_stage_without_its_manifest_is_not_whole(tmp_path):
    stage(tmp_path / "pages")
    (tmp_path / "pages/pages.json").unlink()
    with pytest.raises(UserError, match="interrupted") as e:
        artefact.read(tmp_path / "pages", "pages", remake="tune collect")
    assert e.value.fix == "tune collect"


def test_a_folder_of_another_stage_is_called_what_it_is(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    artefact.finish(folder, "adapter")
    with pytest.raises(UserError, match=r"adapter holds a finished adapter, not a checkpoint\n") as e:
        artefact.read(folder, "checkpoint", remake="tune export")
    assert (e.value.why, e.value.fix) == ("it has adapter.json and no checkpoint.json", "tune export")
    with pytest.raises(UserError, match="holds no finished checkpoint") as e:
        artefact.read(tmp_path, "checkpoint", remake="tune export")
    assert "another folder is meant, or its stage was interrupted" in e.value.why


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m[:-20],
        lambda m: m.replace('"kind"', '"kin"'),
        lambda m: m.replace('"schema_version": 2', '"schema_version": "x"'),
        lambda m: m.replace('"schema_version": 2', '"schema_version": 1'),
    ],
)
def test_a_spoilt_manifest_is_refused(tmp_path, spoil):
    stage(tmp_path / "pages")
    path = tmp_path / "pages/pages.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UserError, match="not a manifest"):
        artefact.read(tmp_path / "pages", "pages", remake="")


def test_missing_and_changed_files_are_named(tmp_path):
    made = stage(tmp_path / "pages")
    file = tmp_path / "pages/pages.jsonl"
    file.write_text("One\n")
    with pytest.raises(UserError, match=r"pages\.jsonl is not the file"):
        artefact.verify(tmp_path / "pages", made, remake="")
    file.unlink()
    with pytest.raises(UserError, match=r"lacks pages\.jsonl"):
        artefact.verify(tmp_path / "pages", made, remake="")
    with pytest.raises(UserError, match=r"lacks pages\.jsonl"):
        artefact.read(tmp_path / "pages", "pages", remake="")


def test_is_current_wants_the_same_inputs_settings_and_version(tmp_path):
    folder = tmp_path / "pages"
    stage(folder, inputs={"x": "1"}, settings={"seed": (0, 1)})
    assert artefact.is_current(folder, "pages", inputs={"x": "1"}, settings={"seed": (0, 1)})
    assert not artefact.is_current(folder, "pages", inputs={"x": "2"}, settings={"seed": (0, 1)})
    assert not artefact.is_current(folder, "pages", inputs={"x": "1"}, settings={"seed": (1, 1)})
    manifest = json.loads((folder / "pages.json").read_text())
    (folder / "pages.json").write_text(json.dumps(manifest | {"made_by": "gptoss-kit 0.0.0"}))
    assert not artefact.is_current(folder, "pages", inputs={"x": "1"}, settings={"seed": (0, 1)})


def test_a_killed_remake_leaves_the_old_stage_whole(tmp_path):
    folder = tmp_path / "pages"
    before = stage(folder)

    def killed(fresh):
        (fresh / "pages.jsonl").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artefact.remake_folder(folder, "pages", killed)
    assert artefact.read(folder, "pages", remake="") == before
    artefact.remake_folder(folder, "pages", lambda fresh: stage(fresh, text="new\n") and None)
    assert (folder / "pages.jsonl").read_text() == "new\n"
    assert [p.name for p in tmp_path.iterdir()] == ["pages"]


def test_an_edited_stage_is_not_current(tmp_path):
    stage(tmp_path / "pages")
    assert artefact.is_current(tmp_path / "pages", "pages", inputs={}, settings={})
    (tmp_path / "pages/pages.jsonl").write_text("One\n")
    assert not artefact.is_current(tmp_path / "pages", "pages", inputs={}, settings={})


def test_a_remake_touches_no_neighbour_and_leaves_a_folder_that_others_may_read(tmp_path):
    for name in ("pages.old", "pages.new", ".pages-mine"):
        stage(tmp_path / name)
    for _ in range(2):
        artefact.remake_folder(tmp_path / "pages", "pages", lambda fresh: stage(fresh) and None)
    assert {p.name for p in tmp_path.iterdir()} == {"pages", "pages.old", "pages.new", ".pages-mine"}
    assert all((p / "pages.jsonl").is_file() for p in tmp_path.iterdir())
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "pages").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_swap_that_fails_halfway_puts_the_old_stage_back(tmp_path, monkeypatch):
    before = stage(tmp_path / "pages")
    rename = Path.rename

    def full(self, target):
        if self.name == "new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        artefact.remake_folder(tmp_path / "pages", "pages", lambda fresh: stage(fresh, text="new\n") and None)
    assert artefact.read(tmp_path / "pages", "pages", remake="") == before


def test_a_stage_is_not_made_again_over_what_somebody_put_there(tmp_path):
    def fill(fresh):
        (fresh / "a.txt").write_text("new")
        artefact.finish(fresh, "pages")

    folder = tmp_path / "pages"
    artefact.remake_folder(folder, "pages", fill)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        artefact.remake_folder(folder, "pages", lambda _: pytest.fail("it was made"))
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").rename(tmp_path / "notes.txt")
    artefact.remake_folder(folder, "pages", fill)


def test_what_was_digested_while_it_was_written_is_not_read_again(tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a").write_text("aaaa")
    (tmp_path / "b").write_text("b")
    read = []
    digest = artefact.file_digest
    monkeypatch.setattr(artefact, "file_digest", lambda path: read.append(path.name) or digest(path))
    known = {"shards/a": artefact.Written(hashlib.sha256(b"aaaa").hexdigest(), 4)}
    made = artefact.finish(tmp_path, "pages", known=known)
    assert read == ["b"]
    assert made.files == {name: digest(tmp_path / name) for name in ("b", "shards/a")}
    for wrong in ({"shards/a": artefact.Written("0" * 64, 5)}, {"a": artefact.Written("0" * 64, 4)}):
        with pytest.raises(RuntimeError, match="is not the file that was written"):
            artefact.finish(tmp_path, "pages", known=wrong)
