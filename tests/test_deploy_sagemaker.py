"""The CloudFormation stack against botocore's model of the SageMaker API: names, enums, ranges, patterns."""

import json
import re

import botocore.session
import pytest
from deployment import rendered

from deploy import sizing
from deploy.targets.sagemaker import AMI

GIVEN = {
    "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/python-docs@sha256:" + "0" * 64,
    "ModelDataUri": "s3://bucket/python-docs/0123456789abcdef/",
    "RoleArn": "arn:aws:iam::123456789012:role/endpoint",
}
REQUESTS = {
    "Model": "CreateModelInput",
    "EndpointConfig": "CreateEndpointConfigInput",
    "Endpoint": "CreateEndpointInput",
}
UPDATES = {"RetainAllVariantProperties"}  # what CloudFormation sends with an update alone
# Left out of the stack so that CloudFormation names them, and can replace them; the API itself asks for them.
NAMED = {"Model": {"ModelName": "made"}, "EndpointConfig": {"EndpointConfigName": "made"}}


@pytest.fixture(scope="module")
def api():
    return botocore.session.get_session().get_service_model("sagemaker")


def stack(tmp_path, **deploy):
    return json.loads((rendered(tmp_path, "sagemaker", **deploy) / "stack.json").read_text())


def resolved(value):
    """A template's value with parameters and references filled in."""
    if isinstance(value, dict) and "Ref" in value:
        return GIVEN.get(value["Ref"], "made-by-cloudformation")
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        return "made-by-cloudformation"
    if isinstance(value, dict):
        return {k: resolved(v) for k, v in value.items()}
    return [resolved(v) for v in value] if isinstance(value, list) else value


def problems(shape, value, at=""):
    """Everything in `value` that the API's own description does not allow."""
    limits, found = shape.metadata, []
    size = value if isinstance(value, int | float) else len(value)
    if not limits.get("min", size) <= size <= limits.get("max", size):
        found.append(f"{at}: {size} is outside {limits.get('min')}..{limits.get('max')}")
    if shape.type_name == "structure":
        found += [f"{at}.{k}: no such field" for k in value if k not in shape.members]
        found += [f"{at}.{k}: missing" for k in shape.required_members if k not in value]
        found += [p for k, v in value.items() if k in shape.members for p in problems(shape.members[k], v, f"{at}.{k}")]
    elif shape.type_name == "list":
        found += [p for i, v in enumerate(value) for p in problems(shape.member, v, f"{at}[{i}]")]
    elif shape.type_name == "map":
        for k, v in value.items():
            found += problems(shape.key, k, f"{at} key") + problems(shape.value, v, f"{at}.{k}")
    elif shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            found.append(f"{at}: {value} is not one of the API's {len(shape.enum)} values")
        pattern = limits.get("pattern", ".*").replace(r"\p{L}\p{Z}\p{N}", r"\w\s")  # which Python's re does not know
        if not re.fullmatch(pattern, value, re.DOTALL):
            found.append(f"{at}: {value} does not match {limits['pattern']}")
    return found


def stack_problems(api, template):
    found = []
    for name, request in REQUESTS.items():
        sent = NAMED.get(name, {}) | resolved(template["Resources"][name]["Properties"])
        later = {k: sent.pop(k) for k in UPDATES & sent.keys()}
        found += problems(api.shape_for(request), sent, name)
        if later:
            whole = {k: sent[k] for k in ("EndpointName", "EndpointConfigName", "DeploymentConfig")}
            found += problems(api.shape_for("UpdateEndpointInput"), {**whole, **later}, name)
    return found


@pytest.mark.parametrize(
    "deploy",
    [
        {},
        {"min_replicas": 2, "max_replicas": 4, "startup_seconds": 3600},
        {"gpu": "L4", "startup_seconds": 60},
    ],
)
def test_the_stack_is_what_the_api_takes(api, tmp_path, deploy):
    assert stack_problems(api, stack(tmp_path, **deploy)) == []


def test_the_stack(tmp_path, golden):
    golden("deploy/sagemaker/stack.json", (rendered(tmp_path, "sagemaker", max_replicas=3) / "stack.json").read_text())


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("EndpointConfig", "ProductionVariants", 0, "InstanceType"), "ml.p5.5xlarge", "not one of"),
        (("EndpointConfig", "ProductionVariants", 0, "InferenceAmiVersion"), "al2-gpu-9", "not one of"),
        (("EndpointConfig", "ProductionVariants", 0, "ContainerStartupHealthCheckTimeoutInSeconds"), 7200, "outside"),
        (("EndpointConfig", "ProductionVariants", 0, "ModelDataDownloadTimeoutInSeconds"), 59, "outside"),
        (("EndpointConfig", "ProductionVariants", 0, "InstanceCount"), 1, "no such field"),
        (("Model", "PrimaryContainer", "Environment"), {"A": "x" * 1025}, "outside"),
        (("Model", "PrimaryContainer", "Environment"), {"A-B": "x"}, "does not match"),
        (("Model", "PrimaryContainer", "ModelDataSource", "S3DataSource", "CompressionType"), "Zip", "not one of"),
        (("Endpoint", "EndpointName"), "python.docs", "does not match"),
    ],
)
def test_a_planted_fault_is_caught(api, tmp_path, path, value, complaint):
    template = stack(tmp_path)
    place = template["Resources"][path[0]]["Properties"]
    for key in path[1:-1]:
        place = place[key]
    place[path[-1]] = value
    found = stack_problems(api, template)
    assert any(complaint in problem for problem in found), found


def test_every_instance_of_the_hardware_table_exists(api):
    known = api.shape_for("ProductionVariantInstanceType").enum
    lent = [gpu.sagemaker for gpu in sizing.hardware().lent_by("sagemaker").values()]
    machines = [machine for offer in lent for machine in (offer.machine, *offer.several.values())]
    assert len(machines) >= 5
    assert [m for m in machines if m not in known] == []
    assert AMI in api.shape_for("ProductionVariantInferenceAmiVersion").enum


def test_parameters_take_what_the_readme_sets_and_no_more(tmp_path):
    parameters = stack(tmp_path)["Parameters"]
    assert parameters.keys() == GIVEN.keys()
    for name, value in GIVEN.items():
        assert re.fullmatch(parameters[name]["AllowedPattern"], value)
    assert not re.fullmatch(parameters["ModelDataUri"]["AllowedPattern"], GIVEN["ModelDataUri"].rstrip("/"))
    assert not re.fullmatch(parameters["ImageUri"]["AllowedPattern"], GIVEN["ImageUri"].split("@")[0] + ":latest")


def test_a_scaling_policy_only_when_there_is_room_to_scale(tmp_path):
    assert "ScalingPolicy" not in stack(tmp_path / "one", max_replicas=1)["Resources"]
    assert stack(tmp_path / "two", max_replicas=2)["Resources"]["ScalableTarget"]["Properties"]["MaxCapacity"] == 2


def test_the_container_is_the_one_that_sagemaker_can_start(tmp_path):
    out = rendered(tmp_path, "sagemaker")
    deployment = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]
    assert deployment["args"][deployment["args"].index("--port") + 1] == "8080"
    assert deployment["model_path"] == "/opt/ml/model"
    assert json.loads(deployment["env"]["GPTOSS_SERVE_SETTINGS"])["sagemaker"] is True
    assert 'ENTRYPOINT ["python3", ' in (out / "Dockerfile").read_text()
