"""What a comparison will take and can show: exact powers, held against simulated gates, and what is printed."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from evalsuite.cli import main
from evalsuite.judging import clusters, exact
from evalsuite.plan import CLAIMS, plan
from tune.evaluate import Evaluate


def test_a_gate_passes_as_often_as_its_plan_says():
    made = plan(Evaluate(questions=400, efforts=["low", "high"]))
    rng, gates = np.random.default_rng(3), 4000
    for row in made.rows:
        least = exact.passing(400, 0.05, 0.05)
        lost, gained, _ = rng.multinomial(400, [row.flips / 2, row.flips / 2, 1 - row.flips], (gates, 2 * CLAIMS)).T
        passed = np.all(gained >= least[lost], axis=0).mean()
        assert passed == pytest.approx(row.power, abs=4 * np.sqrt(0.25 / gates))


def test_questions_that_go_together_by_module_take_more_of_them():
    alone, few, many = (plan(Evaluate(questions=400, modules=[f"m{i}" for i in range(n)])) for n in (1, 5, 20))
    for a, b, c in zip(alone.rows, few.rows, many.rows, strict=True):
        assert a.power >= c.power >= b.power
        assert a.needed <= c.needed <= b.needed
    rng, gates, flips = np.random.default_rng(4), 400, 0.1
    drawn = rng.multinomial(np.full(5, 80), [flips / 2, flips / 2, 1 - flips], (gates, 2 * CLAIMS, 5))
    totals, names = drawn[..., 1] - drawn[..., 0], [f"m{i}" for i in range(5)]
    least = exact.passing(400, 0.05, 0.05)
    passed = [
        all(
            g[:, 1].sum() >= least[g[:, 0].sum()] and clusters.shown(t[None], np.full(5, 80), 0.05, 0.05)[0]
            for g, t in zip(drawn[i], totals[i], strict=True)
        )
        for i in range(gates)
    ]
    told = plan(Evaluate(questions=400, modules=names, efforts=["low", "high"])).rows[_at(flips)].power
    assert np.mean(passed) == pytest.approx(told, abs=4 * np.sqrt(0.25 / gates))


def test_the_number_of_questions_is_enough_and_hardly_more():
    for row in plan(Evaluate(efforts=["medium"])).rows:
        assert plan(Evaluate(questions=row.needed, efforts=["medium"])).rows[_at(row.flips)].power >= 0.8
        assert plan(Evaluate(questions=int(row.needed * 0.85), efforts=["medium"])).rows[_at(row.flips)].power < 0.8


def test_a_margin_that_nobody_can_ask_for_has_its_number_too():
    """And no error: the gate gives this advice beside a verdict."""
    needed = [row.needed for row in plan(Evaluate(margin=1e-4)).rows]
    assert needed == sorted(needed)
    assert 10**7 < needed[0] < 10**9


def test_more_efforts_take_more_questions():
    one, three = plan(Evaluate(efforts=["low"])), plan(Evaluate())
    assert all(a.power > b.power and a.needed < b.needed for a, b in zip(one.rows, three.rows, strict=True))


def test_requests_and_tokens_are_of_both_arms_at_each_efforts_own_limit():
    made = plan(Evaluate(questions=30, taught=10, max_tokens={"low": 10, "medium": 20, "high": 50}))
    assert (made.requests, made.tokens) == (2 * 40 * 3, 2 * 40 * (10 + 20 + 50))


def test_it_needs_a_recipe_and_no_more(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[evaluate]\nquestions = 120\ntaught = 0\nefforts = ["low"]\nmax_tokens = 100\n')
    done = CliRunner().invoke(main, ["plan", "--recipe", str(recipe)])
    assert done.exit_code == 0, done.output
    assert "240 requests, at most 24,000 tokens" in done.output
    assert "two equal models pass all 2 checks" in done.output
    found = json.loads(CliRunner().invoke(main, ["plan", "--recipe", str(recipe), "--json"]).output)
    assert [row[0] for row in found["rows"]] == [0.02, 0.05, 0.1, 0.2]
    lines = done.output.splitlines()[-4:]
    assert [line.split() for line in lines] == [
        [f"{flips:.0%}", f"{power:.0%}", f"{needed:,}"] for flips, power, needed in found["rows"]
    ]


def _at(flips: float) -> int:
    return [row.flips for row in plan(Evaluate()).rows].index(flips)
