"""The page: what a run folder says, put into the template."""

from pathlib import Path

from saddlepoint.report.content import content
from saddlepoint.results import RunError, RunFolder
from saddlepoint.results.folder.documents import write_bytes
from saddlepoint.results.folder.form import require_evaluation


def report(run: RunFolder, *, images: bool = True, baseline: RunFolder | None = None) -> str:
    """Return a run as one self-contained HTML page; its numbers are those of `run.summary()`.

    Args:
        run: an evaluation, or an attack on a data set; finished or not.
        images: whether the page shows broken examples.
        baseline: another run on the same data, to compare with.

    Raises:
        RunError: a file of the run is torn, or the run has no record yet, or the baseline is of other data or balls.
    """
    import jinja2

    if not run.rows().num_rows:
        raise RunError(f"{str(run.path)!r} has no record yet; expected a run that has begun")
    for folder in (run, baseline):
        if folder is not None:
            require_evaluation(folder.spec, str(folder.path))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(content(run, images=images, baseline=baseline))


def write_report(run: RunFolder, out: str | Path, *, images: bool = True, baseline: RunFolder | None = None) -> Path:
    """Write `report` to a file, whole or not at all, and return its path.

    Args:
        run: an evaluation's folder.
        out: the file to write.
        images: whether adversarial examples are shown; the page is then about ten times as large.
        baseline: another run, with which this one is compared.
    """
    path = Path(out).absolute()
    write_bytes(path, report(run, images=images, baseline=baseline).encode("utf-8"))
    return path
