"""A run folder from anywhere: read as it was written, or one line."""

import inspect
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from results.specimens import SPEC, content, fate, point, record, row
from saddlepoint.errors import InputError
from saddlepoint.results import COLUMNS, RunError, RunFolder, check_run, open_run, writing
from saddlepoint.results.folder.merged import said
from saddlepoint.results.records.schema import ADDED, NAMES, SCHEMA, SCHEMA_VERSION, describe

PAGE = Path(__file__).parents[2] / "docs" / "run-folder.md"
COUNT = 12


def written(folder, count=COUNT):
    with writing(folder, SPEC, {"python": "3"}, "all", shard_rows=7) as run:
        for index in (index for index in range(count) if row(index)["id"] not in run.done):
            run.add(record(index, fate(index)), None if fate(index) == "error" else point(index))
        run.finish()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return written(tmp_path_factory.mktemp("run"))


def files(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != "lock")


def refused(folder, message):
    for use in (open_run, lambda path: writing(path, SPEC, {}, "all").__enter__()):
        with pytest.raises(RunError, match=message) as caught:
            use(folder)
        assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_broken_bytes_are_one_line_or_change_nothing(run, data):
    before = content(run)[:2]
    path = data.draw(st.sampled_from(files(run)), "file")
    good = path.read_bytes()
    draw = random.Random(data.draw(st.integers(0, 2**32), "seed"))
    bad = bytearray(good)
    match data.draw(st.sampled_from(["flip", "cut", "noise", "splice", "any"]), "how"):
        case "flip":
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        case "cut":
            del bad[draw.randrange(len(bad)) :]
        case "noise":
            for _ in range(8):
                bad[draw.randrange(len(bad))] = draw.randrange(256)
        case "splice":
            start = draw.randrange(len(bad))
            bad[start : start + draw.randrange(20)] = draw.randbytes(draw.randrange(20))
        case "any":
            bad = data.draw(st.binary(max_size=100), "content")
    line = ""
    try:
        path.write_bytes(bad)
        assert all("\n" not in line for line in check_run(run))
        assert content(run)[:2] == before
    except RunError as error:
        line = str(error)
        assert check_run(run)
    finally:
        path.write_bytes(good)
    assert "\n" not in line
    assert not line or path.name in line


@pytest.mark.parametrize("name", ["spec.json", "provenance.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"a": NaN}', "cannot be read"),
        ('{"a": "\\ud800"}', "cannot be read"),
        ('{"a": 1e999}', "cannot be read"),
        ("[]", "is not of a run folder"),
        ('{"format": "other"}', "is not of a run folder"),
        ('{"format": "FORMAT", "version": 99}', r"written by a newer saddlepoint \(version 99\); update"),
        ('{"format": "FORMAT", "version": "1"}', "torn or was edited"),
        ('{"format": "FORMAT", "version": 1}', "torn or was edited"),
    ],
)
def test_a_foreign_document_is_named(tmp_path, name, text, message):
    path = written(tmp_path, 1) / name
    path.write_text(text.replace("FORMAT", f"saddlepoint-run-{path.stem}"))
    refused(tmp_path, f"{name}' .*{message}")
    assert check_run(tmp_path)


def test_an_edited_specification_is_noticed(tmp_path):
    path = written(tmp_path, 1) / "spec.json"
    path.write_text(path.read_text().replace("PGD", "FGSM"))
    refused(tmp_path, "was edited: it does not have its digest")


def test_rows_of_schema_3_have_null_where_a_column_was_added(tmp_path):
    written(tmp_path, 5)
    for path in (tmp_path / "rows").iterdir():
        table = pq.read_table(path).drop_columns(list(ADDED))
        pq.write_table(table.replace_schema_metadata({"saddlepoint.schema": "3"}), path)
    again = open_run(tmp_path)
    assert again.rows().schema.names == SCHEMA.names
    assert {row["domains"] for row in again.rows().to_pylist()} == {None}
    assert check_run(tmp_path) == []


def test_what_a_row_of_schema_3_says_has_the_digest_that_its_summary_names():
    known = [name for name in NAMES if name not in (*ADDED, "kept", "seconds")]
    before = {**dict.fromkeys(NAMES), "id": "a", "lower_bound": 0.5}
    assert json.loads(said(before)) == [before[name] for name in known]
    assert len(json.loads(said({**before, "domains": 7}))) == len(known) + 1


def test_foreign_and_newer_shards_are_named(tmp_path):
    rows = written(tmp_path, 2) / "rows"
    plain = pa.table({"a": [1]})
    newer = plain.replace_schema_metadata({"saddlepoint.schema": str(SCHEMA_VERSION + 1)})
    other = plain.replace_schema_metadata(SCHEMA.metadata)
    cases = [
        (plain, "is not of a run folder"),
        (newer, "newer saddlepoint"),
        (plain.replace_schema_metadata({"saddlepoint.schema": "2"}), "written by an earlier version"),
        (other, f"has other columns than schema {SCHEMA_VERSION}"),
    ]
    for table, message in cases:
        pq.write_table(table, rows / "x.parquet")
        refused(tmp_path, rf"x\.parquet' .*{message}")
        assert any(message in line for line in check_run(tmp_path))
        (rows / "x.parquet").unlink()
    (rows / "x.parquet").mkdir()
    refused(tmp_path, r"x\.parquet' cannot be read")
    (rows / "x.parquet").rmdir()
    (rows / "notes.txt").touch()
    refused(tmp_path, r"notes\.txt' is not of a run folder; move it out of there")
    (rows / "notes.txt").rename(rows / ".hidden")
    assert open_run(tmp_path).rows().num_rows == 2


def test_foreign_and_newer_points_are_named(tmp_path):
    (path,) = (written(tmp_path, 2) / "adversarial").iterdir()
    (one,) = open_run(tmp_path).rows().filter(pa.compute.field("kept")).slice(0, 1).to_pylist()
    x = np.zeros((1, 2, 2), np.float32)
    head = {"format": "saddlepoint-points", "version": "2"}
    for metadata, message in ((None, "is not of a run folder"), (head, "newer saddlepoint")):
        save_file({one["id"]: x}, path, metadata)
        with pytest.raises(RunError, match=message):
            open_run(tmp_path).point(one["id"])
        assert any(message in line for line in check_run(tmp_path))
    path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        open_run(tmp_path).point(one["id"])
    assert any("is missing" in line for line in check_run(tmp_path))


CONTRADICTIONS = {
    "beyond eps": {"distance": 1.0, "linf": 1.0},
    "has distance .* and linf": {"distance": 0.001},
    "has success True and the margin 2": {"margin": 2.0},
    "has success False and the margin -1": {"success": False, "attack": None, "accuracy": 1.0, "margin": -1.0},
    "correct on the clean image, by the margin -1": {"clean_margin": -1.0},
    r"is of l2 eps 0\.5; the specification asks for linf eps 2/255": {"norm": "l2", "eps": 0.5},
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_what_contradicts_itself_inside_a_folder_is_named(message, tmp_path):
    spec = {"threats": [{"norm": "linf", "eps": 2 / 255}], "data": {"examples": 2}}
    with writing(tmp_path, spec, {}) as folder:
        folder.add(record(1), point(1))
        folder.add(record(2, **CONTRADICTIONS[message]), point(2))
        folder.finish()
    assert any(re.search(message, line) for line in check_run(tmp_path))


def test_examples_without_a_record_are_counted(tmp_path):
    spec = {"threats": [{"norm": "linf", "eps": 2 / 255}], "data": {"examples": 3}}
    with writing(tmp_path, spec, {}) as folder:
        folder.add(record(1), point(1))
        folder.finish()
    assert any("1 of 3 examples have a record at linf eps 2/255" in line for line in check_run(tmp_path))


def test_an_id_is_text(tmp_path):
    with pytest.raises(InputError, match="the id of an example is 5; expected text"):
        inspect.unwrap(RunFolder._kept)(open_run(written(tmp_path, 2)), 5, None)


def test_the_summary_must_follow_from_the_rows(tmp_path):
    path = written(tmp_path, 5) / "summary.json"
    path.write_text(path.read_text().replace('"robust": ', '"robust": 1'))
    assert any("does not follow from the rows" in line for line in check_run(tmp_path))
    written(tmp_path, 5)
    assert check_run(tmp_path) == []


@pytest.mark.parametrize("name", ["notes.txt", "rows/x.parquet", "adversarial/x.safetensors", "summary.json"])
def test_a_folder_with_other_content_is_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=rf"holds '{name}' and no spec\.json; expected a new folder, an empty one, or"):
        written(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "lock").exists()


def test_what_is_no_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in ("none", "file", "."):
        with pytest.raises(RunError, match="is no run folder: it has no spec"):
            open_run(tmp_path / path)
    assert not (tmp_path / "none").exists()
    with pytest.raises(RunError, match="cannot create the folder"):
        written(tmp_path / "file")


def test_a_point_that_was_not_kept_is_one_line(tmp_path):
    with writing(tmp_path, SPEC, {}, "broken") as run:
        run.add(record(0, "stands"), None)
        run.add(record(1, "error"), None)
    found = open_run(tmp_path)
    with pytest.raises(InputError, match="was not kept \\(keep: broken\\)"):
        found.point(row(0)["id"])
    with pytest.raises(InputError, match="was not kept \\(the example has an error: truncated\\)"):
        found.point(row(1)["id"])
    with pytest.raises(InputError, match="has no row of 'x'"):
        found.point("x")


def test_reading_needs_no_torch_and_changes_nothing(run):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(run)}
    code = (
        "import sys; from saddlepoint.results import *; r = open_run(sys.argv[1]); assert check_run(r.path) == []; "
        "[r.point(i) for i, k in zip(r.rows()['id'].to_pylist(), r.rows()['kept'].to_pylist()) if k]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(run)}


def test_the_summary_is_json_of_counts(run):
    said = json.loads((run / "summary.json").read_bytes())
    assert {key: said[key] for key in open_run(run).summary()} == open_run(run).summary()


def test_the_page_has_the_columns_of_the_schema():
    text = PAGE.read_text(encoding="utf-8")
    assert describe() in text
    assert [column.name for column in COLUMNS] == SCHEMA.names
