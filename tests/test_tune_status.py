import hashlib
import json
import shutil

from evaluation import asked_of, both, evaluated, question_set

from evalsuite import questions
from tune import artefact, checkpoint, recipe
from tune.status import status


def project(tmp_path, text=""):
    (tmp_path / "recipe.toml").write_text(text)
    return recipe.read(tmp_path / "recipe.toml")


def finished(folder, kind, **figures):
    folder.mkdir(parents=True)
    (folder / "data").write_text("x")
    artefact.finish(folder, kind, figures=figures)


def test_an_empty_project_begins_at_the_beginning(tmp_path):
    found = status(project(tmp_path))
    assert (found.rows, found.verdict, found.next) == ((), "none yet", "tune collect")


def exported(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(folder.name)
    return checkpoint.finish(
        folder,
        name="python-docs",
        base="nano",
        format=folder.name,
        prompt_date="2026-01-01",
        inputs={},
        settings={},
        figures={},
    ).served_name


def reported(r, outcome, model):
    data = {"tuned_model": model, "verdict": {"outcome": outcome}}
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    (r.work / "report.json").write_text(json.dumps({"digest": digest, **data}))
    for name in ("questions.jsonl", "answers.jsonl"):
        (r.work / name).touch()


def trained(r):
    finished(r.work / "pages", "pages", pages=3)
    for folder, kind in (("dataset", "dataset"), ("nano", "checkpoint"), ("adapter", "adapter")):
        finished(r.work / folder, kind)


def test_the_next_command_follows_what_is_there(tmp_path):
    r = project(tmp_path)
    finished(r.work / "pages", "pages", pages=3)
    assert status(r).next == "tune dataset"
    shutil.rmtree(r.work / "pages")
    trained(r)
    assert status(r).next == "tune export"
    model = exported(r.work / "mxfp4")
    assert status(r).next == f"serve run {r.work / 'mxfp4'}"
    reported(r, "FAIL", model)
    assert status(r).verdict == "FAIL"
    assert "report.html" in status(r).next
    reported(r, "PASS", model)
    assert status(r).next == (
        f"deploy render modal --checkpoint {r.work / 'mxfp4'} --report {r.work / 'report.json'} "
        f"--out {r.work / 'deploy' / 'modal'}"
    )
    assert "pages 3" in status(r).text()
    assert "verdict  PASS (as stored: evalsuite gate proves it)" in status(r).text()
    (r.work / "report.json").unlink()
    assert "as stored" not in status(r).text()


def test_a_rendered_deployment_is_named_only_after_a_pass(tmp_path):
    r = project(tmp_path)
    trained(r)
    model = exported(r.work / "merged")
    finished(r.work / "deploy" / "modal", "deployment")
    reported(r, "PASS", model)
    assert status(r).next == f"read {r.work / 'deploy' / 'modal' / 'README.md'}"
    reported(r, "FAIL", model)
    assert "report.html" in status(r).next


def test_a_report_is_a_verdict_only_on_the_checkpoint_it_names(tmp_path):
    r = project(tmp_path)
    trained(r)
    exported(r.work / "merged")
    reported(r, "PASS", "python-docs@0000000000000000")
    assert status(r).verdict == "none: report.json is about python-docs@0000000000000000"
    assert status(r).next == f"serve run {r.work / 'merged'}"
    reported(r, "PASS", exported(r.work / "mxfp4"))
    assert status(r).verdict == "PASS"
    assert f"--checkpoint {r.work / 'mxfp4'} " in status(r).next


def test_questions_come_between_pages_and_dataset(tmp_path):
    r = project(tmp_path, '[evaluate]\nmodules = ["ast"]\n')
    assert status(r).next == "tune collect"
    finished(r.work / "pages", "pages")
    assert status(r).next == "evalsuite questions"
    path = r.work / "questions.jsonl"
    path.write_text("half a li")
    assert status(r).next == "evalsuite questions"
    questions.write(path, questions.QuestionSet(name="n", python="3", questions=()))
    assert status(r).next == "tune dataset"
    row = status(r).rows[1]
    assert (row.what, row.where, row.figures) == ("questions", str(path), "questions 0")


def test_an_unfinished_stage_is_shown_and_never_taken_as_whole(tmp_path):
    r = project(tmp_path)
    finished(r.work / "pages", "pages")
    (r.work / "pages/data").unlink()
    (r.work / "report.json").write_text("{")
    found = status(r)
    assert found.next == "tune collect"
    assert "unfinished" in found.rows[0].figures
    assert "cannot be read" in found.verdict


def test_an_edited_report_or_one_without_its_proof_is_no_verdict(tmp_path):
    r = project(tmp_path)
    trained(r)
    model = exported(r.work / "merged")
    reported(r, "FAIL", model)
    path = r.work / "report.json"
    path.write_text(path.read_text().replace("FAIL", "PASS"))
    assert status(r).verdict == "none: report.json was changed after it was written"
    assert status(r).next == f"serve run {r.work / 'merged'}"
    reported(r, "PASS", model)
    assert status(r).verdict == "PASS"
    (r.work / "answers.jsonl").unlink()
    assert status(r).verdict == "none: report.json lies without its answers.jsonl"
    path.write_text("[" * 100_000)
    assert "cannot be read" in status(r).verdict


def test_status_reads_what_the_report_writes(tmp_path):
    r = project(tmp_path)
    trained(r)
    model = exported(r.work / "merged")
    asked = question_set(300)
    made = evaluated(r.work / "report.json", asked, both(asked), asked_of(asked, tuned=model))
    assert (status(r).verdict, made.verdict.outcome) == ("PASS", "PASS")
