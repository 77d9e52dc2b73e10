"""What a model is told of where in a place an agent is, by hand; and of whom it is told nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajpred.place import CELL_M, PLACE, Place
from trajpred.types import Label

TOWN = Place("town", 4e5, 5e6, 60.0, ())
MIDDLE = np.array([4e5, 5e6])


def labels(count, label=Label.BICYCLE):
    return np.full(count, label, np.uint8)


def test_where_in_a_place_an_agent_is_by_hand():
    (told,) = TOWN.waves(MIDDLE + np.array([[30.0, -15.0]]), np.array([np.pi / 2]))
    row = dict(zip(PLACE, told.tolist(), strict=True))
    assert row["known"] == 1.0
    expected = {"heading_sin": 1.0, "heading_cos": 0.0, "heading_2_sin": 0.0, "heading_2_cos": -1.0}
    # 30 m are a quarter of the longest wave of 120 m, 15 m an eighth.
    expected |= {"x_1_sin": 1.0, "x_1_cos": 0.0, "y_1_sin": -np.sqrt(0.5), "y_1_cos": np.sqrt(0.5)}
    expected |= {"x_2_sin": 0.0, "x_2_cos": -1.0, "y_2_sin": -1.0, "y_2_cos": 0.0, "y_4_cos": -1.0}
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(
    st.tuples(*2 * [st.floats(-40.0, 40.0)]), st.tuples(*2 * [st.floats(-40.0, 40.0)]), st.floats(-3.0, 3.0)
)
def test_two_points_of_a_place_are_told_apart(one, other, heading):
    told = TOWN.waves(MIDDLE + np.array([one, other]), np.full(2, heading))
    assert np.abs(told[0] - told[1]).max() >= 0.009 * np.hypot(*np.subtract(one, other)) - 1e-5


def test_a_place_is_known_where_somebody_was_seen_of_that_class_and_facing_that_way():
    xy = MIDDLE + np.array([[-30.0, 0.0], [30.0, 0.0]])
    place = Place.of("town", xy, np.zeros(2), labels(2))
    assert (place.x_m, place.y_m, place.reach_m) == (4e5, 5e6, 30.0)
    # Squares are CELL_M wide from the middle on, sectors an eighth of a turn about north, east ...
    asked = MIDDLE + np.array([[29.0, 1.0], [29.0, 1.0 + CELL_M], [27.0, 1.0], [29.0, -1.0]])
    assert place.knows(asked, np.zeros(4), labels(4)).tolist() == [True, False, False, False]
    assert place.knows(asked[[0, 0, 0]], np.array([0.39, 0.40, 2 * np.pi - 0.39]), labels(3)).tolist() == [
        True,
        False,
        True,
    ]
    assert not place.knows(asked, np.zeros(4), labels(4, Label.CAR)).any()
    told = place.whereabouts(asked, np.zeros(4), labels(4))
    assert told.dtype == np.float32
    assert told[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert not told[1:].any()
    np.testing.assert_array_equal(told[0], place.waves(asked, np.zeros(4))[0])
    more = place.seeing(asked, np.zeros(4), labels(4, Label.CAR))
    assert more.knows(asked, np.zeros(4), labels(4, Label.CAR)).all()
    assert more.knows(xy, np.zeros(2), labels(2)).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1e6, 1e6))
def test_everybody_of_training_is_known_and_nobody_a_long_way_off(seed, offset):
    draw = np.random.default_rng(seed)
    xy, heading = draw.normal(scale=50.0, size=(40, 2)) + offset, draw.uniform(-7.0, 7.0, 40)
    label = draw.integers(0, len(Label), 40).astype(np.uint8)
    place = Place.of("town", xy, heading, label)
    assert place.knows(xy, heading, label).all()
    assert place.knows(xy, heading + 2 * np.pi, label).mean() > 0.9  # but for who is at a sector's border
    for away in (1e3, 1e7):
        assert not place.knows(xy + away, heading, label).any()
        assert not place.knows(xy - away, heading, label).any()


def test_a_place_of_one_spot_has_no_faults_and_nobody_is_told_of_nobody():
    place = Place.of("town", MIDDLE[None], np.zeros(1), labels(1))
    assert place.reach_m == CELL_M
    assert np.isfinite(place.whereabouts(MIDDLE[None], np.zeros(1), labels(1))).all()
    assert place.whereabouts(np.zeros((0, 2)), np.zeros(0), labels(0)).shape == (0, len(PLACE))
    assert not TOWN.knows(MIDDLE[None], np.zeros(1), labels(1)).any()
