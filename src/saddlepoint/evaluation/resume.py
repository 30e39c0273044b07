"""What happens when an evaluation is run again: what is kept of a session that ended early, and who needs it.

    records   in the rows of the folder: an example that has all of them is not touched again (`complete`)
    Earlier   records of an example that lacks others: the cascade takes them over, threat by threat (`Example.begin`)
    Pending   attacks that were done on an example without a record: the cascade goes on behind them

All three lead to the records that one uninterrupted session writes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saddlepoint import random
from saddlepoint.attacks import Fool, Last, Nearest, Run
from saddlepoint.attacks.engine.example import Outcome, Passes, Settled
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.results import Attacked, Certified, Record, RunError, Voted, open_run
from saddlepoint.results.folder.documents import remove, write_bytes
from saddlepoint.results.records.record import Proof, key_of

Pixels = NDArray[np.float32]
FILE = "pending.safetensors"
GOALS = {type(goal).__name__: goal for goal in (Fool(), Last(), Nearest())}
AUDITED, LEAST_AUDITED = 0.05, 100
"""Share of certified examples that is attacked anyway; at least this many in expectation when there are few."""


def complete(spec: Spec, identity: str, earlier: Mapping[str, Record]) -> bool:
    """Tell whether an example has all its records, by their keys; a session may have ended between two of them."""
    return all(_complete_under(spec, identity, threat, earlier) for threat in spec.threats)


def _complete_under(spec: Spec, identity: str, threat: ThreatModel, earlier: Mapping[str, Record]) -> bool:
    attack, proof = (
        earlier.get(key_of(kind, threat.norm, threat.eps, identity)) for kind in (Attacked.kind, Certified.kind)
    )
    # Of what is broken there is nothing to prove.
    if isinstance(attack, Attacked) and (attack.success or not spec.certify):
        return True
    if proof is None or not spec.suite:
        return proof is not None
    cheap = isinstance(proof, Certified) and proof.proven and proof.name == spec.certify[0]
    return attack is not None or (cheap and not audited(spec.seed, identity, spec.data["examples"]))


def audited(seed: int, identity: str, examples: int) -> bool:
    """Tell whether an example is attacked although a certificate covers it: its id, the seed and the number decide."""
    return random.key(seed, "audit", identity) % 10_000 < 10_000 * max(AUDITED, LEAST_AUDITED / examples)


@dataclass(frozen=True)
class _AtHand:
    points: Mapping[tuple[str, float, str], Pixels]

    def __call__(self, identity: str, eps: float, norm: str) -> Pixels:
        return self.points[identity, eps, norm]


@dataclass(frozen=True)
class Earlier:
    """The records that an earlier session left of examples that it did not finish, and where their points are."""

    records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    point: Callable[[str, float, str], Pixels] | None = None

    def of(self, identities: Sequence[str]) -> "Earlier":
        """Return what was found of some examples, with their points at hand: it can be sent to another machine."""
        records = {identity: self.records[identity] for identity in identities if identity in self.records}
        kept = [record for own in records.values() for record in own if isinstance(record, Attacked) and record.kept]
        if self.point is None or not kept:
            return Earlier(records)
        points = {
            (settled.id, settled.eps, settled.norm): self.point(settled.id, settled.eps, settled.norm)
            for settled in kept
        }
        return Earlier(records, _AtHand(points))

    def attack(self, identity: str, threat: ThreatModel) -> Attacked | None:
        """Return the attack on an example under a threat; None if there is none without an error."""
        return next((record for record in self._under(identity, threat) if isinstance(record, Attacked)), None)

    def proof(self, identity: str, threat: ThreatModel) -> Proof | None:
        """Return the certificate of an example under a threat, likewise."""
        return next((record for record in self._under(identity, threat) if isinstance(record, Certified | Voted)), None)

    def _under(self, identity: str, threat: ThreatModel) -> list[Record]:
        return [
            record
            for record in self.records.get(identity, ())
            if (record.norm, record.eps) == (threat.norm, threat.eps)
        ]


def earlier_of(folder: Path, identities: set[str], written: Mapping[str, Record]) -> Earlier:
    """Return what a run folder holds of some examples, those that are not finished."""
    records = dict[str, list[Record]]()
    for record in written.values():
        if record.id in identities:
            records.setdefault(record.id, []).append(record)
    return Earlier(records, open_run(folder).point) if records else Earlier()


class Pending:
    """What attacks have settled of examples that have no record yet, by the key that the record will have.

    The rows of a run folder are of finished examples. An attack on a large model may take longer than a session may
    last: without this file a job that is ended before its first example is finished would begin anew each time.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._found: dict[str, Settled] = self._read()

    def of(self, prefix: str) -> Mapping[str, Settled]:
        """Return what was settled earlier under keys with this prefix, by what follows it."""
        return {key[len(prefix) :]: settled for key, settled in self._found.items() if key.startswith(prefix)}

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
        told = {key: _plain(settled) for key, settled in self._found.items()}
        points = {
            key: settled.best.delta.cpu().numpy() for key, settled in self._found.items() if settled.best is not None
        }
        write_bytes(self._path, save(points, {"format": "saddlepoint-pending", "settled": json.dumps(told)}))

    def _read(self) -> dict[str, Settled]:
        from safetensors import safe_open

        if not self._path.exists():
            return {}
        try:
            with safe_open(self._path, framework="numpy") as file:
                told: dict[str, Any] = json.loads(file.metadata()["settled"])
                points = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return {key: _settled(fields, points.get(key)) for key, fields in told.items()}
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
