"""`deploy init`, what a render without a report is, and what a render changes against the last one."""

import ast
import inspect
import json
import re
import tomllib

import pytest
from click.testing import CliRunner
from deployment import make_checkpoint, make_report, needed, rendered
from hypothesis import given
from hypothesis import strategies as st

from deploy import changes, checks, cli, receipt, render, starting
from deploy.findings import RULES
from deploy.spec import TARGETS, Deployment
from tune import artefact, deploy, recipe
from tune.errors import UserError
from tune.recipe import Recipe


def run(*arguments, code=0):
    done = CliRunner().invoke(cli.main, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


# deploy init


@pytest.mark.parametrize("target", TARGETS)
def test_init_writes_every_key_with_its_default_and_its_comment(tmp_path, target):
    path = tmp_path / "recipe.toml"
    out = run("init", target, "--recipe", path)
    assert f"added [deploy] and [deploy.{target}]" in out
    text = path.read_text()
    assert recipe.read(path) == Recipe(folder=tmp_path)  # commented out, it changes nothing
    open_keys = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text)
    told = tomllib.loads(open_keys)["deploy"]
    default = json.loads(deploy.Deploy().model_dump_json())
    for name in TARGETS:
        told.setdefault(name, default[name])
    assert told == default  # all of them, and each as it is by default
    for model in (deploy.Deploy, getattr(deploy, target.capitalize())):
        for key, said in starting.comments(model).items():
            assert not said or f"  # {said}\n" in text + "\n", key
    assert "noqa" not in text


def test_init_takes_its_words_from_the_source():
    source = inspect.getsource(deploy)
    assert starting.comments(deploy.Deploy)["receipt_days"] == "how old a PASS may be when it is pushed"
    assert starting.comments(deploy.Huggingface)["repository"] == "the checkpoint, as tune push left it"
    assert starting.comments(deploy.Compose)["bind"] == "who may reach it: this host, or everyone"
    assert starting.comments(deploy.Kubernetes)["product"].endswith("empty: what it is known to say of [deploy] gpu")
    assert starting.comments(deploy.Sagemaker)["alarm_topic"].endswith("empty: nobody.")
    assert "snapshot" not in "".join(starting.comments(deploy.Modal).values())  # stands apart
    plain = [line for line in source.splitlines() if re.match(r"    \w+: .*  # (?!noqa)", line)]
    known = {
        said
        for name in ("Deploy", *map(str.capitalize, TARGETS))
        for said in starting.comments(getattr(deploy, name)).values()
    }
    for line in plain:
        assert line.rpartition("  # ")[2] in known


def test_every_target_has_a_table():
    tables = {name for name, f in deploy.Deploy.model_fields.items() if isinstance(f.default, deploy.Section)}
    assert tables == set(TARGETS)
    classes = {n.name for n in ast.parse(inspect.getsource(deploy)).body if isinstance(n, ast.ClassDef)}
    assert {t.capitalize() for t in TARGETS} <= classes


@pytest.mark.parametrize(
    "before",
    [
        '[project]\nname = "a"\n',
        '[project]\nname = "a"',  # no line break at its end
        '# mine\r\n[project]\r\nname = "a"\r\n',
        "[deploy]\ngpu = 'L4' # mine\n\n\n",
        "[deploy.modal]\nauth = 'key'\n",
        "deploy.gpu = 'L4'\n",
        "deploy.modal.auth = 'key'\n",
        "[deploy.secrets]\nHF_TOKEN = 'x'\n",
        "",
    ],
)
def test_init_leaves_what_is_there(tmp_path, before):
    path = tmp_path / "recipe.toml"
    path.write_bytes(before.encode())
    old = recipe.read(path)
    run("init", "modal", "--recipe", path)
    after = path.read_bytes()
    assert after.startswith(before.encode())
    assert recipe.read(path) == old
    assert (b"\n" in after.replace(b"\r\n", b"")) != (b"\r\n" in before.encode())
    assert "nothing was changed" in run("init", "modal", "--recipe", path)
    assert path.read_bytes() == after


@pytest.mark.parametrize("before", ["deploy = {gpu = 'L4'}\n", "deploy = 1\n"])
def test_init_refuses_a_form_that_takes_no_table(tmp_path, before):
    path = tmp_path / "recipe.toml"
    path.write_text(before)
    assert "no table can be added" in run("init", "runpod", "--recipe", path, code=2)
    assert path.read_text() == before


def test_init_refuses_what_is_no_toml(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[deploy\n")
    assert "is not TOML" in run("init", "--recipe", path, code=2)
    assert path.read_text() == "[deploy\n"


def test_init_without_a_target_adds_deploy_alone(tmp_path):
    assert run("init", "--recipe", tmp_path / "recipe.toml").endswith("added [deploy]\n")


# Without a report


@pytest.fixture
def made(tmp_path):
    return make_checkpoint(tmp_path / "merged")


def examined(made, target="modal", **more):
    return checks.examine(Recipe.model_validate(more), made.folder, None, target, "to be compared there")


def _inline(value):
    """A text, or a table of texts, as TOML."""
    if isinstance(value, str):
        return json.dumps(value)
    return f"{{{', '.join(f'{key} = {_inline(each)}' for key, each in value.items())}}}"


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_report_it_says_so_first(tmp_path, made, target):
    """D056."""
    out = tmp_path / "out"
    told = tmp_path / "recipe.toml"
    told.write_text("".join(f"deploy.{key} = {_inline(value)}\n" for key, value in needed(target).items()))
    inputs = ("--recipe", told, "--checkpoint", made.folder, "--out", out)
    run("render", target, *inputs, "--no-gate", "to be  compared\tthere")
    deployment = Deployment.model_validate(artefact.read(out, "deployment", remake="").settings["deployment"])
    assert deployment.receipt is None
    assert deployment.ungated == "to be compared there"
    assert artefact.read(out, "deployment", remake="").inputs == {"checkpoint": made.digest}
    text = (out / "README.md").read_text()
    assert text.index("**NOT GATED**") < text.index("| model |")
    assert "to be compared there" in text
    assert "| proof | **none** |" in text
    assert "D056" in text


def test_a_render_with_a_report_says_nothing_of_that(tmp_path):
    text = (rendered(tmp_path, "modal") / "README.md").read_text()
    assert "NOT GATED" not in text
    assert "| proof | PASS" in text
    assert "D056" not in text


def test_rules_about_what_was_judged_do_not_apply_and_the_others_do(made):
    ids = [f.id for f in examined(made).findings]
    assert "D056" in ids
    assert not {"D002", "D005", "D006", "D007"} & {*ids}
    assert "D010" in [f.id for f in examined(made, deploy={"gpu": "H1000"}).errors]
    assert [f.severity for f in examined(made).findings if f.id == "D056"] == ["warning"]


def test_check_lists_it(made):
    found = json.loads(run("check", "modal", "--checkpoint", made.folder, "--no-gate", "a reason", "--json"))
    assert [f["what"] for f in found if f["id"] == "D056"] == [f"{made.served_name} is not gated: a reason"]


def test_no_report_and_no_reason_is_an_error_as_before(tmp_path, made):
    out = run("render", "modal", "--checkpoint", made.folder, "--out", tmp_path / "out", code=2)
    assert "D002 there is no report" in out
    assert "--no-gate REASON" in out
    more = ["--report", tmp_path / "r.json", "--no-gate", "x"]
    assert "exclude each other" in run(
        "render", "modal", "--checkpoint", made.folder, "--out", tmp_path / "out", *more, code=2
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "reason", ["", " ", "a | b", "`id`", "<b>", "$(id)", "x" * 201, "é", "{{ d }}", "-x", "a\x00b"]
)
def test_a_reason_that_cannot_be_rendered_is_refused(tmp_path, made, reason):
    out = tmp_path / "out"
    assert "--no-gate takes a reason" in run(
        "render", "modal", "--checkpoint", made.folder, "--out", out, "--no-gate", reason, code=2
    )
    assert not out.exists()


@given(st.text(max_size=40))
def test_a_reason_is_one_line_of_plain_words_or_refused(text):
    try:
        told = receipt.reason(text)
    except UserError:
        return
    assert re.fullmatch(r"[A-Za-z0-9 .,:;()%-]+", told)


def test_a_deployment_has_a_receipt_or_a_reason(made):
    facts = examined(made).deployment.model_dump()
    with pytest.raises(ValueError, match="or a reason why it has none"):
        Deployment.model_validate({**facts, "ungated": ""})


# What a render changes


def test_a_render_says_what_it_changes(tmp_path):
    out = rendered(tmp_path, "modal")
    merged, report = tmp_path / "merged", tmp_path / "report.json"
    given = ["--checkpoint", merged, "--report", report, "--out", out, "--recipe", tmp_path / "recipe.toml"]
    path = tmp_path / "recipe.toml"
    path.write_text("[serve]\nmax_model_len = 2048\n")
    assert f"as the render in {out}" in run("render", "modal", *given)
    path.write_text(
        "[serve]\nmax_model_len = 1024\n[deploy]\ngpu = 'H200'\nmax_replicas = 3\nsecrets = {HF_TOKEN = 'hub'}\n"
        "registry = 'ghcr.io/acme'\n"
        "[deploy.modal]\nregion = 'eu'\n"
    )
    plan = run("plan", "modal", *given[:2], *given[4:])
    assert "gpu: H100 -> H200\n" in plan
    told = json.loads(run("plan", "modal", *given[:2], *given[4:], "--json"))
    out_text = run("render", "modal", *given)
    for line in (
        "gpu: H100 -> H200",
        "machine: H100 -> H200",
        "options.max_model_len: 2048 -> 1024",
        "scaling.max_replicas: 1 -> 3",
        "repository: python-docs -> ghcr.io/acme/python-docs",
        "secrets.HF_TOKEN: hub is new",
        'table.region: "" -> eu',
    ):
        assert line in told["changes"]
        assert f"  {line}\n" in out_text
    assert "args" not in out_text


def test_another_checkpoint_and_report_are_a_line_each(tmp_path):
    out = rendered(tmp_path, "modal")
    other = make_checkpoint(tmp_path / "other", name="python-docs", max_position_embeddings=8192)
    report = make_report(tmp_path / "o.json", other, note="")
    told = run("render", "modal", "--checkpoint", other.folder, "--report", report, "--out", out, "--json")
    changed = json.loads(told[told.index("{") :])["changes"]
    assert f"model: {artefact_name(tmp_path)} -> {other.served_name}" in changed
    assert len([c for c in changed if c.startswith("report: ")]) == 1
    run("render", "modal", "--checkpoint", other.folder, "--no-gate", "why not", "--out", out)


def artefact_name(tmp_path):
    from tune import checkpoint

    return checkpoint.read(tmp_path / "merged").served_name


def test_the_first_render_has_nothing_to_change(tmp_path, made):
    found = render.render(
        "modal", recipe=Recipe(), checkpoint=made.folder, report=None, out=tmp_path / "o", ungated="a reason"
    )
    assert found.changed is None
    assert changes.last(tmp_path / "nowhere") is None


def test_what_a_value_holds_is_one_short_line(made):
    deployment = examined(made).deployment
    before = deployment.model_dump(mode="json") | {"region": "x\n\x1b[2J" + "y" * 500}
    (line,) = changes.between(before, deployment)
    assert len(line) < 160
    assert "\x1b" not in line
    assert "\n" not in line


def test_rules_are_in_order():
    ids = [rule.id for rule in RULES]
    assert ids == sorted(ids)
    assert len(ids) == len(set(ids))
