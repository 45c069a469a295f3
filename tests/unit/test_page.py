"""The endpoint's page: the requests that it shows, and what it keeps from whom."""

from __future__ import annotations

import json
import math
import random
import re
import struct
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from local_test.config import RouterConfig
from local_test.connection import Answer
from local_test.container import Container
from local_test.endpoint import Call, Endpoint, Limits
from local_test.page.files import Files, log_command
from local_test.page.history import KEPT_HEADER, KEPT_IN_ALL, KEPT_PAYLOAD, ROUTER, WHOLE, Body, History
from local_test.page.latency import FEW, MINUTES, Latencies
from local_test.page.npy import NotNpy, read_npy, shortest
from local_test.page.views import Page
from local_test.router import create_app
from serving.contract import Column, ColumnType, Contract, Task
from serving.settings import BadSetting
from tests.scripted_container import ScriptedContainer, answer

HTML = {"Accept": "text/html"}
SAME = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
NPY = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".ljust(117) + b"\n"
REFUSAL = json.dumps({"code": "not_a_number", "message": "expected <b>", "row": 1, "column": "a&b"}).encode()


class Outline(HTMLParser):
    """What a document is made of. Fails where an element is not closed in its place."""

    VOID = ("meta", "link", "img", "input", "br", "rect", "option")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(attributes) == len(dict(attributes)), tag
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] or "" for _, found in self.tags if attribute in found]


@pytest.fixture
def containers() -> Iterator[tuple[ScriptedContainer, ScriptedContainer]]:
    with (
        ScriptedContainer(answer(NPY + struct.pack("<6f", 1, 2, 3, 4, 5, 6.5), "application/x-npy")) as featurizer,
        ScriptedContainer(answer(b'{"result":[9.5]}', "application/json")) as predictor,
    ):
        yield featurizer, predictor


ClientOf = Callable[..., FlaskClient]


@pytest.fixture
def client_of(containers: tuple[ScriptedContainer, ScriptedContainer]) -> Iterator[ClientOf]:
    row = tuple(
        Container(name, "127.0.0.1", one.port)
        for name, one in zip(("featurizer", "predictor"), containers, strict=True)
    )
    endpoint = Endpoint("abalone", row, Limits(seconds=5))

    def make(most: int = 100, files: Files | None = None) -> FlaskClient:
        app = create_app(endpoint)
        Page(endpoint, History(most), files or Files()).install(app)
        return app.test_client()

    yield make
    endpoint.close()


@pytest.fixture
def client(client_of: ClientOf) -> FlaskClient:
    return client_of()


def send(client: FlaskClient, body: bytes = b"M,0.4\n", request_id: str = "one", **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client.post(
        "/invocations", data=body, content_type="text/csv", headers={"X-Request-Id": request_id, **named}
    ).close()


def test_the_form_offers_what_the_first_container_reads_and_the_last_one_answers(
    client: FlaskClient, containers: tuple[ScriptedContainer, ScriptedContainer]
) -> None:
    contract = json.loads(Contract("plants", Task.REGRESSION, (Column("a", ColumnType.NUMERIC),), ("a",), {}).to_json())
    for container, reads, answers in zip(containers, ("x/first", "x/between"), ("x/between", "x/last"), strict=True):
        document = {"contract": contract, "reads": [], "accepts": [reads], "answers": [answers], "max_body_bytes": 1}
        container.reply = answer(json.dumps(document).encode(), "application/json")

    offered = Outline(client.get("/", headers=HTML).text).values("value")

    assert [one for one in offered if one.startswith("x/")] == ["x/first", "x/last"]


def page(client: FlaskClient, path: str = "/") -> str:
    response = client.get(path, headers=HTML)
    assert response.status_code == 200, response.text
    return response.text


def test_a_browser_gets_the_page_and_everybody_else_what_they_got_before(client):
    shown = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    told = client.get("/", headers={"Accept": "*/*"})

    assert (shown.status_code, shown.mimetype) == (200, "text/html")
    assert (told.status_code, told.json["code"]) == (404, "not_found")
    assert client.get("/ping").status_code == 200


def test_a_request_is_shown_with_what_went_in_and_out_of_each_container(client):
    send(client)

    shown = page(client, "/requests?id=one")

    assert ">M,0.4<" in shown.replace("\n", "")
    assert re.findall(r"<td>([\d.]+)</td>", shown) == ["1", "2", "3", "4", "5", "6.5"] * 2
    assert "decoded from NPY: &lt;f4, 2 by 3" in shown
    assert "{&#34;result&#34;:[9.5]}" in shown
    assert shown.index('id="hop-1">featurizer') < shown.index('id="hop-2">predictor')


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (struct.unpack("f", struct.pack("f", 11.9538765))[0], "<f4", "11.9538765"),
        (struct.unpack("f", struct.pack("f", 3.4028234e38))[0], "<f4", "3.4028235e+38"),
        (0.1, "<f8", "0.1"),
        (100.0, "<f4", "100"),
        (65504.0, "<f2", "65500"),
        (math.nan, "<f4", "nan"),
        (2**60 + 1, "<i8", "1152921504606846977"),
        (True, "|b1", "True"),
    ],
)
def test_a_number_of_an_array_is_shown_as_json_has_it(value, dtype, text):
    assert shortest(value, dtype) == text


def test_a_line_that_is_too_long_to_be_shown_is_said_to_be_cut(client):
    send(client, b"9" * 20_000 + b"\nM,0.4\n")

    assert "cut: the first 16,000 characters" in page(client, "/requests?id=one")


def test_nothing_that_a_client_or_a_container_sends_becomes_markup(client, containers):
    evil = "</pre><script>alert(1)</script>"
    containers[0].reply = answer(REFUSAL, "<i>/json", 400, X_Evil=evil)
    send(client, evil.encode() + b"\x1b[31m \xe2\x80\xae", "'\"><script>", X_Amzn_SageMaker_Custom_Attributes=evil)

    texts = [
        page(client),
        page(client, "/requests?id=%27%22%3E%3Cscript%3E"),
        page(client, "/?id=%27%22%3E%3Cscript%3E"),
    ]

    for text in texts:
        Outline(text)
        assert "&lt;script&gt;" in text
        assert "<script>" not in text
        assert "<b>" not in text
        assert "<i>" not in text
    assert "\\u001b[31m \\u202e" in texts[1]
    assert "row <strong>1</strong>, column <code>a&amp;b</code>" in texts[1]


EVIL = "</td><script>alert(1)</script>'\"&{{7*7}}\x1b[31m\u202e"
LABEL = Column("y", ColumnType.LABEL)
HOSTILE: dict[str, Contract] = {
    "markup": Contract(
        EVIL, Task.BINARY, (Column(EVIL, ColumnType.CATEGORICAL, (EVIL,)), Column("y", ColumnType.LABEL, (EVIL, "n"))),
        (EVIL,), {"rows": EVIL, "seed": EVIL},
        {"metrics": {EVIL: {EVIL: EVIL}, "model": {EVIL: [EVIL]}}, "test_rows": EVIL,
         "search": {"chosen": {"parameters": {EVIL: EVIL}, "rounds": EVIL}}},
    ),
    "other types": Contract(
        "d", Task.REGRESSION, (LABEL,), (), {"rows": 1.5e300, "seed": 10**4000, "versions": {}},
        {"metrics": {"items": {"values": 1}, "model": {"a": {}, "b": [1]}, "values": {}}, "test_rows": [],
         "search": {"chosen": {"parameters": {"a": [1]}, "rounds": []}}},
    ),
    "a search of another shape": Contract(
        "d", Task.REGRESSION, (Column("", ColumnType.NUMERIC), LABEL), ("a\nb",), {}, {"search": {"chosen": []}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("most", [b"100", b"-5", b"1e999", b"9" * 400, b"[]"])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_contract_becomes_markup_or_breaks_the_page(client, containers, name, most):
    media = json.dumps([EVIL])
    told = f'"contract": {HOSTILE[name].to_json()}, "reads": {media}, "accepts": {media}, "answers": {media}'.encode()
    containers[0].reply = containers[1].reply = answer(b'{"max_body_bytes": %b, %b}' % (most, told), "application/json")
    send(client)

    texts = [page(client), page(client, "/?id=one"), page(client, "/requests?id=one")]

    dataset = {"markup": "&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;&#34;&amp;{{7*7}}\\u001b[31m\\u202e"}
    read = f'<p class="lead">{dataset.get(name, "d")}: {HOSTILE[name].task.value} of y'
    assert (read if most == b"100" else "No contract: GET /contract answered something else") in texts[0]
    for text in texts:
        Outline(text)
        assert not any(mark in text for mark in ("<script>alert", "\x1b", "\u202e", "'\"&49"))


def test_the_document_is_well_formed_and_labelled(client_of, containers, tmp_path):
    (tmp_path / "feature_importance.png").write_bytes(b"\x89PNG")
    client = client_of(files=Files(tmp_path))
    send(client)
    containers[1].reply = answer(REFUSAL, "application/json", 400)
    send(client, request_id="two")

    for path, pictures in (("/", 2), ("/requests?id=one", 1), ("/requests?id=two", 1)):
        outline = Outline(page(client, path))
        ids, labelled = outline.values("id"), outline.values("for") + outline.values("aria-labelledby")
        assert len(ids) == len(set(ids))
        assert set(labelled) <= set(ids)
        inputs = [found["id"] for tag, found in outline.tags if tag in ("input", "textarea")]
        assert set(inputs) <= set(outline.values("for"))
        assert [tag for tag, _ in outline.tags].count("h1") == 1
        assert outline.values("style") == []
        assert [found["lang"] for tag, found in outline.tags if tag == "html"] == ["en"]
        assert ["alt" in found for tag, found in outline.tags if tag == "img"] == [True] * pictures


def test_an_array_that_was_cut_shows_the_rows_that_are_there():
    whole = NPY + struct.pack("<6f", 1, 2, 3, 4, 5, 6.5)

    assert read_npy(whole, 1).rows == [(1, 2, 3)]
    assert read_npy(whole[:-5], 20).rows == [(1, 2, 3)]
    assert read_npy(whole.replace(b"(2, 3)", b"(7, 3)"), 20).shape == (7, 3)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        b"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': 5}",
        b"__import__('os').abort()",
        b"((((((((((",
        b"[]",
        b"\xff\xfe",
    ],
)
def test_bytes_that_are_no_plain_array_are_shown_as_bytes(client, containers, header):
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    containers[0].reply = answer(body, "application/x-npy")
    send(client)

    with pytest.raises(NotNpy):
        read_npy(body, 20)
    assert "0000  93 4e 55 4d 50 59" in page(client, "/requests?id=one")


def test_a_refusal_is_shown_in_full_with_its_row_and_the_wrong_line(client, containers):
    containers[0].reply = answer(REFUSAL.replace(b'"row": 1', b'"row": 2'), "application/json", 400)
    send(client, b"M,1\nF,short\n")

    shown = page(client, "/requests?id=one")

    assert "featurizer answered 400 <code>not_a_number</code>" in shown
    assert '<mark title="not_a_number">F,short</mark>' in shown
    assert "featurizer not_a_number</strong>, row 2, column a&amp;b: expected &lt;b&gt;" in page(client)
    assert 'id="hop-2"' not in shown


def test_a_container_that_is_gone_or_not_ready_breaks_nothing(client, containers):
    featurizer, predictor = containers
    featurizer.stop()
    predictor.ping = answer(b'{"message": "expected every worker"}', "application/json", 503)
    send(client)

    shown = page(client)

    assert f"nothing listens on port {featurizer.port}" in shown
    assert "its ping answered 503: expected every worker" in shown
    assert "No container has said yet what it expects" in shown
    one = page(client, "/requests?id=one")
    assert "featurizer gave no usable answer" in one
    assert "An error occurred while handling request: connection refused" in one


def test_a_contract_is_asked_for_again_when_its_container_was_away(client, containers):
    page(client)
    page(client)
    containers[0].ping = answer(b"", status=503)
    page(client)
    containers[0].ping = answer(b"")
    page(client)

    assert [[asked.path for asked in one.asked] for one in containers] == [["/contract"] * 2, ["/contract"]]


def test_what_the_router_itself_refuses_is_shown_too(client):
    client.post("/endpoints/other/invocations", data=b"x", headers={"X-Request-Id": "one"}).close()

    shown = page(client, "/requests?id=one")

    assert "the router answered 400" in shown
    assert "Endpoint other of account 123456789012 not found." in shown
    assert "The router refused it before any container was called" in shown


def test_the_form_sends_what_any_client_would(client, containers):
    form = {"content_type": "text/csv", "accept": "application/json", "body": "M,0.4\r\nF,0.5"}
    sent = client.post("/requests", data=form, headers=SAME)

    asked = containers[0].asked[0]
    assert sent.status_code == 303
    assert (asked.body, asked.headers["content-type"]) == (b"M,0.4\nF,0.5", "text/csv")
    assert containers[1].asked[0].headers["accept"] == "application/json"
    assert asked.headers["x-amzn-sagemaker-inference-id"] in sent.headers["Location"]
    assert "[9.5]" in page(client, sent.headers["Location"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "none"},
        {**SAME, "Host": "evil.example"},
    ],
)
def test_a_form_of_another_page_is_refused(client, containers, headers):
    response = client.post("/requests", data={"body": "M,0.4", "content_type": "text/csv"}, headers=headers)

    assert response.status_code == 403
    assert containers[0].asked == []
    if headers in ({}, {"Sec-Fetch-Site": "none"}):  # the others the router has refused already
        assert "Not sent from this page" in response.text
        assert "Programs send to http://localhost/invocations." in response.text


@pytest.mark.parametrize("name", ["content_type", "accept"])
def test_a_type_in_the_form_has_at_most_1024_characters(client, containers, name):
    form = {"content_type": "text/csv", "accept": "application/json", "body": "M,0.4"}

    most, more, unseen = (
        client.post("/requests", data={**form, name: value}, headers=SAME) for value in ("a" * 1024, "a" * 1025, "\t")
    )

    assert (most.status_code, len(containers[0].asked)) == (303, 1)
    for response in (more, unseen):
        assert (response.status_code, response.mimetype) == (400, "text/html")
        assert "The form cannot be sent" in response.text
        assert f"expected at most 1,024 visible ASCII characters as {name}." in response.text


def test_a_form_has_at_most_ten_fields_and_three_mebibytes(client, containers):
    form = {"content_type": "text/csv", "body": "M,0.4"}
    ten, eleven = (
        client.post("/requests", data=form | {f"x{n}": "1" for n in range(more)}, headers=SAME) for more in (8, 9)
    )
    large = client.post("/requests", headers=SAME, environ_overrides={"CONTENT_LENGTH": str(3 * 1024 * 1024 + 1)})

    assert (ten.status_code, eleven.status_code, large.status_code) == (303, 400, 413)
    assert "expected the fields of this page&#39;s form." in eleven.text
    assert "expected a body of at most 3145728 bytes, got 3145729." in large.text
    assert len(containers[0].asked) == 1


def test_ten_requests_are_listed_until_all_are_asked_for(client):
    for number in range(11):
        send(client, request_id=f"request-{number}")

    few, every = page(client), page(client, "/?all=1")

    assert [len(re.findall(r">request-\d+<", text)) for text in (few, every)] == [10, 11]
    assert "10 of 11 kept" in few
    assert 'href="/?all=1#requests">Show all 11<' in few
    assert "Show all" not in every


def test_a_request_is_kept_with_200_characters_of_its_path(client):
    path = f"/endpoints/{'n' * 300}/invocations"

    client.post(path, data=b"x", headers={"X-Request-Id": "one"}).close()

    shown = page(client, "/requests?id=one")
    assert f"POST {path[:200]}<" in shown.replace("\n", "")
    assert path[:201] not in shown


@pytest.mark.parametrize(
    ("name", "media"), [("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
)
def test_the_pages_own_files_have_their_types_and_others_are_not_found(client, name, media):
    assert (client.get(f"/page/{name}").status_code, client.get(f"/page/{name}").mimetype) == (200, media)
    assert client.get(f"/page/{name}x").status_code == 404
    assert client.post(f"/page/{name}").status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "10.0.0.1", "router", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_the_page_is_shown_under_this_machines_names_only(client, host):
    send(client, b"secret\n")

    for path in ("/", "/requests?id=one", "/page/page.css"):
        response = client.get(path, headers={**HTML, "Host": host})
        assert response.status_code == 403
        assert "secret" not in response.text


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "abalone.localhost"])
def test_each_of_this_machines_names_will_do(client, host):
    assert client.get("/", headers={**HTML, "Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/requests?id=one", "/requests?id=other", "/page/page.css"])
def test_every_page_forbids_what_it_does_not_need_itself(client, path):
    send(client)

    headers = client.get(path, headers=HTML).headers

    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    names = ("Referrer-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy")
    assert [headers[name] for name in names] == ["same-origin"] * 3
    assert headers["Cache-Control"] == ("max-age=86400" if path.endswith("css") else "no-store")


def test_what_lets_somebody_in_elsewhere_is_not_kept(client):
    send(client, Authorization="AWS4 key", Cookie="session", X_Amz_Security_Token="token", X_Amz_Date="today")  # noqa: S106

    shown = page(client, "/requests?id=one")

    assert "<dt>X-Amz-Date</dt><dd>today</dd>" in shown
    assert not re.search("AWS4 key|session|token<", shown)


def test_an_id_that_came_twice_has_a_page_for_each(client):
    send(client, b"first\n")
    send(client, b"second\n")

    last, (address,) = (
        page(client, "/requests?id=one"),
        re.findall(r'href="(/requests\?id=one&amp;number=1)"', page(client)),
    )

    assert "second" in last
    assert "This id came 2 times" in last
    assert "first" in page(client, address.replace("&amp;", "&"))


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_requests_of_other_sites_pages_are_counted_and_push_nobody_out(client_of, containers, headers):
    client = client_of(2)
    send(client, request_id="mine")

    for number in range(3):
        send(client, b"secret\n", f"foreign-{number}", **headers)

    assert [asked.body for asked in containers[0].asked] == [b"M,0.4\n"]
    shown = page(client)
    assert re.findall(r"<a class=\"mono\".*>(.*)</a>", shown) == ["mine"]
    assert "Refused with 403 and not kept: 3 that" in shown


def test_a_containers_own_403_is_kept(client, containers):
    containers[0].reply = answer(b'{"code": "forbidden"}', "application/json", 403)
    send(client)

    shown = page(client)

    assert "featurizer forbidden" in shown
    assert "not kept" not in shown


def test_percentiles_are_muted_until_there_are_enough_requests(client):
    for number in range(FEW - 1):
        send(client, request_id=f"request-{number}")
    muted = page(client)
    send(client)
    enough = page(client)

    assert (muted.count('<td class="num few">'), enough.count('<td class="num few">')) == (4 * 3, 0)
    assert f"of fewer than {FEW} requests" in muted
    assert f"of fewer than {FEW} requests" not in enough


def test_an_unknown_request_is_a_page_that_says_so(client):
    response = client.get("/requests?id=none", headers=HTML)

    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "This request is not kept" in response.text
    assert "The last 100 requests are kept, until the router stops. None of them has this id." in response.text


def test_only_the_last_requests_are_kept(client_of):
    client = client_of(3)
    for number in range(5):
        send(client, request_id=f"request-{number}")

    assert re.findall(r">(request-\d)<", page(client)) == ["request-4", "request-3", "request-2"]


def add(history: History, size: int, milliseconds: float = 1.0, **headers: str) -> None:
    call = Call("featurizer", headers, random.randbytes(size), Answer(200, {}, b"x"), milliseconds)
    history.add("id", "POST /invocations", {}, [call], (200, {}, Body()), milliseconds * 2)


def test_payloads_and_headers_have_a_size_that_they_never_pass():
    history = History(9999)
    for _ in range(KEPT_IN_ALL // KEPT_PAYLOAD + 50):
        add(history, KEPT_PAYLOAD * 2, x="v" * 9000)

    records = history.records()
    assert len(records) > 400
    assert sum(record.size for record in records) <= KEPT_IN_ALL
    assert {(len(record.given.start), record.given.size) for record in records} == {(KEPT_PAYLOAD, KEPT_PAYLOAD * 2)}
    assert {len(record.hops[0].sent_headers["x"]) for record in records} == {KEPT_HEADER + 1}


def test_requests_of_many_threads_are_all_counted_and_kept_whole():
    history = History(50)
    threads = [threading.Thread(target=lambda: [add(history, 10) for _ in range(250)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    recent = history.latencies.recent()
    assert {name: recent[name].count for name in (WHOLE, "featurizer", ROUTER)} == dict.fromkeys(recent, 2000)
    assert len(history.records()) == 50
    assert len({record.number for record in history.records()}) == 50


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_those_of_the_durations_within_two_percent(seed):
    chance = random.Random(seed)
    durations = sorted(chance.lognormvariate(1, 2) for _ in range(1000))
    latencies = Latencies()
    for duration in durations:
        latencies.add({WHOLE: duration})

    found = latencies.recent()[WHOLE]

    assert math.isclose(found.total, sum(durations))
    for share in (0.5, 0.9, 0.99, 1.0):
        assert found.percentile(share) == pytest.approx(durations[math.ceil(share * 1000) - 1], rel=0.023)


def test_minutes_are_forgotten_and_extremes_do_no_harm():
    now = [0.0]
    latencies = Latencies(lambda: now[0])
    for minute in range(MINUTES + 5):
        now[0] = minute * 60.0
        latencies.add({"a": 0.0, "b": 1e12})

    found = latencies.recent()
    assert (found["a"].count, found["b"].count) == (MINUTES, MINUTES)
    assert found["a"].percentile(0.5) == pytest.approx(0.001)
    assert found["b"].percentile(0.5) > 250_000
    now[0] += 60 * MINUTES
    assert latencies.recent() == {}


def test_the_logs_lines_of_a_request_are_found_by_its_very_id(client_of, tmp_path):
    lines = [
        {"time": "2", "stage": "predictor", "level": "INFO", "message": "second", "request_id": 'a"b'},
        {"time": "1", "stage": "predictor", "level": "INFO", "message": "other", "request_id": 'xa"bx'},
        {"time": "1", "stage": "predictor", "level": "INFO", "message": 'of another a"b', "request_id": "c"},
    ]
    (tmp_path / "predictor.log").write_text("\n".join(map(json.dumps, lines)) + '\nnot JSON a\\"b\n')
    (tmp_path / "featurizer.log").write_text(json.dumps(lines[0] | {"time": "1", "message": "first"}) + "\n")
    files = Files(logs=tmp_path)

    found = files.log_lines(["featurizer", "predictor", "router"], 'a"b') or []

    assert [(line["program"], line["message"]) for line in found] == [("featurizer", "first"), ("predictor", "second")]
    assert Files(logs=tmp_path / "none").log_lines(["predictor"], "c") is None
    client = client_of(files=files)
    send(client, request_id='a"b')
    assert "second" in page(client, "/requests?id=a%22b")


def test_where_the_logs_cannot_be_read_a_command_that_shows_them_is_given(client):
    send(client, request_id="$(reboot)'")

    shown = page(client, "/requests?id=%24%28reboot%29%27")

    assert "docker compose logs --no-log-prefix featurizer predictor router | grep -F -- " in shown
    assert log_command(["a"], "$(reboot)'").endswith("""grep -F -- '$(reboot)'"'"''""")


def test_pictures_that_are_not_there_are_spoken_of_and_no_other_file_is_given(client_of, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    without = client_of(files=Files(tmp_path))
    assert "The artifacts have no pictures" in page(without)
    assert "The router was not told where the artifacts are" in page(client_of())

    (tmp_path / "feature_importance.png").write_bytes(b"\x89PNG")

    assert "/page/pictures/feature_importance.png" in page(without)
    picture = without.get("/page/pictures/feature_importance.png")
    assert (picture.data, picture.mimetype, picture.headers["Cache-Control"]) == (b"\x89PNG", "image/png", "no-store")
    for name in ("secret.png", "predicted_vs_actual.png", "..%2Fsecret.png"):
        assert without.get(f"/page/pictures/{name}").status_code == 404


def test_the_settings_say_how_many_requests_are_kept_and_where_files_are():
    config = RouterConfig.from_env({"PAGE_REQUESTS": "0", "PAGE_ARTIFACTS": "/a", "PAGE_LOGS": "/b"})

    assert (config.kept_requests, config.artifacts, config.logs) == (0, Path("/a"), Path("/b"))
    assert RouterConfig.from_env({}) == RouterConfig(containers=RouterConfig.from_env({}).containers)
    for wrong in ("-1", "many", "10000", "\u0661"):
        with pytest.raises(BadSetting, match=r"^PAGE_REQUESTS: expected"):
            RouterConfig.from_env({"PAGE_REQUESTS": wrong})
