"""How the rows of a batch are shared among the runs that are left."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from saddlepoint.typing import Mask


@dataclass(frozen=True, slots=True)
class RowAssignment:
    """Which run each row of a batch works for.

    A row that holds a run is a leader. Every other row follows one leader: it repeats the leader's point, or tries one
    that the leader would reach after more rejected proposals.

    Attributes:
        leader: the leader of each row; a leader's own number is its row, (B,).
        ahead: how many rejected proposals a row assumes after its leader's point, (B,).
        ranks: the rows of each leader, in the order of `ahead`, (L, depth); short lists repeat their last row.
        rank: which line of `ranks` belongs to each row's leader, (B,).
    """

    leader: Int[Tensor, " batch"]
    ahead: Int[Tensor, " batch"]
    ranks: Int[Tensor, "leaders depth"]
    rank: Int[Tensor, " batch"]

    @property
    def deep(self) -> bool:
        """Whether any row tries a later proposal than its leader."""
        return self.ranks.shape[1] > 1

    def furthest(self, ends: Mask) -> Int[Tensor, " batch"]:
        """Return the row whose result each leader adopts, (B,).

        That is the first of its rows with `ends` set, for example because its proposal was accepted; every later row
        assumed that it would be rejected. If none has it set, all assumptions held, and the last row is adopted.
        """
        met = ends[self.ranks]
        met[:, -1] = True
        return self.ranks.gather(1, met.int().argmax(1, keepdim=True)).flatten()[self.rank]


def assign(live: list[int], size: int, *, look_ahead: bool, device: torch.device) -> RowAssignment:
    """Share the idle rows of a batch evenly among the live ones, if the attack can look ahead.

    Otherwise every idle row repeats the first live one, so that the batch keeps its shape.

    Args:
        live: the rows that hold a run, ascending; at least one.
        size: how many rows the batch has.
        look_ahead: whether the attack can say where it goes after rejected proposals.
        device: where the tensors go.
    """
    idle = sorted(set(range(size)) - set(live))
    # Looking ahead makes a step about a third dearer, which fewer idle rows than half of the live ones do not repay.
    looks = look_ahead and 2 * len(idle) >= len(live)
    lines = [[one, *(idle[rank :: len(live)] if looks else ())] for rank, one in enumerate(live)]
    leader, ahead, rank = [live[0]] * size, [0] * size, [0] * size
    for number, line in enumerate(lines):
        for far, row in enumerate(line):
            leader[row], ahead[row], rank[row] = line[0], far, number
    ranks = [line + line[-1:] * (len(lines[0]) - len(line)) for line in lines]
    return RowAssignment(*(torch.tensor(numbers, device=device) for numbers in (leader, ahead, ranks, rank)))
