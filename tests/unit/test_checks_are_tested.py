"""Every function that refuses is seen to refuse by a test, which tests/checks.toml names."""

from __future__ import annotations

import ast
import tomllib

from tests.conftest import ROOT
from tools.mutation.mutants import find_checks

PACKAGES = ("serving", "featurizer", "predictor", "pipeline", "local_test", "aws", "tools")
TABLE = tomllib.loads((ROOT / "tests" / "checks.toml").read_text(encoding="utf-8"))


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {f"{path}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_check_has_a_test_that_sees_it_refuse() -> None:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    checks = {str(path.relative_to(ROOT)): set(find_checks(ast.parse(path.read_text("utf-8")))) for path in modules}

    assert {path: set(tests) for path, tests in TABLE.items()} == {
        path: names for path, names in checks.items() if names
    }
    assert sum(map(len, TABLE.values())) > 100


def test_every_test_that_is_named_is_there() -> None:
    named = {test for tests in TABLE.values() for test in tests.values()}

    assert named - set().union(*(functions_of(test.partition("::")[0]) for test in named)) == set()
