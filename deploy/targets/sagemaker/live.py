"""SageMaker, live: a rendered folder to an endpoint, by CloudFormation; Docker and the AWS CLI carry image and weights.

Account, bucket, role and repository are the user's: looked at, never made. Flows of steps, which do nothing themselves.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import secrets, sizing
from deploy.folder import RENDER
from deploy.live import Live, Release
from deploy.spec import Deployment
from deploy.steps import Call, Flow, Step
from deploy.targets.sagemaker import carry, rollout
from deploy.targets.sagemaker.regions import runtime_url
from deploy.targets.sagemaker.resources import STREAM_CAP, first
from deploy.targets.sagemaker.rollout import Stack
from evalsuite.asking.client_info import ClientInfo
from tune.deploy import Sagemaker
from tune.errors import UserError

LINES = 200  # of a log that are shown
PRICES = "https://aws.amazon.com/sagemaker/ai/pricing/"


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """Image to ECR, weights to S3, then the stack. Each is looked for first. Raises UserError for what is missing."""
    at, given = _stack(deployment), Sagemaker.model_validate(deployment.table)
    missing = [key for key in ("bucket", "role_arn") if not getattr(given, key)]
    if missing:
        what = f"[deploy.sagemaker] {' and '.join(missing)} not set"
        why = "weights go to a bucket of yours, and the endpoint runs as a role of yours: a push makes neither"
        raise UserError(what, why=why, fix=f"set them in recipe.toml, then {RENDER}")
    source = carry.source(deployment, folder)
    account = yield from carry.account(deployment)
    found = yield from rollout.state(at)
    if not rollout.status(found):
        yield from carry.quota(deployment)
    image = yield from carry.image(deployment, account)
    weights = yield from carry.upload(deployment, given.bucket, source)
    body = rollout.text((folder / "stack.json").read_text(encoding="utf-8"))
    parameters = {"ImageUri": image, "ModelDataUri": weights, "RoleArn": given.role_arn}
    changed = yield from rollout.apply(at, _change(body, parameters), body, parameters)
    others = sorted(_made(deployment, live) - {at})
    left = [f"the stack {s.name} in {s.region}, of an earlier push, still runs: {s.remove}" for s in others]
    said = "answers" if changed else "was up to date: it answers"
    return (f"{deployment.model} {said} at {_url(deployment)}", _cost(deployment, first(deployment)), *left)


def status(deployment: Deployment, live: Live) -> Flow:
    """The stack's state, the endpoint's, its machines and what they cost."""
    at = _stack(deployment)
    found = yield from rollout.state(at)
    if not found:
        return (f"there is no stack {at.name} in {at.region}: deploy push FOLDER makes it",)
    endpoint = yield Step(
        id="endpoint",
        what="look at the endpoint",
        action=carry.call(deployment, "sagemaker", "describe_endpoint", missing=True, EndpointName=deployment.name),
        again=True,
    )
    lines = [f"stack {at.name} in {at.region}: {secrets.said(str(found.get('StackStatus')))}"]
    if live.last:
        lines.insert(0, f"pushed: {live.last.model}, {live.last.at}{'' if live.last.finished else ', not finished'}")
    if not endpoint:
        return (*lines, "endpoint: none")
    lines.append(f"endpoint {deployment.name}: {secrets.said(str(endpoint.get('EndpointStatus')))}")
    if reason := endpoint.get("FailureReason"):
        lines.append(f"  why: {secrets.said(str(reason))}")
    variants = endpoint.get("ProductionVariants") or []
    machines = sum(int(v.get("CurrentInstanceCount") or 0) for v in variants)
    wanted = sum(int(v.get("DesiredInstanceCount") or 0) for v in variants)
    lines.append(f"machines: {machines} of {wanted} x {deployment.machine}")
    return (*lines, f"URL: {_url(deployment)}", _cost(deployment, machines))


def logs(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001  # as every target's
    """The newest lines of the machine that spoke last."""
    group = f"/aws/sagemaker/Endpoints/{deployment.name}"
    newest: dict[str, Any] = {"orderBy": "LastEventTime", "descending": True, "limit": 1}
    found = yield Step(
        id="log-streams",
        what=f"look for logs in {group}",
        action=carry.call(deployment, "logs", "describe_log_streams", missing=True, logGroupName=group, **newest),
        again=True,
    )
    streams = [str(s.get("logStreamName")) for s in found.get("logStreams") or []]
    if not streams:
        return (f"no machine has written to {group} yet",)
    found = yield Step(
        id="log-events",
        what=f"read {streams[0]}",
        action=carry.call(
            deployment, "logs", "get_log_events", logGroupName=group, logStreamName=streams[0], limit=LINES
        ),
        again=True,
    )
    lines = [secrets.said(str(e.get("message"))) for e in found.get("events") or []]
    rest = f"all of them: aws logs tail --region {deployment.region} --follow {group}"
    return (*lines, rest)


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001 - the record has what was sent
    """The template and the parameters of the release before: its image and weights are still where they were."""
    before = live.releases[-2]
    sent = _given(before)
    if sent is None:  # a record that was edited: what is finished has reached AWS
        raise UserError(
            f"the record does not say what was sent on {before.at}",
            fix="deploy push FOLDER sends what the folder holds",
        )
    at = Stack(deployment.name, sent.region, deployment.machine)
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in sent.arguments["Parameters"]}
    image = parameters["ImageUri"].partition("@")
    there = yield Step(
        id="image-before",
        what="look whether its image is still there",
        action=carry.ecr(deployment, image[0].partition("/")[2], imageDigest=image[2]),
        again=True,
    )
    if not there:
        what = f"the image of {before.model} is gone from ECR: {parameters['ImageUri']}"
        raise UserError(what, fix=f"{RENDER}, of that checkpoint; then deploy push FOLDER")
    body = sent.arguments["TemplateBody"]
    changed = yield from rollout.apply(at, _change(body, parameters), body, parameters)
    again = "answers again" if changed else "answers already"
    return (f"{before.model} {again} at {runtime_url(at.region, at.name)}", _cost(deployment, first(deployment)))


def destroy(deployment: Deployment, live: Live) -> Flow:
    """Delete each stack that pushes have made. Weights, image and logs stay: they lie in what is the user's."""
    lines = []
    for at in sorted(_made(deployment, live) | {_stack(deployment)}):
        removed = yield from rollout.remove(at)
        lines.append(f"the stack {at.name} in {at.region} is gone{'' if removed else ' already'}")
    stays = [sent.arguments["Parameters"] for release in live.releases if (sent := _given(release))]
    for parameters in dict.fromkeys(json.dumps(p) for p in stays):
        told = {p["ParameterKey"]: str(p["ParameterValue"]) for p in json.loads(parameters)}
        lines += _stay(deployment, told)
    group = f"/aws/sagemaker/Endpoints/{deployment.name}"
    lines.append(f"logs stay: aws logs delete-log-group --region {deployment.region} --log-group-name {group}")
    return tuple(dict.fromkeys(lines))


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """Streamed alone, with a token that is signed by the caller's own AWS credentials."""
    last = next(release for release in reversed(live.releases) if release.finished)
    sent = _given(last)
    region = sent.region if sent else deployment.region
    return ClientInfo(
        base_url=runtime_url(region, deployment.name),
        model=deployment.model,
        signed="sagemaker",
        region=region,
        stream=True,
        lists=False,
        answer_seconds=STREAM_CAP,
    )


def _stack(deployment: Deployment) -> Stack:
    return Stack(deployment.name, deployment.region, deployment.machine)


def _url(deployment: Deployment) -> str:
    return runtime_url(deployment.region, deployment.name)


def _change(body: str, parameters: Mapping[str, str]) -> str:
    """The name of the change to a template with parameters: the same for the same."""
    return f"push-{hashlib.sha256(json.dumps([body, dict(parameters)]).encode()).hexdigest()[:16]}"


def _given(release: Release) -> Call | None:
    """What made the stack in a release; None where it did not come so far."""
    sent = next((d.action for d in reversed(release.steps) if d.id == "change-set"), None)
    return sent if isinstance(sent, Call) else None


def _cost(deployment: Deployment, machines: int) -> str:
    offer = sizing.lent("sagemaker", deployment.gpu, deployment.gpus)
    return f"cost while it runs: {machines} x {deployment.machine}, {offer.price}: {PRICES}"


def _stay(deployment: Deployment, parameters: Mapping[str, str]) -> list[str]:
    """What a push has put into what is the user's, and how to remove it."""
    region = deployment.region
    weights = parameters["ModelDataUri"]
    name, _, image = parameters["ImageUri"].partition("/")[2].partition("@")
    ids = f"--image-ids imageDigest={shlex.quote(image)}"
    return [
        f"weights stay: aws s3 rm --recursive {shlex.quote(weights)} --region {region}",
        f"the image stays: aws ecr batch-delete-image --region {region} --repository-name {shlex.quote(name)} {ids}",
    ]


def _made(deployment: Deployment, live: Live) -> set[Stack]:
    """The stacks that pushes of this folder have made, in whichever region."""
    sent = [call for release in live.releases if (call := _given(release))]
    return {Stack(str(call.arguments["StackName"]), call.region, deployment.machine) for call in sent}
