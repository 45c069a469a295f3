"""What the documents promise is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|PORT|STAGE)"')
ENTRY_POINTS = ["serving/settings.py", "local_test/config.py", "local_test/plan.py"]


def variables() -> set[str]:
    return {name for file in ENTRY_POINTS for name in VARIABLE.findall((ROOT / file).read_text())}


def test_every_setting_stands_in_the_operations_table() -> None:
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "operations.md").read_text()))

    assert len(variables()) > 15
    assert variables() - documented == set()


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_linked_file_exists(document: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / document).read_text())

    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    shown = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", texts, re.MULTILINE))

    assert shown
    assert shown - targets == set()
