"""Hints prove what the search claimed, in an audit that shares nothing with it; without hints nothing is proven."""

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.errors import InputError, ModelError
from saddlepoint.losses import margin


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
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Hardtanh(), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 3)
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
def test_evidence_proves_what_the_search_claims(name, ball, method):
    classifier, x, y = case(name)
    proof, again = (sp.certify(classifier, x, y, ball, method=method, evidence=kept) for kept in (True, False))
    assert torch.allclose(proof.lower_bound, again.lower_bound, atol=1e-6)  # keeping it changes nothing
    assert proof.evidence is not None
    certified = [verdict == "certified" for verdict in proof.verdict]
    assert [hints is not None for hints in proof.evidence] == certified
    proven = sp.check_evidence(classifier, x, y, ball, proof.evidence)
    for bound, claimed, held in zip(proven.tolist(), proof.lower_bound.tolist(), certified, strict=True):
        assert (bound > max(0.0, claimed - 2e-2)) if held else bound == -torch.inf


@pytest.mark.parametrize("method", ["lp", "milp", "complete"])
def test_what_leaves_no_hints_has_none_that_are_wrong(method):
    classifier, x, y = case("dense")
    proof = sp.certify(classifier, x, y, sp.Linf(0.15), method=method, evidence=True)
    assert proof.evidence is not None
    proven = sp.check_evidence(classifier, x, y, sp.Linf(0.15), proof.evidence)
    assert [hints is not None for hints in proof.evidence] == (proven > 0).tolist()


def test_evidence_of_a_smaller_ball_or_of_other_weights_proves_less():
    classifier, x, y = case("residual")
    proof = sp.certify(classifier, x, y, sp.Linf(0.03), method="crown", evidence=True)
    assert proof.evidence is not None
    held = torch.tensor([hints is not None for hints in proof.evidence])
    same = sp.check_evidence(classifier, x, y, sp.Linf(0.03), proof.evidence)
    assert held.any()
    assert (sp.check_evidence(classifier, x, y, sp.Linf(0.06), proof.evidence)[held] < same[held]).all()
    other, _, _ = case("residual", seed=1)
    bound = sp.check_evidence(other, x, y, sp.Linf(0.03), proof.evidence)
    assert (bound <= margin(other.predict(x).logits, y) + 1e-5).all()


def test_what_cannot_be_audited_is_one_line():
    classifier, x, y = case("dense")
    with pytest.raises(InputError, match="that of each of 3"):
        sp.check_evidence(classifier, x, y, sp.Linf(0.1), [])
    smooth = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Sigmoid(), nn.Linear(4, 3)))
    with pytest.raises(ModelError, match="is not known to the audit"):
        sp.certify(smooth, x, y, sp.Linf(0.001), evidence=True)


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
