"""A smoothed classifier is evaluated by its votes: against the closed form of a linear one, resumed, replayed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation.verification import Audit
from saddlepoint.results import RunError, check_run

BALLS = [sp.L2(0.05), sp.L2(0.2)]


@pytest.fixture
def smoothed():
    torch.manual_seed(0)
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), name="line")
    return SmoothedClassifier(classifier=classifier, sigma=0.25, samples=400, selection=40, batch_size=32)


@pytest.fixture
def data(smoothed):
    images = np.random.default_rng(0).random((12, 3, 2, 2), np.float32)
    labels = smoothed.classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    labels[0] = 1 - labels[0]
    return of_arrays("made", "made", images, labels)


def test_what_is_certified_holds_for_the_linear_classifier_and_is_what_the_votes_say(smoothed, data):
    found = sp.evaluate(smoothed, data, BALLS, suite=())
    weight = smoothed.classifier.module[1].weight.detach().double()
    rows = found.rows().to_pylist()
    assert len(rows) == 24
    for row in rows:
        x = data.read(row["index"]).x
        z = smoothed.classifier(x[None])[0].double().detach()
        distance = float((z[1] - z[0]).abs() / (weight[1] - weight[0]).norm())
        radii = smoothed.certify(x[None], ids=[row["id"]])
        right = int(radii.label) == row["label"]
        assert row["clean_correct"] == right
        assert row["radius"] == float(radii.radius)
        assert not right or row["radius"] <= distance  # each with probability 0.999
        assert "wrong with probability 0.001" in row["method"]
    small, large = found.brackets
    assert small.certified > large.certified > 0
    assert large.counts["misclassified"] >= 1
    assert check_run(found.run.path) == []


def test_a_run_goes_on_and_is_replayed_with_the_same_votes(smoothed, data, tmp_path):
    whole = sp.evaluate(smoothed, data, BALLS, suite=(), out=tmp_path / "run")
    again = sp.evaluate(smoothed, data, BALLS, suite=(), out=tmp_path / "run")
    assert again.summary == whole.summary
    told = list(Audit(whole.run, smoothed.classifier, data, certificates=1).checks())
    assert sum(each.subject == "certificate" for each in told) == sum(each.certified for each in whole.brackets)
    assert all(each.why is None for each in told)
    with pytest.raises(RunError):
        sp.evaluate(replace(smoothed, seed=1), data, BALLS, suite=(), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"threats": sp.Linf(0.1), "suite": ()}, "smoothing certifies balls of ℓ2"),
        ({"threats": sp.L2(0.2)}, "certified by its votes alone"),
        ({"threats": sp.L2(0.2), "suite": (), "certify": "crown"}, "certified by its votes alone"),
        ({"threats": sp.L2(0.9), "suite": ()}, r"400 votes certify a radius of 0.5\d* at most.*expected at least"),
    ],
)
def test_what_votes_cannot_do_is_one_line(how, line, smoothed, data):
    with pytest.raises(sp.InputError, match=line):
        sp.evaluate(smoothed, data, **how)


def test_a_model_that_fails_on_an_image_costs_only_that(smoothed, data):
    class Failing(nn.Module):
        def forward(self, x):
            if bool((x.mean((1, 2, 3)) > 12).any()):
                raise ValueError("too bright")
            return x.flatten(1)[:, :2]

    images = np.stack([data.read(place).x.numpy() for place in range(4)])
    bright = replace(smoothed, classifier=sp.Classifier(Failing(), mean=0.0, std=0.05, name="odd"))
    images[1] = 1
    images[[0, 2, 3]] *= 0.1
    found = sp.evaluate(bright, of_arrays("made", "made", images, np.zeros(4, np.int64)), sp.L2(0.1), suite=())
    assert [row["error"] is not None for row in sorted(found.rows().to_pylist(), key=lambda r: r["index"])] == [
        False,
        True,
        False,
        False,
    ]


def test_the_command_says_whose_votes_are_certified_and_how_often_they_may_be_wrong(tmp_path, capsys):
    flags = ["--method", "smoothing", "--sigma", "0.25", "--samples", "100", "--norm", "l2", "--eps", "0.1"]
    where = ["--model", "fashion-mnist-pgd", "--limit", "3", "--out", str(tmp_path / "run")]
    assert main(["certify", *where, *flags]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "votes under noise of σ 0.25, 100 times an image; each certificate is wrong with probability 0.001" in told
    assert main(["verify", str(tmp_path / "run"), "--certificates", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == []
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "its votes under Gaussian noise of σ 0.25, 100 an image" in page
    assert "may be wrong, with probability 0.001 at most" in page
    assert "No attack ran" in page
    assert main(["certify", *where, "--sigma", "0.25"]) == 2
    assert "--sigma is the noise of --method smoothing" in capsys.readouterr().err
