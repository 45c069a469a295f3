"""Programs that are told to end while they still import what they need."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, in_background, started, wait_until

ENDLESS = "import os, time\nopen(os.path.dirname(__file__) + '/begun', 'w').close()\ntime.sleep(600)\n"
ALONE = ["unshare", "--pid", "--fork", "--kill-child"]  # the program is PID 1 of its own


def slow(directory: Path, module: str, **env: str) -> dict[str, str]:
    """An environment in which importing `module` says so by a file `begun` and does not end."""
    path = directory / f"{module.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ENDLESS)
    return os.environ | {"PYTHONPATH": f"{directory}:{ROOT}", "STAGE": "late", **env}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("command", "module", "code"),
    [
        ("serving serve", "ctypes", 0),
        ("serving train", "traceback", 1),
        ("local_test chain status", "argparse", 130),
        ("local_test chain status", "typing", 130),
        ("pipeline train", "argparse", 130),
        ("pipeline demo", "ipaddress", 130),
    ],
)
def test_a_program_that_still_imports_ends_when_it_is_told_to(
    command: str, module: str, code: int, number: int, tmp_path: Path
) -> None:
    program = in_background([sys.executable, "-m", *command.split()])
    env = slow(tmp_path, module)

    with started(program, env=env, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "begun").exists, "the import")
        process.send_signal(number)
        ended = process.wait(60)
        said = process.stderr.read()

    assert ended == code
    assert "Traceback" not in said


def test_a_function_that_still_loads_ends_when_it_is_told_to(tmp_path: Path) -> None:
    env = slow(tmp_path, "late.wsgi", AWS_LAMBDA_RUNTIME_API="127.0.0.1:1")

    with started([sys.executable, "-m", "serving", "serve"], env=env) as process:
        wait_until((tmp_path / "late/begun").exists, "the import")
        process.terminate()

        assert process.wait(60) == 0


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0,
    reason="this user may not make process ids of its own",
)
@pytest.mark.parametrize(("program", "code"), [("serve", 0), ("train", 1)])
def test_pid_1_that_is_told_to_end_before_python_runs_its_first_line_ends(
    program: str, code: int, tmp_path: Path
) -> None:
    """The kernel drops what PID 1 has no handler for, unless it is blocked."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import pathlib, time\npathlib.Path('{tmp_path}/begun').touch()\n"
        f"while not pathlib.Path('{tmp_path}/told').exists(): time.sleep(0.02)\n"
    )
    env = slow(tmp_path, "ctypes" if program == "serve" else "traceback")
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"

    with started([*ALONE, ROOT / "serving/bin" / program], env=env, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "begun").exists, "Python")
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        (tmp_path / "told").touch()

        assert process.wait(60) == code
