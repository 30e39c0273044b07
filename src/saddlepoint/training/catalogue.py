"""Every objective by the name that recipes use: one line each. An objective says what it needs by its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from saddlepoint.training import certified, objectives
from saddlepoint.training.objectives import Terms

if TYPE_CHECKING:
    from saddlepoint.training.recipe import Recipe

Scheduled = Callable[["Recipe", float], Mapping[str, Any]]
"""Settings that move with the run, from the recipe and the share of its ramp that is done."""


@dataclass(frozen=True)
class Objective:
    """An objective of training.

    Attributes:
        function: (classifier, x, y, *, settings) to `Terms`; a setting takes the field of the recipe of its name, but
            for `ball`, `key`, `x_adv`, `delta` and `program`, which the loop knows.
        source: where it is from.
        scheduled: settings that are not the recipe's own.
    """

    function: Callable[..., Terms]
    source: str = ""
    scheduled: Scheduled = lambda recipe, risen: {}

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """The names of its settings."""
        parameters = signature(self.function).parameters.values()
        return tuple(parameter.name for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY)

    @property
    def robust(self) -> bool:
        """Whether it is about a ball."""
        return "ball" in self.settings or self.moves

    @property
    def moves(self) -> bool:
        """Whether δ moves by the gradient of the same backward."""
        return "delta" in self.settings

    @property
    def bounds(self) -> bool:
        """Whether it is about proven bounds, of a program of the network."""
        return "program" in self.settings

    def of(self, recipe: "Recipe", risen: float, known: Mapping[str, Any]) -> Callable[..., Terms]:
        """Return the function with its settings, (classifier, x, y) to `Terms`.

        Args:
            recipe: whose fields are settings.
            risen: the share of the ramp of ε that is done.
            known: what no recipe says, by name.
        """
        scheduled = self.scheduled(recipe, risen)
        values = {
            name: scheduled[name] if name in scheduled else known[name] if name in known else getattr(recipe, name)
            for name in self.settings
        }
        return partial(self.function, **values)


def _ibp(recipe: "Recipe", risen: float) -> Mapping[str, float]:
    # κ falls from 1 to its end with the ramp (Gowal et al. 2018, section 5); the regulariser is of the warm-up alone.
    return {"kappa": 1 - risen * (1 - recipe.kappa), "tightness": (1 - risen) * recipe.tightness}


def _crown_ibp(recipe: "Recipe", risen: float) -> Mapping[str, float]:
    # β falls from 1 to 0 with the ramp (Zhang et al. 2020, section 4): CROWN stabilises the start, IBP is what is left.
    return {"kappa": 1 - risen * (1 - recipe.kappa), "beta": 1 - risen}


OBJECTIVES: dict[str, Objective] = {
    "empirical": Objective(objectives.empirical),
    "adversarial": Objective(objectives.adversarial, "Madry et al. 2018"),
    "fgsm-rs": Objective(objectives.fgsm_rs, "Wong et al. 2020"),
    "free": Objective(objectives.free, "Shafahi et al. 2019"),
    "trades": Objective(objectives.trades, "Zhang et al. 2019"),
    "mart": Objective(objectives.mart, "Wang et al. 2020"),
    "noisy": Objective(objectives.noisy, "Cohen et al. 2019"),
    "robust-linear": Objective(objectives.robust_linear, "Kolter & Madry, chapter 2"),
    "ibp": Objective(certified.ibp, "Gowal et al. 2018", _ibp),
    "crown-ibp": Objective(certified.crown_ibp, "Zhang et al. 2020", _crown_ibp),
    "sabr": Objective(certified.sabr, "Müller et al. 2023"),
    "mtl-ibp": Objective(certified.mtl_ibp, "De Palma et al. 2024"),
}
