"""The children of PID 1: signalled, reaped with every orphan, and never left behind."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import children as module
from serving.children import Children
from serving.tied import tied
from tests.servers import wait_until

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)
LONG = time.monotonic() + 10**6


@pytest.fixture
def children() -> Iterator[Children]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    children = Children()
    yield children
    children.kill_all()
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    for descriptor in children._pipe:
        os.close(descriptor)


def run(children: Children, script: str, name: str = "child") -> int:
    children.start(name, ["sh", "-c", script], dict(os.environ))
    return children.running[name].pid


def ended(children: Children) -> list[str]:
    """The names of the children that ended, once there are some."""
    return wait_until(lambda: children.wait_for_event(1)[1], "a child to end")


def gone(pid: int) -> bool:
    """Return whether a process has ended; nobody may have waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "child ended, exit code 0"),
        ("exit 3", "child ended, exit code 3"),
        ("kill -TERM $$", "child ended, exit code -15"),
        ("kill -KILL $$", "child ended, exit code -9: killed; is the memory limit too small?"),
    ],
)
def test_a_child_that_ends_is_told_with_its_exit_code(
    children: Children, caplog: pytest.LogCaptureFixture, script: str, said: str
) -> None:
    with caplog.at_level(logging.INFO, logger="serving.serve"):
        run(children, script)
        names = ended(children)

    assert names == ["child"]
    assert children.running == {}
    assert [record.getMessage() for record in caplog.records] == [said]


def test_memory_is_not_blamed_for_what_was_killed_here(children: Children, caplog: pytest.LogCaptureFixture) -> None:
    run(children, "sleep 100")

    with caplog.at_level(logging.INFO, logger="serving.serve"):
        children.kill_all()

    assert [record.getMessage() for record in caplog.records] == ["child ended, exit code -9"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # as in a server: where it is an error, nobody else reaps
def test_a_child_that_ended_before_another_was_started_is_told(children: Children) -> None:
    first = run(children, "exit 0", "first")
    wait_until(lambda: gone(first), "the first child to end")

    run(children, "sleep 100", "second")

    assert ended(children) == ["first"]


def test_children_that_end_together_are_all_told(children: Children) -> None:
    for name in "abc":
        run(children, "exit 0", name)

    names: list[str] = []
    while len(names) < 3:
        names += ended(children)

    assert sorted(names) == ["a", "b", "c"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_to_this_process_is_an_event_and_ends_nothing(children: Children, number: int) -> None:
    os.kill(os.getpid(), number)

    assert children.wait_for_event(20) == ([number], [])


def test_nothing_happens_within_the_time_it_is_waited_for(children: Children) -> None:
    assert children.wait_for_event(0) == ([], [])


def test_a_child_gets_the_signals_that_are_sent_to_it(children: Children, tmp_path: Path) -> None:
    run(children, f"trap 'exit 7' HUP; touch {tmp_path}/ready; while :; do sleep 0.01; done")
    wait_until((tmp_path / "ready").exists, "the child")

    children.signal("nobody", signal.SIGHUP)
    before = children.wait_until_gone("child", 0)
    children.signal("child", signal.SIGHUP)

    assert before is False
    assert children.wait_until_gone("child", LONG) is True
    children.signal("child", signal.SIGHUP)


@pytest.mark.parametrize("how", ["all are killed", "the child is killed"])
def test_what_a_child_has_started_ends_with_it(children: Children, tmp_path: Path, how: str) -> None:
    child = run(children, f"sleep 100 & echo $! > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; wait")
    wait_until((tmp_path / "pid").exists, "the grandchild")
    grandchild = int((tmp_path / "pid").read_text())

    if how == "all are killed":
        children.kill_all()
    else:
        os.kill(child, signal.SIGKILL)
        assert ended(children) == ["child"]

    assert children.running == {}
    wait_until(lambda: gone(grandchild), "the grandchild to end")


def test_a_child_has_the_environment_and_the_descriptors_it_is_given_and_a_group_of_its_own(
    children: Children,
) -> None:
    reader, writer = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), f'{os.environ} {os.getpgrp() == os.getpid()}'.encode())"
    children.start("child", [sys.executable, "-S", "-c", code, str(writer)], {"ONLY": "this"}, keep=[writer])
    os.close(writer)
    said = os.read(reader, 1 << 16).decode()
    os.close(reader)

    assert "'ONLY': 'this'" in said
    assert "PATH" not in said
    assert said.endswith("True")
    assert children.wait_until_gone("child", LONG)


def test_a_child_whose_parent_has_ended_by_now_does_not_begin(tmp_path: Path) -> None:
    command = tied(["touch", str(tmp_path / "begun")])
    command[command.index(str(os.getpid()))] = str(2**22 + 1)

    code = subprocess.run(command, check=False).returncode

    assert code == -signal.SIGTERM
    assert not (tmp_path / "begun").exists()


def test_with_pid_1_everything_ends_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)

    assert tied(["nginx", "-V"]) == ["nginx", "-V"]
    assert tied(["nginx", "-V"], 1)[-3:] == ["1", "nginx", "-V"]


def test_a_child_gets_no_more_memory_than_it_may_have() -> None:
    program = "import resource; print(*resource.getrlimit(resource.RLIMIT_AS))"

    ran = subprocess.run(tied([sys.executable, "-c", program], 1 << 30), capture_output=True, text=True, check=True)

    assert ran.stdout.split() == [str(1 << 30)] * 2


def test_who_does_not_read_what_a_child_says_does_not_hold_it_up() -> None:
    reader, writer = module._log_pipe()
    try:
        taken = sum(os.write(writer, b"x" * 4096) for _ in range(16))
        with pytest.raises(BlockingIOError):
            os.write(writer, b"x" * (2 << 20)) and os.write(writer, b"x")
    finally:
        os.close(reader)
        os.close(writer)

    assert taken == 1 << 16


def test_what_a_child_says_is_logged_whatever_its_bytes(children: Children, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        children.start("talker", ["sh", "-c", r"printf 'one\n[error] \377\n' >&2"], dict(os.environ), relay=True)
        wait_until(lambda: sum(record.name == "talker" for record in caplog.records) == 2, "both lines")

    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "talker"]
    assert lines == [("INFO", "one"), ("ERROR", r"[error] \xff")]


def test_of_a_flood_of_lines_only_the_number_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([*[5.0] * 100, *[6.0] * 250, 7.5, 8.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))

    with caplog.at_level(logging.INFO, logger="flood"):
        module._relay("flood", io.StringIO("".join(f"line {number}\n" for number in range(352))))

    told = [record.getMessage() for record in caplog.records]
    assert told == [
        *(f"line {number}" for number in range(200)),
        "150 more lines of flood were not logged",
        "line 350",
        "line 351",
    ]
