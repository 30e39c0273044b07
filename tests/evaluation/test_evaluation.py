"""The evaluation: the bracket, records that do not depend on how they came about, requirements, errors in one line."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.attacks import registry
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.errors import SaddlepointError
from saddlepoint.evaluation import api, cascade, executors
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.verification import Audit
from saddlepoint.results import (
    Attacked,
    Certified,
    Failed,
    Standing,
    Tally,
    Voted,
    brackets,
    by_label,
    check_run,
    clopper_pearson,
    judgements,
)
from saddlepoint.results.records.bracket import bucket

SUITE = (sp.PGD(steps=5), sp.Square(queries=10))
BALLS = [sp.Linf(0.02), sp.Linf(0.1)]


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    return sp.Classifier(nn.Sequential(*layers), name="tiny")


@pytest.fixture
def data(classifier):
    images = np.random.default_rng(0).random((40, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    labels[::7] = (labels[::7] + 1) % 4
    return of_arrays("made", "made", images, labels)


def _evaluate(classifier, data, out=None, **how):
    return sp.evaluate(classifier, data, BALLS, suite=SUITE, out=out, batch_size=8, checks=False, **how)


def test_the_bracket_holds_and_every_example_has_one_verdict(classifier, data):
    found = _evaluate(classifier, data)
    small, large = found.brackets
    for each in (small, large):
        assert each.certified <= each.attacked <= each.clean == 34
        assert sum(each.counts.values()) == each.examples == 40
    assert small.certified >= large.certified
    assert small.attacked >= large.attacked
    assert small.certified > 0
    assert large.counts["broken"] > 0
    assert found.robust_accuracy == large
    assert found.summary["threats"] == [small.summary(), large.summary()]
    assert check_run(found.run.path) == []


def test_an_observer_sees_the_bracket_grow_to_the_final_one(classifier, data):
    seen = []
    found = _evaluate(classifier, data, observe=lambda done, total, now: seen.append((done, total, now)))
    counts = [done for done, _, _ in seen]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 40)
    assert seen[0][2] is None
    assert {total for _, total, _ in seen} == {40}
    last, due = seen[-1][2], found.robust_accuracy
    assert last.counts == due.counts
    assert (last.norm, last.eps) == (due.norm, due.eps)
    again = []
    sp.evaluate(
        classifier,
        data,
        BALLS,
        suite=SUITE,
        batch_size=8,
        checks=False,
        out=found.run.path,
        observe=lambda *told: again.append(told),
    )
    assert again == []  # nothing is left to do


def test_convergence_falls_from_the_clean_to_the_attacked_count(classifier, data):
    found = _evaluate(classifier, data)
    rows = [row for row in found.rows().to_pylist() if row["kind"] == "attack" and row["eps"] == 0.1]
    broken = [row["forwards"] + row["backwards"] for row in rows if row["success"] and row["clean_correct"]]
    curve = found.robust_accuracy.convergence
    assert curve[-1][1] == found.robust_accuracy.attacked
    for passes, left in curve:
        assert left == found.robust_accuracy.clean - sum(spent <= passes for spent in broken)
    assert found.summary["threats"][-1]["convergence"][-1][1] == found.robust_accuracy.attacked / 40


@given(st.integers(1, 10**9))
def test_buckets_are_the_least_of_one_two_five_ten_that_is_no_less(passes):
    series = [digit * 10**power for power in range(11) for digit in (1, 2, 5)]
    assert bucket(passes) == min(each for each in series if each >= passes)


def test_classes_add_up_to_the_whole(classifier, data):
    found = _evaluate(classifier, data)
    groups = by_label(each for each in found.judgements() if each.eps == 0.1)
    whole = found.robust_accuracy
    assert sum(each.attacked for each in groups.values()) == whole.attacked
    assert sum(each.certified for each in groups.values()) == whole.certified
    assert sum(each.examples for each in groups.values()) == whole.examples


def test_certified_examples_stand_and_broken_points_break(classifier, data):
    found = _evaluate(classifier, data)
    for each in found.judgements():
        sample = data.read(each.index)
        if each.standing is Standing.BROKEN:
            point = torch.from_numpy(found.run.point(each.id, each.eps).copy())
            assert (point.double() - sample.x.double()).abs().max() <= each.eps
            assert classifier.predict(point[None]).label.item() != each.label
    proven = [each for each in found.judgements() if each.standing is Standing.CERTIFIED]
    x, y = torch.stack([data.read(each.index).x for each in proven]), torch.tensor([each.label for each in proven])
    radii = torch.tensor([each.eps for each in proven])
    tried = sp.attack(classifier, x, y, sp.Linf(radii), sp.PGD(steps=20, restarts=3), stop="never")
    assert not tried.success.any()
    assert (tried.margin >= torch.tensor([each.lower_bound for each in proven]) - 1e-5).all()


def test_what_is_broken_at_one_radius_is_broken_at_a_larger_one_without_a_pass(classifier, data):
    rows = _evaluate(classifier, data).rows().to_pylist()
    passes = {(row["id"], row["eps"]): row for row in rows if row["kind"] == "attack" and row["attack"] != "clean"}
    again = [key for key, row in passes.items() if key[1] == 0.1 and (passes.get((key[0], 0.02)) or {}).get("success")]
    for identity, _ in again:
        assert passes[identity, 0.1]["distance"] == passes[identity, 0.02]["distance"]


@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 17, 33))])
def test_a_run_that_was_stopped_ends_in_the_same_summary(classifier, data, tmp_path, monkeypatch, stop):
    whole = _evaluate(classifier, data, tmp_path / "whole")

    class KilledError(Exception):
        pass

    original, seen = cascade.evaluate_shard, []

    def interrupted(job, places):
        for each in original(job, places):
            if len(seen) == stop:
                raise KilledError
            seen.append(each)
            yield each

    monkeypatch.setattr(executors, "evaluate_shard", interrupted)
    with pytest.raises(KilledError):
        _evaluate(classifier, data, tmp_path / "parts")
    monkeypatch.undo()
    _evaluate(classifier, data, tmp_path / "parts")
    texts = [(tmp_path / kind / "summary.json").read_bytes() for kind in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert whole.run.finished


def test_records_do_not_depend_on_the_shard(classifier, data):
    def records(places):
        graphs = api.graphs_of(classifier, (1, 8, 8))
        spec = sp.Spec(
            model={},
            data={},
            threats=(sp.ThreatModel("linf", 0.05),),
            suite=SUITE,
            certify=("interval", "crown"),
            seed=0,
            batch_size=8,
        )
        found = cascade.evaluate_shard(Job(spec, classifier, data, graphs), places)
        return {each.key: replace(each, seconds=None) for each, *_ in found}

    whole, part = records(range(24)), records([3, 17, 20])
    assert part == {key: row for key, row in whole.items() if key in part}


def test_the_specification_goes_through_json_and_back(classifier, data, tmp_path):
    found = _evaluate(classifier, data, tmp_path)
    plain = {key: value for key, value in json.loads(json.dumps(found.run.spec)).items() if key != "keep"}
    assert sp.Spec.of(plain).plain() == plain
    assert sp.Spec.of(plain).suite == SUITE
    with pytest.raises(sp.InputError, match="kind 'attack'; expected that of an evaluation"):
        sp.Spec.of({"kind": "attack"})


def test_a_certificate_that_is_broken_stops_the_run(classifier, data, monkeypatch):
    proof = cascade.certify

    def lying(*given, **named):
        real = proof(*given, **named)
        count = len(real.verdict)
        from dataclasses import replace

        return replace(real, verdict=(sp.Verdict.CERTIFIED,) * count, lower_bound=torch.ones(count).double())

    monkeypatch.setattr(cascade, "certify", lying)
    monkeypatch.setattr(cascade, "audited", lambda *_: True)
    with pytest.raises(SaddlepointError, match="was certified at linf eps .* and is broken by .*defect of saddlepoint"):
        sp.evaluate(classifier, data, sp.Linf(0.3), suite=SUITE, batch_size=8, checks=False)


def test_a_model_without_certificates_says_so_and_goes_on(data):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 4)

        def forward(self, x):
            return self.layer(torch.sin(x).flatten(1))

    odd = sp.Classifier(Odd())
    found = _evaluate(odd, data)
    assert "no certificates: the operation sin" in found.note
    assert not found.robust_accuracy.proven
    with pytest.raises(sp.ModelError, match="the operation sin"):
        _evaluate(odd, data, certify="crown")


def test_an_example_that_cannot_be_read_has_an_error_and_the_others_go_on(classifier, data):
    def fetch(place):
        if place == 3:
            raise sp.InputError("it is damaged")
        return original(place)

    original = data.fetch
    from dataclasses import replace

    found = _evaluate(classifier, replace(data, fetch=fetch, shape=(1, 8, 8)))
    assert found.robust_accuracy.examples == 39
    (bad,) = {each.error for each in found.judgements() if each.standing is Standing.ERROR}
    assert bad == "it is damaged"


@given(st.integers(1, 300), st.data())
@settings(max_examples=40, deadline=None)
def test_intervals_are_exact(examples, draw):
    """Clopper & Pearson: at each end the tail that the count cuts off is α/2."""
    from scipy.stats import binom

    count = draw.draw(st.integers(0, examples))
    low, high = clopper_pearson(count, examples, 0.05)
    assert low <= count / examples <= high
    assert count == 0 or binom.sf(count - 1, examples, low) == pytest.approx(0.025, abs=1e-6)
    assert count == examples or binom.cdf(count, examples, high) == pytest.approx(0.025, abs=1e-6)


_EXAMPLE = {"id": "a", "index": 0, "digest": "0" * 64, "label": 1, "norm": "linf", "eps": 0.1, "method": "made"}
_CLEAN = {"clean_label": 1, "clean_margin": 1.0, "clean_correct": True}


def _attacked(**changed):
    found = {"success": False, "accuracy": 1.0, "attack": None, "restart": 0, "adversarial_label": 1, "margin": 0.5}
    size = dict.fromkeys(("distance", "linf", "l2", "l1"), 0.1)
    passes = {"steps": 2, "forwards": 3, "backwards": 2}
    return Attacked(**{**_EXAMPLE, **_CLEAN, "name": "suite", **found, **size, **passes, **changed})


def _certified(lower_bound=-1.0):
    return Certified(**_EXAMPLE, **_CLEAN, name="crown", lower_bound=lower_bound, tolerance=0.0)


def _voted(radius):
    return Voted(**_EXAMPLE, clean_label=1, clean_correct=True, name="smoothing", radius=radius)


def _failed():
    return Failed(**_EXAMPLE, name="suite", error="damaged")


def test_verdicts_follow_from_records():
    broken = _attacked(success=True, attack="PGD", margin=-0.1)
    cases = [
        ([_attacked()], Standing.UNDECIDED),
        ([_attacked(), _certified()], Standing.UNDECIDED),
        ([_attacked(), _certified(0.1)], Standing.CERTIFIED),
        ([_certified(0.1)], Standing.CERTIFIED),
        ([_certified(0.0)], Standing.UNDECIDED),
        ([_certified(math.inf)], Standing.UNDECIDED),
        ([_voted(0.1)], Standing.UNDECIDED),
        ([_voted(0.11)], Standing.CERTIFIED),
        ([broken, _certified()], Standing.BROKEN),
        ([_attacked(clean_correct=False, success=True, attack="clean")], Standing.MISCLASSIFIED),
        ([_failed()], Standing.ERROR),
        ([_failed(), _certified(0.1)], Standing.CERTIFIED),
    ]
    for records, standing in cases:
        (found,) = judgements(records)
        assert found.standing is standing
        assert brackets([found])[0].counts[standing] == 1
        tally = Tally("linf", 0.1, proven=True, searched=False)
        for each in records:
            tally.add(each)
        assert tally.bracket.counts == {**dict.fromkeys(Standing, 0), standing: 1}
        assert (tally.bracket.proven, tally.bracket.searched) == (True, False)
    with pytest.raises(SaddlepointError, match="broken by PGD and certified at once"):
        judgements([broken, _certified(0.1)])


def test_the_command_prints_the_bracket_and_gates(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(registry.SUITES, "fast", SUITE)
    model = str(tmp_path / "m")
    assert main(["train", "--data", "digits", "--recipe", "standard", "--epochs", "5", "--out", model]) == 0
    capsys.readouterr()
    command = ["evaluate", "--model", model, "--data", "digits", "--limit", "20", "--out", str(tmp_path / "run")]
    assert main([*command, "--eps", "1/255", "0.1", "--require", "clean>=0.5", "--require", "attacked>=0@0.1"]) == 0
    out = capsys.readouterr().out
    assert "1/255" in out
    assert "Of these 20 images, robust accuracy at linf ε 0.1 lies between" in out
    assert f"next: saddlepoint report {tmp_path / 'run'}\n" in out
    assert main([*command, "--eps", "1/255", "0.1", "--json", "--require", "certified>=1@0.1"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["unmet"]
    assert [each["eps"] for each in told["summary"]["threats"]] == [1 / 255, 0.1]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--eps", "8"], "did you mean 8/255?"),
        (["--certify", "magic"], "certify is 'magic'; expected auto, none or one of"),
        (["--suite", "fats"], "did you mean fast?"),
        (["--require", "robust>0.5"], "expected a rule such as"),
        (["--require", "clean>=0.5@0.3"], "asks for a ball that was not evaluated"),
    ],
)
def test_what_cannot_be_used_is_one_line(flags, line, tmp_path, capsys):
    command = ["evaluate", "--model", "net:small:1x8x8:10", "--data", "digits", "--first", "2"]
    assert main([*command, "--out", str(tmp_path / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_a_replay_holds_and_names_what_does_not(classifier, data, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = _evaluate(classifier, data, tmp_path)
    looked = list(Audit(found.run, classifier, data, certificates=1.0).checks())
    assert looked
    assert all(each.why is None for each in looked)
    kinds = {each.key.split()[0] for each in looked}
    assert kinds == {"attack", "certificate"}
    other = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(sp.InputError, match="is not the one that was evaluated"):
        Audit(found.run, other, data)
    for path in (tmp_path / "rows").iterdir():  # a slow machine writes several
        table = pq.read_table(path)
        bounds = [None if bound is None else bound + 5 for bound in table["lower_bound"].to_pylist()]
        place = table.schema.get_field_index("lower_bound")
        changed = pa.array(bounds, table.schema.field(place).type)
        pq.write_table(table.set_column(place, table.schema.field(place), changed), path)
    audit = Audit(sp.open_run(tmp_path), classifier, data, certificates=1.0)
    failed = [each.why for each in audit.checks() if each.why]
    assert failed
    assert all("when computed again" in why for why in failed)


def test_the_command_verifies_a_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(registry.SUITES, "fast", SUITE)
    run = str(tmp_path / "run")
    model = "fashion-mnist-standard"
    assert main(["evaluate", "--model", model, "--limit", "12", "--eps", "0.02", "--out", run]) == 0
    assert main(["verify", run, "--certificates", "1"]) == 0
    assert "0 do not hold" in capsys.readouterr().out
    assert main(["verify", run, "--model", "fashion-mnist-pgd"]) == 2
    assert "their digests differ" in capsys.readouterr().err
    (rows,) = (tmp_path / "run" / "adversarial").iterdir()
    rows.unlink()
    assert main(["verify", run]) in (1, 2)
