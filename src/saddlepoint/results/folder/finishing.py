"""The end of a run: the shards are made to hold what the merged rows say, no more."""

from pathlib import Path

import pyarrow as pa

from saddlepoint.results.folder.merged import SHARD, load, records_of
from saddlepoint.results.folder.retention import Retention
from saddlepoint.results.folder.shards import names, prune, read_rows, write_rows
from saddlepoint.results.records.schema import SCHEMA


def settle(folder: Path, retention: Retention) -> None:
    """Remove errors that a later attempt replaced, and points that the rule does not keep.

    Of each shard the rows are replaced first: a kill in between leaves points that no row names, and the next call
    removes those. Rows without an error are never removed.

    Raises:
        RunError: a shard cannot be read or written, or two rows of an id differ.
    """
    home, keep = dict[str, str](), set[str]()
    table = load(folder)
    for record, shard in zip(records_of(table), table[SHARD].to_pylist(), strict=True):
        home[record.key] = shard
        if retention.keeps(record):
            keep.add(record.key)
    for name in names(folder):
        before = read_rows(folder, name).to_pylist()
        after = [
            {**row, "kept": row["kept"] and row["key"] in keep}
            for row in before
            if row["error"] is None or home[row["key"]] == name
        ]
        if after != before:
            write_rows(folder, name, pa.Table.from_pylist(after, schema=SCHEMA))
        prune(folder, name, {row["key"] for row in after if row["kept"]})
