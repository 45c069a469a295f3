"""What the processes of a run share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Once


def test_a_shared_directory_is_filled_once_and_anew_after_a_failure(once: Once, tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        pytest.skip("data that it needs is not there")

    def fill(directory: Path) -> None:
        (directory / "whole").touch()
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()

    for _ in range(2):
        with pytest.raises(pytest.skip.Exception):
            once("sharing", fail)
    first, second = once("sharing", fill), once("sharing", fill)

    assert first == second
    assert [path.name for path in first.iterdir()] == ["whole"]
    assert len(list(tmp_path.iterdir())) == 1
