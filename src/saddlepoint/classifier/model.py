"""Any module as a classifier of pixels in [0, 1]."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from saddlepoint.classifier.frozen import Frozen
from saddlepoint.classifier.preprocessing import Preprocessing
from saddlepoint.classifier.validation import check_images, check_logits, check_output
from saddlepoint.errors import InputError, ModelError
from saddlepoint.typing import Images, Labels, Logits, PerExample
from saddlepoint.words import meant

_CHUNK = 64
_BY_CHANNEL = (torch.per_channel_affine, torch.per_channel_affine_float_qparams)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a classifier says of B images.

    Attributes:
        label: class indices, (B,).
        name: their names, B strings; the index as text where the classifier has no names.
        probability: softmax probability of the predicted class, (B,).
        logits: (B, K).
    """

    label: Labels
    name: list[str]
    probability: PerExample
    logits: Logits


class Classifier(nn.Module):
    """h(x) = module((x − mean) / std): logits from pixels in [0, 1].

    Args:
        module: maps normalised images (B, C, H, W) to logits (B, K), or to an object that holds them as `.logits`; a
            program that torch exported for any number of images is one, too.
        mean: per channel, in pixel units of [0, 1]; None for no shift.
        std: likewise; None for no scaling.
        names: the K class names.
        preprocessing: what the model does to a photograph before it becomes x.
        name: how reports call the model.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module | ExportedProgram,
        *,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        names: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(module, ExportedProgram):
            module = _of_any_number(module).module()
        if not isinstance(module, nn.Module):
            raise InputError(f"module is a {type(module).__name__}; expected a torch.nn.Module that returns logits")
        if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise ModelError("the module is on the meta device, which holds no weights; expected loaded ones")
        self.module = module
        self.normalises = mean is not None or std is not None
        self.register_buffer("mean", _per_channel("mean", 0.0 if mean is None else mean, module), persistent=False)
        self.register_buffer("std", _per_channel("std", 1.0 if std is None else std, module), persistent=False)
        if float(self.mean.max()) > 2 and float(self.std.max()) > 2:
            raise InputError(
                f"mean is {mean} and std {std}, in units of [0, 255]; expected units of [0, 1]: divide both by 255"
            )
        if not bool((self.std > 0).all()):
            raise InputError(f"std is {std}; expected positive numbers, one per channel")
        if min(len(self.mean), len(self.std)) > 1 and len(self.mean) != len(self.std):
            raise InputError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; expected one each, or one per channel"
            )
        self.names = tuple(names) if names is not None else None
        self.preprocessing = preprocessing or Preprocessing()
        self.name = name or type(module).__name__
        self.reference: str | None = None  # with which it was loaded, if it was
        self.weights: str | None = None  # the file of weights that was named beside the reference
        self.source: str | None = None  # SHA-256 of the code that made it, if that is a file

    @property
    def device(self) -> torch.device:
        """Where the classifier computes."""
        return next(self.parameters(), self.mean).device

    @property
    def channels(self) -> int | None:
        """How many channels are normalised, if each has a number of its own."""
        return max(len(self.mean), len(self.std)) if max(len(self.mean), len(self.std)) > 1 else None

    def normalise(self, x: Images) -> Images:
        """Return (x − mean) / std, in memory of its own: a module may work in place."""
        return (x - self.mean) / self.std if self.normalises else x.clone()

    def logits(self, normalised: Images) -> Logits:
        """Return the module's logits for normalised images; raise ModelError if it returns something else.

        A module of bfloat16 or float16 gets pixels of its type, and its logits become float32.
        """
        first = next(
            (parameter.dtype for parameter in self.module.parameters() if parameter.is_floating_point()), torch.float32
        )
        low = first in (torch.bfloat16, torch.float16)
        output = self.module(normalised.to(first) if low else normalised)
        names = None if self.names is None else len(self.names)
        logits = check_output(getattr(output, "logits", output), normalised.shape[0], names)
        return logits.float() if low else logits

    def forward(self, x: Images) -> Logits:
        """Return logits (B, K) for pixels x in [0, 1], (B, C, H, W)."""
        return self.logits(self.normalise(x))

    def frozen(self) -> Frozen:
        """Return the context in which this classifier can be attacked; see `Frozen`."""
        return Frozen(self)

    def predict(self, x: Images, *, box: tuple[float, float] | None = (0.0, 1.0)) -> Prediction:
        """Classify pixels x inside the box (None for any finite pixels), float32 (B, C, H, W), in eval mode."""
        chunks = torch.split(check_images(x, box, self.channels), _CHUNK)
        with Frozen(self) as model:
            logits = torch.cat([check_logits(model.decide(part.to(self.device))) for part in chunks])
        probability, label = logits.softmax(1).max(1)
        return Prediction(label, [self.name_of(index) for index in label.tolist()], probability, logits)

    def digest(self) -> str:
        """Return a hash of the module's layers, as it prints them, of every tensor, of mean, std and class names.

        What a forward does with its layers is not in it, unless it was loaded from a file of code: that file is.
        """
        buffers = dict(self.module.named_buffers())  # those that are not saved, too
        state = {**buffers, **self.module.state_dict(), "mean ": self.mean, "std ": self.std}
        layers = re.sub(r" at 0x[0-9a-f]+", "", repr(self.module))
        total = hashlib.sha256(f"{layers}\n{self.names}\n{self.source}\n".encode())
        for name, value in state.items():
            absorb(total, name, value)
        return f"sha256:{total.hexdigest()}"

    def name_of(self, label: int) -> str:
        """Return the name of a class, or its index as text."""
        return self.names[label] if self.names and 0 <= label < len(self.names) else str(label)

    def label_of(self, text: str | int) -> int:
        """Return the class that an index or a name stands for; raise InputError with the nearest names if none does."""
        if isinstance(text, int) or text.strip().isdecimal():
            return self._known(int(text))
        index, _, name = text.strip().partition(" ")
        if index.isdecimal() and self.name_of(int(index)) == name:
            return int(index)
        names = [_plain(name) for name in self.names or ()]
        matches = [index for index, name in enumerate(names) if name == _plain(text)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(f"class {text!r} is ambiguous; expected one of the indices {', '.join(map(str, matches))}")
        hint = meant(_plain(text), names, most=3)
        raise InputError(f"no class is called {text!r} in {self.name}: expected a name or an index{hint}")

    def _known(self, label: int) -> int:
        if self.names is not None and not 0 <= label < len(self.names):
            raise InputError(f"class {label} does not exist; {self.name} has classes 0 to {len(self.names) - 1}")
        return label


def _of_any_number(program: ExportedProgram) -> ExportedProgram:
    """Return a program if it takes any number of images."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        rows = node.meta["val"].shape[0] if node.name in names else None
        if isinstance(rows, int):
            raise InputError(
                f"the program was exported for {rows} images at once; expected any number: "
                "torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
            )
    return program


def absorb(total: "hashlib._Hash", name: str, value: object) -> None:
    """Take the types, shapes and bytes of what a module keeps under a name into a hash."""
    for part in _parts(value):
        total.update(f"{name} {part.dtype} {tuple(part.shape)}\n".encode())
        total.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def _parts(value: object) -> list[Tensor]:
    """Return plain tensors that tell what a module keeps in its state: a tensor in any layout, or anything beside."""
    if isinstance(value, tuple | list):
        return [part for item in value for part in _parts(item)]
    if not isinstance(value, Tensor):
        return [torch.frombuffer(bytearray(f"{type(value).__name__} {value!r}".encode()), dtype=torch.uint8)]
    if value.is_quantized:
        if value.qscheme() in _BY_CHANNEL:
            return [value.int_repr(), value.q_per_channel_scales(), value.q_per_channel_zero_points()]
        return [value.int_repr(), torch.tensor(value.q_scale()), torch.tensor(value.q_zero_point())]
    if value.layout is torch.sparse_coo:
        whole = value.coalesce()
        return [whole.indices(), whole.values(), torch.tensor(whole.shape)]
    return [value if value.layout is torch.strided else value.to_dense()]


def _per_channel(name: str, value: Sequence[float] | float, module: nn.Module) -> Tensor:
    """Return mean or std in a shape that broadcasts over (B, C, H, W), on the module's device."""
    device = next((parameter.device for parameter in module.parameters()), None)
    tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
    if tensor.ndim > 1 or not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} is {value}; expected one finite number, or one per channel")
    return tensor.reshape(-1, 1, 1)


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()
