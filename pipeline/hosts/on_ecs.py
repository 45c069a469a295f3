"""ECS Express Mode: one request, and ECS makes the task, the load balancer with HTTPS, the scaling and the alarms."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pipeline.endpoint.errors import PipelineError, code_of, found_or_none
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import ENDPOINT_TAG
from pipeline.endpoint.session import Clients, say
from pipeline.endpoint.undo import Undo
from pipeline.endpoint.waiting import last_words_of
from pipeline.hosts import roles
from pipeline.hosts.host import (
    COMMAND,
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

CLUSTER = "default"  # what ECS takes, and makes when it is missing, where none is named
LEAST, MOST = 1, 4
BUSY = 60  # percent of the CPU at which ECS starts another task
FAILED = ("STOPPED", "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS", "ROLLBACK_SUCCESSFUL",
          "ROLLBACK_FAILED")  # fmt: skip


def configuration(ready: Ready, execution_role: str) -> dict[str, Any]:
    """What UpdateExpressGatewayService can change; CreateExpressGatewayService takes it too.

    No task role: the container calls nothing of AWS.
    """
    wanted = ready.wanted
    asked: dict[str, Any] = {
        "executionRoleArn": execution_role,
        "healthCheckPath": PING,
        "primaryContainer": {
            "image": ready.image.by_digest,
            "containerPort": PORT,
            "command": list(COMMAND),
            "awsLogsConfiguration": {"logGroup": log_group(ready.name), "logStreamPrefix": "serve"},
        },
        "cpu": str(wanted.cpu or CPU),
        "memory": str(wanted.memory or MEMORY),
        "cpuArchitecture": "X86_64",
        "scalingTarget": {
            "minTaskCount": wanted.least or LEAST,
            "maxTaskCount": wanted.most or max(MOST, wanted.least or LEAST),
            "autoScalingMetric": "AVERAGE_CPU",
            "autoScalingTargetValue": BUSY,
        },
    }
    if wanted.subnets or wanted.security_groups:
        network = {"subnets": wanted.subnets, "securityGroups": wanted.security_groups}
        asked["networkConfiguration"] = {key: list(value) for key, value in network.items() if value}
    return asked


def creation(ready: Ready, execution_role: str, infrastructure_role: str) -> dict[str, Any]:
    """CreateExpressGatewayService."""
    return {
        "serviceName": ready.name,
        **({"cluster": ready.wanted.cluster} if ready.wanted.cluster else {}),
        "infrastructureRoleArn": infrastructure_role,
        "tags": _tags(ready),
        **configuration(ready, execution_role),
    }


def _tags(ready: Ready) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in ready.release.tags.items()]


def other_cluster(cluster: str | None) -> str:
    """The name of a cluster as roles and images have it in theirs; nothing for the one that ECS takes by itself."""
    name = (cluster or "").rpartition("/")[2]
    return "" if name == CLUSTER else name


def log_group(name: str) -> str:
    return f"/aws/ecs/{name}"


def deploy(ready: Ready, undo: Undo) -> Answering:
    clients, name, cluster = ready.clients, ready.name, ready.wanted.cluster or CLUSTER
    current = _service(clients, name, cluster)
    if current and current["status"] == "DRAINING":
        _wait_until_gone(clients, name, cluster, ready.timeout)
        current = None
    if current:
        refuse_another(f"service {name}", name, _tags_of(clients, current))
    more = other_cluster(cluster)
    execution = roles.ensure(ready, roles.ECS_EXECUTION, ready.wanted.role, undo, more)
    if current:
        _update(ready, current["serviceArn"], configuration(ready, execution), undo)
    else:
        infrastructure = roles.ensure(ready, roles.ECS_INFRASTRUCTURE, ready.wanted.infrastructure_role, undo, more)
        _ensure_log_group(ready)
        undo(f"service {name}", partial(remove, clients, name, cluster, ready.timeout), uses=True)
        say(f"creating service {name}")
        request = creation(ready, execution, infrastructure)
        once_the_role_is_known(clients, partial(clients.client("ecs").create_express_gateway_service, **request))
        _wait(ready, cluster, None)
    found = look(clients, name, cluster) or {}
    return _answering(found.get("urls", []))


def _update(ready: Ready, arn: str, wanted: dict[str, Any], undo: Undo) -> None:
    """Only when something differs: an update replaces every task."""
    ecs, cluster = ready.clients.client("ecs"), ready.wanted.cluster or CLUSTER
    _wait(ready, cluster, None)  # for a deployment of somebody else
    described = ecs.describe_express_gateway_service(serviceArn=arn)["service"]
    has = _configured(described, wanted)
    if has != wanted:
        back = _given(has)
        undo(f"the former task of service {ready.name}", partial(_change, ready, arn, back))
        say(f"updating service {ready.name}")
        _wait(ready, cluster, _change(ready, arn, wanted))
        ecs.tag_resource(resourceArn=arn, tags=_tags(ready))


def _change(ready: Ready, arn: str, wanted: dict[str, Any]) -> str | None:
    """Returns the revision that the service is on its way to."""
    changed = ready.clients.client("ecs").update_express_gateway_service(serviceArn=arn, **wanted)["service"]
    revision: str | None = changed.get("targetConfiguration", {}).get("serviceRevisionArn")
    return revision


def _configured(service: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What the service has of all that is wanted; ECS adds what nobody gave, such as security groups."""
    active: dict[str, Any] = next(iter(service.get("activeConfigurations", ())), {})
    has = {key: active.get(key) for key in wanted}
    parts = {key: part for key, part in wanted.items() if isinstance(part, dict)}
    return {**has, **{key: {name: (has[key] or {}).get(name) for name in part} for key, part in parts.items()}}


def _given(has: dict[str, Any]) -> dict[str, Any]:
    """Without what the service does not have."""
    parts = {key: _given(value) if isinstance(value, dict) else value for key, value in has.items()}
    return {key: value for key, value in parts.items() if value not in (None, {})}


def _ensure_log_group(ready: Ready) -> None:
    """It stays when the service goes, as all logs do."""
    from botocore.exceptions import ClientError

    try:
        ready.clients.client("logs").create_log_group(logGroupName=log_group(ready.name), tags=ready.release.tags)
    except ClientError as error:
        if code_of(error) != "ResourceAlreadyExistsException":
            raise


def _wait(ready: Ready, cluster: str, revision: str | None) -> None:
    """Until the newest deployment, or that of a revision, has ended. Raises `PipelineError` when it failed."""

    def unsettled() -> str | None:
        listed = ready.clients.client("ecs").list_service_deployments(service=ready.name, cluster=cluster)
        deployments = sorted(listed["serviceDeployments"], key=lambda one: str(one.get("createdAt")), reverse=True)
        fitting = [one for one in deployments if revision in (None, one.get("targetServiceRevisionArn"))]
        status = fitting[0]["status"] if fitting else "PENDING"
        if status in FAILED:
            say(last_words_of(ready.clients, log_group(ready.name)))
            reason = fitting[0].get("statusReason") or "no reason given"
            raise PipelineError(
                f"service {ready.name} was not deployed, {status}: {reason}", "see the containers' last words above"
            )
        return None if status == "SUCCESSFUL" else str(status)

    wait_for(ready.clients, f"service {ready.name}", unsettled, ready.timeout)


def find(clients: Clients, name: str, cluster: str, timeout: float) -> Iterator[Found]:
    current = _service(clients, name, cluster or CLUSTER)
    if current and _tags_of(clients, current).get(ENDPOINT_TAG) == name:
        yield Found("service", name, partial(remove, clients, name, cluster or CLUSTER, timeout))
    yield from roles.find(clients, name, roles.ECS_EXECUTION, roles.ECS_INFRASTRUCTURE, cluster=other_cluster(cluster))


def remove(clients: Clients, name: str, cluster: str, timeout: float) -> None:
    """Delete the service with all that ECS made for it, and wait: ECS needs its role till then."""
    current = _service(clients, name, cluster)
    if current is None:
        return
    if current["status"] != "DRAINING":
        found_or_none(clients.client("ecs").delete_express_gateway_service, serviceArn=current["serviceArn"])
    _wait_until_gone(clients, name, cluster, timeout)


def _wait_until_gone(clients: Clients, name: str, cluster: str, timeout: float) -> None:
    def there() -> str | None:
        current = _service(clients, name, cluster)
        return str(current["status"]) if current else None

    wait_for(clients, f"service {name}", there, timeout)


def look(clients: Clients, name: str, cluster: str) -> dict[str, Any] | None:
    current = _service(clients, name, cluster or CLUSTER)
    if current is None:
        return None
    arn = current["serviceArn"]
    described = clients.client("ecs").describe_express_gateway_service(serviceArn=arn)["service"]
    active: dict[str, Any] = next(iter(described.get("activeConfigurations", ())), {})
    scaling = active.get("scalingTarget", {})
    return {
        "status": current["status"],
        "serves": current["status"] == "ACTIVE" and current.get("runningCount", 0) > 0,
        "reason": described.get("status", {}).get("statusReason"),
        "changed": described.get("updatedAt"),
        "image": active.get("primaryContainer", {}).get("image"),
        "cpu": active.get("cpu"),
        "memory": active.get("memory"),
        "tasks": f"{current.get('runningCount', 0)} of {current.get('desiredCount', 0)}",
        "scaling": f"{scaling.get('minTaskCount')} to {scaling.get('maxTaskCount')}" if scaling else None,
        "urls": [_address(one["endpoint"]) for one in active.get("ingressPaths", ())],
        "tags": _tags_of(clients, current),
    }


def _service(clients: Clients, name: str, cluster: str) -> dict[str, Any] | None:
    """The service while there is anything of it. Raises `PipelineError` when it is there and not shown."""
    found = found_or_none(clients.client("ecs").describe_services, cluster=cluster, services=[name]) or {}
    if kept := [one for one in found.get("failures", ()) if one.get("reason") != "MISSING"]:
        raise PipelineError(
            f"service {name} cannot be described: {kept[0].get('reason')} {kept[0].get('detail', '')}".rstrip(),
            "let your identity do this: docs/iam/ecs-deployer.json",
        )
    return next((one for one in found.get("services", ()) if one["status"] != "INACTIVE"), None)


def _tags_of(clients: Clients, service: dict[str, Any]) -> dict[str, str]:
    """Asked for by themselves: a refusal is an error then, and never a service without tags."""
    return as_dict(clients.client("ecs").list_tags_for_resource(resourceArn=service["serviceArn"]).get("tags", ()))


def _address(endpoint: str) -> str:
    return (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")


def _answering(urls: list[str]) -> Answering:
    url = urls[0] if urls else None
    return Answering(
        url,
        f"""
Whoever reaches the address may call it; with private --subnets that is your network only.

  curl -H "Content-Type: text/csv" --data-binary @rows.csv {url or "https://..."}/invocations
""",
    )
