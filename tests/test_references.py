"""Every line of the tables in docs/references.md is what a wrong reference says."""

import re
from pathlib import Path

import pytest

from saddlepoint.cli.main import main

PAGE = (Path(__file__).parent.parent / "docs" / "references.md").read_text()


def cases():
    for flag, heading in (("--model", "Models"), ("--data", "Data")):
        section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if len(cells) == 4 and (wrong := re.fullmatch("`(.*)`", cells[2])):
                yield pytest.param(flag, wrong[1], cells[3], id=wrong[1])


@pytest.mark.parametrize(("flag", "wrong", "said"), [*cases()])
def test_a_wrong_reference_says_what_the_page_says(flag, wrong, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["attack", flag, wrong]) == 2
    assert capsys.readouterr().err == f"saddlepoint: {said}\n"


def test_the_tables_were_found():
    assert len(list(cases())) >= 8
