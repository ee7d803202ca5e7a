"""What the scripts share: URL and MODEL of the command line, the efforts that answers tell, a line a thing done.

A model that has learned nothing writes white space for ever where a schema lets it: CLIENT_LOGIT_BIAS (JSON, as
`logit_bias` takes it) makes it end. A model that speaks needs none.
"""

import json
import os
import sys

URL, MODEL = sys.argv[1:3]
BIAS = json.loads(os.environ.get("CLIENT_LOGIT_BIAS", "{}"))
TOKENS = 120  # of one answer: the thought is ended after THINKING, a few tokens of the format and the answer follow
THINKING = {"thinking_token_budget": 24}
ASK = [{"role": "user", "content": "Is 7 a prime number?"}]
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}
efforts: list[str] = []  # that the server says it applied, since the last thing that was done


def note(response):
    """For the HTTP client below a client, which calls it with every answer."""
    efforts.append(response.headers.get("x-reasoning-effort", f"none, with status {response.status_code}"))


async def anote(response):
    note(response)


def done(what, effort, *true):
    """One line; the script ends here when another effort was applied to it, or something is not true."""
    told = sorted(set(efforts))
    efforts.clear()
    if told != [effort]:
        sys.exit(f"{what}: the server applied {told or 'nothing'}, not {effort}")
    if wrong := [n for n, value in enumerate(true, 1) if not value]:
        sys.exit(f"{what}: number {wrong} of what should be true is not: {true!r:.600}")
    print(f"{what}: {effort}")
