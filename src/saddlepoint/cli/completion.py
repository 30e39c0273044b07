"""`saddlepoint completion`: what lets a shell complete commands and flags."""

import argparse

from saddlepoint.cli.arguments import Parser
from saddlepoint.extras import imported

_EPILOG = """\
examples:
  saddlepoint completion bash > ~/.local/share/bash-completion/completions/saddlepoint
  saddlepoint completion zsh > "${fpath[1]}/_saddlepoint"

needs shtab: pip install 'saddlepoint[all]'"""


def register(commands: "argparse._SubParsersAction[Parser]", whole: Parser) -> None:
    """Add the command to the command line, whose parser is the whole."""
    text = "print what lets a shell complete commands and flags"
    parser = commands.add_parser("completion", help=text, description=f"{text.capitalize()}.", epilog=_EPILOG)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")
    parser.set_defaults(run=lambda args: _run(args, whole))


def _run(args: argparse.Namespace, whole: Parser) -> int:
    print(imported("shtab").complete(whole, args.shell))
    return 0
