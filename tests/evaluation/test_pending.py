"""An interrupted cascade keeps what its first attacks have settled, and ends in the same records."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation.resume import FILE, Pending

SUITE = (sp.PGD(steps=4), sp.APGD(steps=6), sp.FAB(steps=3, targets=2), sp.Square(queries=20))


@pytest.fixture
def case():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    classifier = sp.Classifier(nn.Sequential(*layers), name="tiny")
    images = np.random.default_rng(0).random((12, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    return classifier, of_arrays("made", "made", images, labels)


def _evaluate(case, out):
    balls = [sp.Linf(0.003), sp.Linf(0.02)]
    return sp.evaluate(case[0], case[1], balls, suite=SUITE, certify="none", out=out, batch_size=4, checks=False)


def _rows(found):
    return [{**row, "seconds": None, "kept": None} for row in found.run.rows().to_pylist()]


@pytest.mark.parametrize("stop", [2, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 5, 30))])
def test_stages_that_are_done_are_not_done_again(case, tmp_path, monkeypatch, stop):
    """Interrupt the search after so many examples have been through a stage; go on until all is done."""
    whole, original = _rows(_evaluate(case, tmp_path / "whole")), Pending.note
    noted, sessions = [], 0

    class Enough(KeyboardInterrupt):
        pass

    def limited(self, key, each):
        original(self, key, each)
        noted.append((key, each.through))
        if sessions < 20 and len(noted) >= stop * (sessions + 1):
            raise Enough

    monkeypatch.setattr(Pending, "note", limited)
    while True:
        try:
            found = _evaluate(case, tmp_path / "part")
            break
        except Enough:
            sessions += 1
    assert sessions
    assert _rows(found) == whole
    assert not (tmp_path / "part" / FILE).exists()
    assert found.summary["rows"] == sp.open_run(tmp_path / "whole").summary()["rows"]
    assert len(noted) == len(set(noted))  # no stage of an example twice


def test_a_torn_file_is_one_line(case, tmp_path):
    (tmp_path / FILE).write_bytes(b"torn")
    with pytest.raises(sp.InputError, match=r"pending\.safetensors' cannot be read .*remove it"):
        Pending(tmp_path)


def test_what_is_settled_goes_through_the_file_and_back(case, tmp_path, monkeypatch):
    seen = []
    original = Pending.note
    monkeypatch.setattr(Pending, "note", lambda self, key, each: (seen.append((key, each)), original(self, key, each)))
    _evaluate(case, tmp_path / "run")
    pending = Pending(tmp_path)
    for key, each in seen:
        original(pending, key, each)
    pending.write()
    back = Pending(tmp_path)
    for key, each in dict(seen).items():
        other = back.of("")[key]
        assert json.dumps(other.best is None) == json.dumps(each.best is None)
        if each.best is not None:
            assert torch.equal(other.best.delta, each.best.delta)
            assert (other.best.score, other.best.goal, other.best.run) == (
                each.best.score,
                each.best.goal,
                each.best.run,
            )
        assert (other.through, other.passes, other.wasted) == (each.through, each.passes, each.wasted)
        assert (other.doubts, other.had_gradient) == (each.doubts, each.had_gradient)
