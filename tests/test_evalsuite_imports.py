"""Files that other tools wrote: each is told and read as its tool means it, and no bytes bring a traceback."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evalsuite.imports import decode, inspect_ai
from evalsuite.imports.item import Choice, Refused, right
from evalsuite.imports.read import Format, parsed, read
from tune.errors import UserError

RUNS = Path(__file__).parent / "golden" / "imports"
ALL = sorted(p for p in RUNS.rglob("*.json*"))
LOG: dict[str, Any] = json.loads((RUNS / "inspect/base.json").read_text())
NONE, ACC = Choice(), Choice(metric="acc")
NAMES = (
    "id right score module doc_id doc_hash filtered_resps metrics filter eval samples scores match value results "
    "success vars testIdx testCase provider columns data inputs assessments feedback assessment_name a/value metadata "
    "choices output status epoch"
)
KEYS = st.sampled_from(NAMES.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["C", "I", "P"])
    | KEYS
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6))


def packed(log: dict[str, Any], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The same log as inspect's .eval recorder lays it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log["eval"], "plan": log["plan"]}))
        for sample in log["samples"]:
            file.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        file.writestr("summaries.json", "[]")
        file.writestr("header.json", json.dumps({key: value for key, value in log.items() if key != "samples"}))
    return out.getvalue()


def refused(data: bytes, choice: Choice = NONE) -> str:
    with pytest.raises(Refused) as caught:
        parsed(data, "run.json", None, choice)
    return f"{caught.value.why} | {caught.value.fix}"


def test_an_eval_log_holds_what_the_json_log_holds():
    plain = parsed(json.dumps(LOG).encode(), "a.json", None, NONE)
    assert parsed(packed(LOG), "a.eval", None, NONE) == plain
    assert plain[0] == "inspect"
    assert plain[1][0].id == "sums/1/1"


def test_of_a_sample_that_was_written_twice_the_last_counts():
    again = {**LOG, "samples": [*LOG["samples"], {**LOG["samples"][3], "scores": {"match": {"value": "C"}}}]}
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = packed(again)
    items = parsed(data, "a.eval", None, NONE)[1]
    assert len(items) == len(LOG["samples"])
    assert next(item for item in items if item.id == "sums/4/1").right is True


def test_what_inspect_did_not_score_is_missing():
    samples = [json.loads(json.dumps(sample)) for sample in LOG["samples"][:5]]
    samples[0]["error"] = {"message": "timeout"}
    samples[1]["scores"]["match"]["value"] = float("nan")
    samples[2]["scores"] = None
    samples[3]["invalidation"] = {"author": "me"}
    samples[4]["scores"]["match"]["value"] = "N"
    items = parsed(json.dumps({**LOG, "samples": samples}).encode(), "a.json", None, NONE)[1]
    assert [item.right for item in items] == [None, None, None, None, False]


def test_partly_right_is_graded():
    samples = [{**LOG["samples"][0], "scores": {"match": {"value": "P"}}}]
    data = json.dumps({**LOG, "samples": samples}).encode()
    assert "--right-at" in refused(data)
    assert parsed(data, "a.json", None, Choice(right_at=0.5))[1][0].right is True


def test_an_error_of_promptfoo_is_missing_and_a_failed_assertion_is_wrong():
    found = json.loads((RUNS / "promptfoo/base.json").read_text())
    rows = found["results"]["results"]
    rows[0] |= {"success": False, "failureReason": 2, "error": "429"}
    assert rows[3]["error"]  # which promptfoo sets for an assertion, too
    items = parsed(json.dumps(found).encode(), "a.json", None, NONE)[1]
    assert (items[0].right, items[3].right, items[1].module) == (None, False, "facts")
    rows[1]["provider"] = {"id": "openai:other"}
    assert "--filter-providers" in refused(json.dumps(found).encode())


def test_lm_eval_has_its_task_from_the_name_and_the_chance_from_the_choices():
    (path,) = (RUNS / "lm-eval/base").iterdir()
    _, (first, *_) = parsed(path.read_bytes(), path.name, None, ACC)
    assert (first.id, first.module, first.chance) == ("sums/0", "sums", 0.25)
    both = [json.loads(line) for line in path.read_text().splitlines()[:2]]
    both = [row | {"filter": name} for row in both for name in ("strict-match", "flexible-extract")]
    lines = "\n".join(map(json.dumps, both)).encode()
    assert "acc,flexible-extract, acc,strict-match" in refused(lines, ACC)
    assert len(parsed(lines, "a.jsonl", None, Choice(metric="acc,strict-match"))[1]) == 2


def test_mlflow_pairs_by_inputs_or_by_a_key_since_trace_ids_are_drawn_anew():
    base, tuned = (parsed((RUNS / f"mlflow/genai-{a}.json").read_bytes(), "", None, NONE)[1] for a in ("base", "fails"))
    assert [item.id for item in base] == [item.id for item in tuned]
    by_key = parsed((RUNS / "mlflow/genai-base.json").read_bytes(), "", None, Choice(id="trace_id"))[1]
    assert by_key[0].id.startswith("tr-")


def test_the_files_of_one_run_are_added_up_and_are_of_one_tool(tmp_path):
    (path,) = (RUNS / "lm-eval/base").iterdir()
    other = tmp_path / path.name.replace("sums", "facts")
    other.write_bytes(path.read_bytes())
    tool, items = read([path, other], None, ACC)
    assert (tool, len(items), len({item.id for item in items}), {item.module for item in items}) == (
        "lm-eval", 80, 80, {"sums", "facts"},
    )  # fmt: skip
    with pytest.raises(UserError, match="two tools"):
        read([RUNS / "inspect/base.json", RUNS / "jsonl/base.jsonl"], None, NONE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"id": "a", "right": true}\n{"id":', "line 2: it is not JSON"),
        (b'{"id": "a", "right": Infinity}', "has the score inf"),
        (b'{"id": "a", "right": 1' + b"0" * 400 + b"}", "neither right nor wrong"),
        (b'[{"id": "a", "right": true}, 5]', "item 2 is no JSON object"),
        (b'{"hello": 1}', "none of the known tools"),
        (b'{"columns": ["inputs", "a/score"], "data": [["x"]]}', "row 1 has not as many values"),
        (b"PK\x03\x04 and no more", "a zip that cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data, said):
    assert said in refused(data)


def test_a_zip_that_is_no_log_or_unpacks_to_too_much_or_by_other_means_is_refused(monkeypatch):
    no_log = io.BytesIO()
    with zipfile.ZipFile(no_log, "w") as file:
        file.writestr("../../etc/passwd", "{}")
    assert "no .eval log" in refused(no_log.getvalue())
    assert inspect_ai.CONVERT in refused(packed(LOG, compression=zipfile.ZIP_BZIP2))
    monkeypatch.setattr(decode, "MOST_BYTES", 100_000)
    bomb = {**LOG, "samples": [{"id": n, "epoch": 1, "input": " " * 40_000} for n in range(4)]}
    assert len(packed(bomb)) < 10_000
    assert "unpacks to more than" in refused(packed(bomb))


def test_a_file_that_is_too_large_is_not_read_in_full(monkeypatch, tmp_path):
    path = tmp_path / "large.jsonl"
    path.write_bytes(b" " * 2000)
    monkeypatch.setattr(decode, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="larger than"):
        read([path], None, NONE)
    monkeypatch.setattr(decode, "MOST_BYTES", 10**6)
    monkeypatch.setattr(decode, "MOST_ITEMS", 39)
    with pytest.raises(UserError, match="40 items"):
        read([RUNS / "jsonl/base.jsonl"], None, NONE)


def reads(data: bytes, name: str, tool: Format | None, choice: Choice) -> None:
    """Either items that can be judged, or a refusal that says why."""
    why, found, items = "", None, []
    try:
        found, items = parsed(data, name, tool, choice)
    except Refused as refused:
        why = refused.why
    assert bool(why) != (found in get_args(Format))
    assert all(isinstance(item.id, str) and item.right in (True, False, None) for item in items)


@settings(deadline=None)
@given(JSON, st.sampled_from([None, *get_args(Format)]), st.sampled_from(["", "match", "a"]), KEYS | st.just(""))
@example({"eval": {}, "samples": [{"id": "a", "scores": {"match": {"value": "C"}}, "choices": ["A"]}]}, None, "", "")
def test_any_json_is_read_or_refused(found, tool, metric, key):
    for choice in (Choice(metric=metric), Choice(metric=metric, module=key, id=key, right_at=0.5)):
        reads(json.dumps(found).encode(), "samples_a_2026-01-01T00.jsonl", tool, choice)


@settings(deadline=None)
@given(st.sampled_from(ALL), st.data())
def test_any_bent_file_is_read_or_refused(path, data):
    written = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(written) - 1))
        written[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
    reads(bytes(written), path.name, None, ACC)


@settings(deadline=None)
@given(st.data())
def test_any_bent_zip_is_read_or_refused(data):
    written = bytearray(packed({**LOG, "samples": LOG["samples"][:2]}))
    for _ in range(data.draw(st.integers(1, 4))):
        written[data.draw(st.integers(4, len(written) - 1))] = data.draw(st.integers(0, 255))
    reads(bytes(written), "a.eval", None, NONE)


@settings(deadline=None)
@given(st.floats() | st.integers() | st.text() | st.none() | st.booleans())
def test_a_score_is_right_wrong_missing_or_refused(score):
    try:
        assert right(score, Choice(), "it") in (True, False, None)
    except Refused:
        assert score not in (0, 1, True, False, None)


def test_a_score_that_is_not_there_is_told_with_those_that_are():
    said = refused(b'{"id": 1, "right": true, "f1": 0.5, "note": "x"}', Choice(metric="nosuch"))
    assert "there is no score named nosuch: there are f1, right" in said


def test_a_folder_is_refused_with_the_samples_in_it(tmp_path):
    with pytest.raises(UserError) as none:
        read([tmp_path], None, NONE)
    assert none.value.fix == "give the results file in it"
    file = tmp_path / "model" / "samples_sums_2026-01-01T00-00-00.jsonl"
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(UserError) as e:
        read([tmp_path], None, NONE)
    assert e.value.fix == f"give {file}"
