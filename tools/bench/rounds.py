"""The measurement: every contender in every round, one after the other, so that a slow minute hits them all."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tools.bench.check import WrongAnswer, check
from tools.bench.contenders import CONTENDERS, OURS, SAMPLE, SINGLE, STAGES, SYNC_FLOOR, Contender, Setting
from tools.bench.load import Load, Source, on_chain, on_container
from tools.bench.processes import Container
from tools.bench.results import Key, Results

CLIENTS = (1, 8)
WEIGHED_WITH = (1, 3)  # workers
WARMED_UP = 2.0  # seconds of load, after which every worker has answered
Pair = tuple[Container, Container]  # featurizer, predictor


@dataclass(frozen=True)
class Options:
    """`seconds`: of each load; `large`: rows in the bodies that one caller sends; `weigh`: measure memory too."""

    rounds: int = 5
    seconds: float = 2.0
    large: Sequence[int] = (10, 1_000, 50_000)
    weigh: bool = True


def measure(setting: Setting, options: Options, contenders: Sequence[Contender] = CONTENDERS) -> Results:
    """Raises `WrongAnswer` when a contender answers what it must not, or not at all."""
    if setting.defaults.worker_class == "sync":  # the two floors would be one
        contenders = [contender for contender in contenders if contender.name != SYNC_FLOOR.name]
    results = Results()
    if options.weigh:
        for contender in contenders:
            if contender.name in (OURS.name, SAMPLE.name):
                _say(f"memory of {contender.name}")
                _weigh(setting, contender, results)
    for number in range(options.rounds):
        turn = number % len(contenders)
        _round(setting, options, [*contenders[turn:], *contenders[:turn]], results, f"round {number + 1}")
    return results


def _round(setting: Setting, options: Options, contenders: Sequence[Contender], results: Results, title: str) -> None:
    with contextlib.ExitStack() as stack:
        _say(f"{title} of {options.rounds}: starting")
        pairs: dict[str, Pair] = {}
        for contender in contenders:
            featurizer, predictor = (stack.enter_context(contender.start(setting, stage)) for stage in STAGES)
            pairs[contender.name] = featurizer, predictor
            results.add(Key("featurizer", contender.name, "start"), featurizer.started)
            results.add(Key("predictor", contender.name, "start"), predictor.started)
        _check_all(setting, contenders, pairs, options.large)
        _singles(setting, options, contenders, results, f"{title} of {options.rounds}")
        for stage in STAGES:
            for clients in CLIENTS:
                _say(f"{title} of {options.rounds}: {stage}, 1 row, {clients} clients")
                for contender in contenders:
                    if clients > 1 or contender.name != SYNC_FLOOR.name:
                        _load_container(setting, options, contender, pairs[contender.name], stage, clients, results)
        for rows, clients in [*((1, clients) for clients in CLIENTS), *((rows, 1) for rows in options.large)]:
            _say(f"{title} of {options.rounds}: chain, {rows} rows, {clients} clients")
            for contender in contenders:
                if contender.name != SYNC_FLOOR.name and (rows == 1 or not contender.constant):
                    _load_chain(setting, options, contender, pairs[contender.name], rows, clients, results)
            if rows > 1:
                took = setting.truth.seconds(setting.truth.body(rows), options.seconds)
                results.add(Key("chain", "in-process", "rows_per_second", rows, 1), rows * len(took) / sum(took))
        _check_all(setting, contenders, pairs, ())


def _singles(setting: Setting, options: Options, contenders: Sequence[Contender], results: Results, title: str) -> None:
    """The containers that hold both stages, one row and many; each is gone before the next one starts."""
    for contender in contenders:
        if not contender.single:
            continue
        _say(f"{title}: {SINGLE}, {contender.name}")
        with contender.start(setting, SINGLE) as container:
            results.add(Key(SINGLE, contender.name, "start"), container.started)
            check(contender, [container], setting.truth, options.large)
            for rows, clients in [*((1, clients) for clients in CLIENTS), *((rows, 1) for rows in options.large)]:
                if rows == 1 or not contender.constant:
                    source = _source(setting, contender, SINGLE, rows)
                    load = on_container(container, source, clients, options.seconds)
                    _note(results, Key(SINGLE, contender.name, "", rows, clients), load)


def _check_all(
    setting: Setting, contenders: Sequence[Contender], pairs: Mapping[str, Pair], sizes: Sequence[int]
) -> None:
    for contender in contenders:
        check(contender, pairs[contender.name], setting.truth, sizes)


def _load_container(
    setting: Setting, options: Options, contender: Contender, pair: Pair, stage: str, clients: int, results: Results
) -> None:
    container = pair[STAGES.index(stage)]
    load = on_container(container, _source(setting, contender, stage), clients, options.seconds)
    _note(results, Key(stage, contender.name, "", 1, clients), load)


def _load_chain(
    setting: Setting, options: Options, contender: Contender, pair: Pair, rows: int, clients: int, results: Results
) -> None:
    source = _source(setting, contender, "featurizer", rows)
    accept = contender.accept_many if rows > 1 else contender.accept
    load = on_chain(*pair, source, accept, clients, options.seconds)
    _note(results, Key("chain", contender.name, "", rows, clients), load)


def _source(setting: Setting, contender: Contender, stage: str, rows: int = 1) -> Source:
    payload = contender.request(stage, setting.truth, setting.truth.body(rows))
    return Source.write(setting.scratch / "body", payload)


def _note(results: Results, key: Key, load: Load) -> None:
    what = f"{key.contender}, {key.part}, {key.rows} rows, {key.clients} clients"
    if load.errors or not load.requests:
        raise WrongAnswer(f"{what}: expected 200 for every request, got {load.errors} failures in {load.requests}")
    results.add(replace(key, metric="rows_per_second"), load.per_second * key.rows)
    results.add(replace(key, metric="p50"), load.p50)
    results.add(replace(key, metric="p99"), load.p99)


def _weigh(setting: Setting, contender: Contender, results: Results) -> None:
    """What a container weighs after one-row requests to all its workers, split by starting it with few and more."""
    for stage in (*STAGES, *([SINGLE] if contender.single else [])):
        weights = []
        for workers in WEIGHED_WITH:
            with contender.start(replace(setting, workers=workers), stage) as container:
                load = on_container(container, _source(setting, contender, stage), 8, WARMED_UP)
                if load.errors:
                    raise WrongAnswer(f"{container.name}: {load.errors} requests failed")
                weights.append(container.weight())
        fewer, more = WEIGHED_WITH
        each = (weights[1] - weights[0]) / (more - fewer)
        results.add(Key(stage, contender.name, "per_worker"), each)
        results.add(Key(stage, contender.name, "fixed"), weights[0] - fewer * each)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
