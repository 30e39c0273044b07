"""Every operation of the table, with every argument of its schema at unusual values: right, or refused."""

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates import bounds
from saddlepoint.certificates.aten import RULES
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.sets import around

aten = torch.ops.aten
W, B = torch.linspace(-1, 1, 9).reshape(3, 3), torch.tensor([0.5, -1.0, 2.0])
K = torch.linspace(-1, 1, 36).reshape(2, 2, 3, 3)
C = torch.linspace(-2, 1, 72).reshape(2, 6, 6)
GRID, ROW, LINE = (2, 6, 6), (3,), (2, 6)
BASE = {  # by the operation's name: the shape of x, and the other arguments by their names in the schema
    "_adaptive_avg_pool2d": (GRID, {"output_size": [2, 3]}),
    "_adaptive_avg_pool3d": ((1, 4, 4, 4), {"output_size": [2, 1, 3]}),
    "_native_batch_norm_legit_no_training": (
        GRID,
        {
            "weight": torch.tensor([1.0, -2]), "bias": torch.tensor([3.0, 0]), "running_mean": torch.tensor([0.5, 1]),
            "running_var": torch.tensor([1.0, 4]), "momentum": 0.1, "eps": 1e-5,
        },
    ),
    "adaptive_avg_pool1d": (LINE, {"output_size": [4]}),
    "add.Tensor": (GRID, {"other": C}),
    "add.Scalar": (GRID, {"other": 2}),
    "addmm": (ROW, {"self": B, "mat1": "x", "mat2": W}),
    "avg_pool1d": (LINE, {"kernel_size": [2]}),
    "avg_pool2d": (GRID, {"kernel_size": [2, 3]}),
    "avg_pool3d": ((1, 4, 4, 4), {"kernel_size": [2, 2, 2]}),
    "cat": (GRID, {"tensors": ["x", "x"], "dim": 1}),
    "channel_shuffle": ((4, 3, 3), {"groups": 2}),
    "clamp": (GRID, {"min": 0.2, "max": 0.7}),
    "clamp.Tensor": (GRID, {"min": C, "max": C + 0.5}),
    "clamp_max": (GRID, {"max": 0.7}),
    "matmul": ((2, 3), {"other": W}),
    "clamp_min": (GRID, {"min": 0.2}),
    "constant_pad_nd": (GRID, {"pad": [1, 0, 2, 1]}),
    "convolution": (
        GRID,
        {
            "weight": K, "bias": B[:2], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "transposed": False,
            "output_padding": [0, 0], "groups": 1,
        },
    ),
    "div.Tensor": (GRID, {"other": C + 5}),
    "div.Tensor_mode": (GRID, {"other": C + 5, "rounding_mode": None}),
    "expand": ((2, 1, 1), {"size": [-1, 2, 3, 4]}),
    "flip": (GRID, {"dims": [1]}),
    "full_like": (GRID, {"fill_value": 3.0}),
    "index_select": (GRID, {"dim": 2, "index": torch.tensor([0, 0, 3, 5, 0])}),
    "linear": (ROW, {"weight": W, "bias": B}),
    "max_pool2d": (GRID, {"kernel_size": [2, 3]}),
    "max_pool2d_with_indices": (GRID, {"kernel_size": [2, 3]}),
    "maximum": (GRID, {"other": C}),
    "flatten": (GRID, {"start_dim": 1}),
    "mean.dim": (GRID, {"dim": [2]}),
    "minimum": (GRID, {"other": C}),
    "mm": (ROW, {"mat2": W}),
    "mul.Tensor": (GRID, {"other": C}),
    "narrow": (GRID, {"dim": 2, "start": 1, "length": 3}),
    "permute": (GRID, {"dims": [0, 2, 3, 1]}),
    "pixel_shuffle": ((4, 3, 3), {"upscale_factor": 2}),
    "pixel_unshuffle": ((1, 4, 4), {"downscale_factor": 2}),
    "reflection_pad1d": (LINE, {"padding": [2, 1]}),
    "reflection_pad2d": (GRID, {"padding": [2, 1, 0, 3]}),
    "repeat": (GRID, {"repeats": [1, 2, 1, 3]}),
    "replication_pad1d": (LINE, {"padding": [2, 1]}),
    "replication_pad2d": (GRID, {"padding": [2, 1, 0, 3]}),
    "rsub": (GRID, {"other": C}),
    "select": (GRID, {"dim": 2, "index": 1}),
    "slice": (GRID, {"dim": 2, "start": 1, "end": 5}),
    "split.Tensor": (GRID, {"split_size": 2, "dim": 2}),
    "split_with_sizes": (GRID, {"split_sizes": [1, 5], "dim": 2}),
    "sub.Tensor": (GRID, {"other": C}),
    "squeeze.dim": ((1, 6), {"dim": 1}),
    "sum.dim_IntList": (GRID, {"dim": [2]}),
    "transpose": (GRID, {"dim0": 1, "dim1": 2}),
    "unbind": (GRID, {"dim": 2}),
    "unflatten": (GRID, {"dim": 3, "sizes": [2, 3]}),
    "upsample_bilinear2d.vec": (GRID, {"output_size": [9, 5], "align_corners": False, "scale_factors": None}),
    "upsample_nearest1d": (LINE, {"output_size": [9]}),
    "upsample_nearest2d": (GRID, {"output_size": [9, 5]}),
    "unsqueeze": (GRID, {"dim": 2}),
    **dict.fromkeys(("view", "_unsafe_view"), (GRID, {"size": [-1, 72]})),
    "reshape": (GRID, {"shape": [-1, 72]}),
}  # fmt: skip
UNUSUAL = {
    "bool": [True, False], "float": [-2.5, 20.0, 1e-3, 0.0], "number": [-2.5, 20, 1, 0, 1e-6],
    "int": [0, 1, 2, 3, -1], "str": ["floor", "trunc", "tanh", "none", "nearest"],
    "ScalarType": [torch.float16, torch.float64, torch.int64, torch.bool, torch.float32],
    "int[]": [[0], [1], [2], [-1], [0, 1], [1, 2], [2, 1], [3, 3], [0, 0], [1, 0, 2, 1], [1, 1, 2]],
    "float[]": [[1.5, 0.5]],
}  # fmt: skip
UNUSUAL["SymInt"], UNUSUAL["SymInt[]"], UNUSUAL["Scalar"] = UNUSUAL["int"], UNUSUAL["int[]"], UNUSUAL["number"]


class One(nn.Module):
    """One operation, by arguments with their names, "x" standing for the input; made logits of by a fixed sum."""

    def __init__(self, operation, named):
        super().__init__()
        self.operation, self.named = operation, named

    def forward(self, x):
        def filled(value):
            if isinstance(value, list):
                return [filled(each) for each in value]
            return x if isinstance(value, str) and value == "x" else value

        arguments = self.operation._schema.arguments
        named = {name: filled(value) for name, value in self.named.items()}
        placed = [named[a.name] for a in arguments if a.name in named and not a.kwarg_only]
        out = self.operation(*placed, **{a.name: named[a.name] for a in arguments if a.name in named and a.kwarg_only})
        out = (
            out[-1 if self.operation._schema.name in ("aten::split", "aten::unbind") else 0]
            if isinstance(out, tuple | list)
            else out
        )
        return out.flatten(1) + torch.zeros(1)


def operation_of(name):
    packet, _, overload = name.partition(".")
    packet = getattr(aten, packet)
    names = [each for each in packet.overloads() if "out" not in each and each not in ("vec", "str", "names")]
    return getattr(packet, overload or ("default" if "default" in names else names[0]))


def variants(operation, shape, named):
    """The base, and then each argument in turn at unusual values."""
    arguments = operation._schema.arguments
    named = named if "x" in named.values() or "tensors" in named else {arguments[0].name: "x", **named}
    filled = {a.name: named.get(a.name, a.default_value) for a in arguments if a.name in named or a.has_default_value()}
    yield None, filled
    for argument in arguments:
        kind = str(getattr(argument, "real_type", argument.type)).replace("Optional[", "").rstrip("]")
        kind = {"List[int": "int[]", "List[float": "float[]"}.get(kind, kind)
        for value in (*UNUSUAL.get(kind, ()), *([None] if "Optional" in str(argument.type) else ())):
            if value != filled.get(argument.name):
                yield argument.name, {**filled, argument.name: value}


def computed(module, x):
    try:
        with torch.no_grad():
            return module(x)
    except Exception:  # the operation itself refuses the value
        return None


def check(shape, operation, named):
    """Return whether the operation was taken; it then holds for batches, single rows and a ball."""
    module, draw = One(operation, named), torch.Generator().manual_seed(0)
    x = torch.rand(4, *shape, generator=draw)
    due = computed(module, x)
    if due is None or due.ndim != 2 or due.shape[0] != 4 or not due.numel():
        return None
    try:
        graph = export(module, shape).graph(torch.float64)
    except sp.ModelError:
        return False
    for one in (due, torch.cat([module(row[None]) for row in x])):
        assert torch.allclose(graph(x.double()), one.double(), rtol=1e-5, atol=1e-5, equal_nan=True), named
    if due.isnan().any():
        return True
    region = around(x[:1], sp.Linf(0.2), (0.0, 1.0))
    corners = (x[:1] + 0.2 * (2 * torch.randint(0, 2, (32, *shape), generator=draw) - 1)).clamp(0, 1)
    for known in (bounds.interval(graph, region, torch.float64), bounds.crown(graph, region, torch.float64)):
        low, high = (side.flatten(1) for side in known[-1])
        assert (module(corners) >= low - 1e-5).all(), named
        assert (module(corners) <= high + 1e-5).all(), named
    return True


SKIPPED = {"sym_size", "t", "chunk", "detach", "_to_copy", "bmm"}
"""What a program holds that no module calls by this name, with arguments that other tests vary."""
NAMES = sorted({*BASE, *(name for name in RULES if name not in {base.partition(".")[0] for base in BASE})} - SKIPPED)


def found(name, *, every):
    """Whether each variant was taken, one of each argument or all; None for those that the operation refuses."""
    operation = operation_of(name)
    shape, named = BASE.get(name, (GRID, {}))
    outcomes, seen = [], set()
    for argument, arguments in variants(operation, shape, named):
        if every or argument not in seen:
            outcomes.append(check(shape, operation, arguments))
            seen.add(argument if outcomes[-1] is not None else "")
    return outcomes


SOME = ("elu", "softplus", "gelu", "hardtanh", "leaky_relu", "avg_pool2d", "max_pool2d", "mean.dim", "sum.dim_IntList")
"""Of which each failed once, or nearly; `make test-all` walks all."""


@pytest.mark.parametrize("name", [*SOME, "div.Tensor_mode", "convolution", "flip", "index_select"])
def test_an_unusual_value_of_every_argument_is_read_rightly_or_refused(name):
    assert found(name, every=False)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_unusual_value_of_every_argument_is_read_rightly_or_refused(name):
    assert found(name, every=True)[0]
