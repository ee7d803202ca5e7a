"""Modal: an app with one server class. Modal builds the image itself; weights and compile caches lie in Volumes.

Comes in: a deployment. Goes out: app.py, which is the same for everyone, and modal.json, all that it tells Modal.
Starts nothing: live.py does.
"""

import json
from typing import Any

from deploy.findings import finding, inline
from deploy.spec import API_KEY, Deployment
from deploy.targets import Context
from deploy.targets.template import fill, verbatim
from serve.findings import Finding
from tune.artefact import VERSION
from tune.deploy import Modal

# Where containers run: the region that takes their requests in (Modal has four), and how many times the price it costs.
# From Modal's guide on region selection, as it was on 2026-11-28; its SDK takes any text and its servers refuse it.
BROAD, NARROW = 1.5, 1.75
REGIONS: dict[str, tuple[str, float]] = {
    "": ("us-east", 1.0),
    "us": ("us-east", BROAD),
    "us-east": ("us-east", NARROW),
    "us-central": ("us-east", NARROW),
    "us-south": ("us-east", NARROW),
    "us-west": ("us-west", NARROW),
    "eu": ("eu-west", BROAD),
    "eu-west": ("eu-west", NARROW),
    "eu-north": ("eu-west", NARROW),
    "eu-south": ("eu-west", NARROW),
    "uk": ("eu-west", BROAD),
    "ap": ("ap-south", BROAD),
    "ap-south": ("ap-south", NARROW),
    "ap-southeast": ("ap-south", NARROW),
    "ap-northeast": ("ap-south", NARROW),
    "ap-melbourne": ("ap-south", NARROW),
    "jp": ("ap-south", NARROW),
    "au": ("ap-south", NARROW),
    "ca": ("us-east", BROAD),
    "mx": ("us-east", BROAD),
    "sa": ("us-east", BROAD),
    "me": ("eu-west", BROAD),
    "af": ("eu-west", BROAD),
}
GRACE_CAP, EXIT_SECONDS = 3600, 20  # seconds that Modal leaves a container at most; of those, what the engine needs
MODELS, CACHE = "/models", "/cache"  # where the Volumes lie in the container
CACHES = {
    "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
    "TRITON_CACHE_DIR": f"{CACHE}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
}
# What runs in the engine's image before Modal's own lines. Modal starts containers with `python`, and its older image
# builders install with it (`_Image._registry_setup_commands` in modal/_image.py of 1.6.4): the image has python3 alone.
# The link lies beside it, so that it is the same interpreter, with vLLM. One without vLLM fails the build.
SETUP = (
    'RUN command -v python > /dev/null || ln -s python3 "$(dirname "$(command -v python3)")/python"',
    "RUN python -c \"import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None and 'python has no vLLM')\"",
)


def findings(deployment: Deployment) -> list[Finding]:
    found, section = [], table(deployment)
    if section.region not in REGIONS:
        what = f"[deploy.modal] region = {section.region!r} is none of Modal's"
        fix = f"one of {', '.join(name for name in REGIONS if name)}; or leave it out: wherever there is room"
        found.append(finding("D080", what, why="its SDK takes any name, and its servers refuse this one", fix=fix))
    if section.auth == "key" and API_KEY not in deployment.secrets:
        what = f'[deploy.modal] auth = "key" without {API_KEY} in [deploy] secrets'
        named = inline({**deployment.secrets, API_KEY: "NAME"})
        fix = f"[deploy.modal] secrets = {named}, NAME being a Modal secret with the key {API_KEY}"
        found.append(finding("D081", what, why="nobody would be let in, or everybody", fix=fix))
    if section.auth == "proxy" and API_KEY in deployment.secrets:
        what = f"{API_KEY} in [deploy] secrets, where Modal's proxy asks for its own token"
        why = "the engine would ask for a key as well, even the supervisor, which has none: it would never be ready"
        others = inline({key: name for key, name in deployment.secrets.items() if key != API_KEY})
        fix = f'[deploy.modal] secrets = {others}, or auth = "key" there'
        found.append(finding("D082", what, why=why, fix=fix))
    drain = deployment.options.drain
    if drain + EXIT_SECONDS > GRACE_CAP:
        what = f"Modal ends a container {GRACE_CAP} s after it asked it to stop, [serve] drain is {drain}"
        found.append(finding("D024", what, fix=f"[serve] drain = {GRACE_CAP - EXIT_SECONDS}"))
    return found


def table(deployment: Deployment) -> Modal:
    """[deploy.modal]. Raises pydantic.ValidationError when deployment.json was edited into something else."""
    return Modal.model_validate(deployment.table)


def volumes(deployment: Deployment) -> dict[str, str]:
    """Mount point in the container: name of the Modal Volume."""
    return {MODELS: f"{deployment.name}-models", CACHE: f"{deployment.name}-cache"}


def server(deployment: Deployment) -> dict[str, Any]:
    """What `modal.App.server` is told, but for objects of the SDK."""
    scaling, region = deployment.scaling, table(deployment).region
    return {
        "env": {**deployment.env, **CACHES},
        "gpu": deployment.machine,
        "port": deployment.port,
        "unauthenticated": table(deployment).auth == "key",  # then our own door asks for the key
        "min_containers": scaling.min_replicas,
        "max_containers": scaling.max_replicas,
        "target_concurrency": scaling.concurrency,
        "scaledown_window": scaling.idle_seconds,
        "startup_timeout": deployment.limits.startup_seconds,
        "exit_grace_period": min(GRACE_CAP, deployment.options.drain + EXIT_SECONDS),
        "routing_region": REGIONS[region][0],
        "compute_region": region or None,
    }


def spec(deployment: Deployment, checkpoint: str) -> dict[str, Any]:
    """modal.json: everything that app.py tells Modal. `checkpoint`: the local folder as seen from the rendered one."""
    secrets: dict[str, list[str]] = {}
    for key, name in sorted(deployment.secrets.items()):
        secrets.setdefault(name, []).append(key)
    return {
        "rendered_by": f"gptoss-kit {VERSION} (deploy render modal)",
        "app": deployment.name,
        "engine": deployment.engine,
        "setup": list(SETUP),
        "volumes": {at: {"name": name, "read_only": at == MODELS} for at, name in sorted(volumes(deployment).items())},
        "secrets": secrets,
        "weights": {"from": checkpoint, "to": deployment.model_path.removeprefix(MODELS)},
        "server": server(deployment),
    }


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    return {
        "app.py": verbatim("modal/app.py"),
        "modal.json": json.dumps(spec(deployment, context.checkpoint), indent=2) + "\n",
        "start.py": verbatim("start.py"),
        "README.md": fill("modal/README.md.jinja", deployment, context),
    }
