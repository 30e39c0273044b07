"""The rows of a batch that no run is left for, and what they are good for."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from saddlepoint.typing import Mask


@dataclass(frozen=True, slots=True)
class RowAssignment:
    """Whom each row of a batch serves. A row with a run leads; the others follow it, some of them ahead of it.

    Attributes:
        leader: the row that each follows, itself where it leads, (B,).
        ahead: how many refused answers it is ahead of the leader, (B,).
        ranks: each leader's rows by how far they are ahead, (L, depth); the last stands for those that it lacks.
        rank: the line of `ranks` that each row's leader is in, (B,).
    """

    leader: Int[Tensor, " batch"]
    ahead: Int[Tensor, " batch"]
    ranks: Int[Tensor, "leaders depth"]
    rank: Int[Tensor, " batch"]

    @property
    def deep(self) -> bool:
        """Whether any row is ahead of its leader."""
        return self.ranks.shape[1] > 1

    def furthest(self, ends: Mask) -> Int[Tensor, " batch"]:
        """Return, for each row, the one that its leader gets to: the first that ends the look ahead, or the last."""
        met = ends[self.ranks]
        met[:, -1] = True
        return self.ranks.gather(1, met.int().argmax(1, keepdim=True)).flatten()[self.rank]


def assign(live: list[int], size: int, *, foresees: bool, device: torch.device) -> RowAssignment:
    """Divide a batch among its live rows, evenly, where the attack foresees; else all follow one, and none is ahead.

    To look ahead makes a step dearer by a third: fewer idle rows than half the live ones do not repay that.
    """
    idle = sorted(set(range(size)) - set(live))
    looks = foresees and 2 * len(idle) >= len(live)
    lines = [[one, *(idle[rank :: len(live)] if looks else ())] for rank, one in enumerate(live)]
    leader, ahead, rank = [live[0]] * size, [0] * size, [0] * size
    for number, line in enumerate(lines):
        for far, row in enumerate(line):
            leader[row], ahead[row], rank[row] = line[0], far, number
    ranks = [line + line[-1:] * (len(lines[0]) - len(line)) for line in lines]
    return RowAssignment(*(torch.tensor(numbers, device=device) for numbers in (leader, ahead, ranks, rank)))
