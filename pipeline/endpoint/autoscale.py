"""`autoscale`: as many instances as the invocations need, between two bounds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.endpoint import capacity, invoke, payloads, runtime, session
from pipeline.endpoint.errors import WRONG, PipelineError, found_or_none
from pipeline.endpoint.hosting import between
from pipeline.endpoint.release import VARIANT
from pipeline.endpoint.session import Clients, describe_endpoint, say
from pipeline.endpoint.valid import check_requests
from serving.payload import CSV, JSON

HELP = "scale the endpoint by its invocations (target tracking)"
EXAMPLES = """\
The target is SageMakerVariantInvocationsPerInstance: invocations of one instance in a minute. --measure FILE proposes
it: the rows of FILE are sent one in a request, 1, 2, 4, ... at a time, a few seconds each, until p99 exceeds --p99
milliseconds or a request fails; the best rate in requests a second, divided by the instances, times 0.5 for safety,
times 60. This is load on the live endpoint. A pipeline scales as one: each instance has both containers.

examples:
  python -m pipeline autoscale --min 1 --max 4 --measure rows.csv --dry-run
  python -m pipeline autoscale --min 1 --max 4 --target 3000
  python -m pipeline autoscale --off
"""
NAMESPACE, DIMENSION = "sagemaker", "sagemaker:variant:DesiredInstanceCount"
METRIC = "SageMakerVariantInvocationsPerInstance"
POLICY = "serial-inference-invocations-per-instance"
MOST_BODIES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min", type=between(1, 1000), default=1, metavar="N", help="instances (default %(default)s)")
    parser.add_argument("--max", type=between(1, 1000), metavar="N", help="instances")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--target", type=positive, metavar="N", help="invocations per instance and minute")
    choice.add_argument("--measure", metavar="FILE", help="measure the endpoint with these rows and take the target")
    choice.add_argument("--off", action="store_true", help="end it; the instances stay as they are now")
    parser.add_argument("--scale-in-cooldown", type=between(0, 3600), default=300, metavar="SECONDS",
                        help="after instances were taken away (default %(default)s)")  # fmt: skip
    parser.add_argument("--scale-out-cooldown", type=between(0, 3600), default=60, metavar="SECONDS",
                        help="after instances were added (default %(default)s)")  # fmt: skip
    parser.add_argument(
        "--variant", metavar="NAME", help=f"default {VARIANT}, or the only one that there is; with --off all"
    )
    group = parser.add_argument_group("how it is measured")
    group.add_argument("--p99", type=positive, default=500.0, metavar="MS", help="default %(default)s")
    group.add_argument("--step", type=positive, default=5.0, metavar="SECONDS", help="default %(default)s")
    group.add_argument("--most", type=between(1, 512), default=64, metavar="N", help="at a time (default %(default)s)")
    group.add_argument("--rows-per-request", type=between(1, 100_000), default=1, metavar="N",
                       help="as your clients send them (default %(default)s)")  # fmt: skip
    group.add_argument("--content-type", help="of FILE (default by its suffix)")
    group.add_argument("--header", choices=invoke.HEADERS, default="auto", help="of CSV (default %(default)s)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the requests and change nothing; --measure still measures"
    )
    session.add_arguments(parser)


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


@dataclass(frozen=True)
class Scaling:
    """Bounds, target and cooldowns of a variant."""

    endpoint: str
    variant: str
    least: int
    most: int
    target: float
    scale_in: int
    scale_out: int

    @property
    def address(self) -> dict[str, str]:
        return address(self.endpoint, self.variant)


def address(endpoint: str, variant: str) -> dict[str, str]:
    """What Application Auto Scaling calls the variant."""
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
        "ScalableDimension": DIMENSION,
    }


def target_request(scaling: Scaling) -> dict[str, Any]:
    """RegisterScalableTarget, without tags: its name says what it is of, and tags would need one more permission."""
    return {**scaling.address, "MinCapacity": scaling.least, "MaxCapacity": scaling.most}


def policy_request(scaling: Scaling) -> dict[str, Any]:
    """PutScalingPolicy; the same name again changes it."""
    return {
        **scaling.address,
        "PolicyName": POLICY,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": scaling.target,
            "PredefinedMetricSpecification": {"PredefinedMetricType": METRIC},
            "ScaleInCooldown": scaling.scale_in,
            "ScaleOutCooldown": scaling.scale_out,
        },
    }


def run(arguments: argparse.Namespace) -> int:
    clients = Clients.of(arguments)
    endpoint = session.endpoint_name(arguments)
    if arguments.off:
        return _turn_off(clients, endpoint, arguments)
    if not arguments.max or arguments.max < arguments.min:
        raise PipelineError("expected --max N, not below --min", "say how many instances you will pay for", WRONG)
    variant = find_variant(describe_endpoint(clients, endpoint), arguments.variant)
    measured = _measure(clients, endpoint, variant, arguments) if arguments.measure else None
    scaling = Scaling(
        endpoint,
        str(variant["VariantName"]),
        arguments.min,
        arguments.max,
        measured.target if measured else arguments.target,
        arguments.scale_in_cooldown,
        arguments.scale_out_cooldown,
    )
    register = target_request(scaling)
    check_requests(
        clients, "application-autoscaling", RegisterScalableTarget=register, PutScalingPolicy=policy_request(scaling)
    )
    if arguments.dry_run:
        say("dry run: nothing was changed")
        _show_requests([("RegisterScalableTarget", register), ("PutScalingPolicy", policy_request(scaling))], measured)
        return 0
    client = clients.client("application-autoscaling")
    client.register_scalable_target(**register)
    answer = client.put_scaling_policy(**policy_request(scaling))
    _report(scaling, measured, answer, arguments)
    return 0


def find_variant(described: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """The variant to scale, of an endpoint that serves. Raises `PipelineError`."""
    if described["EndpointStatus"] != "InService":
        raise PipelineError(
            f"endpoint {described['EndpointName']} is {described['EndpointStatus']}",
            "wait until it is in service: python -m pipeline status",
        )
    variants = {str(each["VariantName"]): each for each in described["ProductionVariants"]}
    chosen = name or (next(iter(variants)) if len(variants) == 1 else VARIANT)
    if chosen not in variants:
        raise PipelineError(
            f"endpoint {described['EndpointName']} has no variant {chosen}", f"give one of {', '.join(variants)}", WRONG
        )
    found: Mapping[str, Any] = variants[chosen]
    return found


def _measure(
    clients: Clients, endpoint: str, variant: Mapping[str, Any], arguments: argparse.Namespace
) -> capacity.Capacity:
    content_type = arguments.content_type or payloads.by_suffix(arguments.measure)
    header = invoke.header_of(content_type, arguments.header)
    limits = payloads.Limits(arguments.rows_per_request)
    with invoke.opened(arguments.measure) as file:
        media = content_type.partition(";")[0].strip().lower()
        bodies = [batch.body for batch in islice(payloads.batches(file, media, limits, header), MOST_BODIES)]
    request = {"EndpointName": endpoint, "ContentType": content_type, "Accept": CSV if media == CSV else JSON}
    request["TargetVariant"] = str(variant["VariantName"])
    send = capacity.sender(runtime.new_client(clients, arguments.most), request, bodies)
    instances = int(variant.get("CurrentInstanceCount") or 1)
    say(f"measuring {endpoint}: {arguments.step:g} s at each concurrency, until p99 exceeds {arguments.p99:g} ms")
    return capacity.measure(send, arguments.p99, arguments.step, arguments.most, instances, say)


def scaled_variants(clients: Clients, endpoint: str) -> list[dict[str, Any]]:
    """The scalable targets of the endpoint, whatever its variants are called, as Application Auto Scaling has them."""
    pages = clients.client("application-autoscaling").get_paginator("describe_scalable_targets")
    found = [one for page in pages.paginate(ServiceNamespace=NAMESPACE) for one in page["ScalableTargets"]]
    return [one for one in found if one["ResourceId"].startswith(address(endpoint, "")["ResourceId"])]


def deregister(clients: Clients, target: Mapping[str, Any]) -> None:
    """End the scaling of a variant; its policies and their alarms go with it. Safe to repeat."""
    found_or_none(clients.client("application-autoscaling").deregister_scalable_target, **_named(target))


def _named(target: Mapping[str, Any]) -> dict[str, str]:
    return {name: target[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension")}


def _turn_off(clients: Clients, endpoint: str, arguments: argparse.Namespace) -> int:
    only = address(endpoint, arguments.variant)["ResourceId"] if arguments.variant else None
    targets = [one for one in scaled_variants(clients, endpoint) if only in (None, one["ResourceId"])]
    if arguments.dry_run:
        _show_requests([("DeregisterScalableTarget", _named(one)) for one in targets], None)
        return 0
    for target in targets:
        deregister(clients, target)
    was_on = bool(targets)
    if arguments.json:
        session.show_json({"endpoint": endpoint, "was_on": was_on, "on": False})
    else:
        print(f"autoscaling of {endpoint} is off" if was_on else f"autoscaling of {endpoint} was not on")
    return 0


def _show_requests(requests: Sequence[tuple[str, Any]], measured: capacity.Capacity | None) -> None:
    listed = [{"service": "application-autoscaling", "operation": name, "params": asked} for name, asked in requests]
    session.show_json({"requests": listed, **_measurement(measured)})


def _measurement(measured: capacity.Capacity | None) -> dict[str, Any]:
    if measured is None:
        return {}
    steps = [vars(step) for step in measured.steps]
    return {"measured": {"proposed_target": measured.target, "how": str(measured), "steps": steps}}


def _report(
    scaling: Scaling, measured: capacity.Capacity | None, answer: Mapping[str, Any], arguments: argparse.Namespace
) -> None:
    if arguments.json:
        shown = {"endpoint": scaling.endpoint, "variant": scaling.variant, "min": scaling.least, "max": scaling.most}
        shown |= {"target": scaling.target, "policy": answer.get("PolicyARN"), "on": True}
        session.show_json(shown | _measurement(measured))
        return
    if measured:
        print(f"measured: {measured}")
    print(
        f"{scaling.endpoint} has {scaling.least} to {scaling.most} instances for {scaling.target:g} invocations "
        f"a minute each; after a change it waits {scaling.scale_out} s to add and {scaling.scale_in} s to take away"
    )
