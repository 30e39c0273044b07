"""The classifier: any module, with its normalisation inside, so that pixels in [0, 1] are the only input contract."""

from saddlepoint.classifier.arithmetic import DECISION, PRECISIONS, Arithmetic, Precision
from saddlepoint.classifier.bpda import BPDA
from saddlepoint.classifier.clamps import PassingClamps
from saddlepoint.classifier.frozen import Frozen
from saddlepoint.classifier.model import Classifier, Prediction
from saddlepoint.classifier.preprocessing import Preprocessing
from saddlepoint.classifier.randomness import Randomness
from saddlepoint.classifier.validation import check_images, check_labels, check_logits, check_repeatable

__all__ = [
    "BPDA",
    "DECISION",
    "PRECISIONS",
    "Arithmetic",
    "Classifier",
    "Frozen",
    "PassingClamps",
    "Precision",
    "Prediction",
    "Preprocessing",
    "Randomness",
    "check_images",
    "check_labels",
    "check_logits",
    "check_repeatable",
]
