"""`python -m local_test check`: a verdict on an inference image before it is pushed."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from local_test.check import ending_rules, image_rules, request_rules, start_rules
from local_test.check.asking import Asking
from local_test.check.calls import NoReply
from local_test.check.case import Case, Rule, Seen, Verdict, skipped, wrong
from local_test.check.image import Image
from local_test.check.program import Program
from local_test.check.rules import RULES
from local_test.check.subject import CannotStart, NotHere, Subject
from local_test.predict import BY_SUFFIX
from local_test.state import ChainError
from local_test.terminal import printable

DESCRIPTION = """\
Examine any SageMaker inference image against the platform's rules, and say of each that it breaks what SageMaker would
do, how to mend it, and where the rule stands. With --serve it examines a directory and the command that serves, without
Docker. Exits with 0 when no rule is broken, with 1 when one is; with --strict a warning counts as well."""
EXAMPLES = """\
examples:
  python -m local_test check predictor --model artifacts/predictor/model --payload local_test/payloads/features.npy
  python -m local_test check my-image --payload rows.csv --only sigterm ping-under-load
  python -m local_test check . --serve 'python -m serving serve' --env STAGE=predictor \\
      --model artifacts/predictor/model --payload local_test/payloads/features.npy"""
# In this order: what needs no start, the start, the answers, and what ends or starts anew.
EXAMINED = {
    **image_rules.EXAMINED,
    **start_rules.EXAMINED,
    **request_rules.EXAMINED,
    **ending_rules.EXAMINED,
}
SIGNS = {Verdict.OK: "ok", Verdict.WARNING: "warning", Verdict.FAILED: "FAILED", Verdict.SKIPPED: "-"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="examine an inference image against SageMaker's rules",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", help="an image that this machine's docker knows; with --serve a directory")
    parser.add_argument("--serve", metavar="COMMAND", help="what serves in that directory; without Docker")
    parser.add_argument("--model", type=Path, metavar="DIR", help="what SageMaker would unpack into /opt/ml/model")
    parser.add_argument("--payload", type=Path, metavar="FILE", help="a good request; without one less is examined")
    parser.add_argument("--content-type", help=f"of it (by its suffix: {', '.join(BY_SUFFIX)})")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="as the model has it")
    parser.add_argument("--port", type=int, default=23456, help="the first of ten it is told to bind to (%(default)s)")
    parser.add_argument(
        "--start-timeout", type=float, default=60, metavar="SECONDS", help="until it is healthy (%(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=EXAMINED, metavar="RULE", default=list(EXAMINED))
    parser.add_argument("--skip", nargs="+", choices=EXAMINED, metavar="RULE", default=[])
    parser.add_argument("--strict", action="store_true", help="warnings count as broken rules")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    subject, asking = _subject(arguments, env), _asking(arguments)
    chosen = [name for name in EXAMINED if name in arguments.only and name not in arguments.skip]
    found: list[tuple[Rule, Seen]] = []
    with Case(subject, asking, arguments.port, arguments.start_timeout) as case:
        for name in chosen:
            found.append((RULES[name], examine(case, name)))
            if not arguments.json:
                print("\n".join(shown(*found[-1])), flush=True)
    counts = {verdict.value: sum(seen.verdict == verdict for _, seen in found) for verdict in Verdict}
    broken = counts[Verdict.FAILED] + (counts[Verdict.WARNING] if arguments.strict else 0)
    if arguments.json:
        findings = [asdict(rule) | {"verdict": seen.verdict.lower(), "seen": seen.text} for rule, seen in found]
        print(json.dumps({"subject": subject.name, "broken": broken, "findings": findings}, indent=2))
    else:
        print(f"\n{subject.name}: " + ", ".join(f"{count} {name.lower()}" for name, count in counts.items() if count))
    return 1 if broken else 0


def examine(case: Case, name: str) -> Seen:
    """What a rule's examination has shown; one that cannot begin is skipped, and says why."""
    try:
        return EXAMINED[name](case)
    except NotHere as error:
        return skipped(str(error))
    except CannotStart as error:
        return skipped("it does not start: see serve" if case.told else f"it does not start: {error}")
    except NoReply as error:
        return wrong(str(error))


def shown(rule: Rule, seen: Seen) -> Iterator[str]:
    """A rule's lines in the table; what is fine has one."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    room = max(20, width - 36)
    lines = textwrap.wrap(printable(seen.text), room) or [""]
    yield f"{SIGNS[seen.verdict]:<9}{rule.name:<25}{lines[0]}"
    yield from (" " * 34 + line for line in lines[1:])
    if seen.verdict in (Verdict.FAILED, Verdict.WARNING):
        for head, text in (("rule", rule.title), ("SageMaker", rule.platform), ("mend", rule.mend),
                           ("source", rule.source)):  # fmt: skip
            wrapped = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
            yield f"{'':<22}{head:>10}  {wrapped[0]}"
            yield from (" " * 34 + line for line in wrapped[1:])


def _subject(arguments: argparse.Namespace, env: Mapping[str, str]) -> Subject:
    given = dict(_pair(one) for one in arguments.env)
    model = arguments.model.resolve() if arguments.model else None
    if model and not model.is_dir():
        raise ChainError(f"--model {arguments.model}: expected a directory")
    if arguments.serve:
        return Program.of(Path(arguments.image), arguments.serve, model, env, given)
    return Image.of(arguments.image, env.get("PATH"), model, given)


def _asking(arguments: argparse.Namespace) -> Asking:
    if not arguments.payload:
        return Asking(b"", arguments.content_type or "")
    media = arguments.content_type or BY_SUFFIX.get(arguments.payload.suffix)
    if not media:
        raise ChainError(f"{arguments.payload}: expected a file that ends in {', '.join(BY_SUFFIX)}, or --content-type")
    try:
        return Asking(arguments.payload.read_bytes(), media)
    except OSError as error:
        raise ChainError(f"{arguments.payload}: {error.strerror}") from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ChainError(f"--env: expected NAME=VALUE, got {text}")
    return name, value
