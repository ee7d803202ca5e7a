from pathlib import Path

import pytest

from tune import evaluate, recipe
from tune.errors import UserError

EXAMPLE = Path(__file__).parent.parent / "tune" / "recipe.example.toml"


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_the_example_recipe_reads():
    assert recipe.read(EXAMPLE).evaluate.require_gain


def test_every_problem_is_reported_at_once_and_names_what_there_is(tmp_path):
    with pytest.raises(UserError) as e:
        recipe.read(
            written(tmp_path, '[colect]\nx = 1\n[train]\nrang = 3\nrank = -1\n[serve]\ndefault_effort = "max"\n')
        )
    text = e.value.message
    assert "4 problems" in text
    assert "colect: no such section; there are project, collect" in text
    assert "train.rang: no such key; there are backend, targets" in text
    assert "train.rank:" in text
    assert "'low', 'medium' or 'high'" in text
    assert e.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[collect]\nsource = "sphinx"', "needs folder"),
        ('[collect]\nsource = "web"', "needs urls"),
        ('[collect]\nsource = "brightdata"\nurls = ["https://a.example"]', "needs zone"),
        ('[collect]\nsource = "site"', "needs url"),
        ('[collect]\nsource = "site"\nurl = "https://a.example"\nthrough = "brightdata"', "needs zone"),
        ('[collect]\nthrough = "brightdata"\nzone = "z"', "fetches for web and site"),
        ('[collect]\nsource = "site"\nurl = "https://a.example"\nmax_pages = 0', "greater than 0"),
        ('[collect]\nsource = "web"\nurls = ["https://a.example"]\nmax_requests = -1', "greater than or equal to 0"),
        ('[collect]\nmodules = ["json"]\n[evaluate]\nmodules = ["json"]', "held out"),
        ("[project]\nname = 'x; rm -rf ~'", "pattern"),
        (
            '[serve]\ndefault_effort = "high"\nmax_effort = "low"',
            "default_effort high is above the maximum, max_effort low",
        ),
        ("[deploy]\nmin_replicas = 3\nmax_replicas = 2", "min_replicas = 3 is over max_replicas = 2"),
        ("[serve]\ndrain = -1", r"serve\.drain: "),
        ("[train", "not TOML"),
        ("[dataset]\nefforts = []", r"dataset\.efforts: .* at least 1 item"),
        ("[dataset]\nkinds = []", r"dataset\.kinds: .* at least 1 item"),
        ("[evaluate]\nefforts = []", r"evaluate\.efforts: .* at least 1 item"),
        ('[evaluate]\nefforts = ["low", "high", "low"]', r"evaluate\.efforts: .*low is named more than once"),
        ('[dataset]\nefforts = ["low", "low"]', r"dataset\.efforts: .*low is named more than once"),
        ("[evaluate]\nmax_tokens = {low = 64}", "a table without a limit for effort medium, high"),
        ("[evaluate]\nmax_tokens = {Huge = 64}", r"evaluate\.max_tokens"),
        ("[evaluate]\nmax_tokens = {low = 64, medium = 0, high = 64}", r"evaluate\.max_tokens\.medium: "),
        ("[evaluate]\nmax_tokens = 0", r"evaluate\.max_tokens: .* greater than 0"),
        ("[nano]\nlayers = 2\nexperts = 2", 'experts, layers shape kind = "random" alone'),
        ('[nano]\nkind = "random"\nfile = "x.whl"', 'file is what kind = "smollm2" is made from'),
        ('[nano]\nkind = ["random"]', "nano.kind"),
        ("[evaluate]\nalpha = 1e-300", r"evaluate\.alpha: .* 0\.000001"),
        ("[evaluate]\nmargin = 1e-300", r"evaluate\.margin: .* 0\.0001"),
        ("[evaluate]\nforgetting_margin = 1e-300", r"evaluate\.forgetting_margin: .* 0\.0001"),
        ("[evaluate]\ntemperature = inf", r"evaluate\.temperature: .* finite"),
        ("[evaluate.limits]\nfirst_answer_ms = inf", r"evaluate\.limits\.first_answer_ms: .* finite"),
        ("[train]\nlearning_rate = nan", r"train\.learning_rate: .* finite"),
        *(
            (f"[{section}]\n{key} = {value}", rf"{section}\.{key}: {says}")
            for section, key in (
                ("evaluate", "questions_file"),
                ("nano", "file"),
                ("collect", "folder"),
                ("project", "work"),
                ("base", "model"),
            )
            for value, says in (
                ('""', "an empty path names nothing"),
                ('" "', "an empty path"),
                ('"a\\u0000b"', "a path holds no NUL"),
            )
        ),
        ('[evaluate]\nopen_kinds = ["open-colour"]', "open_kinds"),
    ],
)
def test_each_bad_recipe_gets_its_reason(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        recipe.read(written(tmp_path, text))


FLOATS = [
    (section, key)
    for section, at in recipe.Recipe.model_fields.items()
    for key, field in getattr(at.annotation, "model_fields", {}).items()
    if field.annotation in (float, float | None)
] + [("evaluate.limits", key) for key, field in evaluate.Gated.model_fields.items() if field.annotation is not bool]


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_no_number_of_a_recipe_is_endless_or_none(tmp_path, number):
    assert len(FLOATS) >= 15
    for section, key in FLOATS:
        path = written(tmp_path, f"[{section}]\n{key} = {number}\n")
        with pytest.raises(UserError) as e:
            recipe.read(path)
        assert e.value.why.startswith(f"{section}.{key}: Input should be")


def test_a_bound_can_be_set_alone(tmp_path):
    """What nobody set follows it, and is no reason to refuse it."""
    read = recipe.read(written(tmp_path, '[serve]\nmax_effort = "low"\n[deploy]\nmin_replicas = 3\n'))
    assert (read.serve.default_effort, read.deploy.max_replicas) == (None, 3)
    assert recipe.read(written(tmp_path, "")).deploy.max_replicas == 1


def test_a_missing_recipe_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(UserError) as e:
        recipe.read(tmp_path / "recipe.toml")
    assert e.value.fix == "tune init"


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read\n  why: Is a directory"):
        recipe.read(tmp_path)
    with pytest.raises(UserError, match=r"cannot be read\n  why: Not a directory"):
        recipe.read(written(tmp_path, "") / "recipe.toml")


def test_work_lies_beside_the_recipe(tmp_path):
    assert recipe.read(written(tmp_path, "")).work == tmp_path / "work"


def test_a_limit_of_tokens_is_one_number_or_one_an_effort(tmp_path):
    def limits(line, *efforts):
        (tmp_path / "recipe.toml").write_text(f"[evaluate]\n{line}\n")
        found = recipe.read(tmp_path / "recipe.toml").evaluate
        assert "max_tokens" not in found.about_questions
        return [evaluate.tokens_at(found.max_tokens, e) for e in efforts]

    assert limits("max_tokens = 99", "low", "high", None) == [99, 99, 99]
    assert limits("", "low") == [256]
    table = 'max_tokens = {low = 64, high = 512}\nefforts = ["low", "high"]'
    assert limits(table, "low", "high", None) == [64, 512, 512]


def test_ones_own_questions_are_known_by_file_content_and_number_wherever_the_command_runs(tmp_path):
    (tmp_path / "own.csv").write_text("x")
    path = written(tmp_path, '[evaluate]\nquestions_file = "own.csv"\nquestions = 40\n')
    asked = recipe.read(path).evaluate
    assert asked.taught == 0
    assert asked.about_questions == {
        "questions_file": "own.csv",
        "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        "questions": 40,
        "answer_rule": asked.answer_rule,
    }
    file, made = tmp_path / "questions.jsonl", {**asked.about_questions, "modules": ["own"]}
    asked.require_questions(file, made)
    asked.require_questions(file, {**made, "questions": 41})
    for change, says in (
        ({"questions": 39}, "questions was 39, and .* has 40"),
        ({"questions": "many"}, "questions was many"),
        ({"sha256": "0"}, "own.csv is no longer the file that was asked"),
        ({"questions_file": "other.csv"}, "questions_file was other"),
        ({"answer_rule": "x"}, "answer_rule was x"),
    ):
        with pytest.raises(UserError, match=says):
            asked.require_questions(file, {**made, **change})
    with pytest.raises(UserError, match=r"it was taken from \\x1b\[31m, and .* names no questions_file"):
        evaluate.Evaluate().require_questions(file, {"questions_file": "\x1b[31m"})
    (tmp_path / "own.csv").unlink()
    for use in (lambda: asked.about_questions, lambda: asked.require_questions(file, made)):
        with pytest.raises(UserError, match=r"there is no file .*own\.csv") as e:
            use()
        assert e.value.fix.startswith("put own.csv beside recipe.toml")
