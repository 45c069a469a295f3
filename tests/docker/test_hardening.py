"""What an attacker who is inside a container would find: no rights, no tools, nothing to write to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.docker.conftest import DOCKERFILES, ROW, Container, Run, ask, docker, model_mount
from tests.docker.test_images import INSTALLED, LISTENING

pytestmark = pytest.mark.docker

USER = "10001"
SERVING = [name for name in DOCKERFILES if name != "trainer"]
# As docs/operations.md and docker-compose.yml have it.
HARDENED = [
    *("--user", f"{USER}:{USER}", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "128", "--memory", "512m"),
    *("--tmpfs", "/tmp:size=16m,noexec,nosuid,nodev"),  # noqa: S108 - the container's own
]
PORT_80 = ["--env", "SAGEMAKER_BIND_TO_PORT=80", "--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"]
PROCESSES = """
import json, os, pathlib
found = []
for path in pathlib.Path("/proc").glob("[0-9]*/status"):
    if int(path.parent.name) == os.getpid():
        continue
    status = dict(line.split(":", 1) for line in path.read_text().splitlines())
    command = (path.parent / "cmdline").read_bytes().replace(bytes(1), b" ").decode()
    wanted = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    found.append({name: status[name].split() for name in wanted} | {"command": command})
print(json.dumps(found))
"""
CONTENT = """
import json, pathlib, shutil, stat, subprocess
tools = "pip pip3 git gcc cc g++ c++ clang make ld as curl wget nc ssh sudo gdb strace".split()
files = [path for path in pathlib.Path("/").glob("[!ps]*/**/*") if path.is_file() and not path.is_symlink()]
sticky = [str(path) for path in files if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
packers = [str(path) for path in pathlib.Path("/").glob("[!ps]*/**/*")
           if path.name in ("pip", "ensurepip", "setuptools") or path.name.startswith(("pip-", "setuptools-"))]
left = [tool for tool in ("apt", "bash", "dpkg", "perl") if shutil.which(tool)]
nginx = subprocess.run(["dpkg-query", "--show", "--showformat", "${Version}", "nginx"], capture_output=True, text=True)
print(json.dumps({"tools": [tool for tool in tools if shutil.which(tool)], "sticky": sticky, "packers": packers,
                  "left": left, "nginx": nginx.stdout}))
"""
DPKG = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"]
FLOOR = (1, 26, 3)  # Debian 13's nginx, which Debian's security team maintains


def processes(container: Container) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(container.python(PROCESSES))
    commands = " ".join(process["command"] for process in found)
    assert "serving serve" in commands
    assert "gunicorn" in commands
    return found


def without_rights(found: list[dict[str, Any]]) -> bool:
    ids = {number for process in found for number in (*process["Uid"], *process["Gid"], *process["Groups"])}
    rights = {int(*process[name], 16) for process in found for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return ids == {USER} and rights == {0} and all(process["NoNewPrivs"] == ["1"] for process in found)


def warnings(container: Container) -> list[str]:
    lines = [json.loads(line) for line in container.logs().splitlines()]
    return [line["message"] for line in lines if line["level"] not in ("DEBUG", "INFO")]


def options_of(image: str, artifacts: Path) -> list[str]:
    if image == "local_test":
        return ["--env", "MODEL_SERVER_NGINX=off", "--env", "CONTAINERS=none=http://127.0.0.1:9"]
    return ["--volume", f"{artifacts}:/opt/ml/model:ro"] if image == "pipeline" else model_mount(artifacts, image)


@pytest.fixture(scope="module")
def readable(artifacts: Path) -> Iterator[Path]:
    """The artifacts where everybody may read them, as pytest's directories are not."""
    with tempfile.TemporaryDirectory(prefix="hardening-") as directory:
        shutil.copytree(artifacts, directory, dirs_exist_ok=True)
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize(
    ("image", "options"),
    [("featurizer", HARDENED), ("predictor", HARDENED), ("pipeline", HARDENED), ("featurizer", []), ("pipeline", [])],
    ids=lambda value: value if isinstance(value, str) else "hardened" if value else "as SageMaker starts it",
)
def test_no_process_has_a_right_and_one_port_is_open(
    images: dict[str, str], readable: Path, run: Run, image: str, options: list[str]
) -> None:
    container = run(images[image], "serve", options=[*options_of(image, readable), *options])

    found = processes(container)

    assert without_rights(found), found
    assert container.python(LISTENING) == "[8080]"
    assert warnings(container) == []
    if image != "predictor":
        assert ask(container.port, "POST", "/invocations", ROW, {"Content-Type": "text/csv"})[0] == 200


def test_the_router_has_no_right_either(images: dict[str, str], artifacts: Path, run: Run) -> None:
    options = [*options_of("local_test", artifacts), *HARDENED]
    container = run(images["local_test"], "serve", options=options, wait=False)
    listening = 'import time\nwhile "0A" not in open("/proc/net/tcp").read(): time.sleep(0.1)'
    container.python(listening)

    assert without_rights(processes(container))


def test_a_model_that_only_root_may_read_is_served_by_root_who_says_so(
    images: dict[str, str], artifacts: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(artifacts / "featurizer" / "model", tmp_path / "model")
    (tmp_path / "model").chmod(0o700)
    mount = ["--volume", f"{tmp_path / 'model'}:/opt/ml/model:ro"]
    if (tmp_path / "model").stat().st_uid != 0:
        pytest.skip("only root's files are root's alone")

    container = run(images["featurizer"], "serve", options=mount)

    assert warnings(container) == [f"staying root: user {USER} cannot read /opt/ml/model"]
    assert {process["Uid"][0] for process in processes(container)} == {"0"}
    assert ask(container.port, "POST", "/invocations", ROW, {"Content-Type": "text/csv"})[0] == 200


def test_a_port_that_only_root_may_listen_on_is_served_by_root_and_refused_to_others(
    images: dict[str, str], artifacts: Path, run: Run
) -> None:
    mount = model_mount(artifacts, "featurizer")
    root = run(images["featurizer"], "serve", options=[*mount, *PORT_80], port=80)
    other = run(images["featurizer"], "serve", options=[*mount, *PORT_80, "--user", USER], wait=False)

    assert other.wait() == 1
    assert warnings(other) == [f"port 80: expected a port that user {USER} may listen on"]
    assert warnings(root) == [f"staying root: user {USER} may not listen on port 80"]


def test_a_root_without_capabilities_is_told_how_to_start(images: dict[str, str], artifacts: Path, run: Run) -> None:
    options = [*model_mount(artifacts, "featurizer"), "--cap-drop", "ALL"]
    container = run(images["featurizer"], "serve", options=options, wait=False)

    assert container.wait() == 1
    assert warnings(container) == [f"expected root's capabilities SETUID and SETGID, or to be started as user {USER}"]


def test_a_body_never_touches_a_full_tmp(images: dict[str, str], artifacts: Path, run: Run) -> None:
    full = ["--read-only", "--tmpfs", "/tmp:size=64k"]  # noqa: S108 - the container's own
    container = run(images["featurizer"], "serve", options=[*model_mount(artifacts, "featurizer"), *full])
    body = b"\n".join([ROW] * (5_000_000 // len(ROW)))

    status, answer = ask(container.port, "POST", "/invocations", body, {"Content-Type": "text/csv"})

    assert (status, answer.count(b"\n")) == (200, body.count(b"\n") + 1)


def test_a_root_file_system_without_tmp_and_few_processes_are_enough(
    images: dict[str, str], artifacts: Path, run: Run
) -> None:
    options = ["--read-only", "--pids-limit", "16", "--env", "MODEL_SERVER_WORKERS=2"]
    container = run(images["predictor"], "serve", options=[*model_mount(artifacts, "predictor"), *options])

    assert ask(container.port, "GET", "/execution-parameters")[0] == 200


@pytest.mark.parametrize("image", SERVING)
def test_an_image_has_neither_packers_nor_compilers_nor_set_user_id_programs(
    images: dict[str, str], image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(docker("run", "--rm", "--user", "0", images[image], "python", "-c", CONTENT))
    with capsys.disabled():
        print(f" {image}: nginx {found['nginx']} ", end="")

    assert (found["tools"], found["sticky"], found["packers"]) == ([], [], [])
    # what Debian's base does not do without; docs/operations.md says so
    assert found["left"] == ["apt", "bash", "dpkg", "perl"]
    assert tuple(map(int, re.findall(r"\d+", found["nginx"].partition("-")[0]))) >= FLOOR


@pytest.mark.parametrize("image", SERVING)
def test_the_sbom_has_every_package_of_the_image_with_its_version(images: dict[str, str], image: str) -> None:
    command = [sys.executable, "-m", "tools.sbom", image, images[image]]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    asked = INSTALLED + f"import subprocess; subprocess.run({DPKG})"
    listed = docker("run", "--rm", images[image], "python", "-u", "-c", asked).splitlines()
    python, debian = json.loads(listed[0]), dict(line.split(" ", 1) for line in listed[1:])

    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    by_kind: dict[str, dict[str, str]] = {"pypi": {}, "deb": {}}
    for component in document["components"]:
        by_kind[component["purl"].removeprefix("pkg:").partition("/")[0]][component["name"]] = component["version"]
    assert by_kind == {"pypi": python, "deb": debian}
    assert {"nginx", "libc6"} <= debian.keys()
    assert {"flask", "gunicorn"} <= python.keys()
    assert problems(document) == []


def problems(document: dict[str, Any]) -> list[str]:
    """What CycloneDX 1.6 asks of such a document and it has not."""
    references = [component["bom-ref"] for component in document["components"]]
    root = document["metadata"]["component"]["bom-ref"]
    checks = {
        "format": (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1),
        "serial number": re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", document["serialNumber"]),
        "types": all(component["type"] == "library" for component in document["components"]),
        "purls": all(re.fullmatch(r"pkg:(pypi|deb/debian)/[^@]+@[^@ ]+", ref) for ref in references),
        "unique references": len({root, *references}) == len(references) + 1,
        "dependencies": document["dependencies"] == [{"ref": root, "dependsOn": references}],
    }
    return [name for name, holds in checks.items() if not holds]
