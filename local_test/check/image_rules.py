"""What an image shows without being started."""

from __future__ import annotations

import re

from local_test.check.case import Case, Seen, doubtful, fine, wrong
from local_test.check.subject import LABEL, NotHere

_DOCKERS = "application/vnd.docker.distribution.manifest."
_SHELL = re.compile(r"(.*/)?(ba|da|z|k|a)?sh")
_INIT = ("tini", "dumb-init", "catatonit")


def architecture(case: Case) -> Seen:
    facts = case.subject.facts()
    if "Architecture" not in facts:
        raise NotHere("this is no image")
    found = f"{facts['Os']}/{facts['Architecture']}"
    if found == "linux/amd64":
        return fine(found)
    if found == "linux/arm64":
        return doubtful(f"{found}: for Graviton instances only, which neither batch nor training have")
    return wrong(found)


def bind_to_port_label(case: Case) -> Seen:
    value = (case.subject.facts()["Config"].get("Labels") or {}).get(LABEL)
    return fine("true") if value == "true" else wrong(f"{LABEL}: {'not there' if value is None else repr(value)}")


def exec_form(case: Case) -> Seen:
    config = case.subject.facts()["Config"]
    entrypoint = config.get("Entrypoint") or []
    if not entrypoint:
        return fine("no ENTRYPOINT: `serve` itself is executed")
    shown = " ".join(entrypoint)[:120]
    if _SHELL.fullmatch(entrypoint[0]) and entrypoint[1:2] == ["-c"]:
        return wrong(f"ENTRYPOINT is a shell's: {shown}")
    if entrypoint[0].rpartition("/")[2] in _INIT and len(entrypoint) < 2:
        return wrong(f"{shown}: takes `serve` for its own argument")
    return fine(shown)


def user(case: Case) -> Seen:
    name = case.subject.facts()["Config"].get("User") or "root"
    return fine(name) if name.partition(":")[0] in ("root", "0") else doubtful(f"USER {name}")


def nothing_in_opt_ml(case: Case) -> Seen:
    files = case.subject.files_below("/opt/ml")
    return wrong(f"{len(files)} files, such as {files[0][:120]}") if files else fine("nothing there")


def manifest(case: Case) -> Seen:
    media = case.subject.manifest()
    return fine(media) if media.startswith(_DOCKERS) else wrong(media)


EXAMINED = {
    "architecture": architecture,
    "bind-to-port-label": bind_to_port_label,
    "exec-form": exec_form,
    "user": user,
    "nothing-in-opt-ml": nothing_in_opt_ml,
    "manifest": manifest,
}
