"""Compose: a GPU host of one's own, with Docker. One container; weights bound from the host, keys of its environment.

No root, and a root file system that nothing is written to: what is written is /tmp and one volume of caches.
"""

import re
from typing import Any

from deploy.findings import finding, inline
from deploy.spec import API_KEY, Deployment
from deploy.targets import Context
from deploy.targets.template import fill, verbatim
from serve.findings import Finding
from tune.artefact import VERSION
from tune.deploy import Compose
from tune.errors import UserError

SERVICE = "server"
STOP_SECONDS = 20  # past the drain, until SIGKILL: the engine takes 4 to end, and killed processes 5 to be gone
USER = "2000:0"  # as the image has it; its caches are that user's
# Variables by which push says what it starts, whatever others the shell has; not set, it is what was rendered.
IMAGE, WEIGHTS, PLACE = "GPTOSS_IMAGE", "GPTOSS_WEIGHTS", "GPTOSS_PLACE"
SHARED = {False: "1gb", True: "16gb"}  # /dev/shm by whether several GPUs exchange through it: Docker's 64 MB end NCCL
FILES = 65_535  # open at once, connections among them: what vLLM asks for, and no user but root may raise
LOG = {"driver": "json-file", "options": {"max-size": "50m", "max-file": "5"}}  # Docker's own grows without end


def findings(deployment: Deployment) -> list[Finding]:
    found = list[Finding]()
    table = Compose.model_validate(deployment.table)
    if table.bind == "0.0.0.0" and not deployment.options.key_env:  # noqa: S104
        what = "the endpoint listens on every network of the host, and asks nobody for a key"
        named = inline({**deployment.secrets, API_KEY: API_KEY})
        fix = f'[deploy.compose] secrets = {named}, or [deploy.compose] bind = "127.0.0.1"'
        found.append(finding("D053", what, why="a host has no gateway in front that would ask", fix=fix))
    for key, name in deployment.secrets.items():
        if name != _variable(name):
            what = f"secrets.{key}: {name} can be no variable of the host's environment"
            fix = f"[deploy.compose] secrets = {inline({k: _variable(n) for k, n in deployment.secrets.items()})}"
            found.append(finding("D054", what, why="Compose would read what follows the dash as a default", fix=fix))
    if deployment.scaling.max_replicas > 1:
        what = f"one host runs one container, max_replicas is {deployment.scaling.max_replicas}"
        fix = "[deploy] max_replicas = 1; [serve] data_parallel shares requests among a host's GPUs"
        found.append(finding("D055", what, fix=fix))
    return found


def _variable(name: str) -> str:
    """The name itself, if it can be that of an environment's variable; else the nearest that can."""
    return re.sub("^(?=[0-9])", "KEY_", re.sub("[^A-Z0-9_]", "_", name.upper()))


def compose(deployment: Deployment, checkpoint: str) -> dict[str, Any]:
    """compose.yaml as data. `checkpoint`: the weights' folder on the host, relative to the rendered one."""
    d, table = deployment, Compose.model_validate(deployment.table)
    weights = checkpoint if checkpoint.startswith(("/", "../")) else f"./{checkpoint}"
    service = {
        "image": f"${{{IMAGE}:-{d.image}}}",
        "build": {"context": ".", "platforms": ["linux/amd64"]},
        "user": USER,
        "init": True,  # the first process: takes SIGTERM on, and buries what its children leave
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp:exec,mode=1777,size=8g"],  # noqa: S108  # exec: compilers load there what they made
        "volumes": [
            {"type": "volume", "source": "cache", "target": "/cache"},
            {
                "type": "bind",
                "source": f"${{{WEIGHTS}:-{_plain(weights)}}}",
                "target": f"${{{PLACE}:-{d.model_path}}}",
                "read_only": True,
                "bind": {"create_host_path": False},  # Docker would make an empty folder of a mistyped one
            },
        ],
        "ports": [{"target": d.port, "published": str(table.port), "host_ip": table.bind, "protocol": "tcp"}],
        **({"environment": _environment(d)} if d.secrets else {}),
        "ulimits": {"nofile": {"soft": FILES, "hard": FILES}},
        "shm_size": SHARED[d.gpus > 1],
        "deploy": {
            "resources": {"reservations": {"devices": [{"driver": "nvidia", "count": d.gpus, "capabilities": ["gpu"]}]}}
        },
        "stop_signal": "SIGTERM",
        "stop_grace_period": f"{d.options.drain + STOP_SECONDS}s",
        "restart": "unless-stopped",
        "logging": LOG,
        "labels": {"gptoss-kit.model": d.model},
    }
    return {"name": d.name, "services": {SERVICE: service}, "volumes": {"cache": {}}}


def _environment(deployment: Deployment) -> dict[str, str]:
    """Each secret by the name that it has in the host's environment. Not set there, it is empty, and start.py says so:
    `:?` would let no command stop or look at a server without the key."""
    return {key: f"${{{name}:-}}" for key, name in deployment.secrets.items()}


def _plain(path: str) -> str:
    """A path as Compose takes it inside a default. Raises UserError for one that it could not read whole."""
    if "}" in path:
        raise UserError(f"{path} holds a brace", why="Compose ends a variable's default there", fix="rename the folder")
    return path.replace("$", "$$")


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    import yaml

    head = f"# Rendered by gptoss-kit {VERSION} (deploy render compose): change the recipe and render again.\n"
    data = compose(deployment, context.checkpoint)
    return {
        "compose.yaml": head + yaml.safe_dump(data, sort_keys=False, width=120, allow_unicode=True),
        "Dockerfile": fill("Dockerfile.jinja", deployment, context),
        "start.py": verbatim("start.py"),
        "README.md": fill("compose/README.md.jinja", deployment, context),
    }
