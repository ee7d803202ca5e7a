"""The Anthropic API through the door to the engine's own request types: the effort and the budget that it would use."""

import json
import os
import subprocess
import sys

import pytest

from serve.body import Rules, rewrite
from serve.effort import EffortPolicy

SAID = {"model": "m", "max_tokens": 4000, "messages": [{"role": "user", "content": "x"}]}
RULES = Rules(EffortPolicy(maximum="medium"), 2048, raw_completions=False, names=("m",))

# What the engine makes of a body: the chat request that it renders, or what its own types say against it.
PROGRAM = """
import json, sys
from pydantic import ValidationError
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages

kinds = {"/v1/messages": AnthropicMessagesRequest, "/v1/messages/count_tokens": AnthropicCountTokensRequest}
told = []
for path, body in json.loads(sys.stdin.read()):
    try:
        chat = AnthropicServingMessages.to_chat_completion_request(kinds[path].model_validate(body))
        told.append([chat.reasoning_effort, chat.thinking_token_budget, chat.model, chat.messages])
    except ValidationError as e:
        told.append([e.errors()[0]["msg"]])
print(json.dumps(told))
"""


def engine(bodies):
    command = [sys.executable, "-c", PROGRAM]
    env = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"}
    asked = json.dumps(bodies)
    out = subprocess.run(command, input=asked, capture_output=True, text=True, env=env, check=False)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


CASES = [
    ({}, "medium", None),
    ({"output_config": {"effort": "low"}}, "low", None),
    ({"output_config": {"effort": "max"}}, "medium", None),
    ({"thinking": {"type": "disabled"}}, "low", None),
    ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "low", None),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "medium", 2000),
    ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low", None),
    ({"model": "m:low"}, "low", None),
    ({"reasoning_effort": "low"}, "low", None),
]


@pytest.fixture(scope="module")
def heard():
    """What the engine makes of every case, on both paths."""
    paths = ("/v1/messages", "/v1/messages/count_tokens")
    asked = [(path, SAID | body) for path in paths for body, *_ in CASES]
    asked = [(path, json.loads(rewrite(RULES, path, json.dumps(body).encode()).body)) for path, body in asked]
    told = engine(asked)
    return [told[: len(CASES)], told[len(CASES) :]]


@pytest.mark.parametrize("n", range(len(CASES)))
def test_the_engine_reads_the_effort_that_the_policy_decided(heard, n):
    _, effort, budget = CASES[n]
    for told in heard:
        assert told[n] == [effort, budget, "m", [{"role": "user", "content": "x"}]]
