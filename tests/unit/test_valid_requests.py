"""Values that AWS's description of its API rules out are refused: before anything is made, and in a dry run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.endpoint.errors import WRONG
from tests.aws_api import RELEASE, SAGEMAKER

DEPLOY = "deploy --artifacts ARTIFACTS --tag abc --role arn:aws:iam::123456789012:role/Given"
BATCH = "batch ROWS --output OUT"


@pytest.mark.parametrize(
    ("command", "got", "said", "option"),
    [
        (f"{DEPLOY} --instance-type ml.m5.huge", "ml.m5.huge", "such as ml.m5.large", "--instance-type"),
        (f"{DEPLOY} --subnets sub_net --security-groups sg-1", "sub_net", "pattern: [-0-9a-zA-Z]+", "--subnets"),
        (f"{DEPLOY} --subnets s --security-groups g_1", "g_1", "vpcConfig.securityGroupIds.1", "--security-groups"),
        (f"{DEPLOY} --volume-kms-key a.key", "a.key", "kmsKeyId must satisfy", "--volume-kms-key"),
        (f"{DEPLOY} --update --instance-type t3", "t3", "CreateEndpointConfig", "--instance-type"),
        (f"{BATCH} --input-filter $.{'a' * 62}", f"$.{'a' * 62}", "length less than or equal to 63", "--input-filter"),
        (f"{BATCH} --output-filter $.{'a' * 62} --join input", f"$.{'a' * 62}", "to 63", "--output-filter"),
        (f"{BATCH} --kms-key a.key", "a.key", "transformOutput.kmsKeyId", "--kms-key"),
        (f"{BATCH} --instance-type ml.m5.huge", "ml.m5.huge", "such as ml.m5.large", "--instance-type"),
    ],
)
def test_what_aws_would_refuse_is_refused_before_anything_is_made(
    run: Any, capsys: pytest.CaptureFixture[str], command: str, got: str, said: str, option: str
) -> None:
    code, aws = run(command, SAGEMAKER, RELEASE if "--update" in command or "batch" in command else None)

    reason, _, next_step = capsys.readouterr().err.partition("\n  next: ")
    assert code == WRONG
    assert f"; got '{got}'" in reason
    assert said in reason
    assert f"change {option};" in next_step
    assert [one for one in aws.operations if not one.startswith(("Describe", "List", "Get"))] == []


@pytest.mark.parametrize(
    ("more", "got", "option"),
    [
        (["--instance-type=ml.m5.huge"], "'ml.m5.huge'", "--instance-type"),
        (["--update", "--strategy=canary", "--alarm=" + "a" * 256], f"'{'a' * 256}'", "--alarm"),
        (["--target=apprunner", "--least=26"], "'26'", "--least"),
        (["--target=lambda", "--repository-prefix=A"], "'A/pipeline'", "--repository-prefix"),
        (["--target=ecs", "--cluster=c", "--repository-prefix=A b"], "'A b/pipeline'", "--repository-prefix"),
    ],
)
def test_a_dry_run_holds_every_request_against_its_description(
    untrained: Path, capsys: pytest.CaptureFixture[str], more: list[str], got: str, option: str
) -> None:
    given = ["deploy", "--dry-run", "--endpoint", "houses", "--tag", "abc", "--artifacts", str(untrained)]
    role = [] if "target" in more[0] else ["--role", "arn:aws:iam::123456789012:role/Given"]

    code = main([*given, *role, *more], {"AWS_REGION": "eu-central-1"})

    printed = capsys.readouterr()
    assert (code, printed.out) == (WRONG, "")
    assert f"; got {got}" in printed.err
    assert f"next: change {option}" in printed.err
    assert "deleting what was made" not in printed.err


def test_captured_data_goes_to_s3_though_the_description_lets_https_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["deploy", "--dry-run", "--data-capture", "5", "--capture-to", "https://bucket/data"])

    assert "--capture-to: expected s3://BUCKET/PREFIX, got 'https://bucket/data'" in capsys.readouterr().err
