"""The whole path with the real parts, as the demo walks it, and the faults that would be silent without us."""

import json
import shutil

import pytest

from evalsuite import questions, report
from evalsuite.replies import answers
from evalsuite.speed.compared import METRICS
from evalsuite.stub.script import Model, Script
from evalsuite.stub.server import serving
from serve import probe
from tune import artefact, checkpoint, harmony
from tune.data.examples import Example
from tune.data.filling import render

pytestmark = pytest.mark.engine


@pytest.fixture(scope="session")
def compared(story, endpoints):
    """`evalsuite compare` of the two real endpoints."""
    keys = "--base-key-env OPENAI_API_KEY --tuned-key-env OPENAI_API_KEY"
    story.run(f"evalsuite compare --base {endpoints.base.url} --tuned {endpoints.tuned.url} {keys}")
    return report.read(story.folder / "work/report.json")


@pytest.fixture(scope="session")
def passed(story, tmp_path_factory):
    """A report that passes, about the story's own checkpoint: asked of scripted servers, which know the answers."""
    out = tmp_path_factory.mktemp("passed")
    work = story.folder / "work"
    base, tuned = (
        Script(
            models={made.served_name: Model(accuracy=accuracy)}, questions=work / "questions.jsonl", digest=made.digest
        )
        for made, accuracy in ((checkpoint.read(work / "nano"), 0.0), (checkpoint.read(work / "merged"), 1.0))
    )
    recipe = out / "recipe.toml"
    recipe.write_text((story.folder / "recipe.toml").read_text().replace("[evaluate]", "[evaluate]\nmargin = 0.3"))
    with serving(base) as one, serving(tuned) as two:
        from evalsuite.asking.ask import Endpoint
        from evalsuite.compare import compare
        from tune.recipe import read

        arms = {"base": Endpoint(url=one), "tuned": Endpoint(url=two)}
        settings = read(recipe).evaluate
        made = compare(arms, settings=settings, question_file=work / "questions.jsonl", out=out)
    assert made.verdict.outcome == "PASS", made.verdict.reasons
    return out / "report.json"


def test_every_stage_names_the_digest_of_the_one_before(story):
    work = story.folder / "work"
    made = {
        name: artefact.read(work / name, kind, remake="")
        for name, kind in (
            ("pages", "pages"),
            ("dataset", "dataset"),
            ("nano", "checkpoint"),
            ("adapter", "adapter"),
            ("merged", "checkpoint"),
            ("mxfp4", "checkpoint"),
        )
    }
    assert made["dataset"].inputs["pages"] == made["nano"].inputs["pages"] == made["pages"].digest
    assert made["adapter"].inputs == {"dataset": made["dataset"].digest, "base": made["nano"].digest}
    for name in ("merged", "mxfp4"):
        assert made[name].inputs == {"adapter": made["adapter"].digest, "base": made["nano"].digest}
        assert "every value is a number" in story.run(f"tune check work/{name}")
    assert made["nano"].figures["well_formed_share"] >= 0.9


def test_a_second_run_makes_nothing_again(story):
    before = {p: p.stat().st_mtime_ns for p in (story.folder / "work").rglob("*.json")}
    for command in ("tune collect", "tune dataset", "tune nano", "tune train", "tune export --format merged"):
        story.run(command)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_stock_transformers_reads_the_mxfp4_export_as_the_codec_says(story):
    import torch
    from safetensors import safe_open

    from tune.training import loading
    from tune.weights import mxfp4

    folder = story.folder / "work/mxfp4"
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == "mxfp4"
    model = loading.load(folder, dtype=torch.bfloat16)
    compared = 0
    with safe_open(folder / "model.safetensors", "pt") as f:
        for name in (n.removesuffix("_blocks") for n in f.keys() if n.endswith("_blocks")):  # noqa: SIM118
            blocks, scales = f.get_tensor(f"{name}_blocks").numpy(), f.get_tensor(f"{name}_scales").numpy()
            ours = torch.from_numpy(mxfp4.dequantize(blocks, scales)).to(torch.bfloat16)
            theirs = model.get_parameter(name).detach()
            assert torch.equal(ours.transpose(-1, -2).reshape(theirs.shape), theirs)
            compared += 1
    assert compared == 2 * model.config.num_hidden_layers


@pytest.mark.parametrize("effort", harmony.EFFORTS)
def test_a_training_row_begins_with_the_ids_that_the_server_sends(story, endpoints, effort):
    lines = (story.folder / "work/dataset/examples.jsonl").read_text().splitlines()
    examples = [e for e in map(Example.model_validate_json, lines) if e.effort == effort]
    assert len(examples) > 40
    with probe.client(endpoints.tuned.url, "sk-test-0123456789") as http:
        for example in examples[:: len(examples) // 4]:
            trained = render(example, "2026-01-01").ids
            served = probe.served_prompt(http, endpoints.tuned.models[0], example.messages[:-1], effort)
            assert trained[: len(served)] == served
            assert harmony.decode(trained[len(served) :]).startswith("<|channel|>")


def test_both_models_answer_in_harmony_through_the_openai_client(story, endpoints):
    import openai

    for server in endpoints:
        with openai.OpenAI(base_url=server.url, api_key="sk-test-0123456789") as client:
            reply = client.chat.completions.create(
                model=server.models[1],
                messages=[{"role": "user", "content": "What is json?"}],
                reasoning_effort="high",
                temperature=0,
                max_tokens=200,
            )
        message = reply.choices[0].message
        assert message.reasoning
        assert message.content
        assert "<|" not in message.content


def test_the_report_counts_every_question_at_every_effort(story, compared):
    work = story.folder / "work"
    asked = questions.read(work / "questions.jsonl")
    told = answers.read(work / "answers.jsonl", asked)
    assert len(told) == len(asked.questions) * 2 * 3
    for split in ("held-out", "taught"):
        comparisons, about = compared.of(split), [q for q in asked.questions if q.split == split]
        assert about
        assert [c.effort for c in comparisons] == list(harmony.EFFORTS)
        for c in comparisons:
            assert sum(c.base.outcomes.values()) == sum(c.tuned.outcomes.values()) == len(about)
    assert not [a for a in told if a.outcome == "error"]
    assert all(a.first_token_s is not None for a in told)
    servers = compared.asked.servers
    assert {arm: s.header for arm, s in servers.items()} == {
        arm: checkpoint.read(work / name).digest for arm, name in (("base", "nano"), ("tuned", "merged"))
    }
    assert all(s.names and s.root and "version" in s.version for s in servers.values())
    assert compared.tuned_model == checkpoint.read(work / "merged").served_name
    assert compared.throughput
    # Three figures, or words for each that is not there: on a busy machine a short reply arrives in one piece.
    measured = {row.metric for row in compared.throughput.rows}
    for key, (name, _unit, _scale) in METRICS.items():
        assert (name in measured) != (key in compared.throughput.void)
    assert "nano" in compared.note
    page = (work / "report.html").read_text()
    assert compared.verdict.outcome in page
    assert compared.tuned_model in page


def test_effort_steers_how_long_the_base_thinks(compared):
    tokens = compared.base_steering.tokens
    assert tokens["low"] < tokens["medium"] < tokens["high"]


def test_the_gate_says_the_verdict_as_its_exit_code(story, compared):
    said = story.run("evalsuite gate work/report.json", expect=compared.verdict.exit_code)
    assert said.startswith(compared.verdict.outcome)
    if compared.verdict.outcome != "PASS":
        said = story.run("deploy render modal --checkpoint work/merged --report work/report.json --out x", expect=2)
        assert compared.verdict.outcome in said
        assert not (story.folder / "x").exists()


@pytest.mark.parametrize("target", ["modal", "runpod", "sagemaker"])
def test_a_passing_report_renders_the_checkpoint_it_is_about_and_no_other(story, passed, target):
    out = f"work/deploy/{target}"
    proof = f"--report {passed} --recipe {passed.parent / 'recipe.toml'}"
    story.run(f"deploy render {target} --checkpoint work/merged {proof} --out {out}")
    facts = json.loads((story.folder / out / "deployment.json").read_text())
    assert checkpoint.read(story.folder / "work/merged").digest in json.dumps(facts)
    said = story.run(f"deploy render {target} --checkpoint work/mxfp4 {proof} --out x", expect=2)
    assert "python-docs@" in said
    assert not (story.folder / "x").exists()


def test_a_changed_checkpoint_is_refused_by_every_later_stage(story, passed, tmp_path):
    copy = tmp_path / "merged"
    shutil.copytree(story.folder / "work/merged", copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "sliding_window": 64}))
    for command in (
        f"tune check {copy}",
        f"deploy render modal --checkpoint {copy} --report {passed} --out {tmp_path / 'x'}",
    ):
        assert "config.json" in story.run(command, expect=2)
    (copy / "checkpoint.json").unlink()
    assert "interrupted" in story.run(f"serve run {copy} --port 0", expect=2)


def test_mxfp4_is_refused_before_the_engine_starts_where_no_kernel_runs_it(story):
    from serve import machine

    if machine.detect().amx:
        pytest.skip("this processor has AMX: the engine serves MXFP4")
    assert "--format merged" in story.run("serve run work/mxfp4 --port 0", expect=2)
