"""`autoscale`: what is registered, for which variant, and what a measurement proposes."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.endpoint import autoscale, capacity
from pipeline.endpoint.capacity import Capacity, Step, measure, run_step
from pipeline.endpoint.errors import FAILED, WRONG, PipelineError
from tests.aws_api import ENDPOINT, RELEASE, SAGEMAKER, VARIANT, Aws, refused

SCALE = "autoscale --max 3 --target 9"
MEASURE = "autoscale --max 3 --measure ROWS --step 0.001 --most 4 --p99 60000"


def params(aws: Aws, operation: str) -> list[dict[str, Any]]:
    return [one["params"] for one in aws.requests if one["operation"] == operation]


def with_variants(*names: str, **more: Any) -> dict[str, Any]:
    variants = [{**VARIANT, "VariantName": name, **more} for name in names]
    return {**SAGEMAKER, "DescribeEndpoint": {**ENDPOINT, "ProductionVariants": variants}}


@pytest.mark.parametrize(
    ("names", "option", "chosen"),
    [
        (["AllTraffic"], "", "AllTraffic"),
        (["Blue"], "", "Blue"),
        (["Blue", "AllTraffic"], "", "AllTraffic"),
        (["Blue", "AllTraffic"], "--variant Blue", "Blue"),
        (["Blue", "Green"], "", None),
        (["Blue"], "--variant Green", None),
    ],
)
def test_the_variant_is_the_only_one_or_the_one_that_is_named(
    run: Any, capsys: pytest.CaptureFixture[str], names: list[str], option: str, chosen: str | None
) -> None:
    code, aws = run(f"{SCALE} {option}", with_variants(*names), RELEASE)

    if chosen is None:
        assert (code, "RegisterScalableTarget" in aws.operations) == (WRONG, False)
        assert f"give one of {', '.join(names)}" in capsys.readouterr().err
        return
    (target,), (policy,) = params(aws, "RegisterScalableTarget"), params(aws, "PutScalingPolicy")
    assert target["ResourceId"] == policy["ResourceId"] == f"endpoint/houses/variant/{chosen}"
    assert "Tags" not in target


@pytest.mark.parametrize(("options", "code"), [("--target 9", WRONG), ("--min 2 --max 1 --target 9", WRONG),
                                               ("--min 2 --max 2 --target 9", 0)])  # fmt: skip
def test_the_bounds_must_be_given_and_in_order(run: Any, options: str, code: int) -> None:
    assert run(f"autoscale {options}", SAGEMAKER, RELEASE)[0] == code


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "x", ""])
def test_a_target_is_a_number_above_0(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        autoscale.positive(text)
    assert autoscale.positive("0.5") == 0.5


def test_all_variants_stop_scaling_or_the_one_that_is_named(run: Any) -> None:
    (target,) = SAGEMAKER["DescribeScalableTargets"]["ScalableTargets"]
    targets = [{**target, "ResourceId": f"endpoint/houses/variant/{name}"} for name in ("Blue", "Green")]
    answers = {**SAGEMAKER, "DescribeScalableTargets": {"ScalableTargets": targets}}

    def ended(options: str) -> list[str]:
        _, aws = run(f"autoscale --off {options}", answers)
        return [one["ResourceId"].rpartition("/")[2] for one in params(aws, "DeregisterScalableTarget")]

    assert ended("") == ["Blue", "Green"]
    assert ended("--variant Green") == ["Green"]
    assert ended("--dry-run") == []


def test_a_dry_run_changes_nothing(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, aws = run(f"{SCALE} --dry-run", SAGEMAKER, RELEASE)

    assert aws.operations == ["DescribeEndpoint"]
    output = capsys.readouterr()
    register, policy = json.loads(output.out)["requests"]
    assert (register["service"], register["operation"]) == ("application-autoscaling", "RegisterScalableTarget")
    assert (register["params"]["MinCapacity"], register["params"]["MaxCapacity"]) == (1, 3)
    assert (policy["operation"], policy["params"]["PolicyType"]) == ("PutScalingPolicy", "TargetTrackingScaling")
    assert policy["params"]["PolicyName"] == "serial-inference-invocations-per-instance"
    assert output.err == "dry run: nothing was changed\n"


def test_a_measurement_asks_the_variant_row_by_row_and_proposes_a_target(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, aws = run(f"{MEASURE} --json", with_variants("Blue", CurrentInstanceCount=2), RELEASE)

    output = capsys.readouterr()
    printed = json.loads(output.out)
    measured, sent = printed["measured"], params(aws, "InvokeEndpoint")
    steps = measured["steps"]
    assert code == 0
    assert {one.pop("Body") for one in sent} == {"<4 bytes>"}
    assert all(one == {"EndpointName": "houses", "ContentType": "text/csv", "Accept": "text/csv",
                       "TargetVariant": "Blue"} for one in sent)  # fmt: skip
    assert len(sent) >= 1 + sum(step["concurrency"] for step in steps)
    assert [step["concurrency"] for step in steps] == [1, 2, 4]
    best = max(step["per_second"] for step in steps)
    assert printed["target"] == measured["proposed_target"] == max(1.0, float(int(best / 2 * 0.5 * 60)))
    assert "by 2 instances at p99" in measured["how"]
    assert "measuring houses: 0.001 s at each concurrency, until p99 exceeds 60000 ms" in output.err


def test_a_measurement_sends_the_first_1000_requests_of_a_file_by_turns(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    def sender(client: Any, _request: Any, bodies: list[bytes]) -> Callable[[], float]:
        found.extend((client.meta.config.max_pool_connections, bodies))
        return lambda: 0.001

    monkeypatch.setattr(capacity, "sender", sender)
    (tmp_path / "rows.csv").write_text("".join(f"{number},1\n" for number in range(1001)))

    assert run(MEASURE, SAGEMAKER, RELEASE)[0] == 0

    connections, bodies = found
    assert (len(bodies), bodies[-1]) == (1000, b"999,1\n")
    assert connections == 4  # as many as requests at a time


def test_an_endpoint_that_does_not_say_its_instances_has_one(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(MEASURE, with_variants("AllTraffic", CurrentInstanceCount=0), RELEASE)

    measured = capsys.readouterr().out
    assert code == 0
    assert " requests/s at p99 " in measured
    assert "instances at p99" not in measured


def test_people_read_how_the_target_was_measured(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(MEASURE, SAGEMAKER, RELEASE)

    assert capsys.readouterr().out.startswith("measured: ")


def test_rows_of_json_are_answered_in_json_and_several_go_in_a_request(run: Any, tmp_path: Any) -> None:
    (tmp_path / "rows.jsonl").write_text("[1]\n[2]\n[3]\n")

    _, aws = run(
        f"{MEASURE} --rows-per-request 2 --header absent".replace("ROWS", str(tmp_path / "rows.jsonl")),
        SAGEMAKER,
        RELEASE,
    )

    sent = params(aws, "InvokeEndpoint")
    assert {one["Accept"] for one in sent} == {"application/json"}
    assert {one["Body"] for one in sent} == {"<8 bytes>", "<4 bytes>"}


def test_a_refusal_while_it_is_measured_changes_nothing(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, aws = run(MEASURE, {**SAGEMAKER, "InvokeEndpoint": refused("ThrottlingException", "too\nmuch")}, RELEASE)

    output = capsys.readouterr().err
    assert (code, "RegisterScalableTarget" in aws.operations) == (FAILED, False)
    assert (
        "FAILED: An error occurred (ThrottlingException) when calling the InvokeEndpoint operation: too much" in output
    )
    assert "python -m pipeline logs" in output


class Clock:
    """Time that passes only while something is sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(capacity, "time", SimpleNamespace(monotonic=lambda: self.now))

    def sending(self, *seconds: float | str) -> Callable[[], float | str]:
        """Sends that take so long, the last for ever; a text is a failure and takes no time."""
        left = list(seconds)

        def send() -> float | str:
            took = left.pop(0) if len(left) > 1 else left[0]
            self.now += took if isinstance(took, float) else 0.0
            return took

        return send


def test_a_step_sends_while_its_time_lasts_and_once_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    assert run_step(clock.sending(0.25), 1, 1.0) == Step(1, 4.0, 250.0, 250.0, 0)
    assert run_step(clock.sending(3.0), 1, 1.0) == Step(1, 1 / 3, 3000.0, 3000.0, 0)
    assert run_step(clock.sending(0.5, "broken", "never"), 1, 9.0) == Step(1, 2.0, 500.0, 500.0, 1, "broken")


def test_each_of_those_at_a_time_sends_once_at_least() -> None:
    sent: list[int] = []

    def send() -> float:
        sent.append(1)
        return 0.001

    assert run_step(send, 5, 0.0).concurrency == 5
    assert len(sent) == 5


def test_measuring_warms_up_and_ends_at_the_most_or_where_it_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, float]] = []

    def step(_: Any, concurrency: int, seconds: float) -> Step:
        steps.append((concurrency, seconds))
        return Step(concurrency, concurrency * 10.0, 1.0, 10.0 * concurrency, 0)

    monkeypatch.setattr(capacity, "run_step", step)
    send = lambda: 0.0  # noqa: E731

    lines: list[str] = []
    measured = measure(send, 100.0, 5.0, 4, 1, lines.append)
    assert steps == [(1, 1.0), (1, 5.0), (2, 5.0), (4, 5.0)]
    assert (measured.best.concurrency, len(lines)) == (4, 3)
    steps.clear()
    assert measure(send, 20.0, 0.5, 64, 1, lines.append).best.concurrency == 2  # 20 ms are in time, 40 are not
    assert steps == [(1, 0.5), (1, 0.5), (2, 0.5), (4, 0.5)]
    with pytest.raises(PipelineError, match="one request at a time is not answered in time: 1 at a time"):
        measure(send, 9.9, 5.0, 64, 1, lines.append)


def test_a_capacity_says_how_its_target_came_about() -> None:
    steps = [Step(1, 10.0, 5.0, 9.0, 0), Step(2, 31.0, 6.0, 12.5, 0), Step(4, 40.0, 7.0, 200.0, 0)]

    assert str(Capacity(steps, 1, 100.0)) == (
        "31.0 requests/s at p99 12.5 ms (2 at a time) x 0.5 for safety x 60 s = 930 a minute and instance"
    )
    assert str(Capacity(steps, 2, 100.0)).startswith("31.0 requests/s by 2 instances at p99")
    assert str(steps[0]) == "   1 at a time:     10.0 requests/s, p50 5.0 ms, p99 9.0 ms"
    assert str(Step(1, 0.0, 0.0, 0.0, 2, "lost")).endswith(", 2 FAILED: lost")


def test_bodies_are_sent_in_turn_and_never_twice_for_one_failure() -> None:
    bodies: list[bytes] = []

    class Client:
        def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
            bodies.append(request["Body"])
            return {"Body": io.BytesIO(b"1\n")}

    send = capacity.sender(Client(), {"EndpointName": "e"}, [b"a", b"b"])

    assert all(isinstance(send(), float) for _ in range(3))
    assert bodies == [b"a", b"b", b"a"]
