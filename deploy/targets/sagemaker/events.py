"""What CloudFormation tells of a stack, in words: its events in, what happened, why and what to do out.

An event's text is a stranger's: one line, cut. Asks nobody.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deploy import secrets

Event = Mapping[str, Any]
STARTS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "REVIEW_IN_PROGRESS")
CANCELLED = re.compile(r"(?i)\bcancelled\b")  # a bystander of another resource's failure
# What a failure's reason speaks of, and what to do about it. {machine}, {name} and {region} are filled in.
HINTS = (
    (
        r"ResourceLimitExceeded|service limit|quota",
        'ask for more of the quota "{machine} for endpoint usage" in {region} (Service Quotas, Amazon SageMaker), '
        "then deploy push FOLDER",
    ),
    (
        r"InsufficientInstanceCapacity|InsufficientCapacity|insufficient capacity|Unable to provision|CapacityError",
        "{region} has no {machine} free just now: deploy push FOLDER later, or another [deploy] gpu or region",
    ),
    (
        r"assume role",
        "let sagemaker.amazonaws.com assume [deploy.sagemaker] role_arn (its trust policy), then deploy push FOLDER",
    ),
    (
        r"(?i)model data|s3:|bucket",
        "let [deploy.sagemaker] role_arn read the bucket (s3:GetObject, s3:ListBucket), then deploy push FOLDER",
    ),
    (
        r"(?i)\becr\b|image|manifest",
        "let [deploy.sagemaker] role_arn pull from ECR, and look at the image there, then deploy push FOLDER",
    ),
    (
        r"AccessDenied|not authorized|iam:PassRole",
        "let who pushes do what the reason names (iam:PassRole on role_arn is often it), then deploy push FOLDER",
    ),
    (
        r"(?i)ping|health check|stabiliz|timed? ?out",
        "deploy logs FOLDER says what the container did; [deploy] startup_seconds is how long it may take",
    ),
    (r"Throttl|Rate exceeded|TooManyRequests", "deploy push FOLDER in some minutes"),
    (
        r"(?i)already exist",
        "aws sagemaker delete-endpoint --region {region} --endpoint-name {name}, if that endpoint may go: no stack of "
        "ours made it",
    ),
    (r"(?i)alarm", "the new container failed under load and the old one answers on: deploy logs FOLDER"),
)
ELSE = "deploy logs FOLDER, and the stack's events in the console"


def newest(events: Sequence[Event], stack: str) -> list[Event]:
    """Of a stack's events, newest first as they come, those since its last change began, oldest first."""
    found = []
    for event in events:
        found.append(event)
        if event.get("LogicalResourceId") == stack and event.get("ResourceStatus") in STARTS:
            break
    return found[::-1]


def words(event: Event) -> str:
    """One event in a line."""
    reason = secrets.said(str(event.get("ResourceStatusReason") or ""))
    what = f"{event.get('LogicalResourceId')} {event.get('ResourceStatus')}"
    return f"{secrets.said(what)}{f': {reason}' if reason else ''}"


def cause(events: Sequence[Event]) -> str:
    """Why a change failed, in a line: the first failure of these, oldest first, that is not another's consequence."""
    failed = [e for e in events if str(e.get("ResourceStatus")).endswith("_FAILED")]
    own = [e for e in failed if not CANCELLED.search(str(e.get("ResourceStatusReason")))]
    return words((own or failed)[0]) if failed else "no event says why"


def hint(reason: str, *, machine: str, name: str, region: str) -> str:
    """What to do about a failure that speaks so."""
    found = next((fix for pattern, fix in HINTS if re.search(pattern, reason)), ELSE)
    return found.format(machine=machine, name=name, region=region)
