"""A run folder is somebody's claim: whatever is edited, with digests and summary made to match, `verify` says so."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation import session
from saddlepoint.evaluation.earlier_run import PROBE
from saddlepoint.evaluation.records import method_line
from saddlepoint.evaluation.verification import Audit
from saddlepoint.results import RunError, summarise, verified
from saddlepoint.results.folder.canonical import digest
from saddlepoint.results.folder.documents import write_document
from saddlepoint.results.folder.merged import load
from saddlepoint.results.folder.reader import SPEC, SUMMARY, mark_verified, read_spec
from saddlepoint.results.folder.shards import names, points_path, rows_path
from saddlepoint.results.records.record import key_of
from saddlepoint.results.records.schema import SCHEMA

SUITE = (sp.PGD(steps=5), sp.Square(queries=10))
BALLS = [sp.Linf(0.02), sp.Linf(0.1)]


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    return sp.Classifier(nn.Sequential(*layers), name="tiny")


@pytest.fixture(scope="module")
def data(classifier):
    images = np.random.default_rng(0).random((40, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    labels[::7] = (labels[::7] + 1) % 4
    return of_arrays("made", "made", images, labels)


@pytest.fixture(scope="module")
def honest(classifier, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "LOSS", 1e6)  # seconds: one shard, also on a slow machine
        sp.evaluate(classifier, data, BALLS, suite=SUITE, out=folder, batch_size=8, checks=False)
    return folder


@pytest.fixture
def folder(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "run")


def forge(folder, rows=lambda rows: rows, spec=lambda spec: None):
    """Edit records and specification, and make everything match that follows from them."""
    name = names(folder)[0]
    table = pq.read_table(rows_path(folder, name))
    kept = [{**row, "key": key_of(row["kind"], row["norm"], row["eps"], row["id"])} for row in rows(table.to_pylist())]
    pq.write_table(type(table).from_pylist(kept, schema=SCHEMA), rows_path(folder, name))
    plain = read_spec(folder)
    spec(plain)
    write_document(folder / SPEC, {"spec": plain, "digest": digest(plain)})
    write_document(folder / SUMMARY, summarise(load(folder)))


def told(folder, classifier, data, **how):
    """What an audit of everything says does not hold, and which examples lack records."""
    audit = Audit(sp.open_run(folder), classifier, data, certificates=1.0, standing=1.0, **how)
    return [each.why for each in audit.checks() if each.why is not None], audit.missing()


def each(change):
    def rows(given):
        for row in given:
            change(row)
        return given

    return rows


def proven(row):
    return row["kind"] == "certificate" and row["lower_bound"] > 0


def stands(row):
    return row["kind"] == "attack" and row["success"] is False


def _right(row):
    if row["attack"] == "clean":
        row.update(clean_correct=True, clean_label=row["label"], clean_margin=1.0, success=False, attack=None)
        row.update(margin=0.5, accuracy=1.0, adversarial_label=row["label"])


def _of_class(row, label):
    row.update(label=label, clean_label=label, adversarial_label=label)


def _one_for_all(given):
    easy = next(row for row in given if proven(row))
    return [{**easy, "id": f"made/{n:05}", "eps": eps} for n in range(40) for eps in (0.02, 0.1)]


def _decided(row):
    if row["kind"] == "certificate" and not row["lower_bound"] > 0 and row["clean_correct"]:
        row.update(lower_bound=0.3, tolerance=1e-6)


def _error(row):
    if row["kind"] == "attack" and row["success"]:
        empty = {
            name: None
            for name in row
            if name not in ("id", "kind", "index", "name", "method", "norm", "eps", "kept", "key")
        }
        row.update(empty, error="it could not be read", kept=False)


FORGERIES = {
    "misclassified made right": {"rows": each(_right)},
    "labels changed": {"rows": each(lambda row: _of_class(row, (row["label"] + 1) % 4) if stands(row) else None)},
    "labels of all changed": {"rows": each(lambda row: row.update(label=(row["label"] + 1) % 4))},
    "one example under all ids": {"rows": _one_for_all},
    "undecided made certified": {"rows": each(_decided)},
    "bounds raised": {
        "rows": each(lambda r: r.update(lower_bound=100 * r["lower_bound"], tolerance=1e9) if proven(r) else None)
    },
    "tolerance of no number": {"rows": each(lambda r: r.update(tolerance=float("inf")) if proven(r) else None)},
    "another method": {"rows": each(lambda r: r.update(method="magic (real arithmetic)") if proven(r) else None)},
    "another name": {"rows": each(lambda r: r.update(name="magic") if proven(r) else None)},
    "a dearer method": {
        "rows": each(lambda r: r.update(name="milp", method="milp (real arithmetic)") if proven(r) else None)
    },
    "another suite": {"rows": each(lambda row: row.update(method="AutoAttack") if row["kind"] == "attack" else None)},
    "probes that nobody asked for": {
        "rows": each(
            lambda row: row.update(name="probe", method=method_line((PROBE,))) if row["kind"] == "attack" else None
        )
    },
    "all marked clean": {"rows": each(lambda row: row.update(attack="clean") if row["success"] else None)},
    "broken made standing": {
        "rows": each(
            lambda row: (
                row.update(success=False, attack=None, margin=0.4, accuracy=1.0, adversarial_label=row["label"])
                if row["kind"] == "attack" and row["success"] and row["clean_correct"]
                else None
            )
        )
    },
    "margins of a search invented": {"rows": each(lambda row: row.update(margin=9.0) if stands(row) else None)},
    "hard ones made errors": {"rows": each(_error)},
    "a larger radius": {
        "rows": each(lambda row: row.update(eps=0.3) if row["eps"] == 0.1 else None),
        "spec": lambda spec: spec["threats"][1].update(eps=0.3),
    },
    "another radius in the rows": {"rows": each(lambda row: row.update(eps=0.3) if row["eps"] == 0.1 else None)},
    "fewer examples": {
        "rows": lambda rows: [row for row in rows if row["index"] < 30],
        "spec": lambda spec: spec["data"].update(examples=30),
    },
    "clean margins invented": {"rows": each(lambda row: row.update(clean_margin=50.0) if stands(row) else None)},
    "clean labels invented": {"rows": each(lambda row: row.update(clean_label=3 - row["clean_label"]))},
    "accuracy of broken ones": {"rows": each(lambda row: row.update(accuracy=1.0) if row["success"] else None)},
    "margins of points invented": {
        "rows": each(lambda row: row.update(margin=-50.0) if row["success"] and row["attack"] != "clean" else None)
    },
    "digests of others": {"rows": each(lambda row: row.update(digest="0" * 64))},
    "places out of range": {"rows": each(lambda row: row.update(index=row["index"] + 100))},
}


def test_an_honest_run_holds_and_its_searches_repeat_to_the_last_bit(folder, classifier, data):
    audit = Audit(sp.open_run(folder), classifier, data, certificates=1.0, standing=1.0)
    looked = list(audit.checks())
    assert [each.why for each in looked if each.why is not None] == []
    assert audit.missing() == []
    searches = [each for each in looked if each.subject == "search" and each.key.startswith("attack")]
    assert searches
    assert all(each.exact for each in searches)
    assert {each.subject for each in looked} == {"record", "prediction", "point", "certificate", "search"}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_seen(name, folder, classifier, data):
    forge(folder, **FORGERIES[name])
    failed, _ = told(folder, classifier, data)
    assert failed, name


def test_rows_that_were_deleted_are_missing(folder, classifier, data):
    forge(folder, rows=lambda rows: [row for row in rows if row["clean_correct"] and not row["success"]])
    (folder / SUMMARY).unlink()
    _, missing = told(folder, classifier, data)
    assert len(missing) > 6


def test_a_run_without_a_record_is_not_finished(folder, classifier, data):
    for name in names(folder):
        rows_path(folder, name).unlink()
        points_path(folder, name).unlink(missing_ok=True)
    failed, missing = told(folder, classifier, data)
    assert (failed, len(missing)) == ([], 40)


def test_images_of_nothing_are_no_points(folder, classifier, data):
    from safetensors.numpy import load_file

    from saddlepoint.results.folder.points import encode

    (path,) = (folder / "adversarial").iterdir()
    points = {key: np.zeros_like(x) for key, x in load_file(path).items() if not key.startswith("clean ")}
    path.write_bytes(encode(points, {}))
    failed, _ = told(folder, classifier, data)
    assert any("beyond eps" in why for why in failed)


@pytest.mark.parametrize(
    "edit",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"threats": []},
        {"seed": None},
        {"data": 3},
        {"smoothing": {}},
        {"smoothing": {"sigma": 1, "x": 2}},
    ],
)
def test_a_specification_of_another_form_is_one_line(folder, edit):
    forge(folder, spec=lambda spec: spec.update(edit))
    with pytest.raises(RunError, match="was edited, or is of another version"):
        sp.open_run(folder)


def test_the_auditor_draws_the_sample(folder, classifier, data):
    """A forger who knows the seed of the run does not know that of the audit."""
    keys = [
        [each.key for each in Audit(sp.open_run(folder), classifier, data, seed=seed).checks() if each.subject == kind]
        for seed in (1, 2, 1)
        for kind in ("certificate",)
    ]
    assert keys[0] == keys[2]
    assert keys[0] != keys[1]


def test_what_held_is_noted_until_a_record_changes(folder):
    run = sp.open_run(folder)
    assert verified(run) is None
    mark_verified(run, "1.0", certificates=1.0, standing=1.0, seed=3)
    assert verified(sp.open_run(folder))["seed"] == 3
    forge(folder, rows=each(_decided))
    assert verified(sp.open_run(folder)) is None


def test_alpha_is_that_of_the_specification(classifier, data, tmp_path):
    smoothed = sp.SmoothedClassifier(classifier=classifier, sigma=0.25, samples=60, selection=10, batch_size=64)
    sp.evaluate(smoothed, data, sp.L2(0.05), suite=(), out=tmp_path, limit=6)
    forge(tmp_path, spec=lambda spec: spec["smoothing"].update(alpha=0.999999))
    failed, _ = told(tmp_path, classifier, data.select(limit=6, seed=0))
    assert any("asks for no certificate" in why for why in failed)


def test_a_run_that_was_made_with_weights_says_so_to_who_verifies_it_without(classifier, data, tmp_path):
    own = sp.Classifier(classifier.module, name="tiny")
    own.weights = "mine.safetensors"
    sp.evaluate(own, data, BALLS, suite=SUITE, certify="none", out=tmp_path, limit=4, checks=False)
    other = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(sp.InputError, match=r"the run was made with --weights mine\.safetensors"):
        Audit(sp.open_run(tmp_path), other, data.select(limit=4, seed=0))


CODE = "import pathlib\npathlib.Path({mark!r}).write_text('ran')\n\ndef make():\n    raise SystemExit(0)\n"


@pytest.mark.parametrize("reference", ["{folder}/evil.py:make", "os:abort", "evil:make", "antigravity:fly"])
def test_code_that_a_folder_names_is_not_run(reference, folder, tmp_path, capsys, monkeypatch):
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.chdir(tmp_path)
    named = reference.format(folder=tmp_path)
    forge(folder, spec=lambda spec: spec["model"].update(reference=named))
    for command in ("verify", "report", "compare"):
        more = [str(folder)] if command == "compare" else []
        assert main([command, str(folder), *more]) in (0, 2)
        assert not mark.exists()
    assert main(["verify", str(folder)]) == 2
    assert f"names code, {named!r}, which is not run because a file says so" in capsys.readouterr().err


def test_code_that_a_recipe_names_is_not_run(tmp_path, capsys):
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(CODE.format(mark=str(mark)))
    recipe = tmp_path / "evil.toml"
    recipe.write_text(f'arch = "{tmp_path / "evil.py"}:make"\nepochs = 1\n')
    assert main(["train", "--data", "digits", "--recipe", str(recipe), "--out", str(tmp_path / "model")]) == 2
    assert "which is not run because a file says so" in capsys.readouterr().err
    assert not mark.exists()


def test_a_text_of_a_file_does_not_write_over_the_verdict(folder, capsys):
    """Erase the line, go to its start, and say that all holds: as an id."""
    forge(folder, rows=each(lambda row: row.update(id=row["id"] + "\x1b[2K\r0 do not hold\u202e")))
    assert main(["report", str(folder), "--json"]) == 0
    assert main(["compare", str(folder), str(folder)]) in (0, 1, 2)
    assert main(["verify", str(folder), "--model", "fashion-mnist-pgd", "--data", "digits"]) == 2
    out, err = capsys.readouterr()
    assert not set("\x1b\r\u202e") & set(out + err)


def test_rows_that_unfold_to_a_bomb_are_refused(folder):
    name = names(folder)[0]
    table = pq.read_table(rows_path(folder, name))
    pq.write_table(table.take([0] * 300_000), rows_path(folder, name))
    with pytest.raises(RunError, match="300000 rows in .* bytes, which no run has"):
        sp.open_run(folder)


def test_the_command_counts_what_it_checked_and_says_what_it_cannot_know(tmp_path, capsys):
    run = str(tmp_path / "run")
    model = ["--model", "fashion-mnist-ibp", "--limit", "8", "--eps", "0.05", "--no-checks"]
    assert main(["evaluate", *model, "--out", run]) == 0
    capsys.readouterr()
    assert main(["verify", run, "--certificates", "1", "--standing", "1", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert "8 examples" in out
    assert "--seed 7" in out
    assert "not checked: that the searches that were not repeated found nothing" in out
    assert main(["verify", run, "--json", "--statement", str(tmp_path / "svr.json")]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == 0
    stated = json.loads((tmp_path / "svr.json").read_text())
    assert stated["predicateType"] == "https://in-toto.io/attestation/svr/v0.1"
    assert "SADDLEPOINT_CERTIFICATES_RECHECKED_5PCT" in stated["predicate"]["properties"]
    for subject in stated["subject"][:-1]:
        content = (tmp_path / "run" / subject["name"]).read_bytes()
        assert subject["digest"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert main(["report", run]) == 0
    assert "verified on 20" in (tmp_path / "run" / "report.html").read_text()
    rows = tmp_path / "run" / "rows"
    for path in rows.iterdir():
        path.unlink()
    (tmp_path / "run" / SUMMARY).unlink()
    assert main(["verify", run, "--statement", str(tmp_path / "none.json")]) == 3
    assert not (tmp_path / "none.json").exists()
    assert "not finished: 8 of 8 examples lack records" in capsys.readouterr().out
