"""Evidence proves what the search claimed, checked without it; what was tampered with proves nothing."""

from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.errors import CertificateError, InputError


class Block(nn.Module):
    """Two paths that meet."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.two = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        """Return the sum."""
        return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))


NETS = {
    "dense": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
    ),
    "residual": lambda: nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), Block(), nn.Flatten(), nn.Linear(12, 3)),
    "pool": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.GELU(), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 3)
    ),
}


def case(name: str, seed: int = 0) -> tuple[sp.Classifier, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    net = NETS[name]().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    classifier, x = sp.Classifier(net), torch.rand(3, 1, 6, 6)
    return classifier, x, classifier.predict(x).label


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    "ball",
    [sp.Linf(0.06), pytest.param(sp.L2(0.4), marks=pytest.mark.slow), pytest.param(sp.L1(1.0), marks=pytest.mark.slow)],
    ids=lambda b: b.name,
)
@pytest.mark.parametrize("method", ["interval", "crown-ibp", "crown", "alpha-crown"])
def test_evidence_proves_what_the_search_claims(name, ball, method, tmp_path):
    classifier, x, y = case(name)
    found = sp.certify(classifier, x, y, ball, method=method, evidence=True)
    again = sp.certify(classifier, x, y, ball, method=method)
    assert torch.allclose(found.lower_bound, again.lower_bound, atol=1e-6)  # keeping it changes nothing
    for i, each in enumerate(found.evidence):
        each.save(tmp_path / f"{i}.safetensors")
    loaded = [sp.Evidence.load(tmp_path / f"{i}.safetensors") for i in range(len(x))]
    proven = sp.check_evidence(classifier, x, y, ball, loaded)
    assert (proven >= found.lower_bound).all()
    assert method == "interval" or torch.allclose(proven, found.lower_bound, atol=2e-3)  # lines may do better


def test_the_duals_of_a_linear_program_are_evidence():
    classifier, x, y = case("dense")
    found = sp.certify(classifier, x, y, sp.Linf(0.3), method="lp", evidence=True)
    assert any(each.duals for each in found.evidence)
    assert torch.allclose(
        sp.check_evidence(classifier, x, y, sp.Linf(0.3), found.evidence), found.lower_bound, atol=1e-6
    )
    without = [replace(each, duals={}) for each in found.evidence]
    weaker = sp.check_evidence(classifier, x, y, sp.Linf(0.3), without)
    assert (weaker < found.lower_bound - 1e-3).any()


def altered(evidence: sp.Evidence, name: str, change) -> sp.Evidence:
    last = evidence.passes[-1]
    tensors = dict(getattr(last, name))
    tensors[max(tensors)] = change(tensors[max(tensors)])
    return replace(evidence, passes=(*evidence.passes[:-1], replace(last, **{name: MappingProxyType(tensors)})))


@pytest.mark.parametrize("name", ["lower", "upper"])
def test_a_tightened_bound_does_not_follow(name):
    classifier, x, y = case("residual")
    found = sp.certify(classifier, x, y, sp.Linf(0.06), method="alpha-crown", evidence=True)
    sign = 1 if name == "lower" else -1
    forged = [altered(each, name, lambda bound: bound + sign) for each in found.evidence]
    with pytest.raises(CertificateError, match="do not follow"):
        sp.check_evidence(classifier, x, y, sp.Linf(0.06), forged)


@pytest.mark.parametrize("forged", [torch.nan, 1.5, -0.1])
def test_slopes_that_are_not_allowed_are_refused(forged):
    classifier, x, y = case("dense")
    found = sp.certify(classifier, x, y, sp.Linf(0.2), method="alpha-crown", evidence=True)
    some = [each for each in found.evidence if each.slopes]
    assert some
    wrong = [
        replace(each, slopes={i: torch.full_like(s, forged) for i, s in each.slopes.items()}) for each in found.evidence
    ]
    with pytest.raises(CertificateError, match="are not allowed"):
        sp.check_evidence(classifier, x, y, sp.Linf(0.2), wrong)


def test_evidence_of_a_smaller_ball_or_of_other_weights_proves_nothing():
    classifier, x, y = case("residual")
    found = sp.certify(classifier, x, y, sp.Linf(0.03), method="crown", evidence=True)
    with pytest.raises(CertificateError):
        sp.check_evidence(classifier, x, y, sp.Linf(0.06), found.evidence)
    other, _, _ = case("residual", seed=1)
    with pytest.raises(CertificateError):
        sp.check_evidence(other, x, y, sp.Linf(0.03), found.evidence)


def test_what_is_no_evidence_is_one_line(tmp_path):
    classifier, x, y = case("dense")
    with pytest.raises(InputError, match="no evidence of 'milp'"):
        sp.certify(classifier, x, y, sp.Linf(0.1), method="milp", evidence=True)
    (tmp_path / "torn").write_bytes(b"{}")
    with pytest.raises(InputError, match="cannot be read"):
        sp.Evidence.load(tmp_path / "torn")
    with pytest.raises(InputError, match="that of each of 3"):
        sp.check_evidence(classifier, x, y, sp.Linf(0.1), [])


@pytest.mark.parametrize("method", ["alpha-crown", "milp"])
def test_a_bound_at_a_deadline_still_holds(method):
    classifier, x, y = case("dense")
    ball = sp.Linf(0.15)
    hurried, whole = (sp.certify(classifier, x, y, ball, method=method, timeout=s) for s in (1e-9, None))
    found = sp.attack(classifier, x, y, ball, sp.APGD(loss="margin"), stop="never")
    for bounds in (hurried, whole):
        assert (bounds.lower_bound <= found.margin + 1e-6).all()
    assert {verdict for verdict in hurried.verdict if verdict == "certified"} <= set(whole.verdict)
    with pytest.raises(InputError, match="expected seconds"):
        sp.certify(classifier, x, y, ball, method=method, timeout=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda last: {"neurons": {i: rows + 10**6 for i, rows in last.neurons.items()}},
        lambda last: {"lower": {i: side[..., :1] for i, side in last.lower.items()}},
        lambda last: {"upper": {}},
        lambda last: {"lower": {i: torch.full_like(side, torch.nan) for i, side in last.lower.items()}},
        lambda last: {"slopes": {i: {j: s[:1] for j, s in own.items()} for i, own in last.slopes.items()}},
        lambda last: {"slopes": {}},
    ],
    ids=["places", "shapes", "missing", "nan", "few", "none"],
)
def test_malformed_evidence_proves_nothing_more(change):
    classifier, x, y = case("residual")
    ball = sp.Linf(0.06)
    found = sp.certify(classifier, x, y, ball, method="alpha-crown", evidence=True)
    exact = [
        replace(each, passes=(each.passes[0], replace(each.passes[1], **change(each.passes[1]))))
        for each in found.evidence
    ]
    for i, each in enumerate(exact):
        try:
            bound = sp.check_evidence(classifier, x[i : i + 1], y[i : i + 1], ball, [each])
        except CertificateError:
            continue
        assert bound <= found.lower_bound[i] + 1e-3
