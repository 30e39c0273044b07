"""One process, or several under torchrun: each takes its share of every batch, and DDP averages the gradients."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's part of a batch; parts are equal, so that the mean of means is the mean."""
        return rows[: len(rows) // self.count * self.count][self.rank :: self.count]

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return the module under DDP where there are several processes."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def summed(self, totals: dict[str, float]) -> dict[str, float]:
        """Return the sums over all processes."""
        if self.count == 1:
            return dict(totals)
        values = torch.tensor(list(totals.values()), dtype=torch.float64)
        distributed.all_reduce(values)
        return dict(zip(totals, values.tolist(), strict=True))

    def agreed(self, wish: bool) -> bool:
        """Return what the first process wishes, so that all do the same."""
        if self.count == 1:
            return wish
        flag = torch.tensor([int(wish)])
        distributed.broadcast(flag, 0)
        return bool(flag.item())


def joined(device: torch.device) -> Processes:
    """Return the processes that torchrun started, after they have met; one alone elsewhere."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size())
