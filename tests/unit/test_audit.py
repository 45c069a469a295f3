"""The search for known vulnerabilities, with a program that stands in for pip-audit and a database on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tools import audit

CLEAN = {"name": "flask", "version": "3.1.3", "vulns": []}
FLAWED = {"name": "gunicorn", "version": "21.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["22.0"]}]}
HOPELESS = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}


class Database(BaseHTTPRequestHandler):
    """Answers by its path: as a database does, as one that knows nothing does, or with no JSON."""

    def do_GET(self) -> None:
        body = {"/known": b'{"affected": [{"package": {}}]}', "/mirror": b'{"affected": []}'}
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()
        self.wfile.write(body.get(self.path, b"<html>"))

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Database) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def pip_audit(tmp_path: Path) -> Path:
    program = tmp_path / "pip-audit"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\ncat {tmp_path}/answer\nexit 1\n')
    program.chmod(0o755)
    (tmp_path / "answer").write_text("")
    return program


def run(pip_audit: Path, url: str, *options: str, knows: list[dict[str, object]] | None = None) -> int:
    if knows is not None:
        (pip_audit.parent / "answer").write_text(json.dumps({"dependencies": knows, "fixes": []}))
    return audit.main(["--pip-audit", str(pip_audit), "--database", url, *options])


@pytest.mark.parametrize(
    ("knows", "code", "in_ci", "says"),
    [
        ([CLEAN], 0, 0, "1 packages without a known vulnerability"),
        ([CLEAN, FLAWED], 1, 1, "VULNERABLE: gunicorn 21.0: PYSEC-1, fixed in 22.0"),
        ([CLEAN, HOPELESS], 0, 0, "not fixed yet: old 1.0: PYSEC-2"),
        ([CLEAN, UNKNOWN], 2, 0, "NOT CHECKED: 1 packages that the database does not know: numpy"),
        ([FLAWED, UNKNOWN], 1, 1, "VULNERABLE"),
    ],
    ids=["clean", "vulnerable", "without a fix", "unknown", "vulnerable and unknown"],
)
def test_a_package_is_clean_vulnerable_or_not_checked(
    pip_audit: Path,
    database: str,
    capsys: pytest.CaptureFixture[str],
    knows: list[dict[str, object]],
    code: int,
    in_ci: int,
    says: str,
) -> None:
    codes = [run(pip_audit, f"{database}/known", *options, knows=knows) for options in ([], ["--ci"])]

    assert codes == [code, in_ci]
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("path", ["absent", "mirror", "html"])
def test_without_a_database_nothing_is_called_clean(
    pip_audit: Path, database: str, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    codes = [run(pip_audit, f"{database}/{path}", *options, knows=[CLEAN]) for options in ([], ["--ci"])]

    said = capsys.readouterr().out
    assert codes == [2, 0]
    assert said.count("NOT CHECKED") == 2
    assert "without a known vulnerability" not in said
    assert not (pip_audit.parent / "asked").exists()


def test_a_pip_audit_that_fails_has_checked_nothing(
    pip_audit: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(pip_audit, f"{database}/known")

    assert code == 2
    assert "NOT CHECKED: pip-audit failed" in capsys.readouterr().out


def test_every_lock_of_what_runs_is_asked_about(pip_audit: Path, database: str) -> None:
    run(pip_audit, f"{database}/known", knows=[CLEAN])

    asked = {Path(word).name for word in (pip_audit.parent / "asked").read_text().split() if word.endswith(".txt")}
    assert asked >= {"featurizer.txt", "predictor.txt", "local_test.txt", "pipeline.txt", "trainer.txt", "dev.txt"}
