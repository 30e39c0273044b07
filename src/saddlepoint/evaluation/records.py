"""From verified rows to the rows of a run folder."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from saddlepoint.attacks.engine.example import Row
from saddlepoint.certificates import Certificates
from saddlepoint.evaluation.spec import ThreatModel, prefix
from saddlepoint.geometry.norms import lp_norm
from saddlepoint.losses import margin
from saddlepoint.results.store import make_folder

EVIDENCE = "evidence"
"""The folder, inside a run folder, of what proves certificates."""
EXPONENTS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}


def evidence_path(folder: Path, threat: ThreatModel, identity: str) -> Path:
    """Return the file of an example's evidence at one radius: ids may hold what a file's name cannot."""
    name = hashlib.sha256(f"{prefix(threat.norm, threat.eps)}{identity}".encode()).hexdigest()[:32]
    return folder / f"{name}.safetensors"


def keep_evidence(folder: Path, threat: ThreatModel, identities: Sequence[str], proof: Certificates) -> None:
    """Write what proves each certified example, before its record says so."""
    make_folder(folder)
    for identity, verdict, evidence in zip(identities, proof.verdict, proof.evidence or (), strict=True):
        if verdict == "certified":
            evidence.save(evidence_path(folder, threat, identity))


def record(row: Row, digest: str, method: str, norm: str) -> dict[str, object]:
    """Return what the run folder keeps of one attacked example."""
    given = row.input
    delta = (row.x_adv.cpu().double() - given.x.cpu().double())[None]
    label = torch.tensor([given.y], device=row.clean.device)
    sizes = {name: lp_norm(delta, p).item() for name, p in EXPONENTS.items()}
    return {
        **identified(given.id, given.index, digest, given.y, method, norm, given.eps),
        "clean_label": int(row.clean.argmax()),
        "clean_margin": margin(row.clean[None], label).item() + 0.0,
        "clean_correct": int(row.clean.argmax()) == given.y,
        "success": row.success,
        "accuracy": row.accuracy,
        "attack": row.attack,
        "restart": row.run.restart if row.run else 0,
        "adversarial_label": int(row.logits.argmax()),
        "margin": row.margin,
        "distance": row.norm,
        **sizes,
        "steps": row.passes.steps,
        "forwards": row.passes.forwards,
        "backwards": row.passes.backwards,
        "doubts": ", ".join(sorted(row.doubts)) or None,
    }


def identified(
    identity: int | str, index: int, digest: str | None, label: int | None, method: str, norm: str, eps: float
) -> dict[str, object]:
    """Return the columns that say which example, and under which threat."""
    return {
        "id": str(identity),
        "index": index,
        "digest": digest,
        "method": method,
        "label": label,
        "norm": norm,
        "eps": eps,
    }


def method_line(suite: Sequence[object]) -> str:
    """Return the attacks with all their settings, as one line."""
    return " → ".join(map(repr, suite))
