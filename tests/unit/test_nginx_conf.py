"""nginx's configuration."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.memory import usable_memory
from serving.nginx import TEMPLATE, find_nginx, nginx_memory, write_config
from serving.settings import MIB, Settings

MUCH = 8 << 30  # bytes of memory
SETTINGS = Settings(host="127.0.0.1", port=18080, timeout=30, max_body=6 * MIB)


def directives(text: str) -> list[str]:
    """The first word of every directive."""
    code = re.sub(r"'[^']*'", "''", re.sub(r"#.*", "", text))
    return re.findall(r"(?:^|[;{}])\s*([a-z_]+)", code)


@pytest.mark.parametrize(
    "forbidden", ["rewrite", "if", "set", "map", "alias", "charset", "charset_map", "ssi", "slice", "include", "gzip"]
)
def test_no_directive_that_had_memory_bugs_is_used(forbidden: str) -> None:
    used = directives(TEMPLATE.read_text())

    assert {"daemon", "events", "http", "server", "location", "proxy_pass", "return"} <= set(used)
    assert forbidden not in used


def test_every_location_is_exact_internal_or_the_rest() -> None:
    locations = re.findall(r"location\s+([^{]+?)\s*\{", TEMPLATE.read_text())

    assert [name for name in locations if not re.fullmatch(r"= /[a-z_.-]+|/_?|/_[a-z_]+_", name)] == []
    assert {"= /ping", "= /invocations", "= /execution-parameters", "/"} <= set(locations)


def test_every_brace_is_filled_in(tmp_path: Path) -> None:
    config = write_config(SETTINGS, tmp_path, MUCH).read_text()

    assert "{{" not in config
    assert "listen 127.0.0.1:18080 " in config
    assert f"client_max_body_size {6 * MIB};" in config
    assert "proxy_read_timeout 28s;" in config


@pytest.mark.parametrize(
    ("settings", "directives"),
    [
        (
            {"max_body": MIB},
            ["client_max_body_size 1048576", "client_body_buffer_size 1048576", "proxy_buffers 64 64k"],
        ),
        ({"max_body": 1}, ["client_max_body_size 1", "proxy_buffers 16 64k"]),
        ({"queue": 256}, ["gunicorn.sock max_fails=0 max_conns=128"] * 2),
        ({"queue": 5}, ["gunicorn.sock max_fails=0 max_conns=3"] * 2),
        ({"timeout": 60}, ["proxy_read_timeout 58s", "proxy_send_timeout 58s"]),
        ({"timeout": 2}, ["proxy_read_timeout 1s"]),
        ({"timeout": 1}, ["proxy_read_timeout 1s"]),
        ({"host": "[::]", "port": 80}, ["listen [::]:80 "]),
    ],
)
def test_a_setting_stands_where_nginx_heeds_it(tmp_path: Path, settings: dict[str, Any], directives: list[str]) -> None:
    config = write_config(Settings(**settings), tmp_path, MUCH).read_text()

    for directive in directives:
        assert config.count(directive) == directives.count(directive)


@pytest.mark.parametrize(
    ("hard", "open_files", "connections"),
    [(100, 100, 64), (1000, 1000, 500), (10**6, 65536, 16384), (9000, 9000, 4500)],
)
def test_connections_are_no_more_than_files_that_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: int, open_files: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (hard // 2, hard))

    config = write_config(SETTINGS, tmp_path, MUCH).read_text()

    assert f"worker_rlimit_nofile {open_files};" in config
    assert f"worker_connections {connections};" in config


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        ({"memory/memory.limit_in_bytes": f"{512 * MIB}\n"}, 512 * MIB),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_nginx_may_have_half_of_the_containers_memory(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert usable_memory(tmp_path) == (expected or machine)
    assert nginx_memory(usable_memory(tmp_path)) == (expected or machine) // 2
    assert nginx_memory(100 * MIB) == 64 * MIB


@pytest.mark.parametrize(("memory", "connections", "requests"), [(64 * MIB, 409, 128), (256 * MIB, 1638, 512)])
def test_heads_and_small_bodies_fit_into_the_memory(
    tmp_path: Path, memory: int, connections: int, requests: int
) -> None:
    config = write_config(SETTINGS, tmp_path, memory).read_text()

    assert f"worker_connections {connections};" in config
    assert f"limit_conn requests {requests};" in config


@pytest.mark.skipif(os.getuid() != 0, reason="only a root has workers of another user")
def test_workers_are_roots_where_their_master_is(tmp_path: Path) -> None:
    assert "\nuser root;\n" in write_config(SETTINGS, tmp_path, MUCH).read_text()


def test_nginx_is_found_on_the_path_first(tmp_path: Path) -> None:
    (tmp_path / "nginx").write_text("#!/bin/sh\n")
    (tmp_path / "nginx").chmod(0o755)

    assert find_nginx(str(tmp_path)) == str(tmp_path / "nginx")


def test_nothing_is_written_outside_the_run_directory(tmp_path: Path) -> None:
    config = re.sub(r"#.*", "", write_config(SETTINGS, tmp_path, MUCH).read_text())

    paths = re.findall(r"(?:_temp_path|pid|unix:)\s*([^;:\s]+)", config)

    assert len(paths) >= 9
    assert [path for path in paths if not path.startswith(str(tmp_path))] == []


def test_every_error_of_nginx_is_json_with_a_code_and_an_id(tmp_path: Path) -> None:
    bodies = re.findall(r"return \d+ '([^']*)'", write_config(SETTINGS, tmp_path, MUCH).read_text())

    assert len(bodies) == 11
    for body in bodies:
        fields = r'"code": "[a-z_]+", "message": "[^"]+"(, "retry_after": 1)?, "request_id": "\$request_id"'
        assert re.fullmatch(rf"\{{{fields}\}}", body)


def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    nginx = find_nginx(os.environ.get("PATH", os.defpath))
    if not nginx:
        pytest.skip("nginx is not on this machine")
    config = write_config(SETTINGS, tmp_path, MUCH)

    tested = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-e", "stderr", "-c", config], capture_output=True, text=True, check=False
    )

    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr or os.getuid() != 0
