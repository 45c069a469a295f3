"""`python -m pipeline VERB`: a verb is a module with HELP, EXAMPLES, `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pipeline.endpoint.errors import EXIT_CODES, explained
from serving.errors import full_disk
from serving.training import BadJob

HERE = ("train", "demo", "package")  # these need no AWS
ON_SAGEMAKER = (
    *("deploy", "invoke", "status", "logs", "batch", "autoscale", "delete"),
    *("create-model", "create-endpoint-config", "create-endpoint"),
)
COMMON = f"""
Credentials, region and AWS_ENDPOINT_URL are found as the AWS CLI finds them. Without AWS: python -m local_test up
{EXIT_CODES}
"""


def parser(only: str = "") -> argparse.ArgumentParser:
    """The whole command line, or that of one verb: the libraries of training take seconds to import."""
    whole = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Train a serial inference pipeline, ship it to SageMaker and operate it there.",
        epilog="python -m pipeline VERB --help shows examples",
    )
    verbs = whole.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in (only,) if only in (*HERE, *ON_SAGEMAKER) else (*HERE, *ON_SAGEMAKER):
        if name in HERE:
            _add_verb(verbs, name, f"pipeline.{name}")
        else:
            _add_verb(verbs, name, f"pipeline.endpoint.{name.replace('-', '_')}", COMMON)
    return whole


def main(arguments: Sequence[str], env: Mapping[str, str] = MappingProxyType({})) -> int:
    """Run a verb; it finds `env` among its arguments.

    Returns its exit code; 2 for wrong arguments or data that do not fit, with one line that says why.
    """
    parsed = parser(next(iter(arguments), "")).parse_args(arguments, argparse.Namespace(env=env))
    try:
        code: int = parsed.run(parsed)
        return code
    except BadJob as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not (said := full_disk(error)):
            raise
        print(f"pipeline: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pipeline: interrupted", file=sys.stderr)
        return 130


def _add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, path: str, more: str = "") -> None:
    """Add the verb of a module. None of them imports boto3 before it runs."""
    module = importlib.import_module(path)
    verb = verbs.add_parser(
        name, help=module.HELP, description=module.HELP, epilog=module.EXAMPLES + more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    module.add_arguments(verb)
    verb.set_defaults(run=explained(module.run) if more else module.run)
