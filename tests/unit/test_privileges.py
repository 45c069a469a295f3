"""Root's power, given up: each case in a process of its own, since there is no way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root has something to give up"),
]
USER = 10001
UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
BECOME_USER = f"os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER})"
LOSE_SETUID = """
import ctypes
held = [int(status()[name][0], 16) & ~(1 << 6 | 1 << 7) for name in ("CapEff", "CapPrm", "CapInh")]
data = [number >> shift & (1 << 32) - 1 for shift in (0, 32) for number in held]
assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*data)) == 0
"""
GIVE_UP = """
import json, os, sys
from pathlib import Path
from serving import logs
from serving.privileges import Refused, give_up
from serving.settings import Settings
status = lambda: {line.partition(":")[0]: line.partition(":")[2].split() for line in open("/proc/self/status")}
before = status()["NoNewPrivs"]
os.setgroups([4242])
logs.configure("test", "INFO")
exec(sys.argv[2])
try:
    give_up(Settings.from_env(json.loads(sys.argv[1])))
except Refused as error:
    sys.exit(f"refused: {error}")
found = status()
wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
print(json.dumps({name: found[name] for name in wanted} | {"before": before}))
for regain in (os.setuid, os.setgid, os.seteuid, os.setegid):
    try:
        regain(0)
        print("regained")
    except PermissionError:
        pass
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody may look into, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="privileges-") as directory:
        Path(directory).chmod(0o755)
        (Path(directory) / "contract.json").write_text("{}")
        (Path(directory) / "contract.json").chmod(0o644)
        yield Path(directory)


def begun(env: dict[str, str], before: str = "") -> subprocess.CompletedProcess[str]:
    """The process that gives up what `env` says, after having done what `before` says."""
    command = [sys.executable, "-c", GIVE_UP, json.dumps(env), before]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def give_up(*, before: str = "", **env: str) -> tuple[dict[str, Any], str, str]:
    """What the process was afterwards, what else it printed, and its log."""
    done = begun(env, before)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    return json.loads(first), rest, done.stderr


def test_root_becomes_the_user_for_good_and_keeps_no_capability(shared: Path) -> None:
    after, regained, log = give_up(MODEL_SERVER_USER=str(USER), SM_MODEL_DIR=str(shared))

    assert after["Uid"] == after["Gid"] == [str(USER)] * 4
    assert after["Groups"] == []
    assert {int(*after[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert after["NoNewPrivs"] == ["1"]
    assert regained == ""
    assert f"no longer root: user and group {USER}" in log


@pytest.mark.parametrize("env", [{}, {"MODEL_SERVER_USER": "root"}])
def test_without_a_user_everything_stays_as_it_was(env: dict[str, str]) -> None:
    after, _, log = give_up(**env)

    assert after["Uid"] == ["0"] * 4
    assert after["NoNewPrivs"] == after["before"]
    assert log == ""


def test_a_model_that_only_root_may_read_keeps_root_and_is_named(shared: Path) -> None:
    (shared / "contract.json").chmod(0o600)

    after, _, log = give_up(MODEL_SERVER_USER=str(USER), SM_MODEL_DIR=str(shared))

    assert after["Uid"] == after["Gid"] == ["0"] * 4
    assert int(*after["CapEff"], 16) > 0
    assert "WARNING" in log
    assert f"staying root: user {USER} cannot read {shared / 'contract.json'}" in log


@pytest.mark.parametrize("group", [0, 4242])
def test_a_model_that_only_a_group_of_roots_may_read_keeps_root_and_its_groups(shared: Path, group: int) -> None:
    os.chown(shared / "contract.json", 0, group)
    (shared / "contract.json").chmod(0o640)

    after, _, log = give_up(MODEL_SERVER_USER=str(USER), SM_MODEL_DIR=str(shared))

    assert after["Uid"] == after["Gid"] == ["0"] * 4
    assert after["Groups"] == ["4242"]
    assert f"staying root: user {USER} cannot read {shared / 'contract.json'}" in log


def test_a_model_directory_that_only_root_may_open_keeps_root_too(shared: Path) -> None:
    shared.chmod(0o700)

    after, _, log = give_up(MODEL_SERVER_USER=str(USER), SM_MODEL_DIR=str(shared))

    assert after["Uid"] == ["0"] * 4
    assert f"cannot read {shared}" in log


def test_a_run_directory_that_only_root_may_write_to_keeps_root(shared: Path) -> None:
    settings = {"SM_MODEL_DIR": str(shared), "MODEL_SERVER_RUN_DIR": str(shared)}

    after, _, log = give_up(MODEL_SERVER_USER=str(USER), **settings)

    assert after["Uid"] == ["0"] * 4
    assert f"cannot write to {shared}" in log


def test_a_missing_model_is_no_reason_to_stay_root(shared: Path) -> None:
    after, _, _ = give_up(MODEL_SERVER_USER=str(USER), SM_MODEL_DIR=str(shared / "none"))

    assert after["Uid"] == [str(USER)] * 4


def test_a_process_of_another_user_stays_who_it_is_without_new_privileges(shared: Path) -> None:
    after, _, log = give_up(before=BECOME_USER, MODEL_SERVER_USER="12", SM_MODEL_DIR=str(shared))

    assert after["Uid"] == [str(USER)] * 4
    assert after["NoNewPrivs"] == ["1"]
    assert log == ""


@pytest.mark.skipif(int(UNPRIVILEGED.read_text()) <= 80, reason="everybody may listen on port 80 here")
@pytest.mark.parametrize(("port", "stays"), [("80", True), ("1024", False)])
def test_a_port_that_the_user_may_not_listen_on_keeps_root(shared: Path, port: str, stays: bool) -> None:
    after, _, log = give_up(MODEL_SERVER_USER=str(USER), SM_MODEL_DIR=str(shared), PORT=port)

    assert after["Uid"] == ["0" if stays else str(USER)] * 4
    assert (f"staying root: user {USER} may not listen on port {port}" in log) is stays


@pytest.mark.skipif(int(UNPRIVILEGED.read_text()) <= 80, reason="everybody may listen on port 80 here")
def test_a_port_that_nobody_but_root_may_listen_on_is_refused_to_others() -> None:
    done = begun({"PORT": "80"}, BECOME_USER)

    assert (done.returncode, done.stderr) == (1, f"refused: port 80: expected a port that user {USER} may listen on\n")


def test_a_root_that_cannot_become_another_user_is_refused(shared: Path) -> None:
    done = begun({"MODEL_SERVER_USER": str(USER), "SM_MODEL_DIR": str(shared)}, LOSE_SETUID)

    said = f"refused: expected root's capabilities SETUID and SETGID, or to be started as user {USER}\n"
    assert (done.returncode, done.stderr) == (1, said)
