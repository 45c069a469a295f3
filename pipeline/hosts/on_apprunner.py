"""App Runner, for those who have it: AWS takes no new customers since 2026-04-30 and recommends ECS Express Mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pipeline.endpoint.errors import PipelineError, found_or_none
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import ENDPOINT_TAG, as_tags
from pipeline.endpoint.session import Clients, say
from pipeline.endpoint.undo import Undo
from pipeline.hosts import roles
from pipeline.hosts.host import (
    PING,
    PORT,
    Answering,
    Ready,
    as_dict,
    once_the_role_is_known,
    refuse_another,
    wait_for,
)
from pipeline.hosts.sizes import CPU, MEMORY

CLOSED = "App Runner is closed to new customers since 2026-04-30; AWS recommends ECS Express Mode: --target ecs"
LEAST, MOST, CONCURRENCY = 1, 4, 100
PENDING, BUSY = ("PENDING", "IN_PROGRESS", "ROLLBACK_IN_PROGRESS"), "OPERATION_IN_PROGRESS"


def configuration(ready: Ready, access_role: str, scaling: str) -> dict[str, Any]:
    """What UpdateService can change; CreateService takes it too."""
    return {
        "SourceConfiguration": {
            "ImageRepository": {
                "ImageIdentifier": ready.image.by_tag,  # each release has its own tag
                "ImageConfiguration": {"Port": str(PORT)},
                "ImageRepositoryType": "ECR",
            },
            "AutoDeploymentsEnabled": False,
            "AuthenticationConfiguration": {"AccessRoleArn": access_role},
        },
        "InstanceConfiguration": {
            "Cpu": str(ready.wanted.cpu or CPU), "Memory": str(ready.wanted.memory or MEMORY),
        },
        "AutoScalingConfigurationArn": scaling,
        "HealthCheckConfiguration": {
            "Protocol": "HTTP", "Path": PING, "Interval": 10, "Timeout": 5, "HealthyThreshold": 1,
            "UnhealthyThreshold": 5,
        },
    }  # fmt: skip


def scaling_of(ready: Ready) -> dict[str, Any]:
    """CreateAutoScalingConfiguration, but for its tags."""
    least = ready.wanted.least or LEAST
    return {
        "AutoScalingConfigurationName": ready.name,
        "MaxConcurrency": ready.wanted.concurrency or CONCURRENCY,
        "MinSize": least,
        "MaxSize": ready.wanted.most or max(MOST, least),
    }


def deploy(ready: Ready, undo: Undo) -> Answering:
    clients, name = ready.clients, ready.name
    say(CLOSED)
    current = _settled(clients, name, ready.timeout)
    if current:
        refuse_another(f"service {name}", name, _tags(clients, current["ServiceArn"]))
    if current and current["Status"] == "CREATE_FAILED":  # it cannot be updated
        remove(clients, name, ready.timeout)
        current = None
    if current and current["Status"] != "RUNNING":
        raise PipelineError(
            f"service {name} is {current['Status']}", "resume it, or delete it: python -m pipeline delete"
        )
    role = roles.ensure(ready, roles.APPRUNNER_ACCESS, ready.wanted.role, undo)
    wanted = configuration(ready, role, _ensure_scaling(ready, undo))
    if current:
        _update(ready, current, wanted, undo)
    else:
        undo(f"service {name}", partial(remove, clients, name, ready.timeout), uses=True)
        say(f"creating service {name}")
        request = {"ServiceName": name, "Tags": as_tags(ready.release.tags), **wanted}
        _run(ready, partial(once_the_role_is_known, clients, partial(_apprunner(clients).create_service, **request)))
    described = _describe(clients, name) or {}
    url = f"https://{described.get('ServiceUrl', '...')}"
    return Answering(url, _how_to_call(url))


def _ensure_scaling(ready: Ready, undo: Undo) -> str:
    """The ARN of the newest revision when it is as wanted, else of a new one."""
    client, wanted = _apprunner(ready.clients), scaling_of(ready)
    if arns := _scalings(ready.clients, ready.name):
        found = client.describe_auto_scaling_configuration(AutoScalingConfigurationArn=arns[0])
        has = found["AutoScalingConfiguration"]
        if wanted.items() <= has.items():
            return str(has["AutoScalingConfigurationArn"])
    say(f"creating scaling {ready.name}")
    made = client.create_auto_scaling_configuration(**wanted, Tags=as_tags(ready.release.tags))
    arn = str(made["AutoScalingConfiguration"]["AutoScalingConfigurationArn"])
    undo(f"scaling {ready.name}", partial(_remove_scaling, ready.clients, arn))
    return arn


def _update(ready: Ready, current: dict[str, Any], wanted: dict[str, Any], undo: Undo) -> None:
    """Only when something differs: an update starts new containers. App Runner rolls one back that fails."""
    has, client, arn = _configured(current), _apprunner(ready.clients), current["ServiceArn"]
    if has == wanted:
        return
    undo(f"the former release of service {ready.name}", partial(_change_back, ready, wanted, has))
    say(f"updating service {ready.name}")
    _run(ready, partial(client.update_service, ServiceArn=arn, **wanted))
    client.tag_resource(ResourceArn=arn, Tags=as_tags(ready.release.tags))


def _change_back(ready: Ready, wanted: dict[str, Any], former: dict[str, Any]) -> None:
    current = _settled(ready.clients, ready.name, ready.timeout)
    if current and _configured(current) == wanted:
        _run(ready, partial(_apprunner(ready.clients).update_service, ServiceArn=current["ServiceArn"], **former))


def _configured(service: dict[str, Any]) -> dict[str, Any]:
    source = service["SourceConfiguration"]
    image = source["ImageRepository"]
    instance = service["InstanceConfiguration"]
    return {
        "SourceConfiguration": {
            "ImageRepository": {
                "ImageIdentifier": image["ImageIdentifier"],
                "ImageConfiguration": {"Port": image.get("ImageConfiguration", {}).get("Port")},
                "ImageRepositoryType": image["ImageRepositoryType"],
            },
            "AutoDeploymentsEnabled": source.get("AutoDeploymentsEnabled"),
            "AuthenticationConfiguration": source.get("AuthenticationConfiguration"),
        },
        "InstanceConfiguration": {"Cpu": instance["Cpu"], "Memory": instance["Memory"]},
        "AutoScalingConfigurationArn": service["AutoScalingConfigurationSummary"]["AutoScalingConfigurationArn"],
        "HealthCheckConfiguration": service.get("HealthCheckConfiguration"),
    }


def _run(ready: Ready, start: Callable[[], dict[str, Any]]) -> None:
    """Start an operation and wait for its end. Raises `PipelineError` when it failed."""
    started = start()
    arn, operation = started["Service"]["ServiceArn"], started["OperationId"]

    def unsettled() -> str | None:
        listed = _apprunner(ready.clients).list_operations(ServiceArn=arn)["OperationSummaryList"]
        status = next((one["Status"] for one in listed if one["Id"] == operation), "PENDING")
        if status not in (*PENDING, "SUCCEEDED"):
            raise PipelineError(
                f"service {ready.name} was not deployed: {status}",
                f"its log names the reason: /aws/apprunner/{ready.name}/.../service in CloudWatch Logs",
            )
        return str(status) if status in PENDING else None

    wait_for(ready.clients, f"service {ready.name}", unsettled, ready.timeout)


def _settled(clients: Clients, name: str, timeout: float) -> dict[str, Any] | None:
    """The service once no operation is on its way."""
    service: dict[str, Any] | None = None

    def busy() -> str | None:
        nonlocal service
        service = _describe(clients, name)
        return BUSY if service and service["Status"] == BUSY else None

    wait_for(clients, f"service {name}", busy, timeout)
    return service


def find(clients: Clients, name: str, cluster: str, timeout: float) -> Iterator[Found]:  # noqa: ARG001 - a Host
    current = _describe(clients, name)
    if current and _tags(clients, current["ServiceArn"]).get(ENDPOINT_TAG) == name:
        yield Found("service", name, partial(remove, clients, name, timeout))
    for arn in _scalings(clients, name):
        if _tags(clients, arn).get(ENDPOINT_TAG) == name:
            yield Found("scaling", arn.partition("/")[2], partial(_remove_scaling, clients, arn))
    yield from roles.find(clients, name, roles.APPRUNNER_ACCESS)


def remove(clients: Clients, name: str, timeout: float) -> None:
    """Delete the service and wait until it is gone. One that is gone already is no error."""
    current = _settled(clients, name, timeout)
    if current is None:
        return
    found_or_none(_apprunner(clients).delete_service, ServiceArn=current["ServiceArn"])

    def there() -> str | None:
        found = _describe(clients, name)
        if found and found["Status"] == "DELETE_FAILED":
            raise PipelineError(f"service {name} was not deleted", "run it again")
        return str(found["Status"]) if found else None

    wait_for(clients, f"service {name}", there, timeout)


def _remove_scaling(clients: Clients, arn: str) -> None:
    found_or_none(_apprunner(clients).delete_auto_scaling_configuration, AutoScalingConfigurationArn=arn)


def look(clients: Clients, name: str, cluster: str) -> dict[str, Any] | None:  # noqa: ARG001 - a Host
    found = _describe(clients, name)
    if found is None:
        return None
    return {
        "status": found["Status"],
        "serves": found["Status"] == "RUNNING",
        "reason": None,
        "changed": found.get("UpdatedAt"),
        "image": found["SourceConfiguration"]["ImageRepository"]["ImageIdentifier"],
        "cpu": found["InstanceConfiguration"].get("Cpu"),
        "memory": found["InstanceConfiguration"].get("Memory"),
        "urls": [f"https://{found['ServiceUrl']}"] if found.get("ServiceUrl") else [],
        "tags": _tags(clients, found["ServiceArn"]),
    }


def _describe(clients: Clients, name: str) -> dict[str, Any] | None:
    """The service of that name. None when there is none, or it is deleted: App Runner shows it for an hour still."""
    client = _apprunner(clients)
    given: dict[str, str] = {}
    while True:
        page = client.list_services(**given)
        for one in page["ServiceSummaryList"]:
            if one["ServiceName"] == name and one["Status"] != "DELETED":
                found = found_or_none(client.describe_service, ServiceArn=one["ServiceArn"])
                service: dict[str, Any] | None = found["Service"] if found else None
                return service if service and service["Status"] != "DELETED" else None
        if not page.get("NextToken"):
            return None
        given = {"NextToken": page["NextToken"]}


def _scalings(clients: Clients, name: str) -> list[str]:
    """The ARNs of all revisions of the service's scaling, the newest first."""
    listed = _apprunner(clients).list_auto_scaling_configurations(
        AutoScalingConfigurationName=name, LatestOnly=False, MaxResults=100
    )["AutoScalingConfigurationSummaryList"]
    active = [one for one in listed if one.get("Status", "ACTIVE").upper() == "ACTIVE"]
    newest = sorted(active, key=lambda one: int(one["AutoScalingConfigurationRevision"]), reverse=True)
    return [one["AutoScalingConfigurationArn"] for one in newest]


def _tags(clients: Clients, arn: str) -> dict[str, str]:
    return as_dict((found_or_none(_apprunner(clients).list_tags_for_resource, ResourceArn=arn) or {}).get("Tags", ()))


def _apprunner(clients: Clients) -> Any:  # noqa: ANN401 - boto3 is untyped
    return clients.client("apprunner")


def _how_to_call(url: str) -> str:
    return f"""
{CLOSED}
Whoever knows the address may call it.

  curl -H "Content-Type: text/csv" --data-binary @rows.csv {url}/invocations
"""
