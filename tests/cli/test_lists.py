"""`saddlepoint models` and `saddlepoint attacks`: what they list can be named."""

import json

import pytest

from saddlepoint.cli.main import main
from saddlepoint.models import KINDS


def listed(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return next(iter(json.loads(capsys.readouterr().out).values()))


def test_every_kind_of_model_is_listed(capsys):
    rows = listed(capsys, "models")
    assert {row["reference"].partition(":")[0] for row in rows} >= set(KINDS) - {
        "shipped"
    }  # their names are references without a kind
    assert any(row["reference"] == KINDS["shipped"].form for row in rows)
    assert all(row["what"] and row["licence"] for row in rows)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].names() and kind != "shipped"])
def test_names_of_a_kind_are_references(capsys, kind):
    rows = listed(capsys, "models", kind)
    assert [row["reference"] for row in rows] == list(KINDS[kind].names())
    assert all(row["reference"].partition(":")[0] == kind for row in rows)
    assert all(row["crop"] > 0 for row in rows)


def test_the_embedded_model_has_its_size(capsys):
    import saddlepoint as sp

    (row,) = listed(capsys, "models", "efficientnet-lite0")
    assert row["parameters"] == sum(p.numel() for p in sp.load_classifier("efficientnet-lite0").parameters())


def test_every_attack_is_listed_with_its_source(capsys):
    rows = listed(capsys, "attacks")
    names = [
        "pgd",
        "fgsm",
        "mi-fgsm",
        "sgd",
        "sweep",
        "apgd-ce",
        "apgd-dlr",
        "apgd-t",
        "apgd-l1",
        "square",
        "fab",
        "fab-t",
        "fmn",
    ]
    assert [row["attack"] for row in rows] == names
    assert all(set(row["norms"].split()) <= {"linf", "l2", "l1"} and row["source"] for row in rows)
    assert [row["attack"] for row in rows if row["sees"] != "gradients"] == ["square"]


def test_what_is_listed_can_be_chosen(capsys):
    from saddlepoint.attacks.registry import ATTACKS, SUITES

    assert main(["attacks", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["attack"] for row in told["attacks"]] == list(ATTACKS)
    assert [row["suite"] for row in told["suites"]] == list(SUITES)
    assert told["suites"][1]["attacks"] == "APGD-CE → APGD-T → FAB-T → Square"


def test_tables_for_people_are_whole_lines(capsys):
    for command in (["models"], ["attacks"], ["models", "torchvision"]):
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > 3
        assert not any("…" in line for line in lines)


@pytest.mark.parametrize("kind", ["onnx", "hf", "nothing"])
def test_a_kind_that_cannot_be_listed_is_one_line(capsys, kind):
    assert main(["models", kind]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expected one of efficientnet-lite0" in error or "cannot be listed" in error
