"""nginx's configuration."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from serving.nginx import TEMPLATE, find_nginx, write_config
from serving.settings import MIB, Settings

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
    config = write_config(SETTINGS, tmp_path).read_text()

    assert "{{" not in config
    assert "listen 127.0.0.1:18080 " in config
    assert f"client_max_body_size {6 * MIB};" in config
    assert "proxy_read_timeout 28s;" in config


def test_nothing_is_written_outside_the_run_directory(tmp_path: Path) -> None:
    config = re.sub(r"#.*", "", write_config(SETTINGS, tmp_path).read_text())

    paths = re.findall(r"(?:_temp_path|pid|unix:)\s*([^;:\s]+)", config)

    assert len(paths) >= 9
    assert [path for path in paths if not path.startswith(str(tmp_path))] == []


def test_every_error_of_nginx_is_json_with_a_code_and_an_id(tmp_path: Path) -> None:
    bodies = re.findall(r"return \d+ '([^']*)'", write_config(SETTINGS, tmp_path).read_text())

    assert len(bodies) == 11
    for body in bodies:
        fields = r'"code": "[a-z_]+", "message": "[^"]+"(, "retry_after": 1)?, "request_id": "\$request_id"'
        assert re.fullmatch(rf"\{{{fields}\}}", body)


def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    nginx = find_nginx(os.environ.get("PATH", os.defpath))
    if not nginx:
        pytest.skip("nginx is not on this machine")
    config = write_config(SETTINGS, tmp_path)

    tested = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-e", "stderr", "-c", config], capture_output=True, text=True, check=False
    )

    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr or os.getuid() != 0
