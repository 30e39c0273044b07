"""The pages are run: words must come out as they are written, numbers may differ as machines do."""

import doctest
import re
from pathlib import Path

import pytest

import saddlepoint as sp
from saddlepoint.testing import ATTACK_LAWS

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


class Roughly(doctest.OutputChecker):
    """Thirty steps of a chaotic map magnify the last bit of a processor: decimals may differ by half, words may not."""

    def check_output(self, want, got, flags):
        wanted, found = [[float(n) for n in NUMBER.findall(text)] for text in (want, got)]
        alike = len(wanted) == len(found) and all(
            abs(a - b) <= 0.5 * abs(a) + 0.1 for a, b in zip(wanted, found, strict=True)
        )
        return alike and NUMBER.sub("#", want) == NUMBER.sub("#", got)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["lesson.md", "chapter-2.md", "chapter-3.md", "chapter-4.md", "own.md", "choosing.md"])
def test_page(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    report = []
    doctest.DocTestRunner(checker=Roughly(), verbose=False).run(test, out=report.append)
    assert test.examples
    assert not report, "".join(report)


@pytest.mark.parametrize("law", ATTACK_LAWS.values(), ids=ATTACK_LAWS)
def test_the_attack_of_ones_own_keeps_the_laws(law):
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    block = re.search(r"## Your own.*?```python\n(.*?)```", text, re.DOTALL)
    own = {"__name__": "corners"}
    exec(block.group(1), own)  # noqa: S102 - the page's own code
    law(own["RandomCorners"](), sp.Linf(0.1))
