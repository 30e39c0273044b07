"""The run folder: what an attack computed on a data set, so that nothing is lost. No torch: a laptop reads it."""

from saddlepoint.results.check import check_run
from saddlepoint.results.errors import RunError
from saddlepoint.results.reader import RunFolder, open_run
from saddlepoint.results.retention import Keep
from saddlepoint.results.schema import COLUMNS, SCHEMA_VERSION
from saddlepoint.results.spec import canonical, difference, digest
from saddlepoint.results.summary import summarise
from saddlepoint.results.verdicts import Verdict
from saddlepoint.results.writer import Writer, writing

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "Keep",
    "RunError",
    "RunFolder",
    "Verdict",
    "Writer",
    "canonical",
    "check_run",
    "difference",
    "digest",
    "open_run",
    "summarise",
    "writing",
]
