"""Codex CLI without its window: turns over the Responses API with its own tools, and one that goes on.

GPTOSS_CLIENT_CODEX names the program. What the server heard of each turn is on its /metrics: Codex shows no headers.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

URL, MODEL = sys.argv[1:3]
CONFIG = """
model_provider = "kit"
web_search = "disabled"
model_instructions_file = "short.md"

[features]
multi_agent = false
goals = false

[model_providers.kit]
name = "kit"
base_url = {url}
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def answered():
    """How many requests of each effort the server has answered."""
    key = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    request = urllib.request.Request(URL.removesuffix("/v1") + "/metrics", headers=key)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    counted = {"low": 0.0, "medium": 0.0, "high": 0.0}
    for labels, number in re.findall(r"^gptoss_requests_total\{(.*)\} (\S+)$", text, re.M):
        effort = re.search(r'effort="(\w+)"', labels)
        if 'status="2xx"' in labels and effort and effort[1] in counted:
            counted[effort[1]] += float(number)
    return counted


def turn(home, what, effort, *command):
    before = answered()
    known = ["-c", f'model_reasoning_effort="{effort}"'] if effort else []
    line = [os.environ["GPTOSS_CLIENT_CODEX"], "exec", *command, "--json", "--skip-git-repo-check", "-m", MODEL, *known]
    how = {"cwd": home, "env": {**os.environ, "CODEX_HOME": str(home)}, "stdin": subprocess.DEVNULL}
    told = subprocess.run([*line, "Is 7 prime?"], **how, capture_output=True, text=True, check=False)
    events = [json.loads(each) for each in told.stdout.splitlines()]
    if told.returncode or events[-1]["type"] != "turn.completed":
        sys.exit(f"{what}: exit {told.returncode}: {told.stdout[-600:]}{told.stderr[-600:]}")
    after, applied = answered(), effort or "medium"
    if not after[applied] > before[applied]:
        sys.exit(f"{what}: no request at effort {applied}: {before} to {after}")
    print(f"{what}: {applied}, {events[-1]['usage']['output_tokens']} tokens")


with tempfile.TemporaryDirectory() as folder:
    home = Path(folder)
    (home / "config.toml").write_text(CONFIG.format(url=json.dumps(URL)))
    (home / "short.md").write_text("Answer in short.")
    turn(home, "turn", None)
    turn(home, "turn low", "low")
    turn(home, "turn high", "high")
    turn(home, "turn that goes on", "low", "resume", "--last")
