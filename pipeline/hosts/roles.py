"""The roles that hosts take, with no more rights than they need: made when none is given, found by name and tag."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.endpoint.errors import found_or_none
from pipeline.endpoint.made import Found
from pipeline.endpoint.plan import find_role
from pipeline.endpoint.release import ENDPOINT_TAG, PREFIX, as_tags
from pipeline.endpoint.session import Clients, say
from pipeline.endpoint.undo import Undo
from pipeline.hosts.host import Ready, as_dict, refuse_another

POLICY = PREFIX  # the name of the one inline policy
LONGEST_NAME = 64
Statement = Mapping[str, Any]

# docs/iam/ has these documents too; a test holds them the same. What differs from service to service stands in braces.
_PULL = (
    {"Sid": "SignInToTheRegistry", "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
    {
        "Sid": "PullTheImage",
        "Effect": "Allow",
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
        "Resource": "arn:{partition}:ecr:{region}:{account}:repository/{repository}",
    },
)


def _write_logs(group: str, *more: str) -> Statement:
    return {
        "Sid": "WriteTheLogs",
        "Effect": "Allow",
        "Action": [*more, "logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": f"arn:{{partition}}:logs:{{region}}:{{account}}:log-group:{group}:*",
    }


@dataclass(frozen=True)
class Role:
    """`suffix`: what its name has after the service's. `service` may take it; `managed` is a policy of AWS's own."""

    suffix: str
    service: str
    statements: tuple[Statement, ...] = ()
    managed: str | None = None

    def name(self, service: str, cluster: str = "") -> str:
        suffix = f"-{cluster}-{self.suffix}" if cluster else f"-{self.suffix}"
        return service[: LONGEST_NAME - len(suffix)] + suffix

    @property
    def trust(self) -> dict[str, Any]:
        statement: dict[str, Any] = {
            "Sid": "TheServiceTakesTheRole",
            "Effect": "Allow",
            "Principal": {"Service": self.service},
            "Action": "sts:AssumeRole",
        }
        return {"Version": "2012-10-17", "Statement": [statement]}

    def policy(self, **places: str) -> dict[str, Any]:
        statements = json.dumps(self.statements)
        for place, value in places.items():
            statements = statements.replace(f"{{{place}}}", value)
        return {"Version": "2012-10-17", "Statement": json.loads(statements)}


LAMBDA = Role("lambda", "lambda.amazonaws.com", (_write_logs("/aws/lambda/{name}", "logs:CreateLogGroup"),))
ECS_EXECUTION = Role("ecs-execution", "ecs-tasks.amazonaws.com", (*_PULL, _write_logs("/aws/ecs/{name}")))
ECS_INFRASTRUCTURE = Role(
    "ecs-infrastructure", "ecs.amazonaws.com",
    managed="arn:{partition}:iam::aws:policy/service-role/AmazonECSInfrastructureRoleforExpressGatewayServices",
)  # fmt: skip
APPRUNNER_ACCESS = Role(
    "apprunner-access",
    "build.apprunner.amazonaws.com",
    (*_PULL[:1], {**_PULL[1], "Action": [*_PULL[1]["Action"], "ecr:DescribeImages"]}),
)


def partition(clients: Clients) -> str:
    """What AWS's ARNs begin with in this region."""
    return str(clients.session.get_partition_for_region(clients.region))


def ensure(ready: Ready, role: Role, given: str | None, undo: Undo, cluster: str = "") -> str:
    """The ARN of the role `given`, or of the service's own, made when it is missing and mended when it is half-made.

    `cluster`: one that may have a service of the same name as another.
    """
    if given:
        return find_role(ready.clients, given)
    name, iam = role.name(ready.name, cluster), ready.clients.client("iam")
    if found := found_or_none(iam.get_role, RoleName=name):
        refuse_another(f"role {name}", ready.name, as_dict(found["Role"].get("Tags", ())))
        arn = str(found["Role"]["Arn"])
    else:
        undo(f"role {name}", partial(remove, ready.clients, name))
        say(f"creating role {name}")
        trust, tags = json.dumps(role.trust), as_tags(ready.release.tags)
        arn = str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Tags=tags)["Role"]["Arn"])
    _allow(ready, role, name)
    return arn


def _allow(ready: Ready, role: Role, name: str) -> None:
    iam, clients = ready.clients.client("iam"), ready.clients
    places = {"partition": partition(clients), "region": clients.region, "name": ready.name}
    if role.managed:
        arn = role.managed.format(**places)
        attached = iam.list_attached_role_policies(RoleName=name).get("AttachedPolicies", ())
        if arn not in [one["PolicyArn"] for one in attached]:
            iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    if role.statements:
        wanted = role.policy(**places, account=clients.account, repository=ready.image.name)
        has = found_or_none(iam.get_role_policy, RoleName=name, PolicyName=POLICY)
        if has is None or has["PolicyDocument"] != wanted:
            iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(wanted))


def find(clients: Clients, service: str, *roles: Role, cluster: str = "") -> Iterator[Found]:
    """Those of these roles that deploy has made for the service."""
    for role in roles:
        name = role.name(service, cluster)
        found = found_or_none(clients.client("iam").get_role, RoleName=name)
        if found and as_dict(found["Role"].get("Tags", ())).get(ENDPOINT_TAG) == service:
            yield Found("role", name, partial(remove, clients, name))


def remove(clients: Clients, name: str) -> None:
    """Delete a role and what hangs on it; one that is gone is no error."""
    found_or_none(_remove, iam=clients.client("iam"), name=name)


def _remove(iam: Any, name: str) -> None:  # noqa: ANN401 - boto3 is untyped
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName=name)
