"""From shards to one row per record.

A key can occur twice: files were copied together, or an example failed and was tried again. What was found wins over an
error, and of errors the last one stands. Two rows that say the same are one; between two that differ nobody can choose.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from saddlepoint.errors import InputError, RunError
from saddlepoint.results.folder.shards import ROWS, names, read_rows
from saddlepoint.results.records.record import Record, from_row
from saddlepoint.results.records.schema import ADDED, NAMES, SCHEMA, checked

SHARD = "shard"
"""Beside the columns of a row: the name of the shard that holds it."""
_FOUND = tuple(name for name in NAMES if name not in ("kept", "seconds"))
_ORDER = [("index", "ascending"), ("key", "ascending")]
_SHARDED = SCHEMA.append(pa.field(SHARD, pa.string(), nullable=False))


def load(folder: Path, columns: Sequence[str] = NAMES) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the rows of all shards, one per key, sorted by index and key, with the column `shard`.

    Args:
        folder: of the run.
        columns: that are wanted; of a large run each takes its memory.

    Raises:
        RunError: a shard cannot be read, or two rows of a key differ.
    """
    import pyarrow.compute as pc

    kept = tuple(dict.fromkeys((*columns, "index", "key")))
    table = _read(folder, kept)
    if pc.count_distinct(table["key"]).as_py() < table.num_rows:
        table = _merged(_read(folder, NAMES)).select([*kept, SHARD])
    order = pc.sort_indices(table.select(["index", "key"]), sort_keys=_ORDER)
    sorted_already = pc.all(pc.greater(order.slice(1), order.slice(0, max(len(order) - 1, 0)))).as_py() is not False
    return table if sorted_already else table.take(order)


def _read(folder: Path, columns: Sequence[str]) -> Any:  # noqa: ANN401
    schema = pa.schema([_SHARDED.field(name) for name in (*columns, SHARD)])
    tables = [schema.empty_table()]
    for name in names(folder):
        table = read_rows(folder, name).select(list(columns))
        column = pa.repeat(pa.scalar(name), table.num_rows)
        tables.append(table.append_column(_SHARDED.field(SHARD), column).cast(schema))
    return pa.concat_tables(tables)


def _merged(table: Any) -> Any:  # noqa: ANN401
    places: dict[str, list[int]] = defaultdict(list)
    for place, identity in enumerate(table["key"].to_pylist()):
        places[identity].append(place)
    return table.take([_survivor(table, rows) for rows in places.values()])


def said(row: Mapping[str, object]) -> str:
    """Return what a row says as one line of JSON; whether its point is kept is not a finding, and left out.

    So is a later column that is null: what a row of an earlier schema says is said in the same line as then.
    """
    values = [row[name] for name in _FOUND if name not in ADDED or row[name] is not None]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def rows_digest(table: Any) -> str:  # noqa: ANN401
    """Return "sha256:…" of what the rows say, line by line in their order."""
    total = hashlib.sha256()
    for row in rows_of(table):
        total.update(f"{said(row)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def rows_of(table: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Yield the rows of a table as dictionaries; a part of it at a time, whatever its size."""
    for batch in table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def records_of(table: Any) -> Iterator[Record]:  # noqa: ANN401
    """Yield the records that a table with all columns holds; a part of it at a time, whatever its size.

    Raises:
        RunError: a row is no record: a column has a value that it cannot have.
    """
    for row in rows_of(table):
        shard = row.pop(SHARD)
        try:
            yield from_row(checked(row))
        except InputError as error:
            raise RunError(
                f"the row {row['key']!r:.80} is no record ({error}); remove {ROWS}/{shard}.parquet, and the same "
                "command computes its rows again"
            ) from None


def _survivor(table: Any, places: Sequence[int]) -> int:  # noqa: ANN401
    if len(places) == 1:
        return places[0]
    rows = table.take(places).to_pylist()
    finished = [(place, row) for place, row in zip(places, rows, strict=True) if row["error"] is None]
    if not finished:
        return places[-1]
    _, first = finished[0]
    other = next((row for _, row in finished if said(row) != said(first)), None)
    if other is not None:
        column = next(name for name in _FOUND if first[name] != other[name])
        raise RunError(
            f"the record {first['key']!r} has two rows: {column} is {first[column]!r:.60} in {first[SHARD]!r} and "
            f"{other[column]!r:.60} in {other[SHARD]!r}; move one of these shards away"
        )
    return max(finished, key=lambda pair: (pair[1]["kept"], -pair[0]))[0]
