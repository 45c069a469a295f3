"""`record` and `replay` in this process, on scripted endpoints: what is sent, kept, compared and said."""

from __future__ import annotations

import argparse
import base64
import errno
import http.client
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from local_test.__main__ import main
from local_test.recording import proxy, record, replay, targets
from local_test.recording.capture import read_capture
from local_test.recording.differences import Comparison, outcome
from local_test.recording.exchanges import (
    Answered,
    Asked,
    BadRecording,
    CutOff,
    Exchange,
    Recording,
    Unwritable,
    counted,
    read,
)
from local_test.recording.report import Replay, percentiles, report
from local_test.recording.targets import Endpoint, Unanswered, Url
from local_test.state import ChainError
from tests.scripted_container import Asked as Received
from tests.scripted_container import ScriptedContainer, answer, raw

CSV = b"a,b\n1,2\n3,4\n5,6\n"


@pytest.fixture
def server() -> Iterator[ScriptedContainer]:
    with ScriptedContainer(answer(b"[9.5]", "application/json")) as container:
        yield container


def address(server: ScriptedContainer) -> str:
    return f"http://127.0.0.1:{server.port}"


def exchange(number: int = 1, status: int = 200, body: bytes = b"[1]", ms: float | None = 2.0) -> Exchange:
    return Exchange(str(number), Asked("text/csv", "", b"1"), Answered(status, "application/json", body, ms))


def keep(path: Path, *exchanges: Exchange) -> Path:
    with Recording(path, "here") as recording:
        for one in exchanges:
            recording.add(one)
    return path


@pytest.mark.parametrize(
    ("options", "bodies"),
    [
        ([], [CSV]),
        (["--lines", "2"], [b"a,b\n1,2\n", b"3,4\n5,6\n"]),
        (["--lines", "2", "--header"], [b"a,b\n1,2\n3,4\n", b"a,b\n5,6\n"]),
        (["--lines", "1", "--header", "--limit", "2"], [b"a,b\n1,2\n", b"a,b\n3,4\n"]),
    ],
)
def test_a_file_is_sent_whole_or_by_its_lines(
    server: ScriptedContainer, tmp_path: Path, options: list[str], bodies: list[bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "rows.csv").write_bytes(CSV)
    file = tmp_path / "r.jsonl"

    code = main(["record", str(file), str(tmp_path / "rows.csv"), "--url", address(server), *options])

    kept = list(read(file))
    assert code == 0
    assert [asked.body for asked in server.asked][: len(bodies)] == bodies
    assert [one.asked for one in kept] == [Asked("text/csv", "application/json", body) for body in bodies]
    assert [one.answered for one in kept] == [
        Answered(200, "application/json", b"[9.5]", one.answered.ms) for one in kept
    ]
    assert len({one.id for one in kept}) == len(bodies)
    assert {(asked.path, asked.headers["accept"]) for asked in server.asked} == {("/invocations", "application/json")}
    said = f"Recorded {counted(len(bodies))} of {address(server)}/invocations in {file}\n"
    assert capsys.readouterr().out == said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "options", "media"),
    [
        ("rows.jsonl", [], "application/jsonlines"),
        ("rows.npy", [], "application/x-npy"),
        ("rows.json", ["--accept", "text/csv"], "application/json"),
        ("rows.txt", ["--content-type", "text/csv"], "text/csv"),
    ],
)
def test_a_file_has_the_type_of_its_suffix_or_the_one_that_is_given(
    server: ScriptedContainer, tmp_path: Path, name: str, options: list[str], media: str
) -> None:
    (tmp_path / name).write_bytes(b"1\n")

    main(["record", str(tmp_path / "r"), str(tmp_path / name), "--url", address(server), *options])

    assert server.asked[0].headers["content-type"] == media
    assert server.asked[0].headers["accept"] == ("text/csv" if "--accept" in options else "application/json")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rows.txt"], 1, "rows.txt: expected a file that ends in .csv, .json, .jsonl, .npy, or --content-type"),
        (
            ["rows.json", "--lines", "1"],
            1,
            "--lines: expected CSV or JSON Lines, got rows.json of type application/json",
        ),
        (["none.csv"], 1, "none.csv: No such file or directory"),
        (["rows.csv", "--endpoint", "e", "--url", "http://a"], 1, "expected --url or --endpoint, got both"),
        (["rows.csv", "--url", "ftp://a"], 1, "--url: expected http://HOST:PORT or https://HOST, got ftp://a"),
        (["rows.csv", "--url", "http://a:0"], 1, "--url: expected http://HOST:PORT"),
        (["rows.csv", "--url", "http://a:99999"], 1, "--url: expected http://HOST:PORT"),
        (["rows.csv", "--url", "http://"], 1, "--url: expected http://HOST:PORT"),
        (["rows.csv", "--url", "http://127.0.0.1:9"], 1, "no answer from http://127.0.0.1:9/invocations: "),
        (["rows.csv", "--endpoint", "e", "--profile", "nobodys"], 1, "--endpoint e: The config profile (nobodys)"),
        (["--capture", "empty"], 1, "empty: expected files that end in .jsonl, as data capture writes them, got none"),
        (["--listen", "65536"], 1, "--listen: expected a port from 0 to 65535, got 65536"),
        (["--listen", "-1"], 1, "--listen: expected a port from 0 to 65535, got -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_recorded_is_said_and_leaves_no_file(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    (tmp_path / "empty").mkdir()
    for name in ("rows.csv", "rows.txt", "rows.json"):
        (tmp_path / name).write_bytes(b"1\n")

    assert main(["record", "r.jsonl", *arguments]) == code
    assert capsys.readouterr().err.startswith(said)
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--lines", "0"), ("--limit", "1.5"), ("--limit", "٣"), ("--lines", "a")]
)
def test_counts_are_whole_numbers_above_zero(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["record", "r", "rows.csv", option, value])

    assert f"expected a whole number above 0, got {value}" in capsys.readouterr().err


def test_a_recording_is_never_written_over(server: ScriptedContainer, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "rows.csv").write_bytes(CSV)
    file = keep(tmp_path / "r.jsonl", exchange())
    before = file.read_bytes()

    code = main(["record", str(file), str(tmp_path / "rows.csv"), "--url", address(server)])

    assert (code, file.read_bytes(), server.asked) == (1, before, [])
    assert capsys.readouterr().err == f"{file} is there already: give another name, or remove it\n"


def test_what_was_recorded_before_an_endpoint_was_lost_is_kept(tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "rows.csv").write_bytes(b"1\n2\n3\n")
    replies = iter([answer(b"[1]", "application/json")])
    file = tmp_path / "r.jsonl"

    with ScriptedContainer(lambda *given: next(replies, raw(b""))(*given)) as server:
        code = main(["record", str(file), str(tmp_path / "rows.csv"), "--url", address(server), "--lines", "1"])

    assert (code, len(list(read(file)))) == (1, 1)
    assert capsys.readouterr().err.endswith("; 1 request recorded\n")


def test_exchanges_are_read_as_they_were_added(tmp_path: Path) -> None:
    added = [
        Exchange("1", Asked("a", "", b"1", {"x-amzn-sagemaker-session-id": "s"}), Answered(200, "a", b"\x93", 1.25)),
        Exchange("é", Asked("", "text/csv", "ü".encode()), Answered(400, "application/json", b"{}", None)),
    ]  # fmt: skip

    file = keep(tmp_path / "r.jsonl", *added)

    first, second, third = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert list(read(file)) == added
    assert first == {"recording": 1, "of": "here"}
    assert (second["answer"]["body_base64"], second["answer"]["ms"]) == (base64.b64encode(b"\x93").decode(), 1.25)
    assert (third["request"]["body"], "headers" in third["request"], "ms" in third["answer"]) == ("ü", False, False)


def test_a_recording_of_nothing_is_removed(tmp_path: Path) -> None:
    assert not keep(tmp_path / "r.jsonl").exists()


def test_a_full_disk_ends_a_recording_with_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    room = [450]

    def full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, data[: min(room[0], 100)])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    with Recording(tmp_path / "r.jsonl", "here") as recording:
        for number in range(2):
            recording.add(exchange(number))
        for more in (0, 10_000):  # also once there is room again
            room[0] += more
            with pytest.raises(Unwritable, match=r"r\.jsonl: No space left on device; 2 requests are recorded in it"):
                recording.add(exchange(2))
        assert (recording.count, "No space" in recording.failed) == (2, True)

    assert [one.id for one in read(tmp_path / "r.jsonl")] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "1"}, "KeyError"),
        ({"id": "1", "request": [], "answer": {}}, "TypeError"),
        ({"id": "1", "request": {"content_type": "", "accept": "", "body_base64": "?"}, "answer": {}}, "Error"),
        (
            {"id": "1", "request": {"content_type": "", "accept": "", "body": "", "headers": []}, "answer": {}},
            "Attribute",
        ),
        ("text", "expected a JSON object, got text"),
        ([1], r"expected a JSON object, got \[1\]"),
    ],
)
def test_a_line_of_another_shape_is_named(tmp_path: Path, line: Any, said: str) -> None:
    file = keep(tmp_path / "r.jsonl", exchange())
    file.write_text(file.read_text() + json.dumps(line) + "\n")

    exchanges = read(file)
    assert next(exchanges).id == "1"
    with pytest.raises(BadRecording, match=f"r.jsonl, line 3: .*{said}"):
        next(exchanges)


@pytest.mark.parametrize("head", ["{}", '{"recording": 2}', '{"captureData": {}}', '{"recording": true}'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, head: str) -> None:
    (tmp_path / "r").write_text(f"{head}\n")

    if head == '{"recording": true}':  # which Python takes for 1
        assert list(read(tmp_path / "r")) == []
        return
    with pytest.raises(BadRecording, match="expected a recording, whose first line is"):
        list(read(tmp_path / "r"))


def test_64_characters_of_what_is_no_recording_are_repeated(tmp_path: Path) -> None:
    (tmp_path / "head").write_text(json.dumps({"recording": "x" * 100}) + "\n")
    (tmp_path / "line").write_text(json.dumps("y" * 64) + "\n")
    (tmp_path / "longer").write_text(json.dumps("z" * 65) + "\n")

    said = []
    for name in ("head", "line", "longer"):
        with pytest.raises(BadRecording) as caught:
            list(read(tmp_path / name))
        said.append(str(caught.value).rpartition("got ")[2])

    assert said == ["{'recording': '" + "x" * 48 + "…", "y" * 64, "z" * 63 + "…"]


def test_times_are_recorded_in_microseconds(tmp_path: Path) -> None:
    file = keep(tmp_path / "r.jsonl", exchange(ms=1.23456))

    assert [one.answered.ms for one in read(file)] == [1.235]


def test_the_line_of_the_first_request_is_the_second_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "r").write_text('{"recording": 1}\n{}\n')
    (tmp_path / "cut").write_text('{"recording": 1}\n{}')
    (tmp_path / "no").write_text("no\n")

    for name, kind, said in (("r", BadRecording, "line 2"), ("cut", CutOff, "line 2"), ("no", BadRecording, "line 1")):
        with pytest.raises(kind, match=rf"^{tmp_path}/{name}, {said}: "):
            list(read(tmp_path / name))


def test_a_line_that_was_cut_off_ends_a_recording(tmp_path: Path) -> None:
    file = keep(tmp_path / "r.jsonl", exchange(1), exchange(2))
    file.write_bytes(file.read_bytes()[:-1])

    exchanges = read(file)
    assert next(exchanges).id == "1"
    with pytest.raises(CutOff, match="line 3: cut off, and left out"):
        next(exchanges)


def captured(**changed: Any) -> dict[str, Any]:
    side = {"observedContentType": "text/csv", "mode": "INPUT", "data": "1\n", "encoding": "CSV"}
    other = {
        "observedContentType": "a/b",
        "mode": "OUTPUT",
        "data": base64.b64encode(b"\x93").decode(),
        "encoding": "BASE64",
    }
    data = {"endpointInput": side, "endpointOutput": other, **changed}
    return {"captureData": {name: value for name, value in data.items() if value}, "eventMetadata": {"eventId": "id"}}


def test_captured_lines_become_exchanges_in_the_order_of_their_files(tmp_path: Path) -> None:
    for name in ("2026/b.jsonl", "2026/a.jsonl", "2026/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        line = captured() | {"eventMetadata": {"eventId": name}}
        (tmp_path / name).write_text(json.dumps(line) + "\n")

    found = list(read_capture(tmp_path))

    assert [one.id for one in found] == ["2026/a.jsonl", "2026/b.jsonl"]
    assert found[0].asked == Asked("text/csv", "a/b", b"1\n")
    assert found[0].answered == Answered(200, "a/b", b"\x93", None)
    assert next(read_capture(tmp_path / "2026/b.jsonl")).id == "2026/b.jsonl"


@pytest.mark.parametrize(
    "line",
    [
        captured(endpointInput=None),
        captured(endpointOutput=None),
        captured() | {"eventMetadata": {}},
        captured(endpointOutput={"observedContentType": "a", "data": "?", "encoding": "BASE64"}),
        [],
    ],
)
def test_a_captured_line_of_another_shape_is_named(tmp_path: Path, line: Any) -> None:
    (tmp_path / "c.jsonl").write_text(json.dumps(captured()) + "\n" + json.dumps(line) + "\n")

    with pytest.raises(BadRecording, match=r"c.jsonl, line 2: expected a captured request with its answer"):
        list(read_capture(tmp_path / "c.jsonl"))


def test_a_captured_file_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(json.dumps(captured()) + "\n")

    assert main(["record", str(tmp_path / "r"), "--capture", str(tmp_path / "c.jsonl")]) == 0
    assert [one.id for one in read(tmp_path / "r")] == ["id"]


@pytest.fixture
def proxied(server: ScriptedContainer, tmp_path: Path) -> Iterator[tuple[FlaskClient, Recording]]:
    with Recording(tmp_path / "r.jsonl", "here") as recording:
        yield proxy.create_app(Url(address(server)), recording).test_client(), recording


@pytest.mark.parametrize("path", ["/invocations", "/endpoints/any/invocations"])
def test_a_proxy_passes_on_what_a_container_may_see_and_records_it(
    proxied: tuple[FlaskClient, Recording], server: ScriptedContainer, path: str
) -> None:
    client, recording = proxied
    server.reply = answer(b"no", "text/plain", 415, X_Amzn_ErrorType="ModelError", X_Other="s", Set_Cookie="c")
    passed = {"X-Amzn-SageMaker-Session-Id": "s", "X-Amzn-SageMaker-Target-Model": "m"}

    response = client.post(path, data=b"1\n", headers={**passed, "Accept": "text/csv", "Authorization": "key"})

    (asked,) = server.asked
    (one,) = read(recording.path)
    assert (response.status_code, response.data, response.content_type) == (415, b"no", "text/plain")
    assert response.headers["x-amzn-errortype"] == "ModelError"
    assert not {"X-Other", "Set-Cookie"} & {name.title() for name, _ in response.headers}
    assert asked.headers["x-amzn-sagemaker-session-id"] == "s"
    assert not {"authorization", "content-type"} & asked.headers.keys()
    assert one.asked == Asked("", "text/csv", b"1\n", {name.lower(): value for name, value in passed.items()})
    assert (one.answered.status, one.answered.content_type, one.answered.body) == (415, "text/plain", b"no")
    assert one.answered.ms is not None
    assert one.id


def test_a_proxy_says_when_nobody_answers_and_records_nothing(
    proxied: tuple[FlaskClient, Recording], server: ScriptedContainer
) -> None:
    client, recording = proxied
    server.stop()

    response = client.post("/invocations", data=b"1\n")

    assert (response.status_code, response.json["code"], recording.count) == (502, "no_answer", 0)
    assert response.content_type == "application/json"
    assert response.json["message"].startswith(f"no answer from {address(server)}/invocations: ")
    assert response.json["request_id"] == response.headers["X-Request-Id"]


def test_a_proxy_serves_on_when_it_can_record_no_more(
    proxied: tuple[FlaskClient, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, recording = proxied
    monkeypatch.setattr(recording, "failed", "the disk is full")

    assert client.post("/invocations", data=b"1\n").status_code == 200


def test_a_proxy_answers_pings_itself_and_no_web_page(
    proxied: tuple[FlaskClient, Recording], server: ScriptedContainer
) -> None:
    client, _ = proxied

    statuses = [
        client.get("/ping").status_code,
        client.get("/ping", headers={"Host": "evil.example"}).status_code,
        client.post("/invocations", data=b"1", headers={"Origin": "http://evil.example"}).status_code,
        client.get("/invocations").status_code,
    ]

    assert statuses == [200, 403, 403, 405]
    assert server.asked == []


def test_a_proxy_takes_a_body_of_a_gibibyte_and_no_more(
    proxied: tuple[FlaskClient, Recording], server: ScriptedContainer
) -> None:
    client, _ = proxied

    more, most = (
        client.post("/invocations", environ_overrides={"CONTENT_LENGTH": str((1 << 30) + one)}) for one in (1, 0)
    )

    assert (more.status_code, "at most 1073741824 bytes, got 1073741825" in more.text) == (413, True)
    assert most.status_code != 413
    assert server.asked == []


def test_a_proxy_adds_no_type_to_an_answer_that_has_none(
    proxied: tuple[FlaskClient, Recording], server: ScriptedContainer
) -> None:
    server.reply = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")

    response = proxied[0].post("/invocations", data=b"1\n")

    assert (response.status_code, response.data, "Content-Type" in response.headers) == (200, b"1", False)


def test_a_proxy_serves_each_request_in_a_thread_and_leaves_the_log_to_the_application(
    server: ScriptedContainer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Recording(tmp_path / "r", "here") as recording, socket.create_server(("127.0.0.1", 0)) as listening:
        made = proxy.make(Url(address(server)), recording, listening)
        thread = threading.Thread(target=made.handle_request)
        thread.start()
        client = http.client.HTTPConnection("127.0.0.1", made.port, timeout=5)
        client.request("POST", "/invocations", b"1\n", {"Content-Type": "text/csv"})
        response = client.getresponse()
        answered = response.status, response.version, response.read()
        client.close()
        thread.join()
        made.server_close()

    assert answered == (200, 11, b"[9.5]")
    assert (made.host, made.multithread, recording.count) == ("127.0.0.1", True, 1)
    assert "POST /invocations HTTP/1.1" not in capfd.readouterr().err


class Serving:
    """A server in its thread, that records what it is asked or fails."""

    port = 4321

    def __init__(self, recording: Recording, failed: str) -> None:
        self.recording, self.failed = recording, failed
        self.ended: list[str] = []

    def serve_forever(self) -> None:
        self.recording.add(exchange())
        self.recording.failed = self.failed

    def shutdown(self) -> None:
        self.ended.append("shutdown")

    def server_close(self) -> None:
        self.ended.append("closed")


@pytest.mark.parametrize("failed", ["", "r: No space left on device; 1 request is recorded"])
def test_whoever_records_is_told_where_clients_call_and_what_came_of_it(
    failed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servers: list[Serving] = []

    def make(_: object, recording: Recording, __: object) -> Serving:
        servers.append(Serving(recording, failed))
        return servers[0]

    monkeypatch.setattr(proxy, "make", make)

    code = main(["record", str(tmp_path / "r"), "--url", "http://far", "--listen", "0", "--limit", "1"])

    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "Recording what http://far/invocations is asked through http://127.0.0.1:4321/invocations",
        "or AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=http://127.0.0.1:4321, until Ctrl-C",
        *([failed] if failed else []),
    ]
    said = f"Recorded 1 request of http://far/invocations in {tmp_path / 'r'}\n"
    assert (code, printed.out) == ((1, "") if failed else (0, said))
    assert servers[0].ended == ["shutdown", "closed"]


@pytest.mark.parametrize(("options", "port"), [([], 8090), (["--listen", "0"], 0), (["--listen", "65535"], 65535)])
def test_a_recorder_listens_on_this_machine_only_and_says_when_it_cannot(
    options: list[str], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    def taken(place: tuple[str, int]) -> socket.socket:
        asked.append(place)
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket, "create_server", taken)

    code = main(["record", str(tmp_path / "r"), "--url", "http://far", *options])

    assert (code, asked) == (1, [("127.0.0.1", port)])
    assert capsys.readouterr().err == f"--listen {port}: Address already in use; give another port\n"
    assert not (tmp_path / "r").exists()


def test_a_url_with_and_without_its_path_is_the_same(server: ScriptedContainer) -> None:
    names = [Url(f"{address(server)}{end}").name for end in ("", "/", "/invocations", "/invocations/")]

    assert names == [f"{address(server)}/invocations"] * 4


def test_an_answer_is_timed_and_keeps_what_the_platform_adds(server: ScriptedContainer) -> None:
    server.reply = answer(
        b"1", "text/csv", X_Request_Id="id", X_Amzn_Invoked_Production_Variant="v", Server="s",
        X_Amzn_SageMaker_Custom_Attributes="c",
    )  # fmt: skip

    answered = Url(address(server))(Asked("", "", b"1", {"x-amzn-sagemaker-session-id": "s"}))

    assert answered.ms is not None
    assert 0 < answered.ms < 60_000
    assert answered.headers == {
        "x-request-id": "id", "x-amzn-invoked-production-variant": "v", "x-amzn-sagemaker-custom-attributes": "c"
    }  # fmt: skip
    assert not {"content-type", "accept"} & server.asked[0].headers.keys()


@pytest.fixture
def endpoint(server: ScriptedContainer, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    for name, value in {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": address(server),
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    return Endpoint("e", "us-east-1", None)


def test_an_endpoint_is_asked_with_all_that_was_recorded(endpoint: Endpoint, server: ScriptedContainer) -> None:
    server.reply = answer(b"[1]", "application/json", X_Amzn_Invoked_Production_Variant="v")

    answered = endpoint(Asked("text/csv", "application/json", b"1", {"x-amzn-sagemaker-target-variant": "v"}))
    endpoint(Asked("", "", b"2"))

    first, second = server.asked
    assert (answered.status, answered.content_type, answered.body) == (200, "application/json", b"[1]")
    assert answered.headers == {"x-amzn-invoked-production-variant": "v"}
    assert (first.path, first.body, first.headers["content-type"]) == ("/endpoints/e/invocations", b"1", "text/csv")
    assert (first.headers["accept"], first.headers["x-amzn-sagemaker-target-variant"]) == ("application/json", "v")
    assert "content-type" not in second.headers


def test_milliseconds_pass_until_the_last_byte_of_an_answer_or_a_refusal(
    endpoint: Endpoint, server: ScriptedContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([1.0, 1.25, 2.0, 2.5, 3.0, 3.125])
    monkeypatch.setattr(targets, "time", SimpleNamespace(perf_counter=lambda: next(now)))

    taken = [Url(address(server))(Asked("", "", b"1")).ms, endpoint(Asked("", "", b"1")).ms]
    server.reply = answer(b"{}", "application/json", 400)
    taken.append(endpoint(Asked("", "", b"1")).ms)

    assert taken == [250.0, 500.0, 125.0]


def test_nothing_is_asked_for_twice_since_its_time_would_be_that_of_two(
    endpoint: Endpoint, server: ScriptedContainer
) -> None:
    server.reply = answer(b"{}", "application/json", 503)
    statuses = [endpoint(Asked("", "", b"1")).status, Url(address(server))(Asked("", "", b"1")).status]
    server.reply = raw(b"")
    for target in (endpoint, Url(address(server))):
        with pytest.raises(Unanswered):
            target(Asked("", "", b"1"))

    assert (statuses, len(server.asked)) == ([503, 503], 4)


def test_an_answer_is_waited_for_longer_than_the_minute_of_the_platform(endpoint: Endpoint) -> None:
    config = endpoint._client.meta.config
    kept = Url("http://127.0.0.1:1")._pool.connection_pool_kw

    assert (config.read_timeout, kept["timeout"]) == (70, 70)


def test_as_many_connections_are_kept_as_there_may_be_clients(endpoint: Endpoint) -> None:
    kept = Url("http://127.0.0.1:1")._pool.connection_pool_kw

    assert (endpoint._client.meta.config.max_pool_connections, kept["maxsize"]) == (64, 64)


def test_a_refusal_of_an_endpoint_is_put_together_again(endpoint: Endpoint, server: ScriptedContainer) -> None:
    fields = {
        "Message": "m",
        "OriginalStatusCode": 400,
        "OriginalMessage": '{"code": "c", "row": 2}',
        "LogStreamArn": "a",
    }
    server.reply = answer(json.dumps(fields).encode(), "application/json", 424, X_Amzn_ErrorType="ModelError")

    answered = endpoint(Asked("text/csv", "", b"1"))

    assert (answered.status, json.loads(answered.body)) == (424, fields)
    assert answered.headers["x-amzn-errortype"] == "ModelError"
    assert outcome(answered) == "400 c row 2"
    server.reply = answer(b'{"Message": "none"}', "application/json", 400, X_Amzn_ErrorType="ValidationError")
    assert json.loads(endpoint(Asked("", "", b"1")).body) == {"Message": "none"}
    server.stop()
    with pytest.raises(Unanswered, match="no answer from endpoint e: "):
        endpoint(Asked("", "", b"1"))


def test_the_chains_port_is_asked_by_default() -> None:
    arguments = argparse.Namespace(endpoint=None, url=None)

    names = [record.target_of(arguments, env).name for env in ({}, {"ROUTER_PORT": "81"}, {"ROUTER_PORT": ""})]

    assert names == [f"http://127.0.0.1:{port}/invocations" for port in (8080, 81, 8080)]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server: ScriptedContainer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Replay a recording; the exit code and what was printed."""

    def replayed(file: Path, *options: str) -> tuple[int, str, str]:
        code = main(["replay", str(file), "--url", address(server), *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return replayed


def test_a_replay_sends_what_was_asked_without_the_names_of_parts(
    run: Run, server: ScriptedContainer, tmp_path: Path
) -> None:
    headers = {"x-amzn-sagemaker-custom-attributes": "a", "x-amzn-sagemaker-inference-id": "b",
               "x-amzn-sagemaker-target-variant": "c", "x-amzn-sagemaker-target-model": "d"}  # fmt: skip
    asked = Asked("text/csv", "application/json", b"1\n", headers)
    file = keep(tmp_path / "r.jsonl", Exchange("1", asked, Answered(200, "application/json", b"[9.5]", 1.0)))

    code, out, err = run(file)

    (got,) = server.asked
    sent = {name: value for name, value in got.headers.items() if name.startswith("x-amzn")}
    assert (code, err) == (0, "")
    assert (got.body, got.headers["content-type"], got.headers["accept"]) == (b"1\n", "text/csv", "application/json")
    assert sent == dict(list(headers.items())[:2])
    assert out.splitlines()[0] == (
        f"1 request to {address(server)}/invocations: 0 answered differently, 0 of 1 rows beyond 1e-06"
    )


@pytest.mark.parametrize(
    ("options", "code"),
    [([], 1), (["--tolerance", "0.08"], 1), (["--tolerance", "0.09"], 0), (["--tolerance", "1"], 0)],
)
def test_a_difference_beyond_the_tolerance_is_an_exit_code(
    run: Run, tmp_path: Path, options: list[str], code: int
) -> None:
    assert run(keep(tmp_path / "r.jsonl", exchange(body=b"[10.4]")), *options)[0] == code


def test_differences_are_listed_to_a_bound_and_machines_get_all(run: Run, tmp_path: Path) -> None:
    file = keep(tmp_path / "r.jsonl", *(exchange(number, body=b"[1]") for number in range(4)))

    some, every, machine = run(file, "--show", "3")[1], run(file, "--show", "0")[1], run(file, "--json")
    whole = json.loads(machine[1])

    assert some.splitlines()[:4] == [
        *(f"request {number + 1} ({number}): row 1: 1 -> 9.5 (+8.5)" for number in range(3)),
        "... and 1 more: --show 0, or --json",
    ]
    assert "and 1 more" not in every
    assert every.splitlines()[3] == "request 4 (3): row 1: 1 -> 9.5 (+8.5)"
    assert every.splitlines()[5] == "numbers are 8.5 apart in the mean, 8.5 at most"
    assert machine[0] == 1
    assert whole["differences"][3] == {"request": 4, "id": "3", "row": 1, "before": "1", "after": "9.5", "by": 8.5}
    assert (whole["requests"], whole["different_requests"], whole["rows"], whole["different_rows"]) == (4, 4, 4, 4)
    assert (whole["largest_difference"], whole["mean_difference"], whole["tolerance"]) == (8.5, 8.5, 1e-6)


def test_the_first_20_differences_are_shown_where_no_number_is_given(run: Run, tmp_path: Path) -> None:
    file = keep(tmp_path / "r.jsonl", *(exchange(number) for number in range(21)))

    shown = run(file)[1].splitlines()

    assert [line for line in shown if line.startswith("request ")][-1].startswith("request 20 (19): ")
    assert shown[20] == "... and 1 more: --show 0, or --json"


@pytest.mark.parametrize(("clients", "accepted"), [("0", False), ("1", True), ("64", True), ("65", False)])
def test_a_replay_has_1_to_64_clients(
    run: Run, tmp_path: Path, clients: str, accepted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = keep(tmp_path / "r.jsonl", exchange(body=b"[9.5]"))

    if accepted:
        code, out, _ = run(file, "--clients", clients)
        assert (code, f"times of {clients} clients at once" in out) == (0, clients != "1")
        return
    with pytest.raises(SystemExit):
        run(file, "--clients", clients)
    assert "--clients: invalid choice" in capsys.readouterr().err


def test_a_replay_asks_with_one_client_where_no_number_is_given(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(keep(tmp_path / "r.jsonl", exchange(body=b"[9.5]")))

    assert (code, "0 answered differently" in out, "clients at once" in out) == (0, True, False)


def test_what_cannot_be_compared_has_an_exit_code_of_its_own(
    run: Run, server: ScriptedContainer, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"recording": 1}\n')
    good = keep(tmp_path / "r.jsonl", exchange(body=b"[9.5]"))
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(good.read_bytes() + b"{}\n")
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(good.read_bytes() + b"{}")

    results = [run(file) for file in (tmp_path / "none", empty, damaged, cut)]
    server.stop()
    results.append(run(good))

    assert [code for code, _, _ in results] == [2, 2, 2, 0, 2]
    errors = [error.strip() for _, _, error in results]
    assert errors[0] == f"{tmp_path}/none: No such file or directory"
    assert errors[1] == "nothing could be compared: the recording has no requests"
    assert errors[2].startswith(f"{damaged}, line 3: expected a request with its answer")
    assert errors[2].endswith("; what was read before it is compared")
    assert errors[3] == f"{cut}, line 3: cut off, and left out"
    assert errors[4].startswith("nothing could be compared: no answer from")
    assert "1 request to" in results[2][1]


def test_requests_that_nobody_answers_are_counted(run: Run, server: ScriptedContainer, tmp_path: Path) -> None:
    def reply(asked: Received, connection: Any) -> None:
        (answer(b"[9.5]", "application/json") if asked.connection == 1 else raw(b""))(asked, connection)

    server.reply = reply
    lost = Exchange("2", Asked("text/csv\r\nX: y", "", b"1"), Answered(200, "application/json", b"[9.5]", 1.0))
    file = keep(tmp_path / "r.jsonl", exchange(1, body=b"[9.5]"), lost)

    code, out, _ = run(file)

    assert code == 1
    assert out.splitlines()[0].startswith("request 2 (2): 200 -> no answer from")
    assert "2 requests to" in out.splitlines()[1]
    assert out.splitlines()[1].endswith(", 1 not answered")


def test_more_requests_than_are_read_ahead_are_replayed_in_order(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "AT_ONCE", 2)
    file = keep(tmp_path / "r.jsonl", *(exchange(number) for number in range(5)))

    code, out, _ = run(file, "--clients", "3", "--show", "0")

    assert code == 1
    assert [line.partition(":")[0] for line in out.splitlines()[:5]] == [f"request {n + 1} ({n})" for n in range(5)]
    assert "times of 3 clients at once" in out


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "much"])
def test_a_tolerance_is_a_number_of_at_least_zero(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["replay", "r", "--tolerance", value])

    assert f"expected a number of at least 0, got {value}" in capsys.readouterr().err


def found(*pairs: tuple[float | None, float], clients: int = 1, status: int = 200) -> Replay:
    whole = Replay(Path("r"), "there", Comparison(0.0), clients)
    for before, after in pairs:
        whole.add(exchange(ms=before, status=status), Answered(status, "application/json", b"[1]", after))
    return whole


@pytest.mark.parametrize(
    ("replayed", "lines"),
    [
        (found(), ["no change in latency to show: the recording has no times"]),
        (found((None, 1.0)), ["no change in latency to show: the recording has no times"]),
        (found((2.0, 1.0), status=400), ["no change in latency to show: no request was answered with 200 by both"]),
        (found((2.0, 5.0)), ["one       2.00 ms before       5.00 ms after    2.50 times"]),
        (
            found((1.0, 2.0), (3.0, 6.0)),
            [
                "p50       2.00 ms before       4.00 ms after    2.00 times",
                "p90       2.80 ms before       5.60 ms after    2.00 times",
                "p99       2.98 ms before       5.96 ms after    2.00 times",
            ],
        ),
    ],
)
def test_the_change_in_latency_is_shown(replayed: Replay, lines: list[str]) -> None:
    assert list(report(replayed, 0))[1:] == lines


def test_percentiles_are_of_all_times() -> None:
    assert percentiles([]) == {}
    assert percentiles([1.23456]) == {"p50": 1.235, "p90": 1.235, "p99": 1.235}
    assert percentiles([float(n) for n in range(101)]) == {"p50": 50.0, "p90": 90.0, "p99": 99.0}


def test_a_summary_has_the_times_of_answers_that_both_gave() -> None:
    whole = found((2.0, 1.0), (None, 9.0))
    whole.add(exchange(status=400, ms=7.0), Answered(200, "application/json", b"[1]", 7.0))

    summary = whole.summary()

    assert (summary["ms_before"]["p50"], summary["ms_after"]["p50"]) == (2.0, 1.0)
    assert (summary["recording"], summary["target"], summary["unanswered"]) == ("r", "there", 0)
    assert summary["mean_difference"] == 0.0


def test_an_endpoint_without_a_region_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)

    with pytest.raises(ChainError, match="--endpoint e: You must specify a region"):
        Endpoint("e", None, None)
