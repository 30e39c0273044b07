"""The report: one page from a run folder alone, whose numbers are those of the summary, and which loads nothing."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.console import told_findings
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.report import report
from saddlepoint.results import percent, writing

CHROMIUM = shutil.which("chromium")
HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example/x>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    names = [HOSTILE, "one", "two", "three"]
    classifier = sp.Classifier(nn.Sequential(*layers), names=names, name=HOSTILE)
    images = np.round(np.random.default_rng(0).random((30, 1, 8, 8), np.float32) * 255).astype(np.float32) / 255
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    labels[::7] = (labels[::7] + 1) % 4
    data = of_arrays(HOSTILE, "made", images, labels)
    out = tmp_path_factory.mktemp("runs") / "run"
    balls = [sp.Linf(0.02), sp.Linf(0.1)]
    return sp.evaluate(classifier, data, balls, suite=(sp.PGD(steps=5),), out=out, batch_size=8).run


class Page(HTMLParser):
    """Collects what a browser would load, and the scripts that it would run."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        named = [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self.loads += [value for value in named if not value.startswith("data:image/png;base64,")]
        assert not any(name.startswith("on") for name, _ in attributes)


def test_the_page_loads_nothing_and_hostile_names_are_inert(run):
    text = report(run)
    page = Page(text)
    assert page.loads == []
    assert page.scripts == 0
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_its_numbers_are_those_of_the_summary(run):
    text, summary = report(run), run.summary()
    for threat in summary["threats"]:
        told = (threat[f"{name}_accuracy"] for name in ("certified", "attacked", "clean"))
        certified, attacked, clean = map(percent, told)
        assert f"certified {certified} ≤ robust ≤ attacked {attacked} · clean {clean}" in text
    last = summary["threats"][-1]
    verdict = re.search(r'id="verdict">(.*?)</p>', text, re.DOTALL)[1].replace("\xa0", " ")
    assert f"{percent(last['certified_accuracy'])} (certified)" in verdict
    assert f"{percent(last['attacked_interval'][1])} at 95%" in verdict
    assert summary["rows"] in text
    for name, count in last["attacks"].items():
        assert re.search(rf"<td>{re.escape(name)}</td>.*<td>{count}</td>", text)


def test_images_are_shown_as_they_were_attacked(run):
    rows = [row for row in run.rows().to_pylist() if row["kept"]]
    for row in rows:
        x, x_adv = run.image(row["id"], row["eps"]), run.point(row["id"], row["eps"])
        assert np.abs(x_adv.astype(np.float64) - x).max() <= row["eps"]
    assert report(run).count("<figure>") == min(12, len({row["id"] for row in rows}))
    assert "<figure>" not in report(run, images=False)


def test_a_page_needs_no_torch(run, tmp_path):
    code = (
        "import sys; from saddlepoint.report import write_report; from saddlepoint.results import open_run; "
        "write_report(open_run(sys.argv[1]), sys.argv[2]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path), str(tmp_path / "a.html")], check=True)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == report(run)


def test_the_command_writes_the_page(run, tmp_path, capsys):
    assert main(["report", str(run.path), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


@pytest.mark.parametrize("answers", [True, False])
def test_the_page_is_shown_where_there_is_a_browser(run, tmp_path, capsys, monkeypatch, answers):
    shown = list[str]()
    monkeypatch.setattr("webbrowser.open", lambda url: bool(shown.append(url)) or answers)
    page = tmp_path / "page.html"
    assert main(["report", str(run.path), "--out", str(page), "--open"]) == 0
    assert shown == [page.as_uri()]
    assert ("no browser answers" in capsys.readouterr().err) is not answers


def test_a_run_without_records_is_one_line(tmp_path):
    with writing(tmp_path, {"seed": 0}, {}):
        pass
    with pytest.raises(sp.InputError, match="has no record yet"):
        report(sp.open_run(tmp_path))


def test_an_attack_on_a_data_set_has_a_page_too(tmp_path, capsys):
    where = ["--data", "fashion-mnist-sample", "--model", "fashion-mnist-standard", "--limit", "20", "--eps", "0.1"]
    assert main(["attack", *where, "--attack", "fgsm", "--out", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "certified not run" in text
    assert "<figure>" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_shows_it_without_a_request_or_an_error(run, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(report(run), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *flags, profile, "--dump-dom", path.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert 'id="verdict"' in shown.stdout
    assert "CONSOLE" not in shown.stderr
    assert "evil.example" not in re.sub(r"&lt;.*?&gt;", "", shown.stdout)


@pytest.mark.parametrize(("shown", "warned"), [(1, False), (2, True)])
def test_the_page_warns_of_what_the_command_line_warns_of(run, monkeypatch, capsys, shown, warned):
    """A random search beats gradients now and then on any network: one example of thirty is no finding."""
    summary = run.summary() | {"doubts": {"black box beats gradients": shown}, "robust": 20}
    monkeypatch.setattr(type(run), "summary", lambda self: summary)
    assert told_findings(run) is warned
    assert ("an attack without gradients got further" in report(run)) is warned
