"""`saddlepoint certify`: the evaluation with certificates alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import saddlepoint as sp
from saddlepoint.cli.main import main

WHERE = ["--model", "fashion-mnist-pgd", "--limit", "6", "--eps", "0.02"]


@pytest.fixture(scope="module")
def certified_run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("certified") / "run"
    assert main(["certify", *WHERE, "--evidence", "--out", str(out)]) == 0
    return out


def test_certificates_alone_bracket_from_below(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["certify", *WHERE, "--method", "crown", "--out", out, "--json"]) == 0
    (threat,) = json.loads(capsys.readouterr().out)["summary"]["threats"]
    assert not threat["attacked"]
    assert threat["counts"]["certified"] > 0
    assert threat["counts"]["broken"] == 0
    assert threat["attacked_accuracy"] == threat["clean_accuracy"]
    rows = sp.open_run(out).rows().to_pylist()
    assert {row["kind"] for row in rows} == {"certificate"}
    assert len(rows) == 6
    assert main(["certify", *WHERE, "--method", "crown", "--out", out]) == 0
    assert "(clean: no attack ran)" in " ".join(capsys.readouterr().out.split())
    assert sp.open_run(out).rows().to_pylist() == rows
    assert main(["verify", out, "--certificates", "1"]) == 0
    assert main(["report", out]) == 0


def test_both_wings_agree(tmp_path, capsys):
    for command in (["certify", "--method", "crown"], ["evaluate", "--certify", "crown", "--suite", "fgsm"]):
        assert main([*command, *WHERE, "--out", str(tmp_path / command[0])]) == 0
    capsys.readouterr()
    alone, both = (
        {row["id"]: row["lower_bound"] for row in sp.open_run(tmp_path / name).rows().to_pylist() if row["lower_bound"]}
        for name in ("certify", "evaluate")
    )
    shared = alone.keys() & both.keys()
    assert shared
    assert all(alone[identity] == both[identity] for identity in shared)


@pytest.mark.parametrize(
    ("flags", "line"),
    [(["--method", "none"], "--method is none"), (["--method", "magic"], "certify is 'magic'; expected auto, none or")],
)
def test_wrong_methods_are_one_line(flags, line, tmp_path, capsys):
    assert main(["certify", *WHERE, *flags, "--out", str(tmp_path / "run")]) == 2
    assert line in capsys.readouterr().err


def test_nothing_to_do_is_one_line(tmp_path, capsys):
    flags = ["--suite", "none", "--certify", "none", "--out", str(tmp_path / "run")]
    assert main(["evaluate", *WHERE, *flags]) == 2
    assert "neither an attack nor a certificate was asked for" in capsys.readouterr().err


def test_a_run_keeps_what_proves_its_certificates(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--method", "alpha-crown", "--evidence", "--timeout", "60", "--out", str(out)]
    assert main(["certify", *WHERE, "--eps", "0.05", *flags]) == 0
    certified = [row for row in sp.open_run(out).rows().to_pylist() if row["lower_bound"] > 0]
    proofs = set((out / "evidence").glob("*.safetensors"))
    files = sorted(path for path in proofs if path.stem not in ("images", "network"))
    assert len(files) == len(certified) > 1
    assert main(["verify", str(out), "--certificates", "1", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]
    assert counts["evidence"] == {"checked": len(certified), "failed": 0, "exact": len(certified)}
    assert counts["certificate"]["checked"] == 0  # none is without hints
    files[0].write_bytes(b"{}")
    assert main(["verify", str(out)]) == 1
    assert "it proves nothing" in capsys.readouterr().out


def test_hints_that_no_audit_reads_hide_no_certificate(certified_run, tmp_path, capsys):
    out = Path(shutil.copytree(certified_run, tmp_path / "run"))
    (out / "evidence/claims.json").unlink()
    assert main(["verify", str(out), "--certificates", "1", "--standing", "0", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]
    assert counts["evidence"]["checked"] == 0
    assert counts["certificate"]["checked"] > 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("network.json", "other operations"),
        ("network.safetensors", "other numbers"),
        ("images.safetensors", "other images"),
        ("claims.json", "something else than the records"),
    ],
)
def test_evidence_of_something_else_is_found(certified_run, tmp_path, capsys, name, line):
    out = Path(shutil.copytree(certified_run, tmp_path / "run"))
    file = out / "evidence" / name
    if name.endswith("json"):
        told = json.loads(file.read_bytes())
        told = [*told, told[-1]] if isinstance(told, list) else told | {"labels": told["labels"][::-1]}
        file.write_text(json.dumps(told))
    else:
        save_file({key: np.asarray(array + array.dtype.type(1)) for key, array in load_file(file).items()}, file)
    assert main(["verify", str(out), "--standing", "0"]) == 1
    assert line in capsys.readouterr().out


def test_evidence_is_of_certificates(tmp_path, capsys):
    flags = ["--certify", "none", "--evidence", "--out", str(tmp_path / "run")]
    assert main(["evaluate", *WHERE, *flags]) == 2
    assert "evidence is of certificates" in capsys.readouterr().err
