"""Who may import whom, and what the images must share."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("serving", "featurizer", "predictor", "pipeline", "local_test", "aws", "tools")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
MAY_IMPORT = {
    "serving": {"serving"},
    "featurizer": {"featurizer", "serving"},
    "predictor": {"predictor", "serving"},
    "local_test": {"local_test", "serving", "aws"},
    "pipeline": {"pipeline", "serving", "featurizer", "predictor", "aws"},
    "aws": {"aws"},
    "tools": {"tools", "serving", "featurizer", "predictor"},
}
CODECS = ("serving.formats.", "serving.cells")
ENTRY_POINTS = ("__main__.py", "wsgi.py", "gunicorn_conf.py")
TRAINING = {
    *(
        "featurizer.train",
        "featurizer.compile",
        "featurizer.proof",
        "featurizer.schema",
        "predictor.train",
        "predictor.search",
        "serving.training",
        "pipeline",
    ),
    *("sklearn.model_selection", "xgboost.training", "matplotlib"),
}
SERVED = [
    f"{stage}.{name}"
    for stage in ("featurizer", "predictor")
    for name in ("model", "records", "features", "wsgi")
    if f"{stage}.{name}" in MODULES
]


def imported(module: str, top_level_only: bool = False) -> set[str]:
    """The names of all modules that a module imports; of `from a import b` both a and a.b."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reached(module: str) -> set[str]:
    """What importing a module imports in the end."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imported(waiting.pop(), top_level_only=True) - found:
            found.add(name)
            if name in MODULES:
                waiting.append(name)
    return found


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_every_package_is_looked_at() -> None:
    assert tops(set(MODULES)) == set(PACKAGES)
    assert "serving.app" in imported("featurizer.wsgi") | reached("featurizer.wsgi")
    assert {"featurizer.model", "featurizer.records", "predictor.features", "predictor.wsgi"} <= set(SERVED)


@pytest.mark.parametrize("module", MODULES)
def test_a_package_imports_only_those_it_may(module: str) -> None:
    ours = tops(imported(module)) & set(PACKAGES)

    assert ours <= MAY_IMPORT[module.partition(".")[0]]


@pytest.mark.parametrize("module", [module for module in MODULES if module.partition(".")[0] == "serving"])
def test_the_model_server_needs_flask_and_small_codecs_only(module: str) -> None:
    allowed = {*sys.stdlib_module_names, "serving", "flask", "werkzeug", "orjson"}
    if module.startswith(CODECS):
        allowed |= {"numpy"}
    if module in ("serving.gunicorn_conf", "serving.framing", "serving.threads", "serving.worker"):
        allowed |= {"gunicorn"}

    assert tops(imported(module)) - allowed == set()


@pytest.mark.parametrize("module", MODULES)
def test_aws_is_known_to_those_who_ask_it_and_to_those_who_play_it(module: str) -> None:
    aws = tops(imported(module)) & {"sagemaker", "boto3", "botocore", "awscli", "moto"}

    assert not aws or module.startswith(("pipeline", "local_test", "aws"))


def environment_uses(path: Path) -> Iterator[int]:
    """The lines that use os.environ and its like; WSGI's request.environ is another thing."""
    doors = {"environ", "environb", "getenv", "putenv"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        of_os = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if of_os and node.attr in doors:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os" and doors & {alias.name for alias in node.names}:
            yield node.lineno


def test_only_entry_points_read_the_environment() -> None:
    uses = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in MODULES.values()
        if path.name not in ENTRY_POINTS
        for line in environment_uses(path)
    }

    assert uses == set()
    assert set(environment_uses(ROOT / "serving" / "__main__.py"))


def test_every_command_ends_at_an_interrupt_also_in_a_scripts_background() -> None:
    commands = {module for module in MODULES if module.endswith("__main__")}
    asked = {module for module in commands if "\n    raise_when_interrupted()" in MODULES[module].read_text("utf-8")}

    # The model server and the control plane end in an order of their own.
    assert commands - asked == {"serving.__main__", "local_test.control_plane.__main__"}


@pytest.mark.parametrize("module", SERVED)
def test_what_serves_never_imports_what_trains(module: str) -> None:
    assert reached(module) & TRAINING == set()


SINGLE = "pipeline.wsgi"  # the single container's entry point


def test_the_single_container_imports_both_stages_and_neither_training_nor_aws() -> None:
    names = reached(SINGLE)

    assert {"featurizer.model", "predictor.model", "serving.app"} <= names
    assert names & (TRAINING - {"pipeline"}) == set()
    assert tops(names) & {"sagemaker", "boto3", "botocore", "sklearn", "pandas", "xgboost", "local_test"} == set()


def test_the_single_containers_image_has_those_modules_of_the_pipeline_that_it_imports() -> None:
    dockerfile = (ROOT / "pipeline" / "Dockerfile").read_text(encoding="utf-8")
    needed = {SINGLE, "pipeline", *(name for name in reached(SINGLE) if name in MODULES)}

    copied = set(re.findall(r"pipeline/\w+\.py", dockerfile))

    assert copied == {str(MODULES[name].relative_to(ROOT)) for name in needed if name.startswith("pipeline")}


def test_the_trainers_image_has_every_package_that_the_pipeline_imports() -> None:
    dockerfile = (ROOT / "pipeline" / "train.Dockerfile").read_text(encoding="utf-8")
    sent = re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)

    copied = set(re.findall(r"^COPY (\w+) ", dockerfile, re.MULTILINE))

    assert copied == MAY_IMPORT["pipeline"] == copied & set(sent)


def test_the_model_server_never_imports_a_stage() -> None:
    names = {name for module in MODULES if module.startswith("serving") for name in tops(imported(module))}

    assert names & {"featurizer", "predictor", "pipeline", "local_test", "sklearn", "xgboost", "pandas"} == set()


def test_the_dockerfiles_are_one_text_with_one_word_changed() -> None:
    images = ("featurizer", "predictor", "local_test")
    texts = [(ROOT / image / "Dockerfile").read_text(encoding="utf-8").splitlines() for image in images]

    differing = [lines for lines in zip(*texts, strict=True) if len(set(lines)) > 1]

    assert differing
    for lines in differing:
        assert len({line.replace(image, "IMAGE") for image, line in zip(images, lines, strict=True)}) == 1


def test_the_single_containers_dockerfile_is_that_text_with_the_packages_of_both_stages() -> None:
    single = (ROOT / "pipeline" / "Dockerfile").read_text(encoding="utf-8").replace("${REQUIREMENTS}", "pipeline")
    common = (ROOT / "featurizer" / "Dockerfile").read_text(encoding="utf-8").replace("featurizer", "pipeline")

    added = re.findall(r"^(?!#).+", single, re.MULTILINE)
    missing = [line for line in re.findall(r"^(?!#).+", common, re.MULTILINE) if line not in added]

    assert missing == ["COPY pipeline /opt/program/pipeline"]


DOCKERFILES = sorted([*ROOT.glob("*/*Dockerfile"), *ROOT.glob("tests/*/*Dockerfile")])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_dockerfile_lets_every_user_read_what_it_copies(path: Path) -> None:
    last = path.read_text(encoding="utf-8").replace("\\\n", " ").rpartition("\nFROM ")[2]
    copied = re.findall(r"^COPY (?!--from).* (/\S+)$", last, re.MULTILINE)
    after = last[last.rindex("\nCOPY ") :]

    opened = re.findall(r"^RUN chmod (?:-R a\+rX|a\+rx) (/\S+)", after, re.MULTILINE)

    assert copied
    assert [target for target in copied if not target.startswith(tuple(opened) or "none")] == []


LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_by_hash_and_names_no_index(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]

    loose = [line[:60] for line in requirements if not re.match(r"[\w.\[\]-]+==\S+.*--hash=sha256:[0-9a-f]{64}", line)]

    assert requirements
    assert loose == []
    assert re.search(r"https?:|--(extra-)?index|--find-links|--trusted-host", text) is None


def test_every_image_has_a_lock() -> None:
    assert {path.stem for path in LOCKS} >= {"featurizer", "predictor", "local_test", "pipeline", "trainer", "dev"}
