"""A push sends the checkpoint that was rendered for, or nothing: every target that carries weights from here."""

import re

import pytest
from deployment import deployed, make_checkpoint, rendered

from deploy import dryrun, targets
from deploy.live import Live
from tune.errors import UserError

TABLES = {
    "kubernetes": [{"weights": "claim"}, {"weights": "image"}],
    "runpod": [{"weights": "image"}],
    "sagemaker": [{"bucket": "acme-models", "role_arn": "arn:aws:iam::123456789012:role/endpoint"}],
    "skypilot": [{"weights": "copy"}, {"weights": "image"}],
}


@pytest.mark.parametrize(("target", "table"), [(t, table) for t, tables in TABLES.items() for table in tables])
def test_a_checkpoint_made_again_since_is_not_sent(tmp_path, target, table):
    out = rendered(tmp_path, target, registry="docker.io/acme", **{target: table})
    flow = targets.operator(target).push
    new = Live(target=target, name="python-docs")
    dryrun.rehearse(lambda: flow(deployed(out), out, new), there=False)  # it is the one
    (tmp_path / "merged").rename(tmp_path / "before")
    make_checkpoint(tmp_path / "merged", name="another")
    steps, why = refused(flow(deployed(out), out, new))
    assert re.match(r".* holds another@\w+, this folder is of python-docs@", why.what)
    carry = (" cp ", " sync ", " up ", *(() if table.get("weights") == "claim" else (" build ", " push ")))
    assert [s.id for s in steps if any(word in str(s.action) for word in carry)] == []


def test_nor_by_a_rollback_that_would_copy_it(tmp_path):
    out = rendered(tmp_path, "skypilot", registry="docker.io/acme")
    new = Live(target="skypilot", name="python-docs")
    dryrun.rehearse(lambda: targets.operator("skypilot").rollback(deployed(out), out, new))
    (tmp_path / "merged").rename(tmp_path / "before")
    make_checkpoint(tmp_path / "merged", name="another")
    steps, why = refused(targets.operator("skypilot").rollback(deployed(out), out, new))
    assert (steps, "holds another@" in why.what) == ([], True)


def refused(flow):
    """The steps that it came to, each answered as by a platform that has nothing yet, and its error."""
    steps, given = [], None
    try:
        while True:
            steps.append(flow.send(given))
            given = {"out": "", "code": 1}
    except UserError as e:
        return steps, e
