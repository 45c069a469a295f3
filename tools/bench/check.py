"""Whether a contender answers what the libraries answer in this process. A fast wrong answer is no result."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import numpy as np
from numpy.typing import NDArray

from serving.payload import JSON, NPY
from tools.bench.contenders import SINGLE, Contender, constant_of
from tools.bench.processes import Container, Payload
from tools.bench.truth import Truth

CLIENTS = 8
SINGLE_ROWS = 24  # of different content, asked at once: a server that mixes up its callers is found out


class WrongAnswer(Exception):
    """A contender answered something else than it must."""


def check(contender: Contender, containers: Sequence[Container], truth: Truth, sizes: Iterable[int]) -> None:
    """Ask both containers, or the single one, and compare: rows one by one from several clients at once, then bodies of
    these sizes. Raises `WrongAnswer`.
    """
    bodies = [truth.body(1, first) for first in range(SINGLE_ROWS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in pool.map(lambda body: _check_body(contender, containers, truth, body), bodies):
            pass
    for size in sizes:
        if size > 1 and not contender.constant:
            _check_body(contender, containers, truth, truth.body(size))


def _check_body(contender: Contender, containers: Sequence[Container], truth: Truth, body: bytes) -> None:
    """The featurizer's answer, then what the predictor makes of that very answer; or what the single container does."""
    rows = body.count(b"\n")
    if len(containers) == 1:
        _check_single(contender, containers[0], truth, body)
        return
    featurizer, predictor = containers
    features = _ask(featurizer, Payload(body, "text/csv", contender.hop))
    expected = truth.features(body)
    if contender.constant:
        _must(features.body == constant_of("featurizer", truth).body, featurizer, "its constant")
    else:
        got = _numbers(features)
        got = got[:, np.newaxis] if got.ndim == 1 else got
        _must(_same(got, expected, exact=contender.exact), featurizer, f"the features of {rows} rows")
    accept = contender.accept_many if rows > 1 else contender.accept
    predictions = _ask(predictor, Payload(features.body, features.content_type, accept))
    if contender.constant:
        _must(predictions.body == constant_of("predictor", truth).body, predictor, "its constant")
    else:
        scores = truth.predictions(expected)
        _must(_same(_numbers(predictions), scores, exact=contender.exact), predictor, f"the predictions of {rows} rows")


def _check_single(contender: Contender, container: Container, truth: Truth, body: bytes) -> None:
    predictions = _ask(container, contender.request(SINGLE, truth, body))
    if contender.constant:
        _must(predictions.body == constant_of(SINGLE, truth).body, container, "its constant")
        return
    scores = truth.predictions(truth.features(body))
    _must(_same(_numbers(predictions), scores, exact=contender.exact), container, "the predictions")


def _ask(container: Container, payload: Payload) -> Payload:
    try:
        status, answer = container.post(payload)
    except (OSError, HTTPException) as error:
        raise WrongAnswer(f"{container.name}: expected an answer, got {error!r}") from error
    if status != 200:
        shown = answer.body[:300].decode(errors="replace")
        raise WrongAnswer(f"{container.name}: expected 200, got {status}: {shown}")
    return answer


def _must(fine: bool, container: Container, what: str) -> None:
    if not fine:
        raise WrongAnswer(f"{container.name}: expected {what} as the libraries compute them, got others")


def _same(got: NDArray[np.float64], expected: NDArray[np.floating], *, exact: bool) -> bool:
    """To the bit of the float32 that the booster works in, or nearly: pandas may read a number a little off."""
    if got.shape != expected.shape:
        return False
    if exact:
        return bool(np.array_equal(got.astype(np.float32), expected.astype(np.float32)))
    return bool(np.allclose(got, expected, rtol=1e-5, atol=1e-9))


def _numbers(answer: Payload) -> NDArray[np.float64]:
    media = answer.content_type.partition(";")[0]
    try:
        if media == NPY:
            return np.asarray(np.load(io.BytesIO(answer.body), allow_pickle=False), dtype=np.float64)
        if media == JSON:
            return np.asarray(json.loads(answer.body)["result"], dtype=np.float64)
        table = np.array(list(csv.reader(io.StringIO(answer.body.decode()))), dtype=np.float64)
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise WrongAnswer(f"expected numbers as {media}, got {answer.body[:80]!r}") from error
    return table[:, 0] if table.shape[1:] == (1,) else table
