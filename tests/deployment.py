"""A checkpoint, a report and a rendered folder for the tests of deploy: tiny, real, and the same bytes every time."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from evaluation import ARMS, asked_of, evaluated, question_set, reply

from deploy import render
from deploy.spec import Target
from evalsuite.answers import Arm, Reply
from evalsuite.compare import NANO_NOTE
from evalsuite.gate import Result
from evalsuite.questions import Question
from tune import checkpoint
from tune.checkpoint import Checkpoint
from tune.harmony import EFFORTS, Effort
from tune.recipe import Recipe

CONFIG = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_local_experts": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 201_088,
    "sliding_window": 128,
}
BASE_DIGEST = "0123456789abcdef" * 4
BASE = "gpt-oss-20b@0123456789abcdef"


def make_checkpoint(
    folder: Path,
    *,
    name: str = "python-docs",
    format: checkpoint.Format = "merged",
    base: str = BASE,
    base_digest: str = BASE_DIGEST,
) -> Checkpoint:
    """A finished checkpoint folder with 4 KiB of weights."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({"model.norm.weight": np.arange(1024, dtype=np.float32)}, folder / "model.safetensors")
    return checkpoint.finish(
        folder,
        name=name,
        base=base,
        format=format,
        prompt_date="2026-01-01",
        inputs={"adapter": "0" * 64, "base": base_digest},
        settings={},
        figures={},
    )


def make_report(
    path: Path,
    tuned: str,
    outcome: Result = "PASS",
    *,
    base: str = BASE,
    efforts: Sequence[Effort] = EFFORTS,
    margin: float = 0.05,
    alpha: float = 0.05,
    note: str = NANO_NOTE,
    header: dict[Arm, str] | None = None,
) -> Path:
    """A report.json about `tuned` whose verdict the gate itself reached, with its proof beside it."""
    asked = question_set(20 if outcome == "INCONCLUSIVE" else 300)

    def told(question: Question, arm: Arm, effort: Effort) -> Reply:
        if arm == "tuned" and outcome == "INVALID":
            return reply(question, arm, effort, outcome="error")
        return reply(
            question, arm, effort, not (arm == "tuned" and outcome == "FAIL" and int(question.id[1:]) % 4 == 0)
        )

    made = evaluated(
        path,
        asked,
        [told(q, arm, effort) for q in asked.questions for arm in ARMS for effort in efforts],
        asked_of(asked, base, tuned, header),
        efforts=efforts,
        margin=margin,
        alpha=alpha,
        note=note,
    )
    assert made.verdict.outcome == outcome, made.verdict
    return path


def rendered(tmp_path: Path, target: Target, **deploy: object) -> Path:
    """A folder that `deploy render` wrote, beside the checkpoint it is for; `deploy` are keys of that section."""
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made.served_name)
    recipe = Recipe.model_validate({"deploy": deploy})
    out = tmp_path / "deploy" / target
    render.render(target, recipe=recipe, checkpoint=made.folder, report=proof, out=out)
    return out
