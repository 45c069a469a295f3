"""Containers whose artifact is damaged, is no file at all, or is replaced while they serve."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from predictor.model import MODEL
from serving import artifact
from tests.servers import Server, launched, running, wait_until

SOON = 60  # seconds; it takes two where nothing else runs
ROW = b"0.1,0.2,0.3,0.4,0.5,0.6,0.7,0,1,0\n"
TEN_GB = 10_000_000_000
LONG = pytest.mark.long


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


def forge(path: Path) -> None:
    """A root that is its own child: XGBoost would walk for ever. The manifest vouches for it."""
    model = json.loads(path.read_bytes())
    tree = model["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["left_children"][0] = 0
    path.write_text(json.dumps(model))
    artifact.write_manifest(path.parent)


def second_model(path: Path) -> None:
    shutil.copyfile(path, path.with_suffix(".ubj"))
    artifact.write_manifest(path.parent)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (replace_by(os.mkfifo), "a FIFO"),
    "directory": (replace_by(Path.mkdir), "a directory"),
    "link to /dev/zero": (replace_by(lambda path: path.symlink_to("/dev/zero")), "a link"),
    "empty": (replace_by(Path.touch), "got 0"),
    "ten gigabytes": (replace_by(lambda path: (path.touch(), os.truncate(path, TEN_GB))), f"got {TEN_GB}"),
    "forged with its manifest": (forge, "left_children of tree 0, node 0"),
    "two models": (second_model, "xgboost-model.ubj"),
}


# what the start makes of the others is shown by tests/unit/test_artifact.py too
TRIED = [name if name in ("fifo", "forged with its manifest") else pytest.param(name, marks=LONG) for name in SPOILT]


@pytest.mark.parametrize("name", TRIED)
def test_an_artifact_that_is_none_stops_the_container_with_one_line_that_says_why(
    name: str, artifacts: Path, tmp_path: Path
) -> None:
    spoil, reason = SPOILT[name]
    model_dir = tmp_path / "model"
    shutil.copytree(artifacts / "predictor" / "model", model_dir)
    spoil(model_dir / MODEL)
    env = {"SM_MODEL_DIR": str(model_dir), "MODEL_SERVER_WORKERS": "1", "MODEL_SERVER_NGINX": "off"}

    with launched("predictor", env) as server:
        code = server.process.wait(SOON)
        lines = server.lines()

    critical = [line["message"] for line in lines if line["level"] == "CRITICAL"]
    reasons = [message for message in critical if message.startswith("cannot load the model")]
    assert code == 1
    assert len(reasons) == 1
    assert MODEL in reasons[0]
    assert reason in reasons[0]


def replace_model(model_dir: Path) -> None:
    """A model of the same training run with another answer, sound in all."""
    model = json.loads((model_dir / MODEL).read_bytes())
    model["learner"]["learner_model_param"]["base_score"] = "[1000]"
    (model_dir / MODEL).write_text(json.dumps(model))
    artifact.write_manifest(model_dir)


def damage_model(model_dir: Path) -> None:
    (model_dir / MODEL).write_bytes(b"{}")


@pytest.fixture
def served(artifacts: Path, tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    model_dir = tmp_path / "model"
    shutil.copytree(artifacts / "predictor" / "model", model_dir)
    with running("predictor", {"SM_MODEL_DIR": str(model_dir)}) as server:
        yield server, model_dir


@pytest.mark.parametrize(
    ("change", "begin_anew", "said"),
    [
        (replace_model, lambda server: os.kill(server.workers()[0], signal.SIGKILL), "and a container serves one"),
        (replace_model, lambda server: server.process.send_signal(signal.SIGHUP), "and a container serves one"),
        (damage_model, lambda server: os.kill(server.workers()[0], signal.SIGKILL), "is damaged: expected"),
    ],
    ids=["replaced, a worker dies", "replaced, reloaded", "damaged, a worker dies"],
)
def test_a_model_that_is_replaced_under_its_container_is_never_answered_from(served, change, begin_anew, said):
    server, model_dir = served
    owed = server.invoke(ROW, "text/csv").body
    change(model_dir)
    answers = {server.invoke(ROW, "text/csv").body for _ in range(10)}

    begin_anew(server)

    def ended() -> bool:
        try:
            answer = server.invoke(ROW, "text/csv")
        except OSError:
            return server.process.poll() is not None
        if answer.status == 200:
            answers.add(answer.body)
        return server.process.poll() is not None

    wait_until(ended, "the container to end", SOON)
    reasons = [line["message"] for line in server.lines() if line["message"].startswith("cannot load the model")]
    assert answers == {owed}
    assert server.process.returncode == 1
    assert reasons
    assert all(said in reason for reason in reasons)


def test_a_worker_that_dies_is_replaced_where_the_model_is_the_same(served):
    server, model_dir = served
    owed = server.invoke(ROW, "text/csv").body
    os.utime(model_dir / MODEL)
    (model_dir / ".sagemaker-uploading").touch()
    before = set(server.workers())

    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(server.workers()) == 2 and set(server.workers()) != before, "a new worker")
    answers = {server.invoke(ROW, "text/csv").body for _ in range(20)}

    assert answers == {owed}
    assert server.process.poll() is None
