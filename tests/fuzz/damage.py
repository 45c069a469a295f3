"""Damage to the files of an artifact: to their bytes, to their numbers, to their structure."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
NUMBERS = (
    *(
        0,
        1,
        -1,
        2,
        -2,
        3,
        255,
        256,
        65_536,
        2**24,
        2**31 - 1,
        2**31,
        -(2**31),
        2**32 - 1,
        2**63 - 1,
        2**63,
        2**64,
        10**30,
    ),
    *(0.5, -0.0, 1e-45, 3.4e38, 3.5e38, 1e308, float("nan"), float("inf"), float("-inf")),
)
OTHERS = ("", "x", "0", "-1", "4294967296", "[1E0,2E0]", "1e999", "\0", "a" * 5000, None, True, False, [], {}, [[]])


def damaged(content: bytes, random: Random) -> bytes:
    """The content with one to three damages."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice((_bytes, _number, _structure, _structure, _structure))(content, random)
    return content


def _bytes(content: bytes, random: Random) -> bytes:
    if not content:
        return b"{"
    at = random.randrange(len(content))
    to = min(len(content), at + random.choice((1, 1, 2, 8, 100)))
    return random.choice(
        (
            lambda: content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :],
            lambda: content[:at] + random.randbytes(to - at) + content[to:],
            lambda: content[:at] + content[to:],
            lambda: content[:at] + content[at:to] * 2 + content[to:],
            lambda: content[:at] + random.choice((b"[", b"]", b"{", b"}", b",", b'"', b"-", b"0", b"9")) + content[at:],
            lambda: content[:at],
        )
    )()


def _number(content: bytes, random: Random) -> bytes:
    """Another number in the place of one, in any text: what no parser has seen yet."""
    if not (found := list(NUMBER.finditer(content))):
        return content + b"0"
    match = random.choice(found)
    made = random.choice((*map(repr, NUMBERS), "1e400", "-1e400", "NaN", "Infinity", "01", "1.", "1e", "--1", "true"))
    return content[: match.start()] + made.encode() + content[match.end() :]


def _structure(content: bytes, random: Random) -> bytes:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes(content, random)
    holder: Any = [document]
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key] and random.random() > 0.12:
        holder = holder[key]
        key = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    random.choice(_CHANGES)(holder, key, random)
    text = json.dumps(document)
    if random.random() < 0.05:  # a name twice, of which parsers take the first or the last
        text = text.replace("{", '{"left_children": [1], "num_trees": "9", "features": [], "files": {}, ', 1)
    return text.encode()


def _replace(holder: Any, key: Any, random: Random) -> None:
    holder[key] = copy.deepcopy(random.choice(NUMBERS if random.random() < 0.6 else OTHERS))


def _nudge(holder: Any, key: Any, random: Random) -> None:
    """A number beside the one that is there, also where it is written as text."""
    value, step = holder[key], random.choice((-1, 1, 2, 7))
    if isinstance(value, str) and value.isdigit():
        holder[key] = str(int(value) + step)
    elif isinstance(value, int | float):
        holder[key] = value + step
    else:
        _remove(holder, key, random)


def _remove(holder: Any, key: Any, _random: Random) -> None:
    del holder[key]


def _repeat(holder: Any, key: Any, random: Random) -> None:
    if isinstance(holder, list):
        holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[f"{key}_"] = holder[key]


def _swap(holder: Any, key: Any, random: Random) -> None:
    other = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    holder[key], holder[other] = holder[other], holder[key]


def _resize(holder: Any, key: Any, random: Random) -> None:
    """Every list of a node's fields longer or shorter, as a forger would: the counts agree with one another."""
    siblings = [
        value for value in (holder.values() if isinstance(holder, dict) else [holder]) if isinstance(value, list)
    ]
    for value in siblings:
        if value and random.random() < 0.9:
            value.append(copy.deepcopy(random.choice(value))) if random.random() < 0.8 else value.pop()
    if not siblings:
        _nudge(holder, key, random)


_CHANGES: tuple[Callable[[Any, Any, Random], None], ...] = (
    _replace,
    _replace,
    _nudge,
    _nudge,
    _remove,
    _repeat,
    _swap,
    _resize,
)
