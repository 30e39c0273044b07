"""Where a run stands: everything that the next step depends on, in one file that is replaced as a whole."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saddlepoint.errors import InputError
from saddlepoint.files import replaced

FILE, SPECIFICATION = "checkpoint.pt", "training.json"
Weights = dict[str, Tensor]


@dataclass(slots=True)
class State:
    """A run between two steps. Random numbers are functions of (seed, step), so no generator has a state to keep.

    Attributes:
        step: steps taken.
        weights: of the classifier.
        optimiser: its state.
        average: the exponential average of the weights, if the recipe wants one.
        best: the weights of the best epoch so far.
        score: of the best epoch.
        totals: sums over the steps of this epoch.
        metrics: one row per epoch that has ended.
    """

    step: int
    weights: Weights
    optimiser: dict[str, Any]
    average: Weights | None = None
    best: Weights | None = None
    score: float = -1.0
    totals: dict[str, float] = field(default_factory=dict)
    metrics: list[dict[str, float]] = field(default_factory=list)


def save(state: State, folder: Path, specification: str) -> None:
    """Write the state; a kill leaves the old one or the new one."""
    content = {name: getattr(state, name) for name in State.__dataclass_fields__}
    with replaced(folder / FILE) as file:
        torch.save({"specification": specification, **content}, file)


def load(folder: Path, specification: str) -> State | None:
    """Return the state of a run in a folder, None if it has none. It is read without executing code.

    Raises:
        InputError: the file is damaged, or of another run.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        recorded = content.pop("specification")
        state = State(**content)
    except Exception as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{str(path)!r} cannot be read ({reason}); remove it to begin anew") from None
    if recorded != specification:
        raise InputError(
            f"{str(folder)!r} holds another run ({_difference(recorded, specification)}); expected another --out, "
            "or the command that began it"
        )
    return state


def _difference(other: str, wanted: str) -> str:
    """Return the first line in which two specifications differ."""
    pairs = zip(other.splitlines(), wanted.splitlines(), strict=False)
    then, now = next(((a, b) for a, b in pairs if a != b), ("of another length", "this one"))
    return f"there {then.strip().rstrip(',')}, here {now.strip().rstrip(',')}"
