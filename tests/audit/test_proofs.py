"""What hints prove holds: against attacks, against every order of float32 sums, and whatever is done to the hints."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from audit.nets import NETS, SHAPE, case
from saddlepoint.certificates.evidence import save_hints
from saddlepoint.certificates.listing import listing_of
from saddlepoint_audit.enclosures import FLOAT32, REAL, Region
from saddlepoint_audit.files import Refused
from saddlepoint_audit.operations import Network
from saddlepoint_audit.proofs import Hints, margin_of, prove

BALLS = [sp.Linf(0.1), sp.L2(1.0), sp.L1(5.0)]


@pytest.mark.filterwarnings("ignore::saddlepoint.errors.MaskingWarning")
@pytest.mark.parametrize("ball", BALLS, ids=lambda b: b.name)
@pytest.mark.parametrize("name", NETS)
def test_no_attack_comes_below_what_hints_prove(name, ball):
    classifier, x, y = case(name)
    attacked = sp.attack(classifier, x, y, ball, sp.PGD(loss="margin", steps=20), stop="never")
    network = listing_of(classifier, SHAPE).network
    for one, label, margin in zip(x, y.tolist(), attacked.margin.tolist(), strict=True):
        region = Region.around(one.numpy(), ball.eps, ball.name, (0.0, 1.0))
        for hints in (Hints(), Hints(True)):
            real, executed = (margin_of(network, region, label, hints, unit) for unit in (REAL, FLOAT32))
            assert executed <= real
            assert executed <= margin  # the attack's margin is that of a float32 execution
        assert margin_of(network, region, label, Hints(True), REAL) >= margin - 20  # and is a bound at all


@pytest.mark.parametrize("name", NETS)
def test_hints_come_to_what_the_search_found(name, tmp_path):
    classifier, x, y = case(name)
    proof = sp.certify(classifier, x, y, sp.Linf(0.01), method="alpha-crown", evidence=True)
    assert proof.evidence is not None
    assert [hints is not None for hints in proof.evidence] == [verdict == "certified" for verdict in proof.verdict]
    some = [i for i, hints in enumerate(proof.evidence) if hints is not None]
    assert some
    proven = sp.check_evidence(classifier, x, y, sp.Linf(0.01), proof.evidence)
    assert (proven[some] > 0).all()
    assert (proven[some] < proof.lower_bound[some] + 1e-2).all()
    for i in some:
        save_hints(tmp_path / f"{i}", proof.evidence[i])
    loaded = [Hints.read(tmp_path / f"{i}") if i in some else None for i in range(len(x))]
    assert torch.equal(sp.check_evidence(classifier, x, y, sp.Linf(0.01), loaded), proven)


def test_slopes_of_their_own_prove_more():
    classifier, x, y = case("dense", seed=3, examples=8)
    network, ball = listing_of(classifier, SHAPE).network, sp.Linf(0.25)
    proof = sp.certify(classifier, x, y, ball, method="alpha-crown", evidence=True)
    assert proof.evidence is not None
    gained = [
        margin_of(network, region, label, hints, REAL) - margin_of(network, region, label, Hints(True), REAL)
        for one, label, hints in zip(x, y.tolist(), proof.evidence, strict=True)
        if hints is not None
        for region in [Region.around(one.numpy(), ball.eps, "linf", (0.0, 1.0))]
    ]
    assert max(gained) > 1e-3
    assert min(gained) >= -1e-2


@cache
def prepared() -> tuple[sp.Classifier, torch.Tensor, torch.Tensor, Network]:
    classifier, x, y = case("dense")
    return classifier, x, y, listing_of(classifier, SHAPE).network


HINTS = st.builds(
    lambda neurons, seed: (neurons, seed),
    st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True),
    st.integers(0, 2**31),
)


@settings(max_examples=25, deadline=None)
@given(HINTS)
def test_any_hints_give_a_bound_that_holds(drawn):
    """Whatever is hinted, margins at points of the set are not below the bound."""
    neurons, seed = drawn
    rng = np.random.default_rng(seed)
    classifier, x, y, network = prepared()
    slopes = {0: rng.integers(0, 129, (2, len(neurons))).astype(np.uint8)}
    hints = Hints(True, neurons={0: np.array(neurons, np.int32)}, slopes=slopes)
    region = Region.around(x[0].numpy(), 0.1, "linf", (0.0, 1.0))
    points = (x[:1] + 0.2 * torch.from_numpy(rng.random((64, *SHAPE), np.float32)) - 0.1).clamp(0, 1)
    logits = classifier.predict(points).logits
    reached = (logits[:, y[:1]] - logits)[:, [k for k in range(3) if k != int(y[0])]].min()
    assert margin_of(network, region, int(y[0]), hints, FLOAT32) <= float(reached) + 1e-6


@pytest.mark.parametrize(
    "change",
    [
        lambda h: dataclasses.replace(h, neurons={0: np.array([10**6], np.int32)}),
        lambda h: dataclasses.replace(h, neurons={}),
        lambda h: dataclasses.replace(h, slopes={7: np.zeros((2, 1), np.uint8)}),
        lambda h: dataclasses.replace(h, neurons={0: np.array([-1], np.int32)}),
        lambda h: dataclasses.replace(h, slopes={0: np.full((2, 1), 129, np.uint8)}),
        lambda h: dataclasses.replace(h, slopes={0: np.full((1, 1), 3, np.uint8)}),
        lambda h: dataclasses.replace(h, slopes={0: np.full((2, 1), 0.5)}),
        lambda h: dataclasses.replace(h, rows={1: np.array([[1]], np.int32)}),
        lambda h: dataclasses.replace(h, rows={1: np.array([0.5])}),
    ],
    ids=["beyond", "nowhere", "later", "before", "steep", "few", "float", "shape", "half"],
)
def test_hints_that_do_not_fit_are_refused(change):
    classifier, x, _ = case("dense")
    network = listing_of(classifier, SHAPE).network
    hints = Hints(True, neurons={0: np.array([0], np.int32)}, slopes={0: np.zeros((2, 1), np.uint8)})
    region = Region.around(x[0].numpy(), 0.05, "linf", (0.0, 1.0))
    margin_of(network, region, 0, hints, REAL)
    with pytest.raises(Refused):
        margin_of(network, region, 0, change(hints), REAL)


@pytest.mark.parametrize("label", [-1, 3, True, 0.0, "0"])
def test_a_label_that_is_none_is_refused(label):
    classifier, x, _ = case("dense")
    with pytest.raises(Refused, match="no class"):
        prove(listing_of(classifier, SHAPE).network, Region.around(x[0].numpy(), 0.1, "linf", None), label, Hints())


@pytest.mark.parametrize(
    ("x", "eps", "norm"),
    [
        (2.0, 0.1, "linf"),
        (float("nan"), 0.1, "linf"),
        (0.5, -0.1, "linf"),
        (0.5, float("inf"), "linf"),
        (0.5, 0.1, "l3"),
    ],
)
def test_sets_that_are_none_are_refused(x, eps, norm):
    with pytest.raises(Refused):
        Region.around(np.full(SHAPE, x, np.float32), eps, norm, (0.0, 1.0))


def split(examples: int = 4) -> tuple[sp.Classifier, torch.Tensor, torch.Tensor, sp.Certificates]:
    """Certificates that rest on branch and bound."""
    classifier, x, y = case("dense", seed=3, examples=examples)
    return classifier, x, y, sp.certify(classifier, x, y, sp.Linf(0.35), method="complete", domains=500, evidence=True)


def test_a_tree_proves_what_no_line_does():
    classifier, x, y, proof = split()
    network = listing_of(classifier, SHAPE).network
    assert proof.evidence is not None
    trees = 0
    for one, label, hints, verdict in zip(x, y.tolist(), proof.evidence, proof.verdict, strict=True):
        if hints is None or hints.branches is None:
            continue
        region = Region.around(one.numpy(), 0.35, "linf", (0.0, 1.0))
        assert verdict == "certified"
        assert prove(network, region, label, hints).holds
        assert not prove(network, region, label, dataclasses.replace(hints, branches=None)).holds
        trees += 1
    assert trees


TREES = {
    "a leaf less": lambda b, m: dataclasses.replace(b, trees={m: b.trees[m][:-1]}),
    "a leaf for both parts": lambda b, m: dataclasses.replace(
        b, trees={m: np.where(b.trees[m] < 0, b.trees[m].min(), b.trees[m])}
    ),
    "parts exchanged": lambda b, m: dataclasses.replace(b, trees={m: np.r_[b.trees[m][:1], b.trees[m][:0:-1]]}),
    "no tree": lambda b, m: dataclasses.replace(b, trees={}),
    "a leaf of nothing": lambda b, m: dataclasses.replace(b, trees={m: np.array([-1 - len(b.margins)], np.int32)}),
    "one leaf for all": lambda b, m: dataclasses.replace(b, trees={m: np.array([-1], np.int32)}),
    "more behind the end": lambda b, m: dataclasses.replace(b, trees={m: np.r_[b.trees[m], b.trees[m]]}),
    "other margins": lambda b, m: dataclasses.replace(b, margins=1 - b.margins),
    "negative multipliers": lambda b, m: dataclasses.replace(b, multipliers=-1 - b.multipliers),
    "multipliers that are none": lambda b, m: dataclasses.replace(b, multipliers=b.multipliers * np.nan),
    "signs turned": lambda b, m: dataclasses.replace(b, literals=-b.literals),
    "neurons beyond": lambda b, m: dataclasses.replace(b, literals=b.literals + 1000),
    "literals of others": lambda b, m: dataclasses.replace(b, ends=np.minimum(b.ends, b.ends[1])),
    "steep slopes": lambda b, m: dataclasses.replace(b, slopes=np.full_like(b.slopes, 200)),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_does_not_cover_proves_nothing(name):
    classifier, x, y, proof = split(1)
    assert proof.evidence is not None
    hints = proof.evidence[0]
    assert hints is not None
    assert hints.branches is not None
    (margin,) = [m for m, tree in hints.branches.trees.items() if len(tree) > 1]
    region = Region.around(x[0].numpy(), 0.35, "linf", (0.0, 1.0))
    changed = dataclasses.replace(hints, branches=TREES[name](hints.branches, margin))
    network = listing_of(classifier, SHAPE).network
    assert prove(network, region, int(y[0]), hints).holds
    try:
        assert not prove(network, region, int(y[0]), changed).holds
    except Refused:
        return


def absorbing() -> nn.Module:
    """z_0 − z_1 = 2²⁴ + (x + 0.1) − 2²⁴, all in one sum: 0.1 and more, or 0 where float32 swallows the small."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0], [1.0], [0.0]]))
        net[1].bias.copy_(torch.tensor([2.0**24, 0.1, 2.0**24]))
        net[3].weight.copy_(torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.0, 0.0]]))
        net[3].bias.zero_()
    return net


def test_absorption_is_proven_in_real_arithmetic_only():
    classifier = sp.Classifier(absorbing())
    network = listing_of(classifier, (1, 1, 1)).network
    region = Region.around(np.full((1, 1, 1), 0.2, np.float32), 0.05, "linf", (0.0, 1.0))
    assert margin_of(network, region, 0, Hints(), REAL) > 0.2
    assert not margin_of(network, region, 0, Hints(), FLOAT32) > 0
    proven = prove(network, region, 0, Hints())
    assert (proven.holds, proven.arithmetic) == (True, "real")


@pytest.mark.parametrize("seed", range(4))
def test_every_order_of_float32_sums_is_covered(seed):
    """Sums of a dense layer in random orders, with numbers that cancel, stay within what is allowed."""
    rng = np.random.default_rng(seed)
    n = 64
    weight = (rng.normal(size=(2, n)) * 10.0 ** rng.integers(-3, 4, n)).astype(np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(n, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(weight))
        net[1].bias.zero_()
    x = rng.random((1, 8, 8)).astype(np.float32)
    network = listing_of(sp.Classifier(net), (1, 8, 8)).network
    region = Region.around(x, 0.0, "linf", None)
    low, high = margin_of(network, region, 0, Hints(), FLOAT32), -margin_of(network, region, 1, Hints(), FLOAT32)
    for _ in range(200):
        sums = []
        for row in weight:
            order, total = rng.permutation(n), np.float32(0)
            for k in order:
                total = np.float32(total + np.float32(row[k] * x.ravel()[k]))
            sums.append(float(total))
        assert low <= sums[0] - sums[1] <= high


def test_a_margin_of_zero_is_no_proof():
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.zero_()
    network = listing_of(sp.Classifier(net), (1, 1, 1)).network
    for eps in (0.0, 0.1):
        region = Region.around(np.full((1, 1, 1), 0.5, np.float32), eps, "linf", (0.0, 1.0))
        assert not prove(network, region, 0, Hints()).holds
