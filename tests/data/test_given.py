"""Data at hand in Python: each form holds the same examples, and what cannot be used is one line."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

import saddlepoint as sp
from saddlepoint.data.datasets import as_dataset
from saddlepoint.errors import InputError

torch.manual_seed(0)
X, Y = torch.rand(6, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])


class Items(torch.utils.data.Dataset):
    def __init__(self, item=lambda place: (X[place], int(Y[place]))):
        self.item = item

    def __len__(self):
        return 6

    def __getitem__(self, place):
        return self.item(place)


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


FORMS = {
    "dataset": lambda: sp.Dataset.from_tensors(X, Y),
    "pair": lambda: (X, Y),
    "list": lambda: [X, Y[:, None]],
    "arrays": lambda: (X.numpy(), Y.numpy().astype(np.uint8)),
    "double": lambda: (X.double(), Y.int()),
    "TensorDataset": lambda: TensorDataset(X, Y),
    "items": Items,
    "tensor labels": lambda: Items(lambda place: (X[place].numpy(), Y[place])),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
    "shuffled loader": lambda: DataLoader(Items(), batch_size=4, shuffle=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_examples(form):
    data = as_dataset(FORMS[form]())
    samples = [data.read(place) for place in range(len(data))]
    torch.testing.assert_close(torch.stack([each.x for each in samples]), X)
    assert [each.y for each in samples] == Y.tolist()
    assert "6 images" in repr(data)
    assert len(repr(data).splitlines()) == 1


def test_levels_photographs_and_subsets_are_read():
    levels = (255 * X).round().to(torch.uint8)
    assert torch.equal(as_dataset((levels, Y)).read(1).x, levels[1] / 255)
    photos = Items(lambda place: (Image.fromarray(levels[place].permute(1, 2, 0).numpy()), int(Y[place])))
    assert as_dataset(photos).photos
    assert [as_dataset(Subset(Items(), [4, 1])).read(place).y for place in (0, 1)] == [1, 1]
    named = sp.Dataset.from_tensors(X, Y, ids=[f"scan {n}" for n in range(6)], classes=["a", "b", "c"])
    assert named.read(2).id == "scan 2"
    assert named.classes == {0: "a", 1: "b", 2: "c"}


def test_an_evaluation_takes_them(tmp_path):
    torch.manual_seed(1)
    classifier = sp.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)))
    how = {"certify": "interval", "checks": False, "suite": sp.PGD(steps=3)}
    found = [sp.evaluate(classifier, FORMS[form](), sp.Linf(0.01), **how) for form in ("pair", "shuffled loader")]
    assert found[0].robust_accuracy.counts == found[1].robust_accuracy.counts
    sp.evaluate(classifier, (X, Y), sp.Linf(0.01), out=tmp_path / "run", **how)
    sp.evaluate(classifier, DataLoader(TensorDataset(X, Y)), sp.Linf(0.01), out=tmp_path / "run", **how)
    with pytest.raises(sp.InputError, match="data"):
        sp.evaluate(classifier, (X.flip(0), Y.flip(0)), sp.Linf(0.01), out=tmp_path / "run", **how)


WRONG = {
    "a stream": (Stream, "has no places to read from"),
    "a number": (lambda: 3, "is a int"),
    "no channel": (lambda: (X[:, 0], Y), "adds the channel"),
    "channels last": (lambda: (X.permute(0, 2, 3, 1), Y), r"x\.permute\(0, 3, 1, 2\)"),
    "normalised": (lambda: (X * 4 - 2, Y), "leave out transforms.Normalize"),
    "levels as numbers": (lambda: (X * 255, Y), "divide levels by 255"),
    "NaN": (lambda: (X * torch.nan, Y), "pixels from nan"),
    "integers": (lambda: ((X * 255).long(), Y), "expected uint8"),
    "soft labels": (lambda: (X, torch.rand(6, 3)), "a whole number for each"),
    "fewer labels": (lambda: (X, Y[:4]), "x holds 6 images"),
    "nothing": (lambda: (X[:0], Y[:0]), "x holds 0 images|pixels"),
    "ids twice": (lambda: sp.Dataset.from_tensors(X, Y, ids=["a"] * 6), "two examples"),
    "few ids": (lambda: sp.Dataset.from_tensors(X, Y, ids=["a"]), "1 names for 6"),
    "no label": (lambda: Items(lambda place: X[place]), "expected an image and its label"),
    "a word": (lambda: Items(lambda place: (X[place], "cat")), "a label of the Items is 'cat'"),
    "a broken file": (lambda: Items(lambda place: [][place]), "item 0 of the Items cannot be read: IndexError"),
    "random images": (lambda: Items(lambda place: (torch.rand(3, 4, 4), 0)), "another image at each reading"),
    "a sampler": (
        lambda: DataLoader(Items(), sampler=WeightedRandomSampler([1.0] * 6, 6)),
        "draws by WeightedRandomSampler",
    ),
}


@pytest.mark.parametrize("form", WRONG)
def test_what_cannot_be_used_is_one_line(form):
    make, said = WRONG[form]
    with pytest.raises(InputError, match=said) as caught:
        as_dataset(make())
    assert "\n" not in str(caught.value)
