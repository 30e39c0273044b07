"""How a search in low precision is completed in float32; without that, low precision would act as a masked gradient."""

import math
from dataclasses import replace
from functools import singledispatch

import torch

from saddlepoint.attacks.apgd import APGD
from saddlepoint.attacks.apgd_l1 import APGDL1
from saddlepoint.attacks.fab import FAB
from saddlepoint.attacks.fmn import FMN
from saddlepoint.attacks.mifgsm import MIFGSM
from saddlepoint.attacks.pgd import PGD
from saddlepoint.attacks.protocol import Attack
from saddlepoint.attacks.square import Square, schedule
from saddlepoint.attacks.sweep import Sweep


@singledispatch
def refinement(attack: Attack) -> Attack | None:
    """Return the short attack that continues in float32 from the best point that `attack` found in low precision.

    None, which holds for attacks that are not registered here, means that the attack always searches in float32.
    `@refinement.register` adds a rule for an attack of your own.
    """
    return None


@refinement.register
def _(attack: PGD) -> PGD:
    """A tenth of the steps, each as long as before."""
    steps = math.ceil(attack.steps / 10)
    return replace(attack, steps=steps, travel=attack.travel * steps / attack.steps, restarts=1)


@refinement.register
def _(attack: MIFGSM) -> MIFGSM:
    """A tenth of the steps, each as long as before."""
    steps = math.ceil(attack.steps / 10)
    return replace(attack, steps=steps, travel=attack.travel * steps / attack.steps)


@refinement.register(APGD)
@refinement.register(APGDL1)
def _(attack: APGD | APGDL1) -> PGD:
    """A few short steps on the same loss."""
    return PGD(steps=math.ceil(attack.steps / 10), travel=0.5, random_start=False, loss=attack.loss)


@refinement.register
def _(attack: Sweep) -> PGD:
    """A few short steps on the margin."""
    return PGD(steps=10, travel=0.5, random_start=False, loss="margin")


@refinement.register
def _(attack: FAB) -> FAB:
    """A tenth of the steps."""
    return replace(attack, steps=math.ceil(attack.steps / 10), restarts=1)


@refinement.register
def _(attack: FMN) -> FMN:
    """One round of a tenth of the steps."""
    return replace(attack, steps=math.ceil(attack.steps / 10), targets=1, candidates=1)


@refinement.register
def _(attack: Square) -> Square:
    """A tenth of the queries, with windows as small as the last ones were."""
    halved = int(schedule.level(torch.tensor([attack.queries]), attack.stretch))
    return replace(attack, queries=math.ceil(attack.queries / 10), p_init=attack.p_init / 2**halved, restarts=1)
