"""`saddlepoint evaluate`: between which two numbers does robust accuracy lie?"""

import argparse

from saddlepoint.cli.arguments import Number, Parser, natural, positive
from saddlepoint.cli.classifiers import photo_flags, weight_flags

_DESCRIPTION = """\
Bracket the robust accuracy of a classifier: attacks bound it from above, certificates from below. What is found goes
into a run folder; stopped at any moment, the same command goes on."""

_EPILOG = """\
examples:
  saddlepoint evaluate
  saddlepoint evaluate --model models/mine --data cifar10:DIR --eps 2/255 4/255 8/255 --limit 1000 --out runs/mine
  saddlepoint evaluate --model models/next --data cifar10:DIR --eps 8/255 --from runs/mine --out runs/next
  saddlepoint evaluate --model models/other --spec runs/mine/spec.json --out runs/other
  saddlepoint evaluate --norm linf l2 --eps 0.1 0.5
  saddlepoint evaluate --distance --eps 0.05 0.1
  saddlepoint evaluate --model onnx:net.onnx --data npz:test.npz --eps 2/255 --require "attacked>=0.5@2/255"

--require takes clean, attacked, certified or robust (the certified side), >= a share, @ an eps or norm:eps; attacked is
an upper bound, and no promise of robustness. Without @ it asks for the share at the largest eps of each norm.
An evaluation that may end early (--time, --minutes, --width) takes the images in a random order, and what it says of
all of them holds whenever it stops.
exit code: 0; 1 when a requirement is not met, or with --strict when gradients seem to be masked; 2 on bad input, or
when no example could be evaluated; 3 when it ended before a requirement was decided"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "evaluate", help="bracket robust accuracy, from both sides", description=_DESCRIPTION, epilog=_EPILOG
    )
    examples(parser)
    add = parser.add_argument
    add(
        "--suite",
        default="fast",
        metavar="NAME",
        help="fast (default), standard, plus, none, or one of saddlepoint attacks",
    )
    add(
        "--certify",
        default="auto",
        metavar="METHOD",
        help="auto, none, interval, crown-ibp, crown, alpha-crown, complete, lp, milp, lipschitz",
    )
    add("--from", dest="earlier", metavar="RUN", help="a run on an earlier version of the model: try its points first")
    add(
        "--near",
        type=float,
        metavar="SHARE",
        help="of what stood there, search the nearest SHARE anew, the rest for a few steps (default: all)",
    )
    add(
        "--distance",
        action="store_true",
        help="first look for the nearest adversarial point of each image: accuracy under attack at every eps",
    )
    add("--spec", metavar="FILE", help="spec.json of a run: evaluate --model as that one was, data and balls included")
    add("--no-checks", action="store_true", help="do not check on a few examples that attacks can be believed")
    add("--strict", action="store_true", help="exit 1 if gradients seem to be masked")
    parser.set_defaults(run=lambda args: _run(parser, args), sigma=None)


def examples(parser: Parser) -> None:
    """Add the flags that name a model, data and balls, and those of a run."""
    add = parser.add_argument
    add("--model", default="fashion-mnist-pgd", metavar="REF", help="default: fashion-mnist-pgd, which ships with us")
    weight_flags(parser)
    photo_flags(parser)
    add("--data", default="fashion-mnist-sample", metavar="REF", help="default: fashion-mnist-sample, 1,000 images")
    norms = ("linf", "l2", "l1")
    add("--norm", choices=norms, nargs="+", default=["linf"], help="norm of the ball, or several (default: linf)")
    add(
        "--eps",
        type=Number,
        nargs="+",
        metavar="E",
        help="its radius, or several; of several norms one each (default: by norm and images)",
    )
    add("--limit", type=positive, metavar="N", help="a random sample of N examples, the same for a seed")
    add("--first", type=positive, metavar="N", help="the first N examples instead")
    add("--seed", type=natural, default=0, metavar="N", help="of all random numbers (default: 0)")
    add("--batch-size", type=positive, default=64, metavar="N", help="images per pass (default: 64)")
    add(
        "--budget",
        type=positive,
        metavar="N",
        help="passes that a search may spend on an example (default: any)",
    )
    add("--time", type=float, metavar="S", help="begin nothing after S seconds; the same command goes on")
    add("--minutes", type=float, metavar="M", help="the same in minutes; with --require, stop as soon as it is decided")
    add(
        "--width",
        type=float,
        metavar="W",
        help="stop when accuracies of all images are known to within W, such as 0.05",
    )
    add("--looks", type=positive, metavar="K", help="look K times, as planned, instead of at any time: narrower")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, … (default: cuda where present)")
    add("--executor", choices=("here", "ray"), default="here", help="who evaluates (default: here, this process)")
    add("--workers", type=positive, default=1, metavar="N", help="of ray: processes with the model loaded")
    add("--address", metavar="HOST:PORT", help="of a running ray cluster (default: one on this machine)")
    add("--timeout", type=float, metavar="S", help="seconds that a certificate may take for an example (default: any)")
    add(
        "--domains", type=natural, metavar="N", help="of complete: parts that may be bounded (default: 2000 an example)"
    )
    add("--evidence", action="store_true", help="keep what proves each certificate, for python -m saddlepoint_audit")
    add("--out", default="run", metavar="DIR", help="the run folder, made when missing (default: run)")
    add("--require", action="append", default=[], metavar="RULE", help='such as "certified>=0.8@0.1"; several may be')
    add("--markdown", metavar="FILE", help="write the summary for a pull request")
    add("--json", action="store_true", help="print one JSON object and nothing else")


_SPECIFIED = (
    *(
        "data",
        "norm",
        "eps",
        "limit",
        "first",
        "seed",
        "batch_size",
        "budget",
        "timeout",
        "domains",
        "suite",
        "certify",
    ),
)
"""What --spec says."""


def _run(parser: Parser, args: argparse.Namespace) -> int:
    from saddlepoint.cli.evaluate.run import run
    from saddlepoint.errors import InputError

    for name in _SPECIFIED if args.spec is not None else ():
        if getattr(args, name) != parser.get_default(name):
            raise InputError(f"--{name.replace('_', '-')} does not go with --spec, which says it; expected one of them")
    return run(args)
