"""build_and_push.sh, with programs on PATH that stand in for docker and aws and write down what they were asked."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.endpoint import release
from pipeline.endpoint.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "build_and_push.sh"
NEEDED = ("bash", "git", "sed", "grep", "cat", "mktemp", "rm", "mkdir", "dirname", "env")
REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
DIGEST = "sha256:" + "ab" * 32
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

# Both find what they answer in the files of $FAKE.
AWS = """#!/usr/bin/env bash
printf '%q ' aws "$@" >>"$FAKE/calls"; echo >>"$FAKE/calls"
refuse() { echo "An error occurred ($1) when calling the operation: $2" >&2; exit 254; }
[ ! -e "$FAKE/$2.error" ] || refuse "$(cat "$FAKE/$2.error")" "no"
case "$1 $2" in
  "configure get") cat "$FAKE/region" 2>/dev/null || exit 255 ;;
  "sts get-caller-identity") echo 123456789012 ;;
  "ecr describe-repositories")
    [ -d "$FAKE/$4" ] || refuse RepositoryNotFoundException "no $4"
    echo "$(cat "$FAKE/registry")/$4" ;;
  "ecr create-repository") mkdir -p "$FAKE/$4" ;;
  "ecr put-lifecycle-policy") ;;
  "ecr get-authorization-token") echo "https://$(cat "$FAKE/registry")" ;;
  "ecr get-login-password") echo open-sesame ;;
  "ecr describe-images")
    cat "$FAKE/$4/${6#imageTag=}" 2>/dev/null || refuse ImageNotFoundException "no $6" ;;
  *) echo "unexpected: $*" >&2; exit 3 ;;
esac
"""
DOCKER = """#!/usr/bin/env bash
printf '%q ' docker "$@" >>"$FAKE/calls"; echo >>"$FAKE/calls"
pushed() { # URI
  name=${1#*/}
  [ ! -e "$FAKE/lost" ] || return 0
  [ ! -e "$FAKE/push.error" ] || { cat "$FAKE/push.error" >&2; exit 1; }
  printf '%s\\t%s\\n' "$(cat "$FAKE/digest")" "$(cat "$FAKE/media_type")" >"$FAKE/${name/://}"
  [ ! -e "$FAKE/race" ] || { echo "tag invalid: it exists and is immutable" >&2; exit 1; }
}
case "$1 $2" in
  "version --format") [ ! -e "$FAKE/no-engine" ] || exit 1 ;;
  "buildx version") [ ! -e "$FAKE/no-buildx" ] || exit 1 ;;
  "login --username") cat >"$FAKE/password"; [ ! -e "$FAKE/no-registry" ] || exit 1 ;;
  "buildx build")
    echo "what docker says"
    [ ! -e "$FAKE/build.error" ] || exit 1
    for word in "$@"; do case $word in *,push=true,*) word=${word#*name=}; pushed "${word%%,*}" ;; esac; done ;;
  "build --platform") ;;
  "push "*) pushed "$2" ;;
  "buildx imagetools"|"image inspect")
    case "$*" in
      *Manifest.Digest*) cat "$FAKE/base" 2>/dev/null || exit 1 ;;
      *revision*) cat "$FAKE/revision" ;;
      *) cat "$FAKE/architecture" ;;
    esac ;;
  *) echo "unexpected: $*" >&2; exit 3 ;;
esac
"""
UNAME = '#!/usr/bin/env bash\ncat "$FAKE/machine"\n'


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str
    calls: list[list[str]]

    def called(self, *words: str) -> list[list[str]]:
        return [call for call in self.calls if call[: len(words)] == list(words)]


@dataclass(frozen=True)
class World:
    """A small checkout, and what the programs around it answer."""

    checkout: Path
    fake: Path
    programs: Path

    def run(self, *arguments: str, **env: str) -> Done:
        (self.fake / "calls").write_text("")
        done = subprocess.run(
            [self.programs / "bash", self.checkout / "build_and_push.sh", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": str(self.programs), "FAKE": str(self.fake), "HOME": str(self.fake)} | env,
        )
        calls = [shlex.split(line) for line in (self.fake / "calls").read_text().splitlines()]
        return Done(done.returncode, done.stdout, done.stderr, calls)

    def answers(self, name: str, text: str = "") -> None:
        (self.fake / name).parent.mkdir(parents=True, exist_ok=True)
        (self.fake / name).write_text(text)

    def has_image(self, name: str, tag: str, media_type: str = DOCKER_MANIFEST) -> None:
        self.answers(f"serial-inference/{name}/{tag}", f"{DIGEST}\t{media_type}\n")

    def git(self, *arguments: str) -> str:
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=self.checkout, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    @property
    def commit(self) -> str:
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "check out", tmp_path / "fake", tmp_path / "programs")
    for stage in ("featurizer", "predictor", "local_test", "pipeline"):
        (made.checkout / stage).mkdir(parents=True)
        (made.checkout / stage / "Dockerfile").write_text("FROM scratch\n")
    (made.checkout / "docs").mkdir()
    (made.checkout / "docs" / "a.md").write_text("a\n")
    shutil.copy2(SCRIPT, made.checkout)
    made.git("init", "--quiet")
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", "first")
    made.programs.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found
        (made.programs / name).symlink_to(found)
    for name, text in (("aws", AWS), ("docker", DOCKER), ("uname", UNAME)):
        (made.programs / name).write_text(text)
        (made.programs / name).chmod(0o755)
    for name, text in {
        "registry": REGISTRY, "digest": DIGEST, "media_type": DOCKER_MANIFEST, "architecture": "linux/amd64",
        "machine": "x86_64", "region": "eu-west-1",
    }.items():  # fmt: skip
        made.answers(name, text)
    return made


def test_both_images_are_built_for_amd64_and_pushed_under_the_commit(world: World) -> None:
    done = world.run()

    tag = world.commit[:12]
    assert done.code == 0, done.err
    assert f"tag {tag}\n" in done.err
    assert done.out.splitlines() == [
        f"{name:12} {REGISTRY}/serial-inference/{name}@{DIGEST}" for name in ("featurizer", "predictor")
    ]
    for name in ("featurizer", "predictor"):
        build, push = (call for call in done.called("docker", "buildx", "build") if f"{name}/Dockerfile" in call)
        assert build[-1] == push[-1] == "."
        assert {"--provenance=false", "--sbom=false", f"org.opencontainers.image.revision={world.commit}"} < set(push)
        assert push[push.index("--platform") + 1] == "linux/amd64"
        uri = f"{REGISTRY}/serial-inference/{name}:{tag}"
        assert f"type=image,name={uri},push=false,oci-mediatypes=false" in build
        assert f"type=image,name={uri},push=true,oci-mediatypes=false" in push


def test_the_single_container_is_pushed_when_it_is_asked_for(world: World) -> None:
    done = world.run("pipeline")

    assert done.out == f"pipeline     {REGISTRY}/serial-inference/pipeline@{DIGEST}\n"
    builds = done.called("docker", "buildx", "build")
    assert [call[call.index("--file") + 1] for call in builds] == ["pipeline/Dockerfile"] * 2  # one is the push


def test_nothing_is_pushed_before_all_is_built(world: World) -> None:
    outputs = [call[-2] for call in world.run().called("docker", "buildx", "build")]

    assert ["push=true" in output for output in outputs] == [False, False, True, True]


def test_the_password_goes_through_standard_input_only(world: World) -> None:
    done = world.run()

    assert done.called("docker", "login") == [["docker", "login", "--username", "AWS", "--password-stdin", REGISTRY]]
    assert (world.fake / "password").read_text() == "open-sesame"
    assert "open-sesame" not in str(done)


def test_a_missing_repository_is_made_with_immutable_tags_scans_and_a_lifecycle(world: World) -> None:
    done = world.run("--keep", "7", "predictor")

    (made,) = done.called("aws", "ecr", "create-repository")
    (policy,) = done.called("aws", "ecr", "put-lifecycle-policy")
    rule = json.loads(policy[policy.index("--lifecycle-policy-text") + 1])["rules"][0]
    assert made[4] == policy[4] == "serial-inference/predictor"
    assert made[made.index("--image-tag-mutability") + 1] == "IMMUTABLE"
    assert made[made.index("--image-scanning-configuration") + 1] == "scanOnPush=true"
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 7}
    assert rule["action"] == {"type": "expire"}


def test_a_repository_that_is_there_is_left_as_it_is(world: World) -> None:
    world.answers("serial-inference/predictor/.keep")

    done = world.run("predictor")

    assert done.code == 0
    assert not done.called("aws", "ecr", "create-repository")
    assert not done.called("aws", "ecr", "put-lifecycle-policy")


def test_a_repository_that_somebody_made_a_moment_ago_is_used(world: World) -> None:
    (world.programs / "aws").write_text(
        AWS.replace('create-repository") mkdir -p "$FAKE/$4"',
                    'create-repository") mkdir -p "$FAKE/$4"; refuse RepositoryAlreadyExistsException "$4"')
    )  # fmt: skip

    done = world.run("predictor")

    assert done.code == 0, done.err
    assert not done.called("aws", "ecr", "put-lifecycle-policy")


def test_the_uri_is_the_one_that_ecr_answers(world: World) -> None:
    world.answers("registry", "127.0.0.1:5001")

    done = world.run("predictor", "--repository-prefix", "team/a")

    assert done.out == f"predictor    127.0.0.1:5001/team/a/predictor@{DIGEST}\n"
    assert done.called("docker", "login")[0][-1] == "127.0.0.1:5001"


def test_json_has_everything_that_deploy_needs(world: World) -> None:
    done = world.run("--json")

    answer = json.loads(done.out)
    assert {"account": answer["account"], "region": answer["region"], "tag": answer["tag"]} == {
        "account": "123456789012", "region": "eu-west-1", "tag": world.commit[:12]
    }  # fmt: skip
    assert list(answer["images"]) == ["featurizer", "predictor"]
    assert answer["images"]["predictor"] == {
        "uri": f"{REGISTRY}/serial-inference/predictor@{DIGEST}",
        "repositoryUri": f"{REGISTRY}/serial-inference/predictor",
        "tag": world.commit[:12],
        "digest": DIGEST,
        "mediaType": DOCKER_MANIFEST,
        "pushed": True,
    }


def test_a_commit_that_is_there_already_is_shown_and_neither_built_nor_pushed(world: World) -> None:
    world.has_image("predictor", world.commit[:12])

    done = world.run("predictor", "--json")

    assert done.code == 0
    assert "is there already" in done.err
    assert DIGEST in done.err
    assert json.loads(done.out)["images"]["predictor"]["pushed"] is False
    assert not done.called("docker", "buildx", "build")


def test_a_push_that_somebody_else_was_faster_with_ends_well(world: World) -> None:
    world.answers("race")

    done = world.run("predictor", "--json")

    assert done.code == 0, done.err
    assert "is there already" in done.err
    assert json.loads(done.out)["images"]["predictor"]["pushed"] is False


def dirty(world: World) -> str:
    (world.checkout / "docs" / "a.md").write_text("b\n")
    return f"{world.commit[:12]}-dirty"


def test_a_dirty_tree_is_said_and_marked(world: World) -> None:
    tag = dirty(world)

    done = world.run("predictor", "--json")

    assert done.code == 0
    assert "not committed" in done.err
    assert json.loads(done.out)["tag"] == tag
    assert f"org.opencontainers.image.revision={world.commit}-dirty" in done.called("docker", "buildx", "build")[0]


def test_a_file_that_git_does_not_know_makes_the_tree_dirty(world: World) -> None:
    (world.checkout / "featurizer" / "new.py").write_text("")

    assert json.loads(world.run("predictor", "--json").out)["tag"].endswith("-dirty")


def test_deploy_looks_for_the_tag_that_was_pushed(world: World) -> None:
    for _ in range(2):
        assert release.commit_tag(world.checkout) == json.loads(world.run("predictor", "--json").out)["tag"]
        dirty(world)

    with pytest.raises(PipelineError, match="is no git checkout"):
        release.commit_tag(world.fake)


def test_a_dirty_tag_that_is_there_is_not_taken_for_this_tree(world: World) -> None:
    world.has_image("predictor", dirty(world))

    done = world.run("predictor")

    assert done.code == 1
    assert "may be of other sources" in done.err
    assert not done.called("docker", "buildx", "build")


@pytest.mark.parametrize(("same", "code"), [(True, 0), (False, 1), (None, 1)])
def test_a_tag_of_ones_own_that_is_there_must_be_of_this_commit(world: World, same: bool | None, code: int) -> None:
    world.has_image("predictor", "v1.0")
    if same is not None:
        world.answers("revision", world.commit if same else "0" * 40)

    done = world.run("predictor", "--tag", "v1.0")

    assert done.code == code, done.err
    assert (DIGEST in done.out) == bool(same)


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST, "None"])
@pytest.mark.parametrize("there", [True, False])
def test_another_manifest_than_dockers_is_refused(world: World, media_type: str, there: bool) -> None:
    world.answers("media_type", media_type)
    if there:
        world.has_image("predictor", world.commit[:12], media_type)

    done = world.run("predictor")

    assert done.code == 1
    assert done.out == ""
    assert media_type in done.err
    assert f"batch-delete-image --repository-name serial-inference/predictor --image-ids imageTag={world.commit[:12]}" \
        in done.err  # fmt: skip


@pytest.mark.parametrize("buildx", [True, False])
def test_an_image_of_another_architecture_is_refused(world: World, buildx: bool) -> None:
    world.answers("architecture", "linux/arm64")
    if not buildx:
        world.answers("no-buildx")

    done = world.run("predictor")

    assert done.code == 1
    assert "linux/arm64" in done.err


def test_an_image_whose_architecture_cannot_be_read_is_pushed_with_a_warning(world: World) -> None:
    (world.fake / "architecture").unlink()

    done = world.run("predictor")

    assert (done.code, DIGEST in done.out) == (0, True)
    assert f"warning: the architecture of {REGISTRY}/serial-inference/predictor@{DIGEST} could not be read" in done.err


def test_an_image_that_ecr_does_not_show_after_its_push_is_an_error(world: World) -> None:
    world.answers("lost")

    done = world.run("predictor")

    assert (done.code, done.out) == (1, "")
    assert f"ECR does not show {REGISTRY}/serial-inference/predictor:{world.commit[:12]}, which was pushed" in done.err


def test_a_tag_without_a_digest_is_not_there(world: World) -> None:
    world.answers(f"serial-inference/predictor/{world.commit[:12]}", "None\tNone\n")

    done = world.run("predictor")

    assert (done.code, DIGEST in done.out) == (0, True)


@pytest.mark.parametrize(("arguments", "code"), [((), 1), (("--tag", "v1"), 0)])
def test_outside_of_a_commit_a_tag_must_be_given(world: World, arguments: tuple[str, ...], code: int) -> None:
    shutil.rmtree(world.checkout / ".git")

    done = world.run("predictor", *arguments)

    assert done.code == code, done.err
    assert ("no commit is checked out here" in done.err) == (code == 1)
    assert "org.opencontainers.image.revision" not in str(done.calls)


@pytest.mark.parametrize("answer", ["", "build.error"])
def test_nothing_is_left_in_the_directory_for_temporary_files(world: World, tmp_path: Path, answer: str) -> None:
    (tmp_path / "temporary").mkdir()
    if answer:
        world.answers(answer)

    world.run("predictor", TMPDIR=str(tmp_path / "temporary"))

    assert list((tmp_path / "temporary").iterdir()) == []


def test_apple_silicon_builds_for_amd64_and_says_so(world: World) -> None:
    world.answers("machine", "arm64")

    done = world.run("predictor")

    assert done.code == 0
    assert "this machine is arm64: building for linux/amd64" in done.err
    builds = done.called("docker", "buildx", "build")
    assert [call[call.index("--platform") + 1] for call in builds] == ["linux/amd64"] * 2


def test_without_buildx_docker_builds_and_pushes(world: World) -> None:
    world.answers("no-buildx")

    done = world.run("predictor")

    uri = f"{REGISTRY}/serial-inference/predictor:{world.commit[:12]}"
    assert done.code == 0, done.err
    assert done.called("docker", "build")[0][-3:] == ["--tag", uri, "."]
    assert "linux/amd64" in done.called("docker", "build")[0]
    assert done.called("docker", "push") == [["docker", "push", uri]]


@pytest.fixture
def based(world: World) -> World:
    """A checkout whose Dockerfile has a base image."""
    (world.checkout / "predictor" / "Dockerfile").write_text("ARG BASE=python:3.13-slim\nFROM ${BASE}\n")
    world.git("commit", "--quiet", "--all", "--message", "second")
    return world


def base_of(build: list[str]) -> tuple[str, list[str]]:
    """The base image that a build was told, and its labels about it."""
    labels = [word for word in build if word.startswith("org.opencontainers.image.base")]
    return next((word for word in build if word.startswith("BASE=")), ""), labels


def test_the_base_image_is_pinned_to_the_digest_that_its_registry_tells(based: World) -> None:
    based.answers("base", DIGEST)

    done = based.run("predictor")

    assert done.code == 0, done.err
    labels = [
        "org.opencontainers.image.base.name=python:3.13-slim",
        f"org.opencontainers.image.base.digest={DIGEST}",
    ]
    builds = [base_of(build) for build in done.called("docker", "buildx", "build")]
    assert builds == [(f"BASE=python:3.13-slim@{DIGEST}", labels)] * 2  # what is pushed is what was built
    assert len(done.called("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")) == 1


def test_a_base_of_ones_own_is_taken_and_one_with_a_digest_is_not_asked_about(based: World) -> None:
    based.answers("base", "sha256:" + "00" * 32)

    done = based.run("predictor", BASE=f"mirror.example/python:3.13@{DIGEST}")

    assert base_of(done.called("docker", "buildx", "build")[0]) == (
        f"BASE=mirror.example/python:3.13@{DIGEST}",
        [
            "org.opencontainers.image.base.name=mirror.example/python:3.13",
            f"org.opencontainers.image.base.digest={DIGEST}",
        ],
    )
    assert "Manifest.Digest" not in str(done.calls)


@pytest.mark.parametrize("answer", [None, "", "<none>", "sha256:abc"])
def test_a_base_whose_digest_nobody_tells_is_named_without_one_and_said(based: World, answer: str | None) -> None:
    if answer is not None:
        based.answers("base", answer)

    done = based.run("predictor")

    assert done.code == 0, done.err
    assert "no registry told the digest of python:3.13-slim" in done.err
    assert base_of(done.called("docker", "buildx", "build")[0]) == (
        "BASE=python:3.13-slim", ["org.opencontainers.image.base.name=python:3.13-slim"]
    )  # fmt: skip


@pytest.mark.parametrize("base", ["--push", "a b", "a;b", "$(id)", "a\nb"])
def test_a_base_that_is_no_name_is_refused(based: World, base: str) -> None:
    done = based.run("predictor", BASE=base)

    assert done.code == 2
    assert not done.called("docker")


@pytest.mark.parametrize(
    "arguments",
    [
        ("../featurizer",),
        ("featurizer/",),
        ("/etc",),
        ("",),
        (".",),
        ("Featurizer",),
        ("featurizer;id",),
        ("$(touch /tmp/x)",),
        ("featurizer\npredictor",),
        ("docs",),
        ("missing",),
        ("featurizer", "*"),
        ("--push",),
        ("-x",),
        ("--",),
        ("--tag",),
        ("--tag", "latest"),
        ("--tag", "a b"),
        ("--tag", "-a"),
        ("--tag", "a" * 129),
        ("--tag", "v1\nv2"),
        ("--keep", "0"),
        ("--keep", "many"),
        ("--region", "eu west"),
        ("--region", "x;y"),
        ("--profile", "--debug"),
        ("--repository-prefix", "Upper"),
        ("--repository-prefix", "a//b"),
        ("--repository-prefix", "../a"),
    ],
)
def test_hostile_and_wrong_arguments_end_with_2_before_anything_is_asked(
    world: World, arguments: tuple[str, ...]
) -> None:
    done = world.run(*arguments)

    assert done.code == 2, done.err
    assert "expected" in done.err or "unknown option" in done.err
    assert "next:" in done.err
    assert not done.called("aws")
    assert not done.called("docker", "buildx", "build")
    assert not done.called("docker", "login")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("no-engine", "engine does not answer"),
        ("no-engine", "podman, finch and nerdctl under this name"),
        ("no-registry", "docker-registry"),
        ("build.error", "was not built"),
        ("push.error", "was not pushed"),
        ("get-caller-identity.error", "sign in"),
        ("describe-repositories.error", "docs/iam/build.json"),
        ("create-repository.error", "docs/iam/build.json"),
        ("put-lifecycle-policy.error", "lifecycle"),
        ("get-login-password.error", "docs/iam/build.json"),
        ("describe-images.error", "docs/iam/build.json"),
    ],
)
def test_a_failure_says_what_failed_and_the_next_step(world: World, answer: str, says: str) -> None:
    world.answers(answer, "AccessDeniedException")

    done = world.run("predictor")

    assert done.code == 1, done.err
    assert says in done.err
    assert "next:" in done.err
    assert done.out == ""


@pytest.mark.parametrize("program", ["docker", "aws", "git"])
def test_a_missing_program_is_named_with_what_to_do(world: World, program: str) -> None:
    (world.programs / program).unlink()

    done = world.run()

    assert done.code == 1
    assert "not on PATH" in done.err
    assert "next:" in done.err


def test_the_checkouts_own_aws_is_found(world: World) -> None:
    (world.checkout / ".venv" / "bin").mkdir(parents=True)
    (world.programs / "aws").rename(world.checkout / ".venv" / "bin" / "aws")

    assert world.run("predictor", "--tag", "v1").code == 0


@pytest.mark.parametrize(
    ("arguments", "env", "region"),
    [
        (("--region", "us-east-2"), {"AWS_REGION": "us-west-1"}, "us-east-2"),
        ((), {"AWS_REGION": "us-west-1", "AWS_DEFAULT_REGION": "us-west-2"}, "us-west-1"),
        ((), {"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
        ((), {}, "eu-west-1"),
    ],
)
def test_the_region_is_found_and_given_to_every_command(
    world: World, arguments: tuple[str, ...], env: dict[str, str], region: str
) -> None:
    done = world.run("predictor", *arguments, **env)

    asked = done.called("aws", "ecr") + done.called("aws", "sts")
    assert done.code == 0
    assert {call[call.index("--region") + 1] for call in asked} == {region}


def test_no_region_at_all_is_said(world: World) -> None:
    (world.fake / "region").unlink()

    done = world.run()

    assert done.code == 1
    assert "give --region" in done.err


def test_the_profile_is_given_to_every_command(world: World) -> None:
    asked = world.run("predictor", "--profile", "team").called("aws")

    assert {call[call.index("--profile") + 1] for call in asked} == {"team"}


CHANGES = [("aws", "ecr", "create-repository"), ("aws", "ecr", "put-lifecycle-policy"), ("docker", "login"),
           ("docker", "buildx", "build"), ("docker", "build"), ("docker", "push")]  # fmt: skip


def test_a_dry_run_shows_the_commands_that_a_run_would_run_and_changes_nothing(world: World) -> None:
    shown = world.run("--dry-run")
    done = world.run()

    assert shown.code == 0
    assert not any(shown.called(*change) for change in CHANGES)
    printed = [shlex.split(line.partition(" | ")[2] or line) for line in shown.out.splitlines()]
    assert printed == [call for call in done.calls if any(call[: len(c)] == list(c) for c in CHANGES)]


@pytest.mark.parametrize("missing", ["aws", "docker", "credentials"])
def test_a_dry_run_needs_neither_programs_nor_credentials(world: World, missing: str) -> None:
    (world.fake / "region").unlink()
    if missing == "credentials":
        world.answers("get-caller-identity.error", "ExpiredToken")
    else:
        (world.programs / missing).unlink()

    done = world.run("--dry-run")

    assert done.code == 0, done.err
    assert "linux/amd64" in done.out
    if missing != "docker":
        assert "ACCOUNT.dkr.ecr.REGION.amazonaws.com/serial-inference/featurizer" in done.out


def test_a_dry_run_passes_by_what_is_there_already(world: World) -> None:
    world.has_image("predictor", world.commit[:12])

    done = world.run("predictor", "--dry-run")

    [login] = done.out.splitlines()
    assert done.code == 0
    assert "docker login" in login


def test_help_is_the_header(world: World) -> None:
    done = world.run("--help")

    assert done.code == 0
    assert done.out.startswith("build_and_push.sh: ")
    options = {line.split()[0] for line in done.out.splitlines() if line.startswith("  --")}
    assert options == {
        "--region",
        "--profile",
        "--repository-prefix",
        "--tag",
        "--keep",
        "--json",
        "--dry-run",
        "--help",
    }
    assert all(option in SCRIPT.read_text().partition("set -euo")[2] for option in options)


@pytest.mark.parametrize(
    "construct", ["mapfile", "readarray", "declare -A", "local -A", "${!", ",,}", "^^}", "|&", "&>>"]
)
def test_the_bash_of_macos_can_run_it(construct: str) -> None:
    assert construct not in SCRIPT.read_text()


def test_it_can_be_started_as_it_stands() -> None:
    assert os.access(SCRIPT, os.X_OK)
