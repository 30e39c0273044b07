"""Where classifiers come from: one reference in, one `Classifier` in eval mode out."""

from saddlepoint.models.load import KINDS, Kind, load_classifier
from saddlepoint.models.weights import fit, read_weights

__all__ = ["KINDS", "Kind", "fit", "load_classifier", "read_weights"]
