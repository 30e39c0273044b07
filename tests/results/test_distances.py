"""Distances: accuracy under attack at every ε, from the nearest points that any run has found."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.specimens import record
from saddlepoint.results import distances

FOUND = st.one_of(st.none(), st.floats(0.001, 1.0))


def attacked(place, distance, eps=1.0, *, correct=True):
    found = distance is not None
    return replace(
        record(place),
        success=found or not correct,
        clean_correct=correct,
        distance=distance or 0.0,
        eps=eps,
        norm="linf",
    )


@given(st.lists(FOUND, min_size=1, max_size=30), st.floats(0.0, 1.0))
def test_what_stands_at_a_radius_is_what_has_no_point_within_it(nearest, eps):
    (told,) = distances(attacked(place, distance) for place, distance in enumerate(nearest))
    assert told.standing(eps) == sum(distance is None or distance > eps for distance in nearest)
    assert told.censored == nearest.count(None)
    low, high = told.interval(eps)
    assert low <= told.standing(eps) / told.examples <= high


@given(st.lists(FOUND, min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_a_quantile_is_the_least_radius_at_which_that_share_has_fallen(nearest, share):
    (told,) = distances(attacked(place, distance) for place, distance in enumerate(nearest))
    radius, due = told.quantile(share), math.ceil(share * len(nearest))
    fallen = sum(distance is not None and distance <= radius for distance in nearest)
    assert fallen >= due or math.isinf(radius)
    assert sum(distance is not None and distance < radius for distance in nearest) < due


def test_of_several_runs_the_nearest_point_counts_and_a_wrong_image_is_at_0():
    records = [attacked(0, 0.3), attacked(0, 0.05, eps=0.1), attacked(1, None), attacked(2, None, correct=False)]
    (told,) = distances(records)
    assert told.nearest == (0.0, 0.05, math.inf)
    assert told.within == 1.0
    assert told.summary()["nearest"] == [0.0, 0.05, None]
    assert "none was found within 1 for 1" in told.in_words()
    assert distances([]) == []


@pytest.mark.parametrize("examples", [1, 1000])
def test_the_band_is_that_of_massart(examples):
    (told,) = distances(attacked(place, 0.1) for place in range(examples))
    assert told.half_width == pytest.approx(math.sqrt(math.log(40) / (2 * examples)))
