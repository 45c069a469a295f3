"""What the benchmark makes of its numbers: medians, ratios round by round, and which targets are met."""

from __future__ import annotations

import argparse

import pytest

from tools.bench import __main__ as bench
from tools.bench import report
from tools.bench.results import MIB, Key, Results, Spread, Target, targets

SPEED = "rows_per_second"


def measured(values: dict[Key, list[float]]) -> Results:
    results = Results()
    for key, rounds in values.items():
        for value in rounds:
            results.add(key, value)
    return results


def chain(contender: str, metric: str = SPEED, rows: int = 1, clients: int = 8) -> Key:
    return Key("chain", contender, metric, rows, clients)


RESULTS = measured(
    {
        chain("floor"): [4000, 1000, 2000],
        chain("ours"): [3000, 900, 1000],
        chain("ours", "p50"): [0.002, 0.0015, 0.004],
        chain("ours", "p99"): [0.01, 0.02, 0.03],
        chain("in-process", rows=1000, clients=1): [20_000.4, 30_000],
        Key("featurizer", "ours", "start"): [1.25, 1.0, 2.0],
        Key("featurizer", "ours", "fixed"): [50 * MIB],
        Key("featurizer", "ours", "per_worker"): [44.5 * MIB],
        Key("single", "floor", "start"): [0.5],
    }
)
GOALS = [
    Target("requests/s over the floor's", chain("ours"), 0.75, chain("floor"), at_least=True),
    Target("seconds to the first 200", Key("featurizer", "ours", "start"), 1.25),
    Target("MiB for one more worker", Key("featurizer", "ours", "per_worker"), 44, unit=MIB),
    Target("MiB of nobody", Key("single", "ours", "per_worker"), 1),
]


def test_a_ratio_is_taken_in_each_round() -> None:
    assert RESULTS.ratio(chain("ours"), chain("floor")) == Spread(0.75, 0.5, 0.9)
    assert RESULTS.spread(chain("ours")) == Spread(1000, 900, 3000)
    assert RESULTS.ratio(chain("ours"), chain("sample")) is None
    assert RESULTS.ratio(chain("sample"), chain("floor")) is None
    assert RESULTS.spread(chain("sample")) is None


@pytest.mark.parametrize(("bound", "at_least", "met"), [
    (0.75, True, True), (0.76, True, False), (0.75, False, True), (0.74, False, False),
])  # fmt: skip
def test_a_target_is_met_at_its_bound(bound: float, at_least: bool, met: bool) -> None:
    assert Target("", chain("ours"), bound, at_least=at_least).met(Spread(0.75, 0, 1)) is met


def test_the_table_has_each_load_each_start_and_each_target() -> None:
    lines = report.text(RESULTS, GOALS).splitlines()

    assert [line.split() for line in lines] == [
        ["rows/s", "(least-most)", "p50", "ms", "p99", "ms", "over", "floor"],
        ["chain,", "1", "row,", "8", "clients"],
        ["floor", "2,000", "(1,000-4,000)"],
        ["ours", "1,000", "(900-3,000)", "2.00", "20.00", "0.75"],
        ["chain,", "1,000", "rows,", "1", "client"],
        ["in-process", "25,000", "(20,000-30,000)"],
        [],
        ["start", "s", "(least-most)", "PSS", "MiB", "+", "each", "worker"],
        ["featurizer,", "ours", "1.25", "(1.00-2.00)", "50.0", "44.5"],
        ["single,", "floor", "0.50", "(0.50-0.50)"],
        [],
        ["target", "bound", "median", "(least-most)"],
        ["requests/s", "over", "the", "floor's", ">=", "0.75", "0.75", "(0.50-0.90)", "met"],
        ["seconds", "to", "the", "first", "200", "<=", "1.25", "1.25", "(1.00-2.00)", "met"],
        ["MiB", "for", "one", "more", "worker", "<=", "44", "44.50", "(44.50-44.50)", "MISSED"],
        ["MiB", "of", "nobody", "<=", "1", "not", "measured"],
    ]
    assert {len(line) for line in lines[2:4]} == {34 + 10 + 2 + 19, 34 + 10 + 2 + 19 + 10 + 10 + 12}


def test_the_document_has_every_round_and_every_verdict() -> None:
    document = report.document(RESULTS, GOALS, {"rounds": 3})

    whole = {(one["part"], one["contender"], one["metric"]): one["rounds"] for one in document["results"]}
    assert whole["chain", "ours", SPEED] == [3000, 900, 1000]
    assert len(whole) == len(RESULTS.values) == 9
    assert [one.get("met") for one in document["targets"]] == [True, True, False, None]
    assert document["targets"][2]["median"] == 44.5
    assert document["options"] == {"rounds": 3}
    assert {"numpy", "flask", "cpus", "python"} <= set(document["machine"])


def test_the_targets_are_those_of_the_documents() -> None:
    goals = [(goal.key.part, goal.key.metric, goal.key.rows, goal.key.clients, goal.over and goal.over.contender,
              goal.bound, goal.at_least, goal.unit) for goal in targets((1_000, 50_000), "sync floor")]  # fmt: skip

    assert goals == [
        ("featurizer", SPEED, 1, 8, "floor", 0.85, True, 1),
        ("predictor", SPEED, 1, 8, "floor", 0.8, True, 1),
        ("chain", SPEED, 1, 8, "floor", 0.8, True, 1),
        ("chain", "p50", 1, 1, "floor", 1.3, False, 1),
        ("featurizer", "p99", 1, 8, "sync floor", 2.0, False, 1),
        ("predictor", "p99", 1, 8, "sync floor", 2.0, False, 1),
        ("chain", SPEED, 1, 8, "sample", 25.0, True, 1),
        ("chain", SPEED, 1_000, 1, "in-process", 0.9, True, 1),
        ("chain", SPEED, 50_000, 1, "in-process", 1.0, True, 1),
        ("featurizer", "start", 1, 8, None, 1.5, False, 1),
        ("predictor", "start", 1, 8, None, 1.5, False, 1),
        ("featurizer", "per_worker", 1, 8, None, 45.0, False, MIB),
        ("predictor", "per_worker", 1, 8, None, 70.0, False, MIB),
    ]
    assert len(list(targets((10,), "floor"))) == len(goals) - 2


def test_rows_and_settings_are_read_from_the_command_line() -> None:
    given = bench._parser().parse_args(["--rows", "10,1000,", "--env", "A=b=c", "--env", "D="])

    assert (given.rows, given.env) == ((10, 1000), [("A", "b=c"), ("D", "")])
    with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=VALUE, got 'A'"):
        bench._setting("A")
