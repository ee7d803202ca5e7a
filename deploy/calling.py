"""Make a Call of a step: a method of a boto3 client or of huggingface_hub's HfApi; what it returns out, as a mapping.

The SDKs find credentials, regions and other endpoints (AWS_ENDPOINT_URL, HF_ENDPOINT) as they always do.
Knows no target.
"""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from datetime import date
from typing import Any

from deploy import refusal, secrets
from deploy.steps import Call, Result
from tune.errors import UserError

CONNECT_SECONDS, READ_SECONDS, TRIES = 10, 60, 5
AWS_KEY = "aws configure, aws sso login, or export AWS_PROFILE=... (aws sts get-caller-identity shows who you are)"
HF_KEY = "hf auth login, or export HF_TOKEN=... of https://huggingface.co/settings/tokens"
GONE = re.compile(r"(?i)not.?found|no ?such|does not exist|could not find")
SAME = "No updates are to be performed"  # CloudFormation's word for a change that changes nothing
READS = ("get_", "list_", "describe_", "whoami", "model_info", "repo_info", "repo_exists")
PASSING, FIRST_WAIT = frozenset({429, 500, 502, 503, 504}), 1.0


def call(action: Call, *, patience: float) -> Result:
    """What the SDK returned: lists as {"items": [...]}, other values as {"value": ...}, nothing as {}. An update that
    changes nothing gives {"unchanged": True}. Raises UserError for every refusal."""
    return _aws(action) if action.sdk == "boto3" else _hub(action, patience)


def _aws(action: Call) -> Result:
    what = str(action)
    try:
        import boto3
        from botocore import exceptions as failures
        from botocore.config import Config
        from botocore.parsers import ResponseParserError
    except ImportError:
        raise refusal.no_library("boto3", what) from None
    config = Config(
        retries={"mode": "standard", "total_max_attempts": TRIES},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
    )
    try:
        client = boto3.Session().client(action.service, region_name=action.region or None, config=config)
        return plain(getattr(client, action.method)(**action.arguments))
    except failures.ClientError as e:
        code, said = (
            str(e.response.get("Error", {}).get("Code", "")),
            str(e.response.get("Error", {}).get("Message", "")),
        )
        if SAME in said:
            return {"unchanged": True}
        status = int(e.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        if action.missing and (status == 404 or GONE.search(f"{code} {said}")):
            return {}
        status = _status(code, status)
        raise refusal.of(what, status, f"{code}: {said}", key=AWS_KEY) from None
    except (failures.NoCredentialsError, failures.PartialCredentialsError, failures.TokenRetrievalError) as e:
        raise UserError(f"{what}: there are no AWS credentials", why=secrets.said(str(e)), fix=AWS_KEY) from None
    except (failures.ProfileNotFound, failures.NoRegionError, failures.SSOError) as e:
        raise UserError(f"{what}: AWS is not set up", why=secrets.said(str(e)), fix=AWS_KEY) from None
    except failures.ParamValidationError as e:
        raise refusal.of(what, 400, str(e), key=AWS_KEY) from None
    except failures.HTTPClientError as e:
        unsent = isinstance(e, failures.ConnectionError) and not isinstance(e, failures.ReadTimeoutError)
        raise refusal.unreachable(what, "AWS", e, sent=not unsent) from None
    except (failures.BotoCoreError, ResponseParserError) as e:
        raise UserError(f"{what}: AWS could not be asked", why=secrets.said(str(e)), fix=AWS_KEY) from None


def _status(code: str, status: int) -> int:
    """HTTP's word for an AWS error: its own status is mostly 400."""
    known = (
        (
            r"ExpiredToken|InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch|AuthFailure|InvalidSignature",
            401,
        ),
        (r"AccessDenied|UnauthorizedOperation|NotAuthorized", 403),
        (r"AlreadyExists|InUse|Conflict|OperationInProgress", 409),
        (r"Throttl|TooManyRequests|RequestLimit", 429),
        (r"NotFound|NoSuch", 404),
    )
    return next((n for pattern, n in known if re.search(pattern, code)), status)


def _hub(action: Call, patience: float) -> Result:
    what = str(action)
    try:
        import httpx
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise refusal.no_library("huggingface_hub", what) from None
    safe, left, wait = action.method.startswith(READS), patience, FIRST_WAIT
    while True:
        try:
            if not get_token():  # without one it would be asked as anybody, and answer that there is nothing
                why = "HF_TOKEN is not set, and nobody has logged in here"
                raise UserError(f"{what}: there is no Hugging Face token", why=why, fix=HF_KEY)
            return plain(getattr(HfApi(library_name="gptoss-kit"), action.method)(**action.arguments))
        except HfHubHTTPError as e:
            status = e.response.status_code if e.response is not None else 0
            said = e.server_message or str(e).partition("\n")[0]
            if action.missing and status == 404:
                return {}
            again = status in (PASSING if safe else {429, 503}) and not refusal.full(said) and wait <= left
            if not again:
                raise refusal.of(what, status, said, key=HF_KEY, names=["HF_TOKEN"]) from None
        except httpx.HTTPError as e:
            unsent = isinstance(e, httpx.ConnectError | httpx.ConnectTimeout)
            if not (safe or unsent) or wait > left:
                raise refusal.unreachable(what, "Hugging Face", e, sent=not unsent, names=["HF_TOKEN"]) from None
        except LookupError as e:
            why = f"it lacks what huggingface_hub looks for: {secrets.said(str(e))}; it may have been done all the same"
            raise refusal.Perhaps(f"{what}: the answer cannot be read", why=why, fix=refusal.AGAIN) from None
        except (OSError, ValueError, TypeError) as e:  # no token, arguments that it does not take
            raise refusal.of(what, 401 if "token" in str(e).lower() else 400, str(e), key=HF_KEY) from None
        time.sleep(wait)
        left, wait = left - wait, wait * 2


def plain(given: Any) -> dict[str, Any]:
    """What an SDK returned, as JSON has it."""
    found = _plain(given)
    if isinstance(found, dict):
        found.pop("ResponseMetadata", None)
        return found
    return {} if found is None else {"items": found} if isinstance(found, list) else {"value": found}


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if isinstance(value, date):  # datetimes are
        return value.isoformat()
    if isinstance(raw := getattr(value, "raw", None), dict):  # huggingface_hub's InferenceEndpoint
        return _plain(raw)
    if is_dataclass(value) and not isinstance(value, type):
        with suppress(TypeError):
            return _plain(asdict(value))
    return str(value)
