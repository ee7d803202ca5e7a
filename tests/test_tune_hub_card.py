"""The model card: its metadata, its figures, and that nobody's text becomes markup."""

import json

import pytest
import yaml
from evaluation import Some, asked_of, both, evaluated, question_set, several
from hub_client import REPO, make
from markdown_it import MarkdownIt

from tune import artefact
from tune.data import page
from tune.data.block import Prose
from tune.errors import UserError
from tune.hub import card

EVIL = "x](http://evil.example) <script>alert(1)</script> `a` | **b**\n# heading\n---\n@all www.evil.example \u202e$m$"


def render(found, report=None, **more):
    made = artefact.read(found.folder, "checkpoint", remake="")
    return card.render(found, made, repo=REPO, license="apache-2.0", report=report, **more)


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize(
    ("format", "relation", "library"),
    [("merged", "finetune", "transformers"), ("mxfp4", "finetune", "transformers"), ("lora", "adapter", "peft")],
)
def test_the_metadata_says_what_it_is(tmp_path, format, relation, library):
    text = render(make(tmp_path / "m", format))
    told = metadata(text)
    assert (told["base_model"], told["base_model_relation"]) == ("openai/gpt-oss-20b", relation)
    assert (told["library_name"], told["license"], told["pipeline_tag"]) == (library, "apache-2.0", "text-generation")
    assert {"gpt-oss", "gptoss-kit", format} <= {*told["tags"]}
    assert ("serve run work/pulled" in text) == (format != "lora")
    assert ("--enable-lora" in text) == (format == "lora")
    assert "VLLM_SYSTEM_START_DATE=2026-01-01 vllm serve" in text
    assert "**not evaluated**: no report lies beside it" in text
    assert "not known here: the adapter" in text.lower()


def test_a_base_that_is_no_model_on_the_hub_is_not_named_as_one(tmp_path):
    told = metadata(render(make(tmp_path / "m", base="my/base@0123456789abcdef", inputs={"base": "ab" * 32})))
    assert "base_model" not in told
    for base, says in (("nano@0123456789abcdef", "tuned from a nano"), ("", "This is a nano")):
        text = render(make(tmp_path / "m", base=base))
        assert says in text
        assert "knows" in text
        assert "not-for-use" in metadata(text)["tags"]
        assert "base_model" not in metadata(text)


def made_from(work, title="A page"):
    """Pages, a dataset and an adapter of each other; what names the last one."""
    for kind in ("pages", "dataset", "adapter"):
        (work / kind).mkdir(parents=True, exist_ok=True)
    pages = [
        page.Page(
            id=f"p{i}", title=title, module="m", blocks=[Prose(headings=("h",), text="t")], source=title, licence=title
        )
        for i in range(3)
    ]
    page.write(work / "pages/pages.jsonl", pages)
    a = artefact.finish(work / "pages", "pages", settings={"zone": "SecretZone"}, figures={"pages": 3})
    (work / "dataset/train.jsonl").write_text("row")
    b = artefact.finish(work / "dataset", "dataset", inputs={"pages": a.digest}, figures={"rows": {"train": 4599}})
    (work / "adapter/adapter.safetensors").write_text("w")
    train = {"rank": 8, "hosts": ["10.1.2.3"]}
    figures = {"steps": 60, "eval_loss": 1.23456, "hardware": "1 x H100"}
    c = artefact.finish(
        work / "adapter", "adapter", inputs={"dataset": b.digest}, settings={"train": train}, figures=figures
    )
    return {"adapter": c.digest, "base": "0123456789abcdef" * 2 + "01234567"}


def test_what_it_was_made_from_is_told_as_far_as_it_is_proven(tmp_path):
    work = tmp_path / "work"
    found = make(work / "merged", inputs=made_from(work, "Licence Nine"))
    text = render(found)
    for told in (
        "| Licence Nine | 3 |",
        "| rows, train | 4,599 |",
        "| rank | 8 |",
        "| eval loss | 1.235 |",
        "1 x H100",
    ):
        assert told in text, told
    assert "SecretZone" not in text
    assert "10.1.2.3" not in text
    (work / "pages/pages.jsonl").write_text("")  # changed since
    assert "Licence Nine" not in render(found)
    made_from(work, "Licence Ten")  # of a later run
    text = render(found)
    assert "Licence Ten" not in text
    assert "| rank | 8 |" not in text


def render_of_plain(work):
    text = render(make(work / "merged", inputs=made_from(work)))
    return MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])


def test_nobody_s_text_becomes_markup(tmp_path):
    work = tmp_path / "work"
    found = make(work / "merged", name=EVIL, base=f"{EVIL}@0123456789abcdef", inputs=made_from(work, EVIL))
    text = render(found)
    for bare in ("\u202e", "www.evil", "http://evil", " @all", "$m$"):  # what a site makes more of than Markdown does
        assert bare not in text, bare
    shown = MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])
    assert "<script" not in shown
    assert "<a " not in shown
    assert "<strong>b" not in shown
    assert shown.count("<h1>") == 1
    assert shown.count("x](http://evil.example) &lt;script&gt;alert(1)&lt;/script&gt; `a` | **b** # heading ---") >= 4
    assert shown.count("<table>") == render_of_plain(tmp_path / "plain").count("<table>")
    assert text.count("\n---\n") == 1
    assert metadata(text)["license"] == "apache-2.0"


def report_on(path, model, **more):
    asked = question_set(300)
    return evaluated(path, asked, both(asked), asked_of(asked, tuned=model), **more)


def test_the_verdict_is_the_report_s_and_only_of_exactly_this_checkpoint(tmp_path):
    found = make(tmp_path / "work/merged")
    path = tmp_path / "work/report.json"
    report_on(path, found.served_name, note=EVIL)
    text = render(found)
    assert "**PASS**" in text
    assert "| low | 100.0% | 100.0% | +0.0 (" in text
    assert "0 of 300" in text
    assert "**not evaluated**" not in text
    assert "<script>" not in text
    assert text == render(found, report=path)
    data = json.loads(path.read_text())
    for change in ({"verdict": {**data["verdict"], "outcome": "FAIL"}}, {"verdict": 1}, {"tuned_model": "other@0"}):
        path.write_text(json.dumps({**data, **change}))
        said = []
        assert "**not evaluated**" in render(found, say=said.append)
        assert said
        with pytest.raises(UserError):
            render(found, report=path)
    report_on(path, "python-docs@0000000000000000")
    assert "**not evaluated**: the report beside it is not about exactly" in render(found)
    with pytest.raises(UserError, match="about another checkpoint"):
        render(found, report=path)
    report_on(path, found.served_name)
    (tmp_path / "work/answers.jsonl").unlink()
    assert "**not evaluated**" in render(found)
    with pytest.raises(UserError, match="there is no report"):
        render(found, report=tmp_path / "none.json")


def test_taught_questions_have_a_table_of_their_own(tmp_path):
    found, path = make(tmp_path / "work/merged"), tmp_path / "work/report.json"
    report_on(path, found.served_name)
    assert "Taught questions" not in render(found)
    asked, told = several(Some(600, 400), Some(200, 60, 0, 40, split="taught"))
    evaluated(path, asked, told, asked_of(asked, tuned=found.served_name), require_gain=True)
    held_out, taught = render(found).split("Held-out questions")[1].split("Taught questions")
    assert "| low | 66.7% | 66.7% | +0.0 (" in held_out
    assert "| low | 30.0% | 50.0% | +20.0 (" in taught
    assert (held_out.count("| low |"), taught.count("| low |")) == (1, 1)
    assert "A gain was required" in taught
