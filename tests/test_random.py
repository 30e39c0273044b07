"""The random streams: known answers, independence of the batch, and distributions."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from saddlepoint import random

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)


def test_philox_gives_the_known_answers_of_its_authors():
    cases = [
        (((0,) * 4, (0,) * 2), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for (counter, keys), words in cases:
        out = random.philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, keys)))
        assert " ".join(f"{int(word):08x}" for word in out) == words


def test_keys_are_the_same_everywhere_and_tell_parts_apart():
    assert random.key(0, "a", 1) == random.key(0, "a", 1)
    parts = [(0, 1, 2), (0, 12), (0, "1", 2), (0, "1", "2"), (1, 1, 2), (0, 1, None), (0, 1)]
    assert len({random.key(*part) for part in parts}) == len(parts)
    assert random.key(7, "coffee", "PGD", 0) == 2136294175091424580


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=5), st.integers(0, 2**40), st.integers(1, 40))
def test_a_row_depends_on_its_key_alone(keys, counter, count):
    rows = torch.tensor(keys)
    for draw in (random.uniform, random.normal, random.exponential):
        together = draw(rows, counter, (count,))
        assert torch.equal(together[1:2], draw(rows[1:2], counter, (count,)))
        assert torch.equal(together.flip(0), draw(rows.flip(0), counter, (count,)))
        assert torch.isfinite(together).all()


def test_counters_and_keys_give_other_numbers():
    keys = torch.tensor([1, 2])
    first, second = random.bits(keys, 0, 64), random.bits(keys, 1, 64)
    assert (first == second).sum() == 0
    assert (first[0] == first[1]).sum() == 0


def test_distributions():
    keys = torch.arange(4)
    draws = {"uniform": random.uniform, "norm": random.normal, "expon": random.exponential}
    for name, draw in draws.items():
        for row in draw(keys, 3, (5000,)).double().numpy():
            assert stats.kstest(row, name).pvalue > 1e-4
    assert random.uniform(keys, 0, (100_000,)).max() < 1


def test_each_row_may_be_at_a_place_of_its_own():
    keys, counters = torch.tensor([5, 5, -7]), torch.tensor([3, 2**33, 0])
    together = random.uniform(keys, counters, (6,))
    for row, (key, counter) in enumerate(zip(keys, counters.tolist(), strict=True)):
        assert torch.equal(together[row : row + 1], random.uniform(key[None], counter, (6,)))
