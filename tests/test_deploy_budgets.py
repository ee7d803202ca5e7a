"""Time and money: how long a start is expected to take, what a month costs, and what the recipe allows of both."""

from datetime import timedelta

import pytest
from click.testing import CliRunner
from deployment import make_checkpoint, make_report
from test_deploy_checks import examine, ids, published

from deploy import budgets, cli, planning, sizing, startup
from deploy.spec import TARGETS
from serve.command import Options
from tune.deploy import Deploy
from tune.recipe import Recipe


def told(load, **options):
    return load._replace(options=Options.model_validate({**load.options.model_dump(), **options}))


@pytest.mark.parametrize(
    ("load", "seen"),
    [
        (published(24, 32, "mxfp4"), (158, 226)),  # `serve run`, one H200, caches empty, on two days
        (told(published(24, 32, "mxfp4"), profile="fast-start").placed("H200"), (128, 156)),
    ],
)
def test_the_estimate_is_within_its_factor_of_what_was_measured(load, seen):
    expected = startup.estimate("compose", load).seconds
    assert all(1 / startup.GOOD_TO < expected / seconds < startup.GOOD_TO for seconds in seen)


def test_each_graph_takes_its_time(tmp_path):
    load = published(24, 32, "mxfp4")
    few = startup.estimate("modal", told(load, profile="fast-start").placed("H200"))
    many = startup.estimate("modal", load.placed("H200"))
    assert many.engine - few.engine == pytest.approx((83 - 11) * startup.GRAPH, abs=1)
    folder = make_checkpoint(tmp_path / "merged").folder
    for profile, expected in (("fast-start", few), ("none", many)):
        recipe = Recipe.model_validate({"serve": {"max_model_len": 2048, "profile": profile}})
        assert planning.plan(recipe, folder, "modal").startup.engine == expected.engine


def test_a_larger_model_a_slower_disk_and_more_graphs_take_longer():
    small, large = published(24, 32, "mxfp4"), published(36, 128, "mxfp4")
    assert startup.estimate("modal", large).reads == pytest.approx(65, abs=3)  # 10^9 bytes, at one of them a second
    assert startup.estimate("kubernetes", small).reads > startup.estimate("modal", small).reads
    assert startup.estimate("modal", large).engine > startup.estimate("modal", small).engine
    eager = told(small, extra=("--enforce-eager",))
    assert startup.estimate("modal", eager).engine < startup.estimate("modal", small).engine / 1.5


def test_a_start_that_cannot_end_in_time_is_an_error_and_a_tight_one_a_warning(tmp_path):
    for seconds, expected in ((60, {"D025"}), (200, {"D026"}), (1800, set())):
        found = examine(tmp_path / str(seconds), gpu="B200", startup_seconds=seconds)
        assert ids(found) & {"D025", "D026"} == expected, seconds
    (short,) = budgets.time(Deploy(startup_seconds=60), "modal", published(24, 32, "mxfp4"))
    mended = int(short.fix.rpartition(" ")[2])
    assert budgets.time(Deploy(startup_seconds=mended), "modal", published(24, 32, "mxfp4")) == []


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"min_replicas": 1, "monthly_usd": 2000}, "D070"),  # 3.95 USD an hour
        ({"min_replicas": 1, "monthly_usd": 2900}, ""),
        ({"min_replicas": 0, "monthly_usd": 2000}, "D071"),
        ({"min_replicas": 1, "max_replicas": 2, "monthly_usd": 3000}, "D071"),
        ({"min_replicas": 9}, ""),
    ],
)
def test_what_a_month_costs_is_held_against_the_budget(tmp_path, section, expected):
    found = examine(tmp_path, **section)
    assert "".join(sorted(ids(found) & {"D070", "D071"})) == expected


def test_a_budget_without_a_known_price_is_told(tmp_path):
    found = examine(tmp_path, "sagemaker", monthly_usd=100)
    assert "no price of ml.p5.4xlarge is known" in next(f.what for f in found.findings if f.id == "D071")


def test_sagemaker_never_scales_to_nothing_and_is_reckoned_so():
    offer = sizing.Offer(machine="m", usd_hour=2.0, seen="2026-11-21")
    assert sizing.month(offer, *sizing.replicas("sagemaker", Deploy())) == (1460, 1460)
    assert sizing.month(offer, *sizing.replicas("modal", Deploy())) == (0, 1460)
    assert sizing.month(sizing.Offer(machine="m"), 1, 1) is None


@pytest.mark.parametrize(
    ("target", "section", "expected"),
    [
        ("modal", {}, (0, 3)),
        ("huggingface", {}, (0, 3)),
        ("compose", {}, (1, 1)),
        ("compose", {"min_replicas": 2}, (1, 1)),
        ("runpod", {}, (0, 3)),
        ("runpod", {"runpod": {"type": "pod"}}, (1, 1)),
        ("kubernetes", {}, (1, 1)),
        ("kubernetes", {"min_replicas": 2}, (2, 2)),
        ("kubernetes", {"kubernetes": {"kind": "kserve"}}, (0, 3)),
        ("sagemaker", {}, (1, 3)),
        ("skypilot", {}, (0, 3)),
        ("skypilot", {"skypilot": {"serve": False}}, (1, 1)),
    ],
)
def test_what_a_target_keeps_running_is_reckoned(target, section, expected):
    asked = Deploy.model_validate({"max_replicas": 3, **section})
    assert sizing.replicas(target, asked) == expected


def test_old_prices_warn():
    dated = sizing.hardware().dated
    assert budgets.prices(dated + timedelta(days=180)) == []
    (old,) = budgets.prices(dated + timedelta(days=181))
    assert (old.id, old.severity) == ("D072", "warning")


def test_check_and_plan_say_that_prices_are_old_and_a_render_does_not(tmp_path, monkeypatch):
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made)
    monkeypatch.setattr(budgets, "OLD_DAYS", -1)
    words = ["modal", "--checkpoint", str(made.folder)]
    for command in (["check", *words, "--report", str(proof)], ["plan", *words]):
        said = CliRunner().invoke(cli.main, command)
        assert said.exit_code == 0, said.output
        assert "warning D072" in said.output
    out = ["--report", str(proof), "--out", str(tmp_path / "out")]
    assert "D072" not in CliRunner().invoke(cli.main, ["render", *words, *out]).output
    assert "D072" not in (tmp_path / "out" / "README.md").read_text()  # the same inputs give the same bytes


def test_every_target_has_a_speed_with_its_source():
    assert set(sizing.hardware().reads) == set(TARGETS)
    assert all(row.source for row in sizing.hardware().reads.values())


@pytest.mark.parametrize(("gpu", "at_once"), [("H100", 1024), ("A100-80GB", 256), ("L40S", 256), ("B200", 1024)])
def test_no_more_requests_are_promised_than_the_engine_takes(gpu, at_once):
    load = published(24, 32, "mxfp4", tokens=1024)
    sized = sizing.on(gpu, sizing.hardware().gpu[gpu], load)
    assert sized.at_once == at_once
    assert sized.requests <= at_once
    told_so = "as many as the engine takes" in sized.words
    assert told_so == (sized.requests == at_once)
    asked = told(load, extra=("--max-num-seqs", "7"))
    assert sizing.on(gpu, sizing.hardware().gpu[gpu], asked).requests == 7
