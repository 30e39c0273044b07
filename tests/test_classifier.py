"""The classifier: its contract, what freezing restores, and each finding in one line."""

import inspect
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import saddlepoint as sp
from saddlepoint.classifier import Arithmetic
from saddlepoint.testing import toys

# Without the type checks of the tests, as users run it.
attack = inspect.unwrap(sp.attack)


@pytest.fixture
def classifier():
    return toys.convolutional()


def test_normalisation_is_inside():
    module = nn.Flatten()
    classifier = sp.Classifier(module, mean=[0.5, 0.25], std=[0.5, 0.125])
    x = torch.rand(3, 2, 1, 1)
    expected = (x[:, :, 0, 0] - torch.tensor([0.5, 0.25])) / torch.tensor([0.5, 0.125])
    assert torch.equal(classifier(x), expected)


def test_prediction(classifier):
    classifier.names = ("ant", "bee", "cat", "dog")
    x = toys.pixels(70, (3, 6, 5))
    prediction = classifier.predict(x)
    logits = classifier.eval()(x).detach()
    assert torch.equal(prediction.label, logits.argmax(1))
    assert torch.allclose(prediction.probability, logits.softmax(1).amax(1))
    assert prediction.name == [classifier.names[label] for label in prediction.label.tolist()]


def test_names_and_indices_are_found(classifier):
    classifier.names = ("Siamese_cat", "bee", "crane", "crane")
    assert classifier.label_of("siamese cat") == 0
    assert classifier.label_of("1") == classifier.label_of(1) == 1
    for text, message in {
        "crane": "ambiguous; expected one of the indices 2, 3",
        "bea": "did you mean 'bee'",
        "7": "class 7 does not exist; convolutional has classes 0 to 3",
    }.items():
        with pytest.raises(sp.InputError, match=message):
            classifier.label_of(text)


def _trace(classifier):
    module = classifier.module
    return (
        [(p.requires_grad, p.stride(), p.dtype, p.data_ptr()) for p in module.parameters()],
        [part.training for part in module.modules()],
        [value.clone().tolist() for value in module.state_dict().values()],
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_freezing_restores_everything_even_after_an_error(classifier, precision):
    classifier.module.train()
    classifier.module[1].eval()
    classifier.module[0].weight.requires_grad_(False)
    before = _trace(classifier)

    def careless():
        with classifier.frozen() as model:
            model.logits(toys.pixels(2, (3, 6, 5)), Arithmetic(precision))
            model.decide(toys.pixels(2, (3, 6, 5)))
            torch.rand(3), np.random.rand(3), random.random()
            model.logits(toys.pixels(2, (3, 6, 5)), Arithmetic(precision))
            assert not any(p.requires_grad for p in classifier.module.parameters())
            assert not any(part.training for part in classifier.module.modules())
            raise KeyError("on the way")

    with pytest.raises(KeyError):
        careless()
    assert _trace(classifier) == before


def test_the_decision_is_that_of_the_untouched_model(classifier):
    x = toys.pixels(4, (3, 6, 5))
    expected = classifier.eval()(x).detach()
    with classifier.frozen() as model:
        low = model.logits(x, Arithmetic("bf16"))
        assert torch.equal(model.decide(x), expected)
        exact = model.logits(x)
        assert torch.equal(model.decide(x), expected)
    assert low.dtype == exact.dtype == torch.float32
    assert torch.allclose(exact, expected, atol=1e-5)
    assert 0 < (low - expected).abs().max() < 0.1 * expected.abs().max()


def test_search_computes_no_weight_gradient(classifier):
    x = toys.pixels(2, (3, 6, 5)).requires_grad_()
    with classifier.frozen() as model:
        model.logits(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in classifier.module.parameters())


X = torch.full((2, 3, 6, 5), 0.5)
Y = torch.tensor([0, 1])
CASES = {
    "x is a list; expected a float32 tensor": lambda x, y: ([0.1], y),
    "x has dtype uint8; expected float32 pixels in .* pass x.float\\(\\) / 255": lambda x, y: ((x * 255).byte(), y),
    "x has dtype float64; expected float32: pass x.float": lambda x, y: (x.double(), y),
    "expected four dimensions \\(B, C, H, W\\): pass x\\[None\\]": lambda x, y: (x[0], y),
    "there is no example in it": lambda x, y: (x[:0], y[:0]),
    "x has NaN or infinite pixels": lambda x, y: (x.index_fill(0, torch.tensor([1]), float("nan")), y),
    "x has pixels from 0 to 255; expected \\[0, 1\\]: divide by 255": lambda x, y: (
        torch.cat([x * 0, x + 254.5]),
        y.repeat(2),
    ),
    "x has pixels from -2 to -1.5; .* let the classifier normalise": lambda x, y: (torch.cat([x - 2, x - 2.5]), y),
    "x has pixels from 0.5 to 1.00000012; .* pass x.clamp\\(0, 1\\)": lambda x, y: (
        torch.cat([x, torch.nextafter(x * 2, x * 4)]),
        y.repeat(2),
    ),
    "x has shape \\(2, 6, 5\\); .* pass x\\[:, None\\], for grey images": lambda x, y: (x[:, 0], y),
    "soft labels; expected the class of each example": lambda x, y: (x, torch.full((2, 4), 0.25)),
    "x has 1 channels; the classifier normalises 3": lambda x, y: (x[:, :1], y),
    "y is a list": lambda x, y: (x, [0, 1]),
    "y has dtype float32; expected int64 class indices: pass y.long": lambda x, y: (x, y.float()),
    "y has shape \\(3,\\); expected \\(2,\\)": lambda x, y: (x, torch.tensor([0, 1, 2])),
    "y has shape \\(2, 4\\); .* pass y.argmax": lambda x, y: (x, nn.functional.one_hot(y, 4)),
    "y contains 4; the model has 4 classes, 0 to 3": lambda x, y: (x, y + 3),
    "y contains -1; the model has 4 classes": lambda x, y: (x, y - 1),
}


@pytest.mark.parametrize("message", CASES)
def test_wrong_input_is_one_clear_line(classifier, message):
    x, y = CASES[message](X, Y)
    with pytest.raises(sp.InputError, match=message) as caught:
        attack(classifier, x, y, sp.Linf(0.1), sp.PGD(steps=1))
    assert "\n" not in str(caught.value)


def test_labels_in_a_column_are_labels(classifier):
    one, other = (attack(classifier, X, y, sp.Linf(0.1), sp.PGD(steps=1)) for y in (Y, Y[:, None]))
    assert torch.equal(one.x_adv, other.x_adv)


OPTIONS = {
    "attack is 'pgd'; expected an attack": {"attack": "pgd"},
    "attack is \\[\\]; expected an attack": {"attack": []},
    "ball is 0.1; expected sp.Linf": {"ball": 0.1},
    "batch_size is 0; expected a whole": {"batch_size": 0},
    "stop is 'soon'; expected 'fooled'": {"stop": "soon"},
    "stop is -1": {"stop": -1.0},
    "precision is 'fp8'; expected one of fp32, tf32, bf16": {"precision": "fp8"},
    "ids has 2 entries, 1 different; expected 2": {"ids": ["a", "a"]},
    "start has shape \\(1, 3, 6, 5\\)": {"start": X[:1]},
    "target contains 8": {"target": Y + 8},
    "budget is 0; expected a whole number of at least 3": {"budget": 0},
    "batch_size is 2.5; expected a whole number": {"batch_size": 2.5},
    "box is 'pixel'; expected two bounds": {"box": "pixel"},
    "box is .*; expected two bounds": {"box": (0.5,)},
    "eps holds 3 radii for 2 examples": {"ball": sp.Linf(torch.full((3,), 0.1))},
    "eps holds 1 radii for 2 examples": {"ball": sp.Linf(torch.full((1,), 0.1))},
    "start leaves Δ in row 1": {"start": torch.stack([X[0] * 0, X[0]])},
    "start leaves Δ in row 0": {"start": X * torch.nan},
    "start has shape .* and dtype torch.float64": {"start": X.double()},
    "target equals y in row 0": {"target": Y * 3},
    "seed is 'a'; expected a whole number": {"seed": "a"},
    "seed is 1.5; expected a whole number": {"seed": 1.5},
    "batch_size is True; expected a whole number": {"batch_size": True},
    "box is \\('a', 'b'\\); expected two bounds": {"box": ("a", "b")},
    "start is a list; expected a tensor": {"start": [0]},
    "ids is 5; expected 2 different integers": {"ids": 5},
    "ids holds 0.5; expected int or str": {"ids": [0.5, 1.5]},
}


@pytest.mark.parametrize("message", OPTIONS)
def test_wrong_options_are_one_clear_line(classifier, message):
    options = {"ball": sp.Linf(0.1), "attack": sp.PGD(steps=1), **OPTIONS[message]}
    with pytest.raises(sp.InputError, match=message):
        attack(classifier, X, Y, **options)


class Wrapped(nn.Module):
    def __init__(self, module, change):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, x):
        return self.change(self.module(x))


MODELS = {
    "the model returned a list": lambda z: [z],
    "the model returned a int64 tensor": lambda z: z.argmax(1),
    "the model returned shape \\(2, 4, 1\\) for 2 images; expected \\(2, K ≥ 2\\)": lambda z: z[:, :, None],
    "the model returned shape \\(2, 1\\)": lambda z: z[:, :1],
    "the logits of row 1 are not finite": lambda z: z.index_fill(0, torch.tensor([1]), torch.inf),
    "the model returns probabilities .* drop its last softmax": lambda z: z.softmax(1),
    "two forwards of the same images differ by .*: the model is stochastic": lambda z: z + torch.randn_like(z),
    "two forwards of the same images .* model is stochastic": lambda z: 1e-6 * (z + torch.randn_like(z)),
    "logits of an image change by .* mixes its batch": lambda z: z + z.cumsum(0),
    "change by .* with the other images of its batch": lambda z: z - z.mean(0),
}


@pytest.mark.parametrize("message", MODELS)
def test_a_model_that_breaks_the_contract_is_named(message):
    module = Wrapped(toys.convolutional().module, MODELS[message])
    x = toys.pixels(2, (3, 6, 5))
    with pytest.raises(sp.ModelError, match=message) as caught:
        attack(sp.Classifier(module), x, Y, sp.Linf(0.1), sp.PGD(steps=1))
    assert "\n" not in str(caught.value)


class Purified(nn.Module):
    """Moves its input a little first, by a gradient of its own."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return self.module(x - 0.01 * torch.autograd.grad(self.module(x).sum(), x)[0])


class Through(nn.Module):
    """Sends its pixels through something that torch cannot differentiate."""

    def __init__(self, module, change):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, x):
        return self.module(self.change(x))


UNDIFFERENTIABLE = {
    r"calls numpy\(\) on its pixels": lambda x: torch.from_numpy(x.numpy()),
    "use_reentrant=True": lambda x: checkpoint(torch.sin, x, use_reentrant=True),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("message", UNDIFFERENTIABLE)
def test_what_stops_a_gradient_is_named_in_one_line(message):
    classifier = sp.Classifier(Through(toys.convolutional().module, UNDIFFERENTIABLE[message]))
    with pytest.raises(sp.ModelError, match=message) as caught:
        attack(classifier, X, classifier.predict(X).label, sp.Linf(0.1), sp.PGD(steps=1))
    assert "\n" not in str(caught.value)


def test_a_batch_norm_without_running_statistics_is_said_to_mix_the_batch():
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(48, 10))
    with pytest.raises(sp.ModelError, match="mixes its batch; expected each image to be classified by itself"):
        attack(sp.Classifier(nn.Sequential(*layers)), toys.pixels(2, (3, 6, 5)), Y, sp.Linf(0.1), sp.PGD(steps=1))


def test_modules_without_weights_and_frozen_ones_are_named():
    with pytest.raises(sp.ModelError, match="on the meta device, which holds no weights"):
        sp.Classifier(nn.Linear(2, 2, device="meta"))
    with pytest.raises(sp.InputError, match="x is on the meta device"):
        attack(toys.convolutional(), X.to("meta"), Y, sp.Linf(0.1), sp.PGD(steps=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(toys.convolutional().module.eval()))
    with pytest.raises(sp.ModelError, match=r"frozen by torch\.jit\.freeze"):
        sp.Classifier(frozen).predict(X)


def test_units_of_255_are_refused():
    with pytest.raises(sp.InputError, match=r"in units of \[0, 255\]; expected units of \[0, 1\]: divide both by 255"):
        sp.Classifier(nn.Flatten(), mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    with pytest.raises(sp.InputError, match="did you mean 8/255"):
        attack(toys.convolutional(), X, Y, sp.Linf(8), sp.PGD(steps=1))


def test_a_defence_that_differentiates_for_itself_is_named():
    purified = sp.Classifier(Purified(toys.convolutional().module))
    with pytest.raises(sp.ModelError, match=r"detaches them; bridge what does so with sp\.BPDA"):
        attack(purified, X, Y, sp.Linf(0.1), sp.PGD(steps=1))


def test_any_whole_number_is_a_seed(classifier):
    y = classifier.predict(X).label
    found = [attack(classifier, X, y, sp.Linf(1e-3), sp.Square(queries=3), seed=seed) for seed in (2**70, -1)]
    assert not torch.equal(found[0].x_adv, found[1].x_adv)


def test_a_bare_module_is_refused_with_the_way_to_wrap_it(classifier):
    with pytest.raises(sp.InputError, match="classifier is a Sequential; expected sp.Classifier"):
        attack(classifier.module, X, Y, sp.Linf(0.1), sp.PGD(steps=1))
    with pytest.raises(sp.InputError, match="module is a int; expected a torch.nn.Module"):
        inspect.unwrap(sp.Classifier.__init__)(sp.Classifier.__new__(sp.Classifier), 3)
    with pytest.raises(sp.InputError, match="std is 0; expected positive"):
        sp.Classifier(nn.Flatten(), std=0)
    with pytest.raises(sp.InputError, match="mean is .*; expected one finite number, or one per channel"):
        sp.Classifier(nn.Flatten(), mean=float("nan"))


def test_an_output_that_holds_logits_is_read():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    plain = toys.convolutional()
    holder = sp.Classifier(Wrapped(plain.module, Output), mean=[0.5] * 3, std=[0.25] * 3)
    x = toys.pixels(2, (3, 6, 5))
    assert torch.equal(holder.predict(x).logits, plain.predict(x).logits)
