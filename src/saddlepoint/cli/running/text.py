"""What a run found, as text."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from saddlepoint.cli.attacking.blocks import SYMBOLS
from saddlepoint.cli.attacking.settings import Settings
from saddlepoint.data import in_utf8


def render(chosen: Settings, spec: Mapping[str, Any], summary: Mapping[str, Any], seconds: float) -> None:
    """Print the outcome for people."""
    console = Console(highlight=False, soft_wrap=True)
    data, threat = spec["data"], f"{SYMBOLS[chosen.norm]} ≤ {chosen.eps.text}"
    heading = (spec["model"]["reference"], data["reference"], spec["attack"], threat, f"seed {spec['seed']}")
    console.print(Text(" · ".join(heading), style="dim"))
    console.print()
    for line in lines(summary):
        console.print(Text(f"  {line}"))
    passes = f"{summary['forwards']} forwards, {summary['backwards']} backwards · {seconds:.1f} s in this session"
    console.print(Text(f"\n{passes} · {in_utf8(str(chosen.out))}", style="dim"))


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what was counted: correct on clean images, and still correct under attack."""
    count = summary["examples"] - summary["errors"]
    rows = [
        ("clean accuracy", summary["clean_correct"], ""),
        ("under attack", summary["robust"], "an upper bound on robust accuracy"),
    ]
    if summary["errors"]:
        rows.append(("not readable", summary["errors"], "left out of both"))
    return [
        f"{name:15} {f'{number / count:7.1%}' if count and name != 'not readable' else '':7}  "
        f"{number:>{len(str(count))}} of {summary['examples'] if name == 'not readable' else count}  {note}".rstrip()
        for name, number, note in rows
    ]
