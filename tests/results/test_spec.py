"""What was asked: one form, one digest, and what changed in a line."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.specimens import point, record
from saddlepoint.errors import InputError
from saddlepoint.results import RunError, canonical, difference, digest, open_run, writing
from saddlepoint.results.folder.retention import check_keep

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(scalars | texts, lambda part: st.lists(part) | st.dictionaries(texts, part), max_leaves=12)


def turned(value):
    """The same object, its keys in another order."""
    if isinstance(value, dict):
        return {key: turned(part) for key, part in reversed(value.items())}
    return tuple(map(turned, value)) if isinstance(value, list) else value


@given(values)
def test_the_canonical_form_says_the_value_and_nothing_else(value):
    assert repr(json.loads(canonical(value))) == repr(json.loads(json.dumps(value, sort_keys=True)))
    assert canonical(turned(value)) == canonical(value)
    assert json.loads(canonical(value, indent=2)) == json.loads(canonical(value))


@given(values, values)
def test_values_differ_where_their_digests_do(one, other):
    lines = difference(one, other)
    assert (lines == []) == (digest(one) == digest(other))
    assert all("\n" not in line and len(line) < 1000 for line in lines)


def test_a_key_of_two_lines_is_shown_on_one():
    assert difference({"a\nb": {"c": 1}}, {"a\nb": {"c": 2}}) == [r"'a\nb'.c: 1 → 2"]


def test_a_difference_is_a_line_for_people():
    old = {"batch_size": 64, "model": {"digest": "a", "name": "n"}, "box": [0, 1], "seed": 0}
    new = {"batch_size": 32, "model": {"digest": "b", "name": "n"}, "box": None, "stop": "never"}
    assert difference(old, new) == [
        "batch_size: 64 → 32",
        "box: [0,1] → null",
        'model.digest: "a" → "b"',
        "seed: 0 → nothing",
        'stop: nothing → "never"',
    ]


LOOP: list[object] = []
LOOP.append(LOOP)
REFUSED = {
    "a.b\\[1\\] is nan": {"a": {"b": [0, math.nan]}},
    "a is inf": {"a": math.inf},
    "'a\\\\nb' is nan": {"a\nb": math.nan},
    "a number that cannot be written": {"a": 10**5000},
    "a is <object": {"a": object()},
    "a is {1: 2}": {"a": {1: 2}},
    "surrogate": {"a": "\udcff"},
    "nested too deeply": {"a": LOOP},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_json_cannot_say_is_refused_before_anything_is_made(tmp_path, message):
    with pytest.raises(InputError, match=message), writing(tmp_path / "run", REFUSED[message], {}):
        pass
    with pytest.raises(InputError, match=message), writing(tmp_path / "run", {}, REFUSED[message]):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("keep", ["some", 0, -1, True, 1.5])
def test_a_rule_that_is_none_is_refused(keep):
    with pytest.raises(InputError, match=r"expected 'all', 'broken', 'none', or a number ≥ 1"):
        check_keep(keep)


def test_another_specification_is_refused_with_the_difference(tmp_path):
    with writing(tmp_path, {"batch_size": 64}, {}, "all") as run:
        run.add(record(0), point(0))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    message = r'\(batch_size: 64 → 32; keep: "all" → 3\); go on with its own, or'
    with pytest.raises(RunError, match=message) as caught, writing(tmp_path, {"batch_size": 32}, {}, 3):
        pass
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@given(values)
def test_the_specification_comes_back(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("run")
    with writing(folder, {"asked": value}, {}, "none"):
        pass
    assert canonical(open_run(folder).spec) == canonical({"asked": value, "keep": "none"})
    with writing(folder, {"asked": turned(value)}, {}, "none"):
        pass
