"""Efforts of other endpoints than GPT-OSS's: passed through as they are written, judged apart, never ordered."""

from pathlib import Path
from typing import Any

import pytest
from arms import BASE, TUNED, log, question_set, stub
from click.testing import CliRunner
from evaluation import built, reply
from evaluation import question_set as of

from evalsuite import questions, report
from evalsuite.asking.endpoint import Endpoint
from evalsuite.cli import main
from evalsuite.compare import compare
from evalsuite.plan import plan
from evalsuite.stub.server import Model, Script, serving
from evalsuite.views import html, summary
from tune import recipe
from tune.errors import UserError
from tune.evaluate import Evaluate

FIVE = ("minimal", "low", "medium", "high", "xhigh")


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_any_name_is_asked_for_and_only_the_prompts_own_three_are_trained_on(tmp_path: Path) -> None:
    path = written(
        tmp_path, '[evaluate]\nefforts = ["minimal", "x-high_2"]\nmax_tokens = {minimal = 8, x-high_2 = 9}\n'
    )
    asked = recipe.read(path).evaluate
    assert asked.efforts == ["minimal", "x-high_2"]
    assert plan(asked).tokens == 2 * 250 * (8 + 9)
    wrong = [f'[evaluate]\nefforts = ["{name}"]' for name in ("Low", "a b", "", "x" * 33)]
    for text in (*wrong, '[dataset]\nefforts = ["minimal"]', '[serve]\ndefault_effort = "minimal"'):
        with pytest.raises(UserError, match="1 problem"):
            recipe.read(written(tmp_path, text))


def test_a_run_at_efforts_of_another_endpoint(tmp_path: Path) -> None:
    asked = question_set(4)
    questions.write(tmp_path / "q.jsonl", asked)
    settings = Evaluate(efforts=["xhigh", "high", "minimal", "low"], max_tokens=300)
    tokens = {"minimal": 1, "low": 8, "high": 32, "xhigh": 4}
    more: dict[str, Any] = {"settings": settings, "question_file": tmp_path / "q.jsonl", "out": tmp_path / "out"}
    models = {BASE: Model(reasoning_tokens=tokens), TUNED: Model(reasoning_tokens=tokens, accuracy=0.5)}
    with serving(Script(models=models, questions=tmp_path / "q.jsonl", efforts=FIVE)) as url:
        made = compare({"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}, **more)
        assert {x["effort"] for x in log(url)} == set(settings.efforts)
    assert made.efforts == ("low", "high", "xhigh", "minimal")
    assert [c.effort for c in made.comparisons] == list(made.efforts)
    assert report.read(tmp_path / "out/report.json").verdict == made.verdict
    assert made.base_steering
    assert list(made.base_steering.tokens) == ["low", "high"]


def test_what_the_server_says_to_an_effort_that_it_does_not_know_is_what_is_told(tmp_path: Path) -> None:
    asked = question_set(1)
    (tmp_path / "work").mkdir()
    questions.write(tmp_path / "work/questions.jsonl", asked)
    written(tmp_path, '[evaluate]\nefforts = ["low", "xhigh"]\nmax_tokens = 64\n')
    with stub(tmp_path, asked) as url:
        told = ["compare", "--recipe", str(tmp_path / "recipe.toml"), "--base", url, "--tuned", url]
        done = CliRunner().invoke(main, [*told, "--base-model", BASE, "--tuned-model", TUNED])
        assert log(url) == []
    assert done.exit_code == 2
    assert "does not reply as asked at effort xhigh" in done.output
    assert "reasoning_effort must be one of low, medium, high" in done.output


def test_steering_is_judged_among_the_three_alone_and_the_report_says_so() -> None:
    set_, tokens = of(60), {"low": 10, "medium": 40, "high": 80, "minimal": 500, "xhigh": 1}
    told = [reply(q, arm, effort, reasoning_tokens=tokens[effort], text=f"{arm}\nANSWER: {q.answer}")
            for q in set_.questions for arm in ("base", "tuned") for effort in tokens]  # type: ignore[arg-type]  # fmt: skip
    r = built(set_, told, efforts=["minimal", "high", "low", "xhigh", "medium"])
    assert r.efforts == ("low", "medium", "high", "minimal", "xhigh")
    assert [(f.below, f.effort) for f in r.limits] == [("low", "medium"), ("medium", "high")]
    assert r.tuned_steering
    assert r.tuned_steering.monotone
    words = "Whether effort steers is judged from low to medium to high, without minimal, xhigh."
    assert words in summary.markdown(r)
    assert "Left out: minimal, xhigh" in html.render(r)
    alone = built(set_, [a for a in told if a.effort in ("low", "xhigh")], efforts=["low", "xhigh"])
    assert "Whether effort steers is not judged: that takes two of GPT-OSS's three." in summary.markdown(alone)
    known = built(set_, [a for a in told if a.effort in ("low", "high")])
    assert "without" not in summary.markdown(known).split("| effort")[0]
    assert "Left out:" not in html.render(known)
