"""`python -m local_test VERB`."""

from __future__ import annotations

import argparse
import os
import sys

from local_test import chain, images, predict

EXAMPLES = """examples:
  python -m local_test chain up
  python -m local_test predict local_test/payloads/abalone.csv
  python -m local_test predict local_test/payloads/abalone_features.npy --url http://127.0.0.1:8082
  python -m local_test chain down
  python -m local_test train_local featurizer --channel train=raw.csv --channel schema=pipeline/datasets/abalone.toml
  python -m local_test serve_local featurizer --model artifacts/featurizer/model
"""
VERBS = {
    "chain": (chain.HELP, chain.add_arguments, chain.run),
    "predict": (predict.HELP, predict.add_arguments, predict.run),
    "train_local": (images.TRAIN_HELP, images.add_train_arguments, images.run_train),
    "serve_local": (images.SERVE_HELP, images.add_serve_arguments, images.run_serve),
}


def main(arguments: list[str]) -> int:
    """Run a verb. Returns its exit code; 1 with a line that says what to do when the chain cannot run."""
    parser = argparse.ArgumentParser(
        prog="python -m local_test", description="A SageMaker endpoint on this machine.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, (help_, add_arguments, run) in VERBS.items():
        verb = verbs.add_parser(name, help=help_, description=help_)
        add_arguments(verb)
        verb.set_defaults(run=run)
    parsed = parser.parse_args(arguments)
    try:
        code: int = parsed.run(parsed, os.environ)
        return code
    except chain.ChainError as error:
        print(f"local_test: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
