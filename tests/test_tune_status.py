import json

from tune import artefact, recipe
from tune.status import status


def project(tmp_path):
    (tmp_path / "recipe.toml").write_text("")
    return recipe.read(tmp_path / "recipe.toml")


def finished(folder, kind, **figures):
    folder.mkdir(parents=True)
    (folder / "data").write_text("x")
    artefact.finish(folder, kind, figures=figures)


def test_an_empty_project_begins_at_the_beginning(tmp_path):
    found = status(project(tmp_path))
    assert (found.rows, found.verdict, found.next) == ((), "none yet", "tune collect")


def test_the_next_command_follows_what_is_there(tmp_path):
    r = project(tmp_path)
    finished(r.work / "pages", "pages", pages=3)
    assert status(r).next == "tune dataset"
    for folder, kind in (("dataset", "dataset"), ("nano", "checkpoint"), ("adapter", "adapter")):
        finished(r.work / folder, kind)
    assert status(r).next == "tune export"
    finished(r.work / "mxfp4", "checkpoint")
    assert status(r).next == f"serve run {r.work / 'mxfp4'}"
    (r.work / "report.json").write_text(json.dumps({"digest": "d", "verdict": {"outcome": "FAIL"}}))
    assert status(r).verdict == "FAIL"
    assert "report.html" in status(r).next
    (r.work / "report.json").write_text(json.dumps({"digest": "d", "verdict": {"outcome": "PASS"}}))
    assert status(r).next.startswith("deploy render")
    assert "pages 3" in status(r).text()


def test_an_unfinished_stage_is_shown_and_never_taken_as_whole(tmp_path):
    r = project(tmp_path)
    finished(r.work / "pages", "pages")
    (r.work / "pages/data").unlink()
    (r.work / "report.json").write_text("{")
    found = status(r)
    assert found.next == "tune collect"
    assert "unfinished" in found.rows[0].figures
    assert "cannot be read" in found.verdict
