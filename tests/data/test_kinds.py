"""Every kind of data set is told wherever kinds are listed."""

import re
from pathlib import Path

from saddlepoint.cli.main import main
from saddlepoint.data.datasets.references import KINDS
from saddlepoint.training.examples import training_reference


def test_kinds_of_data_are_told_everywhere(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # help is not broken at hyphens
    assert main(["attack", "--help"]) == 0
    told = set(re.split(r"[\s,]+", capsys.readouterr().out))
    page = (Path(__file__).parents[2] / "docs/references.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert kind.form.partition("[")[0] in told, name
        assert f"`{kind.form.partition('[')[0]}" in page, name


def test_training_reads_the_training_images_of_what_is_split():
    for name, kind in KINDS.items():
        reference = f"{name}:DIR" if ":" in kind.form else name
        assert training_reference(reference) == f"{reference}{':train' if kind.split else ''}"
    assert training_reference("mnist:DIR:test") == "mnist:DIR:test"
