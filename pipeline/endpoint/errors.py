"""What went wrong, why, and what to do next, in one line each; and the exit code that says it to a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import argparse

    from botocore.exceptions import BotoCoreError, ClientError

T = TypeVar("T")
DONE, FAILED, WRONG, NOT_FOUND, TIMEOUT = range(5)
EXIT_CODES = "exit codes: 0 done, 1 AWS or the endpoint refused or failed, 2 wrong arguments, 3 not found, 4 timeout"
LOCAL = "python -m local_test up (and set what it prints)"
PAST_THE_PROXY = "name in NO_PROXY what a proxy must not be asked for"

# What to do about an error code, by a part of it
NEXT_STEPS = {
    "AccessDenied": "let your identity do this: docs/iam/ has the policies",
    "UnauthorizedOperation": "let your identity do this: docs/iam/ has the policies",
    "ExpiredToken": "renew your credentials: aws sso login, or new AWS_... variables",
    "InvalidClientTokenId": "check AWS_ACCESS_KEY_ID or --profile: this account does not know the key",
    "UnrecognizedClient": "check AWS_ACCESS_KEY_ID or --profile: this account does not know the key",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY and the clock of this machine",
    "Throttl": "wait a minute and run it again",
    "ResourceLimitExceeded": "ask for more of it in Service Quotas, or use another --instance-type",
    "RepositoryNotFound": "push the images first: ./build_and_push.sh",
    "ImageNotFound": "push the images first: ./build_and_push.sh",
    "NoSuchBucket": "check --bucket",
    **dict.fromkeys(("407", "502", "503", "504"), f"run it again, and check AWS_ENDPOINT_URL; {PAST_THE_PROXY}"),
}
MISSING = ("404", "NoSuchEntity", "NoSuchKey", "NoSuchBucket")  # beside those that end in NotFound


class PipelineError(Exception):
    """What failed and why (`message`), what to do about it (`next_step`), and the exit code."""

    def __init__(self, message: str, next_step: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.code = code


def explain(error: BotoCoreError | ClientError) -> PipelineError:
    """The same error with its next step."""
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        return _explain_refusal(error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return PipelineError(
            f"no AWS credentials: {error}",
            f"give --profile NAME or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without AWS: {LOCAL}",
        )
    if isinstance(error, boto.NoRegionError):
        return PipelineError("no AWS region is set", "give --region, for example --region us-east-1", WRONG)
    if isinstance(error, boto.ProfileNotFound):
        return PipelineError(str(error), "see aws configure list-profiles", WRONG)
    if isinstance(error, boto.ParamValidationError):
        return PipelineError(" ".join(str(error).split()), "change the argument that it names", WRONG)
    if isinstance(error, boto.ReadTimeoutError):
        return PipelineError(
            f"no answer in time: {error}", "run it again; python -m pipeline status says more", TIMEOUT
        )
    if isinstance(error, boto.ProxyConnectionError):
        return PipelineError(str(error), f"check HTTP_PROXY and HTTPS_PROXY; {PAST_THE_PROXY}")
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return PipelineError(str(error), f"check the network, --region and AWS_ENDPOINT_URL; without AWS: {LOCAL}")
    return PipelineError(f"{type(error).__name__}: {error}", "check the AWS configuration: aws sts get-caller-identity")


def _explain_refusal(error: ClientError) -> PipelineError:
    code, reason = code_of(error), message_of(error)
    next_step = next((step for part, step in NEXT_STEPS.items() if part in code), None)
    missing = is_missing(error)
    if next_step is None:
        next_step = "check the name and --region: python -m pipeline status" if missing else "change what it refuses"
    message = f"AWS refused {error.operation_name}: {reason} ({code})"
    return PipelineError(message, next_step, NOT_FOUND if missing else FAILED)


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    return " ".join(str(error.response.get("Error", {}).get("Message", error)).split())


def is_missing(error: ClientError) -> bool:
    """Whether AWS said that the named thing is not there; each API says it in its own way."""
    code = code_of(error)
    if code == "ValidationException":
        return message_of(error).startswith("Could not find") or "not found" in message_of(error)
    return code in MISSING or code.endswith(("NotFoundException", "NotFound"))


def is_denied(error: ClientError) -> bool:
    """Whether AWS said that one may not ask this."""
    return any(word in code_of(error) for word in ("AccessDenied", "UnauthorizedOperation", "NotAuthorized"))


def found_or_none(ask: Callable[..., T], **asked: Any) -> T | None:  # noqa: ANN401
    """What AWS says of a thing, or of its end. None when there is none."""
    from botocore.exceptions import ClientError

    try:
        return ask(**asked)
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def explained(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A verb whose errors, its own and those of boto, become one line on standard error and an exit code."""

    def verb(arguments: argparse.Namespace) -> int:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return run(arguments)
        except PipelineError as error:
            return report(error, arguments)
        except (BotoCoreError, ClientError) as error:
            return report(explain(error), arguments)

    return verb


def report(error: PipelineError, arguments: argparse.Namespace) -> int:
    """Say it on standard error, for machines with --json. Returns the exit code."""
    if getattr(arguments, "json", False):
        shown: dict[str, Any] = {"error": error.message, "next_step": error.next_step, "exit_code": error.code}
        print(json.dumps(shown), file=sys.stderr)
    else:
        print(f"pipeline: {error.message}\n  next: {error.next_step}", file=sys.stderr)
    return error.code
