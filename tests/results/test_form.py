"""Whatever somebody makes of the JSON documents of a run folder, every command ends in one line."""

import copy
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlepoint.cli.main import main
from saddlepoint.results.folder.canonical import digest
from saddlepoint.results.folder.documents import read_document, write_document
from saddlepoint.results.records.record import key_of
from saddlepoint.results.records.schema import COLUMNS

ODD = [None, True, -1, 0, 3, 2**70, 0.5, "", "x\x1b[2K", [], [1], {}, {"x": 1}, [[]], [None]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = tmp_path_factory.mktemp("form") / "run"
    where = ["--model", "fashion-mnist-ibp", "--limit", "3", "--eps", "0.02", "--certify", "interval", "--no-checks"]
    assert main(["evaluate", *where, "--suite", "fgsm", "--out", str(run)]) == 0
    return run


def places(value, path=()):
    """Every place of a JSON value: what stands there may be anything."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def put(value, path, odd):
    changed = copy.deepcopy(value)
    where = changed
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = odd
    return changed


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_document_of_another_form_is_one_line(folder, data):
    name, key = data.draw(st.sampled_from([("spec.json", "spec"), ("provenance.json", "sessions")]))
    whole = read_document(folder / name)
    path = data.draw(st.sampled_from([each for each in places(whole[key]) if each]))
    changed = put(whole[key], path, data.draw(st.sampled_from(ODD)))
    content = {key: changed, **({"digest": digest(changed)} if key == "spec" else {})}
    before = (folder / name).read_bytes()
    try:
        write_document(folder / name, {**whole, **content})
        for command in (["report", str(folder)], ["compare", str(folder), str(folder)]):
            assert main(command) in (0, 1, 2)
    finally:
        (folder / name).write_bytes(before)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_verify_ends_in_one_line_whatever_the_specification_says(folder, data):
    whole = read_document(folder / "spec.json")
    path = data.draw(st.sampled_from([each for each in places(whole["spec"]) if each]))
    changed = put(whole["spec"], path, data.draw(st.sampled_from(ODD)))
    before = (folder / "spec.json").read_bytes()
    try:
        write_document(folder / "spec.json", {"spec": changed, "digest": digest(changed)})
        assert main(["verify", str(folder)]) in (0, 1, 2, 3)
    finally:
        (folder / "spec.json").write_bytes(before)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b'{"format": 3}', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["spec.json", "provenance.json", "checks.json", "verified.json"])
def test_what_is_no_document_is_one_line(folder, name, content, capsys):
    before = (folder / name).read_bytes() if (folder / name).exists() else None
    try:
        (folder / name).write_bytes(content)
        assert main(["report", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    finally:
        (folder / name).unlink() if before is None else (folder / name).write_bytes(before)
        assert json.loads((folder / "spec.json").read_bytes())


VALUES = {
    str: [None, "", "x", "linf", "attack", "certificate", "smoothing", "probe", "x\x1b[2K"],
    int: [None, -1, 0, 2**62],
    float: [None, math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300],
    bool: [None, True, False],
}


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_command_ends_in_one_line_whatever_the_rows_say(folder, data):
    """Values of the column's type: others Parquet refuses. The key may follow, or not."""
    path = min((folder / "rows").iterdir())
    before, table = path.read_bytes(), pq.read_table(path)
    column = data.draw(st.sampled_from([each for each in COLUMNS if each.name != "key"]))
    odd = data.draw(st.sampled_from(VALUES[column.kind]))
    rows = table.to_pylist()
    for row in rows[: data.draw(st.integers(1, len(rows)))]:
        row[column.name] = odd
        if data.draw(st.booleans()):
            row["key"] = key_of(row["kind"], row["norm"], row["eps"], row["id"])
    fields = [field.with_nullable(True) for field in table.schema]
    try:
        changed = pa.Table.from_pylist(rows, schema=pa.schema(fields)).cast(table.schema)
    except (ValueError, TypeError):
        return  # null where the schema has none
    try:
        pq.write_table(changed, path)
        for command in (["report", str(folder)], ["compare", str(folder), str(folder)], ["verify", str(folder)]):
            assert main(command) in (0, 1, 2, 3)
    finally:
        path.write_bytes(before)
