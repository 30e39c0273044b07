"""`saddlepoint COMMAND`: parse, run, and turn what went wrong into one line and an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from saddlepoint import __version__
from saddlepoint.cli import attacks, compare, completion, export, models, report, verify
from saddlepoint.cli.arguments import Parser
from saddlepoint.cli.attack import flags as attack
from saddlepoint.cli.certify import flags as certify
from saddlepoint.cli.evaluate import flags as evaluate
from saddlepoint.cli.printable import Printable
from saddlepoint.cli.train import flags as train
from saddlepoint.errors import SaddlepointError

WELCOME = """How robust is an image classifier, really? Attacks bound it from above, certificates from below.

A first session, without a download:

    saddlepoint evaluate --limit 200 --out run    bracket a classifier that ships with this
    saddlepoint report run                        the same as one page
    saddlepoint verify run                        check every claim of it again

saddlepoint --help lists all commands, saddlepoint COMMAND --help tells what one takes."""
BAD_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of the process when not given.

    Returns:
        0 on success, 2 on bad input (one line on standard error), 130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    with redirect_stdout(Printable(sys.stdout)), redirect_stderr(Printable(sys.stderr)):
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments = argparse.Namespace()
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.run(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)
    except SaddlepointError as error:
        print("saddlepoint:", " ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"saddlepoint: interrupted{_kept(arguments)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"saddlepoint: {error}; expected readable files, and room on the disk", file=sys.stderr)
        return BAD_INPUT


def _kept(arguments: argparse.Namespace) -> str:
    """Return how many records an interrupted run has kept; nothing where it writes none."""
    from saddlepoint.results import open_run

    try:
        run = open_run(arguments.out)
        return f": {run.rows().num_rows} records are kept in {run.path}, and the same command goes on"
    except (AttributeError, TypeError, OSError, SaddlepointError):
        return ""


def _parser() -> Parser:
    parser = Parser(
        prog="saddlepoint",
        description="How robust is an image classifier, really? Attacks bound it from above, certificates from below.",
        epilog="exit code: 0 on success, 2 on bad input; saddlepoint COMMAND --help tells more",
    )
    parser.add_argument("--version", action="version", version=f"saddlepoint {__version__}")
    parser.set_defaults(run=lambda _: _welcome())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (evaluate, attack, certify, compare, report, verify, export, train, models, attacks):
        command.register(commands)
    completion.register(commands, parser)
    return parser


def _welcome() -> int:
    print(WELCOME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
