"""The CloudFormation template: a deployment in, model, endpoint configuration, endpoint, scaling and alarms out.

Plain data, to be dumped as JSON. Account, image, weights and role are parameters: the template knows none of them.
"""

from typing import Any

from deploy.spec import Deployment
from tune.artefact import VERSION
from tune.deploy import Sagemaker

ANSWER_CAP = 60  # seconds until an answer that is not streamed is cut off
STREAM_CAP = 480  # seconds for a stream
# The AMI whose driver runs CUDA 13, as the engine's image needs.
AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
VARIANT = "main"
BAKE_SECONDS = 300  # how long a new fleet answers before the old one goes, and the alarms may call it back
MOST_SECONDS = 28_800  # that SageMaker lets an update take
FAILING = 0.05  # of the answers of a minute are 5xx: the alarm rings
SLOW = 0.8  # of what a request may take, reached by a tenth of them: the alarm rings
SCALE_OUT_COOLDOWN = 60  # seconds; a machine that is starting counts already

Resource = dict[str, Any]


def stack(deployment: Deployment) -> dict[str, Any]:
    """The CloudFormation template. Model and endpoint configuration have no names: CloudFormation replaces them."""
    topic = Sagemaker.model_validate(deployment.table).alarm_topic
    resources = {
        "Model": _model(deployment),
        "EndpointConfig": _config(deployment),
        "ErrorAlarm": _errors(deployment, topic),
        "SlowAlarm": _slow(deployment, topic),
        "Endpoint": _endpoint(deployment),
        "GoneAlarm": _gone(deployment, topic),
    }
    if scales(deployment):
        resources |= _autoscaling(deployment)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{deployment.model} on vLLM, rendered by gptoss-kit {VERSION} (deploy render sagemaker)",
        "Parameters": {
            "ImageUri": {
                "Type": "String",
                "Description": "The image that this folder's Dockerfile builds, in your ECR, with its digest",
                "AllowedPattern": r"[0-9]{12}\.dkr\.ecr\.[a-z0-9.-]+/[a-z0-9._/-]+@sha256:[0-9a-f]{64}",
            },
            "ModelDataUri": {
                "Type": "String",
                "Description": "The S3 folder that the checkpoint was copied to, with a slash at its end",
                "AllowedPattern": "s3://[a-z0-9.-]+/.+/",
            },
            "RoleArn": {
                "Type": "String",
                "Description": "The execution role: it may read the S3 folder and pull the image",
                "AllowedPattern": r"arn:aws[a-z-]*:iam::[0-9]{12}:role/.+",
            },
        },
        "Resources": resources,
        "Outputs": {
            "EndpointName": {"Value": {"Fn::GetAtt": ["Endpoint", "EndpointName"]}},
            "BaseUrl": {
                "Description": "base_url of an OpenAI client",
                "Value": {
                    "Fn::Sub": "https://runtime.sagemaker.${AWS::Region}.${AWS::URLSuffix}"
                    "/endpoints/${Endpoint.EndpointName}/openai/v1"
                },
            },
        },
    }


def first(deployment: Deployment) -> int:
    """Machines at the start, and the fewest: an endpoint of this kind cannot have none."""
    return max(1, deployment.scaling.min_replicas)


def scales(deployment: Deployment) -> bool:
    """Whether there is room to scale."""
    return deployment.scaling.max_replicas > first(deployment)


def _tags(deployment: Deployment) -> list[dict[str, str]]:
    """Which checkpoint runs, and by which report's right: what an invoice or a search in the account is read by."""
    told = {"model": deployment.model, "report": deployment.receipt.report if deployment.receipt else "none"}
    return [{"Key": f"gptoss-kit:{key}", "Value": value} for key, value in told.items()]


def _model(deployment: Deployment) -> Resource:
    weights = {"S3Uri": {"Ref": "ModelDataUri"}, "S3DataType": "S3Prefix", "CompressionType": "None"}
    return {
        "Type": "AWS::SageMaker::Model",
        "Properties": {
            "ExecutionRoleArn": {"Ref": "RoleArn"},
            "PrimaryContainer": {
                "Image": {"Ref": "ImageUri"},
                "Environment": deployment.env,
                "ModelDataSource": {"S3DataSource": weights},
            },
            "Tags": _tags(deployment),
        },
    }


def _config(deployment: Deployment) -> Resource:
    seconds = deployment.limits.startup_seconds
    variant = {
        "VariantName": VARIANT,
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": deployment.machine,
        "InitialInstanceCount": first(deployment),
        "InitialVariantWeight": 1,
        "InferenceAmiVersion": AMI,
        "ModelDataDownloadTimeoutInSeconds": seconds,
        "ContainerStartupHealthCheckTimeoutInSeconds": seconds,
        # Answers take from a second to minutes: the next machine by lot would be a busy one as often as not.
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    return {
        "Type": "AWS::SageMaker::EndpointConfig",
        "Properties": {"ProductionVariants": [variant], "Tags": _tags(deployment)},
    }


def _endpoint(deployment: Deployment) -> Resource:
    properties: dict[str, Any] = {
        "EndpointName": deployment.name,
        "EndpointConfigName": {"Fn::GetAtt": ["EndpointConfig", "EndpointConfigName"]},
        "DeploymentConfig": _rollout(deployment),
        "Tags": _tags(deployment),
    }
    if scales(deployment):  # an update keeps the machines that scaling has made, not the number of the start
        properties["RetainAllVariantProperties"] = True
    return {"Type": "AWS::SageMaker::Endpoint", "Properties": properties}


def _rollout(deployment: Deployment) -> dict[str, Any]:
    """A new fleet beside the old, traffic over to it, back when an alarm rings; of several, one machine goes first."""
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": BAKE_SECONDS}
    if first(deployment) > 1:
        routing |= {"Type": "CANARY", "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1}}
    # Download, start, both waits, and an hour until there are machines.
    most = 2 * deployment.limits.startup_seconds + 2 * BAKE_SECONDS + 3600
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": BAKE_SECONDS,
            "MaximumExecutionTimeoutInSeconds": min(most, MOST_SECONDS),
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": {"Ref": name}} for name in ("ErrorAlarm", "SlowAlarm")]},
    }


def _alarm(deployment: Deployment, topic: str, kind: str, what: str, **measure: Any) -> Resource:
    properties = {
        "AlarmName": f"{deployment.name}-{kind}",
        "AlarmDescription": what,
        "Dimensions": [
            {"Name": "EndpointName", "Value": deployment.name},
            {"Name": "VariantName", "Value": VARIANT},
        ],
        "Period": 60,
        **measure,
    }
    if topic:
        properties |= {"AlarmActions": [topic], "OKActions": [topic]}
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}


def _errors(deployment: Deployment, topic: str) -> Resource:
    return _alarm(
        deployment,
        topic,
        "errors",
        f"{FAILING:.0%} of the answers of a minute are 5xx",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Average",
        EvaluationPeriods=3,
        DatapointsToAlarm=2,
        Threshold=FAILING,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )


def _slow(deployment: Deployment, topic: str) -> Resource:
    most = SLOW * min(deployment.limits.request_seconds, STREAM_CAP)
    return _alarm(
        deployment,
        topic,
        "slow",
        f"a tenth of the answers take {most:g} s or more, near what a request may take",
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        ExtendedStatistic="p90",
        EvaluationPeriods=5,
        DatapointsToAlarm=3,
        Threshold=round(most * 1_000_000),  # the metric is in microseconds
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )


def _gone(deployment: Deployment, topic: str) -> Resource:
    """Each machine reports its load each minute: silence is no machine. It would ring before there is an endpoint."""
    made = _alarm(
        deployment,
        topic,
        "gone",
        "no machine of the endpoint has reported for five minutes",
        Namespace="/aws/sagemaker/Endpoints",
        MetricName="CPUUtilization",
        Statistic="SampleCount",
        EvaluationPeriods=5,
        Threshold=1,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="breaching",
    )
    return {**made, "DependsOn": "Endpoint"}


def _autoscaling(deployment: Deployment) -> dict[str, Resource]:
    name, scaling = deployment.name, deployment.scaling
    return {
        "ScalableTarget": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": "Endpoint",
            "Properties": {
                "ServiceNamespace": "sagemaker",
                "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
                "MinCapacity": first(deployment),
                "MaxCapacity": scaling.max_replicas,
            },
        },
        "ScalingPolicy": {
            "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
            "Properties": {
                "PolicyName": f"{name}-concurrency",
                "PolicyType": "TargetTrackingScaling",
                "ScalingTargetId": {"Ref": "ScalableTarget"},
                "TargetTrackingScalingPolicyConfiguration": {
                    "PredefinedMetricSpecification": {
                        "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
                    },
                    "TargetValue": scaling.concurrency,
                    "ScaleInCooldown": scaling.idle_seconds,
                    "ScaleOutCooldown": SCALE_OUT_COOLDOWN,
                },
            },
        },
    }
