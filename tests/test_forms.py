"""The fastest form of a frozen module answers as the module does, whatever the module does with its layers."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import saddlepoint as sp
from saddlepoint import random
from saddlepoint.classifier import Arithmetic
from saddlepoint.testing import toys

SHAPE = (3, 8, 6)


def trained(module):
    """Give every batch norm statistics as after training, far from the identity."""
    for index, part in enumerate(module.modules()):
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            shape, keys = (part.num_features,), torch.tensor([random.key(0, "norm", index)])
            part.running_mean.copy_(random.normal(keys, 0, shape)[0])
            part.running_var.copy_(random.uniform(keys, 1, shape)[0] * 3 + 0.1)
            if part.affine:
                part.weight.data.copy_(random.normal(keys, 2, shape)[0])
                part.bias.data.copy_(random.normal(keys, 3, shape)[0])
    return module


class Net(nn.Module):
    """A body that a case writes, between pixels and logits."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.head = nn.Linear(8, 4)

    def body(self, x):
        return self.norm(self.conv(x))

    def forward(self, x):
        return self.head(self.body(x).relu().flatten(2).mean(2))


def conv(**options):
    return nn.Conv2d(3, 8, 3, **options)


class Twice(Net):
    def body(self, x):
        return self.norm(self.conv(x)) + self.conv(x.flip(1))


class Skip(Net):
    def body(self, x):
        return self.norm(inner := self.conv(x)) + inner


class SharedNorm(Net):
    def body(self, x):
        return self.norm(self.conv(x)) + self.norm(self.other(x))


class InPlace(Net):
    def body(self, x):
        return self.norm(self.conv(x).mul_(2))


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Hidden(Net):
    """What is between convolution and norm is read by a function that torch does not announce."""

    def body(self, x):
        inner = self.conv(x)
        return self.norm(inner) + Double.apply(inner)


class Views(Net):
    """A forward that needs contiguous activations."""

    def body(self, x):
        inner = self.conv(x)
        return self.norm(inner.view(len(x), -1).view(inner.shape))


class Insists(Net):
    def body(self, x):
        inner = self.norm(self.conv(x))
        assert inner.is_contiguous()
        return inner


class Flat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(-1).view(gradient.shape)


class ViewsBackward(Net):
    """A backward that needs contiguous gradients."""

    def body(self, x):
        return self.last(Flat.apply(self.norm(self.conv(x))))


class Recomputed(Net):
    def body(self, x):
        return checkpoint(super().body, x, use_reentrant=False)


class Sequence(Net):
    def body(self, x):
        return self.norm(self.conv(x.flatten(2)))


class Typed(Net):
    """Casts its input to the type of a weight, as many transformers do."""

    def body(self, x):
        assert self.conv.weight.dtype == torch.float32
        return self.norm(self.conv(x.to(self.conv.weight.dtype)))


class Refuses(Net):
    """Computes a part in float32, whatever its caller wants."""

    def body(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.norm(self.conv(x.float()))


def norm(**options):
    return nn.BatchNorm2d(8, **options)


def parametrised():
    return nn.utils.parametrizations.weight_norm(conv())


ABSORBED = {
    "without a bias": lambda: Net(conv=conv(bias=False), norm=norm()),
    "with a bias": lambda: Net(conv=conv(), norm=norm(eps=0.5)),
    "without an affine part": lambda: Net(conv=conv(), norm=norm(affine=False)),
    "grouped": lambda: Net(conv=nn.Conv2d(3, 8, 1), norm=nn.Sequential(norm(), nn.Conv2d(8, 8, 3, groups=4), norm())),
    "padded by reflection": lambda: Net(conv=conv(padding=2, padding_mode="reflect"), norm=norm()),
    "in one dimension": lambda: Sequence(conv=nn.Conv1d(3, 8, 5), norm=nn.BatchNorm1d(8)),
    "of typed pixels": lambda: Typed(conv=conv(), norm=norm()),
}
KEPT = {
    "of a convolution called twice": lambda: Twice(conv=conv(), norm=norm()),
    "beside a skip": lambda: Skip(conv=conv(), norm=norm()),
    "shared by two convolutions": lambda: SharedNorm(conv=conv(), other=conv(), norm=norm()),
    "after a change in place": lambda: InPlace(conv=conv(), norm=norm()),
    "beside a hidden reader": lambda: Hidden(conv=conv(), norm=norm()),
    "of the batch's own statistics": lambda: Net(conv=conv(), norm=norm(track_running_stats=False)),
    "of a weight that is computed": lambda: Net(conv=parametrised(), norm=norm()),
    "where views need a layout": lambda: Views(conv=conv(), norm=norm()),
    "where a backward needs a layout": lambda: ViewsBackward(conv=conv(), norm=norm(), last=nn.Conv2d(8, 8, 3)),
    "where an assertion needs a layout": lambda: Insists(conv=conv(), norm=norm()),
    "recomputed in the backward": lambda: Recomputed(conv=conv(), norm=norm()),
}


class Norms(TorchFunctionMode):
    """Counts batch norms."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function is functional.batch_norm
        return function(*args, **(kwargs or {}))


def respond(model, x, *options):
    x = x.clone().requires_grad_()
    with Norms() as norms:
        logits = model(x, *options)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), x)[0], norms.count


@pytest.mark.parametrize("name", [*ABSORBED, *KEPT])
def test_the_fastest_form_answers_as_the_module_does(name):
    torch.manual_seed(0)
    classifier = sp.Classifier(trained((ABSORBED | KEPT)[name]()), mean=0.5, std=0.25)
    x = toys.pixels(3, SHAPE)
    expected, slope, _ = respond(classifier.eval(), x)
    with classifier.frozen() as model:
        model.logits(x)
        logits, gradient, norms = respond(model.logits, x)
        low, rough, _ = respond(model.logits, x, Arithmetic("bf16"))
        assert torch.equal(model.decide(x), expected)
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(gradient, slope, rtol=1e-3, atol=1e-5)
    assert 0 < (low - expected).norm() < 0.05 * expected.norm()
    assert (rough - slope).norm() < 0.3 * slope.norm()
    assert (norms == 0) == (name in ABSORBED)


class Branches(Net):
    def body(self, x):
        return self.conv(x) if x.amin() > 1.9 else self.norm(self.conv(x))


class Reads(Net):
    def body(self, x):
        inner = self.conv(x)
        after = self.norm(inner)
        return after if x.amin() < 1.9 else after + 3 * inner


class Writes(Net):
    def body(self, x):
        inner = self.conv(x)
        if x.amin() > 1.9:
            inner[:, 0] = 1
        return self.norm(inner)


class Nests(Net):
    def body(self, x):
        inner = self.conv(x)
        after = self.norm(inner)
        return after if x.amin() < 1.9 else torch.cat([after[:, :4], inner[:, 4:]], 1)


@pytest.mark.parametrize("kind", [Branches, Reads, Writes, Nests])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_path_on_which_a_norm_cannot_be_absorbed_is_noticed(precision, kind):
    classifier = sp.Classifier(trained(kind(conv=conv(), norm=norm())), mean=0.5, std=0.25)
    dark, white = toys.pixels(2, SHAPE), torch.ones(2, *SHAPE)
    with classifier.frozen() as model:
        for x in (dark, white, dark):
            assert torch.allclose(
                model.logits(x, Arithmetic(precision)), model.decide(x), atol=1e-5 if precision == "fp32" else 0.1
            )


def test_compiled_modules_are_left_alone():
    classifier = sp.Classifier(torch.compile(trained(Net(conv=conv(), norm=norm())), backend="eager"))
    x = toys.pixels(2, SHAPE)
    with classifier.frozen() as model:
        assert torch.equal(model.logits(x), model.decide(x))


def test_weights_are_read_when_they_are_frozen_not_before():
    classifier = sp.Classifier(trained(Net(conv=conv(), norm=norm())))
    x = toys.pixels(2, SHAPE)
    for _ in range(2):
        with classifier.frozen() as model:
            assert torch.allclose(model.logits(x), model.decide(x), rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            classifier.module.conv.weight.mul_(2)
