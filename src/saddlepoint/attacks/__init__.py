"""Attacks bound robust accuracy from above: searches for a good δ, and the one loop that drives them all."""

from saddlepoint.attacks.apgd import APGD
from saddlepoint.attacks.apgd_l1 import APGDL1
from saddlepoint.attacks.api import AttackResult, Stop, able, attack
from saddlepoint.attacks.engine.example import Input, Row
from saddlepoint.attacks.engine.pipeline import run_attack
from saddlepoint.attacks.engine.setting import Progress, Setting
from saddlepoint.attacks.fab import FAB
from saddlepoint.attacks.fgsm import FGSM
from saddlepoint.attacks.fmn import FMN
from saddlepoint.attacks.goals import Fool, Goal, Last, Nearest
from saddlepoint.attacks.maximise import maximise
from saddlepoint.attacks.mifgsm import MIFGSM
from saddlepoint.attacks.pgd import PGD
from saddlepoint.attacks.protocol import Access, Answer, Attack, Problem, Run, pose
from saddlepoint.attacks.sgd import SGD
from saddlepoint.attacks.square import Square
from saddlepoint.attacks.suites import FAST, PLUS, RAND, STANDARD, Suite
from saddlepoint.attacks.sweep import Sweep
from saddlepoint.attacks.wrappers import EOT, IfDoubted, OnSample, Step, escalation
from saddlepoint.results.records.masking import Finding, findings

__all__ = [
    "APGD",
    "APGDL1",
    "EOT",
    "FAB",
    "FAST",
    "FGSM",
    "FMN",
    "MIFGSM",
    "PGD",
    "PLUS",
    "RAND",
    "SGD",
    "STANDARD",
    "Access",
    "Answer",
    "Attack",
    "AttackResult",
    "Finding",
    "Fool",
    "Goal",
    "IfDoubted",
    "Input",
    "Last",
    "Nearest",
    "OnSample",
    "Problem",
    "Progress",
    "Row",
    "Run",
    "Setting",
    "Square",
    "Step",
    "Stop",
    "Suite",
    "Sweep",
    "able",
    "attack",
    "escalation",
    "findings",
    "maximise",
    "pose",
    "run_attack",
]
