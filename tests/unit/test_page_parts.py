"""What the endpoint's page makes of payloads, requests, files and containers, before a template shows it."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from local_test.connection import Answer
from local_test.container import Container
from local_test.endpoint import Call, Endpoint
from local_test.page import files as page_files
from local_test.page import probe as page_probe
from local_test.page import wording
from local_test.page.files import Files
from local_test.page.form import filled
from local_test.page.guard import is_from_the_page, is_local
from local_test.page.history import KEPT_HEADER, KEPT_PAYLOAD, ROUTER, WHOLE, Body, History, Hop, Record
from local_test.page.latency import Histogram, Latencies
from local_test.page.npy import NotNpy, read_npy, shortest
from local_test.page.picture import COLOURS, addresses, overview, parts_of
from local_test.page.probe import Health, Interface, Probe, Seen
from local_test.page.shown import Failure, Shown, failure_of, marked_line, shown, visible
from serving.contract import Column, ColumnType, Contract, Task
from tests.scripted_container import Reply, ScriptedContainer, answer, raw

COLUMNS = (
    Column("sex", ColumnType.CATEGORICAL, ("F", "M")),
    Column("length", ColumnType.NUMERIC),
    Column("rings", ColumnType.LABEL),
)
CONTRACT = Contract("mine", Task.REGRESSION, COLUMNS, ("f1", "f2"), {})


@pytest.mark.parametrize(
    ("filtered", "value", "text"),
    [
        ("ms", 0.0, "0.00"),
        ("ms", 9.994, "9.99"),
        ("ms", 9.995, "10.0"),
        ("ms", 99.94, "99.9"),
        ("ms", 99.95, "100"),
        ("ms", 1234.5, "1,234"),
        ("size", 9_999, "9,999 B"),
        ("size", 10_000, "10 KiB"),
        ("size", 10_752, "10 KiB"),
        ("size", 10_753, "11 KiB"),
        ("size", 1024 * 1024 - 1, "1,024 KiB"),
        ("size", 1024 * 1024, "1.0 MiB"),
        ("size", 5 * 1024 * 1024 // 2, "2.5 MiB"),
        ("clock", 3661.9, "01:01:01"),
        ("moment", 3661.0, "1970-01-01T01:01:01Z"),
        ("phrase", 404, "Not Found"),
        ("phrase", 299, ""),
        ("header", "HTTP_X_REQUEST_ID", "X-Request-Id"),
        ("header", "CONTENT_TYPE", "Content-Type"),
        ("header", "x-seen", "x-seen"),
        ("media", "text/csv; charset=utf-8", "CSV"),
        ("media", " Application/X-NPY ", "NPY"),
        ("media", "image/" + "p" * 60, "image/" + "p" * 34),
        ("media", "a\x1bb", "a\\u001bb"),
        ("number", 1234567, "1,234,567"),
        ("number", 0.123456789, "0.123457"),
        ("number", True, "True"),
        ("number", "a\x1b", "a\\u001b"),
        ("visible", "a\u202eb\tc\r\nd", "a\\u202eb\tc\nd"),
    ],
)
def test_numbers_sizes_and_times_are_written_so(filtered: str, value: Any, text: str) -> None:
    assert wording.FILTERS[filtered](value) == text


def npy(descr: str, shape: Any, data: bytes, version: int = 1, **more: Any) -> bytes:
    header = str({"descr": descr, "fortran_order": False, "shape": shape, **more}).encode() + b"\n"
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header + data


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (npy("<f4", (2, 2), struct.pack("<4f", 1, 2, 3, 4)), [(1.0, 2.0), (3.0, 4.0)]),
        (npy(">f4", (1, 2), struct.pack(">2f", 1, 2)), [(1.0, 2.0)]),
        (npy("<f8", (2,), struct.pack("<2d", 1, 2)), [(1.0,), (2.0,)]),
        (npy("<f2", (1, 1), struct.pack("<e", 0.5)), [(0.5,)]),
        (npy("=i8", (1,), struct.pack("<q", -3)), [(-3,)]),
        (npy("<i2", (1,), struct.pack("<h", -3)), [(-3,)]),
        (npy("<i4", (1,), struct.pack("<i", -3)), [(-3,)]),
        (npy("|i1", (1,), b"\xfd"), [(-3,)]),
        (npy("|u1", (1,), b"\xfd"), [(253,)]),
        (npy("|b1", (1,), b"\x01"), [(True,)]),
        (npy("<f4", (1,), struct.pack("<f", 1), version=2), [(1.0,)]),
        (npy("<f4", (0, 2), b""), []),
        (npy("<f4", (2, 0), b""), []),
        (npy("<f4", (2, 3), b"\0" * 11), []),
        (npy("|u1", (2, 3), b"12345"), [(49, 50, 51)]),
        (npy("|u1", (1, 5), b"12345"), [(49, 50, 51, 52, 53)]),
        (npy("|u1", (1, 6), b"12345"), []),
        (npy("|u1", (9,), b"123456789"), [(49,), (50,), (51,)]),
    ],
)
def test_the_first_rows_of_an_array_are_read(content: bytes, rows: list[tuple[float, ...]]) -> None:
    numbers = read_npy(content, 3)

    assert numbers.rows == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x93NUMPY\x01\x00\x01", "no NPY file"),
        (b"PK" + b"\0" * 20, "no NPY file"),
        (npy("<c8", (1,), b""), "of another type"),
        (npy("xf4", (1,), b""), "of another type"),
        (npy("<f4", (1, 1, 1), b""), "of another shape"),
        (npy("<f4", (), b""), "of another shape"),
        (npy("<f4", (True,), b""), "of another shape"),
        (npy("<f4", (2**40,), b""), "of another shape"),
        (npy("<f4", (1,), b"")[:-1], "header that cannot be read"),
        (npy("<f4", (1,), b"", pad=" " * 4096), "header that cannot be read"),
        (npy("<f4\n\n", (1,), b"").replace(b"\\n", b"\n"), "header that cannot be read"),
    ],
)
def test_what_is_no_array_that_can_be_shown_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(NotNpy, match=said):
        read_npy(content, 3)


def test_a_number_has_as_few_digits_as_read_back_the_same() -> None:
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]

    assert [shortest(single, "<f4"), shortest(single, "<f8")] == ["0.1", "0.10000000149011612"]
    assert [shortest(3, "<i8"), shortest(-2.0, "<f8"), shortest(float("inf"), "<f4")] == ["3", "-2", "inf"]


def test_each_part_of_a_picture_has_a_colour_by_day_and_by_night() -> None:
    style = Path(page_files.__file__).with_name("static").joinpath("page.css").read_text(encoding="utf-8")

    assert sorted(re.findall(r"--part-(\d+):", style)) == sorted([str(n) for n in range(COLOURS)] * 2)


def body(start: bytes, content_type: str = "text/csv", size: int | None = None) -> Body:
    return Body(start, len(start) if size is None else size, content_type)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (body(b""), Shown(0, "text/csv")),
        (body(b"a\n\nb\n"), Shown(5, "text/csv", lines=["a", "", "b"])),
        (body(b"a\x1b\n"), Shown(3, "text/csv", lines=["a\\u001b"])),
        (body("a€".encode()[:-1], size=9), Shown(9, "text/csv", lines=[""], note="cut: the first 0 characters")),
        (body("abcde€".encode()[:-1], size=9), Shown(9, "text/csv", lines=["abc"], note="cut: the first 3 characters")),
        (body(b"a\0b"), Shown(3, "text/csv", dump=f"0000  {'61 00 62':<47}  a·b", note="not text: the first 3 bytes")),
        (body(bytes(18)), Shown(18, "text/csv", dump=f"0000  {'00 ' * 15}00  {'·' * 16}\n0010  {'00 00':<47}  ··",
                                note="not text: the first 18 bytes")),
        (body(b"\xff\x7f~"), Shown(3, "text/csv", dump=f"0000  {'ff 7f 7e':<47}  ··~",
                                   note="not UTF-8: the first 3 bytes")),
    ],
)  # fmt: skip
def test_a_payload_is_text_or_bytes(given: Body, expected: Shown) -> None:
    assert shown(given) == expected


def test_long_payloads_are_cut_and_say_so() -> None:
    lines = shown(body(b"1\n" * 201))
    exactly = shown(body(b"1\n" * 200))
    long = shown(body(b"x" * 16_001))
    dump = shown(body(bytes(range(128, 256)) * 3))

    assert (len(lines.lines), lines.note) == (200, "cut: the first 200 lines")
    assert (len(exactly.lines), exactly.note) == (200, "")
    assert (long.lines, long.note) == (["x" * 16_000], "cut: the first 16,000 characters")
    assert shown(body(b"x" * 16_000)).note == ""
    assert dump.note == "not UTF-8: the first 256 bytes"
    assert [line[:4] for line in dump.dump.splitlines()] == [f"{at:04x}" for at in range(0, 256, 16)]


def test_an_array_is_a_table_with_the_names_of_its_features() -> None:
    content = npy("<f4", (3, 2), struct.pack("<6f", 1, 2, 3, 4, 5, 6))

    named = shown(body(content, "application/x-npy"), ["f1", "f2"])
    other = shown(body(content, "text/plain"), ["f1"])
    cut = shown(body(content[:-8], "application/x-npy", size=200))
    row = shown(body(npy("<f4", (1,), struct.pack("<f", 1)), "application/x-npy"))

    assert named == Shown(len(content), "application/x-npy", columns=["f1", "f2"],
                          rows=[["1", "2"], ["3", "4"], ["5", "6"]], note="decoded from NPY: <f4, 3 by 2")  # fmt: skip
    assert other.columns == ["1", "2"]
    assert (cut.rows, cut.note) == ([["1", "2"], ["3", "4"]], "decoded from NPY: <f4, 3 by 2; the first 2 rows")
    assert (row.columns, row.rows, row.note) == (["1"], [["1"]], "decoded from NPY: <f4, 1")
    assert shown(body(b"no array", "application/x-npy")).note == "no NPY file: the first 8 bytes"


def test_a_wide_or_long_array_is_cut() -> None:
    wide = shown(body(npy("|u1", (1, 150), bytes(150)), "application/x-npy"))
    named = shown(body(npy("|u1", (1, 150), bytes(150)), "application/x-npy"), [str(n) for n in range(150)])
    long = shown(body(npy("|u1", (21,), bytes(21)), "application/x-npy"))

    assert (len(wide.columns), len(wide.rows[0]), len(named.columns)) == (100, 100, 100)
    assert (len(long.rows), long.note.rpartition("; ")[2]) == (20, "the first 20 rows")


def hop(
    container: str, status: int = 200, answered: bytes = b"1", sent: bytes = b"1\n", media: str = "text/csv"
) -> Hop:
    return Hop(container, 1.0, {}, body(sent, media), status, {}, body(answered))


def record(*hops: Hop, status: int = 200, answered: bytes = b"1", number: int = 1, request_id: str = "id",
           milliseconds: float = 4.0) -> Record:  # fmt: skip
    given = hops[0].sent if hops else Body()
    return Record(number, request_id, 0.0, "POST /", {}, given, hops, status, {}, body(answered), milliseconds)


SILENT = "it says no more than below"
REFUSAL = json.dumps({"code": "not_a_number", "message": "expected\x1b a number", "row": 2, "column": "l"}).encode()
MODEL_ERROR = b'{"ErrorCode": "SERVER_ERROR_FROM_MODEL", "Message": "m", "OriginalMessage": "timed out"}'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record(hop("a"), status=200), None),
        (record(hop("a"), status=204), None),
        (
            record(hop("a"), hop("b", 400, REFUSAL), status=424),
            ("b", "answered 400", "not_a_number", "expected\\u001b a number", 2, "l"),
        ),
        (record(hop("a", 500, b"oops"), status=424), ("a", "answered 500", "", SILENT, None, "")),
        (
            record(hop("a"), hop("b", 0, b""), status=424, answered=MODEL_ERROR),
            ("b", "gave no usable answer", "SERVER_ERROR_FROM_MODEL", "timed out", None, ""),
        ),
        (
            record(status=413, answered=b'{"Message": "too large"}'),
            ("the router", "answered 413", "", "too large", None, ""),
        ),
        (record(status=400, answered=b"[" * 99_999), ("the router", "answered 400", "", SILENT, None, "")),
        (record(hop("a", 400, b'{"row": true}'), status=424), ("a", "answered 400", "", SILENT, None, "")),
        (record(hop("a", 299), hop("b", 302), status=424), ("b", "answered 302", "", SILENT, None, "")),
    ],
)  # fmt: skip
def test_a_failure_says_who_refused_and_why(given: Record, expected: tuple[Any, ...] | None) -> None:
    failure = failure_of(given)

    assert (
        failure and (failure.by, failure.did, failure.code, failure.message, failure.row, failure.column)
    ) == expected


def test_a_failure_is_given_whole() -> None:
    refused, plain = (
        failure_of(record(hop("a", 400, REFUSAL), status=424)),
        failure_of(record(hop("a", 500, b"\xff\x1b"))),
    )

    assert refused is not None
    assert json.loads(refused.whole) == json.loads(REFUSAL)
    assert refused.whole.count("\n") == 5
    assert failure_of(record(hop("a", 400, b"oops\x1b"), status=424)).whole == "oops\\u001b"  # type: ignore[union-attr]
    assert plain is None


FAILURE = Failure("a", "answered 400", "c", "m", 2, "", "")


@pytest.mark.parametrize(
    ("given", "failure", "line"),
    [
        (hop("a", sent=b"1,2\n3,4\n"), FAILURE, 1),
        (hop("a", sent=b"sex,length\n1,2\n3,4\n"), FAILURE, 2),
        (hop("a", sent=b"sex,2\n1,2\n3,4\n"), FAILURE, 1),
        (hop("b", sent=b"1,2\n3,4\n"), FAILURE, -1),
        (hop("a", sent=b'"1",2\n3,4\n'), FAILURE, -1),
        (hop("a", sent=b"1,2\n", media="application/json"), FAILURE, -1),
        (hop("a"), None, -1),
        (hop("a"), Failure("a", "", "", "", None, "", ""), -1),
    ],
)
def test_the_wrong_line_of_csv_is_marked_where_that_is_sure(given: Hop, failure: Failure | None, line: int) -> None:
    assert marked_line(given, failure, ["sex", "length", "rings"]) == line


def test_text_is_made_visible_line_ends_aside() -> None:
    assert (
        visible("a\r\nb\rc\x00\x7f\x9f\u200e\ufeff\ud800") == "a\nb\\u000dc\\u0000\\u007f\\u009f\\u200e\\ufeff\\ud800"
    )


def seen(name: str, health: Health = Health.HEALTHY, contract: Contract | None = None) -> Seen:
    return Seen(name, "127.0.0.1", 1, health, "", 1.0, Interface(contract))


def histogram(*milliseconds: float) -> Histogram:
    whole = Histogram()
    for one in milliseconds:
        whole.add(one)
    return whole


ENDPOINT = Endpoint("e", (Container("a", "127.0.0.1", 1), Container("b", "127.0.0.1", 2)))


@pytest.mark.parametrize(
    ("healths", "worst"),
    [
        ((Health.HEALTHY, Health.HEALTHY), Health.HEALTHY),
        ((Health.HEALTHY, Health.STARTING), Health.STARTING),
        ((Health.FAILING, Health.STARTING), Health.FAILING),
    ],
)
def test_an_endpoint_is_as_healthy_as_its_worst_container(healths: tuple[Health, ...], worst: Health) -> None:
    containers = [seen(name, health) for name, health in zip("ab", healths, strict=True)]

    assert overview(ENDPOINT, containers, [], {}).health == worst


def test_times_are_shares_of_the_whole_in_the_order_of_the_chain() -> None:
    times = {WHOLE: histogram(10.0, 30.0), "b": histogram(20.0), ROUTER: histogram(10.0)}

    found = overview(ENDPOINT, [seen("a"), seen("b")], [], times)

    assert [(one.name, one.share, one.part, one.count) for one in found.timings] == [
        (ROUTER, 25.0, 0, 1),
        ("b", 50.0, 2, 1),
        (WHOLE, 100.0, 3, 2),
    ]
    assert [one.name for one in found.parts] == [ROUTER, "b"]
    assert found.timing("b") is found.timings[1]
    assert found.timing("a") is None
    whole = found.timings[2]
    assert (round(whole.p50), round(whole.p90), round(whole.p99)) == (10, 30, 30)
    assert (whole.few, overview(ENDPOINT, [], [], {WHOLE: histogram(*[1.0] * 20)}).timings[0].few) == (True, False)
    assert overview(ENDPOINT, [], [], {"a": histogram(1.0)}).timings[0].share == 0.0


def test_each_training_run_is_shown_once() -> None:
    other = Contract("other", Task.REGRESSION, COLUMNS, ("f1",), {})

    found = overview(ENDPOINT, [seen("a", contract=CONTRACT), seen("b", contract=other), seen("c", contract=CONTRACT),
                                seen("d")], [], {})  # fmt: skip

    assert list(found.runs) == [CONTRACT.hash, other.hash]


def test_what_the_last_request_carried_stands_between_the_containers() -> None:
    whole, half = (
        record(hop("a", sent=b"x"), hop("b", sent=b"y"), answered=b"z"),
        record(hop("a", sent=b"x"), answered=b"!"),
    )
    containers = [seen("a"), seen("b")]

    carried = [
        [one and one.start for one in overview(ENDPOINT, containers, records, {}).passed]
        for records in ([record(), whole, half], [half], [record()], [])
    ]

    assert carried == [[b"x", b"y", b"z"], [b"x", None, b"!"], [None] * 3, [None] * 3]


def test_a_requests_time_has_parts() -> None:
    parts = parts_of(record(hop("a"), hop("b"), milliseconds=8.0))

    assert [(one.name, one.share, one.part) for one in parts] == [(ROUTER, 75.0, 0), ("a", 12.5, 1), ("b", 12.5, 2)]
    assert [one.share for one in parts_of(record(hop("a"), milliseconds=0.0))] == [0.0, 100.0]
    assert record(hop("a"), hop("b"), milliseconds=1.0).own_milliseconds == 0.0


def test_the_last_of_several_requests_of_an_id_has_its_address() -> None:
    records = [record(number=3, request_id="a b"), record(number=2), record(number=1, request_id="a b")]
    address = addresses(records)

    assert [address(one) for one in records] == ["/requests?id=a+b", "/requests?id=id", "/requests?id=a+b&number=1"]


def call(container: str, sent: bytes, given: Answer | None, **headers: str) -> Call:
    return Call(container, headers, sent, given, 1.5)


def test_a_request_is_kept_with_each_payload_once() -> None:
    history = History(2)
    passed = b"features" * 10_000
    first = Answer(200, {"content-type": "a/b", "x": "v" * 9000}, passed)
    calls = [call("a", b"rows", first, **{"Content-Type": "text/csv"}), call("b", passed, None)]

    history.add(
        "id", "POST /invocations", {"HTTP_X": "v" * 9000, "HTTP_COOKIE": "secret"}, calls, (424, {}, body(b"no")), 9.0
    )

    (kept,) = history.records()
    one, two = kept.hops
    assert (one.status, two.status) == (200, 0)
    assert two.sent is one.answered
    assert (kept.given, kept.given.content_type) == (one.sent, "text/csv")
    assert (len(two.sent.start), two.sent.size, two.sent.cut, one.sent.cut) == (KEPT_PAYLOAD, 80_000, True, False)
    assert two.answered == Body()
    assert {name: len(value) for name, value in kept.headers.items()} == {"HTTP_X": KEPT_HEADER + 1}
    assert len(one.answered_headers["x"]) == KEPT_HEADER + 1
    assert one.answered_headers["content-type"] == "a/b"
    assert kept.at <= time.time()
    assert 2048 + KEPT_PAYLOAD < kept.size < 2048 + KEPT_PAYLOAD + 4000
    assert history.of("id") == [kept]
    assert history.of("other") == []


def test_payloads_that_are_equal_but_not_the_same_are_kept_apart() -> None:
    calls = [call("a", b"x", Answer(200, {}, b"same")), call("b", bytes(bytearray(b"same")), None)]
    history = History(2)
    history.add("id", "POST", {}, calls, (200, {}, Body()), 1.0)

    one, two = history.records()[0].hops
    assert two.sent is not one.answered


def test_the_newest_requests_stay_and_have_numbers() -> None:
    history = History(2)
    for name in ("a", "b", "c"):
        history.add(name, "POST", {}, [], (200, {}, Body()), 1.0)
    history.turn_away()

    assert [(one.request_id, one.number) for one in history.records()] == [("c", 3), ("b", 2)]
    assert (history.turned_away, history.latencies.recent()[WHOLE].count) == (1, 3)


def test_durations_are_counted_in_their_minute() -> None:
    now = [59.0]
    latencies = Latencies(lambda: now[0])
    latencies.add({"a": 1.0})
    now[0] = 60.0
    latencies.add({"a": 3.0, "b": 1.0})
    both = latencies.recent()
    now[0] = 15 * 60.0
    later = latencies.recent()
    now[0] = 16 * 60.0

    assert (both["a"].count, both["a"].total, both["b"].count) == (2, 4.0, 1)
    assert (later["a"].count, later["a"].total) == (1, 3.0)
    assert latencies.recent() == {}
    assert Histogram().percentile(0.5) == 0.0


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    (tmp_path / "test.csv").write_text('rings,length,sex\n1,0.5,"M"\n2,,"F, x"\n3,0.7,I\n', encoding="utf-8")
    return tmp_path


def test_a_sample_is_two_of_the_test_rows(artifacts: Path) -> None:
    assert Files(artifacts).sample(CONTRACT) == 'sex,length\nM,0.5\n"F, x",\n'


@pytest.mark.parametrize("content", ["", "other\n1\n", "sex,length\n1\n", '"' + "x" * 200_000, None])
def test_without_test_rows_of_its_columns_a_sample_is_made_up(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "test.csv").write_text(content, encoding="utf-8")

    expected = "sex,length\n" if content == "" else "sex,length\nF,1\n"
    assert Files(tmp_path).sample(CONTRACT) in (expected, "sex,length\n1,\n")
    assert Files().sample(CONTRACT) == "sex,length\nF,1\n"


def test_abalone_and_nobody_have_rows_of_their_own() -> None:
    known = (page_files._SAMPLES).read_text(encoding="utf-8").splitlines(keepends=True)[:2]
    abalone = Contract("abalone", Task.REGRESSION, COLUMNS, ("f1",), {})
    odd = Contract("d", Task.REGRESSION, (Column("a\x1b", ColumnType.NUMERIC), COLUMNS[2]), ("f",), {})

    assert Files().sample(None) == Files().sample(abalone) == "".join(known)
    assert Files().sample(odd) == ""


@pytest.mark.parametrize(
    ("cell", "written"),
    [("a", "a"), ("a,b", '"a,b"'), ('a"b', '"a""b"'), ("a\nb", '"a\nb"'), ("a\rb", '"a\rb"'), ("", "")],
)
def test_cells_are_quoted_as_csv_has_it(cell: str, written: str) -> None:
    assert page_files._csv([[cell, "x"]]) == f"{written},x\n"


def test_lines_of_a_request_are_its_last_hundred_in_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"time": f"{n:03}", "request_id": "id"}) for n in range(120)]
    (tmp_path / "a.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "b.log").write_text(json.dumps({"time": "000", "request_id": "id", "program": "lies"}) + "\n")
    files = Files(logs=tmp_path)

    found = files.log_lines(["a", "b", "none"], "id") or []
    monkeypatch.setattr(page_files, "MOST_LOG", len(lines[0]) * 2)
    few = files.log_lines(["a"], "id") or []

    assert (len(found), found[0], found[1]["time"]) == (100, {"time": "000", "request_id": "id", "program": "b"}, "020")
    assert [line["time"] for line in few] == ["119"]
    assert files.log_lines(["none"], "id") is None
    assert Files().log_lines(["a"], "id") is None


def test_pictures_are_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "predicted_vs_actual.png").write_bytes(b"png")
    (tmp_path / "feature_importance.png").mkdir()
    files = Files(tmp_path)

    assert files.pictures() == ["predicted_vs_actual.png"]
    assert files.picture("predicted_vs_actual.png") == b"png"
    assert files.picture("feature_importance.png") is None
    assert files.pictures(CONTRACT) == []
    (tmp_path / "report.txt").write_text(f"d\nTraining run {CONTRACT.hash[:12]}, rows 0123\n")
    assert files.pictures(CONTRACT) == ["predicted_vs_actual.png"]
    assert files.pictures(replace(CONTRACT, dataset="another")) == []
    assert (Files().pictures(), Files().picture("predicted_vs_actual.png")) == ([], None)


def test_the_form_holds_a_kept_request_or_a_sample() -> None:
    first, last = Interface(CONTRACT, accepts=("text/csv",)), Interface(answers=("a/b",))
    kept = Record(
        1, "id", 0.0, "POST", {"CONTENT_TYPE": "a", "HTTP_ACCEPT": "b"}, body(b"x\xff"), (), 200, {}, Body(), 1.0
    )
    cut = Record(1, "id", 0.0, "POST", {"CONTENT_TYPE": "a"}, body(b"x", size=9), (), 200, {}, Body(), 1.0)

    forms = [filled(first, last, Files(), again) for again in (None, kept, cut)]
    unknown = filled(Interface(), Interface(), Files(), None)

    assert [(form.content_type, form.accept, form.body) for form in forms] == [
        ("text/csv", "application/json", "sex,length\nF,1\n"),
        ("a", "b", "x\ufffd"),
        ("text/csv", "application/json", "sex,length\nF,1\n"),
    ]
    assert {(form.takes, form.gives) for form in forms} == {(("text/csv",), ("a/b",))}
    assert (len(unknown.takes), len(unknown.gives)) == (3, 4)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("a.localhost:80", True), ("127.0.0.1:80", True), ("[::1]", True), ("10.0.0.1", False),
     ("", False), ("[::1", False), ("local_host", False), ("localhost" * 30, False), ("0.0.0.0", False),
     ("a" * 245 + ".localhost", True), ("a" * 246 + ".localhost", False)],
)  # fmt: skip
def test_only_names_of_this_machine_are_local(host: str, local: bool) -> None:
    assert is_local(host) is local


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"HTTP_ORIGIN": "http://h"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://h"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://other"}, False),
        ({"HTTP_SEC_FETCH_SITE": "none", "HTTP_ORIGIN": "http://h"}, False),
        ({"HTTP_ORIGIN": "https://h"}, False),
        ({}, False),
    ],
)
def test_only_a_browser_that_says_so_sends_from_the_page(headers: Mapping[str, str], ours: bool) -> None:
    assert is_from_the_page(headers, "h") is ours


@pytest.fixture
def container() -> Iterator[ScriptedContainer]:
    with ScriptedContainer() as one:
        yield one


def look(*containers: ScriptedContainer) -> list[Seen]:
    endpoint = Endpoint("e", tuple(Container(str(n), "127.0.0.1", one.port) for n, one in enumerate(containers)))
    found = Probe(endpoint).look()
    endpoint.close()
    return found


@pytest.mark.parametrize(
    ("ping", "health", "reason"),
    [
        (answer(b""), Health.HEALTHY, ""),
        (answer(b'{"message": "wait"}', status=503), Health.STARTING, "its ping answered 503: wait"),
        (answer(b"", status=503), Health.STARTING, "its ping answered 503: no reason"),
        (answer(b"[5]" * 200, status=500), Health.FAILING, "its ping answered 500: " + ("[5]" * 200)[:300]),
        (
            answer(json.dumps({"message": "x" * 400}).encode(), status=500),
            Health.FAILING,
            "its ping answered 500: " + "x" * 300,
        ),
        (answer(b"y" * 400, status=504), Health.FAILING, "its ping answered 504: " + "y" * 300),
        (raw(b""), Health.FAILING, "the connection was lost before the answer was complete"),
        (answer(b"x" * 70_000), Health.FAILING, "70000"),
    ],
)
def test_the_health_of_a_container_is_that_of_its_ping(
    container: ScriptedContainer, ping: Reply, health: Health, reason: str
) -> None:
    container.ping = ping

    (one,) = look(container)

    assert (one.health, one.reason.endswith(reason)) == (health, True), one
    assert (one.name, one.host, one.port, one.milliseconds > 0) == ("0", "127.0.0.1", container.port, True)


def document(**changed: Any) -> dict[str, Any]:
    whole = {"contract": json.loads(CONTRACT.to_json()), "reads": ["sex"], "accepts": ["text/csv", "a\r\nb", "é"],
             "answers": ["a/b"], "max_body_bytes": 100}  # fmt: skip
    return {name: value for name, value in (whole | changed).items() if value is not None}


def test_a_contract_is_read_without_what_no_header_could_have(container: ScriptedContainer) -> None:
    container.reply = answer(json.dumps(document()).encode(), "application/json")

    (one,) = look(container)

    assert one.interface == Interface(CONTRACT, ("sex",), ("text/csv",), ("a/b",), 100)


@pytest.mark.parametrize("most", [0, 2**63 - 1])
def test_a_contract_of_four_mebibytes_is_read_with_any_size_of_a_body(container: ScriptedContainer, most: int) -> None:
    container.reply = answer(json.dumps(document(max_body_bytes=most)).encode().ljust(4 * 1024 * 1024))

    (one,) = look(container)

    assert (one.interface.max_body, one.interface.problem) == (most, "")


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (answer(b"", status=404), "GET /contract answered 404"),
        (raw(b""), "GET /contract: the connection was lost"),
        (answer(b"x" * (4 * 1024 * 1024 + 1)), f"GET /contract: {4 * 1024 * 1024 + 1}"),
        (answer(b"{"), "something else than a contract (JSONDecodeError)"),
        (answer(b"[]"), "something else than a contract (TypeError)"),
        (answer(json.dumps(document(reads=None)).encode()), "something else than a contract (KeyError)"),
        (answer(json.dumps(document(max_body_bytes=-1)).encode()), "something else than a contract (ValueError)"),
        (answer(json.dumps(document(max_body_bytes=2**63)).encode()), "something else than a contract (ValueError)"),
        (answer(json.dumps(document(contract={})).encode()), "something else than a contract (BadArtifact)"),
    ],
)
def test_a_contract_that_cannot_be_read_is_a_problem(container: ScriptedContainer, reply: Reply, problem: str) -> None:
    container.reply = reply

    (one,) = look(container)

    assert one.health == Health.HEALTHY
    assert (one.interface.contract, problem in one.interface.problem) == (None, True), one.interface


def test_a_contract_is_asked_for_again_once_it_is_not_fresh(
    container: ScriptedContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint("e", (Container("a", "127.0.0.1", container.port),))
    probe = Probe(endpoint)
    container.ping = answer(b"", status=503)
    before = probe.look()[0].interface.problem
    container.ping = answer(b"")
    for _ in range(3):
        probe.look()
    fresh = len(container.asked)
    monkeypatch.setattr(page_probe, "FRESH", -1.0)
    probe._known.clear()
    for _ in range(3):
        probe.look()
    endpoint.close()

    assert before == "it was not healthy yet"
    assert (fresh, len(container.asked)) == (1, 4)


def test_a_contract_is_fresh_for_a_minute_and_a_ping_is_timed_in_milliseconds(
    container: ScriptedContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, ticks = [float(int(time.monotonic()) + 10)], iter([1.0, 1.25] * 3)
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: next(ticks))
    monkeypatch.setattr(page_probe, "time", clock)
    endpoint = Endpoint("e", (Container("a", "127.0.0.1", container.port),))
    probe = Probe(endpoint)

    asked, took = [], []
    for later in (0.0, 59.5, 0.5):
        now[0] += later
        took.append(probe.look()[0].milliseconds)
        asked.append(len(container.asked))
    endpoint.close()

    assert (asked, took) == ([1, 1, 2], [250.0] * 3)


def test_headers_of_8192_characters_are_kept_whole_and_of_longer_ones_256_each() -> None:
    history = History(9)
    for values in (("a" * 4096, "b" * 4096), ("a" * 256, "b" * 7937)):
        headers = dict(zip("AB", values, strict=True))
        history.add("id", "POST", headers, [], (200, headers, Body()), 1.0)

    more, whole = history.records()
    assert (whole.headers, whole.answered_headers) == ({"A": "a" * 4096, "B": "b" * 4096},) * 2
    assert (more.headers, more.answered_headers) == ({"A": "a" * 256, "B": "b" * 256 + "…"},) * 2


def test_64_kibibytes_of_a_payload_are_kept() -> None:
    whole, more = Body.of(b"x" * 65_536, "a/b"), Body.of(b"x" * 65_537, "a/b")

    assert [(len(one.start), one.size, one.cut) for one in (whole, more)] == [
        (65_536, 65_536, False), (65_536, 65_537, True)
    ]  # fmt: skip


def test_requests_are_kept_up_to_32_mebibytes_in_all() -> None:
    empty = History(1)
    empty.add("id", "POST", {}, [], (200, {}, Body()), 1.0)
    own = empty.records()[0].size
    rest = 32 * 1024 * 1024 - 2 * own

    kept = []
    for more in (0, 1):
        history = History(9)
        history.add("a", "POST", {}, [], (200, {}, Body(bytes(rest))), 1.0)
        history.add("b", "POST", {}, [], (200, {}, Body(bytes(more))), 1.0)
        kept.append([one.request_id for one in history.records()])

    assert kept == [["b", "a"], ["b"]]


def test_the_size_of_a_request_has_all_that_it_holds() -> None:
    def size(headers: Mapping[str, str], *calls: Call, answered: Mapping[str, str] = MappingProxyType({})) -> int:
        history = History(1)
        history.add("id", "POST", headers, calls, (200, answered, Body(b"12345")), 1.0)
        return history.records()[0].size

    own = size({}) - 5
    assert own == 2048
    assert size({"A": "123"}) == own + 5 + 128 + 3
    assert size({}, answered={"A": "123", "B": ""}) == own + 5 + 2 * 128 + 3
    assert size({}, call("a", b"sent", Answer(200, {"x": "12"}, b"got"), y="1")) == own + 5 + 4 + 3 + 2 * 128 + 3


def test_of_19_durations_percentiles_are_few_and_the_longest_are_four_minutes_and_a_half() -> None:
    few, enough = (overview(ENDPOINT, [], [], {WHOLE: histogram(*[1.0] * n)}).timings[0].few for n in (19, 20))

    assert (few, enough) == (True, False)
    assert histogram(1e9).percentile(0.5) == pytest.approx(2**28 / 1000)


def test_the_last_8_mebibytes_of_a_log_are_searched(tmp_path: Path) -> None:
    line = json.dumps({"time": "1", "request_id": "id"}).encode() + b"\n"
    for name, size in (("within", 8 * 1024 * 1024), ("before", 8 * 1024 * 1024 + 1)):
        with (tmp_path / f"{name}.log").open("wb") as file:
            file.write(line)
            file.truncate(size)
    files = Files(logs=tmp_path)

    assert [len(files.log_lines([name], "id") or []) for name in ("within", "before")] == [1, 0]


def test_lines_of_several_logs_are_a_hundred_in_all(tmp_path: Path) -> None:
    for name in "ab":
        lines = [json.dumps({"time": f"{n:03}{name}", "request_id": "id"}) for n in range(60)]
        (tmp_path / f"{name}.log").write_text("\n".join(lines) + "\n")

    found = Files(logs=tmp_path).log_lines(["a", "b"], "id") or []

    assert (len(found), found[0]["time"], found[-1]["time"]) == (100, "000a", "049b")


def test_an_array_may_have_a_header_of_4096_bytes_and_very_many_rows() -> None:
    header = str({"descr": "|u1", "fortran_order": False, "shape": (2**40 - 1,)})
    for length in (4096, 4097):
        content = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + header.ljust(length).encode() + b"\x07"
        if length == 4096:
            assert (read_npy(content, 3).shape, read_npy(content, 3).rows) == ((2**40 - 1,), [(7,)])
        else:
            with pytest.raises(NotNpy, match="header that cannot be read"):
                read_npy(content, 3)


def test_bytes_that_can_be_printed_are_those_from_space_to_tilde() -> None:
    assert shown(body(b"\0\x1f \x7e\x7f")).dump.endswith("  ·· ~·")
