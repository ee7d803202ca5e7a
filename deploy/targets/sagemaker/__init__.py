"""SageMaker: a CloudFormation stack of one real-time endpoint. The image lies in ECR, the weights in S3."""

import json
import re

from deploy.findings import finding
from deploy.spec import Deployment
from deploy.targets import Context
from deploy.targets.sagemaker.regions import partition_of, table
from deploy.targets.sagemaker.resources import AMI as AMI
from deploy.targets.sagemaker.resources import ANSWER_CAP, STREAM_CAP, stack
from deploy.targets.template import fill, verbatim
from serve.findings import Finding
from tune.artefact import VERSION
from tune.deploy import Sagemaker

STOP_CAP, EXIT_SECONDS = 30, 10  # seconds from SIGTERM to SIGKILL; of those, what the engine takes to end
ENV_ENTRIES, ENV_CHARACTERS = 100, 1024
# What the deployment's name names, and what names AWS takes for it.
NAMES = {
    "an endpoint": r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
    "a CloudFormation stack": r"[a-zA-Z][a-zA-Z0-9-]{0,127}",
    "an ECR repository": r"(?=.{2,256}$)[a-z0-9]+([._-][a-z0-9]+)*",
}


def findings(deployment: Deployment) -> list[Finding]:
    return [*_times(deployment), *_place(deployment), *_given(deployment), *_environment(deployment)]


def _times(deployment: Deployment) -> list[Finding]:
    found = []
    seconds = deployment.limits.request_seconds
    if seconds > STREAM_CAP:
        what = f"SageMaker ends a stream after {STREAM_CAP} s, request_seconds is {seconds}"
        found.append(finding("D020", what, fix=f"[deploy] request_seconds = {STREAM_CAP}"))
    elif seconds > ANSWER_CAP:
        what = f"SageMaker cuts an answer that is not streamed after {ANSWER_CAP} s, request_seconds is {seconds}"
        found.append(finding("D021", what, fix="ask with stream=True, or set max_tokens so that it ends sooner"))
    if deployment.scaling.min_replicas == 0:
        what = "a SageMaker endpoint of this kind keeps one instance, billed until the stack is deleted"
        found.append(finding("D023", what, why="min_replicas = 0 becomes 1", fix="[deploy] min_replicas = 1"))
    drain = deployment.options.drain
    if drain > STOP_CAP - EXIT_SECONDS:
        what = f"SageMaker ends a container {STOP_CAP} s after it asked it to stop, [serve] drain is {drain}"
        found.append(finding("D024", what, fix=f"[serve] drain = {STOP_CAP - EXIT_SECONDS}"))
    return found


def _place(deployment: Deployment) -> list[Finding]:
    """Whether the region is one, and has the machine: no other finding of ours would come before the money is spent."""
    known, region, machine = table(), deployment.region, deployment.machine
    of = f"by the table of {known.dated}"
    there = known.lending(machine, partition_of(region))
    if region not in known.region:
        what = f"AWS has no region {region} with SageMaker, {of}"
        return [finding("D042", what, fix=f"[deploy.sagemaker] region = one of {', '.join(there)}")]
    if known.lends(region, machine):
        return []
    sort = "this part of AWS hosts it nowhere" if not there else f"it is hosted in {', '.join(there)}"
    fix = "another [deploy] gpu: deploy plan sagemaker --checkpoint CHECKPOINT lists them"
    if there:
        fix = f"[deploy.sagemaker] region = one of those, or {fix}"
    what = f"SageMaker hosts no {machine} ({deployment.gpu}) in {region}, {of}"
    return [finding("D041", what, why=sort, fix=fix)]


def _given(deployment: Deployment) -> list[Finding]:
    """Names, and what the recipe's table says of things that are there already."""
    found, given, region = [], Sagemaker.model_validate(deployment.table), deployment.region
    for what, pattern in NAMES.items():
        if not re.fullmatch(pattern, deployment.name):
            why = "a stack's begins with a letter, a repository's has two characters"
            fix = 'another name in recipe.toml, then tune export: "docs-" before it will do'
            found.append(finding("D043", f"{deployment.name!r} cannot name {what}", why=why, fix=fix))
    if given.alarm_topic and given.alarm_topic.split(":")[1:4:2] != [partition_of(region), region]:
        what = f"alarm_topic is in {given.alarm_topic.split(':')[3]}, the alarms are in {region}"
        found.append(
            finding("D044", what, fix=f"[deploy.sagemaker] alarm_topic of {region}", why="CloudWatch refuses it")
        )
    if given.role_arn and given.role_arn.split(":")[1] != partition_of(region):
        what = f"role_arn is of the partition {given.role_arn.split(':')[1]}, {region} is of {partition_of(region)}"
        found.append(finding("D044", what, fix="[deploy.sagemaker] role_arn of an account there"))
    missing = [key for key in ("bucket", "role_arn") if not getattr(given, key)]
    if missing:
        what = f"[deploy.sagemaker] {' and '.join(missing)} not set: deploy push needs to know"
        fix = f"[deploy.sagemaker] {' and '.join(missing)}, of a bucket and a role that are there already"
        found.append(finding("D045", what, why="it makes neither buckets nor roles", fix=fix))
    return found


def _environment(deployment: Deployment) -> list[Finding]:
    found = []
    for key in deployment.secrets:
        what = f"secrets.{key}: SageMaker shows environment values to everyone who may describe the model"
        fix = "[deploy.sagemaker] secrets = {}, and let the execution role fetch what is needed"
        found.append(finding("D031", what, fix=fix))
    if len(deployment.env) > ENV_ENTRIES:
        what = f"{len(deployment.env)} environment variables, SageMaker takes {ENV_ENTRIES}"
        found.append(finding("D040", what, fix="remove some from the recipe"))
    for key, value in deployment.env.items():
        if len(value) > ENV_CHARACTERS:
            what = f"environment variable {key} has {len(value)} characters, SageMaker takes {ENV_CHARACTERS}"
            found.append(finding("D040", what, fix="shorten the recipe value that it comes from"))
    return found


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    return {
        "stack.json": json.dumps(stack(deployment), indent=2) + "\n",
        "weights.json": json.dumps(weights(deployment, context), indent=2) + "\n",
        "Dockerfile": fill("Dockerfile.jinja", deployment, context),
        "start.py": verbatim("start.py"),
        "README.md": fill("sagemaker/README.md.jinja", deployment, context),
    }


def weights(deployment: Deployment, context: Context) -> dict[str, str]:
    """Where `deploy push` finds what it copies to S3, as seen from the rendered folder."""
    by = f"gptoss-kit {VERSION} (deploy render sagemaker)"
    return {"rendered_by": by, "model": deployment.model, "checkpoint": context.checkpoint}
