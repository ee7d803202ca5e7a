"""The rules of `deploy check`, the sizes of `deploy plan`, and the dated hardware table."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from checkpoints import GPT_OSS, write_weights
from click.testing import CliRunner
from deployment import make_checkpoint, make_report, needed, read_once
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy import budgets, checks, cli, kit, planning, sizing, spec, targets
from deploy.findings import RULES, finding
from deploy.spec import TARGETS
from deploy.targets.runpod.body import endpoint
from serve import command, preflight
from serve.command import Options
from serve.machine import Machine
from serve.memory import GIB
from tune import artefact
from tune import checkpoint as checkpoints
from tune.errors import UserError
from tune.recipe import Recipe, Serve
from tune.weights.shards import read_header
from tune.weights.tensors import Tensor, tensors

ENDLESS = {"max_position_embeddings": 10**9}


CHOSEN = {"max_model_len": 2048}


@pytest.fixture(autouse=True)
def prices_stay_new(monkeypatch):
    """In any year: that old ones warn is for test_deploy_budgets."""
    monkeypatch.setattr(budgets, "OLD_DAYS", 100_000)


def examine(tmp_path, target="modal", *, serve=CHOSEN, evaluate=None, judged=None, config=None, **deploy):
    made = make_checkpoint(tmp_path / "merged", **(config or {}))
    proof = make_report(tmp_path / "report.json", made, **(judged or {}))
    recipe = Recipe.model_validate({"deploy": deploy, "serve": serve, "evaluate": evaluate or {}})
    with read_once():
        return checks.examine(recipe, made.folder, proof, target)


def ids(found):
    return {f.id for f in found.findings}


def published(layers, experts, weights, tokens=32_768):
    """A published GPT-OSS as it would be served."""
    shape = GPT_OSS["openai/gpt-oss-20b" if experts == 32 else "openai/gpt-oss-120b"]
    assert shape.num_hidden_layers == layers
    return sizing.Load(shape, tensors(shape, weights), Options(max_model_len=tokens), weights)


def test_rules_have_unique_ids_and_say_what_holds():
    assert len({rule.id for rule in RULES}) == len(RULES) > 10
    with pytest.raises(KeyError):
        finding("D999", "nothing")


def test_every_rule_is_used_somewhere():
    source = "".join(p.read_text() for p in Path(checks.__file__).parent.rglob("*.py") if p.name != "findings.py")
    assert [rule.id for rule in RULES if f'"{rule.id}"' not in source] == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_sound_deployment_has_no_errors(tmp_path, target):
    found = examine(tmp_path, target, **needed(target))
    assert found.errors == ()
    assert found.deployment.target == target


@pytest.mark.parametrize("target", TARGETS)
def test_another_recipe_is_another_image(tmp_path, target):
    """Under one name a platform keeps the image that it has."""
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made)

    def tag(**deploy):
        recipe = Recipe.model_validate({"deploy": {**needed(target), **deploy}, "serve": CHOSEN})
        with read_once():
            return checks.examine(recipe, made.folder, proof, target).deployment.image

    assert tag() == tag(max_replicas=7, request_seconds=299)  # which are not for the container to know
    assert tag(startup_seconds=77) != tag()
    assert tag(engine="vllm/vllm-openai:v0.32.1") != tag()
    assert (tag(concurrency=9) != tag()) == (target == "runpod")  # whose worker takes so many at once


@pytest.mark.parametrize(
    "table",
    [{"kind": "kserve"}, {"kind": "production-stack"}, {"weights": "image"}],
    ids=lambda t: "-".join(t.values()),
)
def test_another_dockerfile_or_other_code_is_another_image(tmp_path, monkeypatch, table):
    def tag(**given):
        return examine(tmp_path, "kubernetes", kubernetes=given).deployment.image

    assert tag(**table) != tag()
    assert tag(namespace="ml") == (before := tag())
    monkeypatch.setattr(kit, "digest", lambda: "of other code")
    assert tag() != before


@pytest.mark.parametrize("target", TARGETS)
def test_the_engine_s_image_is_held_to_the_same_on_every_target_and_told_once(tmp_path, target):
    told = [f.id for f in examine(tmp_path, target, **needed(target)).findings]
    assert told.count("D051") == 1
    told = [f.id for f in examine(tmp_path, target, **needed(target), engine="vllm/vllm-openai:latest").findings]
    assert told.count("D052") == told.count("D051") == 1


@pytest.mark.parametrize(
    ("target", "deploy", "id"),
    [
        ("modal", {"gpu": "H1000"}, "D010"),
        ("sagemaker", {"gpu": "H200"}, "D010"),
        ("runpod", {"gpu": "A10G"}, "D010"),
        ("runpod", {"request_seconds": 331}, "D020"),
        ("sagemaker", {"request_seconds": 481}, "D020"),
        ("sagemaker", {"request_seconds": 61}, "D021"),
        ("runpod", {"min_replicas": 0, "runpod": {"type": "load-balancer"}}, "D022"),
        ("sagemaker", {"min_replicas": 0}, "D023"),
        ("sagemaker", {"secrets": {"HF_TOKEN": "hf-token"}}, "D031"),
        ("runpod", {"registry": ""}, "D050"),
        ("modal", {"secrets": {"HF_TOKEN": "hf_" + "a1B2" * 8}}, "D030"),
    ],
)
def test_each_rule_of_a_target_can_break_and_hold(tmp_path, target, deploy, id):
    good = {"gpu": "H100", "request_seconds": 60, "min_replicas": 1, "registry": "docker.io/acme"}
    assert id in ids(examine(tmp_path / "bad", target, **{**good, **deploy}))
    assert id not in ids(examine(tmp_path / "good", target, **good))


KEY = "VLLM_API_KEY"
SHARED = {  # one recipe for all: each refuses what another needs
    "registry": "docker.io/acme",
    "secrets": {KEY: "vllm-key"},
    "compose": {"secrets": {KEY: KEY}},
    "modal": {"secrets": {}},
    "runpod": {"secrets": {}},
    "sagemaker": {"secrets": {}},
    "huggingface": {**needed("huggingface")["huggingface"], "secrets": {}},
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_s_own_secrets_stand_in_for_those_of_all(tmp_path, target):
    found = examine(tmp_path, target, **SHARED)
    assert found.errors == ()
    d = found.deployment
    assert d.secrets == SHARED.get(target, {}).get("secrets", SHARED["secrets"])
    assert (d.options.key_env == KEY) == (target in {"compose", "kubernetes", "skypilot"})
    assert "secrets" not in d.table
    refused = {"compose": "D054", "modal": "D082", "runpod": "D082", "sagemaker": "D031", "huggingface": "D031"}
    found = examine(tmp_path / "shared", target, **needed("huggingface"), secrets=SHARED["secrets"])
    assert [f.id for f in found.errors] == [id for name, id in refused.items() if name == target]


@pytest.mark.parametrize("target", TARGETS)
def test_the_key_is_asked_for_where_the_target_s_own_secrets_name_it(target):
    def asks(shared, own):
        told = {"secrets": shared, target: {"secrets": own, **({"auth": "key"} if target == "modal" else {})}}
        return spec.asks(Recipe.model_validate({"deploy": told}), target)

    opens = target in {"compose", "modal", "kubernetes", "skypilot"}
    assert (asks({}, {KEY: "A"}), asks({KEY: "A"}, {})) == (opens, False)


@pytest.mark.parametrize(
    ("target", "id"), [("compose", "D054"), ("modal", "D082"), ("sagemaker", "D031"), ("huggingface", "D031")]
)
def test_the_fix_of_a_refused_secret_is_of_that_target_alone(tmp_path, target, id):
    told = {**needed(target), "secrets": {KEY: "vllm-key"}}
    (error,) = examine(tmp_path, target, **told).errors
    assert error.id == id
    fix = re.match(rf"\[deploy\.{target}\] (secrets = {{.*?}})", error.fix)
    own = {**told.get(target, {}), **tomllib.loads(fix[1])}
    assert examine(tmp_path / "mended", target, **{**told, target: own}).errors == ()


@pytest.mark.parametrize(
    ("default", "efforts", "errors", "warnings"),
    [
        ("medium", ["low"], {"D005"}, ["high"]),
        ("low", ["low"], set(), ["medium", "high"]),
        ("high", ["low", "medium"], {"D005"}, []),
        ("medium", ["low", "medium", "high"], set(), []),
    ],
)
def test_what_is_served_was_judged(tmp_path, default, efforts, errors, warnings):
    found = examine(tmp_path, serve={**CHOSEN, "default_effort": default}, judged={"efforts": efforts})
    assert {f.id for f in found.errors} == errors
    assert [f.what.split("judge ")[1].split(",")[0] for f in found.warnings if f.id == "D006"] == warnings


def test_a_drain_longer_than_the_target_waits_is_a_warning(tmp_path):
    for drain, warned in ((20, False), (21, True)):
        found = examine(tmp_path / str(drain), "sagemaker", serve={**CHOSEN, "drain": drain})
        assert ("D024" in {f.id for f in found.warnings}) == warned


@pytest.mark.parametrize("name", ["margin", "alpha"])
def test_a_gate_weaker_than_the_recipes_is_refused(tmp_path, name):
    for judged, asked, weaker in ((0.1, 0.05, True), (0.05, 0.05, False), (0.05, 0.1, False)):
        found = examine(tmp_path / str((judged, asked)), judged={name: judged}, evaluate={name: asked})
        assert ("D007" in {f.id for f in found.errors}) == weaker


@pytest.mark.parametrize(
    "asked", [{"max_tokens": 64}, {"temperature": 0.7}, {"modules": ["bisect"]}, {"require_gain": True}]
)
def test_a_report_on_other_requests_or_questions_than_the_recipes_is_refused(tmp_path, asked):
    (error,) = examine(tmp_path, evaluate=asked).errors
    assert error.id == "D007"
    assert next(iter(asked)).rstrip("s") in error.what


@pytest.mark.parametrize(("forbidden", "ids"), [(True, {"D007"}), (False, set())])
def test_a_report_on_unlike_servers_is_refused_where_the_recipe_forbids_them(tmp_path, forbidden, ids):
    unlike = {"versions": ("0.10.2", "0.11.0")}
    found = examine(tmp_path, judged=unlike, evaluate={"allow_unlike_servers": not forbidden})
    assert {f.id for f in found.errors} == ids


def test_an_environment_value_over_the_limit_is_found(tmp_path):
    from deploy.targets import sagemaker

    deployment = examine(tmp_path, "sagemaker").deployment
    assert "D040" not in {f.id for f in sagemaker.findings(deployment)}
    long = deployment.model_copy(update={"env": {"A": "x" * 1025}})
    assert "D040" in {f.id for f in sagemaker.findings(long)}


def test_what_does_not_fit_is_refused_with_what_does(tmp_path):
    found = examine(tmp_path, gpu="L4", serve={"max_model_len": 600_000_000}, config=ENDLESS)
    (error,) = found.errors
    assert error.id == "D011"
    assert "B200" in error.fix
    assert "max_model_len = " in error.fix
    shorter = int(error.fix.split("max_model_len = ")[1].split(";")[0])
    for length, fits in ((shorter, True), (shorter + 1024, False)):
        again = examine(tmp_path / str(length), gpu="L4", serve={"max_model_len": length}, config=ENDLESS)
        assert (again.errors == ()) == fits


def test_what_the_options_ask_of_the_checkpoint_is_refused_as_serve_preflight_does(tmp_path):
    serve = {"max_model_len": 200_000}
    found = examine(tmp_path, serve=serve)
    assert [(f.id, f.what) for f in found.errors] == [("D008", "S040 max_model_len 200000 is over the model's 4096")]
    options = command.options(Serve(**serve), port=0)
    assert "[serve] max_model_len = 4096 in recipe.toml" in found.errors[0].fix
    machine = Machine(device="cuda", cores=8, memory=80 * 2**30, vllm="0.32.0")
    (problem,) = preflight.check(tmp_path / "merged", options, machine).errors
    assert f"{problem.id} {problem.what}" == found.errors[0].what
    with pytest.raises(UserError, match="200000 is over the model's 4096"):
        planning.plan(Recipe.model_validate({"serve": serve}), tmp_path / "merged", "modal")


def second_shard(folder):
    write_weights(folder / "zz.safetensors", {"model.norm.weight": Tensor((32,), "BF16")})


def wide_norm(folder):
    whole = read_header(folder / "model.safetensors")
    write_weights(folder / "model.safetensors", {**whole, "model.norm.weight": Tensor((32,), "F32")})


def no_ends(folder):
    (folder / "generation_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (second_shard, "holds weights beside its model's: zz.safetensors"),
        (wide_norm, "has 1 tensors of the wrong dtype"),
        (no_ends, "lacks end ids"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json cannot be read"),
    ],
)
def test_what_preflight_finds_in_a_checkpoint_deploy_finds_too(tmp_path, plant, says):
    folder = make_checkpoint(tmp_path / "merged").folder
    made = artefact.read(folder, "checkpoint", remake="")
    plant(folder)
    artefact.finish(folder, "checkpoint", inputs=made.inputs, settings=made.settings)  # the digests agree
    made = checkpoints.read(folder)
    proof = make_report(tmp_path / "report.json", made)
    recipe = Recipe.model_validate({"serve": CHOSEN})
    (error,) = checks.examine(recipe, made.folder, proof, "modal").errors
    assert error.id == "D008"
    assert says in error.what


def test_a_context_that_nobody_chose_is_a_warning_that_names_what_the_model_holds(tmp_path):
    (found,) = [f for f in examine(tmp_path / "a", serve={}).warnings if f.id == "D013"]
    assert "2,048" in found.what
    assert "4,096" in found.why
    assert "D013" not in ids(examine(tmp_path / "b", serve={"max_model_len": 2048}))


def test_a_file_of_keys_is_not_rendered_and_that_is_said(tmp_path):
    found = examine(tmp_path, serve={**CHOSEN, "keys": "keys.toml"})
    assert [f.what.split(" is ")[0] for f in found.warnings if f.id == "D014"] == ["[serve] keys = 'keys.toml'"]
    assert found.deployment.options.keys == ""


def test_the_default_that_nobody_set_is_judged_as_it_is_served(tmp_path):
    found = examine(tmp_path, serve={**CHOSEN, "max_effort": "low"}, judged={"efforts": ["low"]})
    assert ids(found) == {"D051"}  # of the engine's tag: nothing about what was judged
    assert found.deployment.options.policy.default == "low"


@pytest.mark.parametrize(
    ("most", "judged", "warned"),
    [
        ("low", ["low"], []),
        ("medium", ["low", "medium"], []),
        ("medium", ["low"], ["medium"]),
        ("high", ["low"], ["medium", "high"]),
        ("high", ["low", "high"], ["medium"]),
    ],
)
def test_no_effort_above_the_cap_needs_to_have_been_judged(tmp_path, most, judged, warned):
    serve = {**CHOSEN, "default_effort": "low", "max_effort": most}
    found = examine(tmp_path / "capped", serve=serve, judged={"efforts": judged})
    assert found.errors == ()
    assert [f.what.split("judge ")[1].split(",")[0] for f in found.warnings if f.id == "D006"] == warned
    serve = {**CHOSEN, "default_effort": "low", "allowed_efforts": [*judged]}
    found = examine(tmp_path / "allowed", serve=serve, judged={"efforts": judged})
    assert "D006" not in ids(found)


def test_too_little_room_for_the_concurrency_is_a_warning(tmp_path):
    length = {"max_model_len": 20_000_000}
    found = examine(tmp_path / "a", gpu="L4", concurrency=16, serve=length, config=ENDLESS)
    (few,) = [f for f in found.warnings if f.id == "D012"]
    assert f"[deploy] concurrency = {found.fit.requests}," in few.fix
    assert "D012" not in ids(examine(tmp_path / "b", gpu="L4", concurrency=2, serve=length, config=ENDLESS))


@pytest.mark.parametrize(
    ("layers", "experts", "weights", "smallest"),
    [
        (24, 32, "mxfp4", 22.0),
        (24, 32, "merged", 79.2),  # 48 GB are about 1 GiB short
        (36, 128, "mxfp4", 79.2),  # an H100, as measured; not the A100 of the same size, whose kernel pads more
        (36, 128, "merged", None),
    ],
)
def test_the_published_models_fit_where_they_are_known_to(layers, experts, weights, smallest):
    load = published(layers, experts, weights)
    sizes = [round(g.memory / GIB, 1) for name, g in sizing.hardware().gpu.items() if sizing.on(name, g, load).requests]
    assert min(sizes, default=None) == smallest
    if (layers, weights) == (36, "mxfp4"):
        assert not sizing.on("A100-80GB", sizing.hardware().gpu["A100-80GB"], load).requests


WIDE = {"num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 512}


def test_the_gpus_that_share_a_model_are_those_that_the_target_is_asked_for(tmp_path):
    def found(target, tensor, data, gpu="L4"):
        serve = {**CHOSEN, "tensor_parallel": tensor, "data_parallel": data}
        return examine(tmp_path / f"{target}-{tensor}-{data}-{gpu}", target, serve=serve, config=WIDE, gpu=gpu)

    modal, one = found("modal", 2, 1), found("modal", 1, 1)
    assert (modal.deployment.machine, modal.deployment.gpus, modal.offer.usd_hour) == (
        "L4:2",
        2,
        2 * one.offer.usd_hour,
    )
    assert (one.deployment.machine, one.deployment.gpus) == ("L4", 1)
    runpod = found("runpod", 2, 2).deployment
    assert endpoint(runpod, 1.0)["gpu"]["count"] == 4
    sagemaker = found("sagemaker", 4, 1).deployment
    assert (
        targets.load("sagemaker").stack(sagemaker)["Resources"]["EndpointConfig"]["Properties"]["ProductionVariants"][
            0
        ]["InstanceType"]
        == "ml.g6.12xlarge"
    )
    for target, tensor, data in (("sagemaker", 2, 1), ("modal", 8, 2)):
        (problem,) = [f for f in found(target, tensor, data).errors if f.id == "D010"]
        assert problem.what == f"{target} lends no machine of {tensor * data} x L4"
    assert "1 or 4 or 8" in next(f.why for f in found("sagemaker", 2, 1).errors if f.id == "D010")


def test_more_gpus_hold_more_and_cost_more(tmp_path):
    made = make_checkpoint(tmp_path / "merged", **WIDE)

    def plan(**serve):
        return planning.plan(Recipe.model_validate({"serve": {**CHOSEN, **serve}}), made.folder, "modal")

    one, two = plan(), plan(tensor_parallel=2)
    assert two.chosen.need.weights < one.chosen.need.weights
    assert two.chosen.need.kv_request * 2 == one.chosen.need.kv_request
    assert "3.95 USD an hour" in one.cost
    assert "7.90 USD an hour" in two.cost
    assert [c.machine for c in two.choices] == [f"{c.machine}:2" for c in one.choices]


def test_a_profile_of_another_gpu_is_an_error_before_anything_is_rendered(tmp_path):
    found = examine(tmp_path, serve={**CHOSEN, "profile": "latency"}, gpu="L4")
    (problem,) = [f for f in found.errors if f.id == "D008"]
    assert problem.what.startswith("S042 --profile latency has no flags for L4")
    with pytest.raises(UserError, match="S042"):
        planning.plan(
            Recipe.model_validate({"serve": {"profile": "latency"}, "deploy": {"gpu": "L4"}}),
            tmp_path / "merged",
            "modal",
        )


@given(st.integers(1, 131_072), st.integers(1, 131_072))
@settings(max_examples=50)
def test_longer_requests_never_fit_more_often(a, b):
    short, long = sorted((a, b))
    gpu = sizing.hardware().gpu["L40S"]
    few, many = (sizing.on("L40S", gpu, published(24, 32, "mxfp4", n)).requests for n in (long, short))
    assert few <= many


@pytest.mark.parametrize("fault", ["cut", "empty", "noise"])
def test_weights_without_a_true_header_are_refused(tmp_path, fault):
    weights = make_checkpoint(tmp_path).folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes({"cut": data[:-1], "empty": b"", "noise": b"\xff" * 64}[fault])
    found = checkpoints.read(tmp_path)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        sizing.load(found, Options())


def test_prices_carry_the_date_they_were_read():
    table = sizing.hardware()
    offers = [o for gpu in table.gpu.values() for t in TARGETS if (o := gpu.offer(t))]
    assert len(offers) > 15
    for offer in offers:
        assert (offer.usd_hour is None) == (offer.seen == ""), offer
        assert offer.usd_hour is None or ("not live" in offer.price and offer.seen <= str(table.dated))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x = 'hf_" + "aB3" * 11 + "'", "Hugging Face"),
        ("Bearer sk-proj-" + "a1" * 12, "OpenAI"),
        ("rpa_" + "A1" * 20, "RunPod"),
        ("ak-" + "A1b" * 8, "Modal"),
        ("AKIA" + "A1B2" * 4, "AWS access key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
        ("https://user:pass@registry.example", "password in a URL"),
    ],
)
def test_what_looks_like_a_secret_is_named_but_not_shown(text, kind):
    (found,) = checks.secrets_in({"README.md": f"before\n{text}\nafter"})
    assert found.id == "D030"
    assert kind in found.what
    assert text not in str(found)
    assert checks.secrets_in({"README.md": "sk-learn, hf_hub, Bearer $RUNPOD_API_KEY, https://a.b:80/c"}) == []


@pytest.mark.parametrize("report", ["none.json", "merged", "merged/config.json/x"])
def test_check_lists_everything_and_exits_2(tmp_path, report):
    made = make_checkpoint(tmp_path / "merged")
    arguments = ["check", "runpod", "--checkpoint", str(made.folder), "--report", str(tmp_path / report), "--json"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert [f["id"] for f in json.loads(result.output)] == ["D002", "D013"]


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_recipe_that_cannot_be_read_is_a_finding(tmp_path, words):
    arguments = ["check", "modal", "--checkpoint", "x", "--report", "y", "--recipe", str(tmp_path / "none.toml")]
    result = CliRunner().invoke(cli.main, [*arguments, *words])
    assert result.exit_code == 2
    if words:
        assert [(f["id"], f["fix"]) for f in json.loads(result.stdout)] == [("D000", "tune init")]
    else:
        assert "error D000 there is no" in result.stdout


def test_check_of_a_sound_deployment_exits_0(tmp_path):
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made)
    arguments = ["check", "modal", "--checkpoint", str(made.folder), "--report", str(proof)]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0
    assert "0 errors" in result.output


def test_plan_names_sizes_and_dated_prices(tmp_path):
    made = make_checkpoint(tmp_path / "merged")
    result = CliRunner().invoke(cli.main, ["plan", "modal", "--checkpoint", str(made.folder)])
    assert result.exit_code == 0, result.output
    assert made.served_name in result.output
    assert "not live" in result.output
    assert "RTX-PRO-6000" in result.output
    as_json = json.loads(
        CliRunner().invoke(cli.main, ["plan", "modal", "--checkpoint", str(made.folder), "--json"]).output
    )
    assert as_json["chosen"]["gpu"] == "H100"
    assert as_json["dated"] == str(sizing.hardware().dated)


def test_the_recipe_of_this_folder_counts_and_a_named_one_wins(tmp_path, monkeypatch):
    made = make_checkpoint(tmp_path / "merged")
    (tmp_path / "recipe.toml").write_text('[deploy]\ngpu = "L4"\n')
    (tmp_path / "other.toml").write_text('[deploy]\ngpu = "L40S"\n')
    monkeypatch.chdir(tmp_path)
    plan = ["plan", "modal", "--checkpoint", str(made.folder), "--json"]
    for named, gpu in (([], "L4"), (["--recipe", "other.toml"], "L40S")):
        result = CliRunner().invoke(cli.main, [*plan, *named])
        assert json.loads(result.output)["chosen"]["gpu"] == gpu, result.output


def test_plan_refuses_a_gpu_that_is_not_lent(tmp_path):
    made = make_checkpoint(tmp_path / "merged")
    (tmp_path / "recipe.toml").write_text('[deploy]\ngpu = "H200"\n')
    arguments = ["plan", "sagemaker", "--checkpoint", str(made.folder), "--recipe", str(tmp_path / "recipe.toml")]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert "one of L4, A10G, L40S, H100, RTX-PRO-6000" in result.output


OPTIONS = {
    "check": ("checkpoint", "report", "recipe"),
    "plan": ("checkpoint", "recipe"),
    "render": ("checkpoint", "report", "recipe", "out"),
}


@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in OPTIONS.items() for o in options])
@pytest.mark.parametrize("bad", ["none", "empty", "noise", "empty/x", "folder"])
def test_a_bad_path_is_refused_in_words(tmp_path, command, option, bad):
    made = make_checkpoint(tmp_path / "merged")
    (tmp_path / "empty").write_text("")
    (tmp_path / "noise").write_bytes(b"\xff\x00" * 99)
    (tmp_path / "folder" / "of").mkdir(parents=True)
    paths = {
        "checkpoint": made.folder,
        "report": make_report(tmp_path / "report.json", made),
        "recipe": tmp_path / "empty",
        "out": tmp_path / "out",
        option: tmp_path / bad,
    }
    arguments = [word for name in OPTIONS[command] for word in (f"--{name}", str(paths[name]))]
    result = CliRunner().invoke(cli.main, [command, "modal", *arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    good = (option, bad) in {("recipe", "empty"), ("out", "none"), ("out", "folder")}
    assert result.exit_code == (0 if good else 2), result.output
    assert good or str(tmp_path / bad.split("/")[0]) in result.output
