"""`saddlepoint attack IMAGE…`: turn the prediction of photographs, and show it."""

import argparse
from typing import Any

from saddlepoint.cli.arguments import Number, Parser, natural, positive
from saddlepoint.cli.classifiers import photo_flags, weight_flags
from saddlepoint.errors import InputError

_DESCRIPTION = """\
Attack the prediction of photographs, or of a data set: search a perturbation, too small to be seen, that raises the
model's loss.

Each image is brought into the model's shape in 8 bits. For each, DIR receives NAME.adversarial.png (the result, rounded
to 8 bits inside the ball), NAME.perturbation.png (magnified around mid-grey) and NAME.figure.png (side by side)."""

_EPILOG = """\
examples:
  saddlepoint attack
  saddlepoint attack pig.jpg --attack sgd --lr 0.1 --steps 30 --eps 2/255
  saddlepoint attack pig.jpg --target airliner --model torchvision:resnet50
  saddlepoint attack --data cifar10:DIR --model onnx:net.onnx --mean 0.49,0.48,0.45 --attack fast --limit 1000

A run in the folder DIR goes on where it was stopped when the same command is given again.
Of images, all steps are run by default, also when an attack has succeeded before: the aim is a confident, wrong answer.
exit code: 0 when every image was attacked (whether it held or not), 2 on bad input"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "attack", help="attack photographs, or a data set", description=_DESCRIPTION, epilog=_EPILOG
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="image files (default: an espresso that comes with saddlepoint)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    add("--out", metavar="DIR", help="folder, made when missing: for pictures (default: out) or the run (default: run)")
    _data(parser.add_argument_group("a data set instead of images"))
    _model(parser.add_argument_group("model"))
    _threat(parser.add_argument_group("what the attack may do and aims at"))
    _search(parser.add_argument_group("search"))
    parser.set_defaults(run=_run)


def _data(group: Any) -> None:  # noqa: ANN401
    add = group.add_argument
    add(
        "--data",
        metavar="REF",
        help="mnist:DIR, fashion-mnist:DIR, cifar10:DIR, imagefolder:DIR, npz:FILE, hf:NAME, fashion-mnist-sample or "
        "digits",
    )
    add("--limit", type=positive, metavar="N", help="a random sample of N examples, the same for a seed")
    add("--first", type=positive, metavar="N", help="the first N examples (often easier than a sample)")
    add(
        "--keep",
        type=_retention,
        metavar="RULE",
        help="points to keep: all, broken (default), none, or N per class",
    )


def _retention(text: str) -> str | int:
    return text if text in ("all", "broken", "none") else positive(text)


def _model(group: Any) -> None:  # noqa: ANN401 - argparse keeps the type of groups private
    add = group.add_argument
    add(
        "--model",
        default="efficientnet-lite0",
        metavar="REF",
        help="efficientnet-lite0 (default, comes with saddlepoint), or what saddlepoint models lists",
    )
    weight_flags(group)
    photo_flags(group)
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, … (default: cuda where present)")


def _threat(group: Any) -> None:  # noqa: ANN401
    add = group.add_argument
    add("--norm", choices=("linf", "l2", "l1"), default="linf", help="norm of the ball (default: linf)")
    add("--eps", type=Number, metavar="E", help="its radius, pixels in [0, 1] (default: by the images)")
    add("--box", choices=("pixel", "none"), default="pixel", help="keep pixels in [0, 1] (default), or do not")
    add("--label", metavar="CLASS", help="the true class, index or name (default: the prediction)")
    add("--target", metavar="CLASS", help="the class to be predicted instead (default: any other)")


def _search(group: Any) -> None:  # noqa: ANN401
    add = group.add_argument
    add(
        "--attack",
        default="pgd",
        metavar="NAME",
        help="of saddlepoint attacks (default: pgd), or FILE.py:CLASS; for a data set also fast, standard, plus, rand",
    )
    add("--steps", type=positive, metavar="N", help="updates (default: pgd 40, sgd 30, apgd and fab 100, square 5000)")
    add("--step-size", "--lr", type=Number, metavar="A", help="pgd: length of a step; sgd: learning rate")
    add("--restarts", type=positive, metavar="N", help="independent random starts (default: 1)")
    add("--seed", type=natural, default=0, metavar="N", help="of all random numbers (default: 0)")
    add("--precision", choices=("fp32", "tf32", "bf16"), default="fp32", help="of the search (default: fp32)")
    add(
        "--batch-size",
        type=positive,
        metavar="N",
        help="images per pass (default: all, at most 16, of a data set 64; sgd: 1)",
    )
    add("--stop", choices=("never", "fooled"), help="when fooled (default for --data), or never (default for images)")
    add("--strict", action="store_true", help="exit 1 if gradients seem to be masked")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.data is None:
        for flag in ("limit", "first", "keep"):
            if getattr(arguments, flag) is not None:
                raise InputError(f"--{flag} was given without --data; expected both, or neither")
        from saddlepoint.cli.attack.photographs import run
    else:
        from saddlepoint.cli.attack.on_dataset import run
    return run(arguments)
