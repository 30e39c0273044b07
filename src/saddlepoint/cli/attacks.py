"""`saddlepoint attacks`: what can be named with --attack."""

import argparse
import json

from saddlepoint.cli.arguments import Parser

_FOR = {
    "fast": "robust accuracy for a fraction of the passes; goes on to standard where gradients are in doubt",
    "standard": "AutoAttack's number",
    "plus": "AutoAttack's number, with more restarts",
    "rand": "stochastic models: means over 20 draws, decided by 100 fresh ones",
}
_SEES = {"gradient": "gradients", "scores": "scores", "decision": "decisions only"}


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    text = "list what --attack takes"
    parser = commands.add_parser("attacks", help=text, description=f"{text.capitalize()}, with its defaults.")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from saddlepoint.attacks.registry import ATTACKS, SUITES, to_dict
    from saddlepoint.attacks.wrappers import attack_of
    from saddlepoint.cli.table import table

    rows = [
        {
            "attack": name,
            "norms": " ".join(attack.norms),
            "sees": _SEES[attack.access.value],
            "settings": ", ".join(f"{name} {value}" for name, value in to_dict(attack).items() if name != "name"),
            "source": attack.paper,
        }
        for name, attack in ATTACKS.items()
    ]
    suites = [
        {
            "suite": name,
            "attacks": " → ".join(
                dict.fromkeys(attack_of(step).name for step in suite if "linf" in attack_of(step).norms)
            ),
            "for": _FOR[name],
        }
        for name, suite in SUITES.items()
    ]
    if args.json:
        print(json.dumps({"attacks": rows, "suites": suites}, ensure_ascii=False))
    else:
        table(rows)
        print()
        table(suites)
    return 0
