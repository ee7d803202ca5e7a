"""A replay: the report again from the answers on file, with every server gone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arms import BASE, TUNED, question_set, stub
from click.testing import CliRunner

from evalsuite import questions, report
from evalsuite.asking.endpoint import Endpoint
from evalsuite.cli import main
from evalsuite.compare import compare, replay
from evalsuite.replies import answers
from evalsuite.speed.compared import Speed
from evalsuite.stub.server import Fault, Model
from tune import artefact
from tune.errors import UserError
from tune.evaluate import Evaluate, Gated

SETTINGS = Evaluate(efforts=["low", "high"], max_tokens=64)


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    """What a run and a replay of four questions are told alike."""
    questions.write(tmp_path / "q.jsonl", question_set(4))
    return {"settings": SETTINGS, "question_file": tmp_path / "q.jsonl", "out": tmp_path / "out"}


def ran(tmp_path: Path, asked: dict[str, Any], base: Model | None = None, **more: Any) -> None:
    with stub(tmp_path, question_set(4), base) as url:
        arms = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        compare(arms, **asked, **more)  # type: ignore[arg-type]


def on_file(out: Path) -> dict[str, Any]:
    """report.json without when it was made, and the digest over that."""
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return {name: value for name, value in found.items() if name not in {"created", "digest"}}


@pytest.mark.parametrize("base", [Model(), Model(faults=(Fault(kind="401", prompt="q1"),))], ids=["whole", "errors"])
def test_a_replay_writes_the_report_of_the_run(tmp_path: Path, asked: dict[str, Any], base: Model) -> None:
    ran(tmp_path, asked, base, speed=Speed(blocks=2, requests=2))
    out: Path = asked["out"]
    first, told = on_file(out), (out / "answers.jsonl").read_bytes()
    assert first["throughput"]
    replay(**asked)
    assert on_file(out) == first
    assert (out / "answers.jsonl").read_bytes() == told
    assert report.read(out / "report.json").verdict.outcome == first["verdict"]["outcome"]
    (out / "report.json").unlink()
    replay(**asked)
    assert on_file(out) == first | {"throughput": None}  # no load is on file


def test_what_is_not_on_file_is_missing_and_named(tmp_path: Path, asked: dict[str, Any]) -> None:
    ran(tmp_path, asked, Model(faults=(Fault(kind="401", prompt="q1"),)))
    file, lines = asked["out"] / "answers.jsonl", list[str]()
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in whole if b'"q2","arm":"tuned","effort":"low"' not in line) + b'{"torn')
    made = replay(**asked, progress=lines.append)
    assert lines == [
        "base at effort low: 1 of 4 answers are missing, 1 of them ended in an error",
        "base at effort high: 1 of 4 answers are missing, 1 of them ended in an error",
        "tuned at effort low: 1 of 4 answers are missing",
    ]
    assert made.comparisons[0].tuned.absent == 1
    lines.clear()
    other = asked | {"settings": Evaluate(efforts=["low", "high"], max_tokens=65)}
    made = replay(**other, progress=lines.append)
    assert "15 answers on file are to another request: they stay there and do not count" in lines
    assert (made.verdict.outcome, made.asked.sampling.max_tokens) == ("INVALID", 65)


def test_the_last_run_over_these_questions_says_who_answered(tmp_path: Path, asked: dict[str, Any]) -> None:
    ran(tmp_path, asked)
    file = asked["out"] / "answers.jsonl"
    first, [run] = on_file(asked["out"]), answers.headers(file)
    another = run.model_copy(update={"questions": "0" * 64})
    file.write_bytes(file.read_bytes() + answers.header(another))
    replay(**asked)
    assert on_file(asked["out"]) == first
    gone = run.servers["base"].model_copy(update={"url": "http://elsewhere/v1"})
    file.write_bytes(
        file.read_bytes() + answers.header(run.model_copy(update={"servers": run.servers | {"base": gone}}))
    )
    assert replay(**asked).provenance["base endpoint"] == "http://elsewhere/v1"


def test_a_run_writes_its_header_once(tmp_path: Path, asked: dict[str, Any]) -> None:
    with stub(tmp_path, question_set(4)) as url:
        arms = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        for _ in range(2):
            compare(arms, **asked)  # type: ignore[arg-type]
        assert len(answers.headers(asked["out"] / "answers.jsonl")) == 1


def emptied(file: Path) -> None:
    file.unlink()


def headless(file: Path) -> None:
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))


def of_others(file: Path) -> None:
    [run] = answers.headers(file)
    file.write_bytes(answers.header(run.model_copy(update={"questions": "0" * 64})))


@pytest.mark.parametrize(
    ("damage", "words", "why"),
    [
        (emptied, "there is no .*answers.jsonl to replay", "asks no server"),
        (headless, "answers.jsonl does not say who answered", "earlier version"),
        (of_others, "answers.jsonl belongs to another question set than .*q.jsonl", f"it answers set {'0' * 16}, and"),
    ],
)
def test_what_cannot_be_replayed_is_said_and_nothing_is_written(
    tmp_path: Path, asked: dict[str, Any], damage: Callable[[Path], None], words: str, why: str
) -> None:
    ran(tmp_path, asked)
    damage(asked["out"] / "answers.jsonl")
    before = (asked["out"] / "report.json").read_bytes()
    with pytest.raises(UserError, match=words) as e:
        replay(**asked)
    assert why in e.value.why
    assert "evalsuite compare --base URL --tuned URL" in e.value.fix
    assert (asked["out"] / "report.json").read_bytes() == before


def test_the_command_needs_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text('[evaluate]\nefforts = ["low", "high"]\nmax_tokens = 64\n')
    (tmp_path / "work").mkdir()
    questions.write(tmp_path / "work" / "questions.jsonl", question_set(4))
    ran(tmp_path, {"settings": SETTINGS, "question_file": Path("work/questions.jsonl"), "out": Path("work")})
    first = on_file(tmp_path / "work")
    done = CliRunner().invoke(main, ["compare", "--replay"])
    assert done.exit_code == 0, done.output
    assert "next: evalsuite gate work/report.json" in done.stdout
    assert on_file(tmp_path / "work") == first
    refused = CliRunner().invoke(main, ["compare", "--replay", "--base", "http://127.0.0.1:9"])
    assert (refused.exit_code, "leave out --base" in refused.output) == (2, True)
    lacking = CliRunner().invoke(main, ["compare", "--base", "http://127.0.0.1:9"])
    assert (lacking.exit_code, "Missing option '--tuned'" in lacking.output) == (2, True)


def test_contamination_is_measured_against_the_dataset_in_the_work_folder_where_it_is_limited(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    ran(tmp_path, asked)
    dataset = tmp_path / "dataset"
    limited = asked | {"settings": SETTINGS.model_copy(update={"limits": Gated(contamination=0.3)}), "dataset": dataset}
    assert replay(**limited).evidence.trained is None  # there is no dataset
    dataset.mkdir()
    prompts = [question_set(4).questions[0].prompt, "What else?"]
    lines = [json.dumps({"messages": [{"role": "user", "content": prompt}]}) for prompt in prompts]
    (dataset / "examples.jsonl").write_text("\n".join(lines) + "\n")
    made = artefact.finish(dataset, "dataset")
    trained = replay(**limited).evidence.trained
    assert trained is not None
    assert (trained.found, trained.questions, trained.ids, trained.texts) == (1, 4, ("q0",), 2)
    assert (trained.dataset, trained.share) == (made.digest, 0.25)
    again = report.read(asked["out"] / "report.json")
    assert [(f.name, f.value, f.kept) for f in again.limits] == [("contamination", 0.25, True)]
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for on, kept in ((made.digest, True), ("e" * 64, False)):
        artefact.finish(adapter, "adapter", inputs={"dataset": on})
        trained = replay(**limited).evidence.trained
        assert (trained.tuned_on if trained else "") == on
        assert [f.kept for f in report.read(asked["out"] / "report.json").limits] == [kept]
    assert replay(**asked, dataset=dataset).evidence.trained is None  # no limit, no look
    (dataset / "examples.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"examples\.jsonl"):
        replay(**limited)
