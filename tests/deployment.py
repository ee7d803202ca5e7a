"""A checkpoint, a report and a rendered folder for the tests of deploy: tiny, real, and the same bytes every time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import checkpoints
from evaluation import ARMS, asked_of, evaluated, question_set, reply

from deploy import render
from deploy.spec import Target
from evalsuite.compare import NANO_NOTE
from evalsuite.judging.gate import Result
from evalsuite.questions import Question
from evalsuite.replies.answers import Arm, Reply
from tune import checkpoint
from tune.checkpoint import Checkpoint
from tune.harmony import EFFORTS, Effort
from tune.recipe import Recipe

BASE_DIGEST = "0123456789abcdef" * 4
BASE = "gpt-oss-20b@0123456789abcdef"


def make_checkpoint(
    folder: Path,
    *,
    name: str = "python-docs",
    format: checkpoint.Format = "merged",
    base: str = BASE,
    base_digest: str = BASE_DIGEST,
    **config: object,
) -> Checkpoint:
    """A finished checkpoint folder of a tiny GPT-OSS; `config` are keys of its config.json."""
    checkpoints.fill(folder, format, **config)
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
    tuned: Checkpoint,
    outcome: Result = "PASS",
    *,
    base: str = BASE,
    efforts: Sequence[Effort] = EFFORTS,
    margin: float = 0.05,
    alpha: float = 0.05,
    note: str = NANO_NOTE,
    header: dict[Arm, str] | None = None,
    tuned_id: str = "",
    versions: tuple[str, str] | None = None,
) -> Path:
    """A report.json about `tuned` whose verdict the gate itself reached, with its proof beside it; `header` None: both
    endpoints sent the digest that `serve run` sends. `tuned_id`: what it was asked as, if not by its full name.
    `versions`: of the engines of base and tuned, unlike ones allowed."""
    asked = question_set(20 if outcome == "INCONCLUSIVE" else 300)
    sent: dict[Arm, str] = {"base": BASE_DIGEST, "tuned": tuned.digest} if header is None else header

    def told(question: Question, arm: Arm, effort: Effort) -> Reply:
        if arm == "tuned" and outcome == "INVALID":
            return reply(question, arm, effort, outcome="error")
        return reply(
            question, arm, effort, not (arm == "tuned" and outcome == "FAIL" and int(question.id[1:]) % 4 == 0)
        )

    meta = asked_of(asked, base, tuned_id or tuned.served_name, sent)
    if versions:
        said = (json.dumps({"version": version}) for version in versions)
        servers = {arm: meta.servers[arm].model_copy(update={"version": v}) for arm, v in zip(ARMS, said, strict=True)}
        meta = meta.model_copy(update={"servers": servers, "unlike_allowed": True})
    made = evaluated(
        path,
        asked,
        [told(q, arm, effort) for q in asked.questions for arm in ARMS for effort in efforts],
        meta,
        efforts=efforts,
        margin=margin,
        alpha=alpha,
        note=note,
    )
    assert made.verdict.outcome == outcome, made.verdict
    return path


def needed(target: Target) -> dict[str, object]:
    """What [deploy] has to say for that target, beside the defaults."""
    if target != "huggingface":
        return {}
    return {"registry": "docker.io/acme", "huggingface": {"repository": "acme/python-docs", "revision": "1" * 40}}


def rendered(tmp_path: Path, target: Target, *, serve: Mapping[str, object] | None = None, **deploy: object) -> Path:
    """A folder that `deploy render` wrote, beside the checkpoint it is for; `serve` and `deploy` are keys of those
    sections."""
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made)
    recipe = Recipe.model_validate(
        {"deploy": {**needed(target), **deploy}, "serve": {"max_model_len": 2048, **(serve or {})}}
    )
    out = tmp_path / "deploy" / target
    render.render(target, recipe=recipe, checkpoint=made.folder, report=proof, out=out)
    return out
