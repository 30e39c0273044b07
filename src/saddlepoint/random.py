"""Random numbers as a pure function of (key, counter, position): no generator objects, no global state.

The generator is Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", §3.3),
written in int64 tensor operations, so that a row's numbers are the same on every device, in every batch and at every
place in it.
"""

import hashlib
import json

import torch
from jaxtyping import Int
from torch import Tensor

from saddlepoint.typing import Images, Keys

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

_encode = json.JSONEncoder(separators=(",", ":")).encode

_Words = tuple[Tensor, Tensor, Tensor, Tensor]


def key(seed: int, *parts: int | str | None) -> int:
    """Hash (seed, parts…) to the key of a stream: a signed 64-bit integer, the same on every machine."""
    text = _encode([seed, *parts]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def philox(counter: _Words, keys: tuple[Tensor, Tensor], rounds: int = 10) -> _Words:
    """The Philox4x32 bijection: four 32-bit counter words to four 32-bit random words, all held in int64."""
    (a, b, c, d), (k, m) = counter, keys
    for _ in range(rounds):
        # int64 products wrap, but their 64 bits are those of the unsigned product.
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = _high(right).bitwise_xor_(b).bitwise_xor_(k), right.bitwise_and_(_MASK)
        c, d = _high(left).bitwise_xor_(d).bitwise_xor_(m), left.bitwise_and_(_MASK)
        k, m = (k + _WEYL[0]) & _MASK, (m + _WEYL[1]) & _MASK
    return a, b, c, d


def _high(product: Tensor) -> Tensor:
    return (product >> 32).bitwise_and_(_MASK)


Counter = int | Int[Tensor, " batch"]
"""Which block of a stream: one for all rows, or one per row."""


def bits(keys: Keys, counter: Counter, count: int) -> Int[Tensor, "batch count"]:
    """Return (B, count) uniform 32-bit integers of the streams `keys` at `counter`."""
    block = torch.arange(-(-count // 4), device=keys.device).expand(len(keys), -1)
    halves = (keys & _MASK)[:, None], ((keys >> 32) & _MASK)[:, None]
    place = torch.as_tensor(counter, device=keys.device).reshape(-1, 1).expand_as(block)
    words = philox((block, place & _MASK, (place >> 32) & _MASK, torch.zeros_like(block)), halves)
    return torch.stack(words, dim=-1).flatten(1)[:, :count]


def uniform(keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
    """Return (B, *shape) float32 numbers, uniform on the grid {0, 1, …, 2²⁴ − 1} / 2²⁴ of [0, 1)."""
    count = torch.Size(shape).numel()
    return ((bits(keys, counter, count) >> 8).float() * 2.0**-24).reshape(len(keys), *shape)


def exponential(keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
    """Return (B, *shape) float32 numbers with density exp(−t), t ≥ 0, by inversion."""
    return -torch.log1p(-_wide(uniform(keys, counter, shape))).float()


def normal(keys: Keys, counter: Counter, shape: tuple[int, ...]) -> Images:
    """Return (B, *shape) float32 standard normal numbers (Box & Muller 1958)."""
    count = torch.Size(shape).numel()
    pairs = _wide(uniform(keys, counter, (2, -(-count // 2))))
    radius, angle = torch.sqrt(-2 * torch.log1p(-pairs[:, 0])), 2 * torch.pi * pairs[:, 1]
    waves = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
    return waves.flatten(1)[:, :count].float().reshape(len(keys), *shape)


def _wide(u: Tensor) -> Tensor:
    """Use float64 where there is one: vector and scalar library functions may differ in a float32's last bit."""
    return u if u.device.type == "mps" else u.double()
