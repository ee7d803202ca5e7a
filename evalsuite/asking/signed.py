"""AWS credentials to the bearer token that SageMaker's OpenAI route takes: a presigned URL in base64, for a few hours.

The form is AWS's own (`sagemaker.core.token_generator`, sagemaker-core 2.27), whose package brings pandas and scipy
with it; a test holds this to what it makes. A token carries the caller's authority: it is made when it is needed, and
written nowhere. Knows no endpoint.
"""

import base64
import time
from collections.abc import Callable
from typing import Any

from tune.errors import UserError

HOST, SERVICE, PREFIX = "sagemaker.amazonaws.com", "sagemaker", "sagemaker-api-key-"
MOST_SECONDS = 43_200  # AWS takes no token of more
LASTS_SECONDS, ANEW_SECONDS = 3_600, 300.0  # of ours; made anew so often, since a role's credentials may end sooner


def token(credentials: Any, region: str, lasts: int = LASTS_SECONDS) -> str:
    """Of botocore's credentials, for `lasts` seconds, MOST_SECONDS at most. They are frozen first: refreshed while
    they are read, they would be a mixture of two."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("POST", f"https://{HOST}/", headers={"host": HOST}, params={"Action": "CallWithBearerToken"})
    frozen = credentials.get_frozen_credentials()
    SigV4QueryAuth(frozen, SERVICE, region, expires=min(lasts, MOST_SECONDS)).add_auth(request)
    url = f"{request.url.removeprefix('https://')}&Version=1"
    return PREFIX + base64.b64encode(url.encode()).decode()


def signer(region: str, now: Callable[[], float] = time.monotonic) -> Callable[[], str]:
    """Gives a token that has most of its time before it, made anew when it has not. `now`: seconds that only grow.

    Raises UserError, here and there, when botocore is missing or finds no credentials.
    """
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ModuleNotFoundError:
        what = "a SageMaker endpoint takes a token that botocore signs, and botocore is not installed"
        raise UserError(what, fix='pip install "gptoss-kit[aws]"') from None
    fix = "aws configure, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    try:
        credentials = Session().get_credentials()
    except BotoCoreError as e:  # names a profile or a file, never a value
        raise UserError("AWS credentials cannot be read", why=str(e)[:300], fix=fix) from None
    if credentials is None:
        raise UserError("there are no AWS credentials to sign a SageMaker token with", fix=fix)
    made: tuple[float, str] | None = None

    def current() -> str:
        nonlocal made
        if made is None or now() - made[0] >= ANEW_SECONDS:
            try:
                made = now(), token(credentials, region)
            except BotoCoreError as e:
                raise UserError("AWS credentials could not be refreshed", why=type(e).__name__, fix=fix) from None
        return made[1]

    return current
