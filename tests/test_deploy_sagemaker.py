"""The CloudFormation stack against botocore's model of the SageMaker API: names, enums, ranges, patterns."""

import json
import re

import botocore.session
import pytest
from deployment import rendered

from deploy import sizing
from deploy.spec import Deployment
from deploy.targets import sagemaker
from deploy.targets.sagemaker import AMI, regions

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
        {"gpu": "L4", "startup_seconds": 100},
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


def lint(template, region):
    from cfnlint.api import lint as run
    from cfnlint.config import ManualArgs

    return [str(f) for f in run(json.dumps(template), config=ManualArgs(regions=[region]))]


CHINA = {"role_arn": GIVEN["RoleArn"].replace("aws:", "aws-cn:")}
TOPIC = "arn:aws:sns:us-west-2:123456789012:operators"


@pytest.mark.parametrize(
    ("region", "deploy"),
    [
        ("us-west-2", {}),
        ("us-west-2", {"min_replicas": 2, "max_replicas": 4, "sagemaker": {"alarm_topic": TOPIC}}),
        ("cn-north-1", {"region": "cn-north-1", "gpu": "A10G"}),
        ("us-gov-west-1", {"region": "us-gov-west-1", "gpu": "L4", "max_replicas": 2}),
    ],
)
def test_cfn_lint_finds_nothing(tmp_path, region, deploy):
    template = stack(tmp_path, **deploy)
    assert lint(template, region) == []


def test_cfn_lint_would_find_a_fault(tmp_path):
    template = stack(tmp_path)
    variant = template["Resources"]["EndpointConfig"]["Properties"]["ProductionVariants"][0]
    variant["ContainerStartupHealthCheckTimeoutInSeconds"] = 7200
    template["Resources"]["Endpoint"]["Properties"]["DeploymentConfig"]["BlueGreen"] = {}
    del template["Resources"]["SlowAlarm"]
    found = " ".join(lint(template, "us-west-2"))
    for word in ("7200", "BlueGreen", "SlowAlarm"):
        assert word in found


def test_an_update_is_watched_by_alarms_that_are_there_before_it(tmp_path):
    resources = stack(tmp_path)["Resources"]
    rollout = resources["Endpoint"]["Properties"]["DeploymentConfig"]
    watched = [a["AlarmName"]["Ref"] for a in rollout["AutoRollbackConfiguration"]["Alarms"]]
    assert watched == ["ErrorAlarm", "SlowAlarm"]
    for name in watched:
        assert resources[name]["Properties"]["TreatMissingData"] == "notBreaching"
    gone = resources["GoneAlarm"]
    assert gone["DependsOn"] == "Endpoint"
    assert gone["Properties"]["TreatMissingData"] == "breaching"
    assert resources["SlowAlarm"]["Properties"]["Threshold"] == 240_000_000  # of 300 s, in microseconds
    update = rollout["BlueGreenUpdatePolicy"]
    assert update["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert update["MaximumExecutionTimeoutInSeconds"] > 2 * 1800 + 600


def test_alarms_tell_the_topic_and_one_machine_of_several_goes_first(tmp_path):
    resources = stack(tmp_path, min_replicas=2, max_replicas=2, sagemaker={"alarm_topic": TOPIC})["Resources"]
    alarms = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 3
    assert all(a["AlarmActions"] == a["OKActions"] == [TOPIC] for a in alarms)
    routing = resources["Endpoint"]["Properties"]["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert routing["TrafficRoutingConfiguration"]["CanarySize"] == {"Type": "INSTANCE_COUNT", "Value": 1}


def test_the_table_of_regions_is_what_cfn_lint_and_botocore_know():
    import importlib.resources

    data = importlib.resources.files("cfnlint.data.schemas.extensions.aws_sagemaker_hosting")
    known = json.loads(data.joinpath("instancetype_enum.json").read_text())
    session = botocore.session.get_session()
    machines = [
        machine
        for gpu in sizing.hardware().lent_by("sagemaker").values()
        for machine in (gpu.sagemaker.machine, *gpu.sagemaker.several.values())
    ]
    assert set(regions.table().region) == known.keys() - {"description"}
    for region in regions.table().region:
        assert [m for m in machines if regions.table().lends(region, m)] == [
            m for m in machines if m in known[region]["enum"]
        ]
        partition = regions.partition_of(region)
        assert region in session.get_available_regions("sagemaker", partition_name=partition)
        client = session.create_client(
            "sagemaker-runtime", region_name=region, aws_access_key_id="a", aws_secret_access_key="b"
        )
        assert regions.runtime_url(region, "docs") == f"{client.meta.endpoint_url}/endpoints/docs/openai/v1"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A deployment without an error of its own, to plant one in."""
    place = tmp_path_factory.mktemp("sound")
    out = rendered(place, "sagemaker", sagemaker={"bucket": "acme", "role_arn": GIVEN["RoleArn"]})
    return Deployment.model_validate(json.loads((out / "deployment.json").read_text())["settings"]["deployment"])


@pytest.mark.parametrize(
    ("change", "id", "said"),
    [
        ({}, "", ""),
        ({"region": "us-east-1"}, "D041", "no ml.p5.4xlarge (H100) in us-east-1"),
        ({"region": "us-east-1", "machine": "ml.g7e.2xlarge"}, "", ""),
        ({"region": "cn-north-1", "table": CHINA}, "D041", "in cn-north-1"),
        ({"region": "cn-northwest-1", "machine": "ml.g5.2xlarge", "table": CHINA}, "D041", "hosted in cn-north-1"),
        ({"region": "zz-nowhere-9"}, "D042", "no region zz-nowhere-9"),
        ({"name": "3d-docs"}, "D043", "cannot name a CloudFormation stack"),
        ({"name": "x"}, "D043", "cannot name an ECR repository"),
        ({"name": "x" * 64}, "D043", "cannot name an endpoint"),
        ({"table": {"alarm_topic": TOPIC.replace("west-2", "east-2")}}, "D044", "us-east-2"),
        ({"table": {"alarm_topic": TOPIC.replace("aws:sns", "aws-cn:sns")}}, "D044", "alarm_topic"),
        ({"table": {"role_arn": GIVEN["RoleArn"].replace("aws:", "aws-cn:")}}, "D044", "partition aws-cn"),
        ({"table": {"bucket": ""}}, "D045", "bucket not set"),
        ({"table": {"role_arn": ""}}, "D045", "role_arn not set"),
        ({"env": {f"A{n}": "x" for n in range(101)}}, "D040", "101 environment variables"),
    ],
)
def test_each_rule_of_ours_is_broken_by_its_fault(sound, change, id, said):
    table = {**sound.table, **change.get("table", {})}
    found = sagemaker.findings(sound.model_copy(update={**change, "table": table}))
    ours = {f.id: f for f in found if f.id > "D031" and f.id < "D050"}
    assert ours.keys() == ({id} if id else set())
    assert not id or said in f"{ours[id].what} {ours[id].why}"
    assert not id or ours[id].fix


def test_china_has_its_own_addresses(tmp_path):
    out = rendered(tmp_path, "sagemaker", gpu="A10G", sagemaker={"region": "cn-north-1"})
    readme = (out / "README.md").read_text()
    assert 'REGISTRY="$ACCOUNT.dkr.ecr.cn-north-1.amazonaws.com.cn"' in readme
    assert "https://runtime.sagemaker.cn-north-1.amazonaws.com.cn/endpoints/python-docs/openai/v1" in readme
    assert "amazonaws.com/" not in readme
    assert "partition aws-cn" in readme


def test_the_readme_fills_in_what_the_recipe_names(tmp_path):
    table = {"bucket": "acme-weights", "role_arn": GIVEN["RoleArn"]}
    readme = (rendered(tmp_path, "sagemaker", sagemaker=table) / "README.md").read_text()
    assert "s3://acme-weights/python-docs/" in readme
    assert f'"RoleArn={GIVEN["RoleArn"]}"' in readme
    assert "$BUCKET" not in readme
    assert "D045" not in readme
