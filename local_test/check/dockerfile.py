"""What a Dockerfile makes of an image's configuration, as far as the rules look at it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

_INSTRUCTION = re.compile(r"\s*(FROM|LABEL|ENTRYPOINT|CMD|USER)\s+(.*)", re.IGNORECASE)
_COMMENT = re.compile(r"^\s*#.*\n?", re.MULTILINE)


def configuration(text: str) -> Mapping[str, Any]:
    """Labels, Entrypoint, Cmd and User of the last stage, as Docker keeps them; of another image's it knows nothing."""
    stages: dict[str, dict[str, Any]] = {}
    config = _nothing()
    for line in _COMMENT.sub("", text).replace("\\\n", " ").splitlines():
        if not (found := _INSTRUCTION.match(line)):
            continue
        instruction, rest = found[1].upper(), found[2].strip()
        if instruction == "FROM":
            base, name = _stage(rest)
            config = deepcopy(stages.get(base) or _nothing())
            stages[name or str(len(stages))] = config
        elif instruction == "LABEL":
            config["Labels"] |= _labels(rest)
        elif instruction == "USER":
            config["User"] = rest
        else:
            config[instruction.capitalize()] = _command(rest)
    return config


def _nothing() -> dict[str, Any]:
    return {"Labels": {}, "Entrypoint": None, "Cmd": None, "User": ""}


def _stage(rest: str) -> tuple[str, str]:
    """What `FROM` names, and what it calls the stage; both in small letters, in which Docker compares them."""
    words = [word for word in rest.lower().split() if not word.startswith("--")]
    named = len(words) == 3 and words[1] == "as"
    return (words or [""])[0], words[2] if named else ""


def _labels(rest: str) -> dict[str, str]:
    try:
        words = shlex.split(rest)
    except ValueError:  # an open quote, which Docker refuses
        return {}
    if words and "=" not in words[0]:  # LABEL NAME VALUE, the older form
        return {words[0]: " ".join(words[1:])}
    return dict(word.partition("=")[::2] for word in words)


def _command(rest: str) -> list[str]:
    """In its JSON form, else a shell's, as Docker takes also what is almost JSON."""
    try:
        listed = json.loads(rest)
    except ValueError:
        listed = None
    if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
        return listed
    return ["/bin/sh", "-c", rest]
