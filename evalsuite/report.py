"""CONTRACT: Report, the versioned result of one evaluation: questions and answers in, report.json out.

The file carries a digest of its contents: one that was cut short or edited by hand is refused. The digest guards
against accidents; it is no signature. Knows no endpoint and no page layout.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import Field, ValidationError

from evalsuite.answers import EFFORT_MISMATCH, Answer, Arm
from evalsuite.comparison import Comparison, Part, compare
from evalsuite.gate import Evidence, Policy, decide
from evalsuite.gate import Verdict as Verdict
from evalsuite.questions import QuestionSet
from tune.artefact import write_text
from tune.errors import UserError
from tune.harmony import EFFORTS, Effort

SCHEMA = 1


class SpeedRow(Part):
    """One figure of a load test, both arms. `ratio` is tuned over base, with its two-sided 95 % interval if known."""

    metric: str  # "time to first answer token, p95"
    unit: str  # "ms", "tokens/s"
    base: float
    tuned: float
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    higher_is_better: bool = False


class Throughput(Part):
    """What a load test measured on both endpoints. `void` says why its figures must not be used; "" if they may."""

    load: str  # "2 requests/s, Poisson, 6 blocks of 30 s"
    rows: tuple[SpeedRow, ...]
    void: str = ""


class Steering(Part):
    """Does effort still steer one arm: median reasoning tokens by effort, and high over low."""

    tokens: dict[Effort, float]
    ratio: float | None  # highest effort over lowest; None when the lowest has no reasoning
    monotone: bool  # no effort thinks less than the one below it


class Report(Part):
    """Base against tuned on one question set. `created` is an ISO date that the caller gave."""

    schema_version: int = SCHEMA
    created: str
    note: str = ""  # what a reader must know first, such as that a nano model proves the path and not quality
    base_model: str  # served ids: name@digest16
    tuned_model: str
    questions_name: str
    questions_digest: str
    questions_count: int
    policy: Policy
    evidence: Evidence
    comparisons: tuple[Comparison, ...]  # one an effort
    base_steering: Steering | None = None  # None with fewer than two efforts
    tuned_steering: Steering | None = None
    throughput: Throughput | None = None
    provenance: dict[str, str] = Field(default_factory=dict)  # python, versions, endpoints: shown as they are
    verdict: Verdict

    @property
    def digest(self) -> str:
        """sha256 over the contents, 64 hex characters."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def build(
    questions: QuestionSet,
    answers: Iterable[Answer],
    *,
    created: str,
    margin: float,
    alpha: float,
    efforts: Sequence[Effort] | None = None,
    asked_digest: str | None = None,
    missing_cap: float = 0.02,
    throughput: Throughput | None = None,
    note: str = "",
    provenance: Mapping[str, str] | None = None,
) -> Report:
    """Pair the answers by question and effort, work out the figures, and decide.

    `efforts` are those that had to be asked: one without answers makes the report INVALID. Default: all that any
    answer has. `asked_digest` is the digest of the set that was asked, where the caller recorded it. Of two answers
    with one key the later counts: a retry replaces an error. Margin and alpha are shares, 0 to 1.
    """
    policy = Policy(margin=margin, alpha=alpha, missing_cap=missing_cap)
    by_key = {a.key: a for a in answers}
    seen = {a.effort for a in by_key.values()}
    asked = [e for e in EFFORTS if e in (efforts or seen)]
    known = {q.id for q in questions.questions}
    kept = {k: a for k, a in by_key.items() if a.effort in asked}
    evidence = Evidence(
        base_models=_models(kept.values(), "base"),
        tuned_models=_models(kept.values(), "tuned"),
        questions_digest=questions.digest,
        asked_digest=asked_digest or questions.digest,
        foreign=tuple(sorted({a.question for a in kept.values()} - known)),
        effort_mismatches=sum(a.error.startswith(EFFORT_MISMATCH) for a in kept.values()),
    )
    comparisons = tuple(compare(e, questions.questions, kept, alpha) for e in asked)
    return Report(
        created=created,
        note=note,
        base_model=", ".join(evidence.base_models),
        tuned_model=", ".join(evidence.tuned_models),
        questions_name=questions.name,
        questions_digest=questions.digest,
        questions_count=len(questions.questions),
        policy=policy,
        evidence=evidence,
        comparisons=comparisons,
        base_steering=_steering(comparisons, "base"),
        tuned_steering=_steering(comparisons, "tuned"),
        throughput=throughput,
        provenance={"questions made for Python": questions.python, "seed": str(questions.seed), **(provenance or {})},
        verdict=decide(comparisons, policy, evidence),
    )


def _models(answers: Iterable[Answer], arm: Arm) -> tuple[str, ...]:
    return tuple(sorted({a.model for a in answers if a.arm == arm}))


def _steering(comparisons: Sequence[Comparison], arm: Arm) -> Steering | None:
    figures = {c.effort: (c.base if arm == "base" else c.tuned).reasoning_tokens for c in comparisons}
    tokens = {effort: t for effort, t in figures.items() if t is not None}
    if len(tokens) < 2:
        return None
    values = list(tokens.values())
    return Steering(
        tokens=tokens,
        ratio=values[-1] / values[0] if values[0] else None,
        monotone=all(a <= b for a, b in pairwise(values)),
    )


def write(path: Path, report: Report) -> None:
    """Write report.json: the report and its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"digest": report.digest, **report.model_dump(mode="json")}, indent=1) + "\n")


def read(path: Path) -> Report:
    """Raises UserError when the file is missing, cut short, of another version, or was edited since it was written."""
    remake = "evalsuite compare"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        digest = data.pop("digest")
        if data.get("schema_version") != SCHEMA:
            why = f"it has version {data.get('schema_version')}, this tool reads version {SCHEMA}"
            raise UserError(f"{path} is a report of another version", why=why, fix=remake)
        report = Report.model_validate(data)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no report {path}", fix=remake) from None
    except (KeyError, AttributeError, TypeError, ValidationError) as e:
        raise UserError(f"{path} is not a report", why=str(e).splitlines()[0], fix=remake) from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is not JSON", why=f"cut short or damaged: {e}", fix=remake) from None
    if report.digest != digest:
        raise UserError(f"{path} was changed after it was written", why="its digest differs", fix=remake)
    return report
