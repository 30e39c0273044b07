"""Evaluation: between which two numbers does robust accuracy lie, how sure is that, and can anyone check it?"""

from saddlepoint.evaluation.api import Evaluation, evaluate
from saddlepoint.evaluation.spec import Spec, ThreatModel

__all__ = ["Evaluation", "Spec", "ThreatModel", "evaluate"]
