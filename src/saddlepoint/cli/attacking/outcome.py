"""What is reported of one call: the fields of these classes are the fields of the JSON object."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from saddlepoint.cli.attacking.findings import Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image: what was found, or why it could not be attacked.

    Attributes:
        index: its place on the command line.
        image: its absolute path.
        findings: None when it could not be attacked.
        error: the reason, or None.
        truth: the name of the class that was attacked; in text only.
    """

    index: int
    image: str
    findings: Findings | None = None
    error: str | None = None
    truth: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object; those of an image that failed are None."""
        found = (
            dict.fromkeys(field.name for field in fields(Findings)) if self.findings is None else asdict(self.findings)
        )
        return {"image": self.image, **found, "error": self.error}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call; `seconds` is the time of the search alone, without loading, evaluation and pictures."""

    model: str
    norm: str
    eps: float
    attack: str
    seed: int
    box: str
    seconds: float
    images: tuple[Case, ...]

    def as_json(self) -> str:
        """Return one JSON object; numbers that are not finite become null."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(
            _finite({**own, "images": [case.fields() for case in self.images]}), indent=2, allow_nan=False
        )


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
