"""The report of a training: its text, and what its pictures show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from matplotlib.figure import Figure

from pipeline import report
from serving.contract import Column, ColumnType, Contract, Task


def contract(task: Task = Task.REGRESSION, classes: tuple[str, ...] = (), **found: Any) -> Contract:
    columns = (Column("height", ColumnType.NUMERIC), Column("age", ColumnType.LABEL, classes))
    training = {"rows": 48, "seed": 7, "data_sha256": "d" * 64, "versions": {"numpy": "2.0"}}
    tried = [
        {"parameters": {"eta": 0.1, "max_depth": 3}, "rounds": 9, "score": 0.5},
        {"parameters": {"eta": 0.3, "max_depth": 3}, "rounds": 4, "score": 0.25},
    ]
    made = {
        "test_rows": 12,
        "metrics": {
            "model": {"rmse": 1.5, "r2": 0.5},
            "article": {"rmse": 12345.5, "r2": -1},
            "constant": {"rmse": 2, "r2": 0},
        },
        "search": {"metric": "rmse", "folds": 5, "repeats": 1, "chosen": tried[1], "tried": tried},
        "transform": "compiled",
        "xgboost": "3.1.0",
    }
    return Contract("plants", task, columns, ("height", "width"), training, {**made, **found})


def test_the_text_says_what_was_trained_how_and_how_good_it_is() -> None:
    whole = contract()

    assert (
        report.text(whole)
        == f"""plants: regression of age
48 training rows, 12 test rows, seed 7, 1 columns, 2 features

on the test rows                          rmse          r2
this run                                1.5000      0.5000
the article's parameters            12345.5000     -1.0000
the same answer for every row           2.0000      0.0000

Parameters, chosen among 2 by 5-fold cross-validation on the training rows, folds drawn once (rmse 0.2500):
  eta 0.3, max_depth 3, 4 rounds

Tried, best first:
  0.2500  eta 0.3, max_depth 3, 4 rounds
  0.5000  eta 0.1, max_depth 3, 9 rounds

Transform: compiled
Training run {whole.hash[:12]}, rows dddddddddddd, numpy 2.0, xgboost 3.1.0
"""
    )


def test_folds_that_were_drawn_more_than_once_are_counted() -> None:
    twice = contract().report["search"] | {"repeats": 2}

    assert "folds drawn 2 times" in report.text(contract(search=twice))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by the names of their files, which are not written: that takes a second."""
    saved: dict[str, Figure] = {}
    monkeypatch.setattr(report, "_save", lambda figure, path: saved.update({path.name: figure}))
    return saved


def test_a_figure_is_written_with_100_dots_an_inch_and_no_trace_of_the_program(tmp_path: Path) -> None:
    report._save(Figure(figsize=(2, 1)), tmp_path / "figure.png")

    png = (tmp_path / "figure.png").read_bytes()
    assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == (200, 100)
    assert b"Software" not in png


def drawn(out: Path, whole: Contract, predicted: Any, truth: Any) -> None:
    rows = np.array([[0.0, 0], [1, 0], [2, 5], [3, 0]])
    names = list(whole.features)
    booster = xgboost.train(
        {"nthread": 1, "min_child_weight": 0}, xgboost.DMatrix(rows, [0, 1, 2, 3], feature_names=names), 3
    )
    report.draw(whole, booster, np.asarray(predicted, dtype=np.float32), np.asarray(truth, dtype=np.float64), out)


def test_a_regression_shows_each_test_row_and_where_exact_ones_would_be(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    drawn(tmp_path, contract(), [1, 2, 9], [1, 3, 4])

    (axes,) = figures["predicted_vs_actual.png"].axes
    assert axes.collections[0].get_offsets().tolist() == [[1, 1], [3, 2], [4, 9]]
    assert axes.lines[0].get_xydata().tolist() == [[1, 1], [9, 9]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("actual age", "predicted age")
    assert axes.get_title() == "plants: age of rows that training never saw\nrmse 1.500, r2 0.500"
    assert [text.get_text() for text in axes.get_legend().texts] == ["exact", "3 test rows"]
    assert axes.get_aspect() == 1  # exact predictions lie at 45 degrees
    assert max(len(axes.get_xticks()), len(axes.get_yticks())) <= 9
    assert axes.figure.get_size_inches().tolist() == [6.4, 6]


@pytest.mark.parametrize(
    ("task", "predicted", "truth", "counts"),
    [
        # 0.5 is the first class's, as in serving
        (Task.BINARY, [0.1, 0.5, 0.6, 0.9, 0.8], [0, 1, 0, 1, 1], [["1", "1"], ["1", "2"]]),
        (
            Task.MULTICLASS,
            [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0, 0, 1]],
            [0, 0, 1, 2],
            [["1", "0", "1"], ["0", "1", "0"], ["0", "0", "1"]],
        ),
    ],
)
def test_a_classification_counts_predicted_classes_for_each_true_one(
    tmp_path: Path, figures: dict[str, Figure], task: Task, predicted: Any, truth: Any, counts: list[list[str]]
) -> None:
    classes = tuple("abc"[: len(counts)])

    drawn(tmp_path, contract(task, classes), predicted, truth)

    (axes,) = figures["predicted_vs_actual.png"].axes
    shown = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert axes.images[0].get_array().tolist() == [list(map(int, cells)) for cells in counts]
    assert shown == {(row, column): cell for row, cells in enumerate(counts) for column, cell in enumerate(cells)}
    assert [label.get_text() for label in axes.get_xticklabels()] == list(classes)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(classes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")
    # white on the dark cells, of more than half of the greatest count
    most = max(int(cell) for cells in counts for cell in cells)
    assert [(text.get_text(), text.get_color()) for text in axes.texts] == [
        (cell, "white" if 2 * int(cell) > most else "black") for cells in counts for cell in cells
    ]


def test_features_are_shown_with_their_share_of_the_gain_the_greatest_on_top(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    drawn(tmp_path, contract(), [1], [1])

    (axes,) = figures["feature_importance.png"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["width", "height"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0, 100])
    assert [text.get_text() for text in axes.texts] == ["0.0", "100.0"]
    assert {side: spine.get_visible() for side, spine in axes.spines.items()} == {
        "left": True, "bottom": True, "top": False, "right": False,
    }  # fmt: skip
    assert axes.get_xlim()[1] > 110  # where the greatest share is written
    assert axes.figure.get_size_inches().tolist() == pytest.approx([6.4, 2.2])
    assert axes.get_xlabel() == "share of the trees' total gain, percent"
    assert axes.get_title() == "plants: what the predictions rest on"


def test_at_most_25_features_are_shown(tmp_path: Path, figures: dict[str, Figure]) -> None:
    names = tuple(f"f{number:02}" for number in range(30))
    rows = np.eye(30)
    booster = xgboost.train(
        {"nthread": 1, "min_child_weight": 0}, xgboost.DMatrix(rows, np.arange(30), feature_names=list(names)), 8
    )

    report._draw_importance(Contract("t", Task.REGRESSION, (), names, {}), booster, tmp_path / "importance.png")

    (axes,) = figures["importance.png"].axes
    gains = booster.get_score(importance_type="total_gain")
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == sorted(
        names, key=lambda name: (gains.get(name, 0), name), reverse=True
    )[:25]


def test_features_of_a_booster_without_splits_have_no_share(tmp_path: Path, figures: dict[str, Figure]) -> None:
    data = xgboost.DMatrix(np.zeros((4, 2)), np.arange(4), feature_names=["height", "width"])

    report._draw_importance(contract(), xgboost.train({"nthread": 1}, data, 1), tmp_path / "importance.png")

    assert [text.get_text() for text in figures["importance.png"].axes[0].texts] == ["0.0", "0.0"]
