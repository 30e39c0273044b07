"""The outcome as text: a heading, one quiet block per image, a summary."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from saddlepoint.cli.attacking.blocks import SYMBOLS, blocks
from saddlepoint.cli.attacking.outcome import Case, Findings, Outcome
from saddlepoint.cli.attacking.settings import Settings
from saddlepoint.cli.attacking.text import printable

_TURNED, _HELD, _QUIET = "bold dark_orange3", "bold blue", "dim"
_INDENT = "  "


def render(settings: Settings, outcome: Outcome) -> None:
    """Print the outcome for people."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(_heading(settings), style=_QUIET))
    for case in outcome.images:
        if case.findings is not None:
            _print_image(console, case, case.findings, settings)
    console.print(Text(f"\n{_summary(outcome)}", style=_QUIET))


def _print_image(console: Console, case: Case, found: Findings, settings: Settings) -> None:
    console.print()
    console.print(_title(case, found, settings))
    for block in blocks(case.truth, found, settings):
        console.print()
        for place, line in enumerate(block):
            quiet = place == 0 and len(block) > 1 and line.startswith(" ")
            console.print(Text(_INDENT + line, style=_QUIET if quiet else ""))


def _heading(settings: Settings) -> str:
    steps = getattr(settings.suite[0], "steps", 1)
    parts = (
        settings.model,
        f"{settings.attack}, {steps} step{'s' if steps > 1 else ''}",
        f"{SYMBOLS[settings.norm]} ≤ {settings.eps.text}",
        "pixels in [0, 1]" if settings.box == "pixel" else "no pixel box",
        f"seed {settings.seed}",
    )
    return " · ".join(parts)


def _title(case: Case, found: Findings, settings: Settings) -> Text:
    now = found.adversarial.name
    if found.success and found.clean.label == found.adversarial.label:
        verdict = (f"wrong from the start: {now}, not {case.truth}", _TURNED)
    elif found.success:
        verdict = (f"turned: {case.truth} → {now}", _TURNED)
    elif settings.target is None:
        verdict = (f"held: still {now}", _HELD)
    else:
        verdict = (f"missed: {now}, not {settings.classifier.name_of(settings.target)}", _HELD)
    return Text.assemble((printable(Path(case.image).name), "bold"), "  ", verdict)


def _summary(outcome: Outcome) -> str:
    found = [case.findings for case in outcome.images if case.findings is not None]
    parts = [
        f"{sum(each.success for each in found)} of {len(found)} turned",
        f"{sum(each.written.success for each in found)} of {len(found)} as written in 8 bits",
        f"{sum(each.forwards for each in found)} forward and {sum(each.backwards for each in found)} backward passes",
        f"{outcome.seconds:.1f} s",
    ]
    failed = len(outcome.images) - len(found)
    return " · ".join([*parts, f"{failed} failed"] if failed else parts)
