"""Large answers that outlive their worker: it hands them over to the supervisor, with the connection, to be sent.

nginx passes the head of an answer on before it has read the body, so a worker that is killed in between would leave its
client with status 200 and half an answer. A small answer is one write, which a kill does not divide. A large one is
whole before the supervisor begins to send it; until then nginx has seen nothing of it, and tries another worker.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

VARIABLE = "SERVING_HANDOVER"
_FDS = 2  # the connection, and the answer


def start_sender() -> socket.socket | None:
    """Send what is handed over, from threads that live as long as the process.

    Returns the end that workers inherit; None where the system has no files in memory.
    """
    if not hasattr(os, "memfd_create"):
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    threading.Thread(target=_receive, args=(ours,), name="sender", daemon=True).start()
    return theirs


def hand_over(channel: socket.socket, client: socket.socket, head: bytes, body: bytes) -> None:
    """The answer is the supervisor's once this returns. Raises `OSError` while nothing of it has been sent."""
    with os.fdopen(os.memfd_create("answer"), "wb", buffering=0) as file:
        for part in (head, body):
            view = memoryview(part)
            while view:
                view = view[file.write(view) :]
        socket.send_fds(channel, [b"."], [client.fileno(), file.fileno()])


def _receive(channel: socket.socket) -> None:
    with channel:
        while True:
            word, fds, _, _ = socket.recv_fds(channel, 1, _FDS)
            if not word:
                return
            try:
                if len(fds) < _FDS:
                    raise RuntimeError("no descriptor is left")
                threading.Thread(target=_send, args=fds, name="answer", daemon=True).start()
            except RuntimeError:  # nginx sees the connection close, and tries another worker
                for fd in fds:
                    os.close(fd)


def _send(client: int, answer: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=client) as connection, os.fdopen(answer, "rb") as file:
        connection.sendfile(file)  # also where the worker left the connection as one that does not block
