"""`deploy smoke` and `evalsuite compare` of a client file, against the real engine behind `serve run`."""

import json

import pytest

from deploy.smoke import Smoke
from evalsuite import questions, report
from evalsuite.asking.client_info import ClientInfo

pytestmark = pytest.mark.engine


def told(server, path):
    path.write_text(ClientInfo(base_url=server.url, model=server.models[1], key_env="OPENAI_API_KEY").model_dump_json())
    return path


def test_the_real_engine_passes_the_smoke_test(story, endpoints, tmp_path):
    said = story.run(f"deploy smoke --client {told(endpoints.tuned, tmp_path / 'client.json')} --json")
    made = Smoke.model_validate(json.JSONDecoder().raw_decode(said)[0])  # before the lines of progress
    outcomes = {check.id: check.outcome for check in made.checks}
    assert outcomes.pop("tools") in {"passed", "warned"}, made.checks  # a nano model seldom calls one
    assert set(outcomes.values()) == {"passed"}, made.checks
    assert (made.answered, made.asked_again) == (endpoints.tuned.digest, {})
    assert made.engine


def test_a_client_file_stands_for_url_and_key_in_a_comparison(story, endpoints, tmp_path):
    work = story.folder / "work"
    asked = questions.read(work / "questions.jsonl")
    first = [q for q in asked.questions if q.split == "held-out"][:2]
    few = tmp_path / "few"
    few.mkdir()
    questions.write(few / "questions.jsonl", asked.model_copy(update={"questions": tuple(first)}))
    files = {arm: told(getattr(endpoints, arm), tmp_path / f"{arm}.json") for arm in ("base", "tuned")}
    clients = " ".join(f"--{arm}-client {path}" for arm, path in files.items())
    story.run(f"evalsuite compare {clients} --questions {few / 'questions.jsonl'} --out {few} --no-speed")
    made = report.read(few / "report.json")
    assert {arm: s.header for arm, s in made.asked.servers.items()} == {
        arm: getattr(endpoints, arm).digest for arm in files
    }
