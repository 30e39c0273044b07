"""`saddlepoint certify`: its flags; the evaluation with the other wing alone, or one property of one network."""

import argparse

from saddlepoint.cli.arguments import Parser, positive
from saddlepoint.cli.evaluate.flags import examples

_DESCRIPTION = """\
Prove lower bounds of the worst margin of each example, without any attack. What is found goes into a run folder;
stopped at any moment, the same command goes on. Or, with --onnx and --vnnlib: show that a network has a property, or
find a counterexample."""

_EPILOG = """\
examples:
  saddlepoint certify --limit 100
  saddlepoint certify --method smoothing --sigma 0.25 --norm l2 --eps 0.25 0.5
  saddlepoint certify --model onnx:net.onnx --data cifar10:DIR --eps 2/255 --method alpha-crown --out runs/proofs
  saddlepoint certify --onnx net.onnx --vnnlib property.vnnlib --timeout 60 --witness counterexample.txt

auto is intervals, then CROWN on what they leave open; alpha-crown is tighter and dearer, and complete splits what it
leaves open; lp and milp (exact) are for small networks. smoothing certifies, in l2, the classifier that votes under
Gaussian noise, whatever the network; each of its certificates is wrong with probability --alpha at most.
A property is decided by attacks, bounds, and branch and bound; the answer is sat, unsat, timeout or unknown.
exit code: 0; 1 when a requirement is not met; 2 on bad input; 3 when a property is not decided,
or a proof was asked for and none was kept"""


_OF_PROPERTIES = ("onnx", "vnnlib", "witness", "proof")
_SHARED = ("timeout", "domains", "seed", "json", "run")


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "certify", help="prove robust accuracy from below", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument(
        "--method",
        default="auto",
        metavar="NAME",
        help="auto (default), interval, crown-ibp, crown, alpha-crown, complete, lp, milp, lipschitz, smoothing",
    )
    parser.add_argument(
        "--sigma", type=float, metavar="S", help="of smoothing: the noise, in units of pixels in [0, 1]"
    )
    parser.add_argument("--samples", type=positive, default=10_000, metavar="N", help="its votes (default: 10000)")
    parser.add_argument(
        "--alpha", type=float, default=0.001, metavar="P", help="how often it may be wrong (default: 0.001)"
    )
    add = parser.add_argument
    add("--onnx", metavar="FILE", help="a network, for --vnnlib")
    add("--vnnlib", metavar="FILE", help="a property of it, VNN-LIB 1 or 2; takes --timeout, --seed and --json, too")
    add("--witness", metavar="FILE", help="where to write a counterexample, as the verification competition does")
    add("--proof", metavar="FILE", help="where to write a proof, for python -m saddlepoint_audit FILE")
    examples(parser)
    parser.set_defaults(run=lambda args: _run(parser, args))


def _run(parser: Parser, args: argparse.Namespace) -> int:
    from saddlepoint.errors import InputError

    own = any(getattr(args, name) is not None for name in _OF_PROPERTIES)
    if own:
        from saddlepoint.cli.certify.run import run as run_property

        for name, value in vars(args).items():
            if name not in (*_OF_PROPERTIES, *_SHARED) and value != parser.get_default(name):
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} does not go with --onnx and --vnnlib; expected it without them")
        return run_property(args)
    from saddlepoint.cli.evaluate.run import run

    if args.method == "none":
        raise InputError("--method is none; expected auto, or one of saddlepoint certify --help")
    if (args.method == "smoothing") != (args.sigma is not None):
        raise InputError("--sigma is the noise of --method smoothing; expected both, such as --sigma 0.25, or neither")
    args.suite, args.certify, args.strict = "none", args.method, False
    args.earlier, args.near, args.no_checks, args.spec, args.distance = None, None, True, None, False
    return run(args)
