"""Endpoints of the control plane from their creation to their end, with scripted containers."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from local_test.container import Container
from local_test.control_plane import configs, deployment, endpoints, hosting, models, monitor, server, shifting
from local_test.control_plane.errors import ApiError
from local_test.control_plane.fleet import Fleet, Traffic
from local_test.control_plane.hosting import HostingError, Unhealthy
from local_test.control_plane.monitor import Monitor
from local_test.control_plane.plane import STATUS_PATH, Invoked, Plane
from local_test.control_plane.shifting import RolledBack, shift
from local_test.control_plane.store import ENDPOINT
from local_test.endpoint import Endpoint
from tests.scripted_container import Reply, ScriptedContainer, answer
from tests.scripted_host import ScriptedHost, ScriptedHosted, scripted_plane
from tests.servers import wait_until

ROLE = "arn:aws:iam::123456789012:role/any"
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 2}


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[tuple[Plane, ScriptedHost]]:
    with scripted_plane(tmp_path / "plane") as (plane, host):
        models.create_model(plane, {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "i"}})
        make_config(plane, "c")
        make_config(plane, "d")
        yield plane, host


@pytest.fixture
def plane(planes: tuple[Plane, ScriptedHost]) -> Plane:
    return planes[0]


@pytest.fixture
def host(planes: tuple[Plane, ScriptedHost]) -> ScriptedHost:
    return planes[1]


def make_config(plane: Plane, name: str, **variant: Any) -> None:
    fields = {"EndpointConfigName": name, "ProductionVariants": [{**VARIANT, **variant}]}
    configs.create_endpoint_config(plane, fields)


def create(plane: Plane, config: str = "c", **fields: Any) -> dict[str, Any]:
    endpoints.create_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": config, **fields})
    return settled(plane)


def update(plane: Plane, config: str = "d", **fields: Any) -> dict[str, Any]:
    endpoints.update_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": config, **fields})
    return settled(plane)


def describe(plane: Plane) -> dict[str, Any]:
    return endpoints.describe_endpoint(plane, {"EndpointName": "e"})


def settled(plane: Plane) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = describe(plane)
        return found if found["EndpointStatus"] in ("InService", "Failed") else None

    return wait_until(look, "the endpoint to settle")


def invoke(plane: Plane, name: str = "e", **headers: str) -> TestResponse:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    client = Client(server.Application(plane))
    return client.post(f"/endpoints/{name}/invocations", data=b"1\n", content_type="text/csv", headers=named)


def test_an_endpoint_is_created_as_its_config_says(plane: Plane, host: ScriptedHost) -> None:
    tags = [{"Key": "a", "Value": "b"}]

    made = create(plane, Tags=tags)

    assert made.pop("CreationTime") <= made.pop("LastModifiedTime") <= time.time()
    (variant,) = made.pop("ProductionVariants")
    images = variant.pop("DeployedImages")
    assert images[0].pop("ResolutionTime") <= time.time()
    assert images == [{"SpecifiedImage": "i", "ResolvedImage": "i@sha256:0"}]
    assert variant == {
        "VariantName": "AllTraffic",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 2,
        "DesiredInstanceCount": 2,
    }
    assert made == {
        "EndpointName": "e",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e",
        "EndpointConfigName": "c",
        "EndpointStatus": "InService",
    }
    assert host.asked == [("e", 480.0, "ml.m5.xlarge")]
    assert plane.store.find(ENDPOINT, "e").tags == {"a": "b"}


def test_containers_have_as_long_to_start_as_the_variant_says(plane: Plane, host: ScriptedHost) -> None:
    make_config(plane, "slow", ContainerStartupHealthCheckTimeoutInSeconds=60)

    create(plane, "slow")

    assert host.asked == [("e", 60.0, "ml.m5.xlarge")]


def test_the_data_capture_of_the_config_is_shown(plane: Plane) -> None:
    for name, enabled in (("on", True), ("off", False)):
        capture = {"EnableCapture": enabled, "InitialSamplingPercentage": 50, "DestinationS3Uri": "s3://b/p"}
        fields = {"EndpointConfigName": name, "ProductionVariants": [VARIANT], "DataCaptureConfig": capture}
        configs.create_endpoint_config(plane, fields)

    shown = [create(plane, "on")["DataCaptureConfig"], update(plane, "off")["DataCaptureConfig"]]

    whole = {"CurrentSamplingPercentage": 50, "DestinationS3Uri": "s3://b/p", "KmsKeyId": ""}
    assert shown == [
        {"EnableCapture": True, "CaptureStatus": "Started", **whole},
        {"EnableCapture": False, "CaptureStatus": "Stopped", **whole},
    ]
    assert "DataCaptureConfig" not in update(plane, "c")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (HostingError("x" * 2000), "x" * 1024),
        (
            Unhealthy(["featurizer", "predictor"]),
            "The featurizer, predictor for production variant blue did not pass the ping health check. Please check "
            "CloudWatch logs for this endpoint.",
        ),
    ],
)
def test_containers_that_do_not_start_fail_the_endpoint(
    plane: Plane, host: ScriptedHost, failure: HostingError, reason: str
) -> None:
    make_config(plane, "blue", VariantName="blue")
    host.failure = failure

    made = create(plane, "blue")

    assert (made["EndpointStatus"], made["FailureReason"]) == ("Failed", reason)
    assert invoke(plane).status_code == 400
    endpoints.delete_endpoint(plane, {"EndpointName": "e"})
    wait_until(lambda: plane.store.get(ENDPOINT, "e") is None, "the endpoint to be gone")


def test_an_invocation_reaches_the_containers_and_is_told_to_observers_once(plane: Plane, host: ScriptedHost) -> None:
    host.prepare = lambda container: setattr(container, "reply", answer(b"9.5\n", "text/csv"))
    make_config(plane, "blue", VariantName="blue")
    create(plane, "blue")
    application = server.Application(plane)
    told: list[Invoked] = []
    plane.observers = (lambda _plane, invoked: told.append(invoked),)

    response = Client(application).post("/endpoints/e/invocations", data=b"1\n", content_type="text/plain")
    refused = Client(application).post("/endpoints/none/invocations", data=b"1\n")

    assert (response.status_code, response.data) == (200, b"9.5\n")
    assert response.headers["x-Amzn-Invoked-Production-Variant"] == "blue"
    assert (refused.status_code, refused.json["Message"]) == (400, "Endpoint none of account 123456789012 not found.")
    (one,) = told
    assert (one.endpoint, one.variant, one.status) == ("e", "blue", 200)
    assert (one.request_body, one.request_type) == (b"1\n", "text/plain")
    assert (one.response_body, one.response_type) == (b"9.5\n", "text/csv")
    assert list(one.times) == ["primary"]
    assert one.seconds * 1000 >= one.times["primary"] > 0
    assert one.event_id == response.headers["x-amzn-RequestId"]
    assert plane.traffic["e"].fleet.in_flight == 0


def test_a_body_that_is_too_large_is_refused_and_not_kept(plane: Plane, host: ScriptedHost) -> None:
    create(plane)
    application = server.Application(plane)
    told: list[Invoked] = []
    plane.observers = (lambda _plane, invoked: told.append(invoked),)

    statuses = [
        Client(application).post("/endpoints/e/invocations", data=b"x" * size).status_code
        for size in (6_291_457, 6_291_456)
    ]

    assert statuses == [413, 200]
    assert [len(one.request_body) for one in told] == [0, 6_291_456]
    assert [len(asked.body) for asked in host.started[0].containers[0].asked] == [6_291_456]


def test_an_update_moves_to_new_containers_and_stops_the_old_ones(plane: Plane, host: ScriptedHost) -> None:
    create(plane)
    seen: list[dict[str, Any]] = []
    host.prepare = lambda _container: seen.append(describe(plane))

    after = update(plane)

    (during,) = seen
    assert (during["EndpointStatus"], during["EndpointConfigName"]) == ("Updating", "c")
    assert during["PendingDeploymentSummary"]["EndpointConfigName"] == "d"
    assert during["PendingDeploymentSummary"]["StartTime"] <= time.time()
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "d")
    assert not after.keys() & {"PendingDeploymentSummary", "LastDeploymentConfig", "FailureReason"}
    old, new = host.started
    assert (old.stopped, new.stopped) == (1, 0)
    assert plane.hosted["e"] is new
    assert invoke(plane).status_code == 200
    assert len(new.containers[0].asked) == 1


def test_old_containers_answer_what_they_were_asked_before_they_are_stopped(plane: Plane, host: ScriptedHost) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(container: ScriptedContainer) -> None:
        container.reply = lambda *given: (asked.set(), go_on.wait(60), answer(b"old")(*given))

    host.prepare = slow
    create(plane)
    host.prepare = lambda _container: None
    responses: list[TestResponse] = []
    client = threading.Thread(target=lambda: responses.append(invoke(plane)))
    client.start()
    assert asked.wait(60)
    endpoints.update_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": "d"})
    wait_until(lambda: plane.traffic["e"].fleet.config == "d", "the new containers to take over")

    stopped = host.started[0].stopped
    go_on.set()
    client.join()

    assert stopped == 0
    assert (responses[0].status_code, responses[0].data) == (200, b"old")
    assert settled(plane)["EndpointConfigName"] == "d"
    assert host.started[0].stopped == 1


def test_an_update_that_does_not_come_up_is_rolled_back(
    plane: Plane, host: ScriptedHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(plane)
    host.failure = HostingError("no such image")

    after = update(plane)

    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "c")
    assert after["FailureReason"] == "no such image"
    assert "PendingDeploymentSummary" not in after
    assert "update of endpoint e failed: no such image" in caplog.text
    assert host.started[0].stopped == 0
    assert invoke(plane).status_code == 200
    host.failure = None
    assert "FailureReason" not in update(plane)


def test_an_update_that_is_rolled_back_stops_the_new_containers(
    plane: Plane, host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def roll_back(_plane: Plane, traffic: Traffic, new: Fleet, _deployment: Mapping[str, Any]) -> None:
        traffic.shift(new, 50)
        raise RolledBack("an alarm rang")

    create(plane)
    monkeypatch.setattr(deployment, "shift", roll_back)

    after = update(plane)

    assert (after["EndpointConfigName"], after["FailureReason"]) == ("c", "an alarm rang")
    assert [one.stopped for one in host.started] == [0, 1]
    assert [invoke(plane).status_code for _ in range(4)] == [200] * 4


@pytest.mark.parametrize(
    ("fields", "count", "weight"),
    [
        ({}, 2, 1.0),
        ({"RetainAllVariantProperties": True}, 5, 0.5),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredInstanceCount"}],
            },
            2,
            0.5,
        ),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
            },
            5,
            1.0,
        ),
    ],
)
def test_an_update_keeps_counts_and_weights_when_it_is_to(
    plane: Plane, fields: Mapping[str, Any], count: int, weight: float
) -> None:
    create(plane)
    desired = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 5, "DesiredWeight": 0.5}]
    endpoints.update_weights_and_capacities(plane, {"EndpointName": "e", "DesiredWeightsAndCapacities": desired})

    (variant,) = update(plane, **fields)["ProductionVariants"]

    assert (variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]) == (count, count)
    assert (variant["DesiredWeight"], variant["CurrentWeight"]) == (weight, weight)


def test_an_update_may_use_the_last_deployment_config_again(plane: Plane) -> None:
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 0}}
    create(plane)

    configs_shown = [
        update(plane, "d", DeploymentConfig=policy).get("LastDeploymentConfig"),
        update(plane, "c", RetainDeploymentConfig=True).get("LastDeploymentConfig"),
        update(plane, "d").get("LastDeploymentConfig"),
    ]

    assert configs_shown == [policy, policy, None]


def test_an_update_to_another_variant_is_refused(plane: Plane) -> None:
    create(plane)
    make_config(plane, "other", VariantName="Other")

    with pytest.raises(ApiError, match=r"Endpoint e has variant AllTraffic; .* configuration other, which has Other\."):
        endpoints.update_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": "other"})

    assert describe(plane)["EndpointStatus"] == "InService"


def test_weights_of_a_variant_that_is_not_there_are_refused(plane: Plane) -> None:
    create(plane)
    desired = [{"VariantName": "Other", "DesiredInstanceCount": 5}]

    with pytest.raises(ApiError, match="Variant Other of endpoint e not found"):
        endpoints.update_weights_and_capacities(plane, {"EndpointName": "e", "DesiredWeightsAndCapacities": desired})


@pytest.mark.parametrize("deployment_config", [{}, {"BlueGreenUpdatePolicy": {}, "RollingUpdatePolicy": {}}])
def test_an_endpoint_is_created_and_updated_by_sound_deployments_only(
    plane: Plane, deployment_config: Mapping[str, Any]
) -> None:
    if not deployment_config:
        assert create(plane, DeploymentConfig=deployment_config)["EndpointStatus"] == "InService"
        return
    with pytest.raises(ApiError, match="Only one of"):
        create(plane, DeploymentConfig=deployment_config)
    assert plane.store.get(ENDPOINT, "e") is None


def test_a_deleted_endpoint_leaves_nothing(plane: Plane, host: ScriptedHost) -> None:
    create(plane)
    directory = plane.directory / "endpoints" / "e"
    assert list(directory.iterdir())

    endpoints.delete_endpoint(plane, {"EndpointName": "e"})
    wait_until(lambda: plane.store.get(ENDPOINT, "e") is None, "the endpoint to be gone")

    assert host.started[0].stopped == 1
    assert not directory.exists()
    assert (plane.traffic, plane.hosted) == ({}, {})
    assert invoke(plane).status_code == 400


def test_no_containers_are_started_once_the_control_plane_ends(plane: Plane, host: ScriptedHost) -> None:
    plane.closing.set()

    assert create(plane)["FailureReason"] == "the control plane is stopping"
    assert host.asked == []


def test_containers_are_started_again_from_a_model_and_config_that_are_gone(plane: Plane, host: ScriptedHost) -> None:
    create(plane)
    models.delete_model(plane, {"ModelName": "m"})
    configs.delete_endpoint_config(plane, {"EndpointConfigName": "c"})

    deployment.replace(plane, "e", plane.traffic["e"].fleet)

    assert [one.stopped for one in host.started] == [1, 0]
    assert plane.hosted["e"] is host.started[1]
    assert invoke(plane).status_code == 200


def test_containers_that_come_back_for_a_deleted_endpoint_are_stopped(plane: Plane, host: ScriptedHost) -> None:
    create(plane)
    ill = plane.traffic.pop("e").fleet

    deployment.replace(plane, "e", ill)

    assert [one.stopped for one in host.started] == [1, 1]


@pytest.fixture
def watched(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """A monitor that looks all the time."""
    for name in ("EVERY", "PING_EVERY"):
        monkeypatch.setattr(monitor, name, 0.01)
    create(plane)
    watcher = Monitor(plane)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    yield watcher
    plane.closing.set()
    thread.join()


@pytest.mark.usefixtures("watched")
def test_containers_that_ended_are_replaced(plane: Plane, host: ScriptedHost, caplog: pytest.LogCaptureFixture) -> None:
    host.started[0].over = ["primary"]

    wait_until(lambda: plane.hosted["e"] is host.started[-1] is not host.started[0], "other containers")

    assert [one.stopped for one in host.started] == [1, 0]
    assert "the containers of endpoint e are started anew: primary ended" in caplog.text


@pytest.mark.usefixtures("watched")
def test_containers_that_answer_no_ping_are_replaced(
    plane: Plane, host: ScriptedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.started[0].containers[0].ping = answer(b"", status=500)

    wait_until(lambda: plane.hosted["e"] is host.started[-1] is not host.started[0], "other containers")

    assert "are started anew: its pings are not answered" in caplog.text


def test_a_single_lost_ping_is_no_illness(plane: Plane, host: ScriptedHost) -> None:
    create(plane)
    watcher = Monitor(plane)
    container = host.started[0].containers[0]
    illness = []
    for status in (500, 500, 200, 500, 500, 500):
        container.ping = answer(b"", status=status)
        watcher._ping()
        illness.append(watcher._illness(plane.traffic["e"].fleet))

    assert illness == [""] * 5 + ["its pings are not answered"]


@pytest.mark.usefixtures("watched")
def test_containers_that_do_not_come_back_are_tried_again_later(
    plane: Plane, host: ScriptedHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(monitor, "AGAIN_AFTER", 0.02)
    host.failure = HostingError("no such image")
    host.started[0].over = ["primary"]
    wait_until(lambda: len(host.asked) >= 3, "a second attempt")
    host.failure = None

    wait_until(lambda: plane.hosted["e"] is not host.started[0], "other containers")

    assert "did not come up again: no such image" in caplog.text


@pytest.mark.usefixtures("watched")
def test_a_replacement_that_failed_is_not_repeated_at_once(host: ScriptedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "AGAIN_AFTER", 600)
    rounds: list[str] = []
    in_service = Monitor._in_service
    monkeypatch.setattr(Monitor, "_in_service", lambda self: rounds.append("") or in_service(self))
    host.failure = HostingError("no such image")
    host.started[0].over = ["primary"]
    wait_until(lambda: len(host.asked) == 2, "an attempt")

    rounds.clear()
    wait_until(lambda: len(rounds) > 10, "ten more looks")

    assert len(host.asked) == 2


class Clock:
    """A time that passes only while somebody waits, and the end of a control plane at its `end`."""

    def __init__(self, end: float) -> None:
        self.now, self.end, self.waited = 0.0, end, list[float]()

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        self.waited.append(seconds)
        return self.now > self.end

    def is_set(self) -> bool:
        return self.now > self.end


def test_endpoints_are_looked_at_each_second_and_pinged_each_15_seconds(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(45)
    monkeypatch.setattr(monitor, "time", clock)
    watcher = Monitor(replace(plane, closing=clock))  # type: ignore[arg-type]
    pinged: list[float] = []
    monkeypatch.setattr(watcher, "_ping", lambda: pinged.append(clock.now))

    watcher.run()

    assert clock.waited == [1.0] * 46
    assert pinged == [15.0, 30.0, 45.0]


def test_containers_that_did_not_come_back_are_tried_again_after_ten_seconds(
    plane: Plane, host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(plane)
    host.failure, clock = HostingError("no such image"), Clock(25)
    host.started[0].over = ["primary"]
    monkeypatch.setattr(monitor, "time", clock)
    attempts: list[float] = []

    def at_once(_name: str, work: Any, *arguments: Any) -> None:
        attempts.append(clock.now)
        work(*arguments)

    monkeypatch.setattr(deployment, "in_background", at_once)

    Monitor(replace(plane, closing=clock)).run()  # type: ignore[arg-type]

    assert attempts == [1.0, 11.0, 21.0]


def test_alarms_are_looked_at_each_second_while_a_step_lasts(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(10)
    monkeypatch.setattr(shifting, "time", clock)
    asked: list[float] = []
    monkeypatch.setattr(shifting, "_ringing", lambda _plane, _alarms: asked.append(clock.now))
    old, new = fleets(plane, "c")
    policy = routed("ALL_AT_ONCE", WaitIntervalInSeconds=2.5) | ALARMED

    shift(replace(plane, closing=clock), Traffic(old), new, policy)  # type: ignore[arg-type]

    assert clock.waited == [1.0, 1.0, 0.5]
    assert asked == [0.0, 1.0, 2.0, 2.5]


def test_containers_have_five_seconds_more_than_a_request_to_answer_before_they_are_stopped(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drained: list[float] = []
    monkeypatch.setattr(Traffic, "drain", lambda _self, _fleet, seconds: drained.append(seconds))
    caplog.set_level("INFO", "local_test.control_plane")
    create(plane)
    old = plane.traffic["e"].fleet.instance
    update(plane)
    endpoints.delete_endpoint(plane, {"EndpointName": "e"})
    wait_until(lambda: "is deleted" in caplog.text, "the endpoint to be gone")

    assert drained == [65, 65]
    assert re.fullmatch("i-[0-9a-f]{17}", old)
    assert [record.getMessage() for record in caplog.records if record.name == "local_test.control_plane"] == [
        "endpoint e is in service",
        f"{old} still answers requests and is stopped",
        "endpoint e is updated",
        "endpoint e is deleted",
    ]


def test_old_containers_stay_as_long_as_the_policy_says(plane: Plane) -> None:
    create(plane)
    clock = Clock(1000)
    policy = routed("ALL_AT_ONCE")["BlueGreenUpdatePolicy"] | {"TerminationWaitInSeconds": 300}
    alone = replace(plane, closing=clock)  # type: ignore[arg-type]

    deployment.update(alone, plane.store.find(ENDPOINT, "e"), "d", {"BlueGreenUpdatePolicy": policy}, {})

    assert clock.waited == [300]
    assert describe(plane)["EndpointConfigName"] == "d"


@contextlib.contextmanager
def hosted(*pings: Reply, over: Sequence[str] = ()) -> Iterator[ScriptedHosted]:
    """A featurizer and perhaps a predictor that answer their pings so."""
    containers = [ScriptedContainer(ping=ping).__enter__() for ping in pings]
    pairs = zip(("featurizer", "predictor"), containers, strict=False)
    endpoint = Endpoint("e", tuple(Container(name, "127.0.0.1", one.port) for name, one in pairs))
    both = ScriptedHosted(endpoint, {}, containers, list(over))
    yield both
    both.stop()


def fleets(plane: Plane, config: str) -> list[Fleet]:
    """Two that nobody asks anything."""
    none = ScriptedHosted(Endpoint("e", ()), {}, ())
    return [Fleet(name, config, plane.directory, none, none.endpoint) for name in ("old", "new")]


@pytest.mark.parametrize(
    ("pings", "over", "names"),
    [
        ((500, 200), (), ("featurizer",)),
        ((200, 500), (), ("predictor",)),
        ((500, 500), (), ("featurizer", "predictor")),
        ((200, 200), ("predictor",), ("predictor",)),
        ((500,), (), ("primary container",)),
    ],
)
def test_those_that_are_not_healthy_in_time_are_named(
    pings: tuple[int, ...], over: tuple[str, ...], names: tuple[str, ...]
) -> None:
    replies = [answer(b"", status=status) for status in pings]

    with hosted(*replies, over=over) as some, pytest.raises(Unhealthy) as raised:
        hosting.wait_until_healthy(some, 0.01)

    assert raised.value.names == names


def test_nobody_waits_for_a_container_that_ended_but_for_its_neighbour() -> None:
    statuses = iter([503, 503])
    slow: Reply = lambda *given: answer(b"", status=next(statuses, 200))(*given)  # noqa: E731

    with (
        hosted(answer(b"", status=503), slow, over=["featurizer"]) as both,
        pytest.raises(Unhealthy) as raised,
    ):
        hosting.wait_until_healthy(both, 600)

    assert raised.value.names == ("featurizer",)
    assert next(statuses, None) is None


ALARMED = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "calm"}, {"AlarmName": "ringing"}]}}


def routed(kind: str, **sizes: Any) -> dict[str, Any]:
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": kind, **sizes}}}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


@pytest.mark.parametrize(
    ("policy", "shares"),
    [
        ({}, [100]),
        (routed("ALL_AT_ONCE"), [100]),
        (routed("CANARY", CanarySize=percent(5)), [5, 100]),
        (routed("CANARY", CanarySize=instances(1)), [16, 100]),
        (routed("CANARY", CanarySize=instances(4)), [50, 100]),
        (routed("LINEAR", LinearStepSize=instances(1)), [16, 33, 50, 66, 83, 100]),
        (routed("LINEAR", LinearStepSize=percent(30)), [30, 60, 90, 100]),
        (routed("LINEAR", LinearStepSize=percent(50)), [50, 100]),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": percent(40), "WaitIntervalInSeconds": 0}}, [40, 80, 100]),
    ],
)
def test_a_policy_shifts_the_requests_in_its_steps(
    plane: Plane, policy: Mapping[str, Any], shares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_config(plane, "six", InitialInstanceCount=6)
    old, new = fleets(plane, "six")
    shifted: list[int] = []
    monkeypatch.setattr(Traffic, "shift", lambda _self, _new, percent: shifted.append(percent))

    shift(plane, Traffic(old), new, policy)

    assert shifted == shares


def test_an_alarm_that_rings_rolls_back_and_one_that_is_calm_does_not(plane: Plane) -> None:
    cloudwatch = plane.client("cloudwatch")
    metric = {"MetricName": "a", "Namespace": "b", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
    for name in ("calm", "ringing"):
        cloudwatch.put_metric_alarm(AlarmName=name, Threshold=1, ComparisonOperator="GreaterThanThreshold", **metric)
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="a test")
    old, new = fleets(plane, "c")

    shift(plane, Traffic(old), new, ALARMED)
    cloudwatch.set_alarm_state(AlarmName="ringing", StateValue="ALARM", StateReason="a test")
    with pytest.raises(RolledBack, match="because alarms are in ALARM state: ringing"):
        shift(plane, Traffic(old), new, ALARMED)


def test_sound_containers_take_the_place_of_those_that_still_had_one(plane: Plane) -> None:
    ill, sound = fleets(plane, "c")
    traffic = Traffic(ill)

    assert [traffic.exchange(ill, sound) for _ in range(2)] == [True, False]
    assert traffic.fleet is sound


def test_a_shift_waits_between_its_steps_and_ends_with_the_control_plane(plane: Plane) -> None:
    old, new = fleets(plane, "c")
    policy = routed("CANARY", CanarySize=percent(10), WaitIntervalInSeconds=600)
    traffic = Traffic(old)
    raised: list[Exception] = []

    def work() -> None:
        try:
            shift(plane, traffic, new, policy)
        except RolledBack as error:
            raised.append(error)

    shifting_thread = threading.Thread(target=work)
    shifting_thread.start()
    wait_until(lambda: traffic.percent, "the first step")
    plane.closing.set()
    shifting_thread.join(60)

    assert traffic.percent == 10
    assert [str(error) for error in raised] == ["The control plane is stopping."]


def test_the_server_says_what_it_hosts(plane: Plane, host: ScriptedHost) -> None:
    host.failure = HostingError("no such image")
    create(plane)
    plane.registry = "127.0.0.1:5000"

    answered = Client(server.Application(plane)).get(STATUS_PATH)

    assert (answered.mimetype, answered.text[-1]) == ("application/json", "\n")
    assert answered.json == {
        "host": "scripted",
        "registry": "127.0.0.1:5000",
        "endpoints": [{"name": "e", "status": "Failed", "reason": "no such image"}],
    }
