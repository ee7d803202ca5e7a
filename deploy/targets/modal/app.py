"""A Modal server for one checkpoint. Reads modal.json beside this file; nothing in here needs an edit.

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
SPEC = json.loads((HERE / "modal.json").read_text(encoding="utf-8"))
ROOT = "/opt/gptoss-kit"

image = (
    modal.Image.from_registry(SPEC["engine"], setup_dockerfile_commands=SPEC["setup"])
    .entrypoint([])  # the image's own would start vLLM without our launcher
    .env({"PYTHONPATH": ROOT})
    .add_local_dir(HERE / "kit", ROOT)
    .add_local_file(HERE / "start.py", f"{ROOT}/start.py")
    .add_local_file(HERE / "deployment.json", f"{ROOT}/deployment.json")
    .add_local_file(HERE / "modal.json", "/root/modal.json")  # beside this file, in the container
)
volumes = {
    at: modal.Volume.from_name(volume["name"]).with_mount_options(read_only=volume["read_only"])
    for at, volume in SPEC["volumes"].items()
}
secrets = [modal.Secret.from_name(name, required_keys=keys) for name, keys in SPEC["secrets"].items()]
app = modal.App(SPEC["app"])


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


@app.server(image=image, volumes=volumes, secrets=secrets, **SPEC["server"])
class Server:
    """One replica: the server as a child process."""

    @modal.enter()  # type: ignore[untyped-decorator]
    def start(self) -> None:
        self.child = subprocess.Popen([sys.executable, f"{ROOT}/start.py"], env=dict(os.environ))
        self.stopping = threading.Event()
        until_ready(self.child, SPEC["server"]["port"])
        threading.Thread(target=end_with, args=(self.child, self.stopping), daemon=True).start()

    @modal.exit()  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        self.stopping.set()
        self.child.terminate()
        self.child.wait()
