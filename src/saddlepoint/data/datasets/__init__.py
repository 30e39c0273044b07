"""Data sets: one reference in, examples with a stable identity out."""

from saddlepoint.data.datasets.dataset import Dataset, Sample
from saddlepoint.data.datasets.given import as_dataset
from saddlepoint.data.datasets.match import matched
from saddlepoint.data.datasets.questioned import question_data
from saddlepoint.data.datasets.references import KINDS, Kind, load_dataset

__all__ = ["KINDS", "Dataset", "Kind", "Sample", "as_dataset", "load_dataset", "matched", "question_data"]
