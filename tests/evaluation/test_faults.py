"""A model that fails on some inputs, a clock, a budget: those records say so, the rest goes on."""

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation import resume, session

SUITE = (sp.PGD(steps=5), sp.Square(queries=10))


class Failing(nn.Module):
    """A network that is odd where the first pixel says so."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
        self.how = how

    def forward(self, x):
        odd = x[:, 0, 0, 0] > 0.9
        if self.how == "raises" and bool(odd.any()):
            raise ValueError("no such pixel,\nplease")
        z = self.net(x)
        if self.how == "nan":
            z = torch.where(odd[:, None], torch.nan, z)
        if self.how == "nan gradient":  # √0: finite forward, infinite backward
            pixel = x[odd, 0, 0, 1]
            z = z.index_put((odd.nonzero()[:, 0],), (pixel - pixel.detach()).abs().sqrt()[:, None], accumulate=True)
        return z


@pytest.fixture
def data():
    images = np.random.default_rng(0).random((20, 1, 8, 8), np.float32) * 0.8
    images[[3, 11], 0, 0, 0] = 1.0
    labels = sp.Classifier(Failing("").eval()).predict(torch.from_numpy(images)).label.numpy().copy()
    return of_arrays("made", "made", images, labels)


def _evaluate(how, data, **changed):
    classifier = sp.Classifier(Failing(how), name="failing")
    return sp.evaluate(
        classifier, data, sp.Linf(0.01), suite=SUITE, batch_size=8, checks=False, certify="none", **changed
    )


@pytest.mark.parametrize("how", ["raises", "nan", "nan gradient"])
def test_a_model_that_fails_on_some_inputs_costs_only_those(how, data):
    rows = {row["id"]: row for row in _evaluate(how, data).rows().to_pylist()}
    sound = {row["id"]: row for row in _evaluate("", data).rows().to_pylist()}
    failed = {identity for identity, row in rows.items() if row["error"] is not None}
    assert failed == {"made/00003", "made/00011"}
    assert all("\n" not in rows[identity]["error"] for identity in failed)
    assert {key: row for key, row in rows.items() if key not in failed} == {
        key: row for key, row in sound.items() if key not in failed
    }


def test_a_block_of_one_that_fails_ends_nothing(data):
    images = np.stack([data.read(index).x.numpy() for index in (0, 3)])
    labels = np.array([data.read(index).y for index in (0, 3)])
    classifier = sp.Classifier(Failing("nan"), name="failing")
    two = of_arrays("two", "two", images, labels)
    rows = (
        sp.evaluate(classifier, two, sp.Linf(0.01), suite=SUITE, batch_size=1, checks=False, certify="none")
        .rows()
        .to_pylist()
    )
    assert [row["error"] is None for row in rows] == [True, False]


def test_a_model_that_fails_on_all_inputs_ends_the_evaluation(data):
    class Never(nn.Module):
        def forward(self, x):
            raise ValueError("never")

    with pytest.raises((sp.ModelError, ValueError)):
        sp.evaluate(sp.Classifier(Never()), data, sp.Linf(0.01), suite=SUITE, certify="none")


def test_a_clock_stops_between_shards_and_the_same_call_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "TIMED", 1)
    whole = _evaluate("", data, out=tmp_path / "whole")
    part = _evaluate("", data, out=tmp_path / "part", seconds=0.0)
    assert not part.run.finished
    assert part.done.seen == part.rows().num_rows == 8  # the first shard of a random order
    assert _evaluate("", data, out=tmp_path / "part").summary == whole.summary


def test_a_budget_is_kept_and_part_of_the_specification(data, tmp_path):
    found = _evaluate("", data, out=tmp_path, budget=6)
    rows = found.rows().to_pylist()
    assert all(row["forwards"] - 2 + row["backwards"] <= 6 for row in rows if row["attack"] != "clean")
    with pytest.raises(sp.InputError, match="budget"):
        _evaluate("", data, out=tmp_path, budget=7)


def test_audits_are_at_least_a_hundred_or_all():
    for count in (10, 100, 1000, 10_000):
        chosen = sum(resume.audited(0, f"{number}", count) for number in range(count))
        assert chosen >= min(count, 70)
        assert chosen <= max(140, 0.07 * count)


def test_a_notebook_and_a_pull_request_are_shown_the_bracket(data, tmp_path, capsys):
    drawn = _evaluate("", data)._repr_html_()
    assert drawn.startswith("<table>")
    assert "linf ε 0.01" in drawn
    where = ["--limit", "6", "--suite", "fgsm", "--certify", "none", "--out", str(tmp_path / "run")]
    rules = ["--require", "clean>=0.1", "--require", "attacked>=1", "--require", "attacked>=0"]
    assert main(["evaluate", "--no-checks", *where, *rules, "--markdown", str(tmp_path / "pr.md")]) == 1
    text = (tmp_path / "pr.md").read_text(encoding="utf-8")
    assert "- met: `clean>=0.1`" in text
    assert "- met: `attacked>=0`" in text
    assert "- **not met**: `attacked>=1`" in text
    assert "| linf ε | clean |" in text
    capsys.readouterr()
