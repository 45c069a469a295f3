"""`python -m tools.audit`: are there known vulnerabilities in what is locked here? pip-audit asks, this judges.

pip-audit says "No known vulnerabilities found" of packages that the database does not know, or that it could not be
asked about. Here every package is clean, vulnerable, or not checked. `--ci` lets pass what was not checked.

exit codes: 0 all checked and clean (with --ci: or not checked), 1 vulnerable, 2 not checked
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted(path for path in (ROOT / "requirements").glob("*.txt") if path.name != "audit.txt")
HOME = ROOT / ".venv-audit"
DATABASE = "https://api.osv.dev/v1/vulns/PYSEC-2023-228"  # of pip before 23.3: what knows it, knows more
PATIENCE = 5  # seconds
MOST_NAMED = 5


class NotChecked(Exception):
    """The database did not answer, or pip-audit did not."""


@dataclass(frozen=True)
class Found:
    """What is known of the packages; each word is ready to be read."""

    clean: tuple[str, ...] = ()
    vulnerable: tuple[str, ...] = ()
    unfixed: tuple[str, ...] = ()  # nobody has a version without it yet
    unchecked: tuple[str, ...] = ()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument("--ci", action="store_true", help="exit 0 when the database cannot be asked")
    parser.add_argument("--database", default=DATABASE, help="the URL that must answer (default: %(default)s)")
    parser.add_argument("--pip-audit", type=Path, help="the program (default: one installed into .venv-audit)")
    given = parser.parse_args(arguments)
    lenient = 0 if given.ci else 2
    try:
        reach(given.database)
        found = judged(ask(given.pip_audit or installed(), LOCKS))
    except NotChecked as error:
        print(f"audit: NOT CHECKED: {error}")
        return lenient
    report(found)
    if found.vulnerable:
        return 1
    return lenient if found.unchecked else 0


def reach(database: str) -> None:
    """Raises `NotChecked` where there is no database, as behind a mirror that has packages only."""
    try:
        with urllib.request.urlopen(database, timeout=PATIENCE) as answer:  # noqa: S310 - ours, or the caller's
            if not json.load(answer).get("affected"):
                raise NotChecked(f"{database} names no package, though there is one")
    except (OSError, ValueError) as error:
        raise NotChecked(f"{database} does not answer ({error})") from error


def installed() -> Path:
    """pip-audit, in an environment of its own: it has packages of other versions than we run."""
    program = HOME / "bin" / "pip-audit"
    if not program.exists():
        venv.create(HOME, clear=True, with_pip=True)
        lock = ROOT / "requirements" / "audit.txt"
        pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=False).returncode != 0:
            raise NotChecked("pip-audit cannot be installed")
    return program


def ask(program: Path, locks: Sequence[Path]) -> str:
    """pip-audit's JSON. It exits 1 when it found something, and when it failed."""
    files = [part for lock in locks for part in ("--requirement", str(lock))]
    options = [
        "--vulnerability-service",
        "osv",
        "--disable-pip",
        "--require-hashes",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    done = subprocess.run([program, *options, *files], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise NotChecked(f"pip-audit failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def judged(answer: str) -> Found:
    """Every package by what is known of it."""
    clean: set[str] = set()
    vulnerable: set[str] = set()
    unfixed: set[str] = set()
    unchecked: set[str] = set()
    for package in json.loads(answer)["dependencies"]:
        if "skip_reason" in package:
            unchecked.add(package["name"])
            continue
        named = f"{package['name']} {package['version']}"
        for flaw in package["vulns"]:
            fixed = ", ".join(flaw["fix_versions"])
            (vulnerable if fixed else unfixed).add(f"{named}: {flaw['id']}" + (f", fixed in {fixed}" if fixed else ""))
        if not package["vulns"]:
            clean.add(named)
    return Found(*(tuple(sorted(names)) for names in (clean, vulnerable, unfixed, unchecked)))


def report(found: Found) -> None:
    for line in found.vulnerable:
        print(f"audit: VULNERABLE: {line}")
    for line in found.unfixed:
        print(f"audit: vulnerable, and not fixed yet: {line}")
    if found.unchecked:
        named = ", ".join(found.unchecked[:MOST_NAMED]) + (", ..." if len(found.unchecked) > MOST_NAMED else "")
        print(f"audit: NOT CHECKED: {len(found.unchecked)} packages that the database does not know: {named}")
    print(f"audit: {len(found.clean)} packages without a known vulnerability")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
