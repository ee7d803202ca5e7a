"""Hugging Face Inference Endpoints: our image from your registry, the weights from a model repository at /repository.

Comes in: a deployment. Goes out: endpoint.json, the very body of the request that makes the endpoint. Asks nobody:
live.py does, through huggingface_hub.
"""

import hashlib
import json
import math
from typing import Any

from deploy.findings import finding
from deploy.spec import Deployment
from deploy.targets import Context
from deploy.targets.template import fill, verbatim
from serve.findings import Finding
from tune.deploy import Huggingface

# What is lent where: vendor: its regions, and of each instance type its sizes. From Hugging Face's own pages on pricing
# and regions, as they were on 2026-11-28, without what they call deprecated. `deploy push` asks the platform itself.
SEVERAL = ("x1", "x2", "x4", "x8")
LENT: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "aws": (
        ("us-east-1", "eu-west-1"),
        {
            "nvidia-l4": ("x1", "x4"),
            "nvidia-a10g": ("x1", "x4"),
            "nvidia-l40s": ("x1", "x4", "x8"),
            "nvidia-a100": SEVERAL,
            "nvidia-h200": SEVERAL,
        },
    ),
    "gcp": (("us-east4",), {"nvidia-l4": ("x1", "x4"), "nvidia-a100": SEVERAL, "nvidia-h100": SEVERAL}),
    "azure": (("eastus",), {}),
}
IDLE_MINUTES = 15  # the shortest time to zero that its settings page offers
NAME = 32  # characters of an endpoint's name at most


def findings(deployment: Deployment) -> list[Finding]:
    found, section = [], table(deployment)
    if place(deployment) is None:
        where = f"{section.vendor or 'any vendor'}{f' in {section.region}' if section.region else ''}"
        what = f"Hugging Face lends no {deployment.machine} at {where}"
        fix = f"[deploy.huggingface] vendor and region of: {offers(deployment)}; or another [deploy] gpu"
        found.append(finding("D083", what, why="by its tables of 2026-11-28", fix=fix))
    if not (section.repository and section.revision):
        lacks = " and ".join(k for k in ("repository", "revision") if not getattr(section, k))
        fix = "tune push CHECKPOINT --to OWNER/NAME, and the commit that it prints as [deploy.huggingface] revision"
        found.append(finding("D084", f"[deploy.huggingface] has no {lacks}", why="weights come from there", fix=fix))
    if "/" not in deployment.image:
        what = f"the image {deployment.image} names no registry, so Hugging Face cannot pull it"
        fix = '[deploy] registry = "docker.io/<your account>"; whoever knows its name must be able to pull from there'
        found.append(finding("D085", what, why="it holds no weights and no secret", fix=fix))
    if not section.private:
        what = "[deploy.huggingface] private = false: nobody would ask callers who they are"
        why = "a key of ours is a secret, which this platform takes by value alone and only once the endpoint runs"
        found.append(finding("D082", what, why=why, fix="[deploy.huggingface] private = true"))
    for key in deployment.secrets:
        what = f"secrets.{key}: Hugging Face refers to no secret, it takes the value with the request"
        fix = "[deploy.huggingface] secrets = {}, and its settings page once it runs: later pushes leave what is there"
        found.append(finding("D031", what, why="a value is never rendered, sent or recorded here", fix=fix))
    return found


def table(deployment: Deployment) -> Huggingface:
    """[deploy.huggingface]. Raises pydantic.ValidationError when deployment.json was edited into something else."""
    return Huggingface.model_validate(deployment.table)


def place(deployment: Deployment) -> tuple[str, str] | None:
    """Vendor and region: the first that the recipe allows and that lend the machine, or None."""
    section = table(deployment)
    type, size = deployment.machine.split(" ")
    for vendor, (regions, instances) in LENT.items():
        if section.vendor in ("", vendor) and size in instances.get(type, ()):
            for region in regions:
                if section.region in ("", region):
                    return vendor, region
    return None


def offers(deployment: Deployment) -> str:
    """Where the machine is lent, in words."""
    type, size = deployment.machine.split(" ")
    there = [
        f"{vendor} {' or '.join(regions)}" for vendor, (regions, lent) in LENT.items() if size in lent.get(type, ())
    ]
    return ", ".join(there) or "none"


def name(deployment: Deployment) -> str:
    """The endpoint's name: the deployment's, or what fits of it and four characters that tell it from others."""
    whole = deployment.name
    mark = hashlib.sha256(whole.encode()).hexdigest()[:4]
    return whole if len(whole) <= NAME else f"{whole[: NAME - 5].rstrip('-')}-{mark}"


def body(deployment: Deployment) -> dict[str, Any]:
    """The body of POST /v2/endpoint/NAMESPACE, as huggingface_hub 1.33 sends it. Raises ValueError where D083 does."""
    where = place(deployment)
    if where is None:
        raise ValueError(f"no {deployment.machine} is lent there")
    section, scaling = table(deployment), deployment.scaling
    type, size = deployment.machine.split(" ")
    minutes = max(IDLE_MINUTES, math.ceil(scaling.idle_seconds / 60))
    container = {"url": deployment.image, "port": deployment.port, "healthRoute": "/readyz"}
    return {
        "compute": {
            "accelerator": "gpu",
            "instanceSize": size,
            "instanceType": type,
            "scaling": {
                "maxReplica": scaling.max_replicas,
                "minReplica": scaling.min_replicas,
                "scaleToZeroTimeout": minutes if scaling.min_replicas == 0 else None,
                "measure": {"pendingRequests": scaling.concurrency},
            },
        },
        "model": {
            "framework": "custom",
            "repository": section.repository,
            "revision": section.revision,
            "image": {"custom": container},
            "env": deployment.env,
        },
        "name": name(deployment),
        "provider": {"region": where[1], "vendor": where[0]},
        "type": "authenticated",
    }


def arguments(sent: dict[str, Any]) -> dict[str, Any]:
    """What `HfApi.create_inference_endpoint` is given so that it sends such a body."""
    compute, model = sent["compute"], sent["model"]
    scaling = compute["scaling"]
    ((metric, threshold),) = scaling["measure"].items()
    return {
        "name": sent["name"],
        "type": sent["type"],
        **sent["provider"],
        "accelerator": compute["accelerator"],
        "instance_size": compute["instanceSize"],
        "instance_type": compute["instanceType"],
        "min_replica": scaling["minReplica"],
        "max_replica": scaling["maxReplica"],
        "scale_to_zero_timeout": scaling["scaleToZeroTimeout"],
        "scaling_metric": metric,
        "scaling_threshold": threshold,
        "framework": model["framework"],
        "repository": model["repository"],
        "revision": model["revision"],
        "custom_image": model["image"]["custom"],
        "env": model["env"],
    }


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    readme = fill("huggingface/README.md.jinja", deployment, context)
    return {
        "endpoint.json": json.dumps(body(deployment), indent=2) + "\n",
        "Dockerfile": fill("Dockerfile.jinja", deployment, context),
        "start.py": verbatim("start.py"),
        "README.md": readme.replace("@IMAGE@", deployment.image).replace("@NAME@", name(deployment)),
    }
