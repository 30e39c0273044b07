"""`saddlepoint report`: a run folder as one HTML page."""

import argparse
import json
import sys
import webbrowser

from saddlepoint.cli.arguments import Parser

_DESCRIPTION = """Make one self-contained HTML page of a run: the bracket, accuracy against ε, what the attacks broke,
classes, broken examples, methods and provenance. Needs neither the model nor the data, and loads nothing."""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("report", help="make one HTML page of a run", description=_DESCRIPTION)
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="a run folder, of evaluate or attack --data")
    add("--out", metavar="FILE", help="the page (default: RUN/report.html)")
    add("--compare", metavar="RUN", help="a baseline on the same data, to compare with")
    add("--no-images", action="store_true", help="show no examples")
    add("--open", action="store_true", help="show it in the browser")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from saddlepoint.report import write_report
    from saddlepoint.results import open_run

    run = open_run(args.run_folder)
    baseline = None if args.compare is None else open_run(args.compare)
    out = args.out or Path(args.run_folder) / "report.html"
    path = write_report(run, out, images=not args.no_images, baseline=baseline)
    if args.open and not webbrowser.open(Path(path).absolute().as_uri()):
        print(f"saddlepoint: no browser answers; the page is {path}", file=sys.stderr)
    print(json.dumps({"report": str(path)}, ensure_ascii=False) if args.json else path)
    return 0
