"""`saddlepoint export`: a finished run in the forms that other tools read."""

import argparse

from saddlepoint.cli.arguments import Parser

_DESCRIPTION = "Write a finished run in a form that other tools read. Needs neither the model nor the data."

_EPILOG = """\
examples:
  saddlepoint export run --as csv --out rows.csv
  saddlepoint export run --as in-toto --model-file model.safetensors --out statement.json

csv: the rows; junit: the checks, for CI servers; badge: JSON for shields.io's endpoint; in-toto: a statement of type
test-result over the digests of the run, to be signed by the usual tools."""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("export", help="write a run in another form", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="a run folder of evaluate or certify")
    add("--as", dest="form", required=True, choices=("csv", "junit", "badge", "in-toto"), help="the form")
    add("--out", metavar="FILE", help="where to write it (default: standard output)")
    add("--model-file", action="append", default=[], metavar="FILE", help="of the model: a subject of the statement")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from saddlepoint.files import write_bytes
    from saddlepoint.report.exports import export
    from saddlepoint.results import open_run
    from saddlepoint.results.folder.form import require_evaluation

    run = open_run(args.run_folder)
    require_evaluation(run.spec, str(run.path))
    text = export(run, args.form, [Path(file) for file in args.model_file])
    if args.out is None:
        print(text, end="")
    else:
        write_bytes(Path(args.out).absolute(), text.encode())
        print(args.out)
    return 0
