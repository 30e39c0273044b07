"""Small classifiers that come with the package, as model folders: trained by its own recipes, each with its card."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FORM = "fashion-mnist-ibp, fashion-mnist-pgd, fashion-mnist-standard, mnist-ibp, mnist-pgd, mnist-standard"


def names() -> list[str]:
    """Return what can be loaded by name."""
    return sorted(path.parent.name for path in HERE.glob("*/model.json"))


def folder(name: str) -> Path:
    """Return the model folder of a name."""
    return HERE / name


def facts(name: str) -> dict[str, object]:
    """Return what its card says: the data and its licence, what it reaches, and the command that made it."""
    card: dict[str, Any] = json.loads((HERE / name / "model.json").read_text(encoding="utf-8"))["card"]
    reached = {key: f"{100 * value:.1f} %" for key, value in card["accuracies"].items() if key.startswith("test")}
    told = ", ".join(f"{key.removeprefix('test_')} {value}" for key, value in reached.items())
    eps = card["recipe"]["eps"]
    return {
        "reference": name,
        "eps": f"{eps:g}" if eps else "",
        "1,000 test images": told,
        "data": card["data"]["source"],
        "made by": card["command"],
    }
