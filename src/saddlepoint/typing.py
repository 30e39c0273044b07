"""The shapes of the project, in one place; the tests check them at run time.

A *row* is one example: every tensor has its examples along the first axis.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "batch *shape"]
"""Pixels, perturbations and gradients: (B, C, H, W) at the public entries, any shape below."""
Logits = Float[Tensor, "batch classes"]
Labels = Int[Tensor, " batch"]
PerExample = Float[Tensor, " batch"]
Mask = Bool[Tensor, " batch"]
"""One flag per example."""
Keys = Int[Tensor, " batch"]
"""One 64-bit key of a random stream per example."""
