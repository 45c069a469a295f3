"""The results as a picture: the floor, the AWS sample, this project, and one thread without HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.results import Key, Results

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLOURS = {"floor": "#9e9e9e", "in-process": "#616161", "sample": "#e08a3c", "ours": "#2f6fb0"}
LABELS = {"floor": "nginx + gunicorn + Flask answering a constant", "in-process": "one thread without HTTP",
          "sample": "AWS sample, re-created", "ours": "this project"}  # fmt: skip


def draw(results: Results, large: Sequence[int], file: Path) -> None:
    """Write an SVG, or whatever the file's suffix asks for."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    one = [(part, Key(part, "", "rows_per_second")) for part in ("featurizer", "predictor", "chain", "single")]
    many = [(f"{rows:,} rows", Key("chain", "", "rows_per_second", rows, 1)) for rows in large]
    _bars(left, results, one, ("floor", "sample", "ours"), "one row, 8 clients: requests/s")
    _bars(right, results, many, ("in-process", "sample", "ours"), "chain, 1 client: rows/s")
    handles: dict[str, Artist] = {}
    for axes in (left, right):
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(file)


def _bars(axes: Axes, results: Results, groups: Sequence[tuple[str, Key]], names: Sequence[str], title: str) -> None:
    for position, name in enumerate(names):
        for place, (_, key) in enumerate(groups):
            found = results.spread(Key(key.part, name, key.metric, key.rows, key.clients))
            if found:
                error = [[found.median - found.least], [found.most - found.median]]
                middle = place + (position - 1) * 0.27
                label = LABELS[name] if place == 0 else None
                axes.bar(middle, found.median, 0.25, color=COLOURS[name], label=label, yerr=error, capsize=2)
                axes.annotate(f"{found.median:,.0f}", (middle, found.most), ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(groups)), [text for text, _ in groups])
    axes.set_yscale("log")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
