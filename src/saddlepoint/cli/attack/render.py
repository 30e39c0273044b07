"""The outcome as text: a heading, one quiet block per image, a summary."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from saddlepoint.cli.attack.blocks import SYMBOLS, blocks
from saddlepoint.cli.attack.output import AttackedImage, Case, Output
from saddlepoint.cli.attack.settings import Settings
from saddlepoint.cli.attack.text import printable
from saddlepoint.cli.printable import console as console_of

_BROKEN, _UNBROKEN, _QUIET = "bold dark_orange3", "bold blue", "dim"
_INDENT = "  "


def render(settings: Settings, outcome: Output) -> None:
    """Print the outcome for people."""
    console = console_of(highlight=False, soft_wrap=True)
    console.print(Text(_heading(settings), style=_QUIET))
    for case in outcome.images:
        if case.findings is not None:
            _print_image(console, case, case.findings, settings)
    console.print(Text(f"\n{_summary(outcome)}", style=_QUIET))


def _print_image(console: Console, case: Case, image: AttackedImage, settings: Settings) -> None:
    console.print()
    console.print(_title(case, image, settings))
    for block in blocks(case.truth, image, settings):
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


def _title(case: Case, image: AttackedImage, settings: Settings) -> Text:
    now = image.adversarial.name
    if image.success and image.clean.label == image.adversarial.label:
        verdict = (f"misclassified: {now}, not {case.truth}", _BROKEN)
    elif image.success:
        verdict = (f"broken: {case.truth} → {now}", _BROKEN)
    elif settings.target is None:
        verdict = (f"not broken: still {now}", _UNBROKEN)
    else:
        verdict = (f"not broken: {now}, not {settings.classifier.name_of(settings.target)}", _UNBROKEN)
    return Text.assemble((printable(Path(case.image).name), "bold"), "  ", verdict)


def _summary(outcome: Output) -> str:
    attacks = [case.findings for case in outcome.images if case.findings is not None]
    fooled = [attack for attack in attacks if attack.success]
    wrong = [attack for attack in fooled if attack.clean.label == attack.adversarial.label]
    broken = [attack for attack in fooled if attack not in wrong]
    parts = [
        f"{len(broken)} of {len(attacks)} broken",
        f"{sum(attack.written.success for attack in broken)} as written in 8 bits",
        f"{sum(attack.forwards for attack in attacks)} forward and "
        f"{sum(attack.backwards for attack in attacks)} backward passes",
        f"{outcome.seconds:.1f} s",
    ]
    failed = len(outcome.images) - len(attacks)
    parts[1:1] = [f"{len(wrong)} misclassified from the start"] if wrong else []
    return " · ".join([*parts, f"{failed} failed"] if failed else parts)
