"""`python -m local_test ...`: a SageMaker endpoint on this machine."""

from __future__ import annotations

import os
import sys

from serving.interrupt import INTERRUPTED, raise_when_interrupted

TYPE_CHECKING = False  # without `typing`: Ctrl-C while that is imported would be a traceback
if TYPE_CHECKING:
    import argparse


def parser() -> argparse.ArgumentParser:
    import argparse

    from local_test import chain_command, images, predict
    from local_test.check import command as check
    from local_test.control_plane import command
    from local_test.recording import record, replay

    whole = argparse.ArgumentParser(prog="python -m local_test", description="A SageMaker endpoint on this machine.")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    chain_command.add_parser(commands)
    predict.add_parser(commands)
    images.add_parsers(commands)
    command.add_parsers(commands)
    check.add_parser(commands)
    record.add_parser(commands)
    replay.add_parser(commands)
    return whole


def main(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    from local_test.state import ChainError
    from serving.errors import full_disk

    known = parser().parse_args(arguments)
    try:
        return int(known.run(known, os.environ))
    except ChainError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        if not (said := full_disk(error)):
            raise
        print(said, file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise_when_interrupted()
    try:
        from serving.proxies import spare_loopback
        from serving.python import refuse_bare

        refuse_bare("local_test")
        spare_loopback(os.environ)
        code = main(sys.argv[1:])
    except KeyboardInterrupt:  # before a command has begun
        code = INTERRUPTED
    sys.exit(code)
