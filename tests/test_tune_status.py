import hashlib
import json
import os
import shutil

import pytest
from evaluation import asked_of, both, evaluated, question_set

from evalsuite import questions
from tune import artefact, checkpoint, recipe, rooms
from tune.data import collect, dataset
from tune.nano import build as nano
from tune.status import status


def project(tmp_path, text=""):
    (tmp_path / "recipe.toml").write_text(text)
    return recipe.read(tmp_path / "recipe.toml")


def finished(folder, kind, *, inputs=None, settings=None, **figures):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").write_text("x")
    return artefact.finish(folder, kind, inputs=inputs, settings=settings, figures=figures)


def collected(r):
    return finished(r.work / "pages", "pages", settings=collect.settings_of(r), pages=3)


def test_an_empty_project_begins_at_the_beginning(tmp_path):
    found = status(project(tmp_path))
    assert (found.rows, found.verdict, found.next) == ((), "none yet", "tune collect")


def exported(folder):
    folder.mkdir(parents=True, exist_ok=True)
    adapter = artefact.read(folder.parent / "adapter", "adapter", remake="")
    (folder / "config.json").write_text(folder.name)
    return checkpoint.finish(
        folder,
        name="python-docs",
        base="nano",
        format=folder.name,
        prompt_date="2026-01-01",
        inputs={"adapter": adapter.digest, "base": adapter.inputs["base"]},
        settings={},
        figures={},
    ).served_name


def reported(r, outcome, model):
    head = json.loads((r.work / "questions.jsonl").read_text().split("\n")[0])
    data = {"tuned_model": model, "verdict": {"outcome": outcome}, "questions_digest": head["digest"]}
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    (r.work / "report.json").write_text(json.dumps({"digest": digest, **data}))
    (r.work / "answers.jsonl").touch()


def trained(r):
    """Every stage up to the adapter, as its command would state it."""
    pages = collected(r)
    if not (r.work / "questions.jsonl").is_file():
        questions.write(r.work / "questions.jsonl", questions.QuestionSet(name="n", python="3", questions=()))
    inputs, settings = dataset.origin(r)
    rows = finished(r.work / "dataset", "dataset", inputs=inputs, settings=settings)
    told = {"settings": {**nano.settings_of(r), "source": "x"}, "inputs": {"pages": pages.digest}}
    base = finished(r.work / "nano", "checkpoint", **told)
    settings = {"train": r.train.about_adapter, "base": "nano", "date": r.dataset.date}
    finished(r.work / "adapter", "adapter", inputs={"dataset": rows.digest, "base": base.digest}, settings=settings)


def test_the_next_command_follows_what_is_there(tmp_path):
    r = project(tmp_path)
    collected(r)
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


def test_an_adapter_alone_is_served_beside_its_base(tmp_path):
    r = project(tmp_path)
    trained(r)
    exported(r.work / "lora")
    assert status(r).next.endswith(f"serve run {r.work / 'nano'} --adapter tuned={r.work / 'lora'}")


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
    collected(r)
    assert status(r).next == "evalsuite questions"
    path = r.work / "questions.jsonl"
    path.write_text("half a li")
    assert status(r).next == "evalsuite questions"
    questions.write(path, questions.QuestionSet(name="n", python="3", questions=()))
    assert status(r).next == "tune dataset"
    row = status(r).rows[1]
    assert (row.what, row.where, row.figures) == ("questions", str(path), "questions 0")
    path.unlink()
    own = project(tmp_path, '[evaluate]\nquestions_file = "own.csv"\n')
    shutil.rmtree(own.work / "pages")
    collected(own)
    assert status(own).next == "evalsuite questions"


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


def changed(r, text):
    (r.folder / "recipe.toml").write_text(text)
    return recipe.read(r.folder / "recipe.toml")


def shown(r):
    """What is said of each stale stage, and the next command."""
    found = status(r)
    return {row.what: row.figures for row in found.rows if row.figures.startswith("stale")}, found.next


@pytest.mark.parametrize(
    ("text", "stage", "says"),
    [
        ("[collect]\ntopics = false\nmodules = ['ast']", "pages", "topics was True, is False"),
        ("[dataset]\nmax_tokens = 9", "dataset", "max_tokens was 512, is 9; tune dataset"),
        ("[nano]\nsteps = 9", "nano", "steps was 72, is 9; tune nano"),
        ("[train]\nrank = 9", "adapter", "rank was 8, is 9; tune train"),
        ("[project]\nname = 'other'", "merged", "name was python-docs, is other; tune export --format merged"),
    ],
)
def test_a_setting_that_changed_makes_its_stage_stale_with_the_reason_and_the_command(tmp_path, text, stage, says):
    r = project(tmp_path)
    trained(r)
    reported(r, "PASS", exported(r.work / "merged"))
    assert shown(r)[0] == {}
    stale, following = shown(changed(r, text))
    assert list(stale) == [stage]
    assert says in stale[stage]
    assert following == stale[stage].rpartition("; ")[2]


def test_a_stage_that_was_made_again_makes_the_next_one_stale_and_so_on(tmp_path):
    r = project(tmp_path)
    trained(r)
    reported(r, "PASS", exported(r.work / "merged"))
    page = r.work / "report.html"
    page.touch()
    (r.work / "dataset" / "data").write_text("other rows")
    inputs, settings = dataset.origin(r)
    rows = artefact.finish(r.work / "dataset", "dataset", inputs=inputs, settings=settings)
    assert shown(r) == ({"adapter": "stale: made of another dataset; tune train"}, "tune train")
    nano_digest = artefact.read(r.work / "nano", "checkpoint", remake="").digest
    finished(r.work / "adapter", "adapter", inputs={"dataset": rows.digest, "base": nano_digest})
    command = "tune export --format merged"
    assert shown(r) == ({"merged": f"stale: made of another adapter; {command}"}, command)
    exported(r.work / "merged")
    assert shown(r) == ({}, f"serve run {r.work / 'merged'}")
    assert status(r).verdict.startswith("none: report.json is about python-docs@")
    finished(r.work / "nano", "checkpoint", inputs={"pages": "0" * 64}, settings=nano.settings_of(r))
    assert shown(r)[0] == {
        "nano": "stale: made of another pages; tune nano",
        "adapter": "stale: made of another base; tune train",
    }


def test_one_export_that_is_current_is_enough(tmp_path):
    r = project(tmp_path)
    trained(r)
    old = exported(r.work / "mxfp4")
    adapter = artefact.read(r.work / "adapter", "adapter", remake="")
    finished(r.work / "adapter", "adapter", inputs=adapter.inputs, settings={**adapter.settings, "more": 1})
    exported(r.work / "merged")
    assert list(shown(r)[0]) == ["mxfp4"]
    assert shown(r)[1] == f"serve run {r.work / 'merged'}"
    reported(r, "PASS", old)
    assert shown(r)[1] == "tune export --format mxfp4"


def test_a_base_of_another_commit_and_another_version_of_the_kit_make_stages_stale(tmp_path, monkeypatch):
    r = project(tmp_path)
    trained(r)
    hub = changed(r, f'[base]\nmodel = "openai/gpt-oss-20b"\nrevision = "{"0" * 40}"')
    assert shown(hub)[0] == {"adapter": "stale: made of another base; tune train"}
    monkeypatch.setattr(artefact, "VERSION", "9.9.9")
    assert shown(r)[0]["pages"] == "stale: made by gptoss-kit 0.1.0, this is gptoss-kit 9.9.9; tune collect"


def test_questions_of_another_recipe_are_stale_and_a_report_of_others_is_no_verdict(tmp_path):
    r = project(tmp_path)
    asked = question_set(300)
    r.work.mkdir()
    questions.write(r.work / "questions.jsonl", asked)
    trained(r)
    path, model = r.work / "report.json", exported(r.work / "merged")
    evaluated(path, asked, both(asked), asked_of(asked, tuned=model))
    assert status(r).verdict == "PASS"
    questions.write(r.work / "questions.jsonl", question_set(200))
    assert shown(r)[0] == {"dataset": "stale: made of another questions; tune dataset"}
    assert status(r).verdict == "none: report.json is of other questions"
    made = {**r.evaluate.about_questions, "seed": 5}
    questions.write(r.work / "questions.jsonl", questions.QuestionSet(name="n", python="3", made=made, questions=()))
    stale, following = shown(r)
    assert stale["questions"] == "stale: seed was 5, and [evaluate] has 0; evalsuite questions"
    assert following == "evalsuite questions"


def test_questions_of_pages_that_were_collected_again_are_stale(tmp_path):
    r = project(tmp_path)
    pages = collected(r)
    made = {**r.evaluate.about_questions, "pages": dict(pages.files)}
    questions.write(r.work / "questions.jsonl", questions.QuestionSet(name="n", python="3", made=made, questions=()))
    assert shown(r)[0] == {}
    (r.work / "pages" / "data").write_text("other text")
    artefact.finish(r.work / "pages", "pages", settings=collect.settings_of(r), figures={"pages": 3})
    stale, following = shown(r)
    assert stale["questions"] == "stale: data differs: it was collected again since; evalsuite questions"
    assert following == "evalsuite questions"


def test_what_killed_runs_left_is_shown_with_its_size_and_what_becomes_of_it(tmp_path):
    r = project(tmp_path)
    collected(r)
    room, part = r.work / ".merged-abcd_123", r.work / "adapter.part"
    for folder, size in ((room / "new", 240_000_000), (part, 1_500_000)):
        folder.mkdir(parents=True)
        with (folder / "model.safetensors").open("wb") as f:
            f.truncate(size)
    rows = {row.what: row.figures for row in status(r).rows}
    assert rows[part.name] == "unfinished: 1.5 MB; tune train resumes it"
    assert rows[room.name] == "left by a killed run: 0.2 GB; goes with the next tune export --format merged"
    with rooms.writing(r.work / "adapter", "adapter"):
        rows = {row.what: row.figures for row in status(r).rows}
        assert rows["adapter"].startswith(f"being written: process {os.getpid()}, since 2")
        assert part.name not in rows
