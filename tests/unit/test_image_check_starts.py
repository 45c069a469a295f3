"""How the image check starts what it examines: an image by a scripted docker, and a command of this machine."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_test.check import image as image_module
from local_test.check import program as program_module
from local_test.check.image import Image, RunningContainer
from local_test.check.program import Program
from local_test.check.subject import CannotStart, NotHere, Running, Situation
from local_test.state import ChainError
from tests.servers import free_ports, wait_until

# It writes down what it is asked, and answers with a file that has the name of the verb.
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >> "$HERE/asked"
[ -f "$HERE/$1.out" ] && cat "$HERE/$1.out"
[ -f "$HERE/$1.err" ] && cat "$HERE/$1.err" >&2 && exit 1
exit 0
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("HERE", str(tmp_path))
    (tmp_path / "image.out").write_text('[{"Os": "linux"}]')
    (tmp_path / "port.out").write_text("127.0.0.1:4711\n[::1]:4712\n")
    return tmp_path


def asked(docker: Path) -> list[str]:
    """What docker was asked since the last time; names of its containers are ID."""
    text = (docker / "asked").read_text()
    (docker / "asked").write_text("")
    return re.sub(r"check-[0-9a-f]{12}", "ID", text).splitlines()


def image(docker: Path, name: str = "i", model: Path | None = Path("/m")) -> Image:
    return Image(name, str(docker / "docker"), model, {"A": "b"})


PUBLISHED = "--publish 127.0.0.1::90 --publish 127.0.0.1::91"
PORT = "--env SAGEMAKER_BIND_TO_PORT=90 --env SAGEMAKER_SAFE_PORT_RANGE=90-99"
MODEL = "--volume /m:/opt/ml/model"


@pytest.mark.parametrize(
    ("situation", "options"),
    [
        (Situation(90), f"{PUBLISHED} --env A=b {PORT} {MODEL}:ro"),
        (Situation(None), f"{PUBLISHED} --env A=b {MODEL}:ro".replace("90", "8080").replace("91", "8081")),
        (Situation(90, env={"A": "c"}), f"{PUBLISHED} --env A=c {PORT} {MODEL}:ro"),
        (Situation(90, writable_model=True), f"{PUBLISHED} --env A=b {PORT} {MODEL}"),
        (Situation(90, user="1:2"), f"{PUBLISHED} --env A=b {PORT} {MODEL}:ro --user 1:2"),
        (Situation(90, read_only=True), f"{PUBLISHED} --env A=b {PORT} {MODEL}:ro --read-only --tmpfs /tmp"),
        (
            Situation(90, beside=RunningContainer("docker", "first", 89, 1, "first")),
            f"--network container:first --env A=b {PORT} {MODEL}:ro",
        ),
    ],
)
def test_an_image_is_started_in_its_situation_and_removed(docker: Path, situation: Situation, options: str) -> None:
    with image(docker).start(situation) as running:
        port = running.port

    inside = situation.port or 8080
    network = "first" if situation.beside else "ID"
    assert port == 4711
    assert asked(docker) == [
        f"run --detach --name ID {options} i serve",
        f"port {network} {inside}/tcp",
        "rm --force --volumes ID",
    ]


@pytest.mark.parametrize("situation", [Situation(90, model=False), Situation(90)])
def test_an_image_without_a_model_gets_an_empty_directory_that_anybody_may_read(
    docker: Path, situation: Situation
) -> None:
    with image(docker, model=None if situation.model else Path("/m")).start(situation):
        found = re.search(r"--volume (\S+):/opt/ml/model:ro", asked(docker)[0])
        assert found
        empty = Path(found[1])
        assert (list(empty.iterdir()), empty.stat().st_mode & 0o777) == ([], 0o755)

    assert not empty.exists()


def test_what_docker_cannot_start_is_said_in_its_last_words_and_removed(docker: Path) -> None:
    (docker / "run.err").write_text(f"first\n{'x' * 301}\n\nRun 'docker run --help' for more information\n")

    with pytest.raises(CannotStart, match=r"^x{300}$"), image(docker).start(Situation(90)):
        pass

    assert asked(docker)[-1] == "rm --force --volumes ID"


@pytest.mark.parametrize(
    ("runs", "log", "said"),
    [
        (False, "first\nno model\n", "it ended with exit code 3: no model"),
        (False, "", "it ended with exit code 3: nothing was said"),
        (True, "", "no port of it is published: nothing was said"),
    ],
)
def test_an_image_that_has_ended_already_is_said_to_in_the_words_for_one_that_ends_later(
    docker: Path, runs: bool, log: str, said: str
) -> None:
    (docker / "port.out").write_text("")
    (docker / "container.out").write_text(json.dumps({"Running": runs, "ExitCode": 3}))
    (docker / "logs.out").write_text(log)

    with pytest.raises(CannotStart, match=f"^{said}$"), image(docker).start(Situation(90)):
        pass


def test_an_image_that_docker_does_not_know_is_refused(docker: Path) -> None:
    (docker / "image.err").write_text("Error: No such image: i\n")

    with pytest.raises(ChainError, match=r"^i: Error: No such image: i; build or pull it first$"):
        Image.of("i", str(docker) + os.pathsep + os.environ["PATH"], None, {})
    (docker / "image.err").unlink()

    known = Image.of("i", str(docker) + os.pathsep + os.environ["PATH"], None, {})
    assert (known.name, known.mounts, known.facts()) == ("i", True, {"Os": "linux"})
    assert set(asked(docker)) == {"image inspect i"}


def test_the_manifest_is_the_one_in_the_registry(docker: Path) -> None:
    (docker / "buildx.out").write_text('{"mediaType": "application/x"}')
    for name in ("h.example/i:1", "localhost/i", "localhost:5000/i"):
        assert image(docker, name).manifest() == "application/x"
    assert asked(docker)[0] == "buildx imagetools inspect --raw h.example/i:1"

    (docker / "buildx.out").write_text("{}")
    assert image(docker, "h.example/i:1").manifest() == "none given"
    with pytest.raises(NotHere, match=r"^it is not pushed: name it as REGISTRY/REPOSITORY:TAG, or let build_and_push"):
        image(docker, "team/i:1").manifest()
    (docker / "buildx.err").write_text("denied\n")
    with pytest.raises(NotHere, match=r"^its registry does not show it: denied$"):
        image(docker, "h.example/i:1").manifest()


def test_files_of_an_image_are_listed_from_a_container_that_is_removed(docker: Path) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        directory = tarfile.TarInfo("ml")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        archive.addfile(tarfile.TarInfo("ml/a"))
    (docker / "cp.out").write_bytes(written.getvalue())

    found = image(docker).files_below("/opt/ml")
    commands = asked(docker)
    (docker / "cp.out").unlink()

    assert found == ["/ml/a"]
    assert commands == ["create --name ID i serve", "cp ID:/opt/ml -", "rm --force ID"]
    assert image(docker).files_below("/opt/ml") == []


def test_a_container_says_how_it_ended_and_what_it_wrote(docker: Path) -> None:
    running = RunningContainer(str(docker / "docker"), "c", 90, 1, "c")
    (docker / "logs.out").write_bytes(b"a\xff\n")
    (docker / "container.out").write_text('{"Running": true, "ExitCode": 0}')
    codes = [running.exit_code()]
    (docker / "container.out").write_text('{"Running": false, "ExitCode": 3}')
    codes += [running.exit_code(), running.terminate(60)]

    assert codes == [None, 3, 3]
    assert running.log() == "a\ufffd\n"
    assert asked(docker)[2:4] == ["kill --signal TERM c", "container inspect --format {{json .State}} c"]


def test_a_container_that_does_not_end_in_time_is_killed(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 10 * seconds

    monkeypatch.setattr(image_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    (docker / "container.out").write_text('{"Running": true, "ExitCode": 0}')

    assert RunningContainer(str(docker / "docker"), "c", 90, 1, "c").terminate(2) is None
    assert asked(docker)[-1] == "kill c"


def test_ports_of_a_container_on_another_machine_are_read_by_its_cat(docker: Path) -> None:
    running = RunningContainer(str(docker / "docker"), "c", 90, 1, "c")
    (docker / "container.out").write_text(json.dumps({"Running": True, "Pid": 2**22 + 1}))
    (docker / "exec.out").write_text("0: 00000000:1F90 00000000:0000 0A 0:0 00:0 0 0 0 11 1\n")

    assert running.listening() == {8080}
    assert asked(docker)[-1] == "exec c cat /proc/net/tcp /proc/net/tcp6"
    (docker / "exec.err").write_text("no cat\n")
    with pytest.raises(NotHere, match=r"^the engine is on another machine, and the image has no `cat`$"):
        running.listening()


TELL = "import json, os, sys; print(json.dumps([os.getcwd(), dict(os.environ), sys.stdin.read()])); sys.exit(7)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def program(directory: Path, code: str, **env: str) -> Program:
    return Program(directory, (sys.executable, "-c", code), Path("/m"), {"INHERITED": "1"}, env)


@pytest.mark.parametrize("given", [True, False])
def test_a_command_is_started_in_its_directory_with_its_port_and_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    monkeypatch.setattr(program_module, "_is_free", lambda _port: True)
    situation = Situation(90 if given else None, model=given, env={"MORE": "2"})

    with program(tmp_path, TELL, OWN="3").start(situation) as running:
        code = ended(running)
        directory, env, stdin = json.loads(running.log())
        model = Path(env["SM_MODEL_DIR"])
        empty = not given and list(model.iterdir()) == []

    bound = {"SAGEMAKER_BIND_TO_PORT": "90", "SAGEMAKER_SAFE_PORT_RANGE": "90-99"}
    assert (code, directory, stdin, running.port) == (7, str(tmp_path), "", 90 if given else 8080)
    assert {"INHERITED": "1", "MORE": "2", "OWN": "3"}.items() <= env.items()
    assert {name: env[name] for name in bound if name in env} == (bound if given else {})
    assert (model == Path("/m"), empty) == (given, not given)


def ended(running: Running) -> int:
    return running.process.wait(60)  # type: ignore[attr-defined, no-any-return]


def test_a_command_that_does_not_end_is_killed_and_one_that_is_left_too(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    deaf = program(tmp_path, DEAF)
    with deaf.start(Situation(port)) as running:
        wait_until(lambda: "up" in running.log(), "its first line")
        codes = [running.exit_code(), running.terminate(0.05), running.exit_code()]
    with deaf.start(Situation(port)) as left:
        pass

    assert codes == [None, None, -9]
    assert left.exit_code() == -9


def test_what_a_command_cannot_be_examined_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Program.of(tmp_path, "none --flag 'a b'", None, {}, {})
    said = []
    for situation in (Situation(90, user="1"), Situation(90, read_only=True)):
        with pytest.raises(NotHere) as refused, subject.start(situation):
            pass
        said.append(str(refused.value))
    monkeypatch.setattr(program_module, "_is_free", lambda _port: False)
    with pytest.raises(NotHere) as taken, subject.start(Situation(None)):
        pass
    monkeypatch.setattr(program_module, "_is_free", lambda _port: True)
    with pytest.raises(CannotStart, match=r"^none: No such file or directory$"), subject.start(Situation(90)):
        pass
    for ask in (subject.facts, subject.manifest, lambda: subject.files_below("/opt/ml")):
        with pytest.raises(NotHere) as absent:
            ask()
        said.append(str(absent.value))

    assert (subject.name, subject.mounts) == (f"{tmp_path} (none --flag 'a b')", False)
    assert said == [
        "this needs Docker",
        "this needs Docker",
        f"there is no Dockerfile in {tmp_path}",
        "this is no image",
        "this is no image that could have files below /opt/ml",
    ]
    assert str(taken.value) == "port 8080 is taken on this machine"
