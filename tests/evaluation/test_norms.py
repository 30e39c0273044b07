"""Several norms in one evaluation: each has the records that it has by itself, and all balls at once have a bracket."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.errors import InputError
from saddlepoint.results import Standing, check_run, open_run
from saddlepoint.results.records.bracket import largest, union
from saddlepoint.results.records.verdicts import Judgement

SUITE = (sp.PGD(steps=5), sp.APGDL1(steps=5), sp.Square(queries=10))
BALLS = [sp.L2(0.3), sp.Linf(0.02), sp.L1(2.0), sp.Linf(0.1), sp.L2(0.1)]


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    classifier = sp.Classifier(nn.Sequential(*layers), name="tiny")
    images = np.random.default_rng(0).random((14, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    labels[::7] = (labels[::7] + 1) % 4
    return classifier, of_arrays("made", "made", images, labels)


def evaluated(case, balls, **how):
    return sp.evaluate(*case, balls, **{"suite": SUITE, "batch_size": 8, "checks": False, **how})


def rows(found):
    left_out = ("seconds", "shard")
    return sorted(
        ({name: value for name, value in row.items() if name not in left_out} for row in found.rows().to_pylist()),
        key=lambda row: row["key"],
    )


@pytest.mark.slow
@given(st.lists(st.sampled_from(range(len(BALLS))), min_size=2, unique=True), st.sampled_from([(), SUITE]))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_norms_have_the_records_that_they_have_by_themselves(case, chosen, suite):
    check_together(case, [BALLS[n] for n in chosen], suite)


def test_each_norm_has_the_records_that_it_has_by_itself(case):
    check_together(case, [sp.Linf(0.1), sp.L2(0.3)], SUITE)


def check_together(case, balls, suite):
    together = evaluated(case, balls, suite=suite)
    groups = itertools.groupby(sorted(balls, key=lambda ball: ball.name), key=lambda ball: ball.name)
    alone = [row for _, of in groups for row in rows(evaluated(case, list(of), suite=suite))]
    assert rows(together) == sorted(alone, key=lambda row: row["key"])
    assert [(each.norm, each.eps) for each in together.brackets] == sorted((ball.name, ball.eps) for ball in balls)
    assert check_run(together.run.path) == []


def test_an_attack_searches_only_the_balls_that_it_can(case):
    found = evaluated(case, [sp.Linf(0.1), sp.L1(2.0)])
    methods = {each.norm: each.method for each in found.records() if isinstance(each, sp.results.Attacked)}
    assert "APGDL1" in methods["l1"]
    assert "APGDL1" not in methods["linf"]
    with pytest.raises(InputError, match="does not search l1 balls"):
        evaluated(case, [sp.Linf(0.1), sp.L1(2.0)], suite=sp.APGD())


def test_a_session_that_ended_between_two_norms_goes_on(case, tmp_path, monkeypatch):
    whole = evaluated(case, BALLS, out=tmp_path / "whole")
    from saddlepoint.evaluation import cascade

    real, calls = cascade._attack, itertools.count()

    def torn(job, threat, examples):
        if next(calls) == 3:
            raise KeyboardInterrupt
        yield from real(job, threat, examples)

    monkeypatch.setattr(cascade, "_attack", torn)
    with pytest.raises(KeyboardInterrupt):
        evaluated(case, BALLS, out=tmp_path / "run")
    monkeypatch.undo()
    assert 0 < len(open_run(tmp_path / "run").records()) < len(whole.records())
    again = evaluated(case, BALLS, out=tmp_path / "run")
    assert again.run.summary()["rows"] == whole.run.summary()["rows"]


def test_all_balls_at_once_stand_only_where_each_does(case):
    found = evaluated(case, [sp.L2(0.1), sp.Linf(0.01), sp.Linf(0.03)])
    verdicts = {(each.norm, each.eps, each.id): each.standing for each in found.judgements()}
    standing = {each.id for each in found.judgements()}

    def under(identity):
        return {standing for (_, _, name), standing in verdicts.items() if name == identity}

    robust, whole = [under(each) for each in standing], found.robust_accuracy
    assert whole.attacked == sum(not each & {Standing.BROKEN, Standing.MISCLASSIFIED} for each in robust)
    assert whole.certified == sum(each == {Standing.CERTIFIED} for each in robust) > 0
    assert whole.attacked <= min(each.attacked for each in largest(found.brackets))
    assert whole.proven
    assert whole.searched
    assert "all balls at once" in repr(found)


@given(st.lists(st.lists(st.sampled_from(Standing), min_size=2, max_size=2), min_size=1))
def test_the_union_is_within_every_bracket(standings):
    of = [
        Judgement(str(n), n, norm, 1.0, 0, kind)
        for n, two in enumerate(standings)
        for norm, kind in zip(("l1", "l2"), two, strict=True)
    ]
    whole = union(sorted(of, key=lambda each: (each.norm, each.index)))
    without = [two for two in standings if Standing.ERROR not in two]
    assert whole.certified == sum(set(two) == {Standing.CERTIFIED} for two in standings)
    assert whole.attacked == sum(not set(two) & {Standing.BROKEN, Standing.MISCLASSIFIED} for two in without)
    assert union([]).examples == 0
    assert math.isnan(whole.eps)


def test_points_of_an_earlier_run_are_tried_in_their_own_norm(case):
    before = evaluated(case, [sp.Linf(0.1), sp.L2(1.0)])
    torch.manual_seed(1)
    found = evaluated(case, [sp.Linf(0.1), sp.L2(1.0)], points=before.run)
    for one, other in zip(before.brackets, found.brackets, strict=True):
        assert one.attacked == other.attacked
        assert other.attacks["earlier point"] == other.counts["broken"] > 0


def test_a_point_of_several_norms_must_be_named(case):
    found = evaluated(case, [sp.Linf(0.1), sp.L2(1.0)])
    broken = {each.id: each for each in found.judgements() if each.standing is Standing.BROKEN and each.norm == "l2"}
    both = next(
        e.id for e in found.judgements() if e.standing is Standing.BROKEN and e.norm == "linf" and e.id in broken
    )
    with pytest.raises(InputError, match="in the balls l2 1, linf 0.1; expected one of them"):
        found.run.point(both)
    assert not np.array_equal(found.run.point(both, norm="l2"), found.run.point(both, 0.1))


def test_the_command_takes_one_radius_for_each_norm(tmp_path, capsys):
    command = [
        "evaluate",
        "--no-checks",
        "--limit",
        "6",
        "--norm",
        "linf",
        "l2",
        "--out",
        str(tmp_path / "run"),
        "--suite",
        "pgd",
    ]
    assert main([*command, "--eps", "0.1", "1/2", "--require", "clean>=0.5@l2:1/2", "--require", "clean>=0.5"]) == 0
    told = capsys.readouterr().out
    assert "l2 ε 1/2" in told
    assert "linf ε 0.1" in told
    assert "all balls at once" in told
    assert main(["verify", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    assert main([*command, "--eps", "0.1", "1/2", "--require", "clean>=0.5@l2:0.1"]) == 2
    assert main([*command, "--eps", "0.1", "0.2", "0.3"]) == 2
    assert "--norm names 2 norms and --eps 3 radii" in capsys.readouterr().err
    other = [*command[:-3], str(tmp_path / "json"), "--suite", "pgd", "--json"]
    assert main(other) == 0
    assert {each["norm"] for each in json.loads(capsys.readouterr().out)["summary"]["threats"]} == {"linf", "l2"}


def test_a_norm_that_no_longer_attack_searches_keeps_its_own_when_others_escalate(case):
    weak, strong = sp.PGD(steps=1, travel=0.05, random_start=False), sp.APGD(steps=10)
    suite = (weak, sp.OnSample(strong, share=0.5), sp.IfDoubted(strong))
    found = evaluated(case, [sp.Linf(0.3), sp.L1(2.0)], suite=suite, certify="none")
    assert found.before is not None
    alone = evaluated(case, [sp.L1(2.0)], suite=suite, certify="none")
    assert found.brackets[0].attacked <= alone.brackets[0].attacked
    assert found.brackets[1].attacked < found.brackets[1].clean
    assert check_run(found.run.path) == []


def test_each_norm_must_have_an_attack_that_runs_without_conditions(case, tmp_path):
    suite = (sp.APGDL1(steps=5), sp.IfDoubted(sp.PGD(steps=3)))  # of which only the second one searches linf
    with pytest.raises(InputError, match="the suite begins with IfDoubted"):
        evaluated(case, [sp.L1(2.0), sp.Linf(0.1)], suite=suite, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()  # it is told before anything is computed


def test_a_run_is_repeated_on_another_model(tmp_path, capsys):
    """Everything but the model is the specification's; what would say it twice is refused."""
    before, after = (str(tmp_path / name) for name in ("before", "after"))
    flags = ["--limit", "6", "--norm", "linf", "l2", "--eps", "0.1", "1/2", "--budget", "20", "--seed", "5"]
    command = ["evaluate", *flags, "--suite", "none", "--certify", "interval", "--no-checks", "--out", before]
    assert main(command) == 0
    again = ["evaluate", "--spec", f"{before}/spec.json", "--model", "fashion-mnist-ibp", "--no-checks", "--out", after]
    assert main(again) == 0
    one, other = (sp.open_run(folder).spec for folder in (before, after))
    assert one.pop("model") != other.pop("model")
    assert one == other
    capsys.readouterr()
    for wrong, said in (
        (["--eps", "0.2"], "--eps does not go with --spec"),
        (["--suite", "none"], "--suite does not go with --spec"),
        (["--spec", f"{before}/summary.json"], "expected the spec.json"),
        (["--spec", str(tmp_path / "none")], "expected the spec.json"),
    ):
        assert main([*again, *wrong]) == 2
        assert said in capsys.readouterr().err
    told = json.loads((tmp_path / "before/spec.json").read_text())
    for part, name, value in (("data", "limit", "6"), (None, "seed", 1.5), (None, "batch_size", 0), (None, "data", [])):
        changed = json.loads(json.dumps(told))
        (changed["spec"] if part is None else changed["spec"][part])[name] = value
        (tmp_path / "changed.json").write_text(json.dumps(changed))
        assert main([*again, "--spec", str(tmp_path / "changed.json")]) == 2
        assert "cannot be read" in capsys.readouterr().err
    told["spec"]["data"]["limit"] = 7
    (tmp_path / "changed.json").write_text(json.dumps(told))
    assert main([*again, "--spec", str(tmp_path / "changed.json")]) == 2
    assert "has other examples" in capsys.readouterr().err
