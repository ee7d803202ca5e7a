"""Every command against the stub: what it prints, what it writes, its exit code, and its errors in one message."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import evaluation
import httpx
import paged
import pytest
from click.testing import CliRunner, Result
from evaluation import Some

from evalsuite import questions, report
from evalsuite.asking.endpoint import Endpoint, address, key
from evalsuite.cli import main
from evalsuite.questions import Question, QuestionSet
from evalsuite.speed import prompts
from evalsuite.speed.client import Target
from evalsuite.stub.server import Fault, Model, Script, serving
from evalsuite.views.following import step
from tune.errors import UserError
from tune.evaluate import Gated

BASE, TUNED = "nano@0123456789abcdef", "docs@fedcba9876543210"
SECRET = "sk-7hush"
Evalsuite = Callable[..., Result]


@pytest.fixture
def evalsuite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evalsuite:
    """Runs the command in a folder of its own. No command ends in a traceback, and none shows the key."""
    monkeypatch.chdir(tmp_path)
    evaluate = '[evaluate]\nefforts = ["low"]\nmodules = ["bisect"]\nquestions = 4\nbook = "closed"\ntaught = 0\n'
    (tmp_path / "recipe.toml").write_text(evaluate)

    def run(*args: object, code: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(a) for a in args])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert done.exit_code == code, done.output
        assert SECRET not in done.output
        return done

    return run


def question_set(count: int = 4) -> QuestionSet:
    made = tuple(
        Question(id=f"q{i}", kind="k", module="bisect", prompt=f"P{i}?", answer=f"A{i}", grader="exact")
        for i in range(count)
    )
    return QuestionSet(name="docs", python="3", questions=made)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Base and tuned behind one address, with a key."""
    asked = tmp_path / "work" / "questions.jsonl"
    asked.parent.mkdir()
    questions.write(asked, question_set())
    wordy = Model(reasoning_tokens={"low": 5, "medium": 16, "high": 48})  # as right, and not the same model
    models = {BASE: Model(), TUNED: wordy}
    with serving(Script(models=models, questions=asked, api_key=SECRET)) as found:
        yield found


@pytest.fixture
def arms(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("KEY", SECRET)
    return ["--base", url, "--tuned", url, "--base-model", BASE, "--tuned-model", TUNED, "--base-key-env", "KEY",
            "--tuned-key-env", "KEY"]  # fmt: skip


def written(path: Path, *, wrong: int = 0, n: int = 100, tuned: str = TUNED, **more: Any) -> Path:
    """A report in which tuned gets the first `wrong` of `n` questions wrong, and base none; with its proof."""
    asked = question_set(n)
    replies = evaluation.both(asked, lambda arm, i: arm == "tuned" and i < wrong)
    evaluation.evaluated(path, asked, replies, evaluation.asked_of(asked, BASE, tuned), **more)
    return path


def test_questions_are_made_and_verified(evalsuite: Evalsuite, tmp_path: Path) -> None:
    done = evalsuite("questions")
    made = questions.read(tmp_path / "work" / "questions.jsonl")
    assert len(made.questions) == 4
    assert f"questions: 4 in {Path('work/questions.jsonl')}, digest {made.digest[:12]}" in done.stdout
    (tmp_path / "recipe.toml").write_text("[evaluate]\ntaught = 0\n")
    assert "names no modules" in evalsuite("questions", code=2).output


def test_a_set_that_holds_nothing_out_is_refused_before_anything_is_asked(
    evalsuite: Evalsuite, url: str, arms: list[str], tmp_path: Path
) -> None:
    asked = question_set()
    taught = tuple(q.model_copy(update={"split": "taught"}) for q in asked.questions)
    questions.write(tmp_path / "work" / "questions.jsonl", asked.model_copy(update={"questions": taught}))
    refused = evalsuite("compare", *arms, "--no-speed", code=2).output
    assert "no question in work/questions.jsonl is held out" in refused
    assert f"fix: {questions.NONE_HELD_OUT}" in refused
    assert httpx.get(f"{url}/requests", headers={"authorization": f"Bearer {SECRET}"}).json() == []


def test_open_book_questions_come_of_collected_pages_and_of_no_others(
    evalsuite: Evalsuite, url: str, arms: list[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('"closed"', '"both"').replace("taught = 0", "taught = 3"))
    refused = evalsuite("questions", code=2).output
    assert "holds no finished pages" in refused
    assert "fix: tune collect" in refused
    held = paged.of(["bisect"])
    paged.collected(tmp_path / "work", ["bisect"], held, paged.of(["shutil"]))
    evalsuite("questions")
    made = questions.read(tmp_path / "work" / "questions.jsonl")
    assert [q.split for q in made.questions] == ["held-out"] * 4 + ["taught"] * 3
    paged.collected(tmp_path / "work", ["bisect"], held, paged.of(["csv"]))
    refused = evalsuite("compare", *arms, "--no-speed", code=2).output
    assert "work/questions.jsonl was made from other pages than those in work/pages" in refused
    assert "why: pages.jsonl differs" in refused
    assert "fix: evalsuite questions --out work/questions.jsonl, then tune dataset" in refused
    assert httpx.get(f"{url}/requests", headers={"authorization": f"Bearer {SECRET}"}).json() == []


def test_compare_writes_a_report_that_names_what_was_asked(
    evalsuite: Evalsuite, arms: list[str], tmp_path: Path
) -> None:
    shown = json.loads(evalsuite("compare", *arms, "--no-speed", "--json").stdout)
    made, work = report.read(tmp_path / "work" / "report.json"), tmp_path / "work"
    assert (made.base_model, made.tuned_model) == (BASE, TUNED) == (shown["base_model"], shown["tuned_model"])
    assert made.evidence.asked_digest == question_set().digest
    assert "whether tuning taught it to read; they say nothing about a model of another size." in made.note
    assert made.throughput is None
    assert all(SECRET.encode() not in p.read_bytes() for p in work.iterdir())
    assert sorted(p.name for p in work.iterdir()) == [
        "answers.jsonl", "questions.jsonl", "report.html", "report.json"
    ]  # fmt: skip
    again = evalsuite("compare", *arms, "--no-speed")
    assert "0 requests to" in again.stderr
    assert again.stdout.startswith("## INCONCLUSIVE: ")
    assert "next: evalsuite gate work/report.json" in again.stdout


def test_answers_to_another_set_stay_on_file_and_are_named(
    evalsuite: Evalsuite, arms: list[str], tmp_path: Path
) -> None:
    evalsuite("compare", *arms, "--no-speed")
    told = (tmp_path / "work" / "answers.jsonl").read_bytes()
    asked = tmp_path / "work" / "questions.jsonl"
    questions.write(asked, question_set(3))
    again = evalsuite("compare", *arms, "--no-speed")
    assert "2 answers on file are to questions or at efforts that are not asked" in again.stderr
    assert "0 requests to" in again.stderr
    assert "not asked, not counted: 2" in again.stdout
    assert (tmp_path / "work" / "answers.jsonl").read_bytes().startswith(told)
    evalsuite("gate", "work/report.json", code=2)


def test_a_question_set_of_another_recipe_is_refused_before_anyone_is_asked(
    evalsuite: Evalsuite, url: str, arms: list[str], tmp_path: Path
) -> None:
    made = tmp_path / "work" / "questions.jsonl"
    evalsuite("questions")
    recipe = (tmp_path / "recipe.toml").read_text()
    for section, words in (
        (recipe.replace("questions = 4", "questions = 300"), "questions was 4, and [evaluate] has 300"),
        (recipe + "seed = 7\n", "seed was 0, and [evaluate] has 7"),
        (recipe + 'answer_rule = "ANSWER: <value>"\n', "answer_rule was End with one line: ANSWER: <value>, and"),
        (recipe.replace('"closed"', '"open"'), "book was closed, and [evaluate] has open"),
        (recipe.replace("taught = 0", "taught = 9"), "taught was 0, and [evaluate] has 9"),
        (recipe.replace("bisect", "heapq"), "modules was ['bisect'], and [evaluate] has ['heapq']"),
    ):
        (tmp_path / "recipe.toml").write_text(section)
        refused = evalsuite("compare", *arms, "--no-speed", code=2).output
        assert f"{made.relative_to(tmp_path)} is not the question set of this recipe" in refused
        assert words in refused
        assert f"fix: evalsuite questions --out {made.relative_to(tmp_path)}, then tune dataset" in refused
    assert httpx.get(f"{url}/requests", headers={"authorization": f"Bearer {SECRET}"}).json() == []


def test_the_questions_lie_beside_the_report_and_no_other_set_is_written_over(
    evalsuite: Evalsuite, arms: list[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    questions.write(other, question_set(5))
    before = (tmp_path / "work" / "questions.jsonl").read_bytes()
    refused = evalsuite("compare", *arms, "--no-speed", "--questions", other, code=2)
    assert "is another question set than" in refused.output
    assert (tmp_path / "work" / "questions.jsonl").read_bytes() == before
    evalsuite("compare", *arms, "--no-speed", "--questions", other, "--out", "apart")
    assert (tmp_path / "apart" / "questions.jsonl").read_bytes() == other.read_bytes()
    assert "INCONCLUSIVE" in evalsuite("gate", "apart/report.json", code=2).output


def test_a_failed_speed_measurement_keeps_the_report(evalsuite: Evalsuite, tmp_path: Path) -> None:
    """The endpoints answer the questions, and refuse every prompt of the load."""
    asked = tmp_path / "q.jsonl"
    questions.write(asked, question_set(1))
    broken = Model(faults=(Fault(kind="500", prompt=prompts.TASK),))
    with serving(Script(models={BASE: broken, TUNED: broken}, questions=asked)) as url:
        args = ["compare", "--base", url, "--tuned", url, "--base-model", BASE, "--tuned-model", TUNED]
        evalsuite(*args, "--questions", asked)
    made = report.read(tmp_path / "work" / "report.json")
    assert made.comparisons[0].paired == 1
    assert made.throughput is not None
    assert made.throughput.void.startswith("base, ")
    assert made.throughput.void.endswith("does not answer: http 500")
    assert "does not answer: http 500" in (tmp_path / "work" / "report.html").read_text()


@pytest.mark.parametrize(
    ("wrong", "n", "more", "outcome", "code"),
    [
        (0, 100, {}, "PASS", 0),
        (40, 100, {}, "FAIL", 1),
        (0, 5, {}, "INCONCLUSIVE", 2),
        (0, 100, {"tuned": BASE}, "INVALID", 3),
    ],
)
def test_the_gate_leaves_with_its_verdict_and_says_the_note(
    evalsuite: Evalsuite, tmp_path: Path, wrong: int, n: int, more: dict[str, Any], outcome: str, code: int
) -> None:
    path = written(tmp_path / "r.json", wrong=wrong, n=n, note="nano only", **more)
    text = evalsuite("gate", path, code=code).stdout.splitlines()
    assert text[0].startswith(f"{outcome}: ")
    assert text[1] == "nano only"
    facts = json.loads(evalsuite("gate", path, "--json", code=code).stdout)
    assert (facts["outcome"], facts["note"], facts["base"]) == (outcome, "nano only", BASE)
    after = ["next: raise questions"] if outcome == "INCONCLUSIVE" else []
    assert [*facts["reasons"], *after] == [line.partition(" to about ")[0] for line in text[2:]]


OWN, MADE = {"questions_file": "own.csv"}, {"questions": 200, "modules": ["ast"]}


@pytest.mark.parametrize(
    ("made", "limits", "split", "after"),
    [
        ({}, {}, "held-out", "raise questions to about N in [evaluate] of the recipe"),
        (MADE | {"questions": 5}, {}, "held-out", "raise questions to about N in [evaluate] of the recipe"),
        (
            MADE,
            {},
            "held-out",
            "name more modules in [evaluate] of the recipe (these gave 5 questions of 200, and about N are needed)",
        ),
        (OWN, {}, "held-out", "add questions to own.csv (5 held-out ones are there, and about N are needed)"),
        (OWN, {}, "general", "raise general to about N in [evaluate] of the recipe"),
        (
            {},
            {},
            "both",
            "raise questions to about N in [evaluate] of the recipe "
            "and raise general to about N in [evaluate] of the recipe",
        ),
        (
            OWN | {"seed": 0},
            {},
            "forgotten",
            "add some of split general to own.csv (the templates give 1499 general questions, and about N are needed)",
        ),
        (
            {},
            {},
            "forgotten",
            "widen forgetting_margin, or tune so that less is forgotten "
            "(the templates give 1499 general questions, and about N are needed)",
        ),
        ({}, {"truncated": 0.02}, "limit", ""),
        ({}, {"truncated": 0.04}, "limit", "raise questions to about N in [evaluate] of the recipe"),
    ],
)
def test_what_an_inconclusive_gate_asks_for_is_what_would_decide(
    evalsuite: Evalsuite, tmp_path: Path, made: dict[str, Any], limits: dict[str, float], split: str, after: str
) -> None:
    Path("recipe.toml").unlink()
    asked = evaluation.question_set(100).questions
    few = evaluation.question_set(105).questions[100:]
    others = tuple(
        q.model_copy(update={"split": "general", "id": f"g{q.id}", "prompt": f"General {q.prompt}"}) for q in few
    )
    more = {"forgetting_margin": 0.002} if split == "forgotten" else {}
    parts = {"held-out": few, "forgotten": (*asked, *others), "general": (*asked, *others), "both": (*few, *others)}
    set_ = QuestionSet(name="docs", python="", made=made, questions=parts.get(split, asked))
    replies = evaluation.both(set_)
    if split == "limit":  # three of a hundred, in both arms
        cut = [q.id for q in asked[:3]]
        replies = [r for r in replies if r.question not in cut]
        replies += [evaluation.reply(q, arm, outcome="truncated") for q in asked[:3] for arm in ("base", "tuned")]
    evaluation.evaluated(tmp_path / "r.json", set_, replies, limits=Gated(**limits), **more)
    said = evalsuite("gate", "r.json", code=2).stdout.splitlines()
    assert said[0].startswith("INCONCLUSIVE")
    steps = [re.sub(r"about \d+", "about N", line) for line in said if line.startswith("next: ")]
    assert steps == ([f"next: {after}, then evalsuite questions and evalsuite compare"] if after else [])


def test_no_more_questions_are_asked_for_where_they_would_not_help(evalsuite: Evalsuite) -> None:
    """A loss that enough questions show, and a verdict that stands, whatever other checks leave open."""
    Path("recipe.toml").unlink()
    many, few = evaluation.question_set(400), evaluation.question_set(60)
    for set_, told, code, after in (
        (many, evaluation.flipped(many, 26, 14, base_right=240), 2, "next: tune otherwise"),
        (
            few,
            evaluation.flipped(few, 5, 5, base_right=36) + evaluation.flipped(few, 20, 1, base_right=36, effort="high"),
            1,
            "",
        ),
    ):
        evaluation.evaluated(Path("r.json"), set_, told)
        steps = [
            line for line in evalsuite("gate", "r.json", code=code).stdout.splitlines() if line.startswith("next: ")
        ]
        assert [line.partition(" (")[0] for line in steps] == ([after] if after else [])


TAUGHT = [Some(1000, 900, 5, 5), Some(20, 10, 1, 1, split="taught")]


@pytest.mark.parametrize(
    ("some", "made", "policy", "after"),
    [
        (TAUGHT, {"taught": 20}, True, "raise taught in [evaluate]"),
        (TAUGHT, {"taught": 50}, True,
         "collect more pages to ask about (these gave 20 taught questions of 50)"),
        (TAUGHT, OWN, True, "add taught questions to own.csv"),
        ([Some(1000, 900, 5, 5, kind="open-a")], {}, True, "raise questions or taught in [evaluate]"),
        ([Some(1000, 255, 30, 30, guess=0.25)], {}, False, "train longer, or ask what base can answer"),
    ],
)  # fmt: skip
def test_what_is_not_shown_to_be_better_asks_for_what_could_show_it(
    some: list[Some], made: dict[str, Any], policy: bool, after: str
) -> None:
    set_, told = evaluation.several(*some)
    set_ = set_.model_copy(update={"made": made})
    r = evaluation.built(set_, told, require_gain=policy)
    assert r.verdict.outcome == "INCONCLUSIVE"
    assert step(r).startswith(f"next: {after}")


def test_the_gate_refuses_what_was_not_judged_as_the_recipe_asks(evalsuite: Evalsuite, tmp_path: Path) -> None:
    loose = written(tmp_path / "r.json", wrong=10, margin=0.3)
    said = evalsuite("gate", loose, code=2).output
    assert "was not judged as recipe.toml asks for" in said
    assert "fix: evalsuite compare --base URL --tuned URL --recipe recipe.toml" in said
    assert "it has margin 0.3, and the recipe has 0.05" in said
    (tmp_path / "wide.toml").write_text('[evaluate]\nefforts = ["low"]\nmargin = 0.3\n')
    assert evalsuite("gate", loose, "--recipe", "wide.toml").stdout.startswith("PASS")
    (tmp_path / "more.toml").write_text('[evaluate]\nefforts = ["low", "high"]\nmargin = 0.3\nalpha = 0.01\n')
    said = evalsuite("gate", loose, "--recipe", "more.toml", code=2).output
    assert "nothing at effort high" in said
    assert "it has alpha 0.05, and the recipe has 0.01" in said
    assert "there is no none.toml" in evalsuite("gate", loose, "--recipe", "none.toml", code=2).output
    other = '[evaluate]\nefforts = ["low"]\nmargin = 0.3\nmax_tokens = 64\ntemperature = 0.7\nmodules = ["ast"]\n'
    (tmp_path / "other.toml").write_text(other)
    said = evalsuite("gate", loose, "--recipe", "other.toml", code=2).output
    assert "it has max_tokens 256, and the recipe has 64" in said
    assert "it has temperature 0, and the recipe has 0.7" in said
    assert "it has questions about bisect, and the recipe's modules are ast" in said
    fewer = '[evaluate]\nefforts = ["low"]\nmargin = 0.3\nmodules = ["bisect", "heapq"]\nquestions = 101\n'
    (tmp_path / "fewer.toml").write_text(fewer)
    said = evalsuite("gate", loose, "--recipe", "fewer.toml", code=2).output
    assert "it has no question about heapq, and the recipe's modules are bisect, heapq" in said
    assert "it has 100 held-out questions, made by hand, and the recipe has questions = 101" in said
    (tmp_path / "recipe.toml").unlink()
    assert evalsuite("gate", loose).stdout.startswith("PASS")


def test_a_report_alone_proves_nothing(evalsuite: Evalsuite, tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", wrong=40)
    (tmp_path / "alone").mkdir()
    path.rename(tmp_path / "alone" / "r.json")
    for command in ("gate", "report"):
        assert "cannot be proven" in evalsuite(command, "alone/r.json", code=2).output


def test_report_views(evalsuite: Evalsuite, tmp_path: Path) -> None:
    path = written(tmp_path / "r.json")
    assert evalsuite("report", path).stdout.startswith("## PASS: ")
    views = ["--html", "p.html", "--junit", "j.xml", "--markdown", "s.md"]
    assert evalsuite("report", path, *views).stdout == ""
    evalsuite("report", path, "--markdown", "s.md")
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    assert 'failures="0"' in (tmp_path / "j.xml").read_text()
    assert (tmp_path / "s.md").read_text().count("## PASS") == 2


def test_bench_of_one_endpoint_and_of_two(evalsuite: Evalsuite, arms: list[str], url: str) -> None:
    load = ["--blocks", 2, "--requests", 2, "--max-tokens", 8]
    bare = url.removesuffix("/v1")
    one = CliRunner().invoke(
        main, [str(a) for a in ("bench", "--base", bare, "--base-model", "docs", "--base-key-env", "KEY", *load)]
    )
    assert one.exit_code in {0, 3}, one.output  # a busy machine makes a run void, rightly
    found = json.loads(one.stdout)
    assert (found["arms"]["base"]["model"], found["arms"]["base"]["url"]) == (TUNED, url)
    assert (one.exit_code == 3) == bool(found["void"])
    two = json.loads(CliRunner().invoke(main, ["bench", *arms, *map(str, load)]).stdout)
    assert {arm: f["model"] for arm, f in two["arms"].items()} == {"base": BASE, "tuned": TUNED}
    assert one.stdout.count('"seed": ') == 2
    assert found["prompts"]["seed"] == found["settings"]["seed"] != two["settings"]["seed"]  # another for every run
    assert (found["prompts"]["distinct"], found["prompts"]["lengths"]) == (6, "128-384")


def test_bench_takes_prompts_a_trace_and_a_service_level(arms: list[str], tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    (tmp_path / "trace").write_text("0\n0.01\n0.02\n")
    common = ["bench", *arms, "--blocks", "2", "--max-tokens", "8", "--seed", "5"]
    own = [*common, "--prompts", str(tmp_path / "own.jsonl"), "--trace", str(tmp_path / "trace")]
    run = CliRunner().invoke(main, [*own, "--slo-ttft-ms", "0.001", "--slo-tpot-ms", "60000"])
    found = json.loads(run.stdout)
    assert "2 distinct prompts for 8 requests: they repeat" in run.stderr
    assert (found["settings"]["arrivals"], found["settings"]["requests"], found["settings"]["seed"]) == ("trace", 3, 5)
    assert found["settings"]["slo"] == {"ttft_s": 1e-6, "ttfa_s": None, "tpot_s": 60.0, "e2e_s": None}
    assert found["arms"]["base"]["pooled"]["goodput"] == 0
    met = json.loads(CliRunner().invoke(main, [*common, "--requests", "2", "--slo-ttft-ms", "60000"]).stdout)
    assert met["arms"]["base"]["pooled"]["goodput"] == 1
    assert met["settings"]["arrivals"] == "closed"
    refused = CliRunner().invoke(main, [*common, "--arrivals", "constant"])
    assert (refused.exit_code, "--rate" in refused.output) == (2, True)


@pytest.mark.parametrize(
    "option",
    [
        *(f"bench --{name} {bad}" for name in ("rate", "slo-ttft-ms", "slo-tpot-ms") for bad in ("nan", "inf", "0")),
        *(f"bench --{name} 0" for name in ("blocks", "requests", "concurrency", "max-tokens")),
        "bench --max-tokens 131073",
        "bench --prompt-tokens 9999999",
        "bench --seed -1",
        *(f"calibrate --{name} {bad}" for name in ("ttft-ms", "gap-ms") for bad in ("nan", "inf", "-1", "60000")),
        "calibrate --tokens 131073",
        "questions check none.jsonl --max-contamination nan",
    ],
)
def test_a_senseless_amount_is_refused_before_anyone_is_asked(evalsuite: Evalsuite, option: str) -> None:
    *command, name, value = option.split()
    silent = ["--base", "http://127.0.0.1:9/v1"] if command == ["bench"] else []  # nobody listens there
    refused = evalsuite(*command, *silent, name, value, code=2).output
    assert any(says in refused for says in (f"'{name}'", "is no length of a prompt", "a reply would take")), refused


def test_wrong_options_are_said_in_one_message(
    evalsuite: Evalsuite, arms: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORN", f"{SECRET}\n")
    for command in ("bench", "compare"):
        one = [command, "--base", url, "--tuned", url]
        assert "variable MISSPELT is not set" in evalsuite(*one, "--base-key-env", "MISSPELT", code=2).output
        assert "key in $TORN holds a line break" in evalsuite(*one, "--base-key-env", "TORN", code=2).output
        several = evalsuite(*one, "--base-key-env", "KEY", code=2).output
        assert "serves several models" in several
        assert "--base-model" in several
        with_password = url.replace("http://", f"http://u:{SECRET}@")
        assert "holds a user name" in evalsuite(command, "--base", with_password, "--tuned", url, code=2).output
    assert "there is no no/recipe.toml" in evalsuite("compare", *arms, "--recipe", "no/recipe.toml", code=2).output
    assert "No such option" in evalsuite("gate", "r.json", "--strict", code=2).output
    assert (
        "a load is a rate or a concurrency" in evalsuite("bench", *arms, "--rate", 1, "--concurrency", 1, code=2).output
    )


def test_files_that_cannot_be_read_or_written_are_said(evalsuite: Evalsuite, tmp_path: Path) -> None:
    path = written(tmp_path / "r.json")
    assert "cannot be used" in evalsuite("report", path, "--html", "no/page.html", code=2).output
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "is not JSON" in evalsuite("gate", "deep.json", code=2).output
    assert "there is no report" in evalsuite("gate", "none.json", code=2).output


@pytest.mark.parametrize("bad", [f"http://u:{SECRET}@host/v1", f"http://{SECRET}@host", f"http://host/v1?key={SECRET}",
                                 f"u:{SECRET}@host/v1", f"http://u:{SECRET}@[", f"http://host/v1#{SECRET}",
                                 f"ftp://u:{SECRET}@host"])  # fmt: skip
def test_what_may_be_a_secret_in_an_address_is_refused_and_not_shown(bad: str) -> None:
    for made in (lambda: Endpoint(url=bad), lambda: Target(url=bad, model="m")):
        with pytest.raises(UserError) as e:
            made()
        assert SECRET not in str(e.value)


@pytest.mark.parametrize("bad", ["", "localhost:8000", "http://", "http://h:x/v1", "http://h/v 1", "http://h/\n"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(UserError, match="not an http"):
        address(bad)


def test_a_key_is_one_printable_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in (f"{SECRET}\n", f"{SECRET}\r\nX: y", f" {SECRET}", f"{SECRET}é", f"{SECRET}\x7f"):
        monkeypatch.setenv("KEY", bad)
        with pytest.raises(UserError, match=r"the key in \$KEY holds a line break or a character") as e:
            key("KEY")
        assert SECRET not in str(e.value)
    monkeypatch.setenv("KEY", SECRET)
    assert key("KEY") == SECRET


def test_a_question_set_comes_back_whatever_line_separators_it_holds(tmp_path: Path) -> None:
    odd = question_set(3).questions[2].model_copy(update={"prompt": "a\u2028b\u2029c\x85d\x0ce\nf\rg"})
    made = question_set(2).model_copy(update={"questions": (odd, *question_set(2).questions)})
    questions.write(tmp_path / "q.jsonl", made)
    assert questions.read(tmp_path / "q.jsonl") == made


def test_a_damaged_question_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    questions.write(path, question_set())
    whole = path.read_bytes()
    for text, words in (
        (whole[:-20], "is not a question set"),
        (whole[: whole[:-1].rfind(b"\n") + 1], "was changed after it was frozen"),
        (whole.replace(b"A2", b"A9"), "was changed after it was frozen"),
        (whole.replace(b'"schema_version": 5', b'"schema_version": 4'), "of another version"),
        (whole.replace(b'"name": "docs"', b'"name": "hard"'), "was changed after it was frozen"),
        (whole.replace(b'"python": "3"', b'"python": "4"'), "was changed after it was frozen"),
        (whole.replace(b'"made": {}', b'"made": {"seed": 1}'), "was changed after it was frozen"),
        (whole.replace(b'"left_out": {}', b'"left_out": {"unstable": 1}'), "was changed after it was frozen"),
        (b"{}\n", "is not a question set"),
        (b"", "is not a question set"),
        (b"[]\n", "is not a question set"),
        (b"\xff\xfe\x00", "is not a question set"),
        (b"[" * 100_000, "is not a question set"),
    ):
        path.write_bytes(text)
        with pytest.raises(UserError, match=words) as e:
            questions.read(path)
        assert e.value.fix == f"evalsuite questions --out {path}"
    for missing in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(UserError, match="there is no question set"):
            questions.read(missing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "Another?"}, "the id q0 stands 2 times"),
        ({"id": "q9"}, "q0, q9 ask the same"),
        ({"id": "q9", "answer": "Z"}, "q0, q9 ask the same"),  # and one of the two answers is wrong
    ],
)
def test_a_question_that_stands_twice_would_count_twice_and_is_refused(
    tmp_path: Path, change: dict[str, str], words: str
) -> None:
    once = question_set(2)
    twice = (*once.questions, once.questions[0].model_copy(update=change))
    with pytest.raises(UserError, match=words):
        QuestionSet(name="docs", python="3", questions=twice)
    path = tmp_path / "q.jsonl"
    questions.write(path, once.model_copy(update={"questions": twice}))  # as one who does not build it with us
    with pytest.raises(UserError, match=words) as e:
        questions.read(path)
    assert e.value.what == f"{path}: a question is in the set more than once"
    QuestionSet(name="d", python="3", questions=(*once.questions, twice[0].model_copy(
        update={"id": "q9", "developer": "Guess."})))  # fmt: skip
