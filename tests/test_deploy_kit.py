"""The code that goes into containers: all that start.py reaches, nothing else, and enough to run from alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from deployment import rendered

from deploy import kit


def test_the_kit_is_what_the_programs_import_and_no_more():
    """Against grimp, which finds imports by other means."""
    program = (Path(kit.__file__).parent / "targets" / "start.py").read_text()
    graph = grimp.build_graph("serve", "tune", "evalsuite", "deploy", exclude_type_checking_imports=True)
    roots = {"deploy.targets.start", *kit.STARTED}
    wanted = {name for root in roots for name in (root, *graph.find_upstream_modules(root))} - {"deploy.targets.start"}
    files = kit.files({"start.py": program})
    names = {
        path.removeprefix("kit/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in files
        if path.endswith(".py")
    }
    assert wanted <= names
    assert names - wanted == {"serve", "tune", "tune.weights"}  # packages, which hold nothing
    assert len(names) < 80
    assert [path for path in files if not path.endswith(".py")] == ["kit/serve/gpus.toml"]


def test_the_kit_alone_can_be_imported_and_asked(tmp_path):
    """Each of its modules in a clean process, and what reads a table beside it; vLLM is the launcher's alone."""
    folder = rendered(tmp_path, "compose")
    program = (
        "import sys, pathlib, importlib\n"
        f"root = pathlib.Path({str(folder / 'kit')!r})\n"
        "sys.path.insert(0, str(root))\n"
        "for p in sorted(root.rglob('*.py')):\n"
        "    name = '.'.join(p.relative_to(root).with_suffix('').parts).removesuffix('.__init__')\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__file__.startswith(str(root)), module\n"
        "from serve import kernels, machine\n"
        "assert machine.kernel('NVIDIA H100 80GB HBM3') == 'triton'\n"
        "assert 'deploy' not in sys.modules and 'evalsuite' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/", env={"PATH": os.environ["PATH"]})


@pytest.mark.parametrize(
    ("program", "more"),
    [
        ("from serve import preflight", "kit/serve/preflight.py"),
        ("def f():\n    import tune.screen", "kit/tune/screen.py"),
        ("from serve.profiles import on", "kit/serve/profiles.toml"),
        ("from tune import weights", "kit/tune/weights/__init__.py"),
    ],
)
def test_what_another_rendered_program_imports_comes_along(program, more):
    assert more in kit.files({"worker.py": program})


def test_what_type_checkers_alone_import_does_not_come_along():
    program = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from serve import hosts\n"
    assert "kit/serve/hosts.py" not in kit.files({"worker.py": program})
    with pytest.raises(RuntimeError, match=r"serve\.none is imported"):
        kit.files({"worker.py": "import serve.none"})


def test_the_harmony_vocabulary_needs_no_network():
    """What the Dockerfile runs with its network shut, in a process that can open no socket and has no cache."""
    text = (Path(kit.__file__).parent / "targets" / "Dockerfile.jinja").read_text()
    (check,) = re.findall(r"RUN --network=none \[\"python3\", \"-c\", \"(.*)\"\]", text)
    sealed = (
        "import socket, sys\n"
        "def audit(event, args):\n"
        "    if event.startswith('socket.') and event != 'socket.gethostname':\n"
        "        sys.exit(9)\n"
        "sys.addaudithook(audit)\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TIKTOKEN_RS_CACHE_DIR": "/nonexistent"}
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # Rust opens its own sockets
    subprocess.run([sys.executable, "-c", sealed + check], check=True, env=env | proxy)


@pytest.mark.parametrize("where", ["kit/serve/launcher.py", "kit/tune/checkpoint.py"])
def test_other_code_has_another_digest(monkeypatch, where):
    """By which images are named."""
    before, real, seen = kit.digest.__wrapped__(), kit.files, {}
    monkeypatch.setattr(kit, "files", lambda programs: seen.update(real(programs)) or {**seen, where: "other code"})
    assert kit.digest.__wrapped__() != before
    assert where in seen
