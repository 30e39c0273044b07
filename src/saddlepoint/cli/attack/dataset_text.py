"""What a run found, as text."""

import math
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from saddlepoint.cli.attack.blocks import SYMBOLS
from saddlepoint.cli.attack.settings import Settings
from saddlepoint.cli.printable import console as console_of
from saddlepoint.evaluation.records import method_line
from saddlepoint.files import in_utf8


def render(chosen: Settings, spec: Mapping[str, Any], summary: Mapping[str, Any], seconds: float) -> None:
    """Print the outcome for people.

    Args:
        chosen: what the user asked for, resolved.
        spec: the settings as the run records them.
        summary: the numbers of the run.
        seconds: how long it took.
    """
    console = console_of(highlight=False, soft_wrap=True)
    data, threat = spec["data"], f"{SYMBOLS[chosen.norm]} ≤ {chosen.eps.text}"
    attack = chosen.attack if chosen.is_suite else method_line(chosen.suite)
    heading = (spec["model"]["reference"], data["reference"], attack, threat, f"seed {spec['seed']}")
    console.print(Text(" · ".join(heading), style="dim"))
    console.print()
    for line in lines(summary):
        console.print(Text(f"  {line}"))
    if chosen.is_suite:
        names = {name: count for name, count in summary["broken"].items() if name != "clean"}
        told = ", ".join(f"{name} {count}" for name, count in names.items()) or "none"
        console.print(Text(f"\n  broken by      {told}"))
    passes = f"{summary['forwards']} forwards, {summary['backwards']} backwards · {seconds:.1f} s in this session"
    console.print(Text(f"\n{passes} · {in_utf8(str(chosen.out))}", style="dim"))


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what was counted: correct on clean images, and still correct under attack."""
    count = summary["examples"] - summary["errors"]
    attacked, robust, width = summary["attacked_accuracy"], summary["robust"], len(str(count))
    whole = attacked is None or math.isclose(attacked * count, robust)
    told = f"{robust:>{width}} of {count}" if whole else "over fresh draws"
    rows: list[tuple[str, float | None, str, str]] = [
        ("clean accuracy", summary["clean_accuracy"], f"{summary['clean_correct']:>{width}} of {count}", ""),
        ("under attack", attacked, told, "an upper bound on robust accuracy"),
    ]
    if summary["errors"]:
        unread = f"{summary['errors']:>{width}} of {summary['examples']}"
        rows.append(("not readable", None, unread, "left out of both"))
    return [
        f"{name:15} {'' if share is None else f'{share:7.1%}':7}  {number}  {note}".rstrip()
        for name, share, number, note in rows
    ]
