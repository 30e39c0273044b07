"""`evaluate --distance`: the nearest points first, then what was asked for, from these."""

import json

import pytest

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.results import distances


def asked(out, *more):
    base = ["--model", "fashion-mnist-standard", "--limit", "8", "--certify", "none", "--no-checks", "--suite", "pgd"]
    return main(["evaluate", "--distance", *base, "--out", str(out), *more])


def test_points_of_the_first_run_break_the_second_and_both_can_be_verified(tmp_path, capsys):
    out = tmp_path / "run"
    assert asked(out, "--norm", "linf", "l2", "--eps", "0.05", "0.5", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {of["norm"] for of in told["distances"]} == {"linf", "l2"}
    runs = sp.open_run(out), sp.open_run(tmp_path / "run-distances")
    near = {of.norm: of for of in distances([record for run in runs for record in run.records()])}
    for threat in told["summary"]["threats"]:
        left = near[threat["norm"]].standing(threat["eps"])
        assert left <= round(threat["attacked_accuracy"] * 8)
        assert near[threat["norm"]].standing(0.0) == round(threat["clean_accuracy"] * 8)
    before = sp.open_run(tmp_path / "run-distances").rows()
    assert asked(out, "--norm", "linf", "l2", "--eps", "0.05", "0.5") == 0
    assert "Nearest adversarial points in linf, of 8 images: a quarter within" in capsys.readouterr().out
    assert sp.open_run(tmp_path / "run-distances").rows() == before
    for run in (out, tmp_path / "run-distances"):
        assert main(["verify", str(run), "--standing", "1"]) == 0
        assert main(["report", str(run)]) == 0


def test_where_all_is_misclassified_there_is_nothing_to_look_for(tmp_path, capsys):
    seven = ["--model", "net:small:1x28x28:10", "--norm", "linf"]
    assert asked(tmp_path / "run", *seven, "--limit", "2") == 0
    assert "at 0, misclassified" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--from", "run"], "--from does not go with --distance"),
        (["--near", "0.5"], "--near does not go with --distance"),
        (["--minutes", "1"], "--minutes does not go with --distance"),
        (["--suite", "none"], "expected a --suite that attacks"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, capsys, flags, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "--from" in flags:
        assert asked(tmp_path / "run") == 0
    assert asked(tmp_path / "other", *flags) == 2
    assert said in capsys.readouterr().err
