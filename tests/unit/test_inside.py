"""A name from outside never becomes a path that leaves its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.inside import OutsideError, inside


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "/etc/x", "//etc/x", "../x", "a/../../x", "a/../x", "a/..", "\0", "a\0b", "\ud800"),
        *("n" * 256, "é" * 128, "a/" * 2048 + "a"),
        *("out", "out/x", "sub/up", "round/x"),
    ],
)
def test_a_name_that_would_lead_out_is_refused(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "here"
    (directory / "sub").mkdir(parents=True)
    (directory / "out").symlink_to(tmp_path)
    (directory / "sub" / "up").symlink_to("../..")
    (directory / "round").symlink_to("round")
    (tmp_path / "here-too").mkdir()
    (directory / "beside").symlink_to(tmp_path / "here-too")

    with pytest.raises(OutsideError, match="expected a name of a file below here, got "):
        inside(directory, name)
    with pytest.raises(OutsideError):
        inside(directory, "beside/x")


@pytest.mark.parametrize("name", ["a", "a/b", "a//b", "./a", "...", "a b", "n" * 255, "é" * 127, "-", "link/a"])
def test_a_plain_name_is_a_path_below_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "kept").mkdir(parents=True)
    (tmp_path / "there" / "link").symlink_to("kept")

    assert inside(tmp_path / "here", name) == tmp_path / "here" / name
