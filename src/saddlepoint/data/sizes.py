"""The shapes of 8-bit images."""

from jaxtyping import Float, UInt8
from torch import Tensor

Crop = UInt8[Tensor, "channels height width"]
Levels = UInt8[Tensor, "batch *shape"]
AnyLevels = UInt8[Tensor, "*shape"]
AnyPixels = Float[Tensor, "*shape"]
Perturbation = Float[Tensor, "channels height width"]
"""δ of one image."""
