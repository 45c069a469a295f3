"""Commands that are told to end, though their shell ignored Ctrl-C: they stop what they started, and so does that."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Server, in_background, started, wait_until

LOCAL_TEST = (sys.executable, "-m", "local_test")
RUN = "import sys\nfrom local_test.process import run_command\nfrom serving.interrupt import raise_when_interrupted\n"
RUN += "raise_when_interrupted()\nrun_command([sys.executable, '-c', sys.argv[1], *sys.argv[2:]])"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_log_is_followed_until_an_interrupt(number: int, tmp_path: Path) -> None:
    (tmp_path / "router.log").write_text("begun\n", encoding="utf-8")
    follow = [*LOCAL_TEST, "chain", "logs", "--follow", "router", "--state", tmp_path]

    with started(in_background(follow), stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        code = process.wait(60)

    assert code == 130
    assert Server(process, 0, tmp_path).processes() == []


def test_an_interrupted_check_stops_what_it_checks(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    check = [*LOCAL_TEST, "check", tmp_path, "--serve", "sh -c 'echo $$ >new; mv new pid; exec sleep 60'"]

    with started(in_background([*check, "--only", "serve"])) as process:
        wait_until(file.exists, "the program to be started")
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)

    assert code == 130
    assert not Path("/proc", file.read_text().strip()).exists()


def test_a_command_in_the_foreground_has_time_to_end_after_an_interrupt(tmp_path: Path) -> None:
    script = "import pathlib, sys, time\ntry:\n    print('begun', flush=True); time.sleep(60)\n"
    script += "finally:\n    time.sleep(1); pathlib.Path(sys.argv[1]).touch()"

    with started(
        in_background([sys.executable, "-c", RUN, script, tmp_path / "tidied"]),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    assert (tmp_path / "tidied").exists()


def test_a_second_interrupt_kills_a_command_that_does_not_end() -> None:
    script = "import os, signal, time\nsignal.signal(signal.SIGINT, lambda *_: print('asked', flush=True))\n"
    script += "print(os.getpid(), flush=True); time.sleep(60)"

    with started(
        in_background([sys.executable, "-c", RUN, script]),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        pid = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        process.wait(60)

    assert not Path("/proc", pid).exists()


def test_a_training_does_not_outlive_the_control_plane_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "traceback.py").write_text(  # what the training imports
        f"import os, pathlib, time\npathlib.Path('{tmp_path}/new').write_text(str(os.getpid()))\n"
        f"os.rename('{tmp_path}/new', '{tmp_path}/pid')\ntime.sleep(600)\n"
    )
    train = "import os, pathlib, sys, threading\nfrom local_test.control_plane.process_host import ProcessHost\n"
    train += "tree = pathlib.Path(sys.argv[1])\nhost = ProcessHost(os.environ | {'PYTHONPATH': sys.argv[1]})\n"
    train += "host.train('featurizer', tree, {}, tree / 'log', threading.Event())"

    with started([sys.executable, "-c", train, tmp_path]) as process:
        wait_until((tmp_path / "pid").exists, "the training")
        process.kill()
        process.wait(60)
        training = Path("/proc", (tmp_path / "pid").read_text())
        wait_until(lambda: not training.exists(), "the training to end")
