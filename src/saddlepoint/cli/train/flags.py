"""`saddlepoint train`: a recipe and a data set in, a model folder out."""

import argparse
from importlib import resources
from typing import Any

from saddlepoint.cli.arguments import Number, Parser, natural, positive
from saddlepoint.errors import InputError

_DESCRIPTION = """\
Train a classifier by a recipe: standard, or robust in a ball. DIR becomes a model folder, which every command opens
with --model DIR; beside the model it holds metrics.csv, curves.svg and the checkpoint.

Stopped at any moment, the same command goes on, to the same weights."""

_EPILOG = """\
examples:
  saddlepoint train --data digits --recipe pgd-at --out models/digits
  saddlepoint train --data mnist:DIR --recipe fgsm-rs --eps 0.3 --out models/mnist
  saddlepoint train --data cifar10:DIR --recipe trades --arch wrn-28-10 --set epochs=110 --out models/cifar
  saddlepoint train --data imagefolder:DIR --start torchvision:resnet50 --recipe imagenet --out models/resnet50
  torchrun --nproc-per-node 8 -m saddlepoint.cli.main train --data cifar10:DIR --recipe pgd-at --out models/big

exit code: 0 when trained, 2 on bad input or a loss that is no number any more"""


def _recipes() -> list[str]:
    """Return the names of the recipes that come along, without importing what reads them."""
    folder = resources.files("saddlepoint").joinpath("training", "recipes")
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("train", help="train a classifier", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("--data", required=True, metavar="REF", help="as of attack; of MNIST and CIFAR-10 the training images")
    add(
        "--recipe",
        required=True,
        metavar="NAME",
        help=f"{', '.join(_recipes())}, or FILE.toml",
    )
    add("--arch", metavar="NAME", help="small, cnn7, preact-resnet-18, wrn-28-10, linear, timm:NAME or FILE.py:FACTORY")
    add(
        "--start", metavar="MODEL", help="fine-tune this model, as --model of attack names it, instead of fresh weights"
    )
    add("--norm", choices=("linf", "l2", "l1"), help="norm of the ball (default: the recipe's)")
    add("--eps", type=Number, metavar="E", help="its radius, such as 8/255 (default: the recipe's)")
    add("--epochs", type=positive, metavar="N", help="passes over the data (default: the recipe's)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of a recipe, such as lr=0.01")
    add("--out", required=True, metavar="DIR", help="the model folder, made when missing")
    add("--seed", type=natural, default=0, metavar="N", help="of all random numbers (default: 0)")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, … (default: cuda where present)")
    add("--tensorboard", metavar="DIR", help="write the metrics of each epoch for TensorBoard, too")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags change of a recipe.

    Raises:
        InputError: a --set has no key or no value.
    """
    changed: dict[str, Any] = {}
    for text in args.set:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"--set {text} given; expected KEY=VALUE, such as --set lr=0.01")
        changed[key.strip()] = _value(value.strip())
    for name in ("arch", "norm", "epochs"):
        if getattr(args, name) is not None:
            changed[name] = getattr(args, name)
    if args.eps is not None:
        changed["eps"] = float(args.eps)
    return changed


def _value(text: str) -> Any:  # noqa: ANN401 - as TOML has it
    """Return a value as TOML reads it; what is none is text."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _run(args: argparse.Namespace) -> int:
    from saddlepoint.cli.train.run import run

    return run(args, changes(args))
