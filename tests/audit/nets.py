"""Networks of unusual shapes, for the audit's laws."""

import torch
from torch import nn

import saddlepoint as sp


class Residual(nn.Module):
    """Strides, groups, a batch norm, a leaky ReLU, pools with padding, a sum of two paths."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 4, 3, 1, 1, groups=2)
        self.most, self.mean, self.last = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.Linear(4, 5)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x):
        """Return logits."""
        h = self.norm(self.one(x)).relu()
        h = nn.functional.leaky_relu(h + self.two(h), 0.1)
        return self.last(self.mean(self.most(h)).flatten(1))


class Odd(nn.Module):
    """A transposed convolution, a dilated one, clamps, slices, a flip, a mean, and constants of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1)
        self.wide, self.last = nn.Conv2d(4, 6, 3, dilation=2), nn.Linear(6, 4)

    def forward(self, x):
        """Return logits."""
        h = self.up((x - 0.3) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]).clamp(-1, 1)
        h = self.wide(torch.cat([h[:, :2], h[:, 2:].flip(3)], 1)).relu()
        return self.last(h.mean((2, 3))) * 2 - 1


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


NETS = {"residual": Residual, "odd": Odd, "dense": dense}
SHAPE = (3, 8, 8)


def case(name: str, seed: int = 0, examples: int = 3) -> tuple[sp.Classifier, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    classifier, x = sp.Classifier(NETS[name]().eval()), torch.rand(examples, *SHAPE)
    return classifier, x, classifier.predict(x).label
