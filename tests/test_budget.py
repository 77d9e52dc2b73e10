"""A time budget: how many objects the model answers, which ones, and what the others get."""

from __future__ import annotations

import numpy as np
import pytest

from trajpred.budget import ANSWER, SPARE, TimeBudget
from trajpred.config import DEFAULT_MODEL
from trajpred.predictor import Ego, Predictor
from trajpred.runtime import OnnxModel
from trajpred.types import Label, Source, TrackFrame, ids_from_int


def test_without_a_limit_or_a_message_yet_all_are_answered():
    assert TimeBudget().most(1000, 0.0) is None
    assert TimeBudget().most(1000, 10.0) is None


def test_what_fits_is_what_the_last_message_says():
    """100 objects, all answered, took 30 ms: in 15 ms they are taken in and few are answered."""
    budget = TimeBudget()
    budget.took(100, 100, 30.0)
    unit_ms = 30.0 / (100 + ANSWER * 100)
    most = budget.most(100, 15.0)
    assert most is not None
    assert 0 < most < 100
    assert unit_ms * (100 + ANSWER * most) <= (1.0 - SPARE) * 15.0
    assert budget.most(10, 15.0) is None  # so few fit


def test_if_taking_in_alone_is_too_slow_none_is_answered():
    budget = TimeBudget()
    budget.took(100, 100, 30.0)
    assert budget.most(1000, 1.0) == 0


def test_a_slower_machine_is_believed_at_once_and_a_faster_one_slowly():
    budget = TimeBudget()
    budget.took(100, 0, 5.0)
    before = budget.most(100, 12.0)
    budget.took(100, 0, 10.0)
    slow = budget.most(100, 12.0)
    budget.took(100, 0, 5.0)
    after = budget.most(100, 12.0)
    assert before is not None
    assert slow is not None
    assert after is not None
    assert slow < after < before


def test_an_empty_message_teaches_nothing():
    budget = TimeBudget()
    budget.took(0, 0, 5.0)
    assert budget.most(100, 15.0) is None


def on_a_street(stamp_ns: int, x_m: list[float], speed_mps: list[float]) -> TrackFrame:
    """Cyclists on the x axis, where they are a while after the start."""
    velocity = np.stack([speed_mps, np.zeros(len(x_m))], axis=1)
    xy = np.stack([x_m, np.zeros(len(x_m))], axis=1) + velocity * stamp_ns * 1e-9
    rows = np.arange(len(x_m))
    return TrackFrame.build(
        stamp_ns, ids_from_int(rows), xy, label=np.full(len(x_m), Label.BICYCLE), yaw=0.0, velocity=velocity
    )


X_M = [-40.0, -10.0, 5.0, 20.0, 60.0]
SPEED_MPS = [0.0, 0.0, 0.0, 0.0, -15.0]


@pytest.fixture
def predictor():
    return Predictor(OnnxModel.load(DEFAULT_MODEL))


def told(predictor: Predictor, at_most: int | None, ego: Ego | None):
    for tick in range(5):
        prediction = predictor.step(on_a_street(tick * 100_000_000, X_M, SPEED_MPS), at_most, ego)
    return prediction


def test_the_nearest_and_those_that_come_nearer_fast_are_answered_by_the_model(predictor):
    ego = Ego(np.array([0.0, 0.0]), np.array([0.0, 0.0]))
    prediction = told(predictor, 3, ego)
    by_model = prediction.source == Source.MODEL
    np.testing.assert_array_equal(by_model, [False, True, True, False, True])
    assert (prediction.source[~by_model] == Source.OVER_BUDGET).all()
    assert np.isfinite(prediction.paths).all()
    np.testing.assert_allclose(prediction.probability.sum(axis=1), 1.0)
    assert predictor.counts.answers[Source.OVER_BUDGET] >= 2


def test_an_ego_that_drives_meets_what_is_ahead_before_what_is_behind(predictor):
    ego = Ego(np.array([-5.0, 0.0]), np.array([12.0, 0.0]))
    by_model = told(predictor, 3, ego).source == Source.MODEL
    np.testing.assert_array_equal(by_model, [False, False, True, True, True])


def test_without_an_ego_the_middle_counts(predictor):
    by_model = told(predictor, 1, None).source == Source.MODEL
    assert np.flatnonzero(by_model).tolist() == [2]


def test_who_was_left_out_is_remembered_all_the_same(predictor):
    """The next message, in which there is time, is answered as if nobody had ever been left out."""
    other = Predictor(OnnxModel.load(DEFAULT_MODEL))
    told(predictor, 2, None)
    told(other, None, None)
    frame = on_a_street(500_000_000, X_M, SPEED_MPS)
    np.testing.assert_allclose(predictor.step(frame).paths, other.step(frame).paths, atol=1e-5)


def test_none_at_all_is_an_answer_too(predictor):
    assert (told(predictor, 0, None).source == Source.OVER_BUDGET).all()
