"""Shards: a Parquet file of rows and, under the same name, the safetensors of their points.

The points are written first, the rows commit them. So rows never miss a point that they claim, whenever a writer is
killed, and points without rows are what is left of a shard that was never committed.
"""

import io
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saddlepoint.errors import RunError, TornError, reason
from saddlepoint.results.folder.documents import remove, write_bytes
from saddlepoint.results.folder.points import Pixels, encode, read_images, read_points, stored
from saddlepoint.results.records.schema import ADDED, MARK, SCHEMA, SCHEMA_VERSION

ROWS, POINTS = "rows", "adversarial"
_ROOM, _LEAST = 10_000, 8
"""A file may have so many rows, and one more for each so many bytes."""
_OURS = re.compile(r"\d{6,}-[0-9a-f]{16}")


def fresh_name(folder: Path) -> str:
    """Return a name that sorts after those that are there, and that no other writer would choose."""
    numbers = [int(name.partition("-")[0]) for name in names(folder) if _OURS.fullmatch(name)]
    return f"{max(numbers, default=-1) + 1:06}-{secrets.token_hex(8)}"


def names(folder: Path) -> list[str]:
    """Return the names of the committed shards, in the order in which they were begun.

    Raises:
        RunError: the folder of rows is missing, or holds something else.
    """
    try:
        paths = sorted(path for path in (folder / ROWS).iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise RunError(f"{str(folder / ROWS)!r} cannot be read ({reason(error)}); expected a run folder") from None
    foreign = next((path for path in paths if path.suffix != ".parquet"), None)
    if foreign is not None:
        raise RunError(f"{str(foreign)!r} is not of a run folder; move it out of there")
    return [path.stem for path in paths]


def rows_path(folder: Path, name: str) -> Path:
    """Return where the rows of a shard are."""
    return folder / ROWS / f"{name}.parquet"


def points_path(folder: Path, name: str) -> Path:
    """Return where the points of a shard are, if it has any."""
    return folder / POINTS / f"{name}.safetensors"


def write_rows(folder: Path, name: str, table: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    """Write the rows of a shard, or replace them; a shard without rows is removed.

    Raises:
        RunError: the file cannot be written.
    """
    path, content = rows_path(folder, name), io.BytesIO()
    if table.num_rows:
        pq.write_table(table, content, write_page_checksum=True)
        write_bytes(path, content.getvalue())
    else:
        remove(path)


def write_shard(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, object]],
    points: Mapping[str, NDArray[np.float32]],
    images: Mapping[str, Pixels],
) -> None:
    """Write a shard; once this returns, its rows outlive a kill and a power cut.

    Args:
        folder: the run.
        name: of the shard, without a suffix.
        rows: the records, as the schema has them.
        points: the adversarial images by the keys of their records.
        images: the clean images by the keys of their records.

    Raises:
        RunError: a file cannot be written.
    """
    if points:
        write_bytes(points_path(folder, name), encode(points, images))
    write_rows(folder, name, pa.Table.from_pylist(list(rows), schema=SCHEMA))


def read_rows(folder: Path, name: str) -> Any:  # noqa: ANN401
    """Return the rows of a shard as a pyarrow.Table.

    Raises:
        RunError: the file is torn, foreign or of a newer version.
    """
    path = rows_path(folder, name)
    try:
        # Opened here: pyarrow cannot say every name that a folder may have.
        with path.open("rb") as raw, pq.ParquetFile(raw, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            _check_schema(schema, path)
            _check_size(file.metadata, path)
            table = file.read(use_threads=False)
            table.validate(full=True)
            table = _completed(table)
    except RunError:
        raise
    except Exception as error:  # whatever pyarrow makes of broken bytes
        raise RunError(
            f"{str(path)!r} cannot be read ({reason(error)}); it is torn: remove it, and the same command computes its "
            "rows again"
        ) from None
    return table


def prune(folder: Path, name: str, keep: set[str]) -> None:
    """Remove all points of a shard but those in `keep`; points that no row names go, too."""
    path = points_path(folder, name)
    there = stored(path)
    if there <= keep:
        return
    left = dict(read_points(path, sorted(there & keep)))
    if left:
        write_bytes(path, encode(left, dict(read_images(path, left))))
    else:
        remove(path)


def remove_pointless(folder: Path) -> list[str]:
    """Remove shards whose rows claim points that are gone or torn: they are computed again. Return one line for each.

    Raises:
        RunError: a file is foreign, newer, or cannot be removed, or rows are torn; only a holder of the lock may.
    """
    lines = []
    for name in names(folder):
        lost = _lost(folder, name)
        if lost:
            remove(rows_path(folder, name))
            remove(points_path(folder, name))
            lines.append(
                f"points in {str(points_path(folder, name))!r} are missing or torn ({lost} of them); the examples of "
                "that shard are attacked again"
            )
    return lines


def _lost(folder: Path, name: str) -> int:
    """Return how many points of a shard are not there."""
    claimed = {row["key"] for row in read_rows(folder, name).select(["key", "kept"]).to_pylist() if row["kept"]}
    try:
        return len(claimed - stored(points_path(folder, name))) if claimed else 0
    except TornError:
        return len(claimed)


def remove_uncommitted(folder: Path) -> None:
    """Remove points whose rows were never written; only a holder of the lock may."""
    committed = set(names(folder))
    for path in (folder / POINTS).iterdir():
        if path.suffix == ".safetensors" and _OURS.fullmatch(path.stem) and path.stem not in committed:
            remove(path)


def _check_size(about: Any, path: Path) -> None:  # noqa: ANN401
    """Refuse rows that unfold to far more than their file: each record of ours has a digest, which nothing shortens."""
    size = path.stat().st_size
    if about.num_rows > _ROOM + size // _LEAST:
        raise RunError(
            f"{str(path)!r} has {about.num_rows} rows in {size} bytes, which no run has; remove it, and the same "
            "command computes its rows again"
        )


def _completed(table: Any) -> Any:  # noqa: ANN401
    """Return the rows with every column of today, null where an earlier version had none."""
    there = set(table.column_names)
    columns = [table[f.name] if f.name in there else pa.nulls(len(table), f.type) for f in SCHEMA]
    return pa.table(columns, schema=SCHEMA)


def _check_schema(schema: Any, path: Path) -> None:  # noqa: ANN401
    (key,) = MARK
    version = (schema.metadata or {}).get(key, b"").decode("ascii", "replace")
    if not version.isdecimal():
        raise RunError(f"{str(path)!r} is not of a run folder; move it out of there")
    if int(version) > SCHEMA_VERSION:
        raise RunError(f"{str(path)!r} was written by a newer saddlepoint (schema {version}); update saddlepoint")
    if int(version) < min(ADDED.values()) - 1:
        raise RunError(f"{str(path)!r} was written by an earlier version (schema {version}); run it again elsewhere")
    expected = [field for field in SCHEMA if ADDED.get(field.name, 0) <= int(version)]
    if not schema.equals(pa.schema(expected)):
        raise RunError(f"{str(path)!r} has other columns than schema {version}; restore it or move it away")
