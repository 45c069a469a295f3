"""The bounds of the options: what AWS would refuse only later is a wrong argument at once."""

from __future__ import annotations

import pytest

from pipeline.cli import parser

COMMANDS = {
    "deploy": ["deploy"], "delete": ["delete"], "batch": ["batch", "rows.csv", "--output", "out"],
    "autoscale": ["autoscale", "--off"], "create-endpoint": ["create-endpoint", "--release", "r"],
    "invoke": ["invoke", "rows.csv"], "logs": ["logs"],
}  # fmt: skip
BOUNDS = [
    ("deploy", "--timeout", 1, 86400),
    ("deploy", "--instance-count", 1, 1000),
    ("deploy", "--health-check-timeout", 60, 3600),
    ("deploy", "--download-timeout", 60, 3600),
    ("deploy", "--volume-size", 1, 512),
    ("deploy", "--data-capture", 0, 100),
    ("deploy", "--step", 1, 50),
    ("deploy", "--wait", 0, 3600),
    ("deploy", "--bake", 0, 3600),
    ("deploy", "--memory", 128, 30720),
    ("deploy", "--request-timeout", 1, 900),
    ("deploy", "--cpu", 256, 4096),
    ("deploy", "--least", 1, 100),
    ("deploy", "--most", 1, 100),
    ("deploy", "--concurrency", 1, 200),
    ("delete", "--timeout", 1, 86400),
    ("create-endpoint", "--timeout", 1, 86400),
    ("autoscale", "--min", 1, 1000),
    ("autoscale", "--max", 1, 1000),
    ("autoscale", "--scale-in-cooldown", 0, 3600),
    ("autoscale", "--scale-out-cooldown", 0, 3600),
    ("autoscale", "--most", 1, 512),
    ("autoscale", "--rows-per-request", 1, 100_000),
    ("batch", "--max-payload", 1, 100),
    ("batch", "--max-concurrent", 1, 100),
    ("batch", "--instance-count", 1, 100),
    ("batch", "--timeout", 1, 604_800),
    ("batch", "--compare", 1, 1_000_000),
]


@pytest.mark.parametrize(("verb", "option", "least", "most"), BOUNDS)
def test_an_option_takes_what_lies_within_its_bounds(
    verb: str, option: str, least: int, most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    read = parser(verb).parse_args
    name = option.strip("-").replace("-", "_")

    assert [getattr(read([*COMMANDS[verb], option, str(bound)]), name) for bound in (least, most)] == [least, most]
    for wrong in (str(least - 1), str(most + 1), f"{least}.5", "x", ""):
        with pytest.raises(SystemExit):
            read([*COMMANDS[verb], f"{option}={wrong}"])
        assert f"expected a whole number from {least} to {most}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "defaults"),
    [
        ("deploy", {"timeout": 1800, "update": False, "dry_run": False, "single": None, "public": False}),
        ("delete", {"timeout": 1800, "yes": False, "dry_run": False, "artifacts": False, "images": False}),
        ("create-endpoint", {"timeout": 1800}),
        ("batch", {"timeout": 86400, "instance_count": 1, "compare": 0, "max_concurrent": 0, "header": "refuse"}),
        ("autoscale", {"min": 1, "scale_in_cooldown": 300, "scale_out_cooldown": 60, "p99": 500.0, "step": 5.0,
                       "most": 64, "rows_per_request": 1}),
        ("invoke", {"rows_per_request": 10_000, "concurrency": 4, "retries": 4, "header": "auto"}),
        ("logs", {"since": 600, "follow": False}),
    ],
)  # fmt: skip
def test_what_is_left_out_is_as_help_says(verb: str, defaults: dict[str, object]) -> None:
    options = vars(parser(verb).parse_args(COMMANDS[verb]))

    assert {name: options[name] for name in defaults} == defaults
