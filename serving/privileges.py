"""What root may do, given up for good before anything is listened on or any model is read."""

from __future__ import annotations

import ctypes
import logging
import os
import socket
from pathlib import Path

from serving.settings import Settings

log = logging.getLogger("serving.serve")

_DROP_FROM_BOUNDING_SET, _NO_NEW_PRIVILEGES = 24, 38  # linux/prctl.h
_CAPABILITIES = 64
_OPEN_TO_ALL = 1024  # the first port that no system keeps for root


class Refused(Exception):
    """What the server was told to do needs a right that it does not have."""


def give_up(settings: Settings) -> None:
    """Go on as the user that the settings name. Raises `Refused` for what cannot end well.

    Without such a user, or started by somebody else than root, this process stays who it is. So does root, with a
    warning, where that user could not serve: a platform that shows the model to root only leaves no other way.
    """
    if settings.user:
        _forbid_new_privileges()
        if os.geteuid() == 0:
            _leave_root(settings, settings.user)
    if not _may_listen(settings):
        raise Refused(f"port {settings.port}: expected a port that user {os.geteuid()} may listen on")


def _leave_root(settings: Settings, user: int) -> None:
    try:
        obstacle = _obstacle(settings, user)
    except PermissionError as error:  # as nginx would find out later
        raise Refused(f"expected root's capabilities SETUID and SETGID, or to be started as user {user}") from error
    if obstacle:
        log.warning("staying root: %s", obstacle)
        return
    _become(user)
    log.info("no longer root: user and group %s", user)


def _obstacle(settings: Settings, user: int) -> str:
    """Why this user could not serve; empty when it can. Root tries it on and comes back."""
    groups = os.getgroups()
    try:
        os.setgroups([])
        os.setegid(user)
        os.seteuid(user)
        if closed := _unreadable(settings.model_dir):
            return f"user {user} cannot read {closed}"
        if (
            settings.run_dir
            and settings.run_dir.exists()
            and not os.access(settings.run_dir, os.W_OK, effective_ids=True)
        ):
            return f"user {user} cannot write to {settings.run_dir}"
        return "" if _may_listen(settings) else f"user {user} may not listen on port {settings.port}"
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _become(user: int) -> None:
    for capability in range(_CAPABILITIES):  # nothing that is started from here on can have one again
        if _prctl(_DROP_FROM_BOUNDING_SET, capability) != 0:
            break  # the kernel has no more
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise Refused(f"expected to be user {user} for good, and became root again")


def _unreadable(directory: Path) -> str:
    """What below the directory may not be read. That there is none is for the stage to report."""
    closed: list[OSError] = []
    for place, _, names in os.walk(directory, onerror=closed.append):
        for path in (Path(place, name) for name in names):
            if not path.is_symlink() and not os.access(path, os.R_OK, effective_ids=True):
                return str(path)
    return next((str(error.filename) for error in closed if isinstance(error, PermissionError)), "")


def _may_listen(settings: Settings) -> bool:
    """Whether a port is not kept for root; whatever else is wrong with it, the server says when it listens."""
    if settings.port >= _OPEN_TO_ALL:
        return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


def _forbid_new_privileges() -> None:
    """From here on no program gains rights from its file, whatever bits it has."""
    if _prctl(_NO_NEW_PRIVILEGES, 1) != 0:
        log.warning("this kernel does not know no_new_privs")


def _prctl(option: int, value: int) -> int:
    rest = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    return int(ctypes.CDLL(None).prctl(option, *rest))
