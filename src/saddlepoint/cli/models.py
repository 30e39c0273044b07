"""`saddlepoint models [KIND]`: what can be named with --model."""

import argparse
import json

from saddlepoint.cli.arguments import Parser
from saddlepoint.errors import InputError

_DESCRIPTION = (
    "List what --model takes; with a KIND, every reference of that kind that can be listed without a network."
)

_EPILOG = """\
examples:
  saddlepoint models
  saddlepoint models torchvision
  saddlepoint models timm --json"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("models", help="list what --model takes", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("kind", nargs="?", metavar="KIND", help="torchvision or timm, for instance")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from saddlepoint.cli.table import table
    from saddlepoint.models import CODE, FOLDER, KINDS

    rows: list[dict[str, object]]
    if args.kind is None:
        kinds = [*KINDS.values(), CODE, FOLDER]
        rows = [{"reference": kind.form, "what": kind.about, "licence": kind.licence} for kind in kinds]
    elif args.kind not in KINDS:
        raise InputError(f"unknown kind {args.kind!r}; expected one of {', '.join(KINDS)}")
    else:
        rows = [KINDS[args.kind].facts(name) for name in KINDS[args.kind].names()]
        if not rows:
            raise InputError(f"models of the kind {KINDS[args.kind].form} cannot be listed here; name one")
    print(json.dumps({"models": rows}, ensure_ascii=False)) if args.json else table(rows)
    return 0
