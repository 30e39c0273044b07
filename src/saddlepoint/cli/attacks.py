"""`saddlepoint attacks`: what can be named with --attack."""

import argparse
import json
from dataclasses import fields

from saddlepoint.cli.flags import Parser

_SEES = {"gradient": "gradients", "logits": "logits", "label": "labels only"}


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    text = "list what --attack takes"
    parser = commands.add_parser("attacks", help=text, description=f"{text.capitalize()}, with its defaults.")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from saddlepoint.cli.attacking.settings import ATTACKS
    from saddlepoint.cli.table import table

    rows = [
        {
            "attack": name,
            "norms": " ".join(attack.norms),
            "sees": _SEES[attack.needs.value],
            "settings": ", ".join(f"{field.name} {getattr(attack, field.name)}" for field in fields(attack)),
            "source": attack.paper,
        }
        for name, attack in ATTACKS.items()
    ]
    print(json.dumps({"attacks": rows}, ensure_ascii=False)) if given.json else table(rows)
    return 0
