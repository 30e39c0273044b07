"""`saddlepoint certify`: the evaluation with the other wing alone."""

import argparse

from saddlepoint.cli.arguments import Parser, positive
from saddlepoint.cli.evaluate.flags import examples

_DESCRIPTION = """\
Prove lower bounds of the worst margin of each example, without any attack. What is found goes into a run folder;
stopped at any moment, the same command goes on."""

_EPILOG = """\
examples:
  saddlepoint certify --limit 100
  saddlepoint certify --method smoothing --sigma 0.25 --norm l2 --eps 0.25 0.5
  saddlepoint certify --model onnx:net.onnx --data cifar10:DIR --eps 2/255 --method alpha-crown --out runs/proofs

auto is intervals, then CROWN on what they leave open; alpha-crown is tighter and dearer; lp
and milp (exact) are for small networks. smoothing certifies, in l2, the classifier that votes under Gaussian noise,
whatever the network; each of its certificates is wrong with probability --alpha at most.
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
        help="auto (default), interval, crown-ibp, crown, alpha-crown, lp, milp, lipschitz, smoothing",
    )
    parser.add_argument(
        "--sigma", type=float, metavar="S", help="of smoothing: the noise, in units of pixels in [0, 1]"
    )
    parser.add_argument("--samples", type=positive, default=10_000, metavar="N", help="its votes (default: 10000)")
    parser.add_argument(
        "--alpha", type=float, default=0.001, metavar="P", help="how often it may be wrong (default: 0.001)"
    )
    examples(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from saddlepoint.cli.evaluate.run import run
    from saddlepoint.errors import InputError

    if args.method == "none":
        raise InputError("--method is none; expected auto, or one of saddlepoint certify --help")
    if (args.method == "smoothing") != (args.sigma is not None):
        raise InputError("--sigma is the noise of --method smoothing; expected both, such as --sigma 0.25, or neither")
    args.suite, args.certify, args.strict = "none", args.method, False
    args.earlier, args.near, args.no_checks = None, None, True
    return run(args)
