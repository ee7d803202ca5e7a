"""The one check before anything is asked: two endpoints in, two Servers out, or the reason why asking proves nothing.

Finds what else would show after hours, or never: an endpoint that cannot be reached, one checkpoint behind both arms,
an effort that is not applied, replies of another model. Knows no question set and no file.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evalsuite.asking.endpoint import Endpoint, served
from evalsuite.asking.pace import Pace
from evalsuite.asking.reply import Failed, heard
from evalsuite.asking.stream import UNREADABLE
from evalsuite.questions import Question
from evalsuite.replies import request
from evalsuite.replies.answers import ARMS, EFFORT_MISMATCH, MODEL_MISMATCH, Arm
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import DIGEST, Server, same, told_apart
from tune.errors import UserError
from tune.harmony import EFFORTS
from tune.section import EffortName

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# What a model says to these, greedily, tells it from most others: a fact, code, and a free choice.
PROBES = ("Name the largest moon of Saturn.", "Write a Python loop that prints odd numbers.", "Tell me a short story.")
ONE = Sampling(max_tokens=1, temperature=0, seed=0)
FEW = Sampling(max_tokens=24, temperature=0, seed=0)


async def check(
    clients: Mapping[Arm, "AsyncOpenAI"],
    arms: Mapping[Arm, Endpoint],
    efforts: Sequence[EffortName],
    report: Callable[[str], None] = lambda _: None,
) -> dict[Arm, Server]:
    """Who answers each arm. Raises UserError as `served`, and for whatever makes the comparison worthless."""
    found = {arm: await _listed(clients[arm], arms[arm], arm, report) for arm in ARMS if arm in arms}
    paces = {arm: arms[arm].pace(1, partial(_waiting, report, arm)) for arm in found}
    if len(found) > 1 and (why := same(found["base"], found["tuned"])):
        raise UserError("base and tuned are the same model", why=why, fix=_apart(found["base"], found["tuned"]))
    for arm, server in found.items():
        for effort in dict.fromkeys(efforts):
            server = await _replies(clients[arm], server, arm, effort, paces[arm])
        if not server.usage:
            report(f"{arm} {server.model} refuses stream_options: its tokens are not counted")
        if not (arms[arm].lists or server.header):
            report(
                f"{arm} {server.model} is known by its name alone: its platform lists no models and lets no "
                "x-model-digest through, so no checkpoint is deployed by a report of it"
            )
        found[arm] = server
    if not all(server.header for server in found.values()):
        found = {arm: await _probed(clients[arm], server, arm, paces[arm], report) for arm, server in found.items()}
    if len(found) > 1 and not told_apart(found["base"], found["tuned"]):
        report("base and tuned are not told apart by a digest or by what they say: are these two models?")
    return found


def _apart(base: Server, tuned: Server) -> str:
    """What to change so that two arms are two models."""
    if base.url == tuned.url:
        return (
            "serve run each checkpoint on a port of its own, or name two that this server lists by --base-model "
            "and --tuned-model"
        )
    if base.digest and base.digest == tuned.digest:
        return f"serve run the other checkpoint at {tuned.url}, or give another --tuned"
    return "serve one of them under another name: serve run --name NAME, or vllm serve --served-model-name NAME"


async def _listed(client: "AsyncOpenAI", endpoint: Endpoint, arm: Arm, report: Callable[[str], None]) -> Server:
    server = await served(client, endpoint, arm, report)
    named = DIGEST.search(server.model)
    if named and server.header and named[1] != server.header[:16]:
        raise UserError(
            f"the {arm} endpoint {server.url} names one checkpoint and serves another",
            why=f"it lists {server.model}, and its x-model-digest is {server.header[:16]}",
            fix="serve run, on the checkpoint that you mean",
        )
    return server.model_copy(update={"version": await _version(client, server)})


async def _version(client: "AsyncOpenAI", server: Server) -> str:
    """What /version says, as vLLM does; "" where there is none."""
    from openai import OpenAIError

    place = urlsplit(server.url)
    path = place.path.rstrip("/").removesuffix("/v1")
    try:
        asking = client.with_options(timeout=20)
        said: Any = await asking.get(f"{place.scheme}://{place.netloc}{path}/version", cast_to=object)
        return json.dumps(said, sort_keys=True)[:300]
    except (OpenAIError, *UNREADABLE):
        return ""


async def _replies(client: "AsyncOpenAI", server: Server, arm: Arm, effort: EffortName, pace: Pace) -> Server:
    """One token at one effort. Asked for once more without `stream_options` by a server that refuses them, and then
    that Server without usage. Raises UserError when it does not come, or not as it was asked for."""
    try:
        asked = request.body(_question(PROBES[0]), server.model, effort, ONE, server.usage)
        await heard(client, server, asked, pace=pace)
        return server
    except Failed as e:
        if server.usage and str(e).startswith(("HTTP 400", "HTTP 422")) and "stream_options" in str(e):
            return await _replies(client, server.model_copy(update={"usage": False}), arm, effort, pace)
        fix = f"look at what answers at {server.url}, then run again"
        if str(e).startswith(EFFORT_MISMATCH):
            fix = f"leave {effort} out of [evaluate] efforts"
            fix = f"serve run --max-effort {effort} or higher, or {fix}" if effort in EFFORTS else fix
        elif str(e).startswith(MODEL_MISMATCH):
            fix = f"name the model that replies by --{arm}-model, or ask its server directly"
        what = f"the {arm} endpoint {server.url} does not reply as asked at effort {effort}"
        raise UserError(what, why=str(e), fix=fix) from None


async def _probed(client: "AsyncOpenAI", server: Server, arm: Arm, pace: Pace, report: Callable[[str], None]) -> Server:
    """With its greedy replies if they are the same twice; without them, and without a digest, it is known this once."""

    async def replies() -> tuple[str, ...]:
        out = []
        for text in PROBES:
            asked = request.body(_question(text), server.model, None, FEW, server.usage)
            said = await heard(client, server, asked, pace=pace)
            heard_text = json.dumps([said["reasoning"], said["text"], said["finish_reason"]])
            out.append(hashlib.sha256(heard_text.encode()).hexdigest()[:16])
        return tuple(out)

    try:
        first, second = await replies(), await replies()
        why = "does not repeat itself"
    except Failed as e:
        first, second, why = ("",), (), f"did not answer a probe ({e})"
    if first == second:
        return server.model_copy(update={"probes": first})
    if server.header:  # a digest in a name is no more than a name
        return server
    report(f"{arm} {server.model} sends no digest and {why}: its answers will not be used again")
    return server.model_copy(update={"once": secrets.token_hex(8)})


def _waiting(report: Callable[[str], None], arm: Arm, why: str) -> None:
    report(f"{arm} is waited for: {why}")


def _question(prompt: str) -> Question:
    return Question(id="check", kind="check", module="", prompt=prompt, answer="", grader="exact")
