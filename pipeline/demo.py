"""`demo`: real rows through a running endpoint, the answers beside the truth, checked against the models in process."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurizer.model import Featurizer
from featurizer.records import ACCEPTED, read_records
from pipeline.endpoint.payloads import csv_records
from predictor.model import MODEL
from predictor.outputs import Output, classes_of, select
from serving.contract import ColumnType, Contract, Task
from serving.media import content_type
from serving.payload import CSV
from serving.proxies import advice
from serving.training import BadJob

HELP = "send held-out rows through a running endpoint and check its answers"
EXAMPLES = """examples:
  make demo
  make up; python -m pipeline demo; make down
"""
SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="what `train` wrote")
    parser.add_argument("--url", help="of the runtime API (default http://127.0.0.1:ROUTER_PORT, or 8080)")


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 when every answer equals the models' own to the bit. Raises `BadJob` without models or endpoint."""
    from botocore.exceptions import BotoCoreError, ClientError

    url = arguments.url or f"http://127.0.0.1:{arguments.env.get('ROUTER_PORT') or 8080}"
    try:
        return _demo(arguments.artifacts, url)
    except FileNotFoundError as error:
        raise BadJob(f"there is no {error.filename}: run `python -m pipeline train`") from error
    except (BotoCoreError, ClientError) as error:
        next_step = advice(url) or "the chain of these artifacts is started with `make up`"
        raise BadJob(f"{error}; {next_step}") from error


def _demo(artifacts: Path, url: str) -> int:
    contract = Contract.load(artifacts / "featurizer" / "model")
    with (artifacts / "test.csv").open("rb") as file:
        header, *rows = [record.decode().rstrip("\r\n") for record in csv_records(file)]
    client = runtime_client(url)
    endpoint = contract.dataset.replace("_", "-")
    print(f"\n{SHOWN} of the {len(rows)} rows that training never saw, one at a time through {url}:\n")
    _show_rows(contract, header, rows[:SHOWN], [invoke(client, endpoint, f"{header}\n{row}\n") for row in rows[:SHOWN]])
    body = "\n".join([header, *rows]) + "\n"
    answered, _ = invoke(client, endpoint, body)
    expected = in_process(artifacts, body)
    if code := _judge(np.asarray(answered, dtype=np.float32), expected):
        return code
    if contract.task is Task.REGRESSION:
        return 0
    labels, _ = invoke(client, endpoint, body, "application/json; output=label")
    return _judge_labels(contract, labels, expected, [line[_label_at(contract)] for line in csv.reader(rows)])


def runtime_client(url: str) -> Any:  # noqa: ANN401 - boto3 is untyped
    """SageMaker's runtime client, pointed at this machine; any credentials do."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(signature_version=UNSIGNED, read_timeout=70, retries={"total_max_attempts": 1})
    return boto3.client("sagemaker-runtime", endpoint_url=url, region_name="us-east-1", config=config)


def invoke(
    client: Any,  # noqa: ANN401
    endpoint: str,
    body: str,
    accept: str = "application/json; output=score",
) -> tuple[list[Any], Mapping[str, float]]:
    """The predictions, and the milliseconds each container took."""
    answer = client.invoke_endpoint(EndpointName=endpoint, ContentType=CSV, Accept=accept, Body=body.encode())
    timing = answer["ResponseMetadata"]["HTTPHeaders"].get("server-timing", "")
    pairs = [part.strip().split(";dur=") for part in timing.split(",") if ";dur=" in part]
    predictions: list[Any] = json.loads(answer["Body"].read())["result"]
    return predictions, {name: float(milliseconds) for name, milliseconds in pairs}


def in_process(artifacts: Path, body: str) -> NDArray[np.float32]:
    """What scikit-learn and XGBoost say of the same rows, with no server between."""
    import xgboost

    featurizer = Featurizer.load(artifacts / "featurizer" / "model", engine="sklearn")
    booster = xgboost.Booster(model_file=artifacts / "predictor" / "model" / MODEL)
    records = read_records(body.encode(), content_type(CSV, ACCEPTED), featurizer.contract)
    features = featurizer.transform(records).astype(np.float32)
    names = list(featurizer.contract.features)
    predictions: NDArray[np.float32] = booster.predict(xgboost.DMatrix(features, feature_names=names))
    return predictions


def _show_rows(
    contract: Contract, header: str, rows: Sequence[str], answers: Sequence[tuple[list[Any], Mapping[str, float]]]
) -> None:
    times = list(answers[0][1])
    names, *records = csv.reader([header, *rows])
    del names[_label_at(contract)]
    titles = [_record(names), "prediction", "truth", *(f"{name} ms" for name in times)]
    table = [titles]
    for cells, (predictions, took) in zip(records, answers, strict=True):
        truth = cells.pop(_label_at(contract))
        table.append(
            [_record(cells), _shown(contract, predictions[0]), truth, *(f"{took[name]:.1f}" for name in times)]
        )
    widths = [max(len(line[i]) for line in table) for i in range(len(titles))]
    for line in table:
        print(
            "  ".join(
                [
                    line[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
                ]
            )
        )


def _record(cells: Sequence[str]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(cells)
    return written.getvalue()


def _shown(contract: Contract, prediction: Any) -> str:  # noqa: ANN401
    if contract.task is Task.REGRESSION:
        return f"{prediction:.3f}" if abs(prediction) < 1000 else f"{prediction:.0f}"
    shares = prediction if isinstance(prediction, list) else [1 - prediction, prediction]
    best = int(np.argmax(shares))
    return f"{classes_of(contract)[best]} ({shares[best]:.2f})"


def _label_at(contract: Contract) -> int:
    """The label's place in a raw row."""
    return next(i for i, column in enumerate(contract.columns) if column.type is ColumnType.LABEL)


def _judge(answered: NDArray[np.float32], expected: NDArray[np.float32]) -> int:
    if answered.shape != expected.shape or answered.tobytes() != expected.tobytes():
        same = int((answered == expected).sum()) if answered.shape == expected.shape else 0
        print(f"\nFAILED: {same} of {expected.size} predictions equal the in-process ones", file=sys.stderr)
        return 1
    print(f"\nOK: all {len(expected)} predictions of the chain equal in-process scikit-learn + XGBoost, bit for bit")
    return 0


def _judge_labels(
    contract: Contract, answered: Sequence[str], scores: NDArray[np.float32], truth: Sequence[str]
) -> int:
    """Whether `output=label` names the likeliest class, and how often that is the true one."""
    if list(answered) != select(scores, Output.LABEL, contract):
        print("\nFAILED: output=label does not name the likeliest classes", file=sys.stderr)
        return 1
    right = sum(label == true for label, true in zip(answered, truth, strict=True))
    print(f"output=label names the likeliest class of each; {right} of {len(truth)} are the true one")
    return 0
