"""The corpus once more, on tables of other shapes than abalone's; scikit-learn and XGBoost judge the answers."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray

from local_test.control_plane import records
from pipeline.model import Pipeline
from serving.app import create_app
from serving.contract import ColumnType, Contract
from serving.lambda_events import answer, read_event
from serving.payload import CSV, NPY
from serving.settings import Settings
from tests.corpus_cases import Answer, Case, Expected, Reply, Request, check, in_process, replay
from tests.corpus_levels import WIRE, Applications, Fleet, Place, slice_of
from tests.corpus_tables import TABLES, Untranslated, cases, translated

# how many cases of each table are translated at least, so that the reasons to leave one out stay narrow
LEAST = {"numbers": 840, "column": 505, "digits": 830, "words": 745, "first": 1305, "classes": 1300, "holes": 1050}


@dataclass(frozen=True)
class Entry:
    stage: str
    case: Case

    def __str__(self) -> str:
        return f"{self.case.contract}-{self.stage}-{self.case}"


@cache
def entries(table: str) -> tuple[Entry, ...]:
    found = []
    for case in cases():
        for stage in case.stages:
            try:
                found.append(Entry(stage, translated(case, TABLES[table], stage)))
            except Untranslated:
                continue
    return tuple(found)


@cache
def smallest(table: str) -> frozenset[str]:
    """The smallest case of each rule and outcome."""
    return frozenset(slice_of([entry.case for entry in entries(table)], "application"))


# Under Batch Transform a header must have the order of rows without one, and here their label stands first.
ELSEWHERE = ("X67-header-with-label-empty-labels", "first")


def some(table: str) -> list[Entry]:
    return [entry for entry in entries(table) if str(entry.case) in smallest(table)]


def rest(table: str) -> list[Entry]:
    return [entry for entry in entries(table) if str(entry.case) not in smallest(table)]


each_table = pytest.mark.parametrize("table", TABLES)
of_some_and_of_all = pytest.mark.parametrize("chosen", [some, pytest.param(rest, marks=pytest.mark.long)])


def each(chosen: Sequence[Entry], hold: Callable[[Entry], None]) -> None:
    """Many cases as one test: as a test of its own, each would cost more than it takes. All failures are told."""
    assert chosen
    wrong = []
    for entry in chosen:
        try:
            hold(entry)
        except Exception as error:  # noqa: BLE001 - it is a failure, whatever it is
            wrong.append(f"{entry}: {type(error).__name__} {error}")
    assert wrong == []


@pytest.fixture(scope="module")
def artifacts_of_table(once: Callable[..., Path]) -> Callable[[str], Path]:
    return cache(lambda name: once(f"table-{name}", TABLES[name].train))


@pytest.fixture(scope="module")
def applications(artifacts_of_table: Callable[[str], Path]) -> Applications:
    return Applications(artifacts_of_table)


@pytest.mark.parametrize("table", TABLES)
def test_most_cases_say_something_about_a_table(table: str) -> None:
    assert len(entries(table)) >= LEAST[table]
    assert {entry.case.answer["status"] for entry in entries(table)} >= {200, 400}


@of_some_and_of_all
@each_table
def test_a_case_gets_the_answer_that_it_is_owed_on_a_table(
    applications: Applications, table: str, chosen: Callable[[str], list[Entry]]
) -> None:
    def hold(entry: Entry) -> None:
        ask = applications.ask(Place("application", entry.stage, contract=table))
        check(ask(entry.case.request, 1), entry.case.expected("application"))

    each(chosen(table), hold)


@of_some_and_of_all
@each_table
def test_a_tables_answer_is_that_of_scikit_learn_and_xgboost(
    applications: Applications,
    artifacts_of_table: Callable[[str], Path],
    table: str,
    chosen: Callable[[str], list[Entry]],
) -> None:
    artifacts = artifacts_of_table(table)

    def hold(entry: Entry) -> None:
        ask = applications.ask(Place("application", entry.stage, contract=table))
        (reply,) = ask(_accepting(entry.case.request, NPY), 1).responses
        owed = by_the_libraries(artifacts, entry.stage, str(entry.case.answer["same_as"]))
        if np.isinf(owed).any():  # CSV holds it, and NPY has float32
            assert (reply.status, json.loads(reply.body)["code"]) == (400, "non_finite_after_transform")
            return
        answered = np.load(io.BytesIO(reply.body))
        assert answered.reshape(owed.shape).tobytes() == owed.tobytes()

    each(
        [entry for entry in chosen(table) if "same_as" in entry.case.answer and entry.case.answer["status"] == 200],
        hold,
    )


def _accepting(request: Request, media: str) -> Request:
    return replace(request, headers={**request.headers, "Accept": media})


def by_the_libraries(artifacts: Path, stage: str, rows: str) -> NDArray[np.float32]:
    """Features of raw rows, or predictions of rows of features, float32; both as CSV with or without a header."""
    contract = Contract.load(artifacts / "featurizer/model")
    if stage == "predictor":
        features = read_as_pandas(rows, list(contract.features), {}).to_numpy(np.float32)
        return predictions(artifacts, features)
    types = {c.name: "float64" if c.type is ColumnType.NUMERIC else object for c in contract.inputs}
    frame = read_as_pandas(rows, list(types), types)
    transformer = joblib.load(artifacts / "featurizer/model/preprocess.joblib")
    with np.errstate(over="ignore"):  # beyond float32
        return np.asarray(transformer.transform(frame[list(types)]), dtype=np.float32)


def predictions(artifacts: Path, features: NDArray[np.float32]) -> NDArray[np.float32]:
    booster = xgboost.Booster(model_file=artifacts / "predictor/model/xgboost-model.json")
    found: NDArray[np.float32] = booster.predict(xgboost.DMatrix(features, feature_names=booster.feature_names))
    return found


def read_as_pandas(rows: str, names: list[str], types: Mapping[str, object]) -> pd.DataFrame:
    first = rows.split("\n")[0].split(",")
    named = set(first) >= set(names)
    places = {name: first.index(name) for name in names} if named else dict(zip(names, range(len(names)), strict=True))
    with warnings.catch_warnings(action="ignore", category=pd.errors.Pandas4Warning):
        frame = pd.read_csv(
            io.StringIO(rows), header=None, skiprows=1 if named else 0, usecols=list(places.values()),
            dtype={place: types.get(name, "float64") for name, place in places.items()}, float_precision="round_trip",
            skip_blank_lines=False,
        )  # fmt: skip
    return pd.DataFrame({name: frame[place].astype(types.get(name, "float64")) for name, place in places.items()})


@cache
def single(artifacts: Path, batch: bool) -> tuple[object, object]:
    env = {"SM_MODEL_DIR": str(artifacts), "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": CSV}
    settings = Settings.from_env(env | ({"SAGEMAKER_BATCH": "true"} if batch else {}))
    pipeline = Pipeline.load(settings)
    app = create_app(pipeline, settings, interface=pipeline.interface)
    return app, in_process(app.test_client())


def by_batch(artifacts: Path, request: Request) -> Reply:
    """As Batch Transform sends an object that it does not cut."""
    (piece,) = records.pack(records.split(request.body, "None") or [b""], "MultiRecord", 0)
    return single(artifacts, True)[1](replace(request, parts=tuple((part, 1) for part in piece)), 1)  # type: ignore[operator, no-any-return]


def by_lambda(artifacts: Path, request: Request) -> Reply:
    """As an event of an HTTP API."""
    event = {
        "version": "2.0", "rawPath": request.path, "headers": dict(request.headers), "isBase64Encoded": True,
        "body": base64.b64encode(request.body).decode(), "requestContext": {"http": {"method": request.method}},
    }  # fmt: skip
    envelope = json.loads(answer(single(artifacts, False)[0], read_event(json.dumps(event).encode()), "id"))  # type: ignore[arg-type]
    body = envelope["body"]
    raw = base64.b64decode(body) if envelope.get("isBase64Encoded") else body.encode()
    return Reply((Answer(envelope["statusCode"], envelope["headers"], raw),))


def by_one_container(artifacts: Path, request: Request) -> Reply:
    return single(artifacts, False)[1](request, 1)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("ask", [by_one_container, by_batch, by_lambda])
@each_table
def test_every_host_refuses_what_the_featurizer_does_and_predicts_what_the_libraries_do(
    artifacts_of_table: Callable[[str], Path], table: str, ask: Callable[[Path, Request], Reply]
) -> None:
    artifacts = artifacts_of_table(table)

    def hold(entry: Entry) -> None:
        owed = entry.case.expected("application")
        expected = owed if owed.status >= 400 else Expected(owed.status, rows=owed.rows)
        request = _accepting(entry.case.request, CSV) if owed.status == 200 else entry.case.request
        reply = ask(artifacts, request)
        check(reply, expected)
        if owed.status == 200 and owed.same_as:
            features = by_the_libraries(artifacts, "featurizer", owed.same_as)
            text = reply.responses[0].body.decode()
            answered = np.array([line.split(",") for line in text.splitlines()], dtype=np.float32)
            assert answered.tobytes() == predictions(artifacts, features).reshape(answered.shape).tobytes()

    raw = [entry for entry in some(table) if entry.stage == "featurizer"]
    each([entry for entry in raw if (entry.case.name, table) != ELSEWHERE], hold)


OVER_A_WIRE = [
    pytest.param(level, table, id=f"{level}-{table}",
                 marks=[] if (level, table) == ("nginx", "column") else [pytest.mark.long])
    for level in WIRE
    for table in TABLES
]  # fmt: skip


@pytest.mark.parametrize(("level", "table"), OVER_A_WIRE)
def test_a_table_is_answered_over_a_wire_as_the_corpus_says(
    artifacts_of_table: Callable[[str], Path], level: str, table: str
) -> None:
    chosen = some(table) if (level, table) == ("nginx", "column") else entries(table)
    asked = [entry for entry in chosen if level in entry.case.levels]
    with contextlib.ExitStack() as stack:
        fleet = Fleet(artifacts_of_table, stack)
        places = {stage: Place(level, stage, contract=table) for stage in {entry.stage for entry in asked}}
        for place in places.values():
            fleet.launch(place)
        fleet.wait()
        each(asked, lambda entry: replay(fleet.ask(places[entry.stage]), entry.case, level))
        fleet.stop()
