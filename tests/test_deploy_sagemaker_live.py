"""A rendered folder pushed to SageMaker and back: moto's services over a socket, and what AWS says no with."""

import json
import os
import shutil

import boto3
import pytest
from deployment import on_its_day, rendered
from stand_ins import aws as stand_in
from stand_ins.aws import Fault

from deploy import dryrun, looking, pushing, running, targets, undoing
from deploy import folder as folders
from deploy import live as record
from deploy.hands import Hands
from deploy.targets.sagemaker import events, live, rollout
from tune.errors import UserError

REGION, BUCKET, NAME = "us-west-2", "acme-weights", "python-docs"
ROLE = f"arn:aws:iam::{stand_in.ACCOUNT}:role/endpoint"
TABLE = {"bucket": BUCKET, "role_arn": ROLE}
STACK = "cloudformation.DescribeStacks"

# moto's CloudFormation makes models and endpoints; alarms and scaling it leaves out, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A rendered folder beside its checkpoint, made once."""
    place = tmp_path_factory.mktemp("sagemaker")
    rendered(place, "sagemaker", max_replicas=3, sagemaker=TABLE)
    return place


@pytest.fixture
def out(made, tmp_path):
    shutil.copytree(made / "deploy", tmp_path / "deploy")
    shutil.copytree(made / "merged", tmp_path / "merged")
    return tmp_path / "deploy" / "sagemaker"


@pytest.fixture(scope="module")
def spare():
    stand_in.spare()


@pytest.fixture
def cloud(tmp_path, monkeypatch, spare):
    """AWS with the user's own things in it; nothing of ours."""
    from moto.cloudformation.responses import CloudFormationResponse
    from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig

    # Its list of instances ends in 2021; that ours are hosted is held against newer ones in test_deploy_sagemaker.
    monkeypatch.setattr(FakeEndpointConfig, "validate_instance_type", lambda *_: None)
    monkeypatch.setattr(FakeEndpoint, "cloudformation_name_type", staticmethod(lambda: "EndpointName"))
    # AWS makes a change set that changes nothing, and says so of it.
    monkeypatch.setattr(CloudFormationResponse, "_validate_different_update", lambda *_: None)
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.0)
    on_its_day(monkeypatch)
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which keeps what it found
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "for-a-signature-alone")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    programs = stand_in.programs(tmp_path / "bin", tmp_path / "told")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    with stand_in.aws() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        client("ecr").create_repository(repositoryName=NAME)
        client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        server.asked.clear()
        server.before["ecr.DescribeImages"] = lambda: [carried(server, words) for words in told(tmp_path)]
        yield server


def carried(server, words):
    if words[:2] == ["docker", "push"] and words[2] not in server.images:
        server.images.add(words[2])
        server.pushed(words[2], *filter(None, [os.environ.get("FAKE_MANIFEST")]))


def client(service):
    return boto3.client(service, region_name=REGION)


def told(tmp_path):
    path = tmp_path / "told"
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


def push(out, said=None):
    return pushing.push(out, Hands(out, show=lambda _: None), (said if said is not None else []).append, lambda _: None)


def look(command, out):
    at = folders.read(out)
    return running.drive(looking.flow(command, at), Hands(out))


def stack():
    from moto.cloudformation.models import cloudformation_backends

    return cloudformation_backends[stand_in.ACCOUNT][REGION].get_stack(NAME)


def refused(out):
    said = []
    with pytest.raises(UserError) as caught:
        push(out, said)
    return caught.value, said


def test_from_nothing_to_an_endpoint_and_back_to_nothing(out, cloud, tmp_path):
    pushed = push(out)
    at = folders.read(out).deployment
    assert pushed.says[0] == (
        f"{at.model} answers at https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/python-docs/openai/v1"
    )
    assert client("sagemaker").describe_endpoint(EndpointName=NAME)["EndpointStatus"] == "InService"
    (config,) = client("sagemaker").list_endpoint_configs()["EndpointConfigs"]
    variants = client("sagemaker").describe_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    assert variants["ProductionVariants"][0]["InstanceType"] == at.machine == "ml.p5.4xlarge"
    (model,) = client("sagemaker").list_models()["Models"]
    container = client("sagemaker").describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == f"s3://{BUCKET}/{NAME}/{at.digest[:16]}/"
    digest = client("ecr").describe_images(repositoryName=NAME)["imageDetails"][0]["imageDigest"]
    assert container["Image"] == f"{stand_in.ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{NAME}@{digest}"

    lines = look("status", out)
    assert "stack python-docs in us-west-2: CREATE_COMPLETE" in lines
    assert f"endpoint {NAME}: InService" in lines
    assert lines[-1].startswith("cost while it runs: ")
    info = live.client(at, record.read(out, "sagemaker", NAME))
    assert (info.signed, info.stream, info.lists, info.answer_seconds) == ("sagemaker", True, False, 480)
    assert info.base_url in pushed.says[0]

    gone = undoing.destroy(folders.read(out), Hands(out), lambda _: None, lambda _: None)
    assert gone.says[0] == "the stack python-docs in us-west-2 is gone"
    assert f"aws s3 rm --recursive s3://{BUCKET}/{NAME}/{at.digest[:16]}/" in gone.says[1]
    assert digest in gone.says[2]
    assert client("sagemaker").list_endpoints()["Endpoints"] == []
    assert client("ecr").describe_images(repositoryName=NAME)["imageDetails"]  # the user's
    again = undoing.destroy(folders.read(out), Hands(out), lambda _: None, lambda _: None)
    assert again.says[0] == "the stack python-docs in us-west-2 is gone already"
    assert look("status", out) == ("there is no stack python-docs in us-west-2: deploy push FOLDER makes it",)


def test_the_programs_that_carry_image_and_weights(out, cloud, tmp_path):
    push(out)
    registry = f"{stand_in.ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    tag = folders.read(out).deployment.image.rpartition(":")[2]
    ran = told(tmp_path)
    assert [words[:2] for words in ran] == [
        ["aws", "service-quotas"],
        ["aws", "ecr"],
        ["docker", "login"],
        ["docker", "build"],
        ["docker", "push"],
        ["aws", "s3"],
    ]
    login, build, sync = ran[2], ran[3], ran[5]
    assert login[-1].strip() == stand_in.PASSWORD  # came through the pipe
    assert login[1:-1] == ["login", "--username", "AWS", "--password-stdin", registry]
    assert build[2:] == [
        *("--platform", "linux/amd64", "--provenance=false"),
        *("--tag", f"{registry}/{NAME}:{tag}", "."),
    ]
    assert (out / sync[3]).resolve() == (tmp_path / "merged").resolve()
    kept = record.place(out).read_text()
    assert stand_in.PASSWORD not in kept
    assert "for-a-signature-alone" not in kept


def test_a_second_push_finds_everything_done(out, cloud, tmp_path):
    push(out)
    before = len(told(tmp_path))
    assert "was up to date" in push(out).says[0]
    assert [words[:3] for words in told(tmp_path)[before:]] == [["aws", "s3", "sync"]]
    assert cloud.count("cloudformation.ExecuteChangeSet") == 1
    assert client("cloudformation").list_change_sets(StackName=NAME)["Summaries"] == []  # none is left


def test_a_change_of_nothing_that_is_refused_at_once_is_no_error(out, cloud):
    push(out)
    cloud.faults.append(Fault("cloudformation.CreateChangeSet", "ValidationError", "No updates are to be performed."))
    assert "was up to date" in push(out).says[0]


@pytest.mark.parametrize(
    "at", ["build", "copy the weights", "ask CloudFormation", "make the stack", "wait for the answer"]
)
def test_a_push_that_was_stopped_is_taken_up(out, cloud, at):
    """Whatever the first push had done when it was killed, the second ends with the endpoint."""
    said = []

    def say(line):
        said.append(line)
        if line.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pushing.push(out, Hands(out, show=lambda _: None), say, lambda _: None)
    assert said[-1].startswith("go on: deploy push")
    assert push(out).live.last.finished
    assert client("sagemaker").describe_endpoint(EndpointName=NAME)["EndpointStatus"] == "InService"


def again(out, tmp_path, **deploy):
    """Render otherwise, into the same folder."""
    other = tmp_path / "other"
    other.mkdir()
    rendered(other, "sagemaker", max_replicas=3, sagemaker=TABLE, **deploy)
    shutil.rmtree(out)
    shutil.copytree(other / "deploy" / "sagemaker", out)


def test_back_to_the_release_before(out, cloud, tmp_path):
    push(out)
    first = folders.read(out).deployment
    again(out, tmp_path, request_seconds=400, startup_seconds=1700)
    push(out)
    threshold = 400 * 0.8 * 1_000_000

    def slow():
        body = client("cloudformation").get_template(StackName=NAME)["TemplateBody"]
        return body["Resources"]["SlowAlarm"]["Properties"]["Threshold"]

    assert slow() == threshold
    images = {i["imageDigest"] for i in client("ecr").describe_images(repositoryName=NAME)["imageDetails"]}
    assert len(images) == 2
    back = undoing.rollback(folders.read(out), Hands(out), lambda _: None, lambda _: None)
    assert f"{first.model} answers again" in back.says[0]
    assert slow() == 300 * 0.8 * 1_000_000
    with pytest.raises(UserError, match="no release"):
        undoing.rollback(folders.read(out), Hands(out), lambda _: None, lambda _: None)


def test_back_to_an_image_that_is_gone_is_refused_before_anything_changes(out, cloud, tmp_path):
    push(out)
    again(out, tmp_path, request_seconds=400)
    push(out)
    digest = client("ecr").describe_images(repositoryName=NAME)["imageDetails"][0]["imageDigest"]
    client("ecr").batch_delete_image(repositoryName=NAME, imageIds=[{"imageDigest": digest}])
    with pytest.raises(UserError, match="is gone from ECR"):
        undoing.rollback(folders.read(out), Hands(out), lambda _: None, lambda _: None)
    assert cloud.count("cloudformation.ExecuteChangeSet") == 2  # of the pushes


@pytest.mark.parametrize(
    ("fault", "what", "fix"),
    [
        (Fault("sts.*", "InvalidClientTokenId", "no such key", 403), "refuses the key", "aws configure"),
        (Fault("sts.*", "ExpiredToken", "it has expired", 400), "refuses the key", "aws configure"),
        (Fault("ecr.DescribeRepositories", "AccessDeniedException", "User may not"), "does not allow it", "right"),
        (Fault("s3.HEAD", "403", status=403), "does not allow it", "right"),
        (Fault("s3.HEAD", "404", status=404), "there is no bucket", f"aws s3 mb s3://{BUCKET} --region {REGION}"),
        (
            Fault("ecr.DescribeRepositories", "RepositoryNotFoundException", "The repository does not exist"),
            "ECR has no repository",
            f"aws ecr create-repository --region {REGION} --repository-name {NAME}",
        ),
        (Fault("cloudformation.CreateChangeSet", "AccessDenied", "may not", 403), "does not allow it", "right"),
        (Fault("cloudformation.CreateChangeSet", "ValidationError", "Template error"), "does not take", "dry-run"),
        (Fault(STACK, "Throttling", "Rate exceeded", 400), "asked too often", "wait"),
        (Fault("cloudformation.ExecuteChangeSet", "InsufficientCapabilities", "x", 400), "", ""),
    ],
)
def test_what_aws_refuses_is_said_in_words(out, cloud, fault, what, fix, monkeypatch):
    monkeypatch.setattr("deploy.calling.TRIES", 1)
    cloud.faults.append(fault)
    error, said = refused(out)
    assert what in error.what
    assert fix in error.fix
    assert said[-1].startswith("go on: deploy push")


def test_an_answer_that_cannot_be_read_is_no_traceback(out, cloud, monkeypatch):
    monkeypatch.setattr("deploy.calling.TRIES", 1)
    cloud.faults.append(Fault(STACK, "", "\x1b", status=200))
    error, _ = refused(out)
    assert "AWS could not be asked" in error.what


def test_a_throttled_call_is_made_again(out, cloud):
    cloud.faults.append(Fault("cloudformation.CreateChangeSet", "Throttling", "Rate exceeded", times=1))
    assert push(out).live.last.finished


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_no_credentials(out, cloud, monkeypatch, missing):
    monkeypatch.delenv(missing)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    error, _ = refused(out)
    assert "credentials" in error.what
    assert cloud.asked == []


def reason_of(cloud, status, reason, *others, resource="Endpoint"):
    """What CloudFormation does instead of an endpoint: as soon as the change is under way, the stack is that."""

    def turn():
        made = stack()
        if made.status.endswith("_COMPLETE") and "ROLLBACK" not in made.status:
            at = made.events[-1].timestamp
            made.status = status
            failed = type(made.events[-1])
            for name, kind, why in ((resource, "CREATE_FAILED", reason), *others, (NAME, status, None)):
                made.events.append(
                    failed(
                        stack_id=made.stack_id,
                        stack_name=NAME,
                        logical_resource_id=name,
                        physical_resource_id="",
                        resource_type="AWS::SageMaker::Endpoint",
                        resource_status=kind,
                        resource_status_reason=why,
                        resource_properties=None,
                    )
                )
                made.events[-1].timestamp = at

    cloud.before[STACK] = lambda: turn() if cloud.count("cloudformation.ExecuteChangeSet") else None


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("ResourceLimitExceeded: The account-level service limit 'ml.p5.4xlarge for endpoint usage' is 0", "quota"),
        ("Unable to provision requested ML compute capacity: InsufficientInstanceCapacity", "no ml.p5.4xlarge free"),
        ("User: arn:aws:iam::1:user/x is not authorized to perform: iam:PassRole on resource", "iam:PassRole"),
        ("Could not assume role arn:aws:iam::1:role/endpoint", "trust policy"),
        ("Could not access model data at s3://acme-weights/python-docs/. Please ensure", "s3:GetObject"),
        ("The primary container for production variant main did not pass the ping health check", "deploy logs"),
        ("Cannot create already existing endpoint", "delete-endpoint"),
        ("Rate exceeded", "FOLDER in some minutes"),
        ("\x1b[31msomething else\nentirely", "events in the console"),
    ],
)
def test_what_to_do_about_a_failure(reason, fix):
    event = {"LogicalResourceId": "Endpoint", "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": reason}
    why = events.cause([event])
    assert why.startswith("Endpoint CREATE_FAILED: ")
    assert "\x1b" not in why
    assert "\n" not in why
    assert fix in events.hint(why, machine="ml.p5.4xlarge", name=NAME, region=REGION)


def test_a_first_start_that_fails_says_why_and_what_comes_first(out, cloud):
    reason = "ResourceLimitExceeded: The account-level service limit 'ml.p5.4xlarge for endpoint usage' is 0"
    reason_of(cloud, "ROLLBACK_COMPLETE", reason, ("ScalableTarget", "CREATE_FAILED", "Resource creation cancelled"))
    error, said = refused(out)
    assert "ROLLBACK_COMPLETE" in error.what
    assert error.why.startswith("Endpoint CREATE_FAILED: ResourceLimitExceeded")
    assert 'quota "ml.p5.4xlarge for endpoint usage"' in error.fix
    assert any("the stack python-docs with its endpoint" in line and "delete-stack" in line for line in said)
    error, _ = refused(out)  # until it is destroyed
    assert error.fix.startswith("deploy destroy FOLDER, then deploy push FOLDER: ")
    del cloud.before[STACK]
    undoing.destroy(folders.read(out), Hands(out), lambda _: None, lambda _: None)
    assert push(out).live.last.finished


def test_an_update_that_was_called_back_can_be_pushed_again(out, cloud):
    push(out)
    text = (out / "stack.json").read_text()
    reason_of(cloud, "UPDATE_ROLLBACK_COMPLETE", "Alarm python-docs-errors is in ALARM state")
    cloud.before[STACK]()
    at = folders.read(out).deployment
    flow = rollout.apply(
        live._stack(at),
        "push-x",
        rollout.text(text.replace('"MaxCapacity": 3', '"MaxCapacity": 4')),
        {"ImageUri": "i", "ModelDataUri": "m", "RoleArn": "r"},
    )
    with pytest.raises(UserError) as caught:
        running.drive(flow, Hands(out))
    assert "UPDATE_ROLLBACK_COMPLETE: what ran before runs again" in caught.value.what
    assert "ALARM" in caught.value.why
    assert "the old one answers on" in caught.value.fix
    del cloud.before[STACK]
    assert push(out).live.last.finished


def test_events_are_told_as_they_come(out, cloud):
    steps = iter(["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    said = []

    def turn():
        if cloud.count("cloudformation.ExecuteChangeSet"):
            stack().status = next(steps, "CREATE_COMPLETE")

    cloud.before[STACK] = turn
    push(out, said)
    assert any("python-docs CREATE_COMPLETE" in line for line in said), said


def test_a_change_that_is_under_way_is_waited_for(out, cloud):
    push(out)
    steps = iter(["UPDATE_IN_PROGRESS"] * 3)
    cloud.before[STACK] = lambda: setattr(stack(), "status", next(steps, "UPDATE_COMPLETE"))
    asked = len(cloud.asked)
    assert "was up to date" in push(out).says[0]
    assert cloud.asked[asked:].count(STACK) > 3


def test_a_stack_of_somebody_else_is_left_alone(out, cloud):
    theirs = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}, "Description": "our queues"}
    client("cloudformation").create_stack(StackName=NAME, TemplateBody=json.dumps(theirs))
    error, _ = refused(out)
    assert "is not one of ours" in error.what
    with pytest.raises(UserError, match="not one of ours"):
        undoing.destroy(folders.read(out), Hands(out), lambda _: None, lambda _: None)
    assert client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"


@pytest.mark.parametrize(
    ("quota", "enough"), [('[["L-1", 0.0]]', False), ('[["L-1", 1.0]]', True), ("[]", True), ("no JSON", True)]
)
def test_a_quota_that_is_too_small_is_said_before_anything_is_built(out, cloud, tmp_path, monkeypatch, quota, enough):
    monkeypatch.setenv("FAKE_QUOTA", quota)
    if enough:
        push(out)
        return
    error, _ = refused(out)
    assert 'the quota "ml.p5.4xlarge for endpoint usage" in us-west-2 is 0, the endpoint needs 1' in error.what
    assert "request-service-quota-increase" in error.fix
    assert "--quota-code L-1 --desired-value 1" in error.fix
    assert len(told(tmp_path)) == 1


def test_an_index_of_images_is_refused(out, cloud, monkeypatch):
    monkeypatch.setenv("FAKE_MANIFEST", "application/vnd.oci.image.index.v1+json")
    error, _ = refused(out)
    assert "index of images" in error.what
    assert cloud.count("cloudformation.CreateChangeSet") == 0


@pytest.mark.parametrize("program", ["aws ecr", "docker login", "docker build", "docker push", "aws s3"])
def test_a_program_that_fails_ends_the_push_with_its_name(out, cloud, monkeypatch, program):
    monkeypatch.setenv("FAKE_FAILS", program)
    error, _ = refused(out)
    assert "failed (exit 1)" in error.what
    assert stand_in.PASSWORD not in error.message
    assert cloud.count("cloudformation.CreateChangeSet") == 0


def test_a_bucket_in_another_region_is_refused(out, cloud):
    client("s3").delete_bucket(Bucket=BUCKET)
    boto3.client("s3", region_name="eu-west-1").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    error, _ = refused(out)
    assert f"the bucket {BUCKET} is in eu-west-1, the endpoint in us-west-2" in error.what


def test_weights_that_are_not_there_or_others(out, cloud, tmp_path):
    (tmp_path / "merged").rename(tmp_path / "away")
    error, _ = refused(out)
    assert "merged" in error.what
    assert cloud.asked == []


def test_without_bucket_and_role_nothing_is_asked(tmp_path, cloud):
    (tmp_path / "plain").mkdir()
    out = rendered(tmp_path / "plain", "sagemaker")
    error, _ = refused(out)
    assert "bucket and role_arn not set" in error.what
    assert cloud.asked == []


def test_logs_are_the_newest_lines_without_control_characters(out, cloud):
    group = f"/aws/sagemaker/Endpoints/{NAME}"
    assert look("logs", out) == (f"no machine has written to {group} yet",)
    logs = client("logs")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="main/i-1")
    import time

    now = int(time.time() * 1000)
    messages = [{"timestamp": now, "message": "start.py: proven\x1b[2J"}, {"timestamp": now, "message": "x" * 999}]
    logs.put_log_events(logGroupName=group, logStreamName="main/i-1", logEvents=messages)
    lines = look("logs", out)
    assert lines[0].startswith("start.py: proven")
    assert "\x1b" not in "".join(lines)
    assert len(lines[1]) < 400
    assert "--follow" in lines[-1]


def test_a_dry_run_shows_every_step_and_asks_nothing(out, cloud):
    steps, _ = dryrun.rehearse(lambda: looking.flow("push", folders.read(out)), there=False)
    ids = [s.id for s in steps]
    assert ids[:4] == ["account", "stack", "quota", "repository"]
    assert [i for i in ids if i in ("build", "image-push", "weights", "change-set", "execute")] == [
        *("build", "image-push", "weights", "change-set", "execute")
    ]
    assert [s.makes for s in steps if s.makes][-1].startswith("the stack python-docs with its endpoint")
    assert all(s.remove for s in steps if s.makes)
    assert cloud.asked == []
    for command in ("status", "logs", "destroy"):
        assert dryrun.rehearse(lambda c=command: looking.flow(c, folders.read(out)))[0]


def test_every_call_has_the_arguments_that_botocore_knows(out, cloud):
    """What is sent, held against the service's own model: names, types, ranges."""
    from botocore.validate import ParamValidator

    push(out)
    seen = [d.action for d in record.read(out, "sagemaker", NAME).last.steps if d.action.kind == "call"]
    for command in ("status", "logs", "destroy"):
        steps, _ = dryrun.rehearse(lambda c=command: looking.flow(c, folders.read(out)))
        seen += [s.action for s in steps]
    assert len({str(a) for a in seen}) >= 10
    for action in seen:
        api = client(action.service)
        operation = api.meta.service_model.operation_model(api.meta.method_to_api_mapping[action.method])
        report = ParamValidator().validate(action.arguments, operation.input_shape)
        assert not report.has_errors(), report.generate_report()


def test_a_template_is_as_small_as_cloudformation_takes_it(out):
    body = rollout.text((out / "stack.json").read_text())
    assert len(body) < 51_200 / 4


def test_the_operator_offers_what_every_target_does():
    operator = targets.operator("sagemaker")
    assert all(callable(getattr(operator, n)) for n in ("push", "status", "logs", "rollback", "destroy", "client"))


def test_events_since_the_last_change_began():
    def event(who, status, why=""):
        return {"LogicalResourceId": who, "ResourceStatus": status, "ResourceStatusReason": why}

    newest_first = [
        event("docs", "ROLLBACK_COMPLETE"),
        event("A", "CREATE_FAILED", "Resource creation cancelled"),
        event("B", "CREATE_FAILED", "the cause"),
        event("docs", "CREATE_IN_PROGRESS"),
        event("C", "CREATE_FAILED", "of another time"),
    ]
    found = events.newest(newest_first, "docs")
    assert [e["LogicalResourceId"] for e in found] == ["docs", "B", "A", "docs"]
    assert events.cause(found) == "B CREATE_FAILED: the cause"
    assert events.cause([]) == "no event says why"
