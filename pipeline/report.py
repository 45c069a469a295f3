"""What a training run was and how good it is: one text and two pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from serving.contract import Contract, Task

BLUE, GREY = "#1f6fb2", "#888888"
NAMES = {"model": "this run", "article": "the article's parameters", "constant": "the same answer for every row"}


def text(contract: Contract) -> str:
    """The report as a page of text."""
    report, training = contract.report, contract.training
    search = report["search"]
    chosen = search["chosen"]
    lines = [
        f"{contract.dataset}: {contract.task.value} of {contract.label.name if contract.label else '?'}",
        f"{training['rows']} training rows, {report['test_rows']} test rows, seed {training['seed']}, "
        f"{len(contract.inputs)} columns, {len(contract.features)} features",
        "",
        _table(report["metrics"]),
        "",
        f"Parameters, chosen among {len(search['tried'])} by {search['folds']}-fold cross-validation on the training "
        f"rows, folds drawn {_times(search['repeats'])} ({search['metric']} {chosen['score']:.4f}):",
        f"  {_parameters(chosen)}",
        "",
        "Tried, best first:",
        *(f"  {c['score']:.4f}  {_parameters(c)}" for c in sorted(report["search"]["tried"], key=lambda c: c["score"])),
        "",
        f"Transform: {report['transform']}",
        f"Training run {contract.hash[:12]}, rows {training['data_sha256'][:12]}, "
        + ", ".join(
            f"{name} {number}" for name, number in {**training["versions"], "xgboost": report["xgboost"]}.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def draw(
    contract: Contract,
    booster: Any,  # noqa: ANN401
    predicted: NDArray[Any],
    truth: NDArray[np.float64],
    out: Path,
) -> None:
    """Write `predicted_vs_actual.png` and `feature_importance.png`."""
    _draw_predictions(contract, predicted, truth, out / "predicted_vs_actual.png")
    _draw_importance(contract, booster, out / "feature_importance.png")


def _table(found: Mapping[str, Mapping[str, float]]) -> str:
    names = list(found["model"])
    table = {NAMES.get(who, who): [f"{values[name]:.4f}" for name in names] for who, values in found.items()}
    wide = max(10, *(len(cell) + 2 for cells in table.values() for cell in cells))
    lines = {"on the test rows": names, **table}
    return "\n".join(f"{who:<34}" + "".join(cell.rjust(wide) for cell in cells) for who, cells in lines.items())


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _parameters(candidate: Mapping[str, Any]) -> str:
    pairs = [f"{name} {value}" for name, value in candidate["parameters"].items()]
    return ", ".join([*pairs, f"{candidate['rounds']} rounds"])


def _draw_predictions(contract: Contract, predicted: NDArray[Any], truth: NDArray[np.float64], path: Path) -> None:
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes = figure.add_subplot()
    label = contract.label.name if contract.label else "label"
    if contract.task is Task.REGRESSION:
        both = np.concatenate([predicted, truth])
        ends = (float(both.min()), float(both.max()))
        axes.plot(ends, ends, color=GREY, linewidth=1, label="exact")
        axes.scatter(truth, predicted, s=14, alpha=0.45, color=BLUE, edgecolors="none", label=f"{len(truth)} test rows")
        axes.set(xlabel=f"actual {label}", ylabel=f"predicted {label}", aspect="equal")
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.yaxis.set_major_locator(MaxNLocator(8))
        axes.legend(loc="upper left", frameon=False)
    else:
        _draw_confusion(axes, contract, predicted, truth)
    score = ", ".join(f"{name} {value:.3f}" for name, value in contract.report["metrics"]["model"].items())
    axes.set_title(f"{contract.dataset}: {label} of rows that training never saw\n{score}", fontsize=11)
    _save(figure, path)


def _draw_confusion(axes: Any, contract: Contract, predicted: NDArray[Any], truth: NDArray[np.float64]) -> None:  # noqa: ANN401
    classes = contract.label.categories if contract.label else ()
    chosen = predicted.argmax(axis=1) if predicted.ndim == 2 else (predicted > 0.5).astype(int)
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (truth.astype(int), chosen), 1)
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column, row, str(count), ha="center", va="center", color="white" if count > counts.max() / 2 else "black"
        )
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="actual")


def _draw_importance(contract: Contract, booster: Any, path: Path) -> None:  # noqa: ANN401
    gains = booster.get_score(importance_type="total_gain")
    total = sum(gains.values()) or 1.0
    shares = sorted(((gains.get(name, 0.0) / total, name) for name in contract.features), reverse=True)[:25][::-1]
    figure = Figure(figsize=(6.4, 1.6 + 0.3 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([name for _, name in shares], [100 * share for share, _ in shares], color=BLUE)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axes.set_xlabel("share of the trees' total gain, percent")
    axes.set_title(f"{contract.dataset}: what the predictions rest on", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # renders without a display
    figure.savefig(path, metadata={"Software": None}, dpi=100)
