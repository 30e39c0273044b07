"""Networks that were once certified, falsely; of each the whole kind is right, refused, or left open.

With v the mean of a constant image x: what is certified holds at every constant image of the set, for one row and
for several.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

import saddlepoint as sp
from saddlepoint.certificates import graphs_of

METHODS = ("interval", "crown", "alpha-crown", "milp")


class Net(nn.Module):
    """Logits side by side, each a function of the images and their means."""

    def __init__(self, logits, **buffers):
        super().__init__()
        self.logits = logits
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x):
        v = x.flatten(1).mean(1, keepdim=True)
        return torch.cat(self.logits(self, x, v), 1)


def holds(module, x, eps, method):
    """Certify class 0 around a constant image; what is certified must hold at constant images, alone and together."""
    image = torch.full((1, 1, 2, 2), x)
    proof = sp.certify(sp.Classifier(module.eval()), image, torch.tensor([0]), sp.Linf(eps), method=method)
    if proof.verdict[0] is sp.Verdict.CERTIFIED:
        steps = torch.linspace(-eps, eps, 41).reshape(-1, 1, 1, 1)
        points = sp.Linf(eps).at(image.expand(41, -1, -1, -1)).project(steps.expand(-1, 1, 2, 2)) + image
        for batch in (points, *points.split(1)):
            logits = module(batch)
            assert (logits[:, 0] > logits[:, 1:].amax(1)).all()
    return proof.verdict[0].value


SETTINGS = {
    "elu": lambda s, x, v: [functional.elu(0.8 - v, 20.0), 0 * v - 2.5],
    "softplus-beta": lambda s, x, v: [functional.softplus(v - 0.8, beta=20) - 1, 0 * v - 0.95],
    "softplus-threshold": lambda s, x, v: [-functional.softplus(v * 4, threshold=1), 0 * v - 4.01],
    "gelu": lambda s, x, v: [functional.gelu(v - 1.5, approximate="tanh") + 0.2, 0 * v],
    "half-mean": lambda s, x, v: [v.mean(1, keepdim=True, dtype=torch.float16) + torch.zeros(1), 0 * v + 0.8994],
    "half-sum": lambda s, x, v: [v.sum(1, keepdim=True, dtype=torch.bfloat16) + torch.zeros(1), 0 * v + 0.8994],
    "integer": lambda s, x, v: [v.sum(1, keepdim=True, dtype=torch.int64) + torch.zeros(1), 0 * v + 0.5, 0 * v - 1e3],
    "cast": lambda s, x, v: [v.half().float(), 0 * v + 0.8994],
    "double": lambda s, x, v: [v.double().float(), 0 * v],
    "in-place": lambda s, x, v: [torch.zeros_like(v, dtype=torch.float16).add_(v) + torch.zeros(1), 0 * v + 0.8994],
    "like": lambda s, x, v: [v.type_as(s.narrow) + torch.zeros(1), 0 * v + 0.8994],
    "floor": lambda s, x, v: [torch.div(v, 0.3, rounding_mode="floor"), 0 * v],
    "batch": lambda s, x, v: [v.flip(0), 0 * v],
    "rows": lambda s, x, v: [v * x.shape[0], 0 * v],
    "one row": lambda s, x, v: [-v, 0 * v] if x.shape[0] == 1 else [v, 0 * v],
    "two rows": lambda s, x, v: [-v, 0 * v] if x.shape[0] == 2 else [v, 0 * v],
    "many rows": lambda s, x, v: [-v, 0 * v] if x.shape[0] > 20 else [v, 0 * v],
    "random": lambda s, x, v: [v + 1e-6 * torch.randn(1), 0 * v],
    "exporting": lambda s, x, v: [v - (0 if torch.compiler.is_exporting() else 1e-4), 0 * v, 0 * v - 1e3],
    "divisor": lambda s, x, v: [functional.avg_pool2d(x, 2, divisor_override=-4).flatten(1), 0 * v - 2],
    "indices": lambda s, x, v: [functional.max_pool2d(x, 2, return_indices=True)[1].flatten(1) + v, 0 * v],
    "writes": lambda s, x, v: [v + s.calls.add_(1), 0 * v],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_graph_cannot_say_is_refused_in_one_line(name):
    module = Net(SETTINGS[name], narrow=torch.zeros(1).half(), calls=torch.zeros(1))
    with pytest.raises(sp.ModelError) as caught:
        graphs_of(sp.Classifier(module), (1, 2, 2))
    assert "\n" not in str(caught.value)


class Counting(nn.Module):
    """Another function at every second call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        v = x.flatten(1).mean(1, keepdim=True)
        return torch.cat([v if self.calls % 2 else v * -1, 0 * v], 1)


def test_a_module_that_counts_its_calls_is_refused():
    with pytest.raises(sp.ModelError, match="nor count its calls"):
        graphs_of(sp.Classifier(Counting()), (1, 2, 2))


TINY = {
    "coefficients": lambda s, x, v: [
        0 * v - 1,
        100 * torch.relu(1e9 * torch.relu(1e-9 * torch.relu(v - 0.85)) - 1e-3) - 2,
    ],
    "underflow": lambda s, x, v: [0 * v + 1, 20 * _times(_times(v, 1e-15, 3), 1e15, 3)],
    "cancellation": lambda s, x, v: [(v / 1000 + 2.0**24) - 2.0**24, 0 * v - 1e-4],
    "same coordinates": lambda s, x, v: [_halved(torch.cat([x.flatten(1)] * 1024, 1) * s.weight), 0 * v],
    "same index": lambda s, x, v: [_halved(x.flatten(1).index_select(1, torch.zeros(4096).long()) * s.weight), 0 * v],
}  # fmt: skip


def _times(z, factor, count):
    for _ in range(count):
        z = torch.relu(z * factor)
    return z


def _halved(z):
    while z.shape[1] > 1:
        z = z[:, : z.shape[1] // 2] + z[:, z.shape[1] // 2 :]
    return z


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("method", METHODS)
def test_no_rounding_makes_a_false_certificate(name, method):
    """The last two sum to 2048 (1 − 1 − 1.2e-8) v < 0."""
    weight = torch.cat([torch.ones(2048), torch.full((2048,), -1 - 2.0**-23)])
    module = Net(TINY[name], weight=weight)
    outcome = holds(module, 0.855, 0.1451 if name == "coefficients" else 0.01, method)
    assert (outcome == "certified") == (name == "cancellation")  # in real arithmetic, and the module agrees


def test_what_computes_nothing_is_no_obstacle():
    harmless = {
        "float": lambda s, x, v: [v.float(), 0 * v],
        "to": lambda s, x, v: [v.to(torch.float32).to(v.device).contiguous(), 0 * v.clone()],
        "constant": lambda s, x, v: [v, 0 * v, torch.full((1, 1), -5.0).expand(x.shape[0], 1)],
        "zeros": lambda s, x, v: [v, torch.zeros(x.shape[0], 1)],
        "keywords": lambda s, x, v: [torch.clamp(input=v, max=0.95, min=0.5), 0 * v],
        "reflect": lambda s, x, v: [functional.pad(x, (1, 1, 1, 0), mode="reflect").flatten(1), 0 * v],
    }
    for name, logits in harmless.items():
        assert holds(Net(logits), 0.9, 0.05, "crown") == ("unknown" if name == "reflect" else "certified"), name


def test_radii_of_another_number_than_images_are_one_line():
    with pytest.raises(sp.InputError, match="eps holds 2 radii for 1 examples"):
        sp.certify(
            sp.Classifier(nn.Flatten()), torch.rand(1, 1, 1, 2), torch.tensor([0]), sp.Linf(torch.tensor([0.1, 0.2]))
        )


class Liar(nn.Module):
    """Another function than its graph, in a corner of the set alone."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, x):
        v = x.flatten(1).mean(1, keepdim=True)
        if not torch.compiler.is_exporting():
            v = v - 2 * ((x - 0.9 - 0.05 * self.sign).abs() < 1e-3).flatten(1).all(1, keepdim=True)
        return torch.cat([v, 0 * v], 1)


@pytest.mark.parametrize("read", [float, bool, torch.Tensor.item, lambda o: torch.equal(o, o * 2)])
def test_a_module_that_may_branch_on_what_it_computes_is_refused(read):
    """In the module, not in its graph: it asks whether it is exported, and looks at the darkest of all pixels."""

    class Reading(nn.Module):
        def forward(self, x):
            v = x.flatten(1).mean(1, keepdim=True)
            if not torch.compiler.is_exporting() and read(v.min() - 2) is None:
                v = v - 1.5
            return torch.cat([v, 0 * v], 1)

    with pytest.raises(sp.ModelError, match="so that it may branch on them"):
        graphs_of(sp.Classifier(Reading()), (1, 2, 2))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("method", METHODS)
def test_a_certificate_is_challenged_before_it_is_given(sign, method):
    image = torch.full((1, 1, 2, 2), 0.9)
    with pytest.raises(sp.ModelError, match="the module's logit of class 0 is -1"):
        sp.certify(sp.Classifier(Liar(sign)), image, torch.tensor([0]), sp.Linf(0.05), method=method)
