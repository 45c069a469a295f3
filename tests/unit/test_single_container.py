"""Both stages in one process, from both artifacts or from one that holds both."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurizer.records import ACCEPTED
from local_test.control_plane.unpacking import unpack
from pipeline.cli import main
from pipeline.demo import in_process
from pipeline.model import Pipeline
from pipeline.older import OlderRequest
from serving import artifact
from serving.app import create_app
from serving.contract import FILE, Contract
from serving.errors import BadArtifact, NotAcceptable, PayloadTooLarge, ServingError
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload
from serving.settings import Settings
from tests.unit.test_parity import vector

OF_TWO_RUNS = (
    "^the predictor is of training run [0-9a-f]{12}, the featurizer of [0-9a-f]{12}: expected two artifacts of one run$"
)
ROW = "M,0.605,0.455,0.16,1.1035,0.421,0.3015,0.325"


@pytest.fixture(scope="module")
def single(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the archive that `package --single` wrote, as SageMaker unpacks it."""
    out = tmp_path_factory.mktemp("single")
    assert main(["package", "--single", str(out / "model.tar.gz"), "--artifacts", str(artifacts)]) == 0
    with (out / "model.tar.gz").open("rb") as file:
        unpack(file, out / "model")
    return out / "model"


@pytest.fixture(scope="module")
def pipeline(single: Path) -> Pipeline:
    return Pipeline.load(Settings(model_dir=single))


def older(**document: object) -> Payload:
    return Payload(json.dumps(document).encode(), JSON)


def of_another_run(model_dir: Path) -> None:
    contract = Contract.load(model_dir)
    (model_dir / FILE).write_text(replace(contract, training={"seed": 43}).to_json(), encoding="utf-8")
    artifact.write_manifest(model_dir)


def test_the_one_archive_holds_both_artifacts_unchanged(artifacts: Path, single: Path) -> None:
    for stage in ("featurizer", "predictor"):
        given, packed = artifacts / stage / "model", single / stage
        assert sorted(path.name for path in packed.iterdir()) == sorted(path.name for path in given.iterdir())
        assert all((packed / path.name).read_bytes() == path.read_bytes() for path in given.iterdir())


def test_the_same_artifacts_give_the_same_archive(artifacts: Path, tmp_path: Path, capsys) -> None:
    files = [tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"]
    for file in files:
        main(["package", "--single", str(file), "--artifacts", str(artifacts)])

    assert files[0].read_bytes() == files[1].read_bytes()
    run = Contract.load(artifacts / "predictor" / "model").hash[:12]
    told = f"Wrote {tmp_path}/a.tar.gz: featurizer and predictor of abalone, training run {run}"
    assert capsys.readouterr().out.splitlines()[0] == told


@pytest.mark.parametrize("spoil", [of_another_run, lambda model: (model / FILE).write_text("{}"), shutil.rmtree])
def test_artifacts_that_do_not_belong_together_are_not_packed(artifacts: Path, tmp_path: Path, spoil, capsys) -> None:
    for stage in ("featurizer", "predictor"):
        shutil.copytree(artifacts / stage / "model", tmp_path / stage / "model")
    spoil(tmp_path / "predictor" / "model")

    code = main(["package", "--single", str(tmp_path / "out.tar.gz"), "--artifacts", str(tmp_path)])

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("pipeline: ")
    if spoil is of_another_run:
        assert re.search(r"the artifacts in \S+ are of two training runs \([0-9a-f]{12} and [0-9a-f]{12}\);", said)
    assert said.endswith(f"; to train both again: python -m pipeline train --out {tmp_path}\n")
    assert not (tmp_path / "out.tar.gz").exists()


@pytest.mark.parametrize("accept", [CSV, JSON, JSONLINES, NPY])
def test_all_formats_of_the_answer_are_what_the_libraries_say(artifacts: Path, pipeline: Pipeline, accept: str) -> None:
    rows = (artifacts / "test.csv").read_text()

    answer = pipeline(Payload(rows.encode(), CSV, accept))

    assert vector(answer).tobytes() == in_process(artifacts, rows).tobytes()


def test_the_directory_that_train_writes_is_a_model_directory_too(artifacts: Path, pipeline: Pipeline) -> None:
    trained = Pipeline.load(Settings(model_dir=artifacts))

    assert trained(Payload(ROW.encode(), CSV)) == pipeline(Payload(ROW.encode(), CSV))


def test_the_setting_of_the_default_answer_is_the_last_stages(single: Path) -> None:
    lines = Pipeline.load(Settings(model_dir=single, default_accept=JSONLINES))

    assert lines(Payload(ROW.encode(), CSV)).content_type == JSONLINES
    with pytest.raises(ValueError, match="image/png"):
        Pipeline.load(Settings(model_dir=single, default_accept="image/png"))


def test_a_limit_of_the_answer_is_of_the_predictions_and_not_of_the_features(single: Path) -> None:
    limited = Pipeline.load(Settings(model_dir=single, max_response=16))

    assert limited(Payload(f"{ROW}\n{ROW}".encode(), CSV, CSV)).body.count(b"\n") == 2
    with pytest.raises(PayloadTooLarge):
        limited(Payload("\n".join([ROW] * 5).encode(), CSV, CSV))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda model: of_another_run(model / "predictor"), OF_TWO_RUNS),
        (
            lambda model: shutil.rmtree(model / "predictor"),
            r"there is no model directory \S+/predictor: expected both stages, .* --single` writes; got featurizer$",
        ),
        (lambda model: shutil.rmtree(model / "featurizer"), "there is no model directory"),
        (shutil.rmtree, r"there is no model directory \S+/model$"),
        (lambda model: (model / "featurizer" / "transform.json").write_text("{}"), "transform.json is damaged"),
    ],
)
def test_what_must_not_be_served_is_refused_at_the_start(single: Path, tmp_path: Path, spoil, reason: str) -> None:
    shutil.copytree(single, tmp_path / "model")
    spoil(tmp_path / "model")

    with pytest.raises(BadArtifact, match=reason):
        Pipeline.load(Settings(model_dir=tmp_path / "model"))


def test_the_contract_and_the_openapi_document_have_raw_columns_in_and_predictions_out(pipeline: Pipeline) -> None:
    client = create_app(pipeline, Settings(stage="pipeline"), interface=pipeline.interface).test_client()

    described, openapi = client.get("/contract").json, client.get("/openapi.json").json
    invocation = openapi["paths"]["/invocations"]["post"]

    assert described["reads"] == [column.name for column in pipeline.predictor.contract.inputs]
    assert described["accepts"] == list(ACCEPTED) == list(invocation["requestBody"]["content"])
    assert described["answers"] == list(pipeline.predictor.offered) == list(invocation["responses"]["200"]["content"])
    assert openapi["info"]["title"] == "pipeline of abalone"
    assert client.get("/execution-parameters").status_code == 200


def test_a_refusal_of_either_stage_is_the_pipelines(pipeline: Pipeline) -> None:
    client = create_app(pipeline).test_client()

    wrong = client.post("/invocations", data=f"{ROW}\nM,abc,1,1,1,1,1,1", content_type=CSV)
    unacceptable = client.post("/invocations", data=ROW, content_type=CSV, headers={"Accept": "image/png"})

    assert (wrong.status_code, wrong.json["row"], wrong.json["column"]) == (400, 2, "length")
    assert unacceptable.status_code == 406


def test_an_older_request_of_one_row_is_answered_as_the_samples_do(pipeline: Pipeline) -> None:
    value = json.loads(pipeline(Payload(ROW.encode(), CSV)).body)["result"][0]

    as_json = pipeline(older(response_content_type="application/json", pred_x_csv=ROW))
    as_text = pipeline(older(response_content_type="text/plain", pred_x_csv=ROW))

    assert as_json.content_type == JSON
    assert json.loads(as_json.body) == {"Predicted value": str(value)}
    assert (as_text.body.decode(), as_text.content_type) == (str(value), "text/plain; charset=utf-8")


def test_an_older_request_is_answered_for_all_its_rows(artifacts: Path, pipeline: Pipeline) -> None:
    rows = (artifacts / "test.csv").read_text()

    lines = json.loads(pipeline(older(pred_x_csv=rows)).body)["Predicted value"].split("\n")

    assert np.asarray(lines, dtype=np.float32).tobytes() == in_process(artifacts, rows).tobytes()


@pytest.mark.parametrize("kind", [None, "", "application/json"])
def test_an_older_request_that_names_no_answer_gets_json(pipeline: Pipeline, kind: str | None) -> None:
    assert pipeline(older(pred_x_csv=ROW, response_content_type=kind)).content_type == JSON


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({"pred_x_csv": ""}, 400, "empty_body"),
        ({"pred_x_csv": "M,1"}, 400, "column_count"),
        ({"pred_x_csv": [1, 2]}, 400, "json_shape"),
        ({"pred_x_csv": None}, 400, "json_shape"),
        ({"pred_x_csv": ROW, "response_content_type": "text/html"}, 406, "not_acceptable"),
        ({"pred_x_csv": ROW, "response_content_type": 7}, 406, "not_acceptable"),
        ({"pred_x_csv": ROW, "surprise": 1}, 400, "missing_column"),
    ],
)
def test_an_older_request_that_is_wrong_is_refused_as_every_other(
    pipeline: Pipeline, document: dict[str, object], status: int, code: str
) -> None:
    with pytest.raises(ServingError) as caught:
        pipeline(older(**document))

    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    "payload",
    [
        Payload(ROW.encode(), CSV),
        Payload(b'"pred_x_csv"', CSV),
        Payload(b'M,"pred_x_csv"', CSV),
        Payload(b'["pred_x_csv"]', JSON),
        Payload(b'{"pred_x_csv":"a","length":2}', JSON),
        Payload(b'{"a":"\\"pred_x_csv\\""}', JSON),
    ],
)
def test_other_requests_are_none_of_the_older_ones(payload: Payload) -> None:
    assert OlderRequest.read(payload) is None


def test_the_answers_kind_is_checked_before_the_rows() -> None:
    with pytest.raises(NotAcceptable, match="expected response_content_type application/json or text/plain"):
        OlderRequest.read(older(pred_x_csv="x", response_content_type="a/b"))


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (Payload(b"no rows", "image/png", "image/png"), 415),
        (Payload(b"no rows", CSV, "image/png"), 406),
        (Payload(b"no rows", CSV, CSV), 400),
    ],
)
def test_what_a_request_is_comes_before_what_it_wants_and_both_before_its_rows(
    pipeline: Pipeline, payload: Payload, status: int
) -> None:
    with pytest.raises(ServingError) as refused:
        pipeline(payload)

    assert refused.value.status == status


def test_the_fingerprint_is_of_both_artifacts(pipeline: Pipeline) -> None:
    other = replace(pipeline.featurizer, fingerprint="00" * 32)

    assert re.fullmatch("[0-9a-f]{64}", pipeline.fingerprint)
    assert replace(pipeline, featurizer=other).fingerprint != pipeline.fingerprint
    assert replace(pipeline, predictor=other).fingerprint != pipeline.fingerprint
    assert pipeline.fingerprint not in (pipeline.featurizer.fingerprint, pipeline.predictor.fingerprint)
