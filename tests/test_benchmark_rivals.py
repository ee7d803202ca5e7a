"""benchmarks/gate_rivals.py, run small: what must hold of our gate, and of rules that take no evidence for evidence."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evalsuite.judging import exact, statistics

REPS = 4000
ALPHA = 0.05


@pytest.fixture(scope="module")
def rivals() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "gate_rivals.py"
    spec = importlib.util.spec_from_file_location("gate_rivals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)  # puts its folder on the path, for the rules beside it
    sys.path[:] = before
    return module


@pytest.fixture(scope="module")
def few(rivals: ModuleType) -> list:
    """Three cells, one of them grouped."""
    cells = [rivals.Cell(50, 10, 0.05, 0.02), rivals.Cell(200, 20, 0.05, 0.05), rivals.Cell(400, 20, 0.1, 0.05, 0.05)]
    return rivals.simulate(cells, ALPHA, REPS, 0, 200)


def rates(rows: list, gate: str) -> list[float]:
    return [r.false for r in rows if r.gate == gate]


def test_ours_releases_no_more_than_it_says_where_questions_are_drawn_one_by_one(rivals: ModuleType, few: list) -> None:
    error = 3 * (ALPHA * (1 - ALPHA) / REPS) ** 0.5
    alone = [r for r in few if not r.cell.together]
    assert max(rates(alone, "ours, by question alone")) <= ALPHA + error
    assert max(rates(alone, "ours")) <= ALPHA + error
    assert rivals.summary(alone, "ours", ALPHA, REPS).over == 0
    assert max(rates(alone, "paired Wald")) > 2 * ALPHA
    assert rates(few, "ours")[2] < rates(few, "ours, by question alone")[2] - 0.02


def test_no_evidence_of_a_loss_is_not_evidence_of_none(few: list) -> None:
    for gate in ("McNemar not significant", "evalproof", "regressgate", "llm-evalgate"):
        assert max(rates(few, gate)) > 0.5


def test_every_gate_has_a_row_in_every_cell_and_a_seed_gives_them_again(rivals: ModuleType, few: list) -> None:
    again = rivals.simulate([few[0].cell], ALPHA, REPS, 0, 200)
    assert again == [r for r in few if r.cell == few[0].cell]
    assert again != rivals.simulate([few[0].cell], ALPHA, REPS, 1, 200)
    assert [r.gate for r in few] == 3 * [g.name for g in rivals.gates(ALPHA)]
    for r in few:
        assert 0 <= r.false <= 1
        assert r.equal + r.failed <= 1 + 1e-9


def test_the_rules_of_ours_are_what_the_gate_says_of_one_evaluation(rivals: ModuleType) -> None:
    """As evalsuite.judging.paired says it, table by table."""
    from evalsuite.judging import clusters

    for drawn, margin in rivals.tables(3, 60):
        sides, modules = rivals.packages.one_by_one(drawn)
        lost, gained = int(drawn.lost.sum()), int(drawn.gained.sum())
        differences = [int(t) - int(b) for b, t in sides]
        low = min(exact.lower(lost, gained, len(sides), ALPHA), clusters.lower(differences, modules, ALPHA))
        worse = max(statistics.better(gained, lost), clusters.p_value([-d for d in differences], modules))
        found = rivals.rules.ours(drawn, margin, ALPHA)
        assert found.released[0] == (low > -margin)
        assert found.failed[0] == (low <= -margin and worse <= ALPHA)


# Right in both, gained, lost, n: of R. G. Newcombe (1998), and Bentur 2009 of Fagerland, Lydersen, Laake (2017),
# chapter 8, which takes the correction for continuity. Two-sided 95 %, to the digits printed.
@pytest.mark.parametrize(
    ("table", "low", "high", "digit"), [((36, 12, 2, 50), 0.0569, 0.3404, 1e-4), ((1, 7, 1, 21), 0.026, 0.507, 1e-3)]
)
def test_newcombes_interval_is_the_one_in_print(
    rivals: ModuleType, table: tuple[int, int, int, int], low: float, high: float, digit: float
) -> None:
    both, gained, lost, n = table
    drawn = rivals.rules.Drawn(np.array([[lost]]), np.array([[gained]]), np.array([both]), np.array([n]))
    newcombe = rivals.rules.newcombe
    assert newcombe(drawn, digit - low, 0.025).released[0]
    assert not newcombe(drawn, -low - digit, 0.025).released[0]
    assert not newcombe(drawn, digit - high, 0.025).failed[0]
    assert newcombe(drawn, -high - digit, 0.025).failed[0]


def test_an_installed_gate_is_held_against_its_rule(rivals: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    packages, rules = rivals.packages, rivals.rules

    def asked(e) -> str:
        lost, gained = e.flips
        return "released" if lost - gained <= e.margin * len(e.sides) + 1e-9 else "failed"

    monkeypatch.setattr(packages.importlib.metadata, "version", lambda _: "9.9")
    monkeypatch.setitem(packages.RIVALS, "it", packages.Rival("9.9", ((rules.within_margin, asked),)))
    tables = rivals.tables(0, 30)
    assert packages.agreement("it", tables, ALPHA) == "it 9.9: within_margin agrees on 30 of 30 random tables"
    monkeypatch.setitem(packages.RIVALS, "it", packages.Rival("9.9", ((rules.within_margin, lambda _: "open"),)))
    assert "agrees on 0 of 30" in packages.agreement("it", tables, ALPHA)
