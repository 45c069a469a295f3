"""The directory whose path becomes words of nginx's configuration."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from serving import metrics, scoreboard
from serving.run_dir import run_directory
from serving.settings import MOST_WORKERS, BadSetting, Settings
from tests.servers import started


@pytest.mark.parametrize("name", ["a b", "a;b", "a{b}", "a$b", "a'b", 'a"b', "a\nb", "a\\b", "a#b", "a:b", "n" * 200])
def test_a_directory_that_nginx_would_read_as_something_else_is_refused(name: str, tmp_path: Path) -> None:
    with (
        pytest.raises(BadSetting, match="MODEL_SERVER_RUN_DIR or TMPDIR: expected a path"),
        run_directory(Settings(run_dir=tmp_path / name)),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(BadSetting, match="MODEL_SERVER_RUN_DIR: expected a directory"),
        run_directory(Settings(run_dir=tmp_path / "file" / "below")),
    ):
        pass


def test_a_temporary_directory_with_a_blank_is_refused_and_nothing_stays(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))

    with pytest.raises(BadSetting, match="TMPDIR"), run_directory(Settings()):
        pass

    assert list((tmp_path / "a b").iterdir()) == []


def test_a_plain_one_is_used_and_a_fresh_one_is_removed(tmp_path: Path) -> None:
    with run_directory(Settings(run_dir=tmp_path / "r")) as given, run_directory(Settings()) as fresh:
        assert given.is_dir()
        assert fresh.is_dir()

    assert given.is_dir()
    assert not fresh.exists()


def test_a_container_without_a_temporary_directory_uses_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)

    with run_directory(Settings()) as fresh:
        assert fresh.parent == Path("/dev/shm")  # noqa: S108 - what the container has


def test_a_reload_of_as_many_workers_as_may_be_has_a_place_for_each() -> None:
    assert min(scoreboard.SLOTS, metrics.SLOTS) >= 2 * MOST_WORKERS


@pytest.mark.parametrize(("length", "fits"), [(90, True), (91, False)])
def test_a_directory_has_a_path_of_at_most_90_bytes(length: int, fits: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="r") as base:
        path = Path(base, "n" * (length - len(base) - 1))
        if fits:
            with run_directory(Settings(run_dir=path)) as given:
                assert given.is_dir()
        else:
            with pytest.raises(BadSetting, match="a path of at most 90 bytes"), run_directory(Settings(run_dir=path)):
                pass


def test_a_directory_is_one_servers_until_that_ends(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    hold = "import sys, serving.run_dir as r, serving.settings as s, pathlib\n"
    hold += "with r.run_directory(s.Settings(run_dir=pathlib.Path(sys.argv[1]))): print(flush=True); input()"
    with started([sys.executable, "-c", hold, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with (
            pytest.raises(BadSetting, match="another server uses it; give each its own, or none"),
            run_directory(settings),
        ):
            pass
        other.kill()
        other.wait(60)

        with run_directory(settings) as mine:
            assert mine == tmp_path
