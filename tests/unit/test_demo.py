"""`demo`: what it shows of rows and answers, and the answers that it finds wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from pipeline import demo
from pipeline.cli import main
from pipeline.model import Pipeline
from serving.contract import Column, ColumnType, Contract, Task
from serving.payload import Payload
from serving.settings import Settings

COLUMNS = (
    Column("size", ColumnType.NUMERIC),
    Column("kind", ColumnType.LABEL, ("a", "b", "c")),
    Column("place", ColumnType.CATEGORICAL),
)
CLASSES = Contract("things", Task.MULTICLASS, COLUMNS, ("size",), {})


class Endpoint:
    """A runtime API whose endpoint is both stages in this process."""

    def __init__(self, artifacts: Path, change: Any = lambda result: result) -> None:
        self.pipeline, self.change = Pipeline.load(Settings(model_dir=artifacts)), change
        self.endpoints: list[str] = []

    def invoke_endpoint(self, EndpointName: str, ContentType: str, Accept: str, Body: bytes) -> dict[str, Any]:
        self.endpoints.append(EndpointName)
        answer = self.pipeline(Payload(Body, ContentType, Accept))
        result = self.change(json.loads(answer.body)["result"])
        timing = {"server-timing": "featurizer;dur=1.26, predictor;dur=0.5, total"}
        return {"Body": Read(json.dumps({"result": result}).encode()), "ResponseMetadata": {"HTTPHeaders": timing}}


class Read:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def read(self) -> bytes:
        return self.body


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    def run(endpoint: Any, artifacts: Path, *more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(demo, "runtime_client", lambda url: urls.append(url) or endpoint)
        code = main(["demo", "--artifacts", str(artifacts), *more], {"ROUTER_PORT": "18080"})
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    urls: list[str] = []
    run.urls = urls  # type: ignore[attr-defined]
    return run


def test_rows_are_shown_with_answer_truth_and_times_and_all_are_compared(run: Any, artifacts: Path) -> None:
    endpoint = Endpoint(artifacts)
    rows = (artifacts / "test.csv").read_text().splitlines()[1:]

    code, out, _ = run(endpoint, artifacts)

    lines = out.splitlines()
    table = [line.split() for line in lines[3:12]]
    assert code == 0
    assert lines[1] == "8 of the 418 rows that training never saw, one at a time through http://127.0.0.1:18080:"
    assert lines[3].split() == [rows_header(artifacts), "prediction", "truth", "featurizer", "ms", "predictor", "ms"]
    assert [(cells[0], cells[2]) for cells in table[1:]] == [tuple(row.rsplit(",", 1)) for row in rows[:8]]
    expected = demo.in_process(artifacts, "\n".join(rows) + "\n")
    assert [cells[1] for cells in table[1:]] == [f"{value:.3f}" for value in expected[:8]]
    assert {tuple(cells[3:]) for cells in table[1:]} == {("1.3", "0.5")}
    assert lines[-1] == "OK: all 418 predictions of the chain equal in-process scikit-learn + XGBoost, bit for bit"
    assert set(endpoint.endpoints) == {"abalone"}


def rows_header(artifacts: Path) -> str:
    return (artifacts / "test.csv").read_text().splitlines()[0].removesuffix(",rings")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda result: [float(np.nextafter(np.float32(result[0]), np.float32(99))), *result[1:]], 417),
        (lambda result: result if len(result) == 1 else result[:-1], 0),
    ],
)
def test_an_answer_that_is_off_by_a_bit_or_lost_fails(run: Any, artifacts: Path, change: Any, same: int) -> None:
    code, _, error = run(Endpoint(artifacts, change), artifacts)

    assert code == 1
    assert error == f"\nFAILED: {same} of 418 predictions equal the in-process ones\n"


def test_without_artifacts_or_endpoint_the_next_step_is_told(run: Any, artifacts: Path, tmp_path: Path) -> None:
    class Absent:
        def invoke_endpoint(self, **_: object) -> None:
            raise ClientError({"Error": {"Code": "ValidationError", "Message": "Endpoint not found"}}, "InvokeEndpoint")

    code, _, error = run(Absent(), artifacts, "--url", "http://127.0.0.1:9")
    none, _, reason = run(Absent(), tmp_path)

    assert (code, none) == (2, 2)
    assert "Endpoint not found; the chain of these artifacts is started with `make up`" in error
    assert f"there is no {tmp_path}/featurizer/model/contract.json: run `python -m pipeline train`" in reason
    assert run.urls[0] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("task", "prediction", "shown"),
    [
        (Task.REGRESSION, 12.34567, "12.346"),
        (Task.REGRESSION, -999.9996, "-1000.000"),
        (Task.REGRESSION, 1000, "1000"),
        (Task.REGRESSION, -206000.4, "-206000"),
        (Task.BINARY, 0.25, "a (0.75)"),
        (Task.BINARY, 0.75, "b (0.75)"),
        (Task.MULTICLASS, [0.1, 0.2, 0.7], "c (0.70)"),
    ],
)
def test_a_prediction_is_shown_as_its_task_has_it(task: Task, prediction: Any, shown: str) -> None:
    assert demo._shown(Contract("t", task, COLUMNS, (), {}), prediction) == shown


def test_rows_are_shown_without_the_label_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [([[0.1, 0.2, 0.7]], {"chain": 1.0}), ([[0.6, 0.2, 0.2]], {"chain": 12.25})]

    demo._show_rows(CLASSES, "size,kind,place", ['1,c,"x, y"', "20,b,z"], answers)

    assert capsys.readouterr().out.splitlines() == [
        "size,place  prediction  truth  chain ms",
        '1,"x, y"      c (0.70)      c       1.0',
        "20,z          a (0.60)      b      12.2",
    ]


@pytest.mark.parametrize(
    ("labels", "code", "said"),
    [
        (["c", "a"], 0, "output=label names the likeliest class of each; 2 of 2 are the true one"),
        (["c", "b"], 1, "FAILED: output=label does not name the likeliest classes"),
        (["c"], 1, "FAILED: output=label does not name the likeliest classes"),
    ],
)
def test_labels_are_those_of_the_likeliest_classes(
    labels: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = np.array([[0.1, 0.2, 0.7], [0.6, 0.2, 0.2]], dtype=np.float32)

    assert demo._judge_labels(CLASSES, labels, scores, ["c", "a"]) == code

    printed = capsys.readouterr()
    assert said in (printed.err if code else printed.out)


def test_the_labels_of_a_classification_are_compared_too(run: Any, trained: Any) -> None:
    artifacts = trained("penguins_sex")
    wrong = Endpoint(artifacts, lambda result: ["male"] * len(result) if isinstance(result[0], str) else result)

    right_code, out, _ = run(Endpoint(artifacts), artifacts)
    wrong_code, _, error = run(wrong, artifacts)

    assert right_code == 0
    assert "output=label names the likeliest class of each; " in out
    assert wrong_code == 1
    assert "FAILED: output=label does not name the likeliest classes" in error
    assert set(wrong.endpoints) == {"penguins-sex"}


@pytest.mark.parametrize("env", [{}, {"ROUTER_PORT": ""}])
def test_the_endpoint_is_that_of_this_machine_at_port_8080_where_nothing_else_is_said(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    asked: list[str] = []

    def stop(url: str) -> None:
        asked.append(url)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "runtime_client", stop)

    assert main(["demo", "--artifacts", str(artifacts)], env) == 130
    assert asked == ["http://127.0.0.1:8080"]


def test_a_request_goes_to_the_url_without_credentials_and_is_waited_for_in_70_seconds() -> None:
    client = demo.runtime_client("http://127.0.0.1:9")

    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    assert client.meta.region_name == "us-east-1"
    assert client.meta.config.read_timeout == 70
    assert client.meta.config.signature_version is UNSIGNED


def test_a_request_is_of_csv_and_asks_for_scores_as_json() -> None:
    class Silent:
        """An endpoint that says nothing of its times."""

        def invoke_endpoint(self, **request: object) -> dict[str, Any]:
            requests.append(request)
            return {"Body": Read(b'{"result": [1, 2]}'), "ResponseMetadata": {"HTTPHeaders": {}}}

    requests: list[dict[str, object]] = []

    assert demo.invoke(Silent(), "plants", "größe\n1\n") == ([1, 2], {})
    assert requests == [
        {
            "EndpointName": "plants",
            "ContentType": "text/csv",
            "Accept": "application/json; output=score",
            "Body": "größe\n1\n".encode(),
        }
    ]
