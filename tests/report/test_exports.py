"""Other tools read what is exported: the same numbers, in forms that parse."""

import csv
import hashlib
import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.report.exports import FORMS, export


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "run"
    flags = ["--limit", "24", "--eps", "0.05", "--certify", "crown", "--budget", "40"]
    assert main(["evaluate", *flags, "--out", str(out)]) == 0
    return sp.open_run(out)


def test_rows_are_those_of_the_run(run):
    rows = list(csv.DictReader(io.StringIO(export(run, "csv"))))
    assert [row["key"] for row in rows] == run.rows()["key"].to_pylist()
    assert [row["id"] for row in rows] == run.rows()["id"].to_pylist()


def test_every_check_is_a_test_case(run):
    suite = ElementTree.fromstring(export(run, "junit"))  # noqa: S314 - our own
    assert [case.get("name") for case in suite.iter("testcase")] == [check["name"] for check in run.checks()]
    failed = sum(check["outcome"] == "fail" for check in run.checks())
    assert int(suite.get("failures")) == failed == len(list(suite.iter("failure")))
    (threat,) = run.summary()["threats"]
    (told,) = suite.iter("property")
    assert told.get("value") == bracket(threat)


def bracket(threat: dict) -> str:
    low, high = (f"{100 * threat[name]:.1f} %" for name in ("certified_accuracy", "attacked_accuracy"))
    return f"{low} to {high} (n = {threat['examples']})"


def test_a_badge_says_both_ends(run):
    told = json.loads(export(run, "badge"))
    assert set(told) == {"schemaVersion", "label", "message", "color"}
    assert told["message"] == bracket(run.summary()["threats"][0])


def test_a_statement_is_over_the_files(run, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    told = json.loads(export(run, "in-toto", [weights]))
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["subject"] == [
        {"name": "model.safetensors", "digest": {"sha256": hashlib.sha256(b"weights").hexdigest()}}
    ]
    for entry in told["predicate"]["configuration"][:-1]:
        content = (run.path / entry["name"]).read_bytes()
        assert entry["digest"]["sha256"] == hashlib.sha256(content).hexdigest()
    named = [name for kind in ("passedTests", "warnedTests", "failedTests") for name in told["predicate"][kind]]
    assert sorted(named) == sorted(check["name"] for check in run.checks())
    own = json.loads(export(run, "in-toto"))["subject"][0]
    assert f"sha256:{own['digest']['sha256']}" == run.spec["model"]["digest"]


@pytest.mark.parametrize("form", FORMS)
def test_the_command_writes_each_form(run, tmp_path, capsys, form):
    assert main(["export", str(run.path), "--as", form]) == 0
    told = capsys.readouterr().out
    assert told == export(run, form)
    assert main(["export", str(run.path), "--as", form, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == told


def test_what_cannot_be_exported_is_one_line(run, tmp_path, capsys):
    with pytest.raises(sp.InputError, match="expected one of csv"):
        export(run, "xml")
    assert main(["export", str(run.path), "--as", "in-toto", "--model-file", str(tmp_path / "none")]) == 2
    assert "expected a file of the model" in capsys.readouterr().err
    with pytest.raises(sp.InputError, match="is not finished"):
        export(replace(run, finished=False), "csv")


def test_what_nobody_checked_has_not_passed(run, monkeypatch):
    monkeypatch.setattr(type(run), "checks", lambda self: [])
    assert json.loads(export(run, "in-toto"))["predicate"]["result"] == "WARNED"


def test_a_text_is_no_formula(run, monkeypatch):
    rows = run.rows().to_pylist()
    rows[0]["method"] = "=HYPERLINK(1)"

    class Table:
        column_names = run.rows().column_names

        def to_pylist(self):
            return rows

    monkeypatch.setattr(type(run), "rows", lambda self: Table())
    assert next(csv.DictReader(io.StringIO(export(run, "csv"))))["method"] == "'=HYPERLINK(1)"
