"""Image and weights into the user's ECR and S3, and what must be there before: flows of steps, which do nothing.

Docker and the AWS CLI carry what is large, so that a push that is taken up again sends no layer and no file twice.
"""

import json
import re
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from deploy import secrets
from deploy.spec import Deployment
from deploy.steps import Call, Command, Result, Step
from deploy.targets.sagemaker.regions import partition_of, suffix
from deploy.targets.sagemaker.resources import first
from deploy.targets.source import prove
from tune.errors import UserError

INDEX = re.compile(r"index|manifest\.list")  # in the media type of an image that is several


def call(deployment: Deployment, service: str, method: str, *, missing: bool = False, **given: Any) -> Call:
    """A call of one of AWS's services in the deployment's region."""
    where = {"sdk": "boto3", "service": service, "region": deployment.region}
    return Call.model_validate({**where, "method": method, "arguments": given, "missing": missing})


def source(deployment: Deployment, folder: Path) -> str:
    """The checkpoint's folder as seen from the rendered one. Raises UserError unless this checkpoint lies there."""
    source = prove(deployment, folder, str(json.loads((folder / "weights.json").read_bytes())["checkpoint"]))
    return source if source.startswith((".", "/")) else f"./{source}"  # a name that begins with a dash is no option


def account(deployment: Deployment) -> Generator[Step, Result, str]:
    """The account's 12 digits. Raises UserError when the credentials are of another part of AWS."""
    found = yield Step(
        id="account",
        what="ask AWS who is asking",
        action=call(deployment, "sts", "get_caller_identity"),
        again=True,
    )
    arn, partition = str(found.get("Arn")), partition_of(deployment.region)
    if arn.startswith("arn:") and arn.split(":")[1] != partition:
        what = f"the credentials are of {arn.split(':')[1]}, {deployment.region} is of {partition}"
        raise UserError(what, why="each part of AWS has accounts of its own", fix="export AWS_PROFILE=... of one there")
    return str(found.get("Account"))


def quota(deployment: Deployment) -> Generator[Step, Result, None]:
    """Raises UserError where the quota is known and too small: else the stack would say so after an hour. It is read
    with the AWS CLI, which goes through its many pages; that one may not read it stops nothing."""
    name, wanted = f"{deployment.machine} for endpoint usage", first(deployment)
    query = f"Quotas[?QuotaName=='{name}'].[QuotaCode,Value]"
    words = ("service-quotas", "list-service-quotas", "--service-code", "sagemaker", "--query", query)
    found = yield Step(
        id="quota",
        what=f'look at the quota "{name}"',
        action=Command(argv=("aws", *words, "--region", deployment.region, "--output", "json"), lists=True),
        again=True,
    )
    try:
        ((code, value),) = json.loads(found.get("out") or "")
        enough = float(value) >= wanted
    except (ValueError, TypeError):
        return
    if not enough:
        ask = f"aws service-quotas request-service-quota-increase --service-code sagemaker --region {deployment.region}"
        fix = f"{ask} --quota-code {secrets.said(str(code))} --desired-value {wanted}, then wait for the answer"
        what = f'the quota "{name}" in {deployment.region} is {float(value):g}, the endpoint needs {wanted}'
        raise UserError(what, fix=f"{fix}; or another [deploy] gpu or region")


def image(deployment: Deployment, account: str) -> Generator[Step, Result, str]:
    """Our image in ECR, by its digest; built and pushed where it is not there yet."""
    name, region = deployment.name, deployment.region
    found = yield Step(
        id="repository",
        what=f"look for the repository {name} in ECR",
        action=call(deployment, "ecr", "describe_repositories", missing=True, repositoryNames=[name]),
        again=True,
    )
    if not found:
        create = f"aws ecr create-repository --region {region} --repository-name {name}"
        raise UserError(f"ECR has no repository {name} in {region}", why="a push makes no registries", fix=create)
    tag = deployment.image.rpartition(":")[2]
    registry = f"{account}.dkr.ecr.{region}.{suffix(region)}"
    image = f"{registry}/{name}:{tag}"
    remove = f"aws ecr batch-delete-image --region {region} --repository-name {name} --image-ids imageTag={tag}"
    found = yield Step(
        id="image", what=f"look for {name}:{tag} in ECR", action=ecr(deployment, name, imageTag=tag), again=True
    )
    if not _digest(found).startswith("sha256:"):
        log_in = (sys.executable, str(Path(__file__).with_name("login.py")), region, registry)
        # An index of images, which attestations make, is what SageMaker does not take.
        build = ("docker", "build", "--platform", "linux/amd64", "--provenance=false", "--tag", image, ".")
        yield Step(id="login", what="log Docker in to ECR", action=Command(argv=log_in), again=True)
        yield Step(id="build", what=f"build {image}", action=Command(argv=build, shows=True), again=True)
        yield Step(
            id="image-push",
            what=f"push {image}",
            action=Command(argv=("docker", "push", image), shows=True),
            makes=f"the image {image}",
            remove=remove,
            again=True,
        )
        found = yield Step(
            id="image-pushed",
            what="look at what ECR holds now",
            action=ecr(deployment, name, missing=False, imageTag=tag),
            again=True,
        )
    if INDEX.search(str(_details(found).get("imageManifestMediaType"))):
        what = f"{image} is an index of images, which SageMaker does not take"
        raise UserError(what, why="Docker added attestations to it", fix=f"{remove}, then deploy push FOLDER")
    return f"{registry}/{name}@{_digest(found)}"


def upload(deployment: Deployment, bucket: str, source: str) -> Generator[Step, Result, str]:
    """Where the weights lie in S3. Files that are there already, whole, are not sent again."""
    region = deployment.region
    found = yield Step(
        id="bucket",
        what=f"look for the bucket {bucket}",
        action=call(deployment, "s3", "head_bucket", missing=True, Bucket=bucket),
        again=True,
    )
    if not found:
        fix = f"aws s3 mb s3://{bucket} --region {region}"
        raise UserError(f"there is no bucket {bucket}", why="a push makes no buckets", fix=fix)
    where = str(found.get("BucketRegion") or region)
    if where != region and re.fullmatch(r"[a-z0-9-]+", where):
        what = f"the bucket {bucket} is in {where}, the endpoint in {region}"
        fix = f"[deploy.sagemaker] bucket = one in {region}"
        raise UserError(what, why="SageMaker reads weights of its own region alone", fix=fix)
    weights = f"s3://{bucket}/{deployment.name}/{deployment.digest[:16]}/"
    yield Step(
        id="weights",
        what=f"copy the weights to {weights}",
        action=Command(argv=("aws", "s3", "sync", source, weights, "--region", region, "--no-progress"), shows=True),
        makes=f"the weights in {weights}",
        remove=f"aws s3 rm --recursive {weights} --region {region}",
        again=True,
    )
    return weights


def ecr(deployment: Deployment, repository: str, *, missing: bool = True, **image: str) -> Call:
    """What ECR holds under a tag (imageTag) or a digest (imageDigest)."""
    return call(
        deployment, "ecr", "describe_images", missing=missing, repositoryName=repository, imageIds=[dict(image)]
    )


def _details(found: Result) -> Mapping[str, Any]:
    details: Mapping[str, Any] = next(iter(found.get("imageDetails") or [{}]), {})
    return details


def _digest(found: Result) -> str:
    return str(_details(found).get("imageDigest") or "")
