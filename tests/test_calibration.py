"""Likelihood, coverage and reliability against closed forms and calibrated synthetic data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajpred.calibration import (
    RELIABILITY_BINS,
    SPREAD_FLOOR_M,
    expected_calibration_error,
    mixture_nll,
    region_share,
    reliability_bins,
    reliability_counts,
)


def draw_mixture(rng: np.random.Generator, agents: int, modes: int):
    """Mixtures whose modes overlap to every degree, and a true point drawn from each."""
    mean = rng.normal(scale=rng.uniform(0.1, 5.0, (agents, 1, 1)), size=(agents, modes, 2))
    spread = rng.uniform(0.3, 1.5, (agents, modes))
    probability = rng.dirichlet(np.ones(modes), agents)
    agent = np.arange(agents)
    mode = (rng.random((agents, 1)) > np.cumsum(probability, axis=1)[:, :-1]).sum(axis=1)
    point = mean[agent, mode] + spread[agent, mode, None] * rng.normal(size=(agents, 2))
    return point, mean, spread, probability


def test_nll_of_one_gaussian_is_the_textbook_density():
    # On the point with 1 m: log(2 pi) = 1.8379. 5 m off with 2 m: 25 / (2 * 4) + log(2 pi * 4) = 6.3492.
    distance = np.array([[[0.0, 5.0]]])
    spread = np.array([[[1.0, 2.0]]])
    one = np.ones((1, 1))
    first = mixture_nll(distance, one, spread, np.array([[True, False]]))
    second = mixture_nll(distance, one, spread, np.array([[False, True]]))
    both = mixture_nll(distance, one, spread, np.array([[True, True]]))
    assert first == pytest.approx(1.8378771)
    assert second == pytest.approx(6.3491714)
    assert both == pytest.approx((1.8378771 + 6.3491714) / 2)


def test_nll_mixes_densities_not_their_logarithms():
    # 0.25 * 1 / (2 pi) + 0.75 * exp(-2) / (2 pi), both with 1 m, the second 2 m off
    nll = mixture_nll(np.array([[[0.0], [2.0]]]), np.array([[0.25, 0.75]]), np.ones((1, 2, 1)), [[True]])
    assert nll == pytest.approx(-math.log((0.25 + 0.75 * math.exp(-2)) / (2 * math.pi)))


def test_nll_stays_finite_far_off_with_a_spread_of_zero_and_with_a_mode_of_probability_zero():
    floor = SPREAD_FLOOR_M
    nll = mixture_nll(np.array([[[100.0], [0.0]]]), np.array([[1.0, 0.0]]), np.zeros((1, 2, 1)), [[True]])
    assert nll == pytest.approx(100.0**2 / (2 * floor**2) + math.log(2 * math.pi * floor**2))


@pytest.mark.parametrize("spread", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_region_of_one_gaussian_is_the_disc_of_the_rayleigh_quantile(share, spread):
    # P(|x| <= r) = 1 - exp(-r^2 / 2 s^2), so r = s sqrt(-2 log(1 - share)); a share is known to 1/200.
    radius = spread * math.sqrt(-2 * math.log(1 - share))
    angle = np.linspace(0, 2 * np.pi, 7)
    point = 4e5 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = region_share(point, np.full((7, 1, 2), 4e5), np.full((7, 1), spread), np.ones((7, 1)))
    assert found == pytest.approx(np.full(7, share), abs=0.0051)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0, 3.0])
def test_region_of_separate_modes_counts_every_mode_above_the_density(radius):
    # Far apart with 1 m, mode k is denser than t = p_j exp(-r^2 / 2) on a disc of mass p_k - t.
    probability = np.array([[0.6, 0.3, 0.1]])
    mean = np.array([[[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]]])
    t = 0.3 * math.exp(-(radius**2) / 2)
    expected = sum(max(0.0, p - t) for p in (0.6, 0.3, 0.1))
    found = region_share(np.array([[100.0, radius]]), mean, np.ones((1, 3)), probability)
    assert found == pytest.approx(expected, abs=0.03)


def test_a_mode_of_probability_zero_takes_no_part():
    point, mean, spread, probability = draw_mixture(np.random.default_rng(1), 50, 3)
    probability[:, 1:] *= [[1.0, 0.0]]
    probability /= probability.sum(axis=1, keepdims=True)
    without = region_share(point, mean[:, :2], spread[:, :2], probability[:, :2])
    assert np.array_equal(region_share(point, mean, spread, probability), without)


@pytest.mark.parametrize("far", [50.0, 1e4, 1e9])
def test_a_point_far_from_every_mode_is_outside_of_every_region(far):
    mean = np.array([[[0.0, 0.0], [1.0, 0.0]]])
    share = region_share(np.array([[0.0, far]]), mean, np.zeros((1, 2)), np.full((1, 2), 0.5))
    assert share == pytest.approx(1.0)


@settings(max_examples=15)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_region_agrees_with_many_random_samples(modes, seed):
    rng = np.random.default_rng(seed)
    point, mean, spread, probability = draw_mixture(rng, 1, modes)
    mode = rng.choice(modes, 20_000, p=probability[0])
    samples = mean[0, mode] + spread[0, mode, None] * rng.normal(size=(20_000, 2))

    def density(x):
        square = ((x[:, None] - mean[0]) ** 2).sum(axis=2)
        return (probability[0] / spread[0] ** 2 * np.exp(-square / (2 * spread[0] ** 2))).sum(axis=1)

    expected = (density(samples) > density(point)).mean()
    # 199 random samples would be off by sqrt(0.25 / 199) = 0.035; even ones by less than two of these.
    assert region_share(point, mean, spread, probability)[0] == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("modes", [1, 6, 20])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_truth_drawn_from_the_prediction_is_covered_as_often_as_stated(modes, level):
    agents = 4000
    mixture = draw_mixture(np.random.default_rng(modes), agents, modes)
    covered = (region_share(*mixture) <= level).mean()
    # four standard errors of a share, and half a percent for the error of the samples
    assert covered == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / agents) + 0.005)


def test_coverage_tells_too_small_a_spread():
    # s stated, 2 s true: P(|x| <= r) at the stated 90 % radius is 1 - 0.1^(1/4) = 0.438
    point = 2.0 * np.random.default_rng(0).normal(size=(4000, 2))
    share = region_share(point, np.zeros((4000, 1, 2)), np.ones((4000, 1)), np.ones((4000, 1)))
    assert (share <= 0.9).mean() == pytest.approx(0.438, abs=4 * math.sqrt(0.438 * 0.562 / 4000))


def test_reliability_by_hand():
    # Agent 0: the mode of 0.62 is closest. Agent 1: the mode of 0.38 is; its third mode is not valid.
    probability = np.array([[0.62, 0.31, 0.07], [0.62, 0.38, 0.0]])
    error = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, np.inf]])
    valid = np.array([[True, True, True], [True, True, False]])
    counts = reliability_counts(probability, error, valid)
    assert counts.shape == (2, RELIABILITY_BINS, 3)
    bins = reliability_bins(counts.sum(axis=0))
    assert [(b["low"], b["high"], b["count"], b["frequency"]) for b in bins] == [
        (0.0, 0.1, 1, 0.0),
        (0.3, 0.4, 2, 0.5),
        (0.6, 0.7, 2, 0.5),
    ]
    assert [b["mean_probability"] for b in bins] == pytest.approx([0.07, 0.345, 0.62])
    # (1 * 0.07 + 2 * |0.5 - 0.345| + 2 * |0.5 - 0.62|) / 5 = (0.07 + 0.31 + 0.24) / 5
    assert expected_calibration_error(counts.sum(axis=0)) == pytest.approx(0.124)


def test_a_probability_of_one_is_in_the_last_bin():
    counts = reliability_counts(np.ones((3, 1)), np.ones((3, 1)), np.ones((3, 1), bool))
    assert counts.sum(axis=0)[-1].tolist() == [3.0, 3.0, 3.0]
    assert expected_calibration_error(counts.sum(axis=0)) == 0.0


def test_calibration_error_of_calibrated_and_of_overconfident_modes():
    rng = np.random.default_rng(3)
    agents, modes = 20_000, 5
    probability = rng.dirichlet(np.ones(modes), agents)
    closest = (rng.random((agents, 1)) > np.cumsum(probability, axis=1)[:, :-1]).sum(axis=1)
    error = 1.0 + rng.random((agents, modes))
    error[np.arange(agents), closest] = 0.5
    valid = np.ones((agents, modes), bool)
    # Noise: sum over bins of w sqrt(0.25 / w n) <= sqrt(0.25 * bins / n) = 0.005 for n = 100 000 pairs.
    counts = reliability_counts(probability, error, valid).sum(axis=0)
    assert expected_calibration_error(counts) < 0.01
    # All weight on the first mode, closest one time in five: off by 0.8 there and by 0.2 elsewhere.
    sure = np.zeros((agents, modes))
    sure[:, 0] = 1.0
    counts = reliability_counts(sure, error, valid).sum(axis=0)
    assert expected_calibration_error(counts) == pytest.approx((0.8 + 4 * 0.2) / 5, abs=0.01)
