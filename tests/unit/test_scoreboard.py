"""Which workers are ready, in memory that processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.scoreboard import SLOTS, Scoreboard
from tests.servers import started


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create()
    yield board
    os.close(board.fd)


def test_the_server_is_ready_once_every_worker_has_loaded(board: Scoreboard) -> None:
    answers = [board.ready(2)]
    for slot in (1, 2):
        board.mark_ready(slot)
        answers.append(board.ready(2))

    assert answers == [False, False, True]


def test_a_worker_that_is_replaced_does_not_unready_the_others(board: Scoreboard) -> None:
    board.mark_ready(1)
    board.mark_ready(2)
    board.ready(2)

    board.clear(1)

    assert board.ready(2)


def test_a_server_without_a_worker_is_not_ready(board: Scoreboard) -> None:
    board.mark_ready(1)
    board.ready(1)

    board.clear(1)

    assert not board.ready(1)


def test_a_worker_lost_while_starting_must_come_back(board: Scoreboard) -> None:
    board.mark_ready(1)
    board.clear(1)
    board.mark_ready(2)

    assert not board.ready(2)


def test_a_draining_server_is_never_ready_again(board: Scoreboard) -> None:
    board.mark_ready(1)
    board.ready(1)

    board.drain()
    board.mark_ready(2)

    assert not board.ready(1)


@pytest.mark.parametrize(("taken", "slot"), [(set(), 1), ({1, 2}, 3), ({2}, 1), (set(range(1, SLOTS)), SLOTS)])
def test_a_worker_gets_the_first_free_slot(board: Scoreboard, taken: set[int], slot: int) -> None:
    assert board.assign(taken) == slot


def test_a_child_process_marks_itself_on_the_same_page(board: Scoreboard) -> None:
    code = "import sys; from serving.scoreboard import Scoreboard as S; S.attach(int(sys.argv[1])).mark_ready(7)"

    subprocess.run([sys.executable, "-c", code, str(board.fd)], pass_fds=[board.fd], check=True)

    assert board.cells[7] > 0
    assert board.ready(1)


def test_nothing_of_the_page_stays_on_the_disk(board: Scoreboard, tmp_path: Path) -> None:
    assert board.fd > 0
    assert list(tmp_path.iterdir()) == []


def test_the_first_worker_says_which_model_is_served(board: Scoreboard) -> None:
    first, other = bytes(range(32)), bytes(range(1, 33))

    answers = [board.agree(first), board.agree(other), board.agree(first)]

    assert answers == [first] * 3


def test_a_model_and_the_last_worker_do_not_share_their_place(board: Scoreboard) -> None:
    board.mark_ready(SLOTS)

    assert board.agree(b"\xff" * 32) == b"\xff" * 32
    assert board.cells[SLOTS] == os.getpid()
    assert sum(1 for pid in board.cells[1 : SLOTS + 1] if pid) == 1


def test_a_worker_that_is_not_busy_is_able(board: Scoreboard) -> None:
    board.mark_ready(1)

    assert board.able(patience=0)


def test_a_worker_busy_for_longer_than_it_may_be_is_not_able(board: Scoreboard) -> None:
    board.mark_ready(1)
    board.since[1] = time.monotonic() - 10

    assert board.able(patience=60)
    assert not board.able(patience=5)


def test_one_able_worker_is_enough(board: Scoreboard) -> None:
    board.mark_ready(1)
    board.mark_ready(2)
    board.since[1] = time.monotonic() - 10

    assert board.able(patience=5)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_worker_that_is_stopped_or_dead_is_not_able(board: Scoreboard, number: int) -> None:
    with started(["sleep", "60"]) as worker:
        board.cells[1] = worker.pid
        before = board.able(patience=60)

        worker.send_signal(number)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        after = board.able(patience=60)

    assert (before, after, board.able(patience=60)) == (True, False, False)
