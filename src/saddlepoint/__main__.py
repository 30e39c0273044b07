"""`python -m saddlepoint`: the command line, where the script is not on the path."""

import sys

from saddlepoint.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
