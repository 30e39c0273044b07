"""Where classifiers come from: one reference in, one `Classifier` in eval mode out."""

from saddlepoint.models.load import CODE, FOLDER, KINDS, Kind, load_classifier, require_no_code, save_classifier
from saddlepoint.models.weights import fit, read_weights

__all__ = [
    "CODE",
    "FOLDER",
    "KINDS",
    "Kind",
    "fit",
    "load_classifier",
    "read_weights",
    "require_no_code",
    "save_classifier",
]
