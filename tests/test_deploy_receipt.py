"""The proof that a checkpoint may be deployed is decided anew, and about whole digests."""

import json
import re

import pytest
from deployment import BASE, BASE_DIGEST, make_checkpoint, make_report

from deploy import receipt
from evalsuite import report
from tune.errors import UserError


def test_a_passing_report_about_this_very_checkpoint_is_a_receipt(tmp_path):
    made = make_checkpoint(tmp_path / "merged")
    header = {"base": BASE_DIGEST, "tuned": made.digest}
    found = receipt.prove(made, make_report(tmp_path / "r.json", made, header=header))
    assert (found.outcome, found.tuned_model, found.base_model) == ("PASS", made.served_name, BASE)
    assert found.base_known_by == "digest"


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("tuned", "by a name alone that it is about python-docs@.*sent no x-model-digest.*fix: serve run .*merged"),
        ("base", "was measured against.*sent no x-model-digest.*fix: serve the base by serve run"),
    ],
)
def test_a_digest_that_only_a_name_claims_proves_nothing(tmp_path, arm, words):
    made = make_checkpoint(tmp_path / "merged")
    header = {"base": BASE_DIGEST, "tuned": made.digest} | {arm: ""}
    proof = make_report(tmp_path / "r.json", made, header=header)
    with pytest.raises(UserError, match=f"(?s){words}"):
        receipt.prove(made, proof)


@pytest.mark.parametrize(
    ("arm", "ids", "name"),
    [("tuned", {"tuned_id": "mine"}, "python-docs@[0-9a-f]{16}"), ("base", {"base": "mine"}, BASE)],
)
def test_the_right_digest_under_a_plain_name_is_called_that(tmp_path, arm, ids, name):
    made = make_checkpoint(tmp_path / "merged")
    with pytest.raises(UserError, match=f"{arm} model 'mine': the right digest was sent") as error:
        receipt.prove(made, make_report(tmp_path / "r.json", made, **ids))
    assert re.search(f"--{arm}-model {name},", error.value.fix)


@pytest.mark.parametrize(("arm", "words"), [("tuned", "is about"), ("base", "was measured against")])
def test_a_digest_that_begins_alike_is_another_checkpoint(tmp_path, arm, words):
    made = make_checkpoint(tmp_path / "merged")
    header = {"base": BASE_DIGEST, "tuned": made.digest}
    header[arm] = header[arm][:16] + "0" * 48
    proof = make_report(tmp_path / "r.json", made, header=header)
    with pytest.raises(UserError, match=words):
        receipt.prove(made, proof)


def test_a_report_that_its_replies_do_not_prove_is_no_receipt(tmp_path):
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "r.json", made, "FAIL")
    data = json.loads(proof.read_text())
    data["verdict"] |= {"outcome": "PASS", "checks": []}
    del data["digest"]
    report.write(proof, report.Report.model_validate(data))
    with pytest.raises(UserError, match="says PASS, and its replies do not say so"):
        receipt.prove(made, proof)
    make_report(proof, made)
    told = tmp_path / "answers.jsonl"
    told.write_bytes(re.sub(rb"ANSWER: A1\b", b"ANSWER: A2", told.read_bytes(), count=1))
    with pytest.raises(UserError, match="was changed after it was written"):
        receipt.prove(made, proof)
