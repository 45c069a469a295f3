"""The endpoint's page of the real chain in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_test.plan import Ports, plan
from tests.browser import ENTER, TAB, Browser, browser
from tests.scripted_container import ScriptedContainer
from tests.servers import Server, running


def test_the_chain_tells_its_router_alone_where_artifacts_and_logs_are(artifacts, tmp_path):
    *stages, router = plan(artifacts, Ports(), {}, tmp_path)[1]

    assert (router.env["PAGE_ARTIFACTS"], router.env["PAGE_LOGS"]) == (str(artifacts), str(tmp_path))
    assert ["PAGE_LOGS" in stage.env for stage in stages] == [False, False]


def test_without_kept_requests_there_is_no_page():
    with ScriptedContainer() as container:
        own = {"CONTAINERS": f"c=http://127.0.0.1:{container.port}", "MODEL_SERVER_NGINX": "off", "PAGE_REQUESTS": "0"}
        with running("local_test", own) as server:
            assert server.request("GET", "/", headers={"Accept": "text/html"}).status == 404
            assert server.invoke(b"M,0.4\n", "text/csv").status == 200


@pytest.fixture(scope="module")
def router(chain: tuple[Server, Server], artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    featurizer, predictor = chain
    logs = tmp_path_factory.mktemp("logs")
    (logs / "featurizer.log").symlink_to(featurizer.log)
    (logs / "predictor.log").symlink_to(predictor.log)
    own = {
        "CONTAINERS": f"featurizer=http://127.0.0.1:{featurizer.port},predictor=http://127.0.0.1:{predictor.port}",
        "MODEL_SERVER_NGINX": "off",
        "MODEL_SERVER_WORKERS": "1",
        "MODEL_SERVER_WORKER_CLASS": "gthread",
        "PAGE_ARTIFACTS": str(artifacts),
        "PAGE_LOGS": str(logs),
    }
    with running("local_test", own) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def at(chromium: Browser, router: Server) -> Iterator[Browser]:
    """The browser at the page. Afterwards nothing may have been said on its console."""
    chromium.devtools("Emulation.setScriptExecutionDisabled", value=False)
    chromium.screen(1200, 900)
    chromium.open(f"http://127.0.0.1:{router.port}/")
    yield chromium
    assert chromium.complaints() == []


def test_a_payload_sent_through_the_form_is_seen_at_both_containers(at: Browser, router: Server) -> None:
    assert "healthy" in at.text("h1")
    assert at.run("return document.getElementById('body').value").startswith("sex,length,")
    at.follow("form button")

    request_id = at.run("return new URL(location).searchParams.get('id')")
    first, second = at.text("section.hop-1"), at.text("section.hop-2")
    predictions = json.loads(at.text("pre[aria-label='The answer']"))["result"]
    assert "sex,length,diameter" in first
    assert "text/csv" in first
    assert len(predictions) == 2
    assert f"[{predictions[0]},{predictions[1]}]" in second
    assert [row.split()[1] for row in at.text(".log tbody").splitlines() if "INFO" in row] == [
        "featurizer",
        "predictor",
    ]
    at.open(f"http://127.0.0.1:{router.port}/requests?id={request_id}")
    assert request_id in at.text("h1")


def test_an_error_is_read_in_full_with_its_row_and_column(at: Browser) -> None:
    at.fill("#body", "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15\nF,short,0.42,0.135,0.677,0.2565,0.1415,0.21")
    at.follow("form button")

    failure = at.text(".failure")
    assert "featurizer answered 400 not_a_number" in failure
    assert "expected a number, got 'short'" in failure
    assert "row 2, column length" in failure
    assert json.loads(at.text(".failure pre"))["row"] == 2
    assert at.text("mark").startswith("F,short")
    at.follow("a[href^='/?id='][href$='#send']")
    assert at.run("return document.getElementById('body').value").endswith("0.1415,0.21")


def test_a_request_from_elsewhere_appears_without_a_reload(at: Browser, router: Server) -> None:
    at.run("window.kept = true; document.activeElement.blur()")
    row = b"M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15"
    router.invoke(row, "text/csv", X_Request_Id="from-elsewhere")

    at.wait(lambda: "from-elsewhere" in at.text("#requests"), "the request to appear")
    assert at.run("return window.kept")
    at.click(".live")
    assert at.text(".live") == "Paused"
    at.click(".live")


def test_the_keyboard_alone_is_enough(at: Browser) -> None:
    at.press(TAB)
    assert at.run("return document.activeElement.className") == "skip"
    assert at.run("return document.activeElement.getBoundingClientRect().left") >= 0
    at.press(ENTER)
    for _ in range(10):
        at.press(TAB)
        if at.run("return document.activeElement.id") == "body":
            break
    assert at.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    at.press(TAB, ENTER)

    at.wait(lambda: "/requests?id=" in at.address, "the request's page")
    assert at.text("h1").startswith("200")


def test_without_javascript_all_of_it_works(at: Browser, router: Server) -> None:
    at.devtools("Emulation.setScriptExecutionDisabled", value=True)
    at.open(f"http://127.0.0.1:{router.port}/")
    at.follow("form button")

    assert at.text("h1").startswith("200")
    at.devtools("Emulation.setScriptExecutionDisabled", value=False)


def test_the_contract_says_what_the_endpoint_lets_through(at: Browser) -> None:
    featurizer, predictor = at.run("return [...document.querySelectorAll('.card')].map((card) => card.innerText)")

    assert "body\nat most 25.0 MiB\nthrough the endpoint\nat most 6,291,456 bytes" in featurizer
    assert "body\nat most 25.0 MiB\nthrough the endpoint\nat most 5,000,000 bytes" in predictor


HIDDEN = """
const scrollers = [...document.querySelectorAll(arguments[0])].map((found) => found.closest(".scroll"));
return scrollers.map((one) => [one.getAttribute("aria-labelledby") || one.getAttribute("aria-label"),
  one.scrollWidth - one.clientWidth]);
"""


@pytest.mark.parametrize("width", [390, *(pytest.param(width, marks=pytest.mark.long) for width in (320, 800, 801))])
def test_on_a_phone_no_table_of_requests_times_and_logs_is_scrolled_sideways(
    at: Browser, router: Server, width: int
) -> None:
    router.invoke(b"M,short,0.365,0.095,0.514,0.2245,0.101,0.15", "text/csv", X_Request_Id="wrong")
    router.invoke(b"M,0.4", "text/csv", X_Request_Id="x" * 100)
    at.screen(width, 800, phone=True)

    at.open(f"http://127.0.0.1:{router.port}/")
    tables = at.run(HIDDEN, ".requests, .timings")
    at.open(f"http://127.0.0.1:{router.port}/requests?id=wrong")
    tables += at.run(HIDDEN, ".log, .lines")

    names = {"requests-title", "time-title", "log-title", "The client's payload", "featurizer got"}
    assert {name for name, _ in tables} >= names
    assert [(name, hidden) for name, hidden in tables if hidden > 0] == []


@pytest.mark.parametrize("width", [390, pytest.param(1200, marks=pytest.mark.long)])
def test_every_cell_of_a_request_is_on_the_screen(at: Browser, width: int) -> None:
    at.screen(width, 800, phone=width < 600)
    at.follow("form button")
    at.follow(".crumb a")

    edges = "return [...document.querySelectorAll('.requests tbody tr:first-child td')]"
    edges += ".map((cell) => cell.getBoundingClientRect()).map((box) => [box.left, box.right, box.height])"
    cells = at.run(edges)
    assert len(cells) == 7
    assert all(0 <= left < right <= width and height > 0 for left, right, height in cells)


def test_a_header_and_a_dump_are_whole_on_a_desk(at: Browser, router: Server) -> None:
    router.invoke(b"sex,length,diameter,height,whole_weight,shucked_weight,viscera_weight,shell_weight\n", "text/csv",
                  X_Request_Id="header")  # fmt: skip
    router.invoke(bytes(range(256)), "text/csv", X_Request_Id="dump")

    hidden = []
    for request_id in ("header", "dump"):
        at.open(f"http://127.0.0.1:{router.port}/requests?id={request_id}")
        hidden += at.run(HIDDEN, 'pre[aria-label="The client\'s payload"]')

    assert [width for _, width in hidden] == [0, 0]


CONTRASTS = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const colour = parse(getComputedStyle(node).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const bad = [];
for (const node of document.querySelectorAll("body *")) {
  const words = [...node.childNodes].filter((c) => c.nodeType === 3).map((c) => c.data.trim()).join("");
  if (!words || !node.checkVisibility()) continue;
  const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push(words.slice(0, 30) + " " + ratio.toFixed(2));
}
return bad;
"""


@pytest.mark.parametrize(
    ("scheme", "path"),
    [
        ("dark", "/"),
        pytest.param("light", "/", marks=pytest.mark.long),
        pytest.param("dark", "/requests?id=wrong", marks=pytest.mark.long),
        pytest.param("light", "/requests?id=wrong", marks=pytest.mark.long),
    ],
)
def test_it_is_readable_in_light_and_dark_on_a_phone_and_a_desk(
    at: Browser, router: Server, scheme: str, path: str
) -> None:
    router.invoke(b"M,short,0.365,0.095,0.514,0.2245,0.101,0.15", "text/csv", X_Request_Id="wrong")
    for width, phone in ((320, True), (390, True), (768, False), (1200, False)):
        at.screen(width, 800, scheme, phone=phone)
        at.open(f"http://127.0.0.1:{router.port}{path}")
        wide = at.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, f"{width}: {wide} too wide"
    (red, *_) = map(int, re.findall(r"\d+", at.run("return getComputedStyle(document.body).backgroundColor")))
    assert (red < 60) == (scheme == "dark")
    assert at.run(CONTRASTS) == []
