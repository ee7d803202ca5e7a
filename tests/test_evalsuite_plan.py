"""What a comparison will take and can show: exact powers, held against simulated gates, and what is printed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from arms import question_set
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evalsuite import questions
from evalsuite.cli import main
from evalsuite.judging import clusters, exact, power, shares, statistics
from evalsuite.plan import CLAIMS, plan, words
from tune.evaluate import Evaluate

_SPEC = importlib.util.spec_from_file_location("gate_plan", Path(__file__).parents[1] / "benchmarks" / "gate_plan.py")
gate_plan = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gate_plan)


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
    recipe.write_text('[evaluate]\nmodules = ["a"]\nquestions = 120\ntaught = 0\nefforts = ["low"]\nmax_tokens = 100\n')
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


def test_a_set_that_was_made_is_counted_and_one_of_another_recipe_is_named(tmp_path):
    recipe, file = tmp_path / "recipe.toml", tmp_path / "work/questions.jsonl"
    recipe.write_text('[evaluate]\nmodules = ["a"]\nquestions = 900\nefforts = ["low"]\n')
    made = Evaluate(modules=["a"], questions=900, efforts=["low"]).about_questions
    asked = question_set(7).model_copy(update={"made": made})
    file.parent.mkdir()
    questions.write(file, asked)
    done = CliRunner().invoke(main, ["plan", "--recipe", str(recipe)])
    assert done.stdout.startswith("7 held-out questions and 0 taught ones, asked of base and tuned at low: 14 requests")
    assert done.stderr == ""
    recipe.write_text(recipe.read_text().replace("900", "800"))
    done = CliRunner().invoke(main, ["plan", "--recipe", str(recipe)])
    assert done.stdout.startswith("800 held-out questions and 50 taught ones")
    assert f"{file} is not the question set of this recipe, so this is what the recipe would make" in done.stderr


def test_without_a_held_out_question_there_is_no_plan(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[evaluate]\nquestions = 1600\n")
    done = CliRunner().invoke(main, ["plan", "--recipe", str(recipe)])
    assert done.exit_code == 2
    assert "no question is held out" in done.stderr
    assert "[evaluate] modules of the recipe, then tune collect" in done.stderr


def _at(flips: float) -> int:
    return [row.flips for row in plan(Evaluate()).rows].index(flips)


@given(st.integers(1, 60), st.sampled_from([0.025, 0.05, 0.2]), st.data())
def test_a_gain_is_planned_for_by_the_test_that_shows_it(n, alpha, data):
    lost = data.draw(st.integers(0, n))
    gained = data.draw(st.integers(0, n - lost))
    assert (gained >= power._better(n, alpha)[lost]) == (statistics.better(lost, gained) <= alpha)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.floats(0.01, 0.6), st.floats(0.02, 0.6))
def test_a_limit_is_planned_for_by_the_test_that_shows_it(n, share, limit):
    kept = [shares.share([i < k for i in range(n)], ["m"] * n, limit, 0.05).upper <= limit for k in range(n + 1)]
    assert power.kept(n, share, limit, 0.05) == pytest.approx(float(binom.pmf(np.arange(n + 1), n, share) @ kept))


def test_by_module_a_limit_and_a_gain_are_planned_for_as_they_are_shown():
    rng, n, often, names = np.random.default_rng(5), 60, 300, [f"m{i % 3}" for i in range(60)]
    drawn = rng.random((often, n))
    kept = [shares.share((row < 0.15).tolist(), names, 0.35, 0.05).upper <= 0.35 for row in drawn]
    change = [((row >= 0.04) & (row < 0.28)).astype(int) - (row < 0.04) for row in drawn]
    shown = [
        max(statistics.better(sum(each == -1), sum(each == 1)), clusters.p_value(each.tolist(), names)) <= 0.025
        for each in change
    ]
    for seen, told in (
        (kept, power.kept(n, 0.15, 0.35, 0.05, 3)),
        (shown, power.gains(n, 0.1, 0.2, 0.025, 3)),
    ):
        assert np.mean(seen) == pytest.approx(told, abs=4 * np.sqrt(0.25 / often))
        assert 0.2 < told < 0.9


def test_more_questions_or_a_larger_gain_show_more():
    for modules in (1, 8):
        chances = [power.gains(n, 0.1, gain, 0.025, modules) for n, gain in ((50, 0.1), (200, 0.1), (200, 0.2))]
        assert chances == sorted(chances)
        assert power.gains(6000, 0.1, 0.01, 0.025, modules) == pytest.approx(
            power.gains(5000, 0.1, 0.01 * (6000 / 5000) ** 0.5, 0.025, modules), abs=0.03
        )
    assert power.gains(200, 0.1, 0.0, 0.025) < 0.025


@pytest.mark.parametrize("cell", [1, 5])
def test_whole_gates_of_limits_and_of_a_required_gain_pass_as_often_as_planned(cell):
    asked, *drawn = gate_plan.CELLS[cell]
    asked, gates = Evaluate.model_validate(asked), 100
    told = gate_plan.told(asked, *drawn)
    assert gate_plan.passed(asked, *drawn, gates, 1) == pytest.approx(told, abs=4 * np.sqrt(told * (1 - told) / gates))


def test_a_required_gain_is_said_to_be_none_of_equal_models_and_shown_by_size():
    made = plan(Evaluate(questions=100, taught=60, efforts=["low"], require_gain=True))
    said = words(made)
    assert "a gain is required, so two equal models are not to pass: by chance they do, at most 0.05" in said
    assert "chance that two equal models pass the other 2 checks" in said
    assert [row.questions for row in made.gains] == [60, 50] * 4
    for row in made.gains:
        assert list(row.chances) == sorted(row.chances)
        assert row.shown
        assert power.gains(row.questions, row.flips, row.shown, 0.025) >= made.target
        assert power.gains(row.questions, row.flips, row.shown - 0.01, 0.025) < made.target
    none = words(plan(Evaluate(questions=100, taught=0, book="closed", efforts=["low"], require_gain=True)))
    assert "every report will be INVALID: a gain is required, and the set has neither" in none


def test_limits_are_planned_for_or_named_as_left_out():
    plain, limits = {"questions": 150, "efforts": ["low", "high", "minimal"]}, {"truncated": 0.05, "contamination": 0.0}
    made, without = (plan(Evaluate(**plain, limits=more)) for more in (limits, {"steering": False}))
    assert (made.checks, without.checks) == (2 * 3 + 3 + 1, 2 * 3)
    assert (made.left_out, without.left_out, without.expected) == (("contamination",), (), ())
    assert all(a.power < b.power and a.needed >= b.needed for a, b in zip(made.rows, without.rows, strict=True))
    said = words(made)
    assert "expected of truncated replies: 25% of what the limit allows" in said
    assert "expected of reasoning: longer at the higher effort on 75% of the questions" in said
    assert "not foreseen, and left out: contamination" in said


def test_of_ones_own_questions_those_of_the_file_are_counted(tmp_path):
    rows = [{"prompt": f"P{i}?", "answer": "a", "grader": "exact", "module": f"m{i % 3}"} for i in range(7)]
    rows += [{"prompt": f"T{i}?", "answer": "a", "grader": "exact", "split": "taught"} for i in range(2)]
    rows += [{"prompt": f"F{i}?", "points": ["yes"]} for i in range(4)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[evaluate]\nquestions_file = "own.jsonl"\nefforts = ["low"]\ntutorial = true\n')
    done = CliRunner().invoke(main, ["plan", "--recipe", str(recipe), "--json"])
    found = json.loads(done.output)
    assert [found[key] for key in ("questions", "taught", "advice", "requests")] == [7, 2, 14, 2 * (7 + 2 + 14)]
    recipe.write_text(recipe.read_text() + "questions = 50\n")  # the file is not finished
    assert '"questions": 50,' in CliRunner().invoke(main, ["plan", "--recipe", str(recipe), "--json"]).output
    (tmp_path / "own.jsonl").unlink()
    assert '"advice": 10,' in CliRunner().invoke(main, ["plan", "--recipe", str(recipe), "--json"]).output


def test_a_contamination_limit_without_a_dataset_to_look_into_is_said_beforehand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, limit = tmp_path / "recipe.toml", "[evaluate.limits]\ncontamination = 0.0\n"
    said = []
    for more in ("", limit, limit):
        recipe.write_text('[evaluate]\nmodules = ["a"]\nquestions = 120\nefforts = ["low"]\n' + more)
        done = CliRunner().invoke(main, ["plan"])
        assert done.stdout.startswith("120 held-out questions")
        said.append("contamination looks into work/dataset, which is not there: tune dataset" in done.stderr)
        if said[-1]:
            (tmp_path / "work" / "dataset").mkdir(parents=True)
            (tmp_path / "work" / "dataset" / "dataset.json").write_text("{}")
    assert said == [False, True, False]
