"""Rows on their way through an endpoint: what is asked again, in which order, and which row a refusal names."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from botocore import exceptions as boto

from pipeline.endpoint import comparison, runtime
from pipeline.endpoint.batch_files import Rows
from pipeline.endpoint.errors import FAILED, NOT_FOUND, TIMEOUT, PipelineError
from pipeline.endpoint.payloads import Batch
from pipeline.endpoint.sending import Progress, Sending, percentiles
from serving.payload import CSV, JSON

LOST = boto.EndpointConnectionError(endpoint_url="http://x")
ROWS = Batch(b"1,2\n" * 20, first_row=101, rows=20)


def refusal(code: str, status: int = 400, message: str = "why", **more: Any) -> boto.ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return boto.ClientError(answer, "InvokeEndpoint")


def model_error(status: int | None, error: Mapping[str, Any] | str = "", message: str = "why") -> boto.ClientError:
    original = error if isinstance(error, str) else json.dumps(error)
    return refusal("ModelError", 424, message, OriginalStatusCode=status, OriginalMessage=original)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *[(refusal(code), True) for code in runtime.THROTTLING],
        (refusal("Unknown", 429), True),
        (refusal("InternalFailure", 500), True),
        (refusal("ServiceUnavailable", 503), True),
        (refusal("ValidationError", 400), False),
        (refusal("AccessDeniedException", 403), False),
        (refusal("Unknown", 499), False),
        *[(model_error(status), True) for status in (0, 502, 503, 504)],
        *[(model_error(status), False) for status in (400, 413, 500, 501, None)],
        (LOST, True),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), True),
        (boto.ReadTimeoutError(endpoint_url="http://x"), True),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), True),
        (boto.ParamValidationError(report="x"), False),
        (boto.NoCredentialsError(), False),
        (boto.SSLError(endpoint_url="http://x", error="not trusted"), False),
    ],
)
def test_what_may_succeed_later_is_asked_again_and_nothing_else(error: Any, passes: bool) -> None:
    assert runtime.is_passing(error) is passes


class Client:
    """A runtime client that raises or answers what a test says, one after the other."""

    def __init__(self, *answers: Exception | bytes) -> None:
        self.answers = iter(answers)
        self.bodies: list[bytes] = []
        self.types: list[str] = []

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        self.types.append(request.get("ContentType", ""))
        self.bodies.append(request["Body"])
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return {"Body": io.BytesIO(answer), "ContentType": "text/csv; charset=utf-8"}


class Waits(threading.Event):
    """An event that waits for no time, and remembers how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0)
        return self.is_set()


def test_a_request_is_asked_again_after_pauses_that_grow_until_the_retries_are_used_up() -> None:
    stopped, client = Waits(), Client(*[LOST] * 7, b"1\n")

    answer = runtime.ask(client, {"Body": b"x"}, stopped, retries=7)

    assert (answer.body, answer.attempts, client.bodies) == (b"1\n", 8, [b"x"] * 8)
    for seconds, longest in zip(stopped.seconds, (0.5, 1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= seconds <= longest
    with pytest.raises(boto.EndpointConnectionError):
        runtime.ask(Client(*[LOST] * 3), {"Body": b"x"}, stopped, retries=2)


@pytest.mark.parametrize(("error", "stops"), [(refusal("ValidationError"), False), (LOST, True)])
def test_a_refusal_is_final_and_so_is_a_run_that_stopped(error: Exception, stops: bool) -> None:
    stopped, client = Waits(), Client(error, b"1\n")
    if stops:
        stopped.set()

    with pytest.raises(type(error)):
        runtime.ask(client, {"Body": b"x"}, stopped)

    assert len(client.bodies) == 1


@pytest.mark.parametrize(
    ("error", "code", "message", "next_step"),
    [
        (
            model_error(400, {"row": 3, "column": "sex", "message": "no", "code": "c"}, "from featurizer with message"),
            FAILED, "featurizer answered 400 to row 103 of a.csv, column sex: no (c)", "docs/payloads.md#errors",
        ),
        (model_error(500, "oops", "from predictor with message"), FAILED,
         "predictor answered 500 to rows 101 to 120 of a.csv: oops", "python -m pipeline logs --container predictor"),
        (model_error(500, {"message": "oops", "request_id": "r"}), FAILED,
         "a container answered 500 to rows 101 to 120 of a.csv: oops", "--container a container --request-id r"),
        (model_error(500, "[1]"), FAILED, "answered 500 to rows 101 to 120 of a.csv: [1]", "python -m pipeline logs"),
        (model_error(499, ""), FAILED, "answered 499 to rows 101 to 120 of a.csv: why", "correct the row"),
        (model_error(0, ""), TIMEOUT, "answered 0 to rows 101 to 120 of a.csv: why", "python -m pipeline logs"),
        (model_error(400, {"code": "bad_header", "row": 1}), FAILED, "to row 101 of", "say --header present or"),
        (model_error(413, {"code": "too_many_rows"}), FAILED, "answered 413", "--rows-per-request 10"),
        (model_error(413, {"code": "payload_too_large"}), FAILED, "answered 413", "--rows-per-request 10"),
        (model_error(502, {"code": "response_too_large"}), FAILED, "answered 502", "--rows-per-request 10"),
        (refusal("ValidationError", message="Endpoint x of account 1 not found."), NOT_FOUND,
         "there is no endpoint houses: Endpoint x of account 1 not found.", "check --endpoint and --region"),
        (refusal("ValidationError", message="Variant B of endpoint x not found."), NOT_FOUND,
         "Variant B of endpoint x not found.", "check --target-variant"),
        (refusal("ValidationError", message="Variant or endpoint: bad"), FAILED,
         "rows 101 to 120 of a.csv: AWS refused InvokeEndpoint: Variant", "change what it refuses"),
        (refusal("AccessDeniedException"), FAILED, "rows 101 to 120 of a.csv: AWS refused", "docs/iam/"),
        (boto.ReadTimeoutError(endpoint_url="http://x"), TIMEOUT, "rows 101 to 120 of a.csv: no answer in time", ""),
    ],
)  # fmt: skip
def test_a_refusal_names_the_rows_of_the_file_and_the_next_step(
    error: Any, code: int, message: str, next_step: str
) -> None:
    explained = runtime.refusal(error, ROWS, "a.csv", "houses")

    assert explained.code == code
    assert message in explained.message
    assert next_step in explained.next_step


def test_one_row_that_is_too_large_is_not_to_be_sent_with_fewer() -> None:
    for one in (Batch(b"1,2\n", rows=1), Batch(b"x")):
        explained = runtime.refusal(model_error(413, {"code": "payload_too_large"}), one, "a.csv", "houses")

        assert "--rows-per-request" not in explained.next_step


def sending(client: Any, **more: Any) -> Sending:
    return Sending(client, "a.csv", {"EndpointName": "houses", "ContentType": "text/csv"}, **more)


def test_answers_come_in_the_order_of_the_batches_and_few_of_them_wait() -> None:
    read: list[int] = []

    def batches() -> Iterator[Batch]:
        for number in range(1, 21):
            read.append(number)
            yield Batch(b"%d\n" % number, number, 1)

    class Echo:
        def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
            return {"Body": io.BytesIO(request["Body"]), "ContentType": CSV}

    run = sending(Echo(), concurrency=2)
    ahead = [(int(body), len(read)) for body in run.bodies(batches())]

    assert [number for number, _ in ahead] == list(range(1, 21))
    assert max(taken - number for number, taken in ahead) == 3  # twice the concurrency are under way
    assert run.summary("houses", 1.23456) == {
        "endpoint": "houses", "rows": 20, "requests": 20, "retries": 0, "seconds": 1.235,
        "latency_ms": percentiles(run.seconds),
    }  # fmt: skip


def test_retries_are_counted_over_all_requests() -> None:
    run = sending(Client(LOST, b"1\n", b"1\n"), concurrency=1, stopped=Waits())

    assert list(run.bodies(iter([Batch(b"1\n", 1, 1), Batch(b"1\n", 2, 1)]))) == [b"1\n", b"1\n"]
    assert run.summary("houses", 1.0)["retries"] == 1


def test_the_first_refusal_ends_a_run_and_what_waits_is_not_sent() -> None:
    client = Client(b"1\n", refusal("ValidationError"), *[b"1\n"] * 50)
    run = sending(client, concurrency=1)
    bodies = run.bodies(iter([Batch(b"%d" % number, number, 1) for number in range(50)]))

    assert next(bodies) == b"1\n"
    with pytest.raises(PipelineError, match="AWS refused InvokeEndpoint"):
        next(bodies)

    assert run.stopped.is_set()
    assert len(client.bodies) < 10


@pytest.mark.parametrize(
    ("answered", "rows", "header", "judged", "accepted"),
    [
        (b"1\n2\n", 2, False, False, True),
        (b"1\n", 2, False, False, False),
        (b"1\n2\n3\n", 2, False, False, False),
        (b"1\n", 2, None, True, True),  # the endpoint, which knows its columns, found a header
        (b"1\n", 2, None, False, False),
        (b"1\n", 2, True, True, False),
        (b"1\n", 3, None, True, False),
        (b"1\n2\n3\n", 2, None, True, False),
    ],
)
def test_a_row_without_an_answer_is_noticed(
    answered: bytes, rows: int, header: bool | None, judged: bool, accepted: bool
) -> None:
    run = sending(Client(answered), judged_header=judged)
    bodies = run.bodies(iter([Batch(b"x", 1, rows, header)]))

    if accepted:
        assert list(bodies) == [answered]
        return
    with pytest.raises(PipelineError, match=f"the endpoint gave {answered.count(10)} answers to rows 1 to") as error:
        list(bodies)
    assert error.value.next_step.startswith("say --header" if judged else "check the rows")


def test_a_header_is_looked_for_only_where_one_request_has_the_whole_file() -> None:
    for batches in ([Batch(b"x", 1, 2, None), Batch(b"x", 3, 2, None)], [Batch(b"x", 3, 2, None)]):
        run = sending(Client(b"1\n", b"1\n2\n"), judged_header=True, concurrency=1)

        with pytest.raises(PipelineError, match="the endpoint gave 1 answers"):
            list(run.bodies(iter(batches)))


@pytest.mark.parametrize(
    ("judged", "said"),
    [(True, ["text/csv", "text/csv; header=absent", "text/csv; header=present"]), (False, ["text/csv"] * 3)],
)
def test_a_request_says_whether_it_begins_with_a_header_where_that_is_known(judged: bool, said: list[str]) -> None:
    client = Client(b"1\n", b"1\n", b"1\n")
    run = sending(client, judged_header=judged, concurrency=1)

    list(run.bodies(iter([Batch(b"x", 1, 1, False), Batch(b"x", 2, 1, False), Batch(b"x", 3, 1, True)])))

    assert client.types == said


def test_rows_that_nobody_counts_are_taken_as_they_are() -> None:
    run = sending(Client(b"1\n2\n3\n"))

    assert list(run.bodies(iter([Batch(b"x")]))) == [b"1\n2\n3\n"]
    assert run.rows == 3


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([], (0, 0, 0, 0)),
        ([0.25], (250, 250, 250, 250)),
        ([number / 1000 for number in range(100, 0, -1)], (50, 90, 99, 100)),
        ([0.001, 0.002, 0.003], (2, 3, 3, 3)),
    ],
)
def test_percentiles_are_of_the_nearest_rank(seconds: list[float], expected: tuple[float, ...]) -> None:
    assert tuple(percentiles(seconds).values()) == expected


@pytest.mark.parametrize(
    ("size", "lines"),
    [
        (200, ["[###############               ]  50% 1,000 rows answered",
               "[##############################] 100% 2,000 rows answered"]),
        (0, ["1,000 rows answered", "2,000 rows answered"]),
    ],
)  # fmt: skip
def test_a_bar_shows_how_much_was_answered(size: int, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(size)

    bar.add(100, 1000)
    bar.add(110, 2000)  # headers are counted again in every request
    bar.end()

    assert capsys.readouterr().err == "".join(f"\r{line}" for line in lines) + "\n"


def test_answers_of_json_are_counted_too() -> None:
    class Answers(Client):
        def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
            return {**super().invoke_endpoint(**request), "ContentType": JSON}

    run = sending(Answers(b'{"result": [1]}'))

    with pytest.raises(PipelineError, match="the endpoint gave 1 answers to rows 1 to 2"):
        list(run.bodies(iter([Batch(b"x", 1, 2)])))


def test_a_sample_is_sent_over_a_connection_for_each_of_four_requests_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1,2\n")
    connections: list[int] = []

    def new_client(_clients: Any, number: int) -> Client:
        connections.append(number)
        return Client(b"1\n")

    monkeypatch.setattr(runtime, "new_client", new_client)

    rows = Rows.of(tmp_path / "rows.csv", CSV, lines=True)
    assert comparison.ask(Mock(), "houses", rows, list(rows.records()), CSV) == [b"1"]
    assert connections == [sending(None).concurrency] == [4]
