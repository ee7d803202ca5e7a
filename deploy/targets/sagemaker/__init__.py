"""SageMaker: a CloudFormation stack of one real-time endpoint. The image lies in ECR, the weights in S3."""

import json
from typing import Any

from deploy.findings import finding
from deploy.spec import Deployment, Scaling
from deploy.targets import Context
from deploy.targets.template import fill, verbatim
from serve.findings import Finding
from tune.artefact import VERSION

ANSWER_CAP = 60  # seconds until an answer that is not streamed is cut off
STREAM_CAP = 480  # seconds for a stream
STOP_CAP, EXIT_SECONDS = 30, 10  # seconds from SIGTERM to SIGKILL; of those, what the engine takes to end
ENV_ENTRIES, ENV_CHARACTERS = 100, 1024
# The AMI whose driver runs CUDA 13, as the engine's image needs.
AMI = "al2023-ami-sagemaker-inference-gpu-4-1"


def findings(deployment: Deployment) -> list[Finding]:
    found = []
    seconds = deployment.limits.request_seconds
    if seconds > STREAM_CAP:
        what = f"SageMaker ends a stream after {STREAM_CAP} s, request_seconds is {seconds}"
        found.append(finding("D020", what, fix=f"[deploy] request_seconds = {STREAM_CAP}"))
    elif seconds > ANSWER_CAP:
        what = f"SageMaker cuts an answer that is not streamed after {ANSWER_CAP} s, request_seconds is {seconds}"
        found.append(finding("D021", what, fix="ask with stream=True, or set max_tokens so that it ends sooner"))
    if deployment.scaling.min_replicas == 0:
        what = "a SageMaker endpoint of this kind keeps one instance, billed until the stack is deleted"
        found.append(finding("D023", what, why="min_replicas = 0 becomes 1", fix="[deploy] min_replicas = 1"))
    drain = deployment.options.drain
    if drain > STOP_CAP - EXIT_SECONDS:
        what = f"SageMaker ends a container {STOP_CAP} s after it asked it to stop, [serve] drain is {drain}"
        found.append(finding("D024", what, fix=f"[serve] drain = {STOP_CAP - EXIT_SECONDS}"))
    for key in deployment.secrets:
        what = f"secrets.{key}: SageMaker shows environment values to everyone who may describe the model"
        found.append(
            finding("D031", what, fix="[deploy] secrets = {}, and let the execution role fetch what is needed")
        )
    if len(deployment.env) > ENV_ENTRIES:
        what = f"{len(deployment.env)} environment variables, SageMaker takes {ENV_ENTRIES}"
        found.append(finding("D040", what, fix="remove some from the recipe"))
    for key, value in deployment.env.items():
        if len(value) > ENV_CHARACTERS:
            what = f"environment variable {key} has {len(value)} characters, SageMaker takes {ENV_CHARACTERS}"
            found.append(finding("D040", what, fix="shorten the recipe value that it comes from"))
    return found


def stack(deployment: Deployment) -> dict[str, Any]:
    """The CloudFormation template. Model and endpoint configuration have no names: CloudFormation replaces them."""
    scaling, limits = deployment.scaling, deployment.limits
    first = max(1, scaling.min_replicas)
    resources = {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {
                "ExecutionRoleArn": {"Ref": "RoleArn"},
                "PrimaryContainer": {
                    "Image": {"Ref": "ImageUri"},
                    "Environment": deployment.env,
                    "ModelDataSource": {
                        "S3DataSource": {
                            "S3Uri": {"Ref": "ModelDataUri"},
                            "S3DataType": "S3Prefix",
                            "CompressionType": "None",
                        }
                    },
                },
            },
        },
        "EndpointConfig": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {
                "ProductionVariants": [
                    {
                        "VariantName": "main",
                        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
                        "InstanceType": deployment.machine,
                        "InitialInstanceCount": first,
                        "InitialVariantWeight": 1,
                        "InferenceAmiVersion": AMI,
                        "ModelDataDownloadTimeoutInSeconds": limits.startup_seconds,
                        "ContainerStartupHealthCheckTimeoutInSeconds": limits.startup_seconds,
                    }
                ]
            },
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": deployment.name,
                "EndpointConfigName": {"Fn::GetAtt": ["EndpointConfig", "EndpointConfigName"]},
            },
        },
    }
    if scaling.max_replicas > first:
        resources |= _autoscaling(deployment.name, first, scaling)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{deployment.model} on vLLM, rendered by gptoss-kit {VERSION}",
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
        "Outputs": {"EndpointName": {"Value": {"Fn::GetAtt": ["Endpoint", "EndpointName"]}}},
    }


def _autoscaling(name: str, first: int, scaling: Scaling) -> dict[str, Any]:
    return {
        "ScalableTarget": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": "Endpoint",
            "Properties": {
                "ServiceNamespace": "sagemaker",
                "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                "ResourceId": f"endpoint/{name}/variant/main",
                "MinCapacity": first,
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
                },
            },
        },
    }


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    return {
        "stack.json": json.dumps(stack(deployment), indent=2) + "\n",
        "Dockerfile": fill("Dockerfile.jinja", deployment, context),
        "start.py": verbatim("start.py"),
        "README.md": fill("sagemaker/README.md.jinja", deployment, context),
    }
