"""What a stranger's server said, for a terminal: nothing in it moves the cursor or renames the window."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with every character that is none to be seen, line ends included, written as Python would."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
