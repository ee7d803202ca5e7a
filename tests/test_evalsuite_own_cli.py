"""`evalsuite questions` and its commands, as a team uses them: own questions to a verdict, shown, checked."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import evaluation
import paged
import pytest
from click.testing import CliRunner, Result

from evalsuite import questions, report
from evalsuite.cli import main
from evalsuite.own import check
from evalsuite.questions import Question, QuestionSet
from evalsuite.stub.server import Model, Script, serving
from tune import recipe
from tune.data import dataset
from tune.errors import UserError

BASE, TUNED = "nano@0123456789abcdef", "docs@fedcba9876543210"
CSV = "prompt,answer,grader\n" + "".join(f"What is {n} doubled?,{2 * n},literal\n" for n in range(40))
NAMED = '[evaluate]\nefforts = ["low"]\nquestions_file = "own.csv"\n'
Evalsuite = Callable[..., Result]


@pytest.fixture
def evalsuite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evalsuite:
    """Runs the command in a folder with own.csv and a recipe that does not name it. No command ends in a traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text('[evaluate]\nefforts = ["low"]\n')
    (tmp_path / "own.csv").write_text(CSV)

    def run(*args: object, code: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(a) for a in args])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert done.exit_code == code, done.output
        return done

    return run


def trained_on(folder: Path, modules: list[str]) -> Path:
    """A real dataset of these modules' pages, made when no questions were frozen yet."""
    (folder / "recipe.toml").write_text('[evaluate]\nefforts = ["low"]\n[dataset]\neval_share = 0.3\n')
    paged.collected(folder / "work", [], [], paged.of(modules))
    dataset.build(recipe.read(folder / "recipe.toml"))
    return folder / "work" / "dataset"


def test_without_a_command_it_builds_and_build_is_the_same(evalsuite: Evalsuite, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        '[evaluate]\nmodules = ["bisect"]\nquestions = 4\nbook = "closed"\ntaught = 0\n'
    )
    first = evalsuite("questions", "--out", "a.jsonl")
    second = evalsuite("questions", "build", "--out", "b.jsonl")
    assert first.stdout.replace("a.jsonl", "b.jsonl") == second.stdout
    assert first.stdout.endswith("; next: evalsuite compare --questions a.jsonl --base URL --tuned URL\n")
    for usual in ([], ["--out", "work/questions.jsonl"]):
        assert evalsuite("questions", *usual).stdout.endswith("; next: tune dataset\n")
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()
    refused = evalsuite("questions", "--out", "c.jsonl", "show", code=2)
    assert "--out stands after the command: evalsuite questions show" in refused.output
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite", "questions", "--out", "d.jsonl"], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert Path("d.jsonl").read_bytes() == Path("a.jsonl").read_bytes()


def test_own_questions_go_the_whole_way_to_a_verdict_where_the_recipe_names_their_file(
    evalsuite: Evalsuite, tmp_path: Path
) -> None:
    taken = evalsuite("questions", "take", "own.csv")
    made = questions.read(Path("work/questions.jsonl"))
    assert taken.stdout == (
        f"questions: 40 in work/questions.jsonl, digest {made.digest[:12]}; "
        'next: add questions_file = "own.csv" to [evaluate] in recipe.toml\n'
    )
    models = {BASE: Model(), TUNED: Model(reasoning_tokens={"low": 5, "medium": 16, "high": 48})}
    with serving(Script(models=models, questions=Path("work/questions.jsonl"))) as url:
        arms = ["--base", url, "--tuned", url, "--base-model", BASE, "--tuned-model", TUNED, "--no-speed"]
        refused = evalsuite("compare", *arms, code=2).output
        assert "it was taken from own.csv, and [evaluate] names no questions_file" in refused
        assert 'fix: add questions_file = "own.csv" to [evaluate] of the recipe' in refused
        Path("recipe.toml").write_text(NAMED + "margin = 0.3\n")
        again = evalsuite("questions")
        assert again.stdout.endswith("; next: tune dataset\n")
        assert questions.read(Path("work/questions.jsonl")) == made
        evalsuite("compare", *arms)
    assert evalsuite("gate", "work/report.json").stdout.startswith("PASS: ")
    assert report.read(Path("work/report.json")).provenance["questions taken from"] == "own.csv"
    Path("own.csv").write_text(CSV.replace("0 doubled?,0", "0 doubled?,1"))
    for command in (["gate", "work/report.json"], ["compare", "--replay"]):
        refused = evalsuite(*command, code=2).output
        assert "own.csv is no longer the file that was asked" in refused
        assert "fix: put it back as it was, or: evalsuite questions, then tune dataset" in refused
        assert "sha256" not in refused
    Path("own.csv").unlink()  # nothing is left that the report could be held against
    for command in (["gate", "work/report.json"], ["compare", *arms]):
        refused = evalsuite(*command, code=2).output
        assert "there is no file own.csv" in refused
        assert "fix: put own.csv beside recipe.toml" in refused
    Path("other.csv").write_text(CSV)
    Path("recipe.toml").write_text(NAMED.replace("own.csv", "other.csv") + "margin = 0.3\n")
    assert (
        "questions_file own.csv, and the recipe has other.csv" in evalsuite("gate", "work/report.json", code=2).output
    )
    Path("recipe.toml").write_text('[evaluate]\nefforts = ["low"]\nmargin = 0.3\n')
    assert "it has book none, and the recipe has both" in evalsuite("gate", "work/report.json", code=2).output


def test_a_recipe_that_names_a_file_wants_its_questions_and_says_so_before_training(
    evalsuite: Evalsuite, tmp_path: Path
) -> None:
    Path("recipe.toml").write_text(NAMED)
    named = recipe.read(Path("recipe.toml"))
    paged.collected(tmp_path / "work", [], [], paged.of(["heapq", "bisect"]))
    with pytest.raises(UserError, match="there are no frozen questions to keep out of the training data"):
        dataset.build(named)
    evalsuite("questions")
    frozen = Path("work/questions.jsonl")
    named.evaluate.require_questions(frozen, questions.read(frozen).made)
    by_hand = QuestionSet(name="n", python="3", questions=(evaluation.question(1),))
    with pytest.raises(UserError, match=r"questions_file was None, and .* has own\.csv"):
        named.evaluate.require_questions(frozen, by_hand.made)
    Path("own.csv").write_text(CSV + "One more?,1,literal\n")
    with pytest.raises(UserError, match="is no longer the file that was asked") as e:
        dataset.build(named)
    assert e.value.fix.startswith("put it back as it was, or: evalsuite questions, then tune dataset")
    evalsuite("questions", "take")
    dataset.build(named)
    for questions_, ok in ((41, True), (42, False)):
        Path("recipe.toml").write_text(NAMED + f"questions = {questions_}\n")
        done = evalsuite("questions", "take", code=0 if ok else 2)
        assert ok or "there are 41 held-out questions, and [evaluate] questions = 42" in done.output
    Path("recipe.toml").write_text(NAMED + 'taught = 3\nbook = "open"\n')
    refused = evalsuite("questions", code=2).output
    assert "evaluate: book, taught shape generated questions, and questions_file names your own" in refused
    Path("recipe.toml").write_text("")
    assert "recipe.toml names no questions_file" in evalsuite("questions", "take", code=2).output


def test_fewer_general_questions_than_wanted_are_told_and_are_as_many_to_the_gate(
    evalsuite: Evalsuite, tmp_path: Path
) -> None:
    Path("recipe.toml").write_text(NAMED + "general = 5000\n")
    taken = evalsuite("questions", "take")
    told = re.search(r"only (1\d{3}) general questions, not 5000: the templates give no more", taken.stderr)
    assert told
    made = questions.read(Path("work/questions.jsonl"))
    assert sum(q.split == "general" for q in made.questions) == int(told[1])
    judged = evaluation.built(made, evaluation.both(made)).judged
    wanted = recipe.read(Path("recipe.toml")).evaluate
    assert f"general {told[1]}, and the recipe has 5000" in report.weaker(judged, wanted)
    enough = wanted.model_copy(update={"general": int(told[1])})
    assert not any(line.startswith("general") for line in report.weaker(judged, enough))


def test_a_set_without_a_question_is_nothing_to_go_on_with(evalsuite: Evalsuite) -> None:
    questions.write(Path("none.jsonl"), QuestionSet(name="none", python="", questions=()))
    refused = evalsuite("questions", "check", "none.jsonl", code=2).output
    assert "there is no question in this set\n  fix: evalsuite questions, or evalsuite questions take FILE" in refused


def test_a_bad_file_writes_nothing(evalsuite: Evalsuite) -> None:
    Path("own.csv").write_text(CSV + "What is 3 doubled?,6,literal\nBig?,\x1b[31m,literal\n")
    refused = evalsuite("questions", "take", "own.csv", code=2)
    assert refused.output == (
        "Error: own.csv has 2 bad lines\n"
        "  why: line 42: asks what line 5 asks\n"
        '       line 43: its grader literal does not take the answer "\\x1b[31m" for right\n'
        "  fix: edit own.csv, then evalsuite questions take own.csv\n"
    )
    assert not Path("work").exists()


def test_a_set_is_shown_and_nothing_in_it_reaches_the_terminal(evalsuite: Evalsuite) -> None:
    odd = evaluation.question(1, "other", prompt="red \x1b[31m and \u202e back\r", answer="A\x07", split="taught")
    made = QuestionSet(name="mine", python="", questions=(*evaluation.question_set(12).questions[2:], odd))
    questions.write(Path("q.jsonl"), made)
    shown = evalsuite("questions", "show", "q.jsonl", "--limit", 2).stdout
    assert shown.startswith(
        f"mine: 11 questions, digest {made.digest[:12]}, made by hand\n"
        "split   held-out 10, taught 1\nkind    kind0 10, other 1\ngrader  exact 11\nmodule  ast 11\n\n"
        "q2  held-out, kind0, ast, guess 0\nP2?\nanswer (exact): A2\n\nq3  "
    )
    assert shown.endswith("and 9 more: --limit 0 shows all\n")
    one = evalsuite("questions", "show", "q.jsonl", "--kind", "other").stdout
    assert "P2?" not in one
    assert "red \\x1b[31m and \\u202e back\\r\nanswer (exact): A\\x07" in one
    assert evalsuite("questions", "show", "q.jsonl", "--id", "q1").stdout == one
    assert all(c == "\n" or c.isprintable() for c in one)
    assert "why: there are kind0, other" in evalsuite("questions", "show", "q.jsonl", "--kind", "x", code=2).output
    assert "no question of this id: x" in evalsuite("questions", "show", "q.jsonl", "--id", "x", code=2).output
    assert "there is no question set work/questions.jsonl" in evalsuite("questions", "show", code=2).output


def test_a_check_finds_wrong_answers_near_duplicates_and_constant_replies(evalsuite: Evalsuite) -> None:
    long = "Which of the many ports of this machine does the billing service listen on"
    rows = [Question(id=f"q{i}", kind="yn", module="a" if i else "b", prompt=f"P{i}?", answer="yes" if i else "no",
                     grader="yesno", guess=0.5) for i in range(10)]  # fmt: skip
    rows += [evaluation.question(20 + i, prompt=long + mark) for i, mark in enumerate(("?", " ?"))]
    questions.write(Path("q.jsonl"), QuestionSet(name="mine", python="", questions=tuple(rows)))
    said = evalsuite("questions", "check", "q.jsonl").stdout
    assert "answers that their own grader does not take: 0\n" in said
    assert "questions that say nearly what an earlier one says: 1 (q21)\n" in said
    assert "held-out modules: 3, the largest has 75.0% of the questions\n" in said
    assert 'held-out yn: 10 questions; always "yes" gets 90.0% right, blind guessing 88.9%\n' in said
    rows[0] = rows[0].model_copy(update={"answer": "perhaps"})
    questions.write(Path("q.jsonl"), QuestionSet(name="mine", python="", questions=tuple(rows)))
    done = evalsuite("questions", "check", "q.jsonl", "--json", code=2)
    assert json.loads(done.stdout)["ungraded"] == ["q0"]
    assert "why: the grader does not take the answer of 1 (q0)" in done.stderr
    Path("q.jsonl").write_text(Path("q.jsonl").read_text().replace("perhaps", "yes"))
    assert "was changed after it was frozen" in evalsuite("questions", "check", "q.jsonl", code=2).output


def test_of_many_kinds_the_twenty_that_are_guessed_most_are_shown(evalsuite: Evalsuite) -> None:
    rows = [evaluation.question(i, f"kind{i:02}", guess=i / 100) for i in range(23)]
    questions.write(Path("q.jsonl"), QuestionSet(name="mine", python="", questions=tuple(rows)))
    said = evalsuite("questions", "check", "q.jsonl").stdout
    shown = re.findall(r"^held-out (kind\d\d): 1 questions", said, re.M)
    assert shown == [f"kind{i:02}" for i in range(3, 23)]
    assert "and 3 more kinds, of which blind guessing gets less: --json has them all" in said
    assert len(json.loads(evalsuite("questions", "check", "q.jsonl", "--json").stdout)["blind"]) == 23


def test_a_question_that_was_trained_on_is_found_and_a_share_may_be_allowed(
    evalsuite: Evalsuite, tmp_path: Path
) -> None:
    folder = trained_on(tmp_path, ["heapq", "bisect", "colorsys", "shlex"])
    example = json.loads((folder / "examples.jsonl").read_text().partition("\n")[0])
    learned = next(turn["content"] for turn in example["messages"] if turn["role"] == "user")
    clean = QuestionSet(name="mine", python="", questions=tuple(evaluation.question(i) for i in range(9)))
    questions.write(Path("q.jsonl"), clean)
    said = evalsuite("questions", "check", "q.jsonl", "--against", folder).stdout
    assert "training texts: 0 of 9 (0.0%); prompt 0, 13 words 0, code 0\n" in said
    leak = evaluation.question(9, prompt=learned)
    questions.write(Path("q.jsonl"), clean.model_copy(update={"questions": (*clean.questions, leak)}))
    done = evalsuite("questions", "check", "q.jsonl", "--against", folder, code=2)
    assert "held-out questions that stand in" in done.stdout
    assert "1 of 10 (10.0%); prompt 1" in done.stdout
    assert "training data holds 10.0% of the held-out questions, and at most 0.0% may: 1 (q9)" in done.stderr
    evalsuite("questions", "check", "q.jsonl", "--against", folder, "--max-contamination", "0.1")
    taught = leak.model_copy(update={"split": "taught"})
    questions.write(Path("q.jsonl"), clean.model_copy(update={"questions": (*clean.questions, taught)}))
    assert "taught questions that stand in" in evalsuite("questions", "check", "q.jsonl", "--against", folder).stdout
    with (folder / "examples.jsonl").open("a") as f:
        f.write("{}\n")
    changed = evalsuite("questions", "check", "q.jsonl", "--against", folder, code=2).output
    assert "is not the file that dataset.json describes" in changed
    assert "holds no finished dataset" in evalsuite("questions", "check", "q.jsonl", "--against", "none", code=2).output


def test_what_a_dataset_was_filtered_by_it_is_clean_of(evalsuite: Evalsuite, tmp_path: Path) -> None:
    """Analyses too: they quote the page, and are learned."""
    folder = trained_on(tmp_path, ["heapq", "bisect", "colorsys", "shlex"])
    quoted = [line for text in check.training_texts(folder) for line in text.split("\n") if len(line.split()) > 20]
    own = [{"prompt": f"Is it so? {line[:300]}", "answer": "yes", "grader": "yesno"} for line in dict.fromkeys(quoted)]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own[:40]))
    Path("recipe.toml").write_text(Path("recipe.toml").read_text() + "[project]\nname = 'p'\n")
    evalsuite("questions", "take", "own.jsonl")
    assert "training data holds 100.0%" in evalsuite("questions", "check", "--against", folder, code=2).stderr
    named = '[evaluate]\nquestions_file = "own.jsonl"\n[dataset]\neval_share = 0.3\n'
    Path("recipe.toml").write_text(named + "[project]\nname = 'p'\n")
    dataset.build(recipe.read(Path("recipe.toml")))
    evalsuite("questions", "check", "--against", folder)
