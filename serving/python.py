"""The Python that runs a command, before anything is imported that it may lack."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def refuse_bare(program: str) -> None:
    """End the program where this Python is too old, or has none of the packages that everything here needs."""
    if sys.version_info < (3, 11) or not find_spec("orjson"):
        sys.exit(
            f"{program}: expected Python 3.11 or newer with the locked packages, got Python {sys.version.split()[0]} "
            f"of {sys.executable}; run `make setup`, then `.venv/bin/python -m {program}`"
        )
