"""`saddlepoint attack --data`: a data set attacked into a run folder, resumable."""

from saddlepoint.cli.running.run import run

__all__ = ["run"]
