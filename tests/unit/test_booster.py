"""XGBoost's C interface against its Python package: the same predictions to the bit, the same refusals."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from predictor.booster import ROWS_PER_THREAD, Booster, BoosterError, version

NAMES = ["a", "b", "c"]
ROWS = np.random.default_rng(3).normal(size=(5 * ROWS_PER_THREAD + 7, 3)).astype(np.float32)
ROWS[::7, 1] = np.nan


def trained(path: Path, parameters: dict[str, Any]) -> xgboost.Booster:
    target = (np.nan_to_num(ROWS) @ [1.0, -2.0, 0.5] > 0).astype(float) + (ROWS[:, 0] > 1) * (
        parameters.get("num_class", 2) > 2
    )
    booster = xgboost.train(parameters, xgboost.DMatrix(ROWS, target, feature_names=NAMES), 12)
    booster.save_model(path)
    return booster


@pytest.mark.parametrize("rows", [1, 2, ROWS_PER_THREAD, 2 * ROWS_PER_THREAD, len(ROWS)])
@pytest.mark.parametrize("ending", ["json", "ubj"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "reg:squarederror"},
        {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.2},
        {"objective": "multi:softprob", "num_class": 3},
        {"objective": "reg:absoluteerror", "booster": "gblinear"},
        {"objective": "count:poisson", "num_parallel_tree": 3, "base_score": 0.3},
    ],
    ids=lambda parameters: parameters["objective"],
)
def test_predictions_are_those_of_the_package(tmp_path: Path, parameters: Any, ending: str, rows: int) -> None:
    path = tmp_path / f"model.{ending}"
    theirs = trained(path, parameters).predict(xgboost.DMatrix(ROWS[:rows], feature_names=NAMES))
    ours = Booster(path.read_bytes())
    ours.threads = 3

    predicted = ours.predict(ROWS[:rows])

    assert predicted.dtype == np.float32
    assert predicted.shape == theirs.shape
    assert predicted.tobytes() == theirs.tobytes()
    assert ours.feature_names == tuple(NAMES)
    assert ours.feature_count == 3


def test_threads_share_a_booster_and_not_their_answers(tmp_path: Path) -> None:
    trained(tmp_path / "model.json", {"objective": "reg:squarederror"})
    booster = Booster((tmp_path / "model.json").read_bytes())
    parts = np.array_split(ROWS, 6)
    wanted = [booster.predict(part).tobytes() for part in parts]
    got: list[list[bytes]] = [[] for _ in parts]

    def ask(number: int) -> None:
        got[number] += [booster.predict(parts[number]).tobytes() for _ in range(40)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == [[answer] * 40 for answer in wanted]


@pytest.mark.parametrize("content", [b"", b"{}", b"no model", b'{"learner": {}}'])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)

    with pytest.raises(BoosterError):
        Booster((tmp_path / "model.json").read_bytes())


def test_a_prediction_on_a_copy_leaves_no_memory_behind(tmp_path: Path) -> None:
    trained(tmp_path / "model.json", {"objective": "reg:squarederror", "booster": "gblinear"})
    booster, matrix = Booster((tmp_path / "model.json").read_bytes()), np.zeros((500_000, 3), np.float32)
    booster.predict(matrix)

    before = resident()
    for _ in range(8):
        booster.predict(matrix)

    assert resident() - before < 4 * matrix.nbytes


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_the_version_is_the_packages() -> None:
    assert ".".join(map(str, version())) == xgboost.__version__


def test_a_matrix_of_another_width_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "model.json", {"objective": "reg:squarederror"})

    with pytest.raises(BoosterError, match=r"[Ff]eature"):
        Booster((tmp_path / "model.json").read_bytes()).predict(np.zeros((1, 4), np.float32))


@pytest.mark.parametrize(
    ("booster", "rows", "shares"),
    [("gbtree", 1023, 1), ("gbtree", 1024, 2), ("gbtree", 1535, 2), ("gbtree", 2560, 3), ("gblinear", 2560, 1)],
)
def test_rows_are_shared_out_from_1024_on_at_least_512_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, booster: str, rows: int, shares: int
) -> None:
    trained(tmp_path / "model.json", {"objective": "reg:squarederror", "booster": booster})
    ours, seen = Booster((tmp_path / "model.json").read_bytes()), list[int]()
    ours.threads = 3
    predict = ours._predict_rows
    monkeypatch.setattr(ours, "_predict_rows", lambda part: seen.append(len(part)) or predict(part))

    ours.predict(ROWS[:rows])

    assert (len(seen), sum(seen)) == (shares, rows)


def test_a_booster_and_its_threads_matrices_are_freed_with_it(tmp_path: Path) -> None:
    class Freeing:
        """The library, and what it frees."""

        def __getattr__(self, name: str) -> Any:
            if name.endswith("Free"):
                freed.append(name)
            return getattr(library, name)

    freed: list[str] = []
    trained(tmp_path / "model.json", {"objective": "reg:squarederror"})
    booster = Booster((tmp_path / "model.json").read_bytes())
    library, booster._library = booster._library, Freeing()  # type: ignore[assignment]
    booster.predict(ROWS[:1])
    assert freed == []

    del booster

    assert sorted(freed) == ["XGBoosterFree", "XGDMatrixFree"]


def test_a_refusal_is_the_first_line_of_what_xgboost_says() -> None:
    with pytest.raises(BoosterError) as refused:
        Booster(b'{"learner": {}')

    assert str(refused.value)
    assert "\n" not in str(refused.value)
