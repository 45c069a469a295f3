"""Requests held against the API's own model, and refused as the service refuses them."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws.validation import WrongType, broken
from local_test.control_plane.errors import ApiError

# The names of the services' models, by those that clients sign with.
_MODELS = {
    "monitoring": "cloudwatch",
    **{name: name for name in ("sagemaker", "ecr", "logs", "application-autoscaling")},
}
_CODES = dict.fromkeys(("ecr", "logs"), "InvalidParameterException")


def check(operation: str, fields: Any, service: str = "sagemaker") -> None:  # noqa: ANN401 - whatever JSON holds
    """Raise `ApiError` when `fields` breaks the shape of a request. What `service` does not have is let pass."""
    model = _service(_MODELS[service]) if service in _MODELS else None
    if model is None or operation not in model.operation_names:
        return
    shape = model.operation_model(operation).input_shape
    if shape is None:
        return
    try:
        found = [str(one) for one in broken(shape, fields)]
    except WrongType as error:
        raise ApiError(str(error), "SerializationException") from error
    if found:
        head = "1 validation error" if len(found) == 1 else f"{len(found)} validation errors"
        raise ApiError(f"{head} detected: {'; '.join(found)}", _CODES.get(service, "ValidationException"))


@cache
def _service(name: str) -> Any:  # noqa: ANN401
    from botocore.session import Session

    return Session().get_service_model(name)
