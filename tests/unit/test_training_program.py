"""`train` around the stages: what it reads of a job, and what it says when it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import training
from serving.training import BadJob, read_job


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stage whose training does what its hyperparameter `does` says.

    It is compiled first: once an interrupt has ended a string that was run, Python ends the process by SIGINT, too.
    """
    (tmp_path / "made_up_stage").mkdir()
    (tmp_path / "made_up_stage" / "__init__.py").touch()
    (tmp_path / "made_up_stage" / "train.py").write_text(
        "from serving.errors import BadArtifact, BadPayload\n"
        "def train(job):\n"
        "    (job.model_dir / 'weights').touch()\n"
        "    (job.model_dir / 'contract.json').touch()\n"
        "    exec(compile(job.hyperparameters.get('does', ''), 'does', 'exec'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "made_up_stage"


@pytest.fixture(autouse=True)
def usual_end() -> Iterator[None]:
    """`main` sets how SIGTERM ends the process, which is here that of all tests."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def configure(base: Path, text: str) -> Path:
    (base / "input" / "config").mkdir(parents=True)
    (base / "input" / "config" / "hyperparameters.json").write_text(text)
    return base


def test_a_training_that_ends_well_says_what_it_wrote(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training.main(stage, tmp_path / "ml") == 0

    assert capsys.readouterr().out == "trained made_up_stage: contract.json, weights\n"
    assert not (tmp_path / "ml" / "output" / "failure").exists()


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("raise BadArtifact('no manifest')", "no manifest"),
        ("raise BadPayload('no rows')", "no rows"),
        ("raise SystemExit('enough')", "SystemExit: enough\n\nTraceback "),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: \n\nTraceback "),
    ],
)
def test_a_training_that_fails_says_why_in_its_file_and_on_standard_error(
    stage: str, tmp_path: Path, does: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = configure(tmp_path / "ml", json.dumps({"does": does}))

    assert training.main(stage, base) == 1

    failure = (base / "output" / "failure").read_text()
    assert failure.startswith(reason)
    assert ("Traceback" in failure) == ("Traceback" in reason)
    assert capsys.readouterr().err == f"training failed: {failure}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "hyperparameters.json: expected JSON, got "),
        ("[" * 100_000, "hyperparameters.json: expected JSON, got "),
        ("[]", "hyperparameters.json: expected an object whose values are all strings"),
        ('{"seed": 5}', "hyperparameters.json: expected an object whose values are all strings"),
        ('{"seed": null}', "hyperparameters.json: expected an object whose values are all strings"),
    ],
)
def test_hyperparameters_that_are_none_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadJob, match=reason):
        read_job(configure(tmp_path, text))


def test_only_a_value_that_is_quoted_whole_loses_its_quotes(tmp_path: Path) -> None:
    given = {"a": '"x"', "b": '"', "c": '"x', "d": 'x"', "e": '""', "f": 'say "x"', "g": ""}

    job = read_job(configure(tmp_path, json.dumps(given)))

    assert job.hyperparameters == {**given, "a": "x", "e": ""}


def test_channels_are_directories_and_their_rows_are_files(tmp_path: Path) -> None:
    data = tmp_path / "input" / "data"
    for name in ("train/b.csv", "train/a.csv", "train/rows.txt", "more/schema.toml", "file.csv"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    (data / "train" / "directory.csv").mkdir()

    job = read_job(tmp_path)

    assert dict(job.channels) == {"train": data / "train", "more": data / "more"}
    assert job.training_files() == [data / "train" / "a.csv", data / "train" / "b.csv"]
    assert job.find("schema.toml") == data / "more" / "schema.toml"
    assert job.find("absent.toml") is None
    assert job.model_dir == tmp_path / "model"
    assert job.model_dir.is_dir()
    assert job.output_data_dir == tmp_path / "output" / "data"
    assert job.hyperparameters == {}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "expected a channel train, got none"),
        (["b/x", "a/x"], "expected a channel train, got a, b"),
        (["training/rows.parquet", "training/old.txt"], "header in channel training, got old.txt, rows.parquet"),
        (["train/"], "header in channel train, got nothing"),
        (["train/x", "training/rows.csv"], "header in channel train, got x"),  # `train` is the first that is looked for
    ],
)
def test_a_job_without_rows_says_what_is_there(tmp_path: Path, names: list[str], reason: str) -> None:
    for name in names:
        path = tmp_path / "input" / "data" / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()

    with pytest.raises(BadJob, match=reason):
        read_job(tmp_path).training_files()


@pytest.mark.parametrize("text", ["-1", "1.5", "", "1_0", "\u0663", " 1", "2147483648", "9" * 5000])
def test_a_number_that_counts_nothing_is_refused(tmp_path: Path, text: str) -> None:
    job = read_job(configure(tmp_path, json.dumps({"seed": text, "other": "0012"})))

    assert (job.whole_number("other", 1), job.whole_number("absent", 42)) == (12, 42)
    with pytest.raises(BadJob, match="hyperparameter seed: expected a whole number up to 2,147,483,647, got "):
        job.whole_number("seed", 1)


def test_a_hyperparameter_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    job = read_job(configure(tmp_path, json.dumps({"sagemaker_region": "x", "eta": "1", "sagemaker": "y"})))

    job.refuse_unknown(["eta", "sagemaker"])
    with pytest.raises(BadJob, match="hyperparameter sagemaker is unknown: expected one of depth, eta"):
        job.refuse_unknown(["eta", "depth"])
