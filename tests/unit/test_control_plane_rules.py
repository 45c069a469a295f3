"""What the control plane refuses, in AWS's words, and how it shares an endpoint's requests."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local_test.container import Container
from local_test.control_plane import artifacts, configs, endpoints, hosting, models, server, service, tags, validation
from local_test.control_plane.docker_host import size_of
from local_test.control_plane.errors import ApiError
from local_test.control_plane.fleet import Fleet, Traffic
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.plane import STATUS_PATH, Invoked, Plane
from local_test.control_plane.process_host import HostedProcesses, stage_of
from local_test.control_plane.scaling import measure
from local_test.control_plane.store import CONFIG, ENDPOINT, MODEL
from local_test.endpoint import Endpoint
from local_test.state import State
from tests.servers import started, wait_until

ROLE = "arn:aws:iam::123456789012:role/any"
FEATURIZER = {"ContainerHostname": "featurizer", "Image": "127.0.0.1:1/serial-inference/featurizer:1"}
PREDICTOR = {"ContainerHostname": "predictor", "Image": "127.0.0.1:1/serial-inference/predictor:1"}
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane of processes that listens, for the sake of its S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("NO_PROXY", "*")
        plane = service.make_plane(0, "processes", tmp_path_factory.mktemp("plane"), {"PATH": os.environ["PATH"]})
        listener = server.make(plane, 0)
        plane.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        plane.client("s3").create_bucket(Bucket="models")
        yield plane
        listener.shutdown()
        listener.server_close()
        thread.join()


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return service.make_plane(0, "processes", tmp_path, {"PATH": os.environ["PATH"]})


def model(**changed: Any) -> dict[str, Any]:
    whole = {"ModelName": "m", "ExecutionRoleArn": ROLE, "Containers": [FEATURIZER, PREDICTOR], **changed}
    return {name: value for name, value in whole.items() if value is not None}


def with_config(plane: Plane) -> None:
    models.create_model(plane, model())
    configs.create_endpoint_config(plane, {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]})


def with_endpoint(plane: Plane, status: str = "InService") -> None:
    """An endpoint that only the API knows: nothing runs for it."""
    with_config(plane)
    shown = [{"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "DesiredInstanceCount": 1}]
    fields = {"EndpointName": "e", "EndpointConfigName": "c", "EndpointStatus": status, "ProductionVariants": shown}
    plane.store.add(ENDPOINT, fields)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("AsyncInferenceConfig", {"OutputConfig": {}}, "asynchronous inference"),
        ("ExplainerConfig", {"ClarifyExplainerConfig": {}}, "explainers"),
        ("ShadowProductionVariants", [VARIANT], "shadow variants"),
        ("ProductionVariants", [{**VARIANT, "ServerlessConfig": {"MemorySizeInMB": 1024}}], "serverless inference"),
    ],
)
def test_what_no_process_of_this_machine_is_like_is_refused(plane: Plane, name: str, value: Any, what: str) -> None:
    models.create_model(plane, model())

    with pytest.raises(ApiError, match=f"This control plane does not host {what}"):
        configs.create_endpoint_config(plane, {"EndpointConfigName": "c", "ProductionVariants": [VARIANT], name: value})


@pytest.mark.parametrize(
    ("operation", "fields", "said"),
    [
        ("CreateModel", {}, "1 validation error detected: Value null at 'modelName'.*Member must not be null"),
        ("CreateModel", {"ModelName": "a_b"}, "Value 'a_b' at 'modelName'.*Member must satisfy regular expression"),
        ("CreateModel", {"ModelName": "a" * 64}, "Member must have length less than or equal to 63"),
        ("CreateModel", {"ModelName": "a_b", "ExecutionRoleArn": "x"}, "^3 validation errors detected: "),
        (
            "CreateModel",
            {"ModelName": "a", "PrimaryContainer": {"Environment": {"1A": "x"}}},
            "'1A' at 'primaryContainer.environment'",
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": [{**VARIANT, "InstanceType": "ml.huge"}]},
            r"'ml.huge' at 'productionVariants.1.member.instanceType'.*enum value set: \[ml.t2.medium, ",
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": [{**VARIANT, "VolumeSizeInGB": 513}]},
            "Member must have value less than or equal to 512",
        ),
        ("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": []}, "length greater than or equal"),
        ("ListModels", {"SortBy": "Colour"}, "'Colour' at 'sortBy'"),
    ],
)
def test_a_request_that_breaks_the_api_model_is_refused_in_words_of_aws(
    operation: str, fields: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(ApiError, match=said) as refused:
        validation.check(operation, fields)

    assert refused.value.code == "ValidationException"


def test_a_value_of_another_type_is_a_serialization_error() -> None:
    with pytest.raises(ApiError, match="STRING_VALUE can not be converted to list at 'containers'") as refused:
        validation.check("CreateModel", {"ModelName": "m", "Containers": "x"})

    assert refused.value.code == "SerializationException"


def test_a_request_as_the_api_has_it_passes_with_members_that_are_unknown() -> None:
    validation.check("CreateModel", model(Colour="blue", Tags=[{"Key": "a", "Value": ""}]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Containers": None}, "Either PrimaryContainer or Containers"),
        ({"PrimaryContainer": FEATURIZER}, "Both PrimaryContainer and Containers"),
        ({"Containers": []}, "expected 1 to 15 containers, got 0"),
        ({"Containers": [FEATURIZER, FEATURIZER]}, "must be unique"),
        ({"Containers": [FEATURIZER, {"Image": PREDICTOR["Image"]}]}, "for every container"),
        ({"Containers": [FEATURIZER, {**PREDICTOR, "Image": "nginx:latest"}]}, "Image nginx:latest cannot be run"),
        ({"Containers": [FEATURIZER, {**PREDICTOR, "Mode": "MultiModel"}]}, "Mode MultiModel"),
        ({"Containers": [FEATURIZER, {**PREDICTOR, "Environment": {"SAGEMAKER_BIND_TO_PORT": "1"}}]}, "reserved"),
        ({"Containers": [FEATURIZER, {**PREDICTOR, "Environment": {"A": "x" * 32768}}]}, "may take 32768 bytes"),
        ({"InferenceExecutionConfig": {"Mode": "Direct"}}, "Direct"),
    ],
)
def test_models_that_cannot_be_hosted_are_refused(plane: Plane, changed: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        models.create_model(plane, model(**changed))

    assert plane.store.get(MODEL, "m") is None


def test_a_model_is_described_as_it_was_given(plane: Plane) -> None:
    models.create_model(plane, model(Tags=[{"Key": "a", "Value": "b"}], EnableNetworkIsolation=True))

    described = models.describe_model(plane, {"ModelName": "m"})

    assert described.pop("CreationTime") <= time.time()
    assert described == {
        "ModelName": "m",
        "ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m",
        "ExecutionRoleArn": ROLE,
        "Containers": [FEATURIZER, PREDICTOR],
        "InferenceExecutionConfig": {"Mode": "Serial"},
        "EnableNetworkIsolation": True,
    }


def test_names_that_are_taken_are_refused(plane: Plane) -> None:
    with_config(plane)

    with pytest.raises(ApiError, match=r'Cannot create already existing model "arn:.*:model/m"'):
        models.create_model(plane, model())
    with pytest.raises(ApiError, match=r'Cannot create already existing endpoint configuration "arn:.*/c"'):
        configs.create_endpoint_config(plane, {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]})


@pytest.mark.parametrize(
    ("work", "fields", "said"),
    [
        (models.describe_model, {"ModelName": "x"}, 'Could not find model "arn:.*:model/x"'),
        (models.delete_model, {"ModelName": "x"}, "Could not find model"),
        (configs.describe_endpoint_config, {"EndpointConfigName": "x"}, 'Could not find endpoint configuration "arn:'),
        (
            configs.create_endpoint_config,
            {"EndpointConfigName": "c", "ProductionVariants": [{**VARIANT, "ModelName": "x"}]},
            "Could not find model",
        ),
        (endpoints.create_endpoint, {"EndpointName": "e", "EndpointConfigName": "x"}, "Could not find endpoint config"),
        (endpoints.delete_endpoint, {"EndpointName": "x"}, 'Could not find endpoint "arn:'),
        (tags.list_tags, {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/x"}, "Could not find"),
    ],
)
def test_what_is_not_there_is_refused(plane: Plane, work: Any, fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        work(plane, fields)


def test_an_endpoint_config_needs_its_model_to_be_there_still(plane: Plane) -> None:
    with_config(plane)
    models.delete_model(plane, {"ModelName": "m"})

    with pytest.raises(ApiError, match="Could not find model"):
        endpoints.create_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": "c"})


def test_a_second_variant_is_refused(plane: Plane) -> None:
    models.create_model(plane, model())
    variants = [VARIANT, {**VARIANT, "VariantName": "Other"}]

    with pytest.raises(ApiError, match="one production variant, got 2"):
        configs.create_endpoint_config(plane, {"EndpointConfigName": "c", "ProductionVariants": variants})


@pytest.mark.parametrize("status", ["Creating", "Updating", "RollingBack"])
def test_a_model_and_a_config_are_kept_while_an_endpoint_is_on_its_way_to_them(plane: Plane, status: str) -> None:
    with_endpoint(plane, status)

    with pytest.raises(ApiError, match="it is in use by"):
        configs.delete_endpoint_config(plane, {"EndpointConfigName": "c"})
    with pytest.raises(ApiError, match="it is in use by endpoint"):
        models.delete_model(plane, {"ModelName": "m"})


def test_a_model_and_a_config_may_go_before_the_endpoint_that_they_serve(plane: Plane) -> None:
    with_endpoint(plane)

    models.delete_model(plane, {"ModelName": "m"})
    configs.delete_endpoint_config(plane, {"EndpointConfigName": "c"})

    assert models.list_models(plane, {}) == {"Models": []}
    assert plane.store.recall(MODEL, "m").name == "m"


@pytest.mark.parametrize("status", ["Creating", "Updating", "RollingBack", "Deleting"])
def test_an_endpoint_in_progress_is_neither_updated_nor_deleted(plane: Plane, status: str) -> None:
    with_endpoint(plane, status)
    configs.create_endpoint_config(plane, {"EndpointConfigName": "d", "ProductionVariants": [VARIANT]})
    counts = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}]

    for work, fields in (
        (endpoints.update_endpoint, {"EndpointConfigName": "d"}),
        (endpoints.update_weights_and_capacities, {"DesiredWeightsAndCapacities": counts}),
        (endpoints.delete_endpoint, {}),
    ):
        with pytest.raises(ApiError, match="Cannot update in-progress endpoint"):
            work(plane, {"EndpointName": "e", **fields})


def test_a_failed_endpoint_can_only_be_deleted(plane: Plane) -> None:
    with_endpoint(plane, "Failed")

    with pytest.raises(ApiError, match="can only be deleted"):
        endpoints.update_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": "c"})


def blue_green(kind: str, **sizes: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": 0, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        (blue_green("CANARY"), "CanarySize must be provided"),
        (blue_green("LINEAR"), "LinearStepSize must be provided"),
        (blue_green("ALL_AT_ONCE", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 5}), "can only be provided"),
        (blue_green("CANARY", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 51}), "from 1 to 50 percent, got 51"),
        (blue_green("LINEAR", LinearStepSize={"Type": "CAPACITY_PERCENT", "Value": 9}), "from 10 to 50 percent, got 9"),
        ({**blue_green("ALL_AT_ONCE"), "RollingUpdatePolicy": {}}, "Only one of"),
    ],
)
def test_deployments_that_the_platform_does_not_do_are_refused(
    plane: Plane, deployment: Mapping[str, Any], said: str
) -> None:
    with_endpoint(plane)
    configs.create_endpoint_config(plane, {"EndpointConfigName": "d", "ProductionVariants": [VARIANT]})
    asked = {"EndpointName": "e", "EndpointConfigName": "d", "DeploymentConfig": deployment}

    with pytest.raises(ApiError, match=said):
        endpoints.update_endpoint(plane, asked)


@pytest.mark.parametrize(
    ("kind", "size", "sound", "refused"),
    [("CANARY", "CanarySize", (1, 50), (0, 51)), ("LINEAR", "LinearStepSize", (10, 50), (9, 51))],
)
def test_a_first_step_has_its_least_and_its_largest_share(
    kind: str, size: str, sound: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    for value in sound:
        endpoints._check_deployment(blue_green(kind, **{size: {"Type": "CAPACITY_PERCENT", "Value": value}}))
    endpoints._check_deployment(blue_green(kind, **{size: {"Type": "INSTANCE_COUNT", "Value": 60}}))
    for value in refused:
        with pytest.raises(ApiError) as error:
            endpoints._check_deployment(blue_green(kind, **{size: {"Type": "CAPACITY_PERCENT", "Value": value}}))
        assert str(error.value) == f"{size} must be from {sound[0]} to 50 percent, got {value}."


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def count(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


@pytest.mark.parametrize(
    ("deployment", "instances", "said"),
    [
        (blue_green("CANARY", CanarySize=count(1)), 1, "at least 2 instances for a step of 1, got 1"),
        (blue_green("CANARY", CanarySize=percent(10)), 1, "at least 2 instances for a step of 1, got 1"),
        (blue_green("CANARY", CanarySize=percent(50)), 2, ""),
        (
            blue_green("CANARY", CanarySize=count(2)),
            3,
            "CanarySize must be at most 50 percent of the variant's",
        ),
        (blue_green("LINEAR", LinearStepSize=count(3)), 5, "at least 6 instances for a step of 3, got 5"),
        (blue_green("LINEAR", LinearStepSize=count(3)), 6, ""),
        (blue_green("LINEAR", LinearStepSize=count(1)), 11, "at least 10 percent of the variant's 11 instances, got 1"),
        (blue_green("LINEAR", LinearStepSize=count(1)), 10, ""),
        (blue_green("LINEAR", LinearStepSize=percent(10)), 3, ""),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": count(2)}}, 3, "MaximumBatchSize must be at most 50 percent"),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": percent(50)}}, 3, ""),
        (blue_green("ALL_AT_ONCE"), 1, ""),
    ],
)
@pytest.mark.parametrize("retained", [True, False])
def test_a_step_takes_half_of_the_instances_at_most(
    plane: Plane,
    monkeypatch: pytest.MonkeyPatch,
    deployment: Mapping[str, Any],
    instances: int,
    said: str,
    retained: bool,
) -> None:
    monkeypatch.setattr(endpoints.deployment, "in_background", lambda *_: None)
    with_endpoint(plane)
    present = plane.store.find(ENDPOINT, "e").fields["ProductionVariants"][0]
    present |= {"DesiredInstanceCount": instances, "CurrentInstanceCount": instances} if retained else {}
    present |= {"DesiredWeight": 1.0, "CurrentWeight": 1.0}
    variant = {**VARIANT, "InitialInstanceCount": 8 if retained else instances}
    configs.create_endpoint_config(plane, {"EndpointConfigName": "d", "ProductionVariants": [variant]})
    asked = {"EndpointName": "e", "EndpointConfigName": "d", "DeploymentConfig": deployment}
    asked |= {"RetainAllVariantProperties": retained}

    if said:
        with pytest.raises(ApiError, match=said):
            endpoints.update_endpoint(plane, asked)
    else:
        endpoints.update_endpoint(plane, asked)

    status = endpoints.describe_endpoint(plane, {"EndpointName": "e"})["EndpointStatus"]
    assert status == ("InService" if said else "Updating")


@pytest.mark.parametrize("gone", ["c", "d"])
def test_an_endpoint_moves_from_one_config_that_is_there_to_another(plane: Plane, gone: str) -> None:
    with_endpoint(plane)
    configs.create_endpoint_config(plane, {"EndpointConfigName": "d", "ProductionVariants": [VARIANT]})
    configs.delete_endpoint_config(plane, {"EndpointConfigName": gone})

    with pytest.raises(ApiError, match=f'^Could not find endpoint configuration "arn:.*:endpoint-config/{gone}"\\.$'):
        endpoints.update_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": "d"})

    assert endpoints.describe_endpoint(plane, {"EndpointName": "e"})["EndpointStatus"] == "InService"


def test_counts_and_weights_are_recorded(plane: Plane) -> None:
    with_endpoint(plane)
    desired = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 3, "DesiredWeight": 0.5}]

    endpoints.update_weights_and_capacities(plane, {"EndpointName": "e", "DesiredWeightsAndCapacities": desired})

    (variant,) = endpoints.describe_endpoint(plane, {"EndpointName": "e"})["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"], variant["CurrentWeight"]) == (3, 3, 0.5)


def test_tags_of_every_kind_are_added_listed_and_removed(plane: Plane) -> None:
    with_endpoint(plane)
    kinds = ("model/m", "endpoint-config/c", "endpoint/e")
    for arn in (f"arn:aws:sagemaker:us-east-1:123456789012:{kind}" for kind in kinds):
        tags.add_tags(plane, {"ResourceArn": arn, "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]})
        tags.delete_tags(plane, {"ResourceArn": arn, "TagKeys": ["a"]})

        assert tags.list_tags(plane, {"ResourceArn": arn}) == {"Tags": [{"Key": "b", "Value": "2"}]}


def archive(*members: tarfile.TarInfo) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return whole.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
    return info


@pytest.mark.parametrize("url", ["s3://models/none", "s3://nobodys/m.tar.gz", "s3://B/a b", "https://a.s3.x/m"])
def test_model_data_that_is_not_there_is_refused(listening: Plane, url: str) -> None:
    container = {**FEATURIZER, "ModelDataUrl": url}

    with pytest.raises(ApiError, match=f"^Could not find model data at {url}\\.$"):
        models.create_model(listening, model(ModelName="none", Containers=[container, PREDICTOR]))

    assert listening.store.get(MODEL, "none") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no gzip at all", "expected a gzip tar file"),
        (archive(member("good"))[:-20], "expected a gzip tar file"),
        (archive(member("link", tarfile.SYMTYPE)), "link is a link"),
        (archive(member("hard", tarfile.LNKTYPE)), "hard is a link"),
        (archive(member("pipe", tarfile.FIFOTYPE)), "pipe is a special file"),
        (archive(member("../out")), "a member ../out"),
        (archive(member("/etc/out")), "a member /etc/out"),
    ],
)
def test_model_data_that_cannot_be_unpacked_safely_fails_the_endpoint_and_not_the_model(
    listening: Plane, content: bytes, said: str
) -> None:
    listening.client("s3").put_object(Bucket="models", Key="m.tar.gz", Body=content)
    container = {**PREDICTOR, "ModelDataUrl": "s3://models/m.tar.gz"}
    models.create_model(listening, model(ModelName="damaged", Containers=[FEATURIZER, container]))
    variant = {**VARIANT, "ModelName": "damaged"}
    configs.create_endpoint_config(listening, {"EndpointConfigName": "damaged", "ProductionVariants": [variant]})
    try:
        endpoints.create_endpoint(listening, {"EndpointName": "damaged", "EndpointConfigName": "damaged"})
        find = partial(endpoints.describe_endpoint, listening, {"EndpointName": "damaged"})
        wait_until(lambda: find()["EndpointStatus"] != "Creating", "the endpoint to fail")
        found = find()
    finally:
        listening.store.remove(ENDPOINT, "damaged")
        listening.store.remove(CONFIG, "damaged")
        listening.store.remove(MODEL, "damaged")

    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"].startswith(
        'Failed to extract model data archive for container "predictor" from URL "s3://models/m.tar.gz". Please ensure '
        "that the object located at the URL is a valid tar.gz archive: "
    )
    assert said in found["FailureReason"]


def test_one_container_in_a_list_is_the_primary_one_and_its_archive_may_be_a_source(
    listening: Plane, tmp_path: Path
) -> None:
    s3 = listening.client("s3")
    s3.put_object(Bucket="models", Key="one.tar.gz", Body=archive(member("good")))
    data = {"S3DataSource": {"S3Uri": "s3://models/one.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"}}
    models.create_model(listening, model(ModelName="one", Containers=[{**FEATURIZER, "ModelDataSource": data}]))

    (spec,) = artifacts.specs(listening, listening.store.remove(MODEL, "one"), tmp_path / "one")

    assert spec.hostname == "primary"
    assert spec.model_dir is not None
    assert (spec.model_dir / "good").read_bytes() == b"x"


def test_model_data_that_changed_after_its_model_was_created_does_not_leave_its_directory(
    listening: Plane, tmp_path: Path
) -> None:
    s3 = listening.client("s3")
    s3.put_object(Bucket="models", Key="m.tar.gz", Body=archive(member("sub/good")))
    container = {**FEATURIZER, "ModelDataUrl": "s3://models/m.tar.gz"}
    models.create_model(listening, model(Containers=None, PrimaryContainer=container))
    found = listening.store.find(MODEL, "m")

    (spec,) = artifacts.specs(listening, found, tmp_path / "first", {"A": "1"})
    s3.put_object(Bucket="models", Key="m.tar.gz", Body=archive(member("../out")))
    with pytest.raises(
        HostingError, match=r'^Failed to extract model data archive for container "primary" .* a member \.\./out\.$'
    ):
        artifacts.specs(listening, found, tmp_path / "second")

    assert (spec.hostname, spec.environment) == ("primary", {"A": "1"})
    assert spec.model_dir is not None
    assert (spec.model_dir / "sub" / "good").read_bytes() == b"x"
    assert not (tmp_path / "second" / "out").exists()


def test_the_server_refuses_what_a_web_page_sends(listening: Plane) -> None:
    from werkzeug.test import Client

    client = Client(server.Application(listening))
    elsewhere = client.get(STATUS_PATH, headers={"Host": "evil.example"})
    page = client.get(STATUS_PATH, headers={"Host": "localhost", "Origin": "http://a.b"})

    assert elsewhere.text == "this control plane answers requests to this machine only\n"
    assert page.text == "this control plane does not answer web pages\n"
    assert elsewhere.mimetype == page.mimetype == "text/plain"
    assert client.get(STATUS_PATH, headers={"Host": "127.0.0.1:1"}).status_code == 200
    assert client.get(STATUS_PATH, headers={"Host": "evil.example"}).status_code == 403
    assert client.get(STATUS_PATH, headers={"Host": "localhost", "Origin": "http://a.b"}).status_code == 403
    assert client.get(STATUS_PATH, headers={"Host": "localhost", "Sec-Fetch-Site": "cross-site"}).status_code == 403


@pytest.mark.parametrize(
    ("image", "stage"),
    [
        ("127.0.0.1:5000/serial-inference/featurizer:abc", "featurizer"),
        ("127.0.0.1:5000/serial-inference/predictor@sha256:0123", "predictor"),
        ("serial-inference-predictor", "predictor"),
    ],
)
def test_an_image_is_the_stage_that_it_is_named_after(image: str, stage: str) -> None:
    assert stage_of(image) == stage


@pytest.mark.parametrize("image", ["featurizer/other:1", "myfeaturizers", "unpredictor", "predictor-old:predictor"])
def test_an_image_of_another_name_is_no_stage(image: str) -> None:
    with pytest.raises(ApiError) as refused:
        stage_of(image)

    assert str(refused.value) == (
        f"Image {image} cannot be run without Docker: this control plane runs processes of its checkout, for images "
        "whose repository name ends in featurizer or predictor or pipeline."
    )


@pytest.mark.parametrize(
    ("instance_type", "size"),
    [("ml.m5.large", (2, 8)), ("ml.m5.xlarge", (4, 16)), ("ml.c5.2xlarge", (8, 16)), ("ml.r5.xlarge", (4, 32))],
)
def test_an_instance_type_has_its_cpus_and_memory(instance_type: str, size: tuple[int, int]) -> None:
    cpus, memory = size_of(instance_type)

    assert (cpus, memory // 1024**3) == size


@pytest.mark.parametrize(("stops", "code"), [(True, -signal.SIGTERM), (False, -signal.SIGKILL)])
def test_a_training_that_is_to_stop_has_its_time_and_is_killed_then(
    stops: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not stops:
        monkeypatch.setattr(hosting, "STOPPED_WITHIN", 0.05)
    stop = threading.Event()

    with started(["sleep", "600"]) as process:
        threading.Timer(0.05, stop.set).start()
        ended = hosting.wait_or_stop(process, stop, process.terminate if stops else lambda: None)

    assert ended == code


def fleet(tmp_path: Path, config: str) -> Fleet:
    endpoint = Endpoint("e", ())
    return Fleet(config, config, tmp_path, HostedProcesses(endpoint, {}, (), State(tmp_path)), endpoint)


def test_a_share_of_the_requests_goes_to_the_new_fleet(tmp_path: Path) -> None:
    old, new = fleet(tmp_path, "old"), fleet(tmp_path, "new")
    traffic = Traffic(old)

    traffic.shift(new, 20)
    taken = [traffic.take() for _ in range(50)]

    assert taken.count(new) == 10
    assert old.in_flight == 40


def test_a_fleet_is_drained_once_all_its_requests_are_given_back(tmp_path: Path) -> None:
    old, new = fleet(tmp_path, "old"), fleet(tmp_path, "new")
    traffic = Traffic(old)
    taken = traffic.take()

    traffic.settle(new)
    before = traffic.drain(old, 0.05)
    threading.Timer(0.05, traffic.give_back, [taken]).start()

    assert not before
    assert traffic.drain(old, 10)
    assert traffic.take() is new


@pytest.mark.parametrize(
    ("names", "streams"),
    [
        (["featurizer", "predictor"], ["AllTraffic/local/featurizer", "AllTraffic/local/predictor"]),
        (["primary"], ["AllTraffic/local"]),
    ],
)
def test_only_containers_of_a_pipeline_have_logs_and_latencies_by_their_names(
    names: list[str], streams: list[str]
) -> None:
    endpoint = Endpoint("e", tuple(Container(name, "127.0.0.1", 1) for name in names))
    invoked = Invoked("e", "AllTraffic", b"", "", 200, b"", "", 0.1, "id", dict.fromkeys(names, 1.0))

    logged = [endpoint.log_stream(name).partition(":log-stream:")[2] for name in names]
    timed = [dict(one.dimensions)["ContainerName"] for one in measure(invoked, 1) if one.name == "ContainerLatency"]

    assert logged == streams
    assert timed == [name for name in names if name != "primary"]
