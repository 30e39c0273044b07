"""The fast gradient sign method, in any norm."""

from dataclasses import dataclass
from typing import ClassVar, final

from saddlepoint.attacks.ascent import Ascent, Loss, require
from saddlepoint.attacks.protocol import Problem
from saddlepoint.typing import Images


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM(Ascent):
    """δ = argmax_{δ∈Δ} ⟨∇ℓ, δ⟩ (Goodfellow, Shlens & Szegedy 2015): the linearised loss, maximised exactly.

    In ℓ∞ that is ε·sign ∇ℓ, clipped to the box; in the other norms the maximiser over ball ∩ box.

    Attributes:
        loss: a name in `saddlepoint.losses`.
    """

    paper: ClassVar[str] = "Goodfellow et al. 2015"

    loss: Loss = "cross-entropy"

    def __post_init__(self) -> None:
        require(self)

    @property
    def steps(self) -> int:
        """One."""
        return 1

    def move(self, problem: Problem, delta: Images, gradient: Images) -> Images:
        """Jump to the maximiser of the linearised loss."""
        return problem.region.maximiser(gradient)
