"""The run folder: what an attack computed on a data set, so that nothing is lost. No torch: a laptop reads it."""

from saddlepoint.errors import RunError
from saddlepoint.results.folder.canonical import canonical, difference, digest
from saddlepoint.results.folder.integrity import check_run
from saddlepoint.results.folder.reader import RunFolder, mark_verified, open_run, verified
from saddlepoint.results.folder.retention import Keep
from saddlepoint.results.folder.writer import Writer, writing
from saddlepoint.results.records.bracket import Bracket, brackets, clopper_pearson, percent
from saddlepoint.results.records.comparison import Comparison, Difference, compare
from saddlepoint.results.records.distances import Distances, distances
from saddlepoint.results.records.radius import spelled
from saddlepoint.results.records.record import Attacked, Certified, Failed, Record, Voted
from saddlepoint.results.records.schema import COLUMNS, SCHEMA_VERSION
from saddlepoint.results.records.summary import summarise
from saddlepoint.results.records.tally import Tally, by_label, namer
from saddlepoint.results.records.verdicts import Judgement, Standing, Verdict, judgements

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "Attacked",
    "Bracket",
    "Certified",
    "Comparison",
    "Difference",
    "Distances",
    "Failed",
    "Judgement",
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
    "distances",
    "judgements",
    "mark_verified",
    "namer",
    "open_run",
    "percent",
    "spelled",
    "summarise",
    "verified",
    "writing",
]
