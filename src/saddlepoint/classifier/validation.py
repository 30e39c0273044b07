"""What is checked once, at the public entries: each finding is one line that says how to mend it."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import SymInt, Tensor, nn
from torch.nn.parameter import is_lazy

from saddlepoint.errors import InputError, ModelError
from saddlepoint.typing import Logits

_CHANNELS = (1, 3, 4)
"""Of one image, which tells it from several grey ones."""
_OVERSHOOT = 0.25
"""How far a bicubic resize may go beyond the box; normalised pixels go further."""
REPEATABLE = 1e-3
"""Two forwards of one input may differ by this share of the largest logit; more is randomness, not rounding."""


def check_images(x: object, box: tuple[float, float] | None = (0.0, 1.0), channels: int | None = None) -> Tensor:
    """Return x if it is a float32 batch (B, C, H, W) of finite pixels inside the box; raise InputError otherwise."""
    x = _check_form(x, channels)
    low, high = x.min().item(), x.max().item()
    if not (torch.isfinite(x.sum()) or torch.isfinite(x).all()):
        raise InputError("x has NaN or infinite pixels; expected finite numbers: look for a division by zero before")
    if box is not None and not (_rounded(box[0]) <= low and high <= _rounded(box[1])):
        mend = _mend(low, high, box)
        raise InputError(f"x has pixels from {low:.9g} to {high:.9g}; expected [{box[0]:g}, {box[1]:g}]: {mend}")
    return x


def _rounded(bound: float) -> float:
    """Return a bound as float32 holds it, in which it is compared with pixels."""
    return torch.tensor(bound, dtype=torch.float32).item()


def _check_form(x: object, channels: int | None) -> Tensor:
    if not isinstance(x, Tensor):
        raise InputError(f"x is a {type(x).__name__}; expected a float32 tensor (B, C, H, W): use torch.as_tensor(x)")
    if x.is_meta:
        raise InputError("x is on the meta device, which holds no pixels; expected a tensor with data")
    if x.dtype == torch.uint8:
        raise InputError("x has dtype uint8; expected float32 pixels in [0, 1]: pass x.float() / 255")
    if x.dtype != torch.float32:
        raise InputError(f"x has dtype {_short(x.dtype)}; expected float32: pass x.float()")
    if x.ndim != 4:
        one = x.ndim == 3 and x.shape[0] in _CHANNELS
        mend = "pass x[None]" if one else "pass x[:, None], for grey images" if x.ndim == 3 else "reshape it"
        raise InputError(f"x has shape {tuple(x.shape)}; expected four dimensions (B, C, H, W): {mend}")
    if not x.numel():
        raise InputError(f"x has shape {tuple(x.shape)}: there is no example in it; expected at least one")
    if channels not in (None, x.shape[1]):
        raise InputError(f"x has {x.shape[1]} channels; the classifier normalises {channels}: repeat or convert them")
    return x


def _mend(low: float, high: float, box: tuple[float, float]) -> str:
    if high > 8:
        return "divide by 255"
    if low > box[0] - _OVERSHOOT and high < box[1] + _OVERSHOOT:
        return f"a resize or a sum went a little beyond: pass x.clamp({box[0]:g}, {box[1]:g})"
    return "give raw pixels and let the classifier normalise, sp.Classifier(module, mean=…, std=…)"


def check_labels(y: object, count: int, name: str = "y") -> Tensor:
    """Return y as int64 (B,) if it holds one class index per example; raise InputError otherwise."""
    if not isinstance(y, Tensor):
        raise InputError(f"{name} is a {type(y).__name__}; expected an int64 tensor (B,): use torch.as_tensor({name})")
    if y.is_floating_point() and y.ndim == 2 and y.shape[1] > 1:
        raise InputError(
            f"{name} is a float tensor of shape {tuple(y.shape)}: soft labels; expected the class of each example, "
            f"int64 ({len(y)},): pass {name}.argmax(1)"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"{name} has dtype {_short(y.dtype)}; expected int64 class indices: pass {name}.long()")
    if tuple(y.shape) == (count, 1):
        return y[:, 0].long()
    if tuple(y.shape) != (count,):
        mend = f"pass {name}.argmax(1)" if y.ndim == 2 and len(y) == count else "one class index per example"
        raise InputError(f"{name} has shape {tuple(y.shape)}; expected ({count},): {mend}")
    return y.long()


def check_classes(labels: Tensor, classes: int, name: str = "y") -> None:
    """Raise InputError if a label lies outside 0 … classes − 1."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise InputError(f"{name} contains {int(wrong[0])}; the model has {classes} classes, 0 to {classes - 1}")


def evaluating(module: nn.Module) -> nn.Module:
    """Put a module into eval mode and return it; an exported one has its mode for good."""
    with suppress(NotImplementedError):
        module.eval()
    return module


def check_module(module: nn.Module) -> None:
    """Raise ModelError if weights are missing, of mixed types, or cannot be differentiated through."""
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ModelError("the module has lazy layers, without weights yet; expected it after one forward: module(x)")
    if not hasattr(module, "training"):
        raise ModelError("the module was frozen by torch.jit.freeze, which fixes its mode; expected it before freezing")
    dtypes = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    if torch.float64 in dtypes and torch.float32 not in dtypes:
        raise ModelError("the module's weights are float64; expected float32, as pixels are: pass module.float()")
    if any(parameter.is_inference() for parameter in module.parameters()):
        raise ModelError(
            "the module was built inside torch.inference_mode(), so nothing can be differentiated through it; "
            "build or load it outside"
        )


def check_output(output: object, count: int | SymInt, names: int | None = None) -> Logits:
    """Return a model's output if it is a float tensor (B, K ≥ 2); raise ModelError otherwise. Looks at no number.

    Args:
        output: what the model returned.
        count: of images, B; a symbol while torch exports the model.
        names: how many classes have a name, K; None if none has.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise ModelError(f"the model returned a {_kind(output)}; expected a float tensor of logits (B, K): wrap it")
    if output.ndim != 2 or output.shape[0] != count or output.shape[1] < 2:
        raise ModelError(
            f"the model returned shape {tuple(output.shape)} for {count} images; expected ({count}, K ≥ 2)"
        )
    if names is not None and names != output.shape[1]:
        raise ModelError(
            f"the model returned {output.shape[1]} logits, but {names} classes have names; expected a name per logit: "
            "mend names, or pass none"
        )
    return output


def check_logits(logits: Logits) -> Logits:
    """Return logits of clean images if they are finite, and logits; raise ModelError if not."""
    if not torch.isfinite(logits).all():
        row = int((~torch.isfinite(logits)).any(1).nonzero()[0])
        raise ModelError(f"the logits of row {row} are not finite; expected numbers: check weights and normalisation")
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-4).all()):
        raise ModelError(
            "the model returns probabilities (rows ≥ 0 that sum to 1), which starve the gradient; expected logits: "
            "drop its last softmax, or append a logarithm"
        )
    return logits


def check_repeatable(
    model: Callable[[Tensor], Logits], x: Tensor, first: Logits, *, deterministic: bool = True
) -> bool:
    """Return whether logits are the same, bit for bit, at another place of a batch and beside other images.

    Args:
        model: from pixels to logits.
        x: a batch, (B, C, H, W).
        first: its logits.
        deterministic: whether a plain difference is an error.

    Raises:
        ModelError: the logits of an image plainly differ, because the model is stochastic or mixes its batch.
    """
    order = torch.arange(len(x), device=x.device).roll(1)
    half = (len(x) + 1) // 2
    order[half:] = order[0]  # a mean over the batch is the same in any order, but not of other images
    second = model(x[order])[:half]
    gap = (first[order[:half]] - second).abs().max().item()
    if deterministic and gap > REPEATABLE * first.abs().max().item():
        again = (first - model(x)).abs().max().item()
        raise ModelError(_RANDOM.format(again) if again > REPEATABLE * first.abs().max().item() else _MIXED.format(gap))
    return gap == 0


_RANDOM = (
    "two forwards of the same images differ by {:.3g}: the model is stochastic; expected the same logits again: remove "
    "random layers from its eval mode or, if randomness is its defence, attack it with sp.RAND, which takes means over "
    "draws"
)
_MIXED = (
    "the logits of an image change by {:.3g} with the other images of its batch: the model mixes its batch; expected "
    "each image to be classified by itself: give batch norms running statistics, and take no mean over the batch"
)


def _kind(value: object) -> str:
    return f"{_short(value.dtype)} tensor" if isinstance(value, Tensor) else type(value).__name__


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
