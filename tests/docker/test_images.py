"""Each image by itself, started as SageMaker starts it."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.docker.conftest import DOCKERFILES, PROGRAMS, ROW, STAGES, Container, Run, ask, docker, model_mount
from tests.servers import wait_until

pytestmark = pytest.mark.docker

LISTENING = """
import pathlib
tables = [pathlib.Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
lines = [line.split() for table in tables for line in table]
print(sorted({int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "0A"}))
"""
ACCEPTED = """
rows = [line.split() for line in open("/proc/net/tcp")][1:]
print(sum(row[1].endswith(":1F90") and row[3] == "01" and row[9] != "0" for row in rows))  # inode 0: not yet accepted
"""
INSTALLED = """
import importlib.metadata as metadata, json
print(json.dumps({d.name.lower().replace("_", "-").replace(".", "-"): d.version for d in metadata.distributions()}))
"""
PINGS = "import subprocess; print(subprocess.run(['python', '-m', 'serving', 'ping']).returncode)"
IMPORTS = {
    "featurizer": "serving.app, featurizer.model, featurizer.train",
    "predictor": "serving.app, predictor.model, predictor.train",
    "local_test": "local_test.wsgi",
    "pipeline": "serving.app, serving.lambda_runtime, pipeline.model, featurizer.fitted",
    "trainer": "pipeline.cli, pipeline.report, pipeline.evaluate, sklego.datasets",
}
SIGNAL = """
import os, pathlib, signal, sys
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = path.read_bytes().replace(bytes(1), b" ").decode()
    if words.startswith(sys.argv[1]) or f" {sys.argv[1]}" in words and os.getpid() != int(path.parent.name):
        parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        if parent == 1:
            os.kill(int(path.parent.name), signal.SIGKILL)
            print("killed")
"""
WORKERS = """
import os, pathlib, signal
stats = [path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/stat")]
parents = {int(stat.split()[0]): int(stat.rpartition(")")[2].split()[1]) for stat in stats}
for pid, parent in parents.items():
    if parents.get(parent) == 1 and b"gunicorn" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
        os.kill(pid, signal.SIG%s)
        print(pid)
"""
HARDENED = [
    "--user",
    "10001:10001",
    "--read-only",
    "--tmpfs",
    "/tmp",  # noqa: S108 - the container's own
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
]


@pytest.mark.parametrize("stage", [*STAGES, "local_test", "pipeline"])
def test_the_image_is_what_sagemaker_asks_for(images: dict[str, str], stage: str) -> None:
    config = json.loads(docker("inspect", images[stage]))[0]

    assert config["Config"]["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert config["Config"]["Cmd"] == ["serve"]
    assert not config["Config"]["Entrypoint"]
    assert config["Config"]["User"] in ("", "root")  # /opt/ml belongs to root on SageMaker
    assert f"STAGE={stage}" in config["Config"]["Env"]


@pytest.mark.parametrize("stage", [*STAGES, "local_test"])
def test_serve_and_train_are_programs_on_the_path(images: dict[str, str], stage: str) -> None:
    found = docker("run", "--rm", images[stage], "sh", "-c", "command -v serve; command -v train")

    assert found.split() == ["/opt/program/serving/bin/serve", "/opt/program/serving/bin/train"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_is_built_for_this_machine_and_leaves_opt_ml_alone(images: dict[str, str], program: str) -> None:
    image = json.loads(docker("inspect", images[program]))[0]

    assert (image["Os"], image["Architecture"]) == ("linux", docker("version", "-f", "{{.Server.Arch}}").strip())
    assert docker("run", "--rm", images[program], "find", "/opt", "-path", "/opt/ml") == ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_locked_is_installed_and_nothing_is_missing(images: dict[str, str], program: str) -> None:
    lock = (ROOT / "requirements" / f"{program}.txt").read_text()
    found = [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z0-9].*", lock, re.MULTILINE)]
    meant = [one for one in found if not one.marker or one.marker.evaluate({"sys_platform": "linux"})]

    assert {one.name: str(one.specifier).removeprefix("==") for one in meant} == installed(images[program])
    docker("run", "--rm", images[program], "python", "-c", f"import {IMPORTS[program]}")


@pytest.mark.parametrize(
    ("image", "absent"),
    [
        ("featurizer", {"xgboost", "xgboost-cpu", "boto3"}),
        ("predictor", {"scikit-learn", "pandas", "boto3"}),
        ("local_test", {"numpy", "pandas", "scikit-learn", "xgboost", "xgboost-cpu", "boto3"}),
        ("pipeline", {"matplotlib", "scikit-lego", "sagemaker", "boto3"}),
    ],
)
def test_an_image_holds_only_what_it_runs(images: dict[str, str], image: str, absent: set[str]) -> None:
    packages = docker("run", "--rm", images[image], "ls", "/opt/program").split()

    assert installed(images[image]).keys() & absent == set()
    assert packages == sorted({image, "serving", *(STAGES if image == "pipeline" else ())})


@pytest.mark.skipif(platform.machine() != "x86_64", reason="XGBoost without CUDA exists for x86_64 only")
def test_the_predictor_has_no_cuda(images: dict[str, str]) -> None:
    looked_for = [
        "(",
        "-iname",
        "*nccl*.so*",
        "-o",
        "-iname",
        "libcud*",
        "-o",
        "-iname",
        "libcublas*",
        "-o",
        "-iname",
        "nvidia*",
        ")",
    ]
    found = docker("run", "--rm", images["predictor"], "find", "/usr", "/opt", *looked_for)

    assert found == ""


@pytest.mark.parametrize(
    ("program", "most"),
    [("featurizer", 500), ("predictor", 450), ("local_test", 260), ("pipeline", 520), ("trainer", 750)],
)
def test_an_image_stays_small(images: dict[str, str], program: str, most: int, capsys) -> None:
    megabytes = int(docker("inspect", "--format", "{{.Size}}", images[program])) / 1e6
    with capsys.disabled():
        print(f" {program}: {megabytes:.0f} MB ", end="")

    assert megabytes < most


@pytest.mark.parametrize("command", [["serve"], []])
@pytest.mark.parametrize("stage", STAGES)
def test_serve_is_pid_1_and_listens_on_one_port(
    images: dict[str, str], artifacts: Path, run: Run, stage: str, command: list[str]
) -> None:
    container = run(images[stage], *command, options=model_mount(artifacts, stage))

    assert container.python(LISTENING) == "[8080]"
    assert "serving serve" in container.python("print(open('/proc/1/cmdline').read().replace(chr(0), ' '))")


def test_the_platform_chooses_the_port(images: dict[str, str], artifacts: Path, run: Run) -> None:
    options = [*model_mount(artifacts, "featurizer"), "--env", "SAGEMAKER_BIND_TO_PORT=9123"]
    container = run(images["featurizer"], "serve", options=options, port=9123)

    status, body = ask(container.port, "POST", "/invocations", ROW, {"Content-Type": "text/csv"})

    assert container.python(LISTENING) == "[9123]"
    assert (status, body[:19]) == (200, b"-1.3317586042173168")


@pytest.mark.parametrize("stage", STAGES)
def test_a_hardened_container_serves_too(images: dict[str, str], artifacts: Path, run: Run, stage: str) -> None:
    container = run(images[stage], "serve", options=[*model_mount(artifacts, stage), *HARDENED])

    assert ask(container.port, "GET", "/execution-parameters")[0] == 200


def test_docker_stop_answers_what_was_accepted_and_exits_0(images: dict[str, str], artifacts: Path, run: Run) -> None:
    options = [*model_mount(artifacts, "featurizer"), "--env", "MODEL_SERVER_WORKERS=1"]
    container = run(images["featurizer"], "serve", options=options)
    body, sent = b"\n".join([ROW] * 3_000), 16

    with ThreadPoolExecutor(sent + 1) as pool:
        (worker,) = container.python(WORKERS % "STOP").split()
        pending = [pool.submit(post, container, body) for _ in range(sent)]
        wait_until(lambda: int(container.python(ACCEPTED)) == sent, "requests that nginx has accepted")
        stopping = pool.submit(docker, "stop", "--time", "30", container.name)
        wait_until(lambda: "stopping: accepted requests are answered first" in container.logs(), "SIGTERM")
        unanswered = sum(not request.done() for request in pending)
        assert container.python(WORKERS % "CONT") == worker
        answers = [request.result() for request in pending]
        stopping.result()

    assert unanswered == sent
    assert [(status, answer.count(b"\n")) for status, answer in answers] == [(200, 3_000)] * sent
    assert container.inspect()["State"]["ExitCode"] == 0


def test_two_containers_share_one_network(images: dict[str, str], artifacts: Path, run: Run) -> None:
    first = run(images["featurizer"], "serve", options=[*model_mount(artifacts, "featurizer"), *on(9123)], port=9123)
    options = [*model_mount(artifacts, "predictor"), *on(9124), "--network", f"container:{first.name}"]
    second = run(images["predictor"], "serve", options=options, port=0, wait=False)

    wait_until(lambda: second.python(PINGS) == "0", "/ping of the second to answer 200", 60)
    assert first.python(LISTENING) == "[9123, 9124]"
    assert post(first, ROW)[0] == 200


@pytest.mark.parametrize("child", ["nginx", "gunicorn"])
def test_a_lost_child_ends_the_container(images: dict[str, str], artifacts: Path, run: Run, child: str) -> None:
    container = run(images["predictor"], "serve", options=model_mount(artifacts, "predictor"))

    assert "killed" in docker("exec", container.name, "python", "-c", SIGNAL, child, check=False)
    assert container.wait() != 0


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_model_the_container_ends_and_says_why(images: dict[str, str], run: Run, stage: str) -> None:
    container = run(images[stage], "serve", wait=False)

    assert container.wait() != 0
    critical = [line for line in map(json.loads, container.logs().splitlines()) if line["level"] == "CRITICAL"]
    assert critical[0]["message"] == "cannot load the model: there is no model directory /opt/ml/model"
    assert critical[-1]["message"] == "lost gunicorn: stopping, so that the platform starts a new container"


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_of_a_clone_made_under_umask_077_runs(
    tmp_path: Path, images: dict[str, str], artifacts: Path, run: Run, program: str
) -> None:
    """The requirements keep their modes: root reads them, and with others all packages would be installed again."""
    listed = docker_context()
    for name in listed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for path in (path for path in tmp_path.rglob("*") if "requirements" not in path.parts):
        path.chmod(path.stat().st_mode & 0o700)
    name = f"{images[program]}-077"
    docker("build", "--quiet", "--file", tmp_path / DOCKERFILES[program], "--tag", name, tmp_path, timeout=900)
    try:
        docker("run", "--rm", "--user", "10001:10001", name, "python", "-c", f"import {IMPORTS[program]}")
        if program in STAGES:
            container = run(name, "serve", options=model_mount(artifacts, program))
            docker("rm", "--force", container.name)  # else its image stays, without a name
    finally:
        docker("rmi", "--force", name)


def docker_context() -> list[str]:
    """The files that are committed or may be, of which an image is made."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def installed(image: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(docker("run", "--rm", image, "/opt/venv/bin/python", "-c", INSTALLED))
    return {name: version for name, version in found.items() if name != "pip"}  # the base image's


def post(container: Container, body: bytes) -> tuple[int, bytes]:
    return ask(container.port, "POST", "/invocations", body, {"Content-Type": "text/csv"})


def on(port: int) -> list[str]:
    return ["--env", f"SAGEMAKER_BIND_TO_PORT={port}", "--env", "SAGEMAKER_SAFE_PORT_RANGE=9120-9130"]
