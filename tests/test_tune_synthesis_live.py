"""`tune synthesize` against `serve run` on the real engine: what it asks is what vLLM takes."""

import re

import pytest
from test_tune_synthesis import PAGES, project

from tune.errors import UserError
from tune.synthesis.build import synthesize

pytestmark = pytest.mark.engine
# What a nano writes is its own affair: it was taught no JSON.
WEAK = (
    "cut off at max_tokens|not in the form asked for|nothing asked about the passage|empty|asked before|names what .*"
)


def test_every_passage_is_taken(endpoints, tmp_path):
    server = endpoints.base
    asked = {"model": server.models[0], "key_env": "OPENAI_API_KEY", "effort": "low", "max_tokens": 64}
    reasons = told(project(tmp_path, server.url, PAGES[:3], **asked))
    assert [reason for reason in reasons if not re.fullmatch(WEAK, reason)] == []


def told(made):
    """Why rows are missing, without their counts."""
    try:
        figures = synthesize(made).figures
    except UserError as e:
        said = re.split(r", (?=\d)", e.why) if e.what == "no question was written that stands" else [e.message]
        return [re.sub(r"^\d+ ", "", reason) for reason in said]
    return [*figures["dropped"], *figures["failures"]]
