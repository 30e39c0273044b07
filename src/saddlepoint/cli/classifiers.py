"""The flags that name a classifier and what is done to a photograph, and the classifier that they stand for."""

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from saddlepoint.cli.arguments import numbers, positive
from saddlepoint.errors import InputError

if TYPE_CHECKING:
    from saddlepoint.classifier import Classifier, Preprocessing
    from saddlepoint.data.datasets import Dataset


def weight_flags(parser: Any) -> None:  # noqa: ANN401 - argparse keeps the type of groups private
    """Add the flags of weights and of what happens to pixels inside the model."""
    add = parser.add_argument
    add("--weights", metavar="FILE", help="local weights for the model: safetensors, a state dict, or a model folder")
    add("--mean", type=numbers, metavar="M,M,M", help="of the pixels in [0, 1], subtracted before the model")
    add("--std", type=numbers, metavar="S,S,S", help="then divided by; 1/255 for a model of levels 0 to 255")
    add("--bgr", action="store_true", help="the model takes blue, green, red (--mean and --std stay red, green, blue)")


def photo_flags(parser: Any) -> None:  # noqa: ANN401
    """Add the flags of how a photograph is brought into the model's shape."""
    add = parser.add_argument
    add("--resize", type=positive, metavar="N", help="of photographs, shorter side to N pixels, no crop unless --crop")
    add("--crop", type=positive, metavar="N", help="then the central N × N pixels (default: as the model says)")
    add("--squash", action="store_true", help="both sides to --resize, whatever the photograph's shape")


def classifier_of(args: Namespace, device: str) -> "Classifier":
    """Return the classifier that the flags stand for."""
    from saddlepoint.models import load_classifier

    classifier = load_classifier(
        args.model, weights=args.weights, mean=args.mean, std=args.std, bgr=args.bgr, device=device
    )
    classifier.preprocessing = _preprocessing(args, classifier.preprocessing)
    return classifier


def _preprocessing(args: Namespace, own: "Preprocessing") -> "Preprocessing":
    if args.squash and args.resize is None:
        raise InputError("--squash brings both sides to --resize; expected --resize N with it")
    if args.resize is not None:
        return replace(own, resize=args.resize, crop=args.crop, squash=args.squash)
    return own if args.crop is None else replace(own, crop=args.crop)


def require_photos(args: Namespace, data: "Dataset") -> None:
    """Refuse flags of photographs where the data are arrays."""
    for flag in ("resize", "crop"):
        if getattr(args, flag) is not None and not data.photos:
            raise InputError(
                f"--{flag} is {getattr(args, flag)}, and {args.data} holds arrays; expected photographs: drop it"
            )
