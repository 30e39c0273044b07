"""What the first attacks of a cascade have settled of examples that are not finished, kept for the next session.

The rows of a run folder are of finished examples. An attack on a large model may take longer than a session may last:
without this file a job that is ended before its first example is finished would begin anew each time, for ever.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saddlepoint.attacks import Fool, Last, Nearest, Run
from saddlepoint.attacks.engine.example import Outcome, Passes, Settled
from saddlepoint.results import RunError
from saddlepoint.results.folder.files import remove, write_bytes

FILE = "pending.safetensors"
GOALS = {type(goal).__name__: goal for goal in (Fool(), Last(), Nearest())}


class Pending:
    """The file, as a mapping from the key of a record to what is settled of its example.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._found: dict[str, Settled] = self._read()

    def of(self, prefix: str) -> Mapping[str, Settled]:
        """Return what was settled earlier under keys with this prefix, by what follows it."""
        return {key[len(prefix) :]: each for key, each in self._found.items() if key.startswith(prefix)}

    def note(self, key: str, settled: Settled) -> None:
        """Take note of what is settled of an example."""
        self._found[key] = settled

    def forget(self, key: str) -> None:
        """Drop what is now in a record."""
        self._found.pop(key, None)

    def write(self) -> None:
        """Write what is left, or remove the file if nothing is.

        Raises:
            RunError: it cannot be written.
        """
        from safetensors.numpy import save

        if not self._found:
            remove(self._path)
            return
        told = {key: _plain(each) for key, each in self._found.items()}
        points = {key: each.best.delta.cpu().numpy() for key, each in self._found.items() if each.best is not None}
        write_bytes(self._path, save(points, {"format": "saddlepoint-pending", "settled": json.dumps(told)}))

    def _read(self) -> dict[str, Settled]:
        from safetensors import safe_open

        if not self._path.exists():
            return {}
        try:
            with safe_open(self._path, framework="numpy") as file:
                told: dict[str, Any] = json.loads(file.metadata()["settled"])
                points = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return {key: _settled(each, points.get(key)) for key, each in told.items()}
        except Exception as error:  # whatever broken bytes lead to
            raise RunError(
                f"{str(self._path)!r} cannot be read ({type(error).__name__}); remove it: the same command "
                "computes again what was in it"
            ) from None


def _plain(settled: Settled) -> dict[str, Any]:
    best = settled.best
    passes = {name: _numbers(getattr(settled, name)) for name in ("passes", "wasted")}
    told = {"through": settled.through, **passes, "doubts": sorted(settled.doubts), "had": settled.had_gradient}
    if best is None:
        return {**told, "best": None}
    point = {
        "score": best.score,
        "adversarial": best.adversarial,
        "won": best.won,
        "passes": _numbers(best.passes),
        "attack": best.attack,
        "goal": type(best.goal).__name__,
        "run": [best.run.restart, best.run.target],
        "gradient_free": best.gradient_free,
        "zero_gradient": best.zero_gradient,
    }
    return {**told, "best": point}


def _settled(told: Mapping[str, Any], delta: np.ndarray | None) -> Settled:
    best = None
    if told["best"] is not None and delta is not None:
        point = dict(told["best"])
        point |= {"passes": Passes(*point["passes"]), "goal": GOALS[point["goal"]], "run": Run(*point["run"])}
        best = Outcome(delta=torch.from_numpy(delta), **point)
    passes, wasted = Passes(*told["passes"]), Passes(*told["wasted"])
    return Settled(told["through"], best, passes, wasted, frozenset(told["doubts"]), told["had"])


def _numbers(passes: Passes) -> list[int]:
    return [passes.steps, passes.forwards, passes.backwards]
