"""Standard input, output and error of a server: none of them holds it up, and none of them is another file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT

UNBLOCK = """
import os, sys
from serving import output
output.unblock()
with open(sys.argv[1], "w") as told:
    print(*(int(os.get_blocking(descriptor)) for descriptor in (1, 2)), file=told)
if len(sys.argv) > 2:
    os.execv(sys.executable, [sys.executable, "-S", "-c", sys.argv[2], sys.argv[1]])
"""
COMPARE = """
import os, sys
with open(sys.argv[1], "w") as told:
    print(*(os.path.samefile(f"/proc/self/fd/{descriptor}", "/dev/null") for descriptor in (0, 1, 2)), file=told)
"""


def unblocked(told: Path, stdout: int, stderr: int) -> str:
    command = [sys.executable, "-c", UNBLOCK, str(told)]
    subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=stderr, check=True)
    return told.read_text().strip()


def test_a_pipe_is_not_waited_for_and_stays_as_it_was_for_others(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    blocking = unblocked(tmp_path / "told", writer, writer)

    assert blocking == "0 0"
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_a_socket_is_not_waited_for(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unblocked(tmp_path / "told", ours.fileno(), ours.fileno()) == "0 0"


def test_a_file_is_written_to_as_ever(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        assert unblocked(tmp_path / "told", log.fileno(), log.fileno()) == "1 1"


def test_a_stream_that_is_closed_is_nothing_for_the_server_and_for_what_it_starts(tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -c "$0" "$1" "$2" <&- >&- 2>&-'

    subprocess.run(["sh", "-c", command, UNBLOCK, tmp_path / "told", COMPARE], cwd=ROOT, check=True)

    assert (tmp_path / "told").read_text().split() == ["True"] * 3
