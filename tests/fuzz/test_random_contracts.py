"""Random contracts and damaged bodies: a refusal, or what the libraries answer for pandas' frame, bit for bit.

A failure says from which FUZZ_SEED and FUZZ_CONTRACT it comes, and the smallest body that still shows it. These two in
the environment, and FUZZ_CONTRACTS=1, repeat it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from serving.contract import Column, ColumnType
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload
from tests.corpus_cases import Answer, Reply, Request, header
from tests.corpus_levels import Applications, Place
from tests.fuzz.conftest import SEED
from tests.fuzz.contracts import Draft, Trained, body, trained
from tests.fuzz.frames import Table
from tests.fuzz.mutate import smallest
from tests.fuzz.oracle import Oracle, Uncountable
from tests.integration.test_corpus_tables import by_batch, by_lambda, by_one_container, single
from tests.unit.test_parity import matrix, vector

BODIES = 50  # of one contract
SLICE, LONG = 20, 2000  # contracts
SHRINKING = 20.0  # seconds
LEAST = 0.3  # of the bodies are accepted, so that the answers say something
REFUSALS = (400, 413, 415)
HOSTS: dict[str, Callable[[Path, Request], Reply]] = {
    "one container": by_one_container,
    "Batch": by_batch,
    "Lambda": by_lambda,
}
Owed = NDArray[Any] | None  # None: a refusal


@dataclass(frozen=True)
class Sent:
    """A body. `kind`: what was done to its rows. `raw`: it is no body of features."""

    body: bytes
    media: str
    parameters: Mapping[str, str]
    kind: str
    raw: bool

    @property
    def content_type(self) -> str:
        return self.media + "".join(f"; {name}={value}" for name, value in self.parameters.items())


@dataclass
class Counts:
    """How many bodies were sent, and how many of them were accepted, by level and by what was done to them."""

    sent: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)

    def add(self, level: str, kind: str, *, accepted: bool) -> None:
        for name in (level, kind):
            self.sent[name] += 1
            self.accepted[name] += accepted

    def share(self, name: str) -> float:
        return self.accepted[name] / self.sent[name]

    def __str__(self) -> str:
        shares = (f"{name} {self.accepted[name]}/{sent}" for name, sent in sorted(self.sent.items()))
        return ", ".join(shares)


@dataclass
class Model:
    """A random contract's models, asked at every level, and what the libraries owe."""

    contract: Trained
    oracle: Oracle = field(init=False)
    features: Table = field(init=False)
    applications: Applications = field(init=False)

    def __post_init__(self) -> None:
        self.oracle = Oracle(self.contract.artifacts)
        names = self.oracle.transformer.get_feature_names_out()
        self.features = Table(tuple(Column(str(name), ColumnType.NUMERIC) for name in names))
        self.applications = Applications(lambda _name: self.contract.artifacts)

    def good_features(self) -> list[list[str]]:
        """Those of the training rows, as pandas reads them."""
        draft = Draft(*self.contract.drawn, self.contract.rows, header=self.contract.table.names)
        frame = self.contract.table.frame(draft.write(), CSV, {"header": "present"})
        return [list(map(repr, row)) for row in self.oracle.features(frame).tolist()]

    def ask(self, level: str, sent: Sent, accept: str) -> Answer:
        request = Request(headers={"Content-Type": sent.content_type, "Accept": accept}, parts=((sent.body, 1),))
        if level in HOSTS:
            reply = HOSTS[level](self.contract.artifacts, request)
        else:
            reply = self.applications.ask(Place("application", level))(request, 1)
        return reply.responses[0]

    def owed(self, bodies: Sequence[Sent]) -> list[dict[str, Owed]]:
        """What each stage owes for each body; the libraries are asked for all their rows at once."""
        owed: list[dict[str, Owed]] = [{} for _ in bodies]
        for raw, table in ((True, self.contract.table), (False, self.features)):
            frames = {at: frame for at, sent in enumerate(bodies) if sent.raw is raw
                      if (frame := _frame(table, sent)) is not None}  # fmt: skip
            if not frames:
                continue
            whole = pd.concat(frames.values(), ignore_index=True)
            features = self.oracle.features(whole) if raw else whole.to_numpy(np.float64)
            with np.errstate(over="ignore"):
                single = features.astype(np.float32)
            finite = np.where(np.isinf(single), 0, single)  # XGBoost takes no infinity
            predictions = self.oracle.predictions(finite)
            end = 0
            for at, frame in frames.items():
                rows = slice(end, end := end + len(frame))
                if np.isfinite(features[rows]).all():
                    owed[at]["featurizer"] = features[rows]
                if not np.isinf(single[rows]).any():
                    owed[at]["pipeline" if raw else "predictor"] = predictions[rows]
        return owed


def _frame(table: Table, sent: Sent) -> pd.DataFrame | None:
    try:
        return table.frame(sent.body, sent.media, sent.parameters)
    except Uncountable:
        return None


def fault(answer: Answer, owed: Owed, stage: str, accept: str) -> str:
    """What is wrong with an answer; nothing where it is a refusal, or what is owed."""
    if answer.status != 200:
        formed = header(answer, "Content-Type") == JSON and answer.json.keys() >= {"code", "message", "request_id"}
        return "" if answer.status in REFUSALS and formed else f"{answer.status} {answer.body[:300]!r}"
    if owed is None:
        return f"answered {answer.body[:200]!r}, and owes a refusal"
    payload = Payload(answer.body, header(answer, "Content-Type"))
    got = matrix(payload) if stage == "featurizer" or accept == CSV else vector(payload)
    kind = np.float64 if stage == "featurizer" and accept != NPY else np.float32
    got, owed = got.astype(kind).reshape(len(got), -1), owed.astype(kind).reshape(len(owed), -1)
    same = got.shape == owed.shape and got.tobytes() == owed.tobytes()
    return "" if same else f"answered {got.tolist()!r}, the libraries {owed.tolist()!r}"


def drawn(model: Model, chance: Random) -> Iterator[Sent]:
    good_features = model.good_features()
    while True:
        raw = chance.random() < 0.8
        kind, draft = body(chance, *(model.contract.drawn if raw else (model.features, good_features, ["1"])))
        yield Sent(draft.write(), draft.media, draft.parameters, kind, raw)


def explore(model: Model, number: str, chance: Random, counts: Counts) -> None:
    """Send bodies to a contract's models. Raises `AssertionError` with the smallest that is answered wrongly."""
    bodies = list(islice(drawn(model, chance), BODIES))
    for sent, owed in zip(bodies, model.owed(bodies), strict=True):
        for level in ["featurizer", chance.choice(list(HOSTS))] if sent.raw else ["predictor"]:
            accept = chance.choice([CSV, JSON, JSONLINES, NPY, NPY])
            stage = "pipeline" if level in HOSTS else level
            answer = model.ask(level, sent, accept)
            counts.add(level, sent.kind, accepted=answer.status == 200)
            if fault(answer, owed.get(stage), stage, accept):
                raise AssertionError(f"{number}: {finding(model, sent, level, stage, accept)}")


def finding(model: Model, sent: Sent, level: str, stage: str, accept: str) -> str:
    """What to say of a wrong answer, with as few lines and then bytes as still get one."""

    def wrong(text: bytes) -> str:
        less = replace(sent, body=text)
        return fault(model.ask(level, less, accept), model.owed([less])[0].get(stage), stage, accept)

    lines, ends = sent.body.split(b"\n"), time.monotonic() + SHRINKING
    for at in reversed(range(len(lines))):
        fewer = lines[:at] + lines[at + 1 :]
        lines = fewer if wrong(b"\n".join(fewer)) else lines
    small = smallest(b"\n".join(lines), lambda text: bool(wrong(text)), lambda: time.monotonic() < ends)
    table = model.contract.table if sent.raw else model.features
    return f"{level}, {sent.kind}, {sent.content_type}, Accept {accept}, {small!r}: {wrong(small)}; {table}"


@pytest.mark.parametrize(
    ("contracts", "seed"),
    [
        pytest.param(SLICE, os.environ.get("FUZZ_SEED", "1"), id="slice"),
        pytest.param(LONG, SEED, id="long", marks=[pytest.mark.long, pytest.mark.timeout(6 * 3600)]),
    ],
)
def test_a_damaged_body_is_refused_or_answered_as_by_pandas_and_the_libraries(
    figures: list[str], contracts: int, seed: str
) -> None:
    counts, first = Counts(), int(os.environ.get("FUZZ_CONTRACT", 0))
    for number in range(first, first + int(os.environ.get("FUZZ_CONTRACTS", contracts))):
        chance = Random(f"{seed} {number}")
        with tempfile.TemporaryDirectory() as directory:
            model = Model(trained(chance, Path(directory)))
            explore(model, f"FUZZ_SEED={seed} FUZZ_CONTRACT={number}", chance, counts)
        single.cache_clear()  # of the applications of this contract

    figures.append(f"random contracts, accepted of sent: {counts}")
    assert min(map(counts.share, ("featurizer", "predictor", *HOSTS))) >= LEAST, str(counts)
