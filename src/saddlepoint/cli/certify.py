"""`saddlepoint certify`: the evaluation with the other wing alone."""

import argparse

from saddlepoint.cli.evaluate import examples
from saddlepoint.cli.flags import Parser

_DESCRIPTION = """\
Prove lower bounds of the worst margin of each example, without any attack. What is found goes into a run folder;
stopped at any moment, the same command goes on."""

_EPILOG = """\
examples:
  saddlepoint certify --limit 100
  saddlepoint certify --model onnx:net.onnx --data cifar10:DIR --eps 2/255 --method alpha-crown --out runs/proofs

auto is intervals, then CROWN on what they leave open; alpha-crown is tighter and dearer; lp
and milp (exact) are for small networks.
exit code: 0; 1 when a requirement is not met; 2 on bad input"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "certify", help="prove robust accuracy from below", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument(
        "--method",
        default="auto",
        metavar="NAME",
        help="auto (default), interval, crown-ibp, crown, alpha-crown, lp, milp, lipschitz",
    )
    examples(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from saddlepoint.cli.evaluating import run
    from saddlepoint.errors import InputError

    if given.method == "none":
        raise InputError("--method is none; expected auto, interval, crown-ibp, crown, alpha-crown, lp or milp")
    given.suite, given.certify, given.strict = "none", given.method, False
    given.earlier, given.no_checks = None, True
    return run(given)
