"""What the control plane makes of invocations and of containers' output: captured data, metrics, log streams."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local_test.control_plane import capture, gathering, logs, scaling
from local_test.control_plane.capture import Captured
from local_test.control_plane.errors import ApiError
from local_test.control_plane.gathering import Gathered
from local_test.control_plane.plane import Invoked, Plane
from local_test.control_plane.scaling import Measured, measure, model_status
from local_test.control_plane.store import CONFIG, ENDPOINT
from tests.scripted_host import scripted_plane
from tests.servers import wait_until

SHOWN = {"VariantName": "AllTraffic", "CurrentInstanceCount": 2, "DesiredInstanceCount": 2}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with scripted_plane(tmp_path_factory.mktemp("plane")) as (plane, _):
        plane.client("s3").create_bucket(Bucket="captured")
        yield plane


@pytest.fixture
def plane(shared: Plane) -> Plane:
    """A control plane that knows the endpoint `e`, for which nothing runs."""
    for kind, name in ((ENDPOINT, "e"), (CONFIG, "c")):
        if shared.store.get(kind, name):
            shared.store.remove(kind, name)
    fields = {"EndpointName": "e", "EndpointConfigName": "c", "EndpointStatus": "InService",
              "ProductionVariants": [{**SHOWN, "VariantName": "Other"}, SHOWN]}  # fmt: skip
    shared.store.add(ENDPOINT, fields)
    return shared


def with_capture(plane: Plane, **changed: Any) -> None:
    whole = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://captured/deep/",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["Text/CSV"], "JsonContentTypes": ["application/json"]},
    }
    config = {"EndpointConfigName": "c", "ProductionVariants": [{"VariantName": "AllTraffic"}]}
    plane.store.add(CONFIG, {**config, "DataCaptureConfig": whole | changed})


def invoked(**changed: Any) -> Invoked:
    whole: dict[str, Any] = {
        "endpoint": "e",
        "variant": "AllTraffic",
        "request_body": b"1,2\n",
        "request_type": "text/csv; charset=utf-8",
        "status": 200,
        "response_body": b"[9.5]",
        "response_type": "application/json",
        "seconds": 0.02,
        "event_id": "id",
        "times": {"featurizer": 4.0, "predictor": 6.0},
    }
    return Invoked(**(whole | changed))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Captured]:
    """What is captured, instead of being shipped."""
    found: list[Captured] = []
    monkeypatch.setattr(capture._gathered, "add", lambda _plane, one: found.append(one))
    return found


def test_an_invocation_is_captured_with_both_sides(plane: Plane, kept: list[Captured]) -> None:
    with_capture(plane, KmsKeyId="key")

    capture.record(plane, invoked())

    (one,) = kept
    line = json.loads(one.line)
    when = datetime.strptime(line["eventMetadata"].pop("inferenceTime"), "%Y-%m-%dT%H:%M:%S%z")
    assert timedelta(0) <= datetime.now(UTC) - when < timedelta(hours=1)
    assert one.prefix == f"s3://captured/deep/e/AllTraffic/{when:%Y/%m/%d/%H}"
    assert one.kms_key == "key"
    assert one.line.endswith("}\n")
    assert line == {
        "captureData": {
            "endpointInput": {"observedContentType": "text/csv; charset=utf-8", "mode": "INPUT", "data": "1,2\n",
                              "encoding": "CSV"},
            "endpointOutput": {"observedContentType": "application/json", "mode": "OUTPUT", "data": "[9.5]",
                               "encoding": "JSON"},
        },
        "eventMetadata": {"eventId": "id"},
        "eventVersion": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("modes", "sides"),
    [
        (["Input"], {"endpointInput"}),
        (["Output"], {"endpointOutput"}),
        (["InputAndOutput"], {"endpointInput", "endpointOutput"}),
        ([], set()),
    ],
)
def test_the_sides_are_those_that_the_config_names(
    plane: Plane, kept: list[Captured], modes: list[str], sides: set[str]
) -> None:
    with_capture(plane, CaptureOptions=[{"CaptureMode": mode} for mode in modes])

    capture.record(plane, invoked())

    assert set(json.loads(kept[0].line)["captureData"]) == sides


@pytest.mark.parametrize(
    ("content_type", "body", "encoding"),
    [("application/x-npy", b"\x93", "BASE64"), ("text/csv", b"\xff", "BASE64"), ("", b"1", "BASE64"),
     ("TEXT/CSV ; a=b", "é".encode(), "CSV")],
)  # fmt: skip
def test_only_text_that_is_named_is_captured_as_it_is(
    plane: Plane, kept: list[Captured], content_type: str, body: bytes, encoding: str
) -> None:
    with_capture(plane)

    capture.record(plane, invoked(request_type=content_type, request_body=body))

    side = json.loads(kept[0].line)["captureData"]["endpointInput"]
    assert side["encoding"] == encoding
    assert side["data"] == (body.decode() if encoding == "CSV" else b64encode(body).decode())


@pytest.mark.parametrize(
    ("changed", "about", "chance"),
    [
        ({"EnableCapture": False}, {}, 0.0),
        ({}, {"status": 424}, 0.0),
        ({}, {"endpoint": "another"}, 0.0),
        ({"InitialSamplingPercentage": 30}, {}, 0.3),
    ],
)
def test_some_invocations_are_not_captured(
    plane: Plane,
    kept: list[Captured],
    changed: dict[str, Any],
    about: dict[str, Any],
    chance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: chance)
    with_capture(plane, **changed)

    capture.record(plane, invoked(**about))

    assert kept == []


def test_capture_goes_on_when_the_config_of_a_live_endpoint_is_deleted(plane: Plane, kept: list[Captured]) -> None:
    with_capture(plane)
    plane.store.remove(CONFIG, "c")

    capture.record(plane, invoked())

    assert len(kept) == 1
    assert logs._variant(plane, "e") == "AllTraffic"


def test_a_sample_takes_the_share_that_is_asked_for(
    plane: Plane, kept: list[Captured], monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = iter([0.0, 0.299, 0.3, 0.9])
    monkeypatch.setattr(random, "random", lambda: next(chances))
    with_capture(plane, InitialSamplingPercentage=30)

    for number in range(4):
        capture.record(plane, invoked(event_id=str(number)))

    assert [json.loads(one.line)["eventMetadata"]["eventId"] for one in kept] == ["0", "1"]


def test_lines_of_one_prefix_and_key_become_one_object(plane: Plane) -> None:
    s3 = plane.client("s3")
    capture.ship(
        plane,
        [
            Captured("s3://captured/a", "", "1\n"),
            Captured("s3://captured/a", "", "2\n"),
            Captured("s3://captured/b", "alias/mine", "3\n"),
            Captured("s3://captured/b", "", "4\n"),
        ],
    )

    found = {}
    for prefix in ("a/", "b/"):
        for one in s3.list_objects_v2(Bucket="captured", Prefix=prefix)["Contents"]:
            read = s3.get_object(Bucket="captured", Key=one["Key"])
            assert re.fullmatch(r"[ab]/\d{2}-\d{2}-\d{3}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jsonl", one["Key"])
            found[read["Body"].read()] = read.get("SSEKMSKeyId")
    assert found == {b"1\n2\n": None, b"3\n": "alias/mine", b"4\n": None}


def test_captures_are_written_each_second_and_metrics_each_ten_seconds() -> None:
    assert (capture._gathered.seconds, scaling._gathered.seconds) == (1.0, 10.0)


def test_items_are_shipped_together_by_one_thread_for_each_control_plane(plane: Plane) -> None:
    shipped: list[tuple[Plane, list[int]]] = []
    gathered = Gathered[int](lambda owner, items: shipped.append((owner, items)), 600)

    for number in range(3):
        gathered.add(plane, number)
    gathered._ship(plane)
    gathered.add(plane, 3)
    gathered._ship(plane)
    gathered._ship(plane)

    assert shipped == [(plane, [0, 1, 2]), (plane, [3])]
    assert [thread.name for thread in threading.enumerate()].count(__name__) == 1


def test_items_of_one_control_plane_are_not_shipped_by_another(plane: Plane, tmp_path: Path) -> None:
    shipped: list[tuple[Plane, list[int]]] = []
    gathered = Gathered[int](lambda owner, items: shipped.append((owner, items)), 0.05)
    with scripted_plane(tmp_path) as (other, _):
        gathered.add(plane, 1)
        gathered.add(other, 2)
        wait_until(lambda: len(shipped) == 2, "both")

    assert sorted(items for _, items in shipped) == [[1], [2]]
    assert {id(owner): items for owner, items in shipped} == {id(plane): [1], id(other): [2]}
    wait_until(lambda: gathered._shipping == [plane], "the thread of the other to end")


def test_items_that_cannot_be_shipped_are_lost_and_the_next_are_not(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    def ship(owner: Plane, items: list[str]) -> None:
        owner.client("s3").put_object(Bucket=items[0], Key="gathered", Body=b"")

    gathered = Gathered[str](ship, 0.01)
    gathered.add(plane, "nobodys")
    wait_until(lambda: "1 items were lost" in caplog.text, "the warning")
    gathered.add(plane, "captured")

    found = lambda: plane.client("s3").list_objects_v2(Bucket="captured", Prefix="gathered").get("Contents")  # noqa: E731
    assert wait_until(found, "the next item")
    assert gathering.log.name in {record.name for record in caplog.records}


@pytest.mark.parametrize(
    ("status", "body", "model", "counted"),
    [
        (200, b"[9.5]", 200, (0, 0, 0)),
        (424, b'{"OriginalStatusCode": 400}', 400, (1, 0, 1)),
        (424, b'{"OriginalStatusCode": 499}', 499, (1, 0, 1)),
        (424, b'{"OriginalStatusCode": 500}', 500, (0, 1, 1)),
        (424, b'{"OriginalStatusCode": 302}', 302, (0, 0, 1)),
        (424, b'{"OriginalStatusCode": 0}', 0, (0, 1, 1)),
        (424, b"no JSON", 0, (0, 1, 1)),
        (424, b"[]", 0, (0, 1, 1)),
        (424, b"{}", 0, (0, 1, 1)),
        (413, b"", 413, (1, 0, 1)),
    ],
)
def test_errors_are_counted_by_the_status_of_the_model(
    status: int, body: bytes, model: int, counted: tuple[int, int, int]
) -> None:
    one = invoked(status=status, response_body=body)

    values = {measured.name: measured.value for measured in measure(one, 1)}

    names = ("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors")
    assert model_status(one) == model
    assert tuple(values[name] for name in names) == counted


def test_an_invocation_is_measured_in_microseconds_and_for_each_instance() -> None:
    found = list(measure(invoked(), 4))

    own = (("EndpointName", "e"), ("VariantName", "AllTraffic"))
    assert found == [
        Measured("Invocations", "None", own, 1.0),
        Measured("InvocationsPerInstance", "None", own, 0.25),
        Measured("Invocation4XXErrors", "None", own, 0.0),
        Measured("Invocation5XXErrors", "None", own, 0.0),
        Measured("InvocationModelErrors", "None", own, 0.0),
        Measured("ModelLatency", "Microseconds", own, 10_000.0),
        Measured("OverheadLatency", "Microseconds", own, 10_000.0),
        Measured("ContainerLatency", "Microseconds", (*own, ("ContainerName", "featurizer")), 4_000.0),
        Measured("ContainerLatency", "Microseconds", (*own, ("ContainerName", "predictor")), 6_000.0),
    ]


def test_no_overhead_is_below_zero_and_no_share_above_one() -> None:
    values = {one.name: one.value for one in measure(invoked(seconds=0.001), 0)}

    assert (values["OverheadLatency"], values["InvocationsPerInstance"]) == (0.0, 1.0)


def test_an_invocation_is_measured_with_the_instances_of_its_variant(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Measured] = []
    monkeypatch.setattr(scaling._gathered, "add", lambda _plane, one: found.append(one))

    for about in ({}, {"variant": "Gone"}, {"endpoint": "gone"}):
        scaling.record(plane, invoked(**about))

    assert [one.value for one in found if one.name == "InvocationsPerInstance"] == [0.5, 1.0, 1.0]


def test_values_of_a_metric_are_shipped_as_one_statistic_set(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_MOST", 1)
    own = (("EndpointName", "shipped"), ("VariantName", "v"))
    values = [Measured("ModelLatency", "Microseconds", own, value) for value in (3.0, 1.0, 5.0)]

    scaling.ship(plane, [*values, Measured("Invocations", "None", own, 1.0)])

    now = datetime.now(UTC)
    client = plane.client("cloudwatch")
    found = {
        name: client.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in own],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=3600 * 2,
            Statistics=["Sum", "Minimum", "Maximum", "SampleCount"],
        )["Datapoints"]
        for name in ("ModelLatency", "Invocations")
    }
    (point,) = found["ModelLatency"]
    assert (point["SampleCount"], point["Sum"], point["Minimum"], point["Maximum"]) == (3.0, 9.0, 1.0, 5.0)
    assert point["Unit"] == "Microseconds"
    assert found["Invocations"][0]["Sum"] == 1.0


def test_a_call_puts_a_thousand_metrics_at_most(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[tuple[str, int]] = []

    class Client:
        def put_metric_data(self, *, Namespace: str, MetricData: list[Any]) -> None:
            put.append((Namespace, len(MetricData)))

    monkeypatch.setattr(Plane, "client", lambda _self, _service: Client())

    scaling.ship(plane, [Measured(f"m{number}", "None", (), 1.0) for number in range(1001)])

    assert put == [("AWS/SageMaker", 1000), ("AWS/SageMaker", 1)]


TARGET = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    "ResourceId": "endpoint/e/variant/AllTraffic",
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Mapping[str, Any]]]:
    """What moto is asked, instead of being asked."""
    found: list[tuple[str, str, Mapping[str, Any]]] = []

    def ask(_region: str, service: str, target: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        found.append((service, target, fields))
        return {"ScalableTargetARN": "arn"}

    monkeypatch.setattr(scaling, "ask", ask)
    return found


@pytest.mark.parametrize(
    ("bounds", "count"),
    [({"MinCapacity": 3, "MaxCapacity": 5}, 3), ({"MinCapacity": 0, "MaxCapacity": 1}, 1), ({}, 2),
     ({"MinCapacity": 1, "MaxCapacity": 4}, 2)],
)  # fmt: skip
def test_a_registered_variant_keeps_its_count_within_the_bounds(
    plane: Plane, told: list[Any], bounds: Mapping[str, int], count: int
) -> None:
    answered = scaling.register_scalable_target(plane, {**TARGET, **bounds})

    assert answered == {"ScalableTargetARN": "arn"}
    ((service, target, fields),) = told
    assert (service, target) == ("application-autoscaling", "AnyScaleFrontendService.RegisterScalableTarget")
    assert fields == {**TARGET, **bounds}
    other, variant = plane.store.find(ENDPOINT, "e").fields["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == variant["DesiredInstanceCount"] == count
    assert other["CurrentInstanceCount"] == other["DesiredInstanceCount"] == 2


@pytest.mark.parametrize(
    ("resource", "status", "said"),
    [
        ("endpoint/none/variant/AllTraffic", "InService", "SageMaker endpoint does not exist"),
        ("endpoint/e", "InService", "SageMaker endpoint does not exist"),
        ("endpoint/e/variant/Third", "InService", "SageMaker variant does not exist"),
        ("endpoint/e/variant/AllTraffic", "Creating", "SageMaker endpoint is not in service"),
        ("endpoint/e/variant/AllTraffic", "Updating", ""),
    ],
)
def test_only_variants_that_exist_are_registered(
    plane: Plane, told: list[Any], resource: str, status: str, said: str
) -> None:
    plane.store.change(plane.store.find(ENDPOINT, "e"), EndpointStatus=status)
    given = {**TARGET, "ResourceId": resource}
    if not said:
        assert scaling.register_scalable_target(plane, given)
        return

    with pytest.raises(ApiError, match=f"{said}: {resource}$"):
        scaling.register_scalable_target(plane, given)
    assert told == []


@pytest.mark.parametrize("changed", [{"ServiceNamespace": "ecs"}, {"ScalableDimension": "sagemaker:other"}])
def test_targets_that_are_no_variants_are_refused(plane: Plane, told: list[Any], changed: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="has targets of sagemaker and sagemaker:variant:DesiredInstanceCount only"):
        scaling.register_scalable_target(plane, {**TARGET, **changed})

    assert told == []


def test_a_file_is_read_line_by_line_as_it_grows_and_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "log"
    tail = logs.Tail(file)
    found = [tail.lines()]
    with file.open("wb") as writer:
        for piece in (b"one\ntw", b"o\n\n \nthree", b" \xff\n", b"end"):
            writer.write(piece)
            writer.flush()
            found.append(tail.lines())
    file.unlink()
    found += [tail.lines(last=True), tail.lines(last=True)]
    tail.close()

    assert found == [[], ["one"], ["two"], ["three \ufffd"], [], ["end"], []]


def test_a_line_that_is_too_long_for_an_event_becomes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LONGEST", 4)
    (tmp_path / "log").write_bytes(b"123456789\n")
    tail = logs.Tail(tmp_path / "log")

    assert tail.lines() == ["1234", "5678", "9"]
    tail.close()


def test_events_are_batched_by_count_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MOST_EVENTS", 3)
    monkeypatch.setattr(logs, "_MOST_BYTES", 100)
    before = int(time.time() * 1000)

    batches = list(logs._batches(["a", "b", "c", "d", "é" * 12, "f" * 24, "g" * 23]))

    assert [[event["message"] for event in events] for events in batches] == [
        ["a", "b", "c"],
        ["d", "é" * 12],
        ["f" * 24, "g" * 23],
    ]
    assert {before <= event["timestamp"] <= time.time() * 1000 for events in batches for event in events} == {True}
    assert list(logs._batches([])) == []
    assert [len(events) for events in logs._batches(["f" * 24, "g" * 24])] == [2]
    assert [len(events) for events in logs._batches(["f" * 24, "g" * 25])] == [1, 1]


def test_a_call_has_a_thousand_events_and_900_thousand_bytes_at_most() -> None:
    full = ["x" * (225_000 - 26)] * 4

    assert [len(events) for events in logs._batches(["x"] * 1001)] == [1000, 1]
    assert [len(events) for events in logs._batches(full)] == [4]
    assert [len(events) for events in logs._batches([*full[:3], f"{full[3]}x"])] == [3, 1]


def test_an_event_has_250_thousand_bytes_at_most(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 250_001 + b"\n")
    tail = logs.Tail(tmp_path / "log")

    assert [len(line) for line in tail.lines()] == [250_000, 1]
    tail.close()


def test_a_file_that_was_followed_is_closed(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    tail = logs.Tail(tmp_path / "log")
    tail.close()
    tail.lines()

    tail.close()

    assert tail._file is not None
    assert tail._file.closed


def lines_of(plane: Plane, group: str, stream: str) -> list[str]:
    client = plane.client("logs")
    try:
        events = client.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    except client.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in events]


def test_followed_files_are_shipped_to_their_last_line(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")

    with logs.follow(plane, "/followed", {"a": tmp_path / "a", "b": tmp_path / "b"}):
        wait_until(lambda: lines_of(plane, "/followed", "a") == ["one"], "the first line")
        (tmp_path / "b").write_text("late")
    with logs.follow(plane, "/followed", {"a": tmp_path / "b"}):
        pass

    assert lines_of(plane, "/followed", "b") == ["late"]
    assert lines_of(plane, "/followed", "a") == ["one", "late"]


def test_logs_that_cannot_be_shipped_are_said_to_be(
    plane: Plane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_text("one\n")

    with logs.follow(unreachable(plane), "/group", {"a": tmp_path / "a"}):
        wait_until(lambda: caplog.text, "the warning")

    assert "the logs of /group are shipped no more: Could not connect" in caplog.text


def test_lines_of_endpoints_that_cannot_be_shipped_are_said_to_be_lost(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "EVERY", 0.01)
    for name in ("featurizer", "predictor"):
        file = tmp_path / f"endpoints/e/i/{name}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("one\n")
    alone = replace(unreachable(plane), directory=tmp_path)
    thread = threading.Thread(target=logs.follow_endpoints, args=(alone,))
    thread.start()

    wait_until(lambda: caplog.text.count(" were lost: Could not connect") >= 2, "both warnings")
    alone.closing.set()
    thread.join()

    lost = [record.getMessage().partition(" were lost")[0] for record in caplog.records]
    assert sorted(lost) == [f"lines of {tmp_path}/endpoints/e/i/{name}.log" for name in ("featurizer", "predictor")]


def unreachable(plane: Plane) -> Plane:
    """The control plane where nobody answers its clients."""
    return replace(plane, url="http://127.0.0.1:9", closing=threading.Event())


def test_a_control_plane_that_ends_ships_no_logs(plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("one\n")
    closing = threading.Event()
    closing.set()
    monkeypatch.setattr(plane, "closing", closing)

    with logs.follow(plane, "/closing", {"a": tmp_path / "a"}):
        pass

    assert lines_of(plane, "/closing", "a") == []


def test_logs_of_all_containers_of_endpoints_are_shipped(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "EVERY", 0.01)
    closing = threading.Event()
    monkeypatch.setattr(plane, "closing", closing)
    plane.store.add(CONFIG, {"EndpointConfigName": "c", "ProductionVariants": [{"VariantName": "blue"}]})
    files = {}
    for endpoint, instance, name in (("e", "i-1", "primary"), ("e", "i-2", "predictor"), ("failed", "i-3", "primary")):
        files[name, endpoint] = file = plane.directory / "endpoints" / endpoint / instance / f"{name}.log"
        file.parent.mkdir(parents=True)
        file.write_text(f"{name} of {endpoint}\n")
    thread = threading.Thread(target=logs.follow_endpoints, args=(plane,))
    thread.start()

    shipped = lambda group, stream: lines_of(plane, f"/aws/sagemaker/Endpoints/{group}", stream)  # noqa: E731
    wait_until(lambda: shipped("e", "blue/local"), "the container alone")
    wait_until(lambda: shipped("e", "blue/local/predictor"), "one of several")
    wait_until(lambda: shipped("failed", "AllTraffic/local"), "the container of an endpoint that is not known")
    with files["primary", "e"].open("a") as writer:
        writer.write("the end")
        writer.flush()
        files["primary", "e"].unlink()
    wait_until(lambda: len(shipped("e", "blue/local")) == 2, "the last words of one that was removed")
    closing.set()
    thread.join()

    assert shipped("e", "blue/local") == ["primary of e", "the end"]
    assert shipped("e", "blue/local/predictor") == ["predictor of e"]
    assert shipped("failed", "AllTraffic/local") == ["primary of failed"]
