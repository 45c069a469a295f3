"""tools/setup.sh and `make clean`: what they say and leave."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIP = """#!/bin/sh
for name in $(seq 20); do echo "Collecting p$name==1"; done
for name in $(seq 21 25); do echo "Processing ./p$name-1.whl"; done
echo "  Downloading p1-1-py3-none-any.whl"
echo "Installing collected packages: p1"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A place with the script, 25 requirements, and nothing installed."""
    for name in ("tools", "requirements", "bin"):
        (tmp_path / name).mkdir()
    for name in ("tools/setup.sh", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    lines = [f"p{n}==1 \\\n    --hash=sha256:{n:064}" for n in range(1, 26)]
    (tmp_path / "requirements" / "dev.txt").write_text("# made\n" + "\n".join(lines) + "\n")
    return tmp_path


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def setup(checkout: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["tools/setup.sh"], cwd=checkout, env=os.environ | env, capture_output=True, text=True, check=False
    )


def test_a_python_that_is_too_old_is_named(checkout: Path) -> None:
    for name in ("bash", "env", "dirname"):
        (checkout / "bin" / name).symlink_to(shutil.which(name) or name)
    script(checkout / "bin/python3", '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n')

    done = setup(checkout, PATH=str(checkout / "bin"))

    assert done.returncode == 1
    assert done.stderr == (
        f"setup: expected Python 3.11 or newer on PATH, found Python 3.9.2 ({checkout}/bin/python3); Debian 12, "
        "Ubuntu 24.04 and newer have it: apt-get install python3 python3-venv\n"
    )
    (checkout / "bin/python3").unlink()
    assert "on PATH, found none;" in setup(checkout, PATH=str(checkout / "bin")).stderr


def test_it_says_what_it_does_while_it_works(checkout: Path) -> None:
    script(checkout / ".venv/bin/python", PIP)
    script(checkout / "bin/nginx", "#!/bin/sh\n")

    done = setup(checkout, PATH=f"{checkout}/bin:{os.environ['PATH']}")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "setup: installing 25 locked packages into .venv, about 1 GB: two or three minutes, and more on a slow network",
        "setup: fetched 10 of 25",
        "setup: fetched 20 of 25",
        "setup: fetched all; writing them takes about as long",
    ]
    assert (checkout / ".venv/.installed").exists()


def test_without_a_network_our_words_come_before_pips(checkout: Path) -> None:
    done = setup(checkout, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull)

    lines = [line for line in done.stderr.splitlines() if "notice" not in line]
    assert done.returncode != 0
    assert lines[-3] == (
        "setup: the packages were not installed; pip needs a network, or an index of yours (PIP_INDEX_URL). It says:"
    )
    assert [line.partition(" ")[0] for line in lines[-2:]] == ["ERROR:", "ERROR:"]
    assert not (checkout / ".venv/.installed").exists()


def test_clean_keeps_models(checkout: Path) -> None:
    for name in ("artifacts/own/predictor/model.tar.gz", ".local_test/demo/report.txt", ".venv/lib"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()

    subprocess.run(["make", "clean"], cwd=checkout, check=True)

    assert (checkout / "artifacts/own/predictor/model.tar.gz").exists()
    assert not any((checkout / name).exists() for name in (".local_test", ".venv"))
