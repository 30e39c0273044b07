"""The documentation site: everything public has its place, every page is reached, and it builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import saddlepoint

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generated():
    sys.path.insert(0, str(DOCS))
    try:
        import generated
    finally:
        sys.path.remove(str(DOCS))
    return generated


def test_every_public_name_stands_on_one_page(generated):
    entries = re.findall(r":: saddlepoint\.(\w+)\n", "".join(map(generated.api, generated.GROUPS)))
    assert sorted(entries) == sorted(saddlepoint.__all__)


def test_every_command_and_flag_is_told(generated):
    page = generated.commands()
    for name, parser in generated.parsers():
        section = page.partition(f"## saddlepoint {name}\n")[2].partition("\n## ")[0]
        for action in parser._actions:
            assert all(f"`{flag}`" in section for flag in action.option_strings), (name, action.option_strings)


def test_every_page_is_reached_from_the_first(generated):
    def listed(page):
        return re.findall(r"^[\w/-]+$", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE)

    sections = listed("index")
    pages = {path.stem for path in DOCS.glob("*.md")} | {f"reference/{page}" for page in generated.GROUPS}
    reached = [*sections, *(page for section in sections for page in listed(section))]
    assert sorted(reached) == sorted(pages - {"index"} | {"reference/commands"})


def test_every_example_of_the_tutorial_is_in_its_notebook(generated):
    for page in generated.CHAPTERS:
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        made = generated.notebook(text)
        compile(made, page, "exec")
        for line in re.findall(r"^    (?:>>>|\.\.\.) (.*)$", text, re.MULTILINE):
            assert f"\n{line}\n" in made


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "saddlepoint.PGD" in (tmp_path / "reference/attacks.html").read_text(encoding="utf-8")
