"""What installed gates say of one evaluation, to hold the rules of benchmarks/rival_rules.py against.

Each function asks a package's own gate, as its documentation has it, and gives "released", "failed" or "open"; of a
gate of two verdicts never "open". Random numbers of a bootstrap differ, so a table at the edge may be told differently.
"""

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import rival_rules as rules


class Evaluation(NamedTuple):
    """One, and what is asked of it."""

    sides: Sequence[tuple[bool, bool]]  # base right, tuned right, of each question
    modules: Sequence[str]  # of each
    margin: float
    alpha: float

    def of(self, arm: int) -> list[bool]:
        return [s[arm] for s in self.sides]

    @property
    def flips(self) -> tuple[int, int]:
        """How many were lost and gained."""
        return sum(s == (True, False) for s in self.sides), sum(s == (False, True) for s in self.sides)


Ask = Callable[[Evaluation], str]


def statgate(e: Evaluation) -> str:
    from statgate.config import GateSettings
    from statgate.records import EvalRecord
    from statgate.verdict import evaluate_gate

    runs = [[EvalRecord(case_id=f"{i:05}", passed=right) for i, right in enumerate(e.of(arm))] for arm in (0, 1)]
    settings = GateSettings(alpha=2 * e.alpha, margin=e.margin, seed=0, permutations=100)
    return {"SHIP": "released", "BLOCK": "failed"}.get(evaluate_gate(*runs, settings).verdict.value, "open")


def _nemo(e: Evaluation, modules: Sequence[str] | None) -> str:
    from nemo_evaluator.config.gate_policy import BenchmarkGateDefaults, GatePolicy
    from nemo_evaluator.engine import gate

    deltas = [float(t) - float(b) for b, t in e.sides]
    low, high = gate._paired_delta_ci(deltas, clusters=modules)
    found = gate.BenchmarkGateResult(delta=sum(deltas) / len(deltas), delta_ci_lower=low, delta_ci_upper=high)
    policy = GatePolicy(defaults=BenchmarkGateDefaults(max_drop=e.margin)).resolve("it")
    gate._apply_thresholds(found, policy, allow_point_estimate=False)
    return {"PASS": "released", "BREACH": "failed"}.get(found.status, "open")


def nemo(e: Evaluation) -> str:
    return _nemo(e, None)


def nemo_by_category(e: Evaluation) -> str:
    return _nemo(e, e.modules)


def mlflow(e: Evaluation) -> str:
    from mlflow.models.evaluation.validation import MetricThreshold, ModelValidationFailedException, _validate

    # In whole questions, so that no rounding decides.
    base, tuned = (float(sum(e.of(arm))) for arm in (0, 1))
    least = MetricThreshold(threshold=base - e.margin * len(e.sides) - 1e-9, greater_is_better=True)
    try:
        _validate({"right": least}, {"right": tuned}, {"right": base})
    except ModelValidationFailedException:
        return "failed"
    return "released"


def toolkit_eval_harness(e: Evaluation) -> str:
    from toolkit_eval_harness.compare import CompareBudget, compare_reports
    from toolkit_eval_harness.report import EvalReport

    base, tuned = (
        EvalReport({}, {}, [{"id": str(i), "score": float(right)} for i, right in enumerate(e.of(arm))])
        for arm in (0, 1)
    )
    budget = CompareBudget(100 * e.margin / rules.BASE, confidence=1 - 2 * e.alpha, iterations=4000)
    return "released" if compare_reports(baseline=base, candidate=tuned, budget=budget)["passed"] else "failed"


def evalproof(e: Evaluation) -> str:
    from types import SimpleNamespace

    from evalproof import gate, stats
    from evalproof.config import GateConfig

    lost, gained = e.flips
    metric = SimpleNamespace(
        n_paired=len(e.sides), undecided=0, baseline=0.0, candidate=0.0, ci_low=0.0, ci_high=0.0, test="exact McNemar",
        delta=(gained - lost) / len(e.sides), p_value=stats.mcnemar_exact(lost, gained),
    )  # fmt: skip
    run = SimpleNamespace(errors=0, p95_latency_ms=0.0, cost_usd=0.0)
    both: Any = SimpleNamespace(
        metrics={"m": metric}, same_dataset=True, baseline=run, candidate=run, only_baseline=[], only_candidate=[]
    )
    asked = GateConfig(metric="m", max_drop=e.margin - 1e-12, alpha=e.alpha)
    return "failed" if gate.decide(both, asked).exit_code else "released"


def regressgate(e: Evaluation) -> str:
    from regressgate.gate import GateConfig, compare_reports
    from regressgate.run_report import CaseResult, RunReport, Trial

    def report(arm: int) -> Any:
        cases = [
            CaseResult(id=str(i), trials=[Trial(passed=right, latency_s=0.0)]) for i, right in enumerate(e.of(arm))
        ]
        return RunReport(regressgate_version="", created_at="", target="", repeats=1, cases=cases)

    config = GateConfig(alpha=e.alpha, margin=e.margin + 1e-12, permutations=4000)
    return "failed" if compare_reports(report(0), report(1), config).failed else "released"


def llm_evalgate(e: Evaluation) -> str:
    from llm_evalgate.bench.gate import RegressionGate
    from llm_evalgate.bench.runner import BenchmarkResult

    n = len(e.sides)
    base, tuned = (BenchmarkResult(e.of(arm), [True] * n, {}, n, None, "same") for arm in (0, 1))
    asked = RegressionGate(metrics=("accuracy",), threshold=e.margin + 1e-12, alpha=e.alpha, n_resamples=1000)
    return "released" if asked.check(tuned, base).passed else "failed"


def siggate(e: Evaluation) -> str:
    from siggate.config import GateConfig
    from siggate.decision import exit_code
    from siggate.gate import compare

    verdict = compare(
        [float(b) for b, _ in e.sides], [float(t) for _, t in e.sides], alpha=e.alpha, mei=e.margin, n_boot=4000
    )
    return "failed" if exit_code(verdict, GateConfig().fail_on) else "released"


def evalsig(e: Evaluation) -> str:
    from evalsig.compare.gate import gate
    from evalsig.types import ItemResult, RunFrame

    runs = [
        RunFrame("", "", "", "", [ItemResult(f"{i:05}", float(right)) for i, right in enumerate(e.of(arm))])
        for arm in (0, 1)
    ]
    verdict = gate(*runs, min_delta=e.margin - 1e-12, alpha=e.alpha).verdict.value
    return {"ALLOW": "released", "REJECT": "failed"}.get(verdict, "open")


class Rival(NamedTuple):
    """A gate that installs, the rule written down of it, and what asks the installed one."""

    version: str
    rules: tuple[tuple[rules.Rule, Ask], ...]


RIVALS = {
    "statgate": Rival("0.1.1", ((rules.statgate, statgate),)),
    "nemo-evaluator": Rival("0.3.0", ((rules.nemo, nemo), (rules.nemo_by_category, nemo_by_category))),
    "mlflow": Rival("3.17.2", ((rules.within_margin, mlflow),)),
    "toolkit-eval-harness": Rival("1.0.0", ((rules.toolkit_eval_harness, toolkit_eval_harness),)),
    "evalproof": Rival("0.2.1", ((rules.evalproof, evalproof),)),
    "regressgate": Rival("0.1.0", ((rules.regressgate, regressgate),)),
    "llm-evalgate": Rival("0.6.0", ((rules.llm_evalgate, llm_evalgate),)),
    "siggate": Rival("0.1.1", ((rules.siggate, siggate),)),
    "evalsig": Rival("0.1.2", ((rules.evalsig, evalsig),)),
}


def agreement(package: str, tables: Sequence[tuple[rules.Drawn, float]], alpha: float) -> str:
    """Of how many evaluations, one in each of `tables`, the installed package says what its rule here says."""
    version, rival, lines = importlib.metadata.version(package), RIVALS[package], []
    for rule, ask in rival.rules:
        same = 0
        for drawn, margin in tables:
            told = rule(drawn, margin, alpha)
            here = "released" if told.released[0] else "failed" if told.failed[0] else "open"
            same += ask(Evaluation(*one_by_one(drawn), margin, alpha)) == here
        lines.append(f"{package} {version}: {rule.__name__} agrees on {same} of {len(tables)} random tables")
    return "\n".join(lines)


def one_by_one(drawn: rules.Drawn) -> tuple[list[tuple[bool, bool]], list[str]]:
    """The questions of the first evaluation, and their modules."""
    sides, modules, both = [], [], int(drawn.both[0])
    for module, (lost, gained, size) in enumerate(zip(drawn.lost[0], drawn.gained[0], drawn.sizes, strict=True)):
        same = int(size - lost - gained)
        right = min(both, same)
        both -= right
        sides += [(True, False)] * lost + [(False, True)] * gained + [(True, True)] * right
        sides += [(False, False)] * (same - right)
        modules += [str(module)] * int(size)
    return sides, modules
