"""CONTRACT: Report, the versioned result of one evaluation: questions and answers in, report.json out.

What the file says is never believed. Beside it lie questions.jsonl and answers.jsonl: whoever reads a report has the
replies graded, compared and judged again, and is told when another verdict comes out. Digests guard against accidents;
they are no signature. Knows no endpoint and no page layout.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import Field, JsonValue, ValidationError

from evalsuite import questions as question_sets
from evalsuite import sandbox
from evalsuite.contamination import Trained
from evalsuite.judging import measured, reach
from evalsuite.judging.advice import Advice, advice
from evalsuite.judging.comparison import Comparison, compare
from evalsuite.judging.failures import Failures, failures
from evalsuite.judging.gate import Evidence, Rest, decide
from evalsuite.judging.gate import Verdict as Verdict
from evalsuite.judging.limits import Figure
from evalsuite.judging.paired import Part
from evalsuite.judging.policy import Judged as Judged
from evalsuite.judging.policy import Policy
from evalsuite.judging.policy import weaker as weaker
from evalsuite.judging.reasoning import Steering, steering
from evalsuite.questions import Question, QuestionSet, Split
from evalsuite.replies import answers as heard
from evalsuite.replies import fitness, graders
from evalsuite.replies.answers import ARMS, EFFORT_MISMATCH, MODEL_MISMATCH, Answer, Arm, Meta
from tune.artefact import write_text
from tune.errors import UserError, reason
from tune.evaluate import OWN
from tune.harmony import EFFORTS
from tune.section import EffortName

SCHEMA = 5
REMAKE = "evalsuite compare --base URL --tuned URL"
SPLITS: tuple[Split, ...] = get_args(Split)
QUESTIONS, ANSWERS = "questions.jsonl", "answers.jsonl"  # beside the report


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


class Stopped(Part):
    """Asking was to stop early, and what was not asked could not lead to a PASS: the pairs of answers that there are,
    and of how many."""

    pairs: int
    of: int


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
    modules: tuple[str, ...] = ()  # that the held-out ones are about
    questions_made: dict[str, JsonValue] = Field(default_factory=dict, exclude=True)  # not in the file: the questions'
    questions_code: int = Field(default=0, exclude=True)  # those whose answers are code; the same
    questions_left_out: dict[str, int] = Field(default_factory=dict)  # reason -> candidates
    questions_skipped: dict[str, str] = Field(default_factory=dict)  # module -> reason
    asked: Meta  # whom, and how
    efforts: tuple[EffortName, ...]  # that had to be asked
    policy: Policy
    evidence: Evidence
    comparisons: tuple[Comparison, ...]  # one an effort of held-out questions, then of taught and of general ones
    limits: tuple[Figure, ...] = ()  # what the policy sets a limit to
    failures: tuple[Failures, ...] = ()  # one for each effort and arm at which replies failed
    base_steering: Steering | None = None  # on held-out questions; None with fewer than two efforts
    tuned_steering: Steering | None = None
    throughput: Throughput | None = None
    advice: Advice | None = Field(default=None, exclude_if=lambda found: found is None)  # free-text answers: not judged
    provenance: dict[str, str] = Field(default_factory=dict)  # python, versions, endpoints: shown as they are
    stopped: Stopped | None = Field(default=None, exclude_if=lambda found: found is None)
    verdict: Verdict

    @property
    def judged(self) -> Judged:
        return Judged(
            efforts=self.efforts,
            margin=self.policy.margin,
            forgetting_margin=self.policy.forgetting_margin,
            alpha=self.policy.alpha,
            require_gain=self.policy.require_gain,
            limits=self.policy.limits,
            unlike=fitness.unlike(self.asked),
            max_tokens=self.asked.sampling.max_tokens,
            temperature=self.asked.sampling.temperature,
            repeats=self.asked.sampling.repeats,
            modules=self.modules,
            questions=max((c.asked for c in self.of("held-out")), default=0),
            general=max((c.asked for c in self.of("general")), default=0),
            code=self.questions_code,
            made=self.questions_made,
        )

    def of(self, split: Split) -> tuple[Comparison, ...]:
        """The comparisons on one split, one an effort."""
        return tuple(c for c in self.comparisons if c.split == split)

    @property
    def digest(self) -> str:
        """sha256 over the contents, 64 hex characters."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def build(
    questions: QuestionSet,
    answers: Iterable[Answer],
    *,
    asked: Meta,
    created: str,
    policy: Policy,
    efforts: Sequence[EffortName],
    trained: Trained | None = None,
    throughput: Throughput | None = None,
    note: str = "",
    provenance: Mapping[str, str] | None = None,
) -> Report:
    """Pair the answers by question and effort, each split by itself, work out the figures, and decide.

    Only answers to what `asked` says count: of its servers, to its requests. `efforts` are those that had to be asked:
    one without answers makes the report INVALID, unless asking was to stop early and a PASS is out of reach.
    Free-text answers are advice: nothing else is worked out from them, as if they had not been asked for. `trained` is
    taken as it is given, for no answer tells it: raises UserError when it cannot be about these questions. Low, medium
    and high come first, other efforts as given.
    """
    judged, free = questions.judged, {q.id for q in questions.advice}
    if trained and (why := trained.unlike(judged)):
        raise UserError("contamination was measured of another question set", why=why, fix=REMAKE)
    efforts = in_order(efforts)
    told = list(answers)
    kept, others = heard.counted([a for a in told if a.question not in free], questions, efforts, asked)
    prose, _ = heard.counted([a for a in told if a.question in free], questions, efforts, asked)
    by_key = {a.key: a for a in kept}
    evidence = Evidence(
        base_models=_models(kept, "base"),
        tuned_models=_models(kept, "tuned"),
        base_digest=asked.servers["base"].digest,
        tuned_digest=asked.servers["tuned"].digest,
        two_headers=all(server.header for server in asked.servers.values()),
        questions_digest=questions.digest,
        asked_digest=asked.questions,
        answers_digest=heard.digest(kept),
        others=dict(others),
        effort_mismatches=sum(a.error.startswith(EFFORT_MISMATCH) for a in kept),
        model_mismatches=sum(a.error.startswith(MODEL_MISMATCH) for a in kept),
        identical=_identical(by_key),
        trained=trained,
        unfit=tuple(fitness.unfit(questions, efforts, asked, policy.allow_unlike_servers)),
    )
    held_out, *rest = (
        tuple(
            compare(
                e,
                judged,
                by_key,
                alpha=policy.alpha,
                margin=policy.at(split),
                split=split,
                repeats=asked.sampling.repeats,
            )
            for e in efforts
        )
        for split in SPLITS
    )
    comparisons = held_out + tuple(c for some in rest for c in some if c.asked)
    figures = measured.figures(judged, heard.first(kept), efforts, policy, trained)
    unasked = _rest(judged, by_key, efforts, policy, asked.sampling.repeats) if asked.stop_early else None
    made_of = {
        **({"questions made for Python": questions.python} if questions.python else {}),
        **({"questions taken from": str(questions.made[OWN])} if OWN in questions.made else {}),
        **({"seed": str(questions.made["seed"])} if "seed" in questions.made else {}),
        "graders": str(graders.VERSION),
        **({"sandbox of code answers": sandbox.level()} if any(q.code for q in questions.questions) else {}),
    }
    return Report(
        created=created,
        note=note,
        base_model=asked.servers["base"].model,
        tuned_model=asked.servers["tuned"].model,
        questions_name=questions.name,
        questions_digest=questions.digest,
        questions_count=len(questions.questions),
        questions_made=questions.made,
        questions_code=sum(q.is_code for q in judged),
        questions_left_out=questions.left_out,
        questions_skipped=questions.skipped,
        modules=tuple(sorted({q.module for q in judged if q.split == "held-out"})),
        asked=asked,
        efforts=tuple(efforts),
        policy=policy,
        evidence=evidence,
        comparisons=comparisons,
        limits=figures,
        failures=failures(kept, efforts),
        base_steering=steering(held_out, "base"),
        tuned_steering=steering(held_out, "tuned"),
        throughput=throughput,
        advice=advice(questions.advice, prose, efforts),
        provenance={**(provenance or {}), **made_of},
        stopped=Stopped(pairs=unasked.pairs, of=unasked.of) if unasked and unasked.settled else None,
        verdict=decide(comparisons, policy, evidence, figures, unasked),
    )


def in_order(efforts: Iterable[EffortName]) -> list[EffortName]:
    """Low, medium and high, then others as they are given."""
    given = dict.fromkeys(efforts)
    return [*(e for e in EFFORTS if e in given), *(e for e in given if e not in EFFORTS)]


def _rest(
    judged: Sequence[Question],
    answers: Mapping[heard.Key, Answer],
    efforts: Sequence[EffortName],
    policy: Policy,
    repeats: int,
) -> Rest | None:
    """What holds although something was never asked; None where everything was. A failed request was asked."""
    items = [(q.id, e, n) for q in judged for e in efforts for n in range(repeats)]
    pairs = sum(all((q, arm, e, n) in answers for arm in ARMS) for q, e, n in items)
    if pairs == len(items):
        return None
    return Rest(pairs, len(items), reach.findings(judged, answers, efforts, policy, repeats))


def _identical(answers: Mapping[heard.Key, Answer]) -> bool:
    """Whether there are pairs of replies, and in each both arms said the same."""
    pairs = [
        (a, answers[q, "tuned", e, n])
        for (q, arm, e, n), a in answers.items()
        if arm == "base" and (q, "tuned", e, n) in answers
    ]
    pairs = [(b, t) for b, t in pairs if not b.error and not t.error]
    return bool(pairs) and all((b.text, b.reasoning) == (t.text, t.reasoning) for b, t in pairs)


def _models(answers: Iterable[Answer], arm: Arm) -> tuple[str, ...]:
    return tuple(sorted({a.model for a in answers if a.arm == arm}))


def write(path: Path, report: Report) -> None:
    """Write report.json: the report and its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"digest": report.digest, **report.model_dump(mode="json")}, indent=1) + "\n")


def read(path: Path) -> Report:
    """The report, made anew from the question set and the replies beside it, so that none of its figures is believed.
    What no reply tells is taken as it is stored: throughput, provenance, and which questions stand in a dataset.

    Raises UserError when a file is missing, cut short, of another version, changed or of another run, when the replies
    do not give the verdict that the report states, and when they are code that cannot be run here.
    """
    stored = as_stored(path)
    try:
        asked = question_sets.read(path.with_name(QUESTIONS))
    except UserError as e:
        raise _unproven(path, e) from None
    graders.require(asked)
    try:
        told = heard.read(path.with_name(ANSWERS), asked)
    except UserError as e:
        raise _unproven(path, e) from None
    made = build(
        asked,
        told,
        asked=stored.asked,
        created=stored.created,
        policy=stored.policy,
        efforts=stored.efforts,
        trained=stored.evidence.trained,
        throughput=stored.throughput,
        note=stored.note,
        provenance=stored.provenance,
    )
    for name, was, now in (
        (QUESTIONS, stored.evidence.questions_digest, made.evidence.questions_digest),
        (ANSWERS, stored.evidence.answers_digest, made.evidence.answers_digest),
        (ANSWERS, stored.advice and stored.advice.answers_digest, made.advice and made.advice.answers_digest),
    ):
        if was != now:
            why = f"{path.with_name(name)} is missing, was changed, or is of another run: its digest differs"
            raise UserError(f"{path} cannot be proven", why=why, fix=REMAKE)
    if _decided(made) != _decided(stored):
        raise UserError(
            f"{path} says {stored.verdict.outcome}, and its replies do not say so",
            why=f"judged again, with graders of version {graders.VERSION}, they give {made.verdict.outcome}",
            fix=REMAKE,
        )
    return made


def _unproven(path: Path, e: UserError) -> UserError:
    fix = f"put {QUESTIONS} and {ANSWERS} of that run beside it, or {REMAKE}"
    return UserError(f"{path} cannot be proven: {e.what}", why=e.why, fix=fix)


def _decided(report: Report) -> object:
    """What a report decided, and no figure: another processor may round the last digit otherwise."""
    return report.verdict.outcome, [(c.effort, c.name, c.outcome) for c in report.verdict.checks]


def as_stored(path: Path) -> Report:
    """What the file says, unproven. Raises UserError when it is missing, cut short, of another version or changed."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        digest = data.pop("digest")
        if data.get("schema_version") != SCHEMA:
            why = f"it has version {data.get('schema_version')}, this tool reads version {SCHEMA}"
            raise UserError(f"{path} is a report of another version", why=why, fix=REMAKE)
        report = Report.model_validate(data)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no report {path}", fix=REMAKE) from None
    except (KeyError, AttributeError, TypeError, ValidationError) as e:
        raise UserError(f"{path} is not a report", why=reason(e), fix=REMAKE) from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is not JSON", why=f"cut short or damaged: {e}", fix=REMAKE) from None
    if report.digest != digest:
        raise UserError(f"{path} was changed after it was written", why="its digest differs", fix=REMAKE)
    return report
