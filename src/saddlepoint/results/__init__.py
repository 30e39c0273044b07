"""The run folder: what an attack computed on a data set, so that nothing is lost. No torch: a laptop reads it."""

from saddlepoint.results.bracket import Bracket, brackets, clopper_pearson, percent
from saddlepoint.results.check import check_run
from saddlepoint.results.compare import Comparison, Difference, compare
from saddlepoint.results.errors import RunError
from saddlepoint.results.radius import spelled
from saddlepoint.results.reader import RunFolder, mark_verified, open_run, verified
from saddlepoint.results.record import Attacked, Certified, Failed, Record, Voted
from saddlepoint.results.retention import Keep
from saddlepoint.results.schema import COLUMNS, SCHEMA_VERSION
from saddlepoint.results.spec import canonical, difference, digest
from saddlepoint.results.summary import summarise
from saddlepoint.results.tally import Tally, by_label, namer
from saddlepoint.results.verdicts import Judged, Standing, Verdict, judged
from saddlepoint.results.writer import Writer, writing

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "Attacked",
    "Bracket",
    "Certified",
    "Comparison",
    "Difference",
    "Failed",
    "Judged",
    "Keep",
    "Record",
    "RunError",
    "RunFolder",
    "Standing",
    "Tally",
    "Verdict",
    "Voted",
    "Writer",
    "brackets",
    "by_label",
    "canonical",
    "check_run",
    "clopper_pearson",
    "compare",
    "difference",
    "digest",
    "judged",
    "mark_verified",
    "namer",
    "open_run",
    "percent",
    "spelled",
    "summarise",
    "verified",
    "writing",
]
