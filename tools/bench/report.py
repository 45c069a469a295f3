"""The results as a table, and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from serving.settings import usable_cpus
from tools.bench.results import MIB, Key, Results, Spread, Target

ORDER = ("floor", "sync floor", "in-process", "sample", "ours")
PACKAGES = ("flask", "gevent", "gunicorn", "numpy", "pandas", "scikit-learn", "xgboost-cpu", "xgboost")


def text(results: Results, goals: Sequence[Target]) -> str:
    return "\n".join([*_speeds(results), "", *_sizes(results), "", *_goals(results, goals)]) + "\n"


def _speeds(results: Results) -> Iterator[str]:
    yield f"{'':34}{'rows/s':>10}  {'(least-most)':>19}{'p50 ms':>10}{'p99 ms':>10}{'over floor':>12}"
    loads = dict.fromkeys((k.part, k.rows, k.clients) for k in results.values if k.metric == "rows_per_second")
    for part, rows, clients in loads:
        yield f"{part}, {rows:,} row{'s' * (rows > 1)}, {clients} client{'s' * (clients > 1)}"
        for name in ORDER:
            key = Key(part, name, "rows_per_second", rows, clients)
            if found := results.spread(key):
                yield f"  {name:32}{_speed(found)}{_times(results, key)}"


def _speed(found: Spread) -> str:
    return f"{found.median:10,.0f}  {f'({found.least:,.0f}-{found.most:,.0f})':>19}"


def _times(results: Results, key: Key) -> str:
    p50, p99 = (results.spread(replace(key, metric=metric)) for metric in ("p50", "p99"))
    shown = f"{p50.median * 1000:10.2f}{p99.median * 1000:10.2f}" if p50 and p99 else ""
    over = results.ratio(key, replace(key, contender="floor"))
    return shown + (f"{over.median:12.2f}" if over and key.contender != "floor" else "")


def _sizes(results: Results) -> Iterator[str]:
    yield f"{'':34}{'start s':>10}  {'(least-most)':>19}{'PSS MiB':>10}{'+ each worker':>15}"
    for stage in ("featurizer", "predictor", "single"):
        for name in ORDER:
            start = results.spread(Key(stage, name, "start"))
            fixed, each = (results.spread(Key(stage, name, metric)) for metric in ("fixed", "per_worker"))
            if start:
                spread = f"({start.least:.2f}-{start.most:.2f})"
                memory = f"{fixed.median / MIB:10.1f}{each.median / MIB:15.1f}" if fixed and each else ""
                yield f"{stage + ', ' + name:34}{start.median:10.2f}  {spread:>19}{memory}"


def _goals(results: Results, goals: Sequence[Target]) -> Iterator[str]:
    yield f"{'target':66}{'bound':>8}{'median':>9}  {'(least-most)':>15}"
    for goal in goals:
        sign = ">=" if goal.at_least else "<="
        if found := goal.measured(results):
            spread = f"({found.least:.2f}-{found.most:.2f})"
            verdict = "met" if goal.met(found) else "MISSED"
            yield f"{goal.text:66}{sign + f' {goal.bound:g}':>8}{found.median:9.2f}  {spread:>15}  {verdict}"
        else:
            yield f"{goal.text:66}{sign + f' {goal.bound:g}':>8}  not measured"


def document(results: Results, goals: Sequence[Target], options: dict[str, Any]) -> dict[str, Any]:
    """Everything, for a program to read; times in seconds, memory in bytes."""
    measured = [asdict(key) | asdict(Spread.of(values)) | {"rounds": values} for key, values in results.values.items()]
    judged = []
    for goal in goals:
        found = goal.measured(results)
        verdict = asdict(found) | {"met": goal.met(found)} if found else {}
        judged.append({"target": goal.text, "bound": goal.bound, "at_least": goal.at_least} | verdict)
    machine = {"cpus": usable_cpus(), "architecture": platform.machine(), "python": platform.python_version()}
    return {"machine": machine | _versions(), "options": options, "results": measured, "targets": judged}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
