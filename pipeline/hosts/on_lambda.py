"""AWS Lambda: the image is the function, and an API of the owner's choice stands before it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pipeline.endpoint.errors import PipelineError, found_or_none
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import ENDPOINT_TAG
from pipeline.endpoint.session import Clients, say
from pipeline.endpoint.undo import Undo
from pipeline.hosts import lambda_apis, roles
from pipeline.hosts.host import (
    COMMAND,
    Answering,
    Ready,
    once_the_role_is_known,
    refuse_another,
    wait_for,
)
from pipeline.hosts.sizes import LAMBDA_MEMORY

REQUEST_TIMEOUT = 30


def configuration(ready: Ready, role: str) -> dict[str, Any]:
    """What UpdateFunctionConfiguration can change; CreateFunction takes it too."""
    return {
        "Role": role,
        "MemorySize": ready.wanted.memory or LAMBDA_MEMORY,
        "Timeout": ready.wanted.request_timeout or REQUEST_TIMEOUT,
        # Lambda looks a command up as the image's environment says, or not: a path leaves no doubt. It ignores the
        # word after it, which the image's own command would be if none were given.
        "ImageConfig": {"EntryPoint": list(COMMAND), "Command": ["serve"]},
    }


def creation(ready: Ready, role: str) -> dict[str, Any]:
    """CreateFunction."""
    return {
        "FunctionName": ready.name,
        "PackageType": "Image",
        "Code": {"ImageUri": ready.image.by_digest},
        "Architectures": ["x86_64"],
        "Tags": ready.release.tags,
        **configuration(ready, role),
    }


def deploy(ready: Ready, undo: Undo) -> Answering:
    lambda_apis.note_timeout(ready.wanted)
    current = _function(ready.clients, ready.name)
    if current:
        refuse_another(f"function {ready.name}", ready.name, current.get("Tags", {}))
    role = roles.ensure(ready, roles.LAMBDA, ready.wanted.role, undo)
    if current:
        _update(ready, current, configuration(ready, role), undo)
    else:
        undo(f"function {ready.name}", partial(remove, ready.clients, ready.name), uses=True)
        say(f"creating function {ready.name}")
        create = partial(ready.clients.client("lambda").create_function, **creation(ready, role))
        once_the_role_is_known(ready.clients, create)
        _wait(ready)
    return lambda_apis.ensure(ready, ready.wanted.api or "url", undo)


def _update(ready: Ready, current: dict[str, Any], wanted: dict[str, Any], undo: Undo) -> None:
    """Only what differs is sent, and is put back when a later step fails."""
    client, name = ready.clients.client("lambda"), ready.name
    _wait(ready)  # for a change of somebody else
    former = current["Code"].get("ImageUri")
    if former != ready.image.by_digest:
        undo(f"the new image of function {name}", partial(_change_back, ready, "update_function_code", ImageUri=former))
        say(f"updating function {name}")
        client.update_function_code(FunctionName=name, ImageUri=ready.image.by_digest, Architectures=["x86_64"])
        _wait(ready)
    has = _configured(current["Configuration"])
    if has != wanted:
        undo(f"new settings of function {name}", partial(_change_back, ready, "update_function_configuration", **has))
        say(f"changing the settings of function {name}")
        client.update_function_configuration(FunctionName=name, **wanted)
        _wait(ready)
    if not ready.release.tags.items() <= current.get("Tags", {}).items():
        client.tag_resource(Resource=current["Configuration"]["FunctionArn"], Tags=ready.release.tags)


def _change_back(ready: Ready, operation: str, **former: Any) -> None:  # noqa: ANN401 - boto3 is untyped
    _wait(ready, settled_is_enough=True)
    getattr(ready.clients.client("lambda"), operation)(FunctionName=ready.name, **former)
    _wait(ready)


def _configured(described: dict[str, Any]) -> dict[str, Any]:
    image = described.get("ImageConfigResponse", {}).get("ImageConfig") or described.get("ImageConfig") or {}
    given = {key: list(value) for key, value in image.items() if value}
    return {**{key: described.get(key) for key in ("Role", "MemorySize", "Timeout")}, "ImageConfig": given}


def _wait(ready: Ready, *, settled_is_enough: bool = False) -> None:
    """Until the function is active and its last change has ended. Raises `PipelineError` when that failed."""

    def unsettled() -> str | None:
        found = ready.clients.client("lambda").get_function_configuration(FunctionName=ready.name)
        state, last = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if "Failed" in (state, last) and not settled_is_enough:
            told = found.get("StateReason") if state == "Failed" else found.get("LastUpdateStatusReason")
            raise PipelineError(f"function {ready.name} failed: {told or 'no reason given'}", "change what it names")
        return state if state == "Pending" else "updating" if last == "InProgress" else None

    wait_for(ready.clients, f"function {ready.name}", unsettled, ready.timeout)


def find(clients: Clients, name: str, cluster: str, timeout: float) -> Iterator[Found]:  # noqa: ARG001 - a Host
    current = _function(clients, name)
    yield from lambda_apis.find(clients, name)
    if current and current.get("Tags", {}).get(ENDPOINT_TAG) == name:
        yield Found("function", name, partial(remove, clients, name))
    yield from roles.find(clients, name, roles.LAMBDA)


def remove(clients: Clients, name: str) -> None:
    """Its URL and its permissions go with it. One that is gone already is no error."""
    found_or_none(clients.client("lambda").delete_function, FunctionName=name)


def look(clients: Clients, name: str, cluster: str) -> dict[str, Any] | None:  # noqa: ARG001 - a Host
    found = _function(clients, name)
    if found is None:
        return None
    configured = found["Configuration"]
    state, last = configured.get("State", "Active"), configured.get("LastUpdateStatus", "Successful")
    return {
        "status": state if last == "Successful" else f"{state}, last update {last}",
        "serves": state == "Active",
        "reason": configured.get("StateReason") or configured.get("LastUpdateStatusReason"),
        "changed": configured.get("LastModified"),
        "image": found["Code"].get("ImageUri"),
        "memory": f"{configured['MemorySize']} MB",
        "request_timeout": f"{configured['Timeout']} s",
        "urls": lambda_apis.urls(clients, name),
        "tags": found.get("Tags", {}),
    }


def _function(clients: Clients, name: str) -> dict[str, Any] | None:
    """The function with its tags. Raises `PipelineError` when AWS keeps them back: nobody knows whose it is then."""
    found = found_or_none(clients.client("lambda").get_function, FunctionName=name)
    if found and (kept := found.get("TagsError")):
        raise PipelineError(
            f"the tags of function {name} cannot be read: {kept['Message']} ({kept['ErrorCode']})",
            "let your identity do lambda:ListTags: docs/iam/lambda-deployer.json",
        )
    return found
