"""Whom an agent sees, and as what: by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trajpred.features import (
    RELATION,
    Motion,
    neighbours,
)


def standing_at(xy, heading=None, velocity=None):
    xy = np.asarray(xy, float)
    motion = Motion.empty(len(xy))
    motion.xy[:] = xy
    motion.heading[:] = 0.0 if heading is None else heading
    motion.velocity[:] = 0.0 if velocity is None else velocity
    motion.oriented[:] = True
    motion.count[:] = 2
    return motion


def one_group(n):
    return np.zeros(n, np.int64)


def test_what_an_agent_sees_of_its_neighbour_by_hand():
    # I face north at 1 m/s. Three metres north and four west of me somebody faces west at 2 m/s.
    motion = standing_at([[10, 20], [6, 23]], heading=[math.pi / 2, math.pi], velocity=[[0, 1], [-2, 0]])
    near = neighbours(motion, one_group(2), np.array([0, 1]), 4, 10.0)
    assert near.rows.shape == near.mask.shape == (2, 4)
    assert near.relation.shape == (2, 4, len(RELATION))
    assert near.relation.dtype == np.float32
    assert near.mask.tolist() == [[True, False, False, False]] * 2
    assert near.rows[:, 0].tolist() == [1, 0]
    # ahead 3, left 4; its velocity relative to mine is (-2, -1) in the map: 1 back, 2 to the left.
    assert dict(zip(RELATION, near.relation[0, 0].tolist(), strict=True)) == pytest.approx(
        {
            "ahead_m": 3.0,
            "left_m": 4.0,
            "forward_mps": -1.0,
            "left_mps": 2.0,
            "heading_sin": 1.0,
            "heading_cos": 0.0,
            "inverse_gap": 1 / 6,
        },
        abs=1e-6,
    )
    # It faces west: I am 4 m behind it and 3 m to its left; my relative velocity is (2, 1) in the map:
    # 2 back, 1 to its right.
    assert dict(zip(RELATION, near.relation[1, 0].tolist(), strict=True)) == pytest.approx(
        {
            "ahead_m": -4.0,
            "left_m": 3.0,
            "forward_mps": -2.0,
            "left_mps": -1.0,
            "heading_sin": -1.0,
            "heading_cos": 0.0,
            "inverse_gap": 1 / 6,
        },
        abs=1e-6,
    )
    assert not near.relation[~near.mask].any()
    assert not near.rows[~near.mask].any()


def test_the_nearest_are_taken_when_there_are_more_than_fit():
    motion = standing_at([[0, 0], [3, 0], [1, 0], [2, 0], [-4, 0]])
    near = neighbours(motion, one_group(5), np.array([0]), 2, 10.0)
    assert near.mask.tolist() == [[True, True]]
    assert near.rows.tolist() == [[2, 3]]


def test_those_who_are_equally_near_are_taken_in_order_of_their_rows():
    # All a metre away; a place further up or to the right comes with a lower row.
    motion = standing_at([[0, 1], [1, 0], [0, 0], [-1, 0], [0, -1]])
    near = neighbours(motion, one_group(5), np.array([2]), 3, 10.0)
    assert near.rows.tolist() == [[0, 1, 3]]


@pytest.mark.parametrize("radius_m", [0.1, 1.0, 7.0, 10.0])
@pytest.mark.parametrize("far_m", [1e2, 1e7])
def test_who_is_exactly_at_the_radius_is_near(radius_m, far_m):
    # In one row, the radius apart; the last one makes the world wide.
    at = radius_m * np.arange(50)
    xy = np.stack([np.append(at, -far_m), np.full(51, 3.0)], axis=1)
    near = neighbours(standing_at(xy), one_group(51), np.arange(50), 4, radius_m)
    gap = np.diff(at)
    assert (
        near.mask.sum(axis=1)[1:-1].tolist() == ((gap[:-1] <= radius_m) * 1 + (gap[1:] <= radius_m)).tolist()
    )


def test_agents_at_the_same_place_see_each_other_but_not_themselves():
    near = neighbours(standing_at([[5, 5], [5, 5]]), one_group(2), np.array([0, 1]), 3, 1.0)
    assert near.mask.sum(axis=1).tolist() == [1, 1]
    assert near.rows[:, 0].tolist() == [1, 0]
    assert np.isfinite(near.relation).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_no_neighbours_where_they_are_switched_off(n):
    select = np.arange(n)
    near = neighbours(standing_at(np.zeros((n, 2))), one_group(n), select, 0, 10.0)
    assert not near.mask.any()
    assert len(near.rows) == len(near.mask) == len(near.relation) == n


def test_nobody_is_asked():
    near = neighbours(standing_at(np.zeros((3, 2))), one_group(3), np.zeros(0, np.int64), 4, 10.0)
    assert near.mask.shape == (0, 4)


@st.composite
def crowds(draw):
    n = draw(st.integers(0, 12))
    # Tenths of a metre and a radius between them: no distance is a matter of rounding.
    xy = draw(st.lists(st.tuples(st.integers(-80, 80), st.integers(-80, 80)), min_size=n, max_size=n))
    group = draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    select = draw(st.lists(st.integers(0, n - 1), unique=True)) if n else []
    return (
        np.array(xy, float).reshape(n, 2) / 10,
        np.array(group, np.int64),
        np.array(select, np.int64),
        draw(st.integers(0, 4)),
        draw(st.sampled_from([0.0, 0.55001, 3.33003, 7.77007, 50.0])),
    )


def check_against_brute_force(xy, group, select, count, radius_m):
    near = neighbours(standing_at(xy), group, select, count, radius_m)
    for me, rows, mask, relation in zip(select, near.rows, near.mask, near.relation, strict=True):
        distance = {
            other: math.dist(xy[me], xy[other])
            for other in range(len(xy))
            if other != me and group[other] == group[me] and math.dist(xy[me], xy[other]) <= radius_m
        }
        chosen = rows[mask].tolist()
        assert set(chosen) <= set(distance)  # never oneself, another group, or somebody too far
        assert len(set(chosen)) == len(chosen)
        assert [distance[other] for other in chosen] == sorted(distance.values())[:count]
        np.testing.assert_allclose(relation[mask][:, :2], xy[chosen] - xy[me], atol=1e-5)
        assert not relation[~mask].any()


@settings(max_examples=100)
@given(crowds())
def test_neighbours_are_those_of_brute_force(crowd):
    xy, group, select, count, radius_m = crowd
    assume(radius_m > 0)
    check_against_brute_force(xy, group, select, count, radius_m)


def test_groups_never_mix_at_a_radius_of_zero():
    # The groups lie over each other; nobody shares a place with one of his own group.
    xy = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    check_against_brute_force(xy, np.array([0, 0, 1, 1]), np.arange(4), 4, 0.0)


def test_one_agent_far_away_does_not_blur_the_other_groups():
    xy = np.array([[0.0, 0.0], [1e20, 0.0], [0.0, 0.0], [500.0, 0.0], [3.0, 0.0]])
    check_against_brute_force(xy, np.array([0, 0, 1, 1, 1]), np.arange(5), 4, 10.0)


def test_neighbours_in_map_coordinates_of_a_whole_country():
    # UTM-like offsets must not cost the distances their precision.
    rng = np.random.default_rng(3)
    xy = np.array([4.5e5, 5.4e6]) + np.round(rng.uniform(-20, 20, (40, 2)), 2)
    group = rng.integers(0, 5, 40)
    near = neighbours(standing_at(xy), group, np.arange(40), 40, 10.0001)
    distance = np.hypot(*np.moveaxis(xy[:, None] - xy[None], -1, 0))
    expected = (distance <= 10.0001) & (group[:, None] == group[None]) & ~np.eye(40, dtype=bool)
    assert near.mask.sum(axis=1).tolist() == expected.sum(axis=1).tolist()
