"""`python -m tools.sbom STAGE IMAGE`: what an image is made of, as CycloneDX JSON on standard output.

Python packages are those of the stage's lock file, from which the image was built; Debian's are asked of the image.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_DPKG = "${Package}\\t${Version}\\t${Architecture}\\n"


@dataclass(frozen=True)
class Image:
    """What Docker says of an image."""

    name: str
    id: str
    architecture: str

    @classmethod
    def of(cls, name: str) -> Image:
        found = json.loads(_docker("image", "inspect", name))[0]
        return cls(name, found["Id"], found["Architecture"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=__doc__)
    parser.add_argument("stage", help="requirements/STAGE.txt is the lock file")
    parser.add_argument("image", help="the image that was built from it")
    given = parser.parse_args(arguments)
    lock = (ROOT / "requirements" / f"{given.stage}.txt").read_text(encoding="utf-8")
    print(json.dumps(sbom(Image.of(given.image), lock), indent=2))
    return 0


def sbom(image: Image, lock: str) -> dict[str, Any]:
    """The document. The same image gives the same one."""
    debian, python = debian_packages(image), python_packages(lock, image.architecture)
    packages = [
        *(_component(name, version, f"pkg:pypi/{name}@{quote(version)}") for name, version in sorted(python.items())),
        *(_component(name, version, _deb(name, version, arch)) for name, version, arch in debian),
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, image.id)}",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "bom-ref": image.id, "name": image.name, "version": image.id},
        },
        "components": packages,
        "dependencies": [{"ref": image.id, "dependsOn": [package["bom-ref"] for package in packages]}],
    }


def python_packages(lock: str, architecture: str) -> dict[str, str]:
    """Version by name, of what a lock file has for an image of this architecture."""
    machine = {"sys_platform": "linux", "platform_machine": MACHINES.get(architecture, architecture)}
    found = [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[A-Za-z0-9].*", lock, re.MULTILINE)]
    meant = [one for one in found if not one.marker or one.marker.evaluate(machine)]
    return {one.name: str(one.specifier).removeprefix("==") for one in meant}


def debian_packages(image: Image) -> list[tuple[str, str, str]]:
    """Name, version and architecture, as the image's own dpkg has them."""
    listed = _docker("run", "--rm", "--network", "none", image.name, "dpkg-query", "--show", "--showformat", _DPKG)
    rows = [line.split("\t") for line in listed.splitlines()]
    return [(name, version, architecture) for name, version, architecture in rows]


def _component(name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _deb(name: str, version: str, architecture: str) -> str:
    return f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
