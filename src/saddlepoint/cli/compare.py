"""`saddlepoint compare RUN1 RUN2`: did robustness change, example by example?"""

import argparse
from typing import TYPE_CHECKING

from saddlepoint.cli.arguments import Parser

if TYPE_CHECKING:
    from saddlepoint.results.records.comparison import Comparison

_DESCRIPTION = """\
Compare two runs on the same examples: how many flipped, which way, and whether that is more than chance. The first run
is the baseline."""

_EPILOG = """\
examples:
  saddlepoint compare runs/before runs/after
  saddlepoint compare runs/before runs/after --markdown changes.md --no-worse attacked

p: of McNemar's exact test on the flips; the interval of the change (Tango 1998) is for the distribution of the images.
exit code: 0; 1 when --no-worse names an accuracy that fell by more than chance (p < 0.05); 2 on bad input"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "compare", help="compare two runs, example by example", description=_DESCRIPTION, epilog=_EPILOG
    )
    add = parser.add_argument
    add("first", metavar="RUN1", help="a run folder, the baseline")
    add("second", metavar="RUN2", help="a run folder on the same data")
    add("--no-worse", action="append", default=[], choices=("clean", "certified", "attacked"), help="exit 1 if it fell")
    add("--markdown", metavar="FILE", help="write the comparison for a pull request")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from saddlepoint.cli.table import table
    from saddlepoint.files import write_bytes
    from saddlepoint.results import open_run, spelled
    from saddlepoint.results.folder.form import require_evaluation
    from saddlepoint.results.records.comparison import compare, in_words, shown

    runs = [open_run(args.first), open_run(args.second)]
    for run in runs:
        require_evaluation(run.spec, str(run.path))
    comparisons = compare(*runs)
    rows = [{"norm": comparison.norm, **row} for comparison in comparisons for row in shown(comparison)]
    worse = [line for comparison in comparisons for line in _worse(comparison, args.no_worse)]
    if args.json:
        print(
            json.dumps(
                {"comparisons": [comparison.summary() for comparison in comparisons], "worse": worse},
                ensure_ascii=False,
            )
        )
    else:
        names = " → ".join(str(run.spec["model"]["reference"]) for run in runs)
        print(f"{names} · {runs[0].spec['data']['reference']}\n")
        table(rows)
        for comparison in comparisons:
            print(f"\n{comparison.norm} ε {spelled(comparison.eps)}: {in_words(comparison)}")
        for line in worse:
            print(f"worse: {line}")
    if args.markdown:
        write_bytes(Path(args.markdown).absolute(), _markdown(comparisons, rows).encode())
    return int(bool(worse))


def _worse(comparison: "Comparison", asked: list[str]) -> list[str]:
    from saddlepoint.errors import InputError
    from saddlepoint.results import spelled

    lines = []
    for kind in asked:
        if kind not in comparison.differences:
            raise InputError(f"--no-worse {kind} given; expected runs that both have certificates")
        one = comparison.differences[kind]
        if one.won < one.lost and one.p < 0.05:
            ball = f"{comparison.norm} ε {spelled(comparison.eps)}"
            lines.append(f"{kind} accuracy at {ball}: {100 * one.change:+.1f} points, p {one.p:.2g}")
    return lines


def _markdown(comparisons: "list[Comparison]", rows: list[dict[str, object]]) -> str:
    from saddlepoint.results import spelled
    from saddlepoint.results.records.comparison import in_words

    cells = [list(rows[0]), ["--:"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines += [
        "",
        *(f"- {comparison.norm} ε {spelled(comparison.eps)}: {in_words(comparison)}" for comparison in comparisons),
    ]
    return "\n".join(lines) + "\n"
