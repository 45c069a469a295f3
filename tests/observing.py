"""Strict readers of what the model server tells: Prometheus's text format and CloudWatch's embedded metric format."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
_SAMPLE = re.compile(rf"({_NAME})\{{((?:{_LABEL},?)*)\}} (\S+)")
_UNITS = {"Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Percent", "Count", "Count/Second", "None"}

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


def samples(text: str) -> Samples:
    """The samples of an exposition. Fails where it breaks a rule of the text format, version 0.0.4."""
    assert text.endswith("\n")
    found: Samples = {}
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert re.fullmatch(_NAME, family)
            assert family not in helped, "one HELP a family"
            assert line.split(" ", 3)[3]
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family, "a family's lines stand together"
            assert name not in kinds, "one TYPE a family"
            assert kind in ("counter", "gauge", "histogram")
            kinds[name] = kind
        else:
            name, labels, value = _sample(line)
            assert _family_of(name, kinds[family]) == family, line
            assert (name, labels) not in found, "one sample a series"
            found[name, labels] = value
    assert helped == kinds.keys()
    for name, kind in kinds.items():
        assert kind != "counter" or name.endswith("_total")
        if kind == "histogram":
            _check_histogram(name, found)
    return found


def one(found: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels, and whatever others."""
    return sum(value for (other, has), value in found.items() if other == name and labels.items() <= dict(has).items())


def embedded(line: str) -> dict[str, Any]:
    """A document of the embedded metric format. Fails where it breaks a rule of its specification."""
    document = json.loads(line)
    assert len(line) < 256 * 1024
    metadata = document["_aws"]
    assert metadata.keys() == {"Timestamp", "CloudWatchMetrics"}
    assert type(metadata["Timestamp"]) is int
    assert metadata["Timestamp"] > 1_500_000_000_000, "milliseconds"
    assert metadata["CloudWatchMetrics"]
    for directive in metadata["CloudWatchMetrics"]:
        _check_directive(directive, document)
    return document


def _check_directive(directive: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
    assert re.fullmatch(r"[A-Za-z0-9_./#-]{1,255}", directive["Namespace"])
    assert not directive["Namespace"].startswith("AWS/")
    assert directive["Dimensions"]
    for dimensions in directive["Dimensions"]:
        assert len(dimensions) <= 30
        for name in dimensions:
            assert isinstance(document[name], str)
            assert 1 <= len(document[name]) <= 1024
            assert document[name].isascii()
    assert 1 <= len(directive["Metrics"]) <= 100
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert len(set(names)) == len(names)
    for metric in directive["Metrics"]:
        assert metric.keys() <= {"Name", "Unit", "StorageResolution"}
        assert 1 <= len(metric["Name"]) <= 1024
        assert metric["Unit"] in _UNITS
        assert list(_numbers(document[metric["Name"]])), metric["Name"]


def _numbers(value: Any) -> Iterator[float]:
    """Those of a target: a number, or values with how often each came, as AWS's own exporters write them."""
    if isinstance(value, dict):
        assert value.keys() == {"Values", "Counts", "Max", "Min", "Count", "Sum"}
        assert 1 <= len(value["Values"]) == len(value["Counts"]) <= 100
        assert all(type(count) is int and count > 0 for count in value["Counts"])
        assert value["Count"] == sum(value["Counts"])
        yield from value["Values"]
    else:
        assert type(value) in (int, float)
        assert math.isfinite(value)
        yield value


def _sample(line: str) -> tuple[str, Labels, float]:
    found = _SAMPLE.fullmatch(line)
    assert found, line
    labels = re.findall(_LABEL, found[2])
    assert len({name for name, _ in labels}) == len(labels), line
    return found[1], frozenset(labels), float(found[5])


def _family_of(name: str, kind: str) -> str:
    return re.sub("_(bucket|sum|count)$", "", name) if kind == "histogram" else name


def _check_histogram(name: str, found: Samples) -> None:
    """Buckets rise to the count, which is that of the infinite one."""
    buckets = [(float(dict(has)["le"]), value) for (other, has), value in found.items() if other == f"{name}_bucket"]
    assert [bound for bound, _ in buckets] == sorted({bound for bound, _ in buckets})
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1] == (math.inf, one(found, f"{name}_count"))
    assert one(found, f"{name}_sum") >= 0
