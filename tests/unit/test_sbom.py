"""What an image is made of, told by its lock file and by a program that stands in for Docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import sbom

LOCK = """# a comment
flask==3.1.3 \\
    --hash=sha256:aaaa
numpy==2.4.6 ; sys_platform == "linux" \\
    --hash=sha256:bbbb
nvidia-nccl==2.1 ; platform_machine == "x86_64" and sys_platform == "linux"
pywin==1.0 ; sys_platform == "win32"
wheel==0.1+local.1
"""
ON_AMD64 = {"flask": "3.1.3", "numpy": "2.4.6", "nvidia-nccl": "2.1", "wheel": "0.1+local.1"}
DOCKER = """#!/bin/sh
if [ "$1" = image ]; then
  [ "$3" = there ] || { echo "No such image: $3" >&2; exit 1; }
  echo '[{"Id": "sha256:1234", "Architecture": "arm64"}]'
else
  printf '%s\\n' "$@" >"${0%/*}/asked"
  printf 'libc6\\t2.41-1\\tarm64\\ntzdata\\t1:2025b+x\\tall\\n'
fi
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("architecture", "packages"),
    [("amd64", ON_AMD64), ("arm64", {name: ON_AMD64[name] for name in ("flask", "numpy", "wheel")})],
)
def test_packages_are_those_of_the_lock_for_the_images_machine(architecture: str, packages: dict[str, str]) -> None:
    assert sbom.python_packages(LOCK, architecture) == packages


def test_the_document_has_what_is_locked_and_what_dpkg_lists(docker: Path) -> None:
    document = sbom.sbom(sbom.Image.of("there"), LOCK)

    assert [(one["name"], one["version"], one["purl"]) for one in document["components"]] == [
        ("flask", "3.1.3", "pkg:pypi/flask@3.1.3"),
        ("numpy", "2.4.6", "pkg:pypi/numpy@2.4.6"),
        ("wheel", "0.1+local.1", "pkg:pypi/wheel@0.1%2Blocal.1"),
        ("libc6", "2.41-1", "pkg:deb/debian/libc6@2.41-1?arch=arm64"),
        ("tzdata", "1:2025b+x", "pkg:deb/debian/tzdata@1%3A2025b%2Bx?arch=all"),
    ]
    references = [one["bom-ref"] for one in document["components"]]
    assert document["dependencies"] == [{"ref": "sha256:1234", "dependsOn": references}]
    assert document["metadata"]["component"]["name"] == "there"
    assert document == sbom.sbom(sbom.Image.of("there"), LOCK)
    assert {"--network", "none", "--rm"} <= set((docker / "asked").read_text().splitlines())


@pytest.mark.usefixtures("docker")
def test_the_lock_is_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom.main(["predictor", "there"]) == 0

    names = {one["name"] for one in json.loads(capsys.readouterr().out)["components"]}
    assert {"xgboost", "flask", "libc6"} <= names
    assert "scikit-learn" not in names


@pytest.mark.usefixtures("docker")
def test_an_image_that_is_not_there_ends_with_dockers_words() -> None:
    with pytest.raises(SystemExit) as end:
        sbom.main(["predictor", "absent"])

    assert end.value.code == "docker image: No such image: absent"
