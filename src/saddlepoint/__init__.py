"""Saddlepoint: how robust is an image classifier, really? From both sides.

    certified accuracy  ≤  true robust accuracy  ≤  attacked accuracy

Importing the package is free: each name of the public face is imported when it is first used (PEP 562), so that help
texts and reports never pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saddlepoint.attacks import (
        APGD,
        APGDL1,
        EOT,
        FAB,
        FAST,
        FGSM,
        FMN,
        MIFGSM,
        PGD,
        PLUS,
        RAND,
        SGD,
        STANDARD,
        Attack,
        AttackResult,
        Finding,
        Fool,
        IfDoubted,
        Last,
        Nearest,
        OnSample,
        Square,
        Sweep,
        attack,
        pose,
    )
    from saddlepoint.attacks.maximise import maximise
    from saddlepoint.certificates import Certificates, Hints, certify, check_evidence
    from saddlepoint.certificates.smoothing import SmoothedClassifier
    from saddlepoint.classifier import BPDA, Classifier
    from saddlepoint.data.datasets import Dataset, load_dataset
    from saddlepoint.errors import InputError, InputWarning, MaskingWarning, ModelError, SaddlepointError
    from saddlepoint.evaluation import Evaluation, Spec, ThreatModel, evaluate
    from saddlepoint.geometry import L1, L2, Ball, Linf, Region
    from saddlepoint.models import load_classifier, save_classifier
    from saddlepoint.properties import Answer, Property, prove, read_property
    from saddlepoint.results import Verdict, open_run
    from saddlepoint.training import Recipe, train

__version__ = "0.1.0"

_HOME = {
    "PLUS": "attacks",
    "STANDARD": "attacks",
    "Attack": "attacks",
    "AttackResult": "attacks",
    "BPDA": "classifier",
    "Ball": "geometry",
    "Certificates": "certificates",
    "Classifier": "classifier",
    "Dataset": "data.datasets",
    "APGD": "attacks",
    "APGDL1": "attacks",
    "EOT": "attacks",
    "FAB": "attacks",
    "FAST": "attacks",
    "FMN": "attacks",
    "Evaluation": "evaluation",
    "Spec": "evaluation",
    "ThreatModel": "evaluation",
    "evaluate": "evaluation",
    "Finding": "attacks",
    "Fool": "attacks",
    "Hints": "certificates",
    "Last": "attacks",
    "Nearest": "attacks",
    "maximise": "attacks",
    "pose": "attacks",
    "IfDoubted": "attacks",
    "OnSample": "attacks",
    "RAND": "attacks",
    "InputWarning": "errors",
    "MaskingWarning": "errors",
    "FGSM": "attacks",
    "MIFGSM": "attacks",
    "InputError": "errors",
    "L1": "geometry",
    "L2": "geometry",
    "Linf": "geometry",
    "ModelError": "errors",
    "PGD": "attacks",
    "Region": "geometry",
    "SGD": "attacks",
    "SaddlepointError": "errors",
    "Square": "attacks",
    "Sweep": "attacks",
    "Verdict": "results",
    "Recipe": "training",
    "train": "training",
    "attack": "attacks",
    "SmoothedClassifier": "certificates.smoothing",
    "certify": "certificates",
    "check_evidence": "certificates",
    "load_classifier": "models",
    "load_dataset": "data.datasets",
    "open_run": "results",
    "save_classifier": "models",
    "Answer": "properties",
    "Property": "properties",
    "prove": "properties",
    "read_property": "properties",
}

__all__ = [
    "APGD",
    "APGDL1",
    "BPDA",
    "EOT",
    "FAB",
    "FAST",
    "FGSM",
    "FMN",
    "L1",
    "L2",
    "MIFGSM",
    "PGD",
    "PLUS",
    "RAND",
    "SGD",
    "STANDARD",
    "Answer",
    "Attack",
    "AttackResult",
    "Ball",
    "Certificates",
    "Classifier",
    "Dataset",
    "Evaluation",
    "Finding",
    "Fool",
    "Hints",
    "IfDoubted",
    "InputError",
    "InputWarning",
    "Last",
    "Linf",
    "MaskingWarning",
    "ModelError",
    "Nearest",
    "OnSample",
    "Property",
    "Recipe",
    "Region",
    "SaddlepointError",
    "SmoothedClassifier",
    "Spec",
    "Square",
    "Sweep",
    "ThreatModel",
    "Verdict",
    "attack",
    "certify",
    "check_evidence",
    "evaluate",
    "load_classifier",
    "load_dataset",
    "maximise",
    "open_run",
    "pose",
    "prove",
    "read_property",
    "save_classifier",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'saddlepoint' has no attribute {name!r}")
    value = getattr(import_module(f"saddlepoint.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
