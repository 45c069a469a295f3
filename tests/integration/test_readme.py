"""The README's commands do what it shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import free_ports

ROOT = Path(__file__).resolve().parents[2]
# Run by others: .ci/run runs the two commands, tests/docker runs compose.
ELSEWHERE = ("make demo", "make test", "docker compose ")
PORTS = {"ROUTER_PORT": 8080, "FEATURIZER_PORT": 8081, "PREDICTOR_PORT": 8082}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Path:
    """The tracked files in another place, installed and trained."""
    copy = tmp_path_factory.mktemp("readme") / "checkout"
    copy.mkdir()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)  # with its age: make must not think that .venv is out of date
    shutil.copytree(artifacts, copy / "artifacts", dirs_exist_ok=True)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


@pytest.fixture(scope="module")
def env(checkout: Path) -> Iterator[dict[str, str]]:
    yield os.environ | dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    subprocess.run([ROOT / ".venv/bin/python", "-m", "local_test", "chain", "down"], cwd=checkout, check=True)


def commands() -> list[tuple[str, list[str]]]:
    """Each command of a console block, with the output that the README shows below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, shown) for command, shown in found if not command.startswith(ELSEWHERE)]


def moved(text: str, env: dict[str, str]) -> str:
    for name, port in PORTS.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{env[name]}")
    return text


def test_the_commands_print_what_the_readme_shows(checkout: Path, env: dict[str, str]) -> None:
    shown_lines = 0
    for command, shown in commands():
        done = subprocess.run(
            ["bash", "-c", moved(command, env)],
            cwd=checkout,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr

        assert done.returncode == 0, f"{command}\n{printed}"
        for line in shown:
            shown_lines += 1
            assert line.removesuffix("...") in printed, command
    assert shown_lines >= 10


def test_up_takes_the_demos_model_where_there_is_none(checkout: Path, env: dict[str, str]) -> None:
    (checkout / ".local_test").mkdir(exist_ok=True)
    artifacts = (checkout / "artifacts").rename(checkout / ".local_test" / "demo")
    (checkout / "artifacts").mkdir()
    try:
        up = subprocess.run(["make", "up"], cwd=checkout, env=env, capture_output=True, text=True, check=False)
        subprocess.run(["make", "down"], cwd=checkout, env=env, check=True)
        copied = (checkout / "artifacts" / "predictor" / "model.tar.gz").exists()
    finally:
        shutil.rmtree(checkout / "artifacts")
        artifacts.rename(checkout / "artifacts")

    assert (up.returncode, copied) == (0, True), up.stderr
    assert "keeping the abalone artifacts" in up.stdout
    assert "in a browser" in up.stdout


@pytest.mark.long
def test_the_demo_ends_with_the_next_step(checkout: Path, env: dict[str, str]) -> None:
    (shown,) = re.findall(r"^The chain is stopped\..*", (ROOT / "README.md").read_text(), re.MULTILINE)

    done = subprocess.run(["make", "demo"], cwd=checkout, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == moved(shown, env)
    assert "in a browser" not in done.stdout


@pytest.mark.parametrize("target", ["demo", "up"])
def test_rows_of_ones_own_need_to_be_said_of_what_they_are(checkout: Path, env: dict[str, str], target: str) -> None:
    done = subprocess.run(
        ["make", target, "DATA=artifacts/test.csv"], cwd=checkout, env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert "make: SCHEMA=FILE.toml or DATASET=NAME" in done.stderr
    assert "cross-validation" not in done.stdout + done.stderr


@pytest.mark.parametrize("target", ["demo", "up"])
def test_a_port_in_use_is_seen_before_anything_is_trained(checkout: Path, target: str) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            ["make", target, "DATASET=penguins"], cwd=checkout, env=os.environ | {"PREDICTOR_PORT": str(port)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.returncode != 0
    assert "set PREDICTOR_PORT to another port" in done.stderr
    assert "cross-validation" not in done.stdout + done.stderr


def test_the_python_example_prints_what_its_comment_says(checkout: Path, env: dict[str, str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    expected = re.search(r"# (b'.*')", example)
    credentials = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    run = [ROOT / ".venv/bin/python", "-m", "local_test", "chain", "run", "--", ROOT / ".venv/bin/python", "-c"]
    done = subprocess.run(
        [*run, moved(example, env)], cwd=checkout, env=env | credentials, capture_output=True, text=True, check=False
    )

    assert expected is not None
    assert expected[1] in done.stdout, done.stdout + done.stderr
