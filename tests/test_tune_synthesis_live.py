"""`tune synthesize` against `serve run` on the real engine: what it asks is what vLLM takes."""

import json
from contextlib import suppress

import pytest
from test_tune_synthesis import PAGES, project

from tune.errors import UserError
from tune.synthesis.build import synthesize

pytestmark = pytest.mark.engine


def test_every_passage_gets_a_reply(endpoints, tmp_path):
    """What a nano writes is its own affair: it was taught no JSON. That it was heard to the end is ours."""
    server = endpoints.base
    made = project(tmp_path, server.url, PAGES[:3], model=server.models[0], key_env="OPENAI_API_KEY", effort="low")
    with suppress(UserError):
        synthesize(made)
    kept = [json.loads(path.read_bytes()) for path in (tmp_path / "work" / "cache" / "synthesis").glob("*.json")]
    assert len(kept) >= 3
    assert {reply["problem"] for reply in kept} == {""}
    assert all(reply["prompt_tokens"] > 0 < reply["completion_tokens"] for reply in kept)
