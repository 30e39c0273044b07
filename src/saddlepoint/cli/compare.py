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


def _run(given: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from saddlepoint.cli.table import table
    from saddlepoint.files import write_bytes
    from saddlepoint.results import open_run, spelled
    from saddlepoint.results.folder.form import require_evaluation
    from saddlepoint.results.records.comparison import compare, in_words, shown

    runs = [open_run(given.first), open_run(given.second)]
    for run in runs:
        require_evaluation(run.spec, str(run.path))
    found = compare(*runs)
    rows = [{"norm": each.norm, **row} for each in found for row in shown(each)]
    worse = [line for each in found for line in _worse(each, given.no_worse)]
    if given.json:
        print(json.dumps({"comparisons": [each.summary() for each in found], "worse": worse}, ensure_ascii=False))
    else:
        names = " → ".join(str(run.spec["model"]["reference"]) for run in runs)
        print(f"{names} · {runs[0].spec['data']['reference']}\n")
        table(rows)
        for each in found:
            print(f"\n{each.norm} ε {spelled(each.eps)}: {in_words(each)}")
        for line in worse:
            print(f"worse: {line}")
    if given.markdown:
        write_bytes(Path(given.markdown).absolute(), _markdown(found, rows).encode())
    return int(bool(worse))


def _worse(each: "Comparison", asked: list[str]) -> list[str]:
    from saddlepoint.errors import InputError
    from saddlepoint.results import spelled

    lines = []
    for kind in asked:
        if kind not in each.differences:
            raise InputError(f"--no-worse {kind} given; expected runs that both have certificates")
        one = each.differences[kind]
        if one.won < one.lost and one.p < 0.05:
            lines.append(
                f"{kind} accuracy at {each.norm} ε {spelled(each.eps)}: {100 * one.change:+.1f} points, p {one.p:.2g}"
            )
    return lines


def _markdown(found: "list[Comparison]", rows: list[dict[str, object]]) -> str:
    from saddlepoint.results import spelled
    from saddlepoint.results.records.comparison import in_words

    cells = [list(rows[0]), ["--:"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines += ["", *(f"- {each.norm} ε {spelled(each.eps)}: {in_words(each)}" for each in found)]
    return "\n".join(lines) + "\n"
