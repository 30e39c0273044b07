"""A run folder, read: what was asked, on what it ran, every row, every point that was kept. Nothing here writes."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlepoint.errors import InputError, RunError
from saddlepoint.results.folder.canonical import digest
from saddlepoint.results.folder.documents import read_document, write_document
from saddlepoint.results.folder.form import check_sessions, check_spec
from saddlepoint.results.folder.merged import SHARD, load, records_of
from saddlepoint.results.folder.points import as_pixels, read_images, read_points
from saddlepoint.results.folder.shards import points_path
from saddlepoint.results.records.record import Record
from saddlepoint.results.records.summary import summarise

SPEC, PROVENANCE, SUMMARY, CHECKS = "spec.json", "provenance.json", "summary.json", "checks.json"
VERIFIED = "verified.json"


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run as it was when it was opened.

    Attributes:
        path: the folder, absolute.
        spec: what was asked, `keep` included.
        provenance: one entry per session that worked on it: when, by which software, on which machine.
        finished: whether its last writer said that nothing is missing.
    """

    path: Path
    spec: Mapping[str, Any]
    provenance: tuple[Mapping[str, Any], ...]
    finished: bool
    _table: Any = field(repr=False)

    def rows(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return one row per example as a pyarrow.Table, sorted by index; its columns are those of `COLUMNS`."""
        return self._table.drop_columns([SHARD])

    def records(self) -> list[Record]:
        """Return the records, sorted by index and key.

        Raises:
            RunError: a row is no record: a column has a value that it cannot have.
        """
        return list(self._records)

    def summary(self) -> dict[str, Any]:
        """Return the counts and accuracies that follow from the rows, also of a run that is not finished."""
        return deepcopy(self._summary)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return summarise(self._table)

    @cached_property
    def _records(self) -> tuple[Record, ...]:
        return tuple(records_of(self._table))

    def checks(self) -> list[dict[str, str]]:
        """Return the checks that were run on these records: name, outcome, measured and consequence of each."""
        path = self.path / CHECKS
        if not path.exists():
            return []
        content = read_document(path, ("rows", str), ("checks", list))
        outcomes: list[dict[str, str]] = content["checks"]
        return outcomes if content["rows"] == self.summary()["rows"] else []

    def point(self, identity: str, eps: float | None = None, norm: str | None = None) -> NDArray[np.float32]:
        """Return x_adv of an example, float32 (C, H, W), at a radius and in a norm where the run has several.

        Raises:
            InputError: there is no such example, or its point was not kept.
            RunError: the file of the point is missing or torn.
        """
        row = self._kept(identity, eps, norm)
        ((_, point),) = read_points(points_path(self.path, row[SHARD]), [row["key"]])
        return point

    def image(self, identity: str, eps: float | None = None, norm: str | None = None) -> NDArray[np.float32] | None:
        """Return the clean image x of a kept point, float32 (C, H, W); None in a run that did not keep it.

        Raises:
            InputError, RunError: as `point`.
        """
        row = self._kept(identity, eps, norm)
        images = [as_pixels(x) for _, x in read_images(points_path(self.path, row[SHARD]), [row["key"]])]
        return images[0] if images else None

    def _kept(self, identity: str, eps: float | None, norm: str | None = None) -> dict[str, Any]:
        """Return the attack record of an example whose point was kept."""
        import pyarrow.compute as pc

        if not isinstance(identity, str):
            raise InputError(f"the id of an example is {identity!r}; expected text, as in the column `id` of rows()")
        table = self._table.filter(pc.equal(self._table["id"], identity))
        columns = ["key", "norm", "eps", "kept", "error", SHARD]
        rows = table.filter(pc.equal(table["kind"], "attack")).select(columns).to_pylist()
        row = [row for row in rows if eps in (None, row["eps"]) and norm in (None, row["norm"])]
        if not row:
            raise InputError(f"{str(self.path)!r} has no row of {identity!r}; expected an id of its rows")
        if len(row) > 1:
            balls = ", ".join(f"{value['norm']} {value['eps']:g}" for value in row)
            raise InputError(
                f"{identity!r} was attacked in the balls {balls}; expected one of them: "
                f"point({identity!r}, eps=…, norm=…)"
            )
        if not row[0]["kept"]:
            error = " ".join((row[0]["error"] or "").split())
            why = f"the example has an error: {error}" if error else f"keep: {self.spec['keep']}"
            raise InputError(f"the point of {identity!r} was not kept ({why}); the column `kept` tells which are")
        values: dict[str, Any] = row[0]
        return values


def open_run(path: str | Path) -> RunFolder:
    """Open a run folder for reading, also while it is being written; no torch, nothing executed.

    Raises:
        RunError: it is no run folder, or a file of it is torn, foreign, or newer than this saddlepoint.
    """
    folder = Path(path).absolute()
    if not (folder / SPEC).is_file():
        raise RunError(
            f"{str(folder)!r} is no run folder: it has no {SPEC}; expected what saddlepoint attack --out wrote"
        )
    spec, sessions = read_spec(folder), read_sessions(folder)
    return RunFolder(folder, spec, tuple(sessions), (folder / SUMMARY).is_file(), load(folder))


def read_spec(folder: Path) -> dict[str, Any]:
    """Return what was asked, after checking it against its digest.

    Raises:
        RunError: the file is missing, torn, foreign, newer, or was edited.
    """
    content = read_document(folder / SPEC, ("spec", dict), ("digest", str))
    spec: dict[str, Any] = content["spec"]
    if content["digest"] != digest(spec):
        raise RunError(f"{str(folder / SPEC)!r} was edited: it does not have its digest; restore it")
    if spec.get("kind") == "attack":
        raise RunError(
            f"{str(folder)!r} was written by an earlier version of saddlepoint; "
            "run the command again, into another folder"
        )
    check_spec(spec, str(folder / SPEC))
    return spec


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """Return the provenance, one entry per session.

    Raises:
        RunError: the file is missing, torn, foreign or newer.
    """
    sessions: list[dict[str, Any]] = read_document(folder / PROVENANCE, ("sessions", list))["sessions"]
    check_sessions(sessions, str(folder / PROVENANCE))
    return sessions


def mark_verified(run: RunFolder, version: str, **how: object) -> None:
    """Note in the folder that all of its claims held: when, by which version, and how much of it was done again."""
    about = {"date": datetime.now(UTC).date().isoformat(), "saddlepoint": version, **how}
    claim = {"rows": run.summary()["rows"], "spec": digest(run.spec)}
    write_document(run.path / VERIFIED, {**claim, **about})


def verified(run: RunFolder) -> dict[str, Any] | None:
    """Return what `mark_verified` noted of these very records; None if nothing, or if they are others now."""
    path = run.path / VERIFIED
    if not path.exists():
        return None
    document = read_document(path, ("rows", str), ("spec", str), ("date", str), ("saddlepoint", str))
    return document if (document["rows"], document["spec"]) == (run.summary()["rows"], digest(run.spec)) else None
