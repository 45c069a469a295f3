"""`python -m pipeline VERB`: a verb is a module with HELP, EXAMPLES, `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pipeline import demo, train
from serving.training import BadJob

VERBS = {"train": train, "demo": demo}


def main(arguments: Sequence[str], env: Mapping[str, str] = MappingProxyType({})) -> int:
    """Run a verb; it finds `env` among its arguments.

    Returns its exit code; 2 for wrong arguments or data that do not fit, with one line that says why.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Train a serial inference pipeline and use it."
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name, help=module.HELP, description=module.HELP, epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments, argparse.Namespace(env=env))
    try:
        code: int = parsed.run(parsed)
        return code
    except BadJob as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pipeline: interrupted", file=sys.stderr)
        return 130
