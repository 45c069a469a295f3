"""`deploy --update`: what a live endpoint serves is replaced blue/green; when it fails, the old release serves on."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.endpoint import made, plan
from pipeline.endpoint.errors import FAILED, NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.hosting import Hosting, between, current_hosting
from pipeline.endpoint.plan import Plan
from pipeline.endpoint.release import PREFIX, Release
from pipeline.endpoint.session import Clients, find_endpoint, say
from pipeline.endpoint.undo import Undo, leaving_nothing
from pipeline.endpoint.waiting import last_words, once_seen, wait_until_settled

STRATEGIES = {"all-at-once": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}
STEPS = {"canary": ("CanarySize", 1, 50), "linear": ("LinearStepSize", 10, 50)}  # percent that SageMaker takes
DEFAULT_STEP = 10
LONGEST, TO_START = 28800, 1800  # seconds: of an update, and of what is no waiting in it
Build = Callable[[Plan, Undo], None]


@dataclass(frozen=True)
class Rollout:
    """How traffic moves to the new release, and what moves it back."""

    strategy: str
    step: int
    wait: int
    bake: int
    alarms: Sequence[str]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Rollout:
        given = [name for name in ("strategy", "step", "wait", "bake", "alarm") if getattr(arguments, name)]
        if given and not arguments.update:
            raise PipelineError(f"--{given[0]} is about an update", "add --update", WRONG)
        strategy = arguments.strategy or "all-at-once"
        step = arguments.step or DEFAULT_STEP
        if strategy in STEPS and not STEPS[strategy][1] <= step <= STEPS[strategy][2]:
            _, least, most = STEPS[strategy]
            raise PipelineError(f"--step {step}", f"expected {least} to {most} percent for {strategy}", WRONG)
        if strategy not in STEPS and (arguments.step or arguments.wait):
            raise PipelineError("--step and --wait need shifts", "add --strategy canary or linear", WRONG)
        return cls(strategy, step, arguments.wait or 0, arguments.bake or 0, arguments.alarm)

    def size(self, instances: int) -> int:
        """A step in instances; how SageMaker would round percents is written nowhere."""
        least = STEPS[self.strategy][1]
        return max(math.ceil(instances * least / 100), instances * self.step // 100)

    def seconds(self, instances: int) -> int:
        """That waiting alone will take."""
        linear = self.strategy == "linear"
        shifts = math.ceil(instances / self.size(instances)) if linear else self.strategy in STEPS
        return shifts * self.wait + self.bake

    def refuse_unfit(self, instances: int) -> None:
        """Raise `PipelineError` for an update that SageMaker would refuse or end."""
        if self.strategy in STEPS and instances == 1:
            raise PipelineError(
                f"--strategy {self.strategy} moves half of the instances at most, and there is one",
                "add --instance-count 2, or leave out --strategy",
                WRONG,
            )
        if (waits := self.seconds(instances)) >= LONGEST:
            raise PipelineError(
                f"--wait and --bake take {waits} s in all: expected less than the {LONGEST} s of a whole update",
                "give shorter ones, or a larger --step",
                WRONG,
            )

    def deployment_config(self, instances: int) -> dict[str, Any]:
        routing: dict[str, Any] = {"Type": STRATEGIES[self.strategy], "WaitIntervalInSeconds": self.wait}
        if self.strategy in STEPS:
            routing[STEPS[self.strategy][0]] = {"Type": "INSTANCE_COUNT", "Value": self.size(instances)}
        policy = {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": self.bake,
            "MaximumExecutionTimeoutInSeconds": min(LONGEST, self.seconds(instances) + TO_START),
        }
        alarms = {"Alarms": [{"AlarmName": name} for name in self.alarms]}
        return {"BlueGreenUpdatePolicy": policy, **({"AutoRollbackConfiguration": alarms} if self.alarms else {})}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("updates")
    group.add_argument("--update", action="store_true", help="replace what the endpoint serves")
    group.add_argument("--strategy", choices=STRATEGIES, help="how traffic moves (default all-at-once)")
    group.add_argument("--step", type=between(1, 50), metavar="PERCENT",
                       help=f"of the capacity: the canary, or a step of linear (default {DEFAULT_STEP})")  # fmt: skip
    group.add_argument("--wait", type=between(0, 3600), metavar="SECONDS", help="between shifts (default 0)")
    group.add_argument("--bake", type=between(0, 3600), metavar="SECONDS",
                       help="how long the old instances stay after the last shift (default 0)")  # fmt: skip
    group.add_argument("--alarm", action="append", default=[], metavar="NAME",
                       help="a CloudWatch alarm that rolls the update back; may be repeated")  # fmt: skip


def run(
    arguments: argparse.Namespace,
    clients: Clients,
    release: Release,
    current: dict[str, Any] | None,
    rollout: Rollout,
    build: Build,
) -> tuple[Plan, dict[str, Any]]:
    """Replace what the endpoint serves. Raises `PipelineError` when it could not be, with the old release serving."""
    config = _updatable(release.endpoint, current)
    _check_alarms(clients, rollout.alarms)
    if rollout.bake and not rollout.alarms:
        say("--bake without --alarm: the old instances stay for as long, and nothing would bring them back")
    given = Hosting.of(arguments)
    before, role = _current(clients, config, current or {})
    hosting = given.over(before)
    instances = hosting.instance_count or 1
    rollout.refuse_unfit(instances)
    ready = plan.make_plan(arguments, clients, release, hosting, role)
    with leaving_nothing() as undo:
        build(ready, undo)
        say(f"updating endpoint {release.endpoint}: {rollout.strategy}")
        _begin(clients, release, request(release, rollout, given, instances))
    described = _settled(clients, release.endpoint, arguments.timeout + rollout.seconds(instances))
    if (described["EndpointStatus"], described["EndpointConfigName"]) != ("InService", release.name):
        raise _rolled_back(ready, described)
    _clean(ready, described)
    return ready, described


def _begin(clients: Clients, release: Release, asked: Mapping[str, Any]) -> None:
    """Raises what SageMaker refuses the update with, unless it is that a request before it was taken, unheard."""
    from botocore.exceptions import ClientError

    try:
        once_seen(clients, "update_endpoint", asked)
    except ClientError:
        pending = (find_endpoint(clients, release.endpoint) or {}).get("PendingDeploymentSummary", {})
        if pending.get("EndpointConfigName") != release.name:
            raise


def _settled(clients: Clients, name: str, timeout: float) -> dict[str, Any]:
    """The endpoint after the update, which SageMaker goes on with when nobody waits for it any more."""
    try:
        return wait_until_settled(clients, name, timeout)
    except (KeyboardInterrupt, PipelineError):
        say(f"the update of {name} goes on; what it leaves behind, the next update or delete removes")
        raise


def request(release: Release, rollout: Rollout, given: Hosting, instances: int) -> dict[str, Any]:
    """UpdateEndpoint. The number of instances that autoscaling chose stays, unless another one is given."""
    retained = {
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DataCaptureConfig"}],
    }
    return {
        "EndpointName": release.endpoint,
        "EndpointConfigName": release.name,
        **(retained if given.instance_count is None else {"RetainAllVariantProperties": False}),
        "DeploymentConfig": rollout.deployment_config(instances),
    }


def _updatable(name: str, current: dict[str, Any] | None) -> str:
    """The name of the endpoint's config. Raises `PipelineError` when the endpoint cannot be updated."""
    if current is None:
        raise PipelineError(f"there is no endpoint {name} to update", "deploy without --update", NOT_FOUND)
    if current["EndpointStatus"] != "InService":
        raise PipelineError(
            f"endpoint {name} is {current['EndpointStatus']}: only one in service can be updated",
            f"python -m pipeline status --endpoint {name}; one that Failed can only be deleted",
        )
    return str(current["EndpointConfigName"])


def _check_alarms(clients: Clients, names: Sequence[str]) -> None:
    """An alarm that is not there would never roll back, and one that is on would do so at once."""
    if not names:
        return
    found = clients.client("cloudwatch").describe_alarms(
        AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    states = {
        one["AlarmName"]: one.get("StateValue")
        for kind in ("MetricAlarms", "CompositeAlarms")
        for one in found.get(kind, ())
    }
    if missing := [name for name in names if name not in states]:
        raise PipelineError(f"there is no CloudWatch alarm {missing[0]}", "aws cloudwatch describe-alarms", NOT_FOUND)
    if ringing := [name for name in names if states[name] == "ALARM"]:
        raise PipelineError(f"alarm {ringing[0]} is in ALARM state already", "update once it is OK again")
    if hidden := [name for name in names if not name.startswith(PREFIX)]:
        say(f"alarm {hidden[0]}: the role of docs/iam/execution-role.json sees only alarms named {PREFIX}-*")


def _current(clients: Clients, config: str, current: dict[str, Any]) -> tuple[Hosting, str | None]:
    """What the endpoint runs on now, and its role."""
    described = made.describe(clients, made.CONFIG, config)
    if described is None:  # AWS moves from a config that is there only
        raise PipelineError(
            f"the endpoint config {config} that {current['EndpointName']} serves is gone: SageMaker cannot update it",
            f"python -m pipeline delete --endpoint {current['EndpointName']}, then deploy without --update; or make a "
            "config of that name again: aws sagemaker create-endpoint-config",
            NOT_FOUND,
        )
    model = made.describe(clients, made.MODEL, described["ProductionVariants"][0]["ModelName"]) or {}
    instances = current.get("ProductionVariants", [{}])[0].get("DesiredInstanceCount")
    return current_hosting(described, model, instances), model.get("ExecutionRoleArn")


def _rolled_back(ready: Plan, described: dict[str, Any]) -> PipelineError:
    """The error to raise, once the new release is deleted and the containers' last words are shown."""
    name, status = ready.release.endpoint, described["EndpointStatus"]
    reason = described.get("FailureReason", "no reason given").rstrip(".")
    say(last_words(ready.clients, name))
    if described["EndpointConfigName"] == ready.release.name:
        return PipelineError(
            f"the update of {name} failed and left it {status}: {reason}",
            f"delete it and deploy again: python -m pipeline delete --endpoint {name}",
            FAILED,
        )
    made.remove(ready.clients, made.CONFIG, ready.release.name)
    made.remove(ready.clients, made.MODEL, ready.release.name)
    plan.remove_artifacts(ready)
    serving = described["EndpointConfigName"]
    return PipelineError(
        f"the update of {name} was rolled back: {reason}. {serving} serves, the new release is deleted",
        "see the containers' last words above, or the alarms; then update again",
    )


def _clean(ready: Plan, described: dict[str, Any]) -> None:
    """Tag the endpoint as the new release; delete the configs and models of the old ones, but not their artifacts."""
    clients, release = ready.clients, ready.release
    if "EndpointArn" in described:
        made.retag(clients, described["EndpointArn"], release.tags)
    for kind in (made.CONFIG, made.MODEL):
        for name in made.find_made(clients, kind, release.endpoint):
            if name != release.name and made.remove(clients, kind, name):
                say(f"deleted {kind.shown} {name}")
