"""A whole folder, audited: true ones are verified, and whatever is changed in them is found."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saddlepoint.cli.main import main
from saddlepoint.results import digest
from saddlepoint_audit.__main__ import main as audit
from saddlepoint_audit.manifest import digests
from saddlepoint_audit.runs import inside

SHIPPED = Path(__file__).parents[2] / "src/saddlepoint/models/shipped"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run with every verdict: misclassified, broken, certified and undecided examples."""
    out = tmp_path_factory.mktemp("audit") / "run"
    flags = ["--limit", "12", "--eps", "0.1", "--certify", "crown", "--evidence", "--no-checks", "--budget", "40"]
    assert main(["evaluate", *flags, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def claims_of(run: Path) -> dict:
    return json.loads((run / "evidence/claims.json").read_bytes())


def test_a_true_folder_is_verified(whole, capsys):
    weights = SHIPPED / "fashion-mnist-pgd/model.safetensors"
    assert audit([str(whole), "--weights", str(weights)]) == 0
    told = capsys.readouterr().out
    verdicts = claims_of(whole)["threats"][0]["verdicts"]
    assert {"broken", "certified"} <= set(verdicts)
    assert f"{verdicts.count('certified')} certified of every float32 execution, 0 of real arithmetic only" in told
    assert "bit by bit" in told
    assert "foreign" not in told


def test_weights_of_another_model_are_found(whole, capsys):
    assert audit([str(whole), "--weights", str(SHIPPED / "fashion-mnist-ibp/model.safetensors")]) == 1
    assert "is none of model.safetensors" in capsys.readouterr().out


def change(run: Path, name: str, edit) -> None:
    file = run / "evidence" / name
    arrays = load_file(file)
    save_file(edit(dict(arrays)), file)


def claim(run: Path, edit) -> None:
    told = claims_of(run)
    edit(told, told["threats"][0])
    (run / "evidence/claims.json").write_text(json.dumps(told))


def first(verdicts: list, verdict: str) -> int:
    return verdicts.index(verdict)


def proof_of(run: Path, place: int = 0) -> Path:
    names = [name for name in claims_of(run)["threats"][0]["proofs"] if name]
    return run / "evidence" / names[place]


FORGED = {
    "broken as certified": lambda run: claim(
        run,
        lambda told, t: (
            t["proofs"].__setitem__(first(t["verdicts"], "broken"), proof_of(run).name),
            t["verdicts"].__setitem__(first(t["verdicts"], "broken"), "certified"),
        ),
    ),
    "certified as broken, with another's point": lambda run: claim(
        run,
        lambda told, t: (
            told["ids"].__setitem__(first(t["verdicts"], "certified"), told["ids"][first(t["verdicts"], "broken")]),
            told["ids"].__setitem__(first(t["verdicts"], "broken"), "x"),
            t["verdicts"].__setitem__(first(t["verdicts"], "broken"), "undecided"),
            t["verdicts"].__setitem__(first(t["verdicts"], "certified"), "broken"),
        ),
    ),
    "a larger ball": lambda run: claim(run, lambda told, t: t.update(eps=0.2)),
    "other labels": lambda run: claim(run, lambda told, t: told.update(labels=[9 - y for y in told["labels"]])),
    "other images": lambda run: change(run, "images.safetensors", lambda a: {"images": a["images"][::-1].copy()}),
    "other weights": lambda run: change(
        run, "network.safetensors", lambda a: {n: v * np.float32(-1) if "weight" in n else v for n, v in a.items()}
    ),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_false_claim_is_named(run, capsys, forged):
    FORGED[forged](run)
    assert audit([str(resigned(run))]) == 1
    told = capsys.readouterr().out
    assert "does not hold" in told
    assert "NOT verified" in told


def resigned(run: Path) -> Path:
    """Make all documents agree with what was changed: the claims themselves have to be found false."""
    told = claims_of(run)
    spec, summary = (json.loads((run / name).read_bytes()) for name in ("spec.json", "summary.json"))
    spec["spec"]["data"]["ids"] = digest(told["ids"])
    for asked, counted, threat in zip(spec["spec"]["threats"], summary["threats"], told["threats"], strict=True):
        asked["eps"] = counted["eps"] = threat["eps"]
        counted["counts"] = dict(Counter(threat["verdicts"]))
    for name, document in (("spec.json", spec), ("summary.json", summary)):
        (run / name).write_text(json.dumps(document))
    (run / "evidence/manifest.json").write_text(json.dumps({"files": digests(run)}))
    return run


@pytest.mark.parametrize("name", ["spec.json", "rows/more.parquet", "evidence/claims.json"])
def test_a_file_that_the_manifest_does_not_tell_of_is_named(run, capsys, name):
    before = (run / name).read_bytes() if (run / name).exists() else b""
    (run / name).write_bytes(before + b" ")
    assert audit([str(run)]) == 1
    assert f"does not hold: {name} is" in capsys.readouterr().out


def test_a_file_that_is_gone_is_named(run, capsys):
    table = next((run / "rows").iterdir())
    table.unlink()
    assert audit([str(run)]) == 1
    assert f"does not hold: rows/{table.name} is gone" in capsys.readouterr().out


TORN = {
    "a byte more": lambda run: proof_of(run).write_bytes(proof_of(run).read_bytes() + b"\0"),
    "a proof less": lambda run: proof_of(run).unlink(),
    "no hints": lambda run: proof_of(run).write_bytes(b"{}"),
}


@pytest.mark.parametrize("torn", TORN)
def test_a_torn_proof_is_named(run, capsys, torn):
    TORN[torn](run)
    assert audit([str(resigned(run))]) == 1
    assert "does not hold: certified" in capsys.readouterr().out


UNREADABLE = {
    "an example less": lambda run: claim(run, lambda told, t: told["ids"].pop()),
    "an example twice": lambda run: claim(run, lambda told, t: told["ids"].__setitem__(0, told["ids"][1])),
    "a verdict less": lambda run: claim(run, lambda told, t: t["verdicts"].pop()),
    "a verdict that there is not": lambda run: claim(run, lambda told, t: t["verdicts"].__setitem__(0, "robust")),
    "a proof elsewhere": lambda run: claim(run, lambda told, t: t["proofs"].__setitem__(0, "../../x")),
    "other ids": lambda run: claim(run, lambda told, t: told["ids"].__setitem__(0, "another")),
    "another radius": lambda run: claim(run, lambda told, t: t.update(eps=0.01)),
    "another box": lambda run: claim(run, lambda told, t: told.update(box=[0.0, 0.5])),
    "a threat less": lambda run: claim(run, lambda told, t: told.update(threats=[])),
    "a verdict that is not counted": lambda run: claim(run, lambda told, t: t["verdicts"].__setitem__(0, "error")),
    "no network": lambda run: (run / "evidence/network.json").unlink(),
    "no JSON": lambda run: (run / "evidence/claims.json").write_text("NaN"),
    "a key twice": lambda run: (run / "evidence/claims.json").write_text('{"format": 1, "format": 2}'),
    "no claims": lambda run: (run / "evidence/claims.json").write_text("[]"),
    "a box of one number": lambda run: claim(run, lambda told, t: told.update(box=[1])),
    "a radius beyond all": lambda run: claim(run, lambda told, t: t.update(eps=10**400)),
    "images of another name": lambda run: change(run, "images.safetensors", lambda a: {"image": a["images"]}),
    "one image": lambda run: change(run, "images.safetensors", lambda a: {"images": np.array(3.0)}),
    "no manifest": lambda run: (run / "evidence/manifest.json").unlink(),
    "a manifest of nothing": lambda run: (run / "evidence/manifest.json").write_text("[]"),
    "no images": lambda run: (run / "evidence/images.safetensors").write_bytes(b"\xff" * 40),
}


def test_a_folder_without_evidence_is_one_line(tmp_path, capsys):
    assert audit([str(tmp_path / "none")]) == 2
    assert (
        "has no manifest.json; expected a finished run of saddlepoint evaluate or certify --evidence"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("unreadable", UNREADABLE)
def test_a_folder_that_cannot_be_read_is_one_line(run, capsys, unreadable):
    UNREADABLE[unreadable](run)
    assert audit([str(run)]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("saddlepoint_audit: ")
    assert told.err.count("\n") == 1


def test_it_runs_without_what_it_checks(whole):
    """Neither torch nor the package itself nor any library but NumPy is imported."""
    blocked = (
        "import sys\n"
        "for name in ('torch', 'saddlepoint', 'safetensors', 'scipy', 'pyarrow', 'onnx'): sys.modules[name] = None\n"
        "from saddlepoint_audit.__main__ import main\n"
        f"sys.exit(main([{str(whole)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_ball_ends_where_it_ends(norm):
    x, point = np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    point[0, 0, 0] = np.float32(0.1)  # a little more than 0.1
    assert inside(x, point, float(np.float32(0.1)), norm)
    assert not inside(x, point, 0.1, norm)
    assert not inside(x, point, np.nextafter(float(np.float32(0.1)), 0), norm)
