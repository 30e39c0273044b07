"""A graph without an axis of the batch, applied to each row of a batch."""

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from saddlepoint.errors import InputError
from saddlepoint.models.onnx.free_batch import BATCH, grows
from saddlepoint.models.onnx.network import Network
from saddlepoint.models.onnx.node import META


class EachRow(nn.Module):
    """Maps numbers (B, …) to (B, K) by a network from one example to its outputs.

    `torch.vmap` carries each operation over to a batch, once, on tensors without storage that have `BATCH` rows; what
    is run is the program that this leaves, with the number of rows of its input where `BATCH` was.

    Args:
        network: from one example, of shape `input_shape`, to any numbers.

    Raises:
        InputError: an operation cannot be carried over.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.input_shape = network.input_shape or (1,)
        state = [tensor.to(META) for tensor in self._state().values()]
        try:
            program = make_fx(self._mapped)(torch.empty(BATCH, *network.input_shape, device=META), *state)
        except Exception as error:  # whatever torch says of an operation that it cannot carry over
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"its nodes cannot be applied to the rows of a batch ({reason})") from None
        self.program = _freed(program)

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's outputs for each row, flattened."""
        if math.prod(x.shape[1:]) != math.prod(self.input_shape):
            raise InputError(
                f"examples of shape {tuple(x.shape[1:])} do not fit the network's input {self.input_shape}"
            )
        result: Tensor = self.program(x.reshape(-1, *self.network.input_shape), *self._state().values())
        return result

    def _state(self) -> dict[str, Tensor]:
        return {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}

    def _mapped(self, x: Tensor, *state: Tensor) -> Tensor:
        named = dict(zip(self._state(), state, strict=True))

        def one(example: Tensor) -> Tensor:
            result: Tensor = functional_call(self.network, named, (example,))
            return result.flatten()

        with torch.no_grad():
            return torch.vmap(one)(x)


def _freed(program: fx.GraphModule) -> fx.GraphModule:
    """Return the program with the rows of its input for `BATCH`, k times those for k · `BATCH`, and on its device."""
    graph = program.graph
    graph.eliminate_dead_code()
    inputs = graph.find_nodes(op="placeholder")
    entry, rest = inputs[0], [node for node in graph.nodes if node not in inputs]
    with graph.inserting_before(rest[0]):
        device = graph.call_function(getattr, (entry, "device"))
        rows = graph.call_function(torch.ops.aten.sym_size.int, (entry, 0))
    for node in rest:
        with graph.inserting_before(node):

            def own(argument: Any) -> Any:  # noqa: ANN401
                if argument == META:
                    return device
                if not isinstance(argument, int) or isinstance(argument, bool) or not grows(argument):
                    return argument
                return graph.call_function(operator.mul, (rows, argument // BATCH)) if argument != BATCH else rows

            node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), own)
    graph.lint()
    program.recompile()
    return program
