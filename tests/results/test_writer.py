"""What is written comes back, whatever the order, the flushes and the interruptions."""

import math
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.specimens import FATES, SPEC, content, point, record, row
from saddlepoint.errors import InputError
from saddlepoint.results import COLUMNS, Certified, RunError, Voted, check_run, open_run, writing
from saddlepoint.results.folder import writer as writer_module
from saddlepoint.results.records.record import NORMS, RECORDS, from_row, key_of
from saddlepoint.results.records.schema import NAMES, checked

FOLDERS = settings(max_examples=40, deadline=None)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.floats(allow_nan=False)
integers = st.integers(-(2**63), 2**63 - 1)


def filled(folder, fates, keep="all", order=None, **how):
    with writing(folder, SPEC, {}, keep, **how) as run:
        for index in range(len(fates)) if order is None else order:
            run.add(record(index, fates[index]), None if fates[index] == "error" else point(index))
        return run.finish()


def shard_files(folder):
    return sorted((Path(folder) / "rows").glob("[!.]*"))


def kept_by_brute_force(fates, keep):
    """The rule, said once more: of the broken of a label, in the order of the data set, the first N."""
    broken = [index for index, fate in enumerate(fates) if fate == "broken"]
    if keep in ("all", "none"):
        return {index for index, fate in enumerate(fates) if fate != "error"} if keep == "all" else set()
    if keep == "broken":
        return set(broken)
    return {i for i in broken if sum(j % 3 == i % 3 for j in broken if j < i) < keep}


@FOLDERS
@given(st.data())
def test_a_run_does_not_depend_on_how_it_was_computed(data):
    fates = data.draw(st.lists(st.sampled_from(FATES), max_size=25), "fates")
    keep = data.draw(st.sampled_from(["all", "broken", "none", 1, 2, 3]), "keep")
    order = data.draw(st.permutations(range(len(fates))), "order")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(fates)), max_size=4), "sessions end at"))
    with tempfile.TemporaryDirectory() as folder:
        for start, end in zip([0, *cuts], [*cuts, len(fates)], strict=True):
            how = {"shard_rows": data.draw(st.integers(1, 6), "rows per shard")}
            with writing(folder, SPEC, {"start": start}, keep, **how) as run:
                assert run.done == {row(i)["id"] for i in order[:start] if fates[i] != "error"}
                for index in order[start:end]:
                    run.add(record(index, fates[index]), None if fates[index] == "error" else point(index))
                    if data.draw(st.booleans(), "flush"):
                        run.flush()
                if end == len(fates):
                    summary = run.finish()
        rows, points, _ = content(folder)
        kept = kept_by_brute_force(fates, keep)
        blank = dict.fromkeys(column.name for column in COLUMNS)
        whole = [{**blank, "kind": "attack", **row(i, fate), "kept": i in kept} for i, fate in enumerate(fates)]
        assert rows == [{**each, "key": key_of("attack", each["norm"], each["eps"], each["id"])} for each in whole]
        assert points == {row(i)["id"]: point(i).tolist() for i in kept}
        assert check_run(folder) == []
        assert sum(pq.read_metadata(file).num_rows for file in shard_files(folder)) == len(fates)
        assert len(open_run(folder).provenance) == len(cuts) + 1
    counts = Counter(fates)
    judged = len(fates) - counts["error"]
    assert (summary["examples"], summary["errors"], summary["robust"]) == (
        len(fates),
        counts["error"],
        counts["stands"],
    )
    assert summary["clean_correct"] == counts["stands"] + counts["broken"]
    assert summary["attacked_accuracy"] == (counts["stands"] / judged if judged else None)
    wanted = {"PGD": counts["broken"], "clean": counts["clean"]}
    assert summary["broken"] == {name: number for name, number in wanted.items() if number}


UNCHANGED = ("error", "kind", "key", "lower_bound", "tolerance", "radius", "domains", "doubts", "norm")


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_every_value_comes_back_exactly(data):
    """But for the kind, what follows from others, and what an attack does not find."""
    values = {str: texts, int: integers, float: numbers}
    changed = {
        c.name: data.draw(values[c.kind], c.name) for c in COLUMNS if c.kind in values and c.name not in UNCHANGED
    }
    x = np.frombuffer(data.draw(st.binary(min_size=24, max_size=24), "point"), "<f4").reshape(1, 2, 3)
    given_row = {**row(0), **changed, "norm": data.draw(st.sampled_from(NORMS), "norm")}
    with tempfile.TemporaryDirectory() as folder:
        with writing(folder, SPEC, {}, "all") as run:
            run.add(from_row({**dict.fromkeys(NAMES), **given_row, "kept": False}), x)
        (found,) = open_run(folder).rows().to_pylist()
        assert repr({**given_row, "kept": True}) == repr({name: found[name] for name in [*given_row, "kept"]})
        assert open_run(folder).point(found["id"]).tobytes() == x.tobytes()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_whatever_ends_the_block_nothing_is_lost(tmp_path, failure):
    def interrupted():
        with writing(tmp_path, SPEC, {}, "all") as run:
            run.add(record(0), point(0))
            raise failure

    with pytest.raises(failure):
        interrupted()
    found = open_run(tmp_path)
    assert found.rows().num_rows == 1
    assert not found.finished
    assert np.array_equal(found.point(row(0)["id"]), point(0))


def test_a_row_is_written_in_time_without_any_call(tmp_path):
    with writing(tmp_path, SPEC, {}, "all", seconds=0.02) as run:
        run.add(record(0), point(0))
        deadline = time.monotonic() + 30
        while not shard_files(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert open_run(tmp_path).rows().num_rows == 1


def test_points_fill_a_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "SHARD_BYTES", 100)
    filled(tmp_path, ["broken"] * 10)  # 24 bytes each
    assert [pq.read_metadata(file).num_rows for file in shard_files(tmp_path)] == [5, 5]


def test_the_caller_may_go_on_to_use_its_array(tmp_path):
    x = point(0)
    with writing(tmp_path, SPEC, {}, "all") as run:
        run.add(record(0), x)
        x[:] = 0
    assert np.array_equal(open_run(tmp_path).point(row(0)["id"]), point(0))


def test_an_array_of_any_layout_is_kept(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    with writing(tmp_path, SPEC, {}, "all") as run:
        run.add(record(0), x.transpose(2, 1, 0)[:, ::-1])
    assert np.array_equal(open_run(tmp_path).point(row(0)["id"]), x.transpose(2, 1, 0)[:, ::-1])


WRONG = {
    "unknown": ({"colour": 1}, "column 'colour'; expected some of: id, kind, index"),
    "null": ({"margin": None}, "'margin' of a row is null; expected a number, not NaN"),
    "nan": ({"margin": float("nan")}, "'margin' of a row is nan"),
    "type": ({"steps": 1.5}, "'steps' of a row is 1.5; expected a 64-bit integer"),
    "bool": ({"steps": True}, "'steps' of a row is True"),
    "large": ({"label": 2**63}, "'label' of a row is 9223372036854775808"),
    "text": ({"id": "a\udcff.png"}, "'id' of a row is .*; expected text in UTF-8"),
    "half": ({"error": "torn"}, "of a row with an error is .*; expected null"),
    "votes": ({"radius": 0.5}, "'radius' of a row of this kind is 0.5; expected null"),
    "norm": ({"norm": "l7"}, "the norm of a row is 'l7'; expected linf, l2, l1"),
    "kind": ({"kind": "guess"}, "the kind of a row is 'guess'; expected attack or certificate"),
    "label": ({"label": None}, "'label' of a row is null"),
    "claim": ({"attack": None}, "success True and attack None; expected the attack that broke it"),
}
REFUSED = {
    **{case: WRONG[case] for case in ("nan", "large", "text", "claim")},
    "twice": ({"id": "before"}, "the record 'attack linf .* before' has a row already"),
    "reserved": ({"id": "__metadata__"}, "which safetensors reserve"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_one_line(case):
    changed, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        checked({**row(1), **changed})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_record_is_one_line_and_leaves_the_run_as_it_was(tmp_path, case):
    changed, message = REFUSED[case]
    with writing(tmp_path, SPEC, {}, "all") as run:
        run.add(record(0, id="before"), point(0))
        with pytest.raises(InputError, match=message) as caught:
            run.add(record(1, **changed), point(1))
        run.add(record(2), point(2))
    assert "\n" not in str(caught.value)
    assert open_run(tmp_path).rows()["index"].to_pylist() == [0, 2]


def test_each_record_comes_back_as_it_was(tmp_path):
    shared = {name: row(0)[name] for name in ("index", "digest", "label", "norm", "eps", "method")}
    clean = {"clean_label": 0, "clean_correct": True}
    written = [
        record(1, doubts="zero gradient, sample broken"),
        Certified(id="b", name="crown", clean_margin=1.0, lower_bound=-math.inf, tolerance=1e-7, **shared, **clean),
        Voted(id="c", name="smoothing", radius=0.25, seconds=0.5, **shared, **clean),
        record(3, "error"),
    ]
    with writing(tmp_path, SPEC, {}, "none") as run:
        for each in written:
            run.add(each, None)
    assert sorted(open_run(tmp_path).records(), key=lambda each: each.key) == sorted(written, key=lambda each: each.key)


def test_every_field_of_a_record_is_a_column_of_its_type():
    kinds = {column.name: column for column in COLUMNS}
    for made in RECORDS:
        for name, kind in get_type_hints(made).items():
            if name != "kind":
                assert name == "doubts" or kind in (kinds[name].kind, kinds[name].kind | None), (made, name)


@pytest.mark.parametrize("x", [None, point(0).astype(np.float64), point(0)[0]])
@pytest.mark.parametrize("keep", ["all", 1])
def test_a_wrong_point_is_one_line(tmp_path, x, keep):
    with writing(tmp_path, SPEC, {}, keep) as run:
        with pytest.raises(InputError, match="expected"):
            run.add(record(0), x)
        run.add(record(3), point(3))
        run.finish()
    assert open_run(tmp_path).rows()["kept"].to_pylist() == [True]


def test_numbers_of_numpy_are_numbers():
    found = checked(row(0, steps=np.int32(7), margin=np.float32(0.5), eps=1, success=np.bool_(True)))
    assert (found["steps"], found["margin"], found["eps"], found["success"]) == (7, 0.5, 1.0, True)
    assert {type(found[name]) for name in ("steps", "margin", "eps", "success")} == {int, float, bool}


def test_an_error_is_tried_again_and_then_replaced(tmp_path):
    filled(tmp_path, ["broken", "error", "error"])
    with writing(tmp_path, SPEC, {}, "all") as run:
        assert run.done == {row(0)["id"]}
        run.add(record(1, "broken"), point(1))
        run.add(record(2, "error", error="another"), None)
        run.finish()
    found = open_run(tmp_path).rows()
    assert found["error"].to_pylist() == [None, None, "another"]
    assert sum(pq.read_metadata(file).num_rows for file in shard_files(tmp_path)) == 3
    assert check_run(tmp_path) == []


@pytest.mark.parametrize("harm", ["gone", "short", "empty"])
def test_points_that_were_lost_are_computed_again(tmp_path, harm):
    filled(tmp_path, ["broken"] * 4, shard_rows=2)
    whole = content(tmp_path)
    first = min((tmp_path / "adversarial").iterdir())
    if harm == "gone":
        first.unlink()
    else:
        first.write_bytes(first.read_bytes()[:-3] if harm == "short" else b"")
    with writing(tmp_path, SPEC, {}, "all") as run:
        (line,) = run.lost
        assert first.name in line
        assert run.done == {row(index)["id"] for index in (2, 3)}
        assert not open_run(tmp_path).finished
        for index in (0, 1):
            run.add(record(index), point(index))
        run.finish()
    assert content(tmp_path) == whole
    with writing(tmp_path, SPEC, {}, "all") as run:
        assert run.lost == ()


def test_nothing_is_written_without_the_lock(tmp_path):
    with writing(tmp_path, SPEC, {}, "all") as run:
        pass
    for act in (lambda: run.add(record(0), point(0)), run.flush, run.finish):
        with pytest.raises(RunError, match="is closed; write to it inside of its"):
            act()


def test_a_run_that_goes_on_is_not_finished(tmp_path):
    filled(tmp_path, ["broken"])
    assert open_run(tmp_path).finished
    with writing(tmp_path, SPEC, {}, "all") as run:
        run.add(record(1), point(1))
    assert not open_run(tmp_path).finished


def test_copied_shards_are_merged_and_contradictions_named(tmp_path):
    filled(tmp_path / "one", ["broken", "stands", "error"])
    before = content(tmp_path / "one")
    for file in [*shard_files(tmp_path / "one"), *(tmp_path / "one" / "adversarial").iterdir()]:
        shutil.copy(file, file.with_stem("copied"))
    assert content(tmp_path / "one")[:2] == before[:2]
    assert filled(tmp_path / "one", []) == open_run(tmp_path / "one").summary()
    assert content(tmp_path / "one") == before
    with writing(tmp_path / "two", SPEC, {}, "all") as run:
        run.add(record(0, margin=-0.25), point(0))
    (other,) = shard_files(tmp_path / "two")
    shutil.copy(other, tmp_path / "one" / "rows")
    with pytest.raises(RunError, match=r"the record .* has two rows: margin is -0\.\d+ in .* and -0\.\d+ in .*; move"):
        open_run(tmp_path / "one")


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    real, room = os.fsync, False

    def fsync(descriptor):
        if not room:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with writing(tmp_path, SPEC, {}, "all", shard_rows=2, seconds=0.01) as run:
        monkeypatch.setattr(os, "fsync", fsync)
        run.add(record(0), point(0))
        time.sleep(0.1)  # the timer fails in silence
        with pytest.raises(RunError, match="No space left on device.*; make room or pass another folder"):
            run.add(record(1), point(1))
        room = True
    assert open_run(tmp_path).rows().num_rows == 2
    assert check_run(tmp_path) == []
    assert not list(tmp_path.rglob("*.part"))
