"""Kubernetes renders held to Kubernetes' own schemas, and pushed by flows to a stand-in for a cluster.

KServe's and the chart's own fields are held to what we wrote down of them: their schemas come in no package.
"""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployment import Project, carried_out, deployed, make_checkpoint, make_report, programs, read_once
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deploy import checks, dryrun, render, running, sizing
from deploy.live import Live
from deploy.targets.documents import dump, lettered, load
from deploy.targets.kubernetes import claim, group, kinds, live, pod
from tune import checkpoint
from tune.errors import UserError
from tune.recipe import Recipe

KINDS = ("plain", "hosts", "kserve", "production-stack")  # hosts: plain ones, of which two share a model
WIDE = {"num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 512}
CHART = json.loads((Path(__file__).parent / "data" / "production_stack_values.schema.json").read_text())
# serving.kserve.io/v1beta1, PredictorSpec: ComponentExtensionSpec beside a PodSpec (kserve.github.io, API reference).
PREDICTOR = {
    "minReplicas": int,
    "maxReplicas": int,
    "scaleTarget": int,
    "scaleMetric": str,
    "containerConcurrency": int,
    "timeout": int,
    "deploymentStrategy": dict,
}
# Of a PodSpec, what Knative takes once its config-features allow it (knative.dev, "Feature and extension flags").
KNATIVE = {"containers", "volumes", "imagePullSecrets", "affinity", "tolerations"}
# leaderworkerset.x-k8s.io/v1, LeaderWorkerSetSpec (lws.sigs.k8s.io, API reference); the templates are PodTemplateSpecs.
COUNT = {"type": "integer", "minimum": 0}
SET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["leaderWorkerTemplate"],
    "properties": {
        "replicas": COUNT,
        "startupPolicy": {"enum": ["LeaderCreated", "LeaderReady"]},
        "networkConfig": {"type": "object"},
        "rolloutStrategy": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "type": {"const": "RollingUpdate"},
                "rollingUpdateConfiguration": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"partition": COUNT, "maxUnavailable": COUNT, "maxSurge": COUNT},
                },
            },
        },
        "leaderWorkerTemplate": {
            "type": "object",
            "additionalProperties": False,
            "required": ["workerTemplate"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "restartPolicy": {"enum": ["Default", "None", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart"]},
                "subGroupPolicy": {"type": "object"},
                "leaderTemplate": {"type": "object"},
                "workerTemplate": {"type": "object"},
            },
        },
    },
}
FULL = {
    "min_replicas": 2,
    "max_replicas": 4,
    "registry": "ghcr.io/acme",
    "secrets": {"VLLM_API_KEY": "vllm-key", "HF_TOKEN": "hf-read"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with read_once():
        yield Project(tmp_path_factory.mktemp("kubernetes"), "kubernetes", **WIDE)


@pytest.fixture(scope="module")
def folder(project):
    def rendered(kind="plain", table=None, serve=None, **told):
        several = {"kind": "plain", "hosts": 2, "spare": False} if kind == "hosts" else {"kind": kind}
        shared = {"tensor_parallel": 4} if kind == "hosts" else {}
        return project.folder(kubernetes={**(table or {}), **several}, serve={**shared, **(serve or {})}, **told)

    return rendered


def documents(out, name="manifests.yaml"):
    return list(yaml.load_all((out / name).read_text(), yaml.CSafeLoader))


def of(out, kind, name="manifests.yaml"):
    return next(d for d in documents(out, name) if d["kind"] == kind)


def problems(document):
    """What Kubernetes' own schemas, or of KServe ours, say against it."""
    try:
        if document["kind"] == "InferenceService":
            predictor = copy.deepcopy(document["spec"]["predictor"])
            own = {k: predictor.pop(k) for k in list(predictor) if k in PREDICTOR}
            found = [k for k, v in own.items() if type(v) is not PREDICTOR[k]]
            knative = document["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
            found += sorted(set(predictor) - KNATIVE) if knative else []
            inner = {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": predictor}}
            document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": inner}
            kubernetes_validate.validate(document, "1.37", strict=True)
            return found
        if document["kind"] == "LeaderWorkerSet":
            found = [e.message for e in jsonschema.Draft202012Validator(SET).iter_errors(document["spec"])]
            held = document["spec"]["leaderWorkerTemplate"]
            for template in (held["leaderTemplate"], held["workerTemplate"]):
                inner = {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template}
                whole = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": inner}
                kubernetes_validate.validate(whole, "1.37", strict=True)
            return found
        kubernetes_validate.validate(document, "1.37", strict=True)
    except kubernetes_validate.ValidationError as e:
        return [e.message]
    return []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deploy", [{}, FULL, {**FULL, "max_replicas": 2}])
@pytest.mark.parametrize(
    "table", [{}, {"weights": "image", "namespace": "ml", "pull_secret": "registry"}, {"spare": True}]
)
def test_every_manifest_is_one_that_kubernetes_takes(folder, kind, deploy, table):
    out = folder(kind, table=table, **deploy)
    found = [d for path in out.glob("*.yaml") if path.name != "values.yaml" for d in documents(out, path.name)]
    assert [(d["kind"], problems(d)) for d in found if problems(d)] == []
    assert len(found) >= 1 if kind == "production-stack" else 2
    assert {d["metadata"]["namespace"] for d in found} == {(table or {}).get("namespace", "default")}
    for each in found:
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gptoss-kit"


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("plain", lambda d: d["spec"].update(replica=2)),
        ("plain", lambda d: d["spec"]["template"]["spec"]["containers"][0].update(probe={})),
        ("plain", lambda d: d["spec"]["template"]["spec"]["containers"][0]["startupProbe"].update(periodSeconds="10")),
        ("plain", lambda d: d["spec"]["template"]["spec"].update(fsGroup=1)),
        ("hosts", lambda d: d["spec"].update(replica=2)),
        ("hosts", lambda d: d["spec"]["leaderWorkerTemplate"].update(restartPolicy="Never")),
        ("hosts", lambda d: d["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"].update(fsGroup=1)),
        ("kserve", lambda d: d["spec"]["predictor"].update(minReplicas="1")),
        ("kserve", lambda d: d["spec"]["predictor"].update(concurrency=1)),
        ("kserve", lambda d: d["spec"]["predictor"].update(terminationGracePeriodSeconds=30)),
    ],
)
def test_the_schemas_catch_a_wrong_manifest(folder, kind, plant):
    found = documents(folder(kind))[1]
    assert problems(found) == []
    plant(found)
    assert problems(found) != []


@pytest.mark.parametrize("deploy", [{}, FULL])
@pytest.mark.parametrize("table", [{}, {"weights": "image", "pull_secret": "registry"}])
def test_the_values_are_what_the_chart_reads(folder, deploy, table):
    out = folder("production-stack", table=table, **deploy)
    (values,) = documents(out, "values.yaml")
    check = jsonschema.Draft202012Validator(CHART)
    assert [e.message for e in check.iter_errors(values)] == []
    engine = values["servingEngineSpec"]
    assert ("vllmApiKey" in engine) == (deploy != {})
    for plant in ({"modelSpec": [{}]}, {"startupProbe": {"path": "/readyz"}}, {"containerPort": "8000"}, {"port": 1}):
        assert list(check.iter_errors({**values, "servingEngineSpec": {**engine, **plant}}))
    spec = engine["modelSpec"][0]  # what becomes of them is a pod that Kubernetes takes
    one = {"name": "vllm", "image": "x", "env": spec["env"], "volumeMounts": spec["extraVolumeMounts"]}
    one |= {"securityContext": engine["containerSecurityContext"]}
    one |= {probe: engine[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    made = {"containers": [one], "volumes": spec["extraVolumes"], "tolerations": engine["tolerations"]}
    made |= {"securityContext": engine["securityContext"]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": made}
    assert problems(whole) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_chart_and_every_pod_start_what_we_start(folder, tmp_path, kind):
    out = folder(kind)
    dockerfile = (out / "Dockerfile").read_text()
    assert ("COPY --chmod=0755 vllm" in dockerfile) == (kind == "production-stack")
    if kind == "production-stack":
        shim = tmp_path / "vllm"
        shim.write_text((out / "vllm").read_text().replace("/opt/gptoss-kit", str(tmp_path)))
        (tmp_path / "start.py").write_text("import sys; print('started', sys.argv[1:])")
        done = subprocess.run(["sh", shim, "serve", "/models/x"], capture_output=True, text=True, check=True)
        assert done.stdout == "started []\n"  # start.py takes no arguments of the chart's
    linted = subprocess.run([Path(sys.executable).with_name("hadolint"), out / "Dockerfile"], capture_output=True)
    assert (linted.returncode, linted.stdout) == (0, b"")


@pytest.mark.parametrize("kind", KINDS)
def test_the_renders(folder, golden, kind):
    out = folder(kind, registry="ghcr.io/acme", secrets={"VLLM_API_KEY": "vllm-key"})
    for name in ("manifests.yaml", "values.yaml", "claim.yaml", "fill.yaml"):
        if (out / name).exists():
            golden(f"deploy/kubernetes/{kind}/{name}", (out / name).read_text())
    golden(f"deploy/kubernetes/{kind}/README.md", (out / "README.md").read_text())


def test_the_pod_has_what_the_server_needs_and_no_more(tmp_path):
    made = make_checkpoint(tmp_path / "merged", **WIDE)
    proof = make_report(tmp_path / "report.json", made)
    serve = {"max_model_len": 2048, "tensor_parallel": 4, "drain": 40, "hang_after": 50}
    recipe = Recipe.model_validate({"serve": serve, "deploy": {"startup_seconds": 905}})
    render.render("kubernetes", recipe=recipe, checkpoint=made.folder, report=proof, out=tmp_path / "out")
    template = of(tmp_path / "out", "Deployment")["spec"]["template"]["spec"]
    (server,) = template["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    shared = next(v["emptyDir"] for v in template["volumes"] if v["name"] == "shared")
    assert shared["medium"] == "Memory"
    assert {m["mountPath"] for m in server["volumeMounts"]} >= {"/dev/shm", "/cache", "/tmp", "/models"}
    assert server["securityContext"]["readOnlyRootFilesystem"]
    assert server["securityContext"]["runAsNonRoot"]
    assert not template["automountServiceAccountToken"]
    slept = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert template["terminationGracePeriodSeconds"] >= slept + 40 + 4 + 5  # drain, EXIT_GRACE and GONE of serve
    for probe, least in (("startupProbe", 905), ("livenessProbe", 10 * 50)):  # pulse gives a busy engine ten times
        assert server[probe]["periodSeconds"] * server[probe]["failureThreshold"] > least
    assert server["startupProbe"]["httpGet"]["path"] == server["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert server["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_one_gpu_shares_no_memory_and_a_bigger_checkpoint_asks_for_more(folder):
    d = deployed(folder())
    assert "shared" not in {v["name"] for v in pod.volumes(d)}
    small, big = (int(pod.resources(d, gb)["requests"]["memory"].removesuffix("Gi")) for gb in (13, 65))
    assert small < big
    assert big > 65 / 1.074
    assert int(claim.claim(d, 65)["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) > 2 * 65 / 1.074


@pytest.mark.parametrize(("spare", "surge"), [(False, (0, 1)), (True, (1, 0))])
def test_a_rollout_waits_for_no_gpu_that_is_not_there(folder, spare, surge):
    rolling = of(folder(table={"spare": spare}), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (rolling["maxSurge"], rolling["maxUnavailable"]) == surge


def test_what_is_served_is_in_the_rollout_and_not_only_in_the_image(folder):
    one, other = folder(), folder(serve={"max_effort": "low"})
    settings = []
    for out in (one, other):
        spec = of(out, "Deployment")["spec"]["template"]["spec"]
        settings.append(next(v["configMap"]["name"] for v in spec["volumes"] if v["name"] == "settings"))
        held = of(out, "ConfigMap")
        assert held["metadata"]["name"] == settings[-1]
        text = json.loads(held["data"]["deployment.json"])
        assert text["settings"]["deployment"] == json.loads(deployed(out).model_dump_json())
    assert settings[0] != settings[1]


def test_secrets_go_by_name(folder):
    for kind in KINDS:
        out = folder(kind, **FULL)
        text = "".join(p.read_text() for p in out.glob("*.yaml"))
        assert '"secretKeyRef": {' in text
        assert '"vllm-key"' in text
        assert "kind: Secret" not in text
        assert '"kind": "Secret"' not in text


@pytest.mark.parametrize(
    ("bounds", "mode"), [((0, 1), "Knative"), ((1, 3), "Knative"), ((2, 2), "Standard"), ((1, 1), "Standard")]
)
def test_kserve_scales_by_requests_in_flight_where_there_is_something_to_scale(folder, bounds, mode):
    out = folder("kserve", min_replicas=bounds[0], max_replicas=bounds[1], concurrency=7)
    service = of(out, "InferenceService")
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == bounds
    assert (predictor.get("scaleTarget"), predictor.get("scaleMetric")) == (
        (7, "concurrency") if mode == "Knative" else (None, None)
    )
    assert predictor["timeout"] == 300
    assert predictor["containers"][0]["name"] == "kserve-container"


def test_every_gpu_of_the_table_is_known_by_its_label():
    assert set(pod.PRODUCTS) == set(sizing.hardware().gpu)


ENGINE = f"vllm/vllm-openai:v0.32.0@sha256:{'0' * 64}"
GOOD = {"engine": ENGINE, "registry": "ghcr.io/acme", "min_replicas": 1, "secrets": {"VLLM_API_KEY": "vllm-key"}}
TABLE = {"product": "NVIDIA-H200"}


@pytest.mark.parametrize(
    ("id", "deploy", "table", "serve"),
    [
        ("D051", {"engine": ""}, {}, {}),
        ("D052", {"engine": "vllm/vllm-openai:latest"}, {}, {}),
        ("D090", {"secrets": {}}, {}, {}),
        ("D050", {"registry": ""}, {}, {}),
        ("D091", {}, {"product": ""}, {}),
        ("D023", {"min_replicas": 0}, {}, {}),
        ("D055", {"max_replicas": 2}, {}, {}),
        ("D092", {}, {"kind": "production-stack"}, {}),
        ("D024", {}, {"kind": "production-stack"}, {"drain": 16}),
        ("D093", {"max_replicas": 2}, {}, {}),
        ("D097", {"secrets": {"VLLM_API_KEY": "Vllm_Key"}}, {}, {}),
        ("D022", {"min_replicas": 0}, {"kind": "kserve"}, {}),
        ("D020", {"request_seconds": 601, "max_replicas": 2}, {"kind": "kserve"}, {}),
    ],
)
def test_each_rule_can_break_and_hold(project, id, deploy, table, serve):
    assert id in project.ids(serve=serve, kubernetes={**TABLE, **table}, **{**GOOD, **deploy})
    assert project.ids(kubernetes=TABLE, **GOOD) == set()


def test_a_drain_that_the_charts_pods_can_finish_is_no_warning(project):
    assert "D024" not in project.ids(kubernetes={"kind": "production-stack"}, serve={"drain": 15})


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans() | st.none(),
        lambda v: st.lists(v) | st.dictionaries(st.text(max_size=20), v),
    )
)
def test_what_is_dumped_is_read_back_as_it_was(value):
    class Target:
        target = "kubernetes"

    text = dump([{"a": value}, {"b": "1234567890e12345"}], Target)
    assert load(text) == [{"a": value}, {"b": "1234567890e12345"}]
    assert re.match(r"# Rendered by gptoss-kit \S+ \(deploy render kubernetes\)", text)


def test_yaml_of_any_version_reads_a_digest_as_text(folder):
    assert lettered("20b") == "m-20b"
    assert lettered("docs") == "docs"
    text = dump([{"tag": "12345678901234e5", "on": "no"}], deployed(folder()))
    assert yaml.safe_load(text) == {"tag": "12345678901234e5", "on": "no"}
    assert '"12345678901234e5"' in text  # quoted, for readers to whom it would be a number


# The cluster


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    root = tmp_path / "cluster"
    root.mkdir()
    place = programs(tmp_path, "cluster.py", "kubectl", "helm", "docker")
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    monkeypatch.setenv("CLUSTER", str(root))
    return root


def said(cluster):
    return [" ".join(json.loads(line)) for line in (cluster / "said").read_text().splitlines()]


def has(cluster):
    return set(json.loads((cluster / "objects.json").read_text()))


def put(cluster, *things):
    path = cluster / "objects.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **{t: {} for t in things}}))


NEW = Live(target="kubernetes", name="python-docs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_push_makes_what_was_rendered_and_a_second_one_copies_nothing(project, folder, cluster, kind):
    out = folder(kind, **FULL, table={"namespace": "ml"})
    put(cluster, "Secret/vllm-key", "Secret/hf-read")
    d = deployed(out)
    record, lines = carried_out(live.push(d, out, NEW), out, NEW)
    assert "is ready in here, namespace ml" in lines[0]
    folder_there = cluster / "models" / Path(d.model_path).name
    assert {p.name for p in folder_there.iterdir()} == {p.name for p in (project.checkpoint).iterdir()}
    assert not (cluster / "models" / Path(claim.part(d)).name).exists()
    made = {"Namespace/ml", "PersistentVolumeClaim/models", f"ConfigMap/{pod.settings_name(d)}"}
    made |= {
        "plain": {"Deployment/python-docs", "Service/python-docs"},
        "hosts": {"LeaderWorkerSet/python-docs-hosts", "Service/python-docs", "NetworkPolicy/python-docs-hosts"},
        "kserve": {"InferenceService/python-docs"},
    }.get(kind, set())
    assert made <= has(cluster)
    assert "Pod/models-fill" not in has(cluster)
    assert (cluster / "releases").exists() == (kind == "production-stack")
    words = said(cluster)
    trial, real = (n for n, line in enumerate(words) if "--filename manifests.yaml" in line)
    assert "--dry-run=server" in words[trial]
    assert "--dry-run" not in words[real]
    (cluster / "said").unlink()
    _, _ = carried_out(live.push(d, out, record), out, record)
    assert not any(" cp " in line or " exec " in line or "create" in line for line in said(cluster))
    assert any("apply" in line for line in said(cluster))
    client = live.client(d, record)
    assert client.key_env == "VLLM_API_KEY"
    assert str(client.base_url) == (
        "http://python-docs.default.example.com/v1" if kind == "kserve" else "http://127.0.0.1:8000/v1"
    )


def test_weights_that_were_torn_on_the_way_take_no_place_and_a_push_again_mends_it(folder, cluster):
    out = folder()
    d = deployed(out)
    (cluster / "torn").touch()
    with pytest.raises(AssertionError, match=r"proven: .*"):
        carried_out(live.push(d, out, NEW), out, NEW)
    place = cluster / "models" / Path(d.model_path).name
    assert not place.exists()
    assert "Deployment/python-docs" not in has(cluster)
    (cluster / "torn").unlink()
    carried_out(live.push(d, out, NEW), out, NEW)
    assert place.is_dir()


def test_weights_that_somebody_else_put_there_are_proven_and_not_copied(project, folder, cluster):
    out = folder()
    d = deployed(out)
    put(cluster, "PersistentVolumeClaim/models")
    shutil.copytree(project.checkpoint, cluster / "models" / Path(d.model_path).name)
    carried_out(live.push(d, out, NEW), out, NEW)
    assert not any(" cp " in line for line in said(cluster))
    weights = cluster / "models" / Path(d.model_path).name / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (cluster / "said").unlink()
    carried_out(live.push(d, out, NEW), out, NEW)
    assert any(" cp " in line for line in said(cluster))


def test_another_checkpoint_in_the_place_is_not_taken_for_this_one(folder, cluster, tmp_path):
    out = folder()
    d = deployed(out)
    put(cluster, "PersistentVolumeClaim/models")
    place = cluster / "models" / Path(d.model_path).name
    make_checkpoint(place, name="another")  # whole, and not this one
    carried_out(live.push(d, out, NEW), out, NEW)
    assert checkpoint.read(place).digest == d.digest


@pytest.mark.parametrize("command", ["push", "rollback"])
def test_a_secret_that_is_not_there_is_said_before_anything_is_made(folder, cluster, command):
    out = folder(**FULL)
    with pytest.raises(UserError) as caught:
        carried_out(getattr(live, command)(deployed(out), out, NEW), out, NEW)
    assert "there is no Secret vllm-key" in caught.value.what
    assert 'printf %s "$VLLM_API_KEY" | kubectl' in caught.value.fix
    assert "create secret generic vllm-key --from-file=VLLM_API_KEY=/dev/stdin" in caught.value.fix
    assert not (cluster / "objects.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_that_is_told_removes_what_was_applied(folder, cluster, kind):
    out = folder(kind)
    steps, _ = dryrun.rehearse(lambda: live.push(deployed(out), out, NEW), there=False)
    removes = [s.remove for s in steps if s.id in ("apply", "chart")]
    carried_out(live.push(deployed(out), out, NEW), out, NEW)
    assert len(has(cluster)) > 1
    for command in removes:
        subprocess.run(command, shell=True, check=True, capture_output=True)
    assert has(cluster) == {"PersistentVolumeClaim/models"}


def test_a_set_that_the_release_before_has_made_ready_is_waited_for(folder, cluster):
    """Its pods are ready with the settings that they have: those of before, at the first look."""
    out = folder("hosts")
    d = deployed(out)
    carried_out(live.push(d, out, NEW), out, NEW)
    looks = [line for line in said(cluster) if "get pods" in line]
    assert len(looks) == 2
    assert "component in (inference,engine)" in looks[0]


def waited(out, told):
    """A push into a cluster whose pods are `told`, until it gives up."""
    flow = live.push(deployed(out), out, NEW)
    result = None
    while True:
        step = flow.send(result)
        result = {"out": told if step.id == "ready" else "here", "code": 0}


@pytest.mark.parametrize(
    "told",
    [
        "inference before True\nengine MARK True",
        "inference MARK False",
        "inference MARK",  # it has no condition yet
        "engine MARK True",
        "inference MARK True\ninference before True",  # a group of the release before is still there
        "",
    ],
)
def test_a_set_that_is_not_wholly_ready_is_said(folder, cluster, monkeypatch, told):
    out = folder("hosts", startup_seconds=100)
    monkeypatch.setattr(live, "LOOKS_APART", 300)
    mark = group.mark(documents(out))
    with pytest.raises(UserError, match=r"python-docs-hosts is not ready within 700 s") as caught:
        waited(out, told.replace("MARK", mark))
    assert "of 1 are ready as they were rendered" in caught.value.why
    assert "describe pods --selector 'app.kubernetes.io/name=python-docs," in caught.value.fix


def test_a_change_of_the_pods_alone_is_another_release_too(folder):
    marks = {group.mark(documents(folder("hosts", **told))) for told in ({}, {"table": {"product": "NVIDIA-H200"}})}
    assert len(marks) == 2


def test_a_cluster_with_an_api_that_is_ill_knows_the_others(folder, cluster):
    (cluster / "ill").touch()
    out = folder("hosts")
    carried_out(live.push(deployed(out), out, NEW), out, NEW)
    (cluster / "bare").touch()  # and nothing was told: what is applied first will tell
    _, lines = carried_out(live.push(deployed(out), out, NEW), out, NEW)
    assert "is ready in here" in lines[0]


def test_the_hosts_end_in_an_order_that_lets_requests_end(folder, cluster):
    """The first drains while the others still compute; pods that are deleted beside their set come back for a while."""
    out = folder("hosts")
    record, _ = carried_out(live.push(deployed(out), out, NEW), out, NEW)
    before = len(said(cluster))
    carried_out(live.destroy(deployed(out), record), out, record)
    words = [line for line in said(cluster)[before:] if " delete " in line or " wait " in line]
    assert [line.split()[3:5] for line in words] == [
        ["delete", "leaderworkersets.leaderworkerset.x-k8s.io"],
        ["wait", "--for=delete"],
        ["delete", words[2].split()[4]],
    ]
    assert words[2].split()[4].endswith("pods")


@pytest.mark.parametrize(("kind", "api"), [("hosts", "LeaderWorkerSet"), ("kserve", "KServe")])
def test_a_cluster_that_does_not_know_what_would_be_applied_is_said_before(folder, cluster, kind, api):
    (cluster / "bare").touch()
    out = folder(kind)
    with pytest.raises(UserError, match=f"the cluster does not know {api}"):
        carried_out(live.push(deployed(out), out, NEW), out, NEW)
    assert not (cluster / "objects.json").exists()


@pytest.mark.parametrize(("kind", "other"), [("plain", "hosts"), ("plain", "kserve"), ("hosts", "plain")])
def test_a_release_of_another_kind_would_hold_gpus_beside_the_one_before(folder, cluster, kind, other):
    out, then = folder(kind), folder(other)
    record, _ = carried_out(live.push(deployed(out), out, NEW), out, NEW)
    before = has(cluster)
    for flow in (live.push(deployed(then), then, record), live.rollback(deployed(then), then, record)):
        with pytest.raises(
            UserError, match=r"python-docs(-hosts)? in namespace default was pushed from here"
        ) as caught:
            carried_out(flow, then, record)
        assert "deploy destroy" in caught.value.fix
    assert has(cluster) == before
    carried_out(live.push(deployed(out), out, record), out, record)


def test_the_hosts_of_a_replica(folder):
    out = folder("hosts", min_replicas=2, secrets={"VLLM_API_KEY": "vllm-key", "HF_TOKEN": "hf-read"})
    spec, d = of(out, "LeaderWorkerSet")["spec"], deployed(out)
    held = spec["leaderWorkerTemplate"]
    first, other = (held[name] for name in ("leaderTemplate", "workerTemplate"))
    assert (spec["replicas"], held["size"], d.gpus) == (2, 2, 2)  # of four GPUs that share it, two in each pod
    assert of(out, "LeaderWorkerSet")["metadata"]["name"] != of(out, "Service")["metadata"]["name"]
    asked = of(out, "Service")["spec"]["selector"]
    assert asked.items() <= first["metadata"]["labels"].items()
    assert not asked.items() <= other["metadata"]["labels"].items()  # callers go where the server is
    (server,), (engine,) = (template["spec"]["containers"] for template in (first, other))
    names = [{given["name"] for given in container["env"]} for container in (server, engine)]
    assert names[0] - names[1] == {"VLLM_API_KEY"}
    assert {"VLLM_HOST_IP", "HF_TOKEN"} <= names[1]
    assert not {"readinessProbe", "livenessProbe", "startupProbe", "ports", "lifecycle"} & set(engine)
    assert server["image"] == engine["image"]
    for template in (first, other):
        assert {v["name"] for v in template["spec"]["volumes"]} >= {"settings", "shared", "weights"}
    rolling = spec["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}  # LeaderWorkerSet copies it where 0 is refused, unseen
    probe = server["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > d.limits.startup_seconds + 600  # the others come late
    everyone = of(out, "NetworkPolicy")["spec"]
    whose = everyone["podSelector"]
    assert everyone["ingress"] == [{"from": [{"podSelector": whose}]}, {"ports": [{"protocol": "TCP", "port": 8000}]}]
    assert whose == of(out, "PodDisruptionBudget")["spec"]["selector"]
    parts = {template["metadata"]["labels"]["app.kubernetes.io/component"] for template in (first, other)}
    assert parts == set(whose["matchExpressions"][0]["values"])
    claimed = of(out, "PersistentVolumeClaim", "claim.yaml")["spec"]
    assert claimed["accessModes"] == ["ReadWriteMany"]


def test_one_gpu_in_each_of_two_hosts_shares_memory_too(folder):
    d = deployed(folder("hosts", serve={"tensor_parallel": 2}))
    assert d.gpus == 1
    assert "shared" in {v["name"] for v in pod.volumes(d)}  # vLLM's queues to its workers take more than 64 MiB


def test_what_readme_says_of_hosts_is_what_a_gpt_oss_can_be_shared_by(tmp_path):
    """20b and 120b have eight key/value heads: sixteen GPUs take two groups of eight."""
    said = (Path(__file__).parent.parent / "README.md").read_text()
    ways = r"`\[deploy.kubernetes\] hosts = (\d)` with `\[serve\] tensor_parallel = (\d+)` and `data_parallel = (\d+)`"
    pair = r" is a LeaderWorkerSet of (\w+) pods of (\w+) GPUs, "
    other = r".*?; with `tensor_parallel = (\d+)` alone, of two pods of (\w+)\."
    hosts, ways, groups, pods, gpus, alone, each = re.search(ways + pair + other, said).groups()
    assert (pods, gpus, each) == ("two", "eight", "four")
    real = {"num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 2880, "hidden_size": 2880}
    project = Project(tmp_path, "kubernetes", **real)
    for serve, held in (
        ({"tensor_parallel": int(ways), "data_parallel": int(groups)}, 8),
        ({"tensor_parallel": int(alone)}, 4),
    ):
        told = {"serve": serve, "kubernetes": {"hosts": int(hosts)}, **GOOD}
        found = checks.examine(project.recipe(**told), project.checkpoint, project.report, "kubernetes")
        assert found.errors == ()
        assert found.deployment.gpus == held


@pytest.mark.parametrize("name", ["HOME", "PATH", "VLLM_HOST_IP", "VLLM_SYSTEM_START_DATE", "GPTOSS_SERVE_SETTINGS"])
def test_a_secret_takes_no_variable_that_the_container_sets_itself(project, name):
    assert "D004" in project.ids(**{**GOOD, "secrets": {**GOOD["secrets"], name: "a-secret"}})
    assert "D004" not in project.ids(**{**GOOD, "secrets": {**GOOD["secrets"], f"MY_{name}": "a-secret"}})


def test_what_cannot_be_shared_out_among_hosts_is_said(project):
    several = {"kubernetes": {"hosts": 3}, **GOOD}
    found = checks.examine(
        project.recipe(serve={"tensor_parallel": 4}, **several), project.checkpoint, project.report, "kubernetes"
    )
    assert [f.id for f in found.errors] == ["D008"]
    assert found.errors[0].what == "4 GPUs cannot be shared out among 3 hosts"
    with pytest.raises(ValidationError, match='hosts = 2 goes with kind = "plain"'):
        project.recipe(kubernetes={"hosts": 2, "kind": "kserve"})
    with pytest.raises(ValidationError, match="hosts = 2 and spare = true"):
        project.recipe(kubernetes={"hosts": 2, "spare": True})


def test_the_default_namespace_is_neither_looked_for_nor_made(folder):
    out = folder()
    steps, _ = dryrun.rehearse(lambda: live.push(deployed(out), out, NEW), there=False)
    assert not any("namespace" in s.id for s in steps)
    assert steps[-1].id == "ready"


def test_another_cluster_than_the_last_is_refused(folder, cluster):
    out = folder()
    d = deployed(out)
    record, _ = carried_out(live.push(d, out, NEW), out, NEW)
    (cluster / "context").write_text("production")
    for flow in (live.push(d, out, record), live.destroy(d, record)):
        with pytest.raises(UserError, match="set to 'production', this folder was pushed to 'here'"):
            carried_out(flow, out, record)


@pytest.mark.parametrize(
    "fault", ["apply --server-side --field-manager=gptoss-kit --dry-run", "rollout", "docker push"]
)
def test_a_push_that_failed_can_be_done_again(folder, cluster, fault):
    out = folder(registry="ghcr.io/acme")
    d = deployed(out)
    (cluster / "faults").write_text(fault)
    with pytest.raises(AssertionError, match="planted"):
        carried_out(live.push(d, out, NEW), out, NEW)
    assert ("Deployment/python-docs" in has(cluster)) if fault == "rollout" else True
    (cluster / "faults").unlink()
    _, lines = carried_out(live.push(d, out, NEW), out, NEW)
    assert "is ready" in lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_status_logs_rollback_and_destroy(folder, cluster, kind):
    out = folder(kind, min_replicas=2)
    d = deployed(out)
    record, _ = carried_out(live.push(d, out, NEW), out, NEW)
    _, lines = carried_out(live.status(d, record), out, record)
    assert lines[0] == f"python-docs: 1 of 2 pods ready; the recipe has {'2 x 2 hosts' if kind == 'hosts' else 2}"
    assert "fill" in {step.id for step in record.last.steps if step.makes}
    assert "fill" not in running.standing(record.last.steps)  # which was there until the weights were copied
    assert any("port-forward" in line or "example.com" in line for line in lines)
    carried_out(live.logs(d, record), out, record)
    before = len(said(cluster))
    applied = ["apply", *{"kserve": ["wait"], "plain": ["rollout"]}.get(kind, [])]
    _, lines = carried_out(live.rollback(d, out, record), out, record)
    assert lines[0] == f"{d.model} is ready again in here, namespace default"
    words = [line.split() for line in said(cluster)[before:]]
    assert not any("docker" in line or "exec" in line for line in words)  # image and weights are where they were
    ran = [word for line in words for word in line if word in ("apply", "wait", "rollout", "upgrade")]
    assert ran == ["apply", "apply", "upgrade"] if kind == "production-stack" else ["apply", *applied]
    _, lines = carried_out(live.destroy(d, record), out, record)
    assert has(cluster) == {"PersistentVolumeClaim/models"}
    assert "kept" in lines[1]
    assert not (cluster / "releases").exists()
    carried_out(live.destroy(d, record), out, record)  # what has gone is no error


def test_steps_that_make_something_say_how_it_is_removed(folder, cluster):
    out = folder(**{**FULL, "secrets": {}}, table={"namespace": "ml"})
    flow, steps, result = live.push(deployed(out), out, NEW), [], None
    while True:
        try:
            steps.append(flow.send(result))
        except StopIteration:
            break
        result = {"out": "here", "code": 1}
    assert all(s.remove for s in steps if s.makes and s.id != "copy")
    assert "FOLDER" not in "".join(s.remove for s in steps)  # a line that can be run as it stands
    assert len({s.id for s in steps}) == len(steps)
    assert {s.id for s in steps} >= {"namespace-made", "claim-made", "fill", "copy", "proven", "apply", "ready"}


def test_the_readme_says_the_words_that_a_push_says(folder, cluster):
    for kind in KINDS:
        out = folder(kind, registry="ghcr.io/acme")
        readme = (out / "README.md").read_text().replace("\\\n     ", "")
        carried_out(live.push(deployed(out), out, NEW), out, NEW)
        for line in said(cluster):
            if any(
                word in line for word in ("apply", "docker", " cp ", "helm", "wait --for=condition=Ready --timeout")
            ):
                if "--filename claim.yaml" in line or "--filename fill.yaml" in line or "pod/models-fill" in line:
                    continue  # by hand both at once
                assert " ".join(line.split()) in " ".join(readme.split()), line
        shutil.rmtree(cluster)
        cluster.mkdir()
    assert kinds.CHART_VERSION in readme
