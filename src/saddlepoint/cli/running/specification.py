"""What was asked, and by whom on what: the two documents of a run folder."""

import hashlib
import json
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from saddlepoint.attacks.registry import to_dict
from saddlepoint.cli.attacking.settings import Settings
from saddlepoint.data import in_utf8
from saddlepoint.data.datasets import Dataset


def specification(given: Namespace, chosen: Settings, data: Dataset) -> dict[str, Any]:
    """Return everything that the rows depend on; a run goes on only under an equal specification."""
    return {
        "kind": "attack",
        "model": {
            "reference": in_utf8(given.model),
            "digest": chosen.classifier.digest(),
            "names": chosen.classifier.names and [in_utf8(name) for name in chosen.classifier.names],
            "preprocessing": asdict(chosen.preprocessing),
        },
        "data": {
            "reference": in_utf8(given.data),
            "limit": given.limit,
            "first": given.first,
            "examples": len(data),
            "classes": data.classes and {name: label for label, name in data.classes.items()},
            "shape": data.shape and list(data.shape),
            "content": data.content(),
            "ids": f"sha256:{hashlib.sha256(json.dumps(list(data.ids)).encode()).hexdigest()}",
        },
        "threat": {"norm": chosen.norm, "eps": float(chosen.eps), "box": chosen.bounds and list(chosen.bounds)},
        "attack": [to_dict(step) for step in chosen.suite],
        "stop": str(chosen.stop),
        "seed": chosen.seed,
        "batch_size": min(chosen.batch_size, len(data)),
        "precision": chosen.precision,
    }
