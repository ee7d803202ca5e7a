"""A Modal server for one checkpoint. Reads deployment.json beside this file; nothing in here needs an edit.

Deploy with `modal deploy app.py`. Rendered by `deploy render`: change the recipe and render again.
"""

import json
import os
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import modal

HERE = Path(__file__).resolve().parent
DEPLOYMENT = json.loads((HERE / "deployment.json").read_text(encoding="utf-8"))["settings"]["deployment"]
ROOT = "/opt/gptoss-kit"
SCALING, LIMITS = DEPLOYMENT["scaling"], DEPLOYMENT["limits"]

image = (
    modal.Image.from_registry(DEPLOYMENT["engine"])
    .entrypoint([])  # the image's own would start vLLM without our launcher
    .env({"PYTHONPATH": ROOT})
    .add_local_dir(HERE / "kit", ROOT)
    .add_local_file(HERE / "start.py", f"{ROOT}/start.py")
    .add_local_file(HERE / "deployment.json", f"{ROOT}/deployment.json")
    .add_local_file(HERE / "deployment.json", "/root/deployment.json")  # beside this file, in the container
)
weights = modal.Volume.from_name(f"{DEPLOYMENT['name']}-models").with_mount_options(read_only=True)
app = modal.App(DEPLOYMENT["name"])


def answers(port: int) -> bool:
    """Whether the server there says that it is ready."""
    door = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        door.request("GET", "/readyz")
        return door.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        door.close()


def until_ready(child: "subprocess.Popen[bytes]", port: int) -> None:
    """Return when the server is ready: it accepts long before that, and answers 503 until it is proven.

    Raises RuntimeError when the child ends first: Modal would wait on for nothing.
    """
    while child.poll() is None:
        if answers(port):
            return
        time.sleep(0.5)
    raise RuntimeError("the server exited, see the log above")


def end_with(child: "subprocess.Popen[bytes]", stopping: threading.Event) -> None:
    """End the container when the child ends unasked, so that Modal starts another."""
    code = child.wait()
    if not stopping.is_set():
        os._exit(code or 1)


@app.server(
    image=image,
    env=DEPLOYMENT["env"],
    gpu=DEPLOYMENT["machine"],
    volumes={"/models": weights},
    secrets=[modal.Secret.from_name(name, required_keys=[key]) for key, name in DEPLOYMENT["secrets"].items()],
    port=DEPLOYMENT["port"],
    unauthenticated=False,  # Modal asks every caller for its proxy token
    min_containers=SCALING["min_replicas"],
    max_containers=SCALING["max_replicas"],
    target_concurrency=SCALING["concurrency"],
    scaledown_window=SCALING["idle_seconds"],
    startup_timeout=LIMITS["startup_seconds"],
    exit_grace_period=DEPLOYMENT["options"]["drain"] + 20,
)
class Server:
    """One replica: the server as a child process."""

    @modal.enter()  # type: ignore[untyped-decorator]
    def start(self) -> None:
        self.child = subprocess.Popen([sys.executable, f"{ROOT}/start.py"], env=dict(os.environ))
        self.stopping = threading.Event()
        until_ready(self.child, DEPLOYMENT["port"])
        threading.Thread(target=end_with, args=(self.child, self.stopping), daemon=True).start()

    @modal.exit()  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        self.stopping.set()
        self.child.terminate()
        self.child.wait()
