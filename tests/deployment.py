"""A checkpoint, a report and a rendered folder for the tests of deploy: tiny, real, and the same bytes every time."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from evaluation import ARMS, CREATED, asked_of, evaluated, question_set, reply

from deploy import checks, receipt, render, running
from deploy.live import Done, Live, Release
from deploy.spec import Deployment, Target
from deploy.steps import Command, Flow
from evalsuite import report
from evalsuite.compare import NANO_NOTE
from evalsuite.judging.gate import Result
from evalsuite.questions import Question
from evalsuite.replies.answers import Arm, Reply
from tune import artefact, checkpoint
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


_reports: dict[str, dict[str, bytes]] = {}  # made once in each process: by what they are about
_judged: dict[str, report.Report] = {}  # likewise, by the digests of their files
_read = report.read


def make_report(path: Path, tuned: Checkpoint, outcome: Result = "PASS", **how: Any) -> Path:
    """A report.json about `tuned` whose verdict the gate itself reached, its proof beside it; `how`: see `judged`."""
    about = json.dumps([tuned.served_name, tuned.digest, outcome, how], sort_keys=True)
    beside = (report.ANSWERS, report.QUESTIONS)
    if about not in _reports:
        judged(path, tuned, outcome, **how)
        _reports[about] = {"": path.read_bytes(), **{name: path.with_name(name).read_bytes() for name in beside}}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, data in _reports[about].items():
        path.with_name(name or path.name).write_bytes(data)
    return path


def judged(
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
) -> None:
    """Make it. `header` None: both endpoints sent the digest that `serve run` sends. `tuned_id`: what it was asked as,
    if not by its full name. `versions`: of the engines of base and tuned, unlike ones allowed."""
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


def on_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gate's clock stand on the day of those reports: what is pushed here is fresh in any year."""
    day = datetime.fromisoformat(CREATED).replace(tzinfo=UTC)
    monkeypatch.setattr(receipt, "stale", partial(receipt.stale, now=day))


def needed(target: Target) -> dict[str, object]:
    """What [deploy] has to say for that target, beside the defaults."""
    if target == "skypilot":
        return {"secrets": {"VLLM_API_KEY": "vllm-key"}}
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
    with read_once():
        render.render(target, recipe=recipe, checkpoint=made.folder, report=proof, out=out)
    return out


def deployed(folder: Path) -> Deployment:
    """What was rendered into the folder."""
    return Deployment.model_validate(artefact.read(folder, "deployment", remake="").settings["deployment"])


def carried_out(flow: Flow, folder: Path, live: Live) -> tuple[Live, tuple[str, ...]]:
    """Do the commands of a flow, as a release after those of `live`; the record then, and the flow's last lines. Raises
    AssertionError with what a command said that failed."""
    done: list[Done] = []
    result: dict[str, object] | None = None
    lines: tuple[str, ...] = ()
    finished = False
    try:
        while True:
            step = flow.send(result)  # type: ignore[arg-type]
            action = step.action
            assert isinstance(action, Command)
            ran = subprocess.run(action.argv, cwd=folder / action.folder, capture_output=True, text=True, check=False)
            assert ran.returncode == 0 or action.lists, f"{step.id}: {ran.stderr}"
            result = {"out": ran.stdout, "code": ran.returncode}
            done.append(running.finished(step, result))
    except StopIteration as end:
        lines, finished = end.value, True
    finally:
        release = Release(
            at="2026-11-28T12:00:00+00:00",
            model=deployed(folder).model,
            folder_digest="0" * 64,
            gate="PASS",
            finished=finished,
            steps=tuple(done),
        )
        now = live.model_copy(update={"releases": (*live.releases, release)})
    return now, lines


def programs(tmp_path: Path, stand_in: str, *names: str) -> Path:
    """A folder for PATH in which tests/stand_ins/<stand_in>, whose `main` takes name and words, goes by these names."""
    place = tmp_path / "bin"
    place.mkdir()
    script = Path(__file__).parent / "stand_ins" / stand_in
    for name in names:
        (place / name).write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(script.parent)!r})\n"
            f"import {script.stem}\nsys.exit({script.stem}.main({name!r}, sys.argv[1:]))\n"
        )
        (place / name).chmod(0o755)
    return place


class Project:
    """One checkpoint and report, and folders rendered from them for one target: many, for the price of one."""

    def __init__(self, root: Path, target: Target, **config: object) -> None:
        self.checkpoint = make_checkpoint(root / "merged", **config).folder
        self.report = make_report(root / "report.json", checkpoint.read(self.checkpoint))
        self.root, self.target, self.made = root, target, 0

    def recipe(self, *, serve: Mapping[str, object] | None = None, **deploy: object) -> Recipe:
        """As `rendered` has it."""
        return Recipe.model_validate({"deploy": deploy, "serve": {"max_model_len": 2048, **(serve or {})}})

    def folder(self, **told: object) -> Path:
        """A folder that `deploy render` wrote, as far from the checkpoint as that of `rendered`."""
        self.made += 1
        recipe, out = self.recipe(**told), self.root / "deploy" / str(self.made)  # type: ignore[arg-type]
        inputs = {"checkpoint": self.checkpoint, "report": self.report}
        return render.render(self.target, recipe=recipe, out=out, **inputs).folder

    def ids(self, **told: object) -> set[str]:
        """The rules that are broken."""
        recipe = self.recipe(**told)  # type: ignore[arg-type]
        return {f.id for f in checks.examine(recipe, self.checkpoint, self.report, self.target).findings}


@contextmanager
def read_once() -> Iterator[None]:
    """A report that was judged in this process is not judged again, where its very bytes and its proof's are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipt.report, "read", _known)
        yield


def _known(path: Path) -> report.Report:
    files = [p for p in (path, path.with_name(report.ANSWERS), path.with_name(report.QUESTIONS)) if p.is_file()]
    about = "".join(map(artefact.file_digest, files))
    if about not in _judged:
        _judged[about] = _read(path)
    return _judged[about]
