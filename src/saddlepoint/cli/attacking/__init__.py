"""What `saddlepoint attack` does once its arguments are parsed."""

from saddlepoint.cli.attacking.run import run

__all__ = ["run"]
