"""Baselines against motions whose continuation is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from trajpred.baselines import Kalman, constant_turn, constant_velocity
from trajpred.features import Motion, Observation, fold

OFFSET_S = np.array([0.5, 1.0, 2.0])


def observed(path_of_t, steps=4, dt=0.5):
    t = np.arange(steps) * dt
    stamps = np.rint(t * 1e9).astype(np.int64)
    return fold(stamps, path_of_t(t)[None], np.ones((1, steps), bool)).motion, t[-1]


def test_constant_velocity_continues_a_straight_line():
    motion, now = observed(lambda t: np.stack([1.0 + 2.0 * t, -3.0 * t], axis=-1))
    expected = np.stack([1.0 + 2.0 * (now + OFFSET_S), -3.0 * (now + OFFSET_S)], axis=-1)
    np.testing.assert_allclose(constant_velocity(motion, OFFSET_S)[0], expected, atol=1e-9)


@pytest.mark.parametrize("rate", [0.8, -0.3])
def test_constant_turn_continues_a_circle(rate):
    def circle(t):
        return np.stack([np.cos(rate * t), np.sin(rate * t)], axis=-1) * 5.0

    motion, now = observed(circle)
    np.testing.assert_allclose(constant_turn(motion, OFFSET_S)[0], circle(now + OFFSET_S), atol=1e-9)


def test_constant_turn_of_a_straight_line_is_constant_velocity():
    motion, _ = observed(lambda t: np.stack([2.0 * t, t], axis=-1))
    np.testing.assert_allclose(
        constant_turn(motion, OFFSET_S), constant_velocity(motion, OFFSET_S), atol=1e-9
    )


def test_the_tracker_velocity_serves_after_one_observation():
    seen = Observation(
        0,
        np.array([[1.0, 2.0]]),
        np.zeros(1),
        np.zeros(1, bool),
        np.array([[3.0, 0.0]]),
        np.ones(1, bool),
    )
    from trajpred.features import advance

    motion, _ = advance(Motion.empty(1), seen)
    np.testing.assert_allclose(constant_velocity(motion, np.array([2.0]))[0], [[7.0, 2.0]])


def test_kalman_settles_on_the_true_velocity_and_grows_less_sure_with_time():
    rng = np.random.default_rng(0)
    motion = Motion.empty(1)
    kalman = Kalman(np.zeros((1, 4)), np.zeros((1, 3)))
    from trajpred.features import advance

    for step in range(60):
        xy = np.array([[0.1 * step * 2.0, 1.0]]) + rng.normal(scale=0.02, size=(1, 2))
        seen = Observation(
            step * 100_000_000, xy, np.zeros(1), np.zeros(1, bool), np.zeros((1, 2)), np.zeros(1, bool)
        )
        kalman = kalman.advance(motion, seen)
        motion, _ = advance(motion, seen)
    np.testing.assert_allclose(kalman.mean[0, 2:], [2.0, 0.0], atol=0.15)
    paths, spread = kalman.forecast(OFFSET_S)
    np.testing.assert_allclose(paths[0, 2], kalman.mean[0, :2] + 2.0 * kalman.mean[0, 2:])
    assert (np.diff(spread[0]) > 0).all()


def test_kalman_matches_the_matrix_form():
    from trajpred.baselines import ACCELERATION_MPS2, POSITION_NOISE_M
    from trajpred.features import advance

    positions = [0.0, 0.6, 0.9, 2.0]
    dt = 0.5
    x = np.array([0.0, 0.0])
    P = np.diag([POSITION_NOISE_M**2, 100.0])
    F = np.array([[1, dt], [0, 1]])
    Q = ACCELERATION_MPS2**2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    H = np.array([[1.0, 0.0]])
    for z in positions[1:]:
        x, P = F @ x, F @ P @ F.T + Q
        gain = P @ H.T / (H @ P @ H.T + POSITION_NOISE_M**2)
        x = x + (gain * (z - H @ x)).ravel()
        P = (np.eye(2) - gain @ H) @ P

    motion, kalman = Motion.empty(1), Kalman(np.zeros((1, 4)), np.zeros((1, 3)))
    for i, z in enumerate(positions):
        seen = Observation(
            int(i * dt * 1e9),
            np.array([[z, -z]]),
            np.zeros(1),
            np.zeros(1, bool),
            np.zeros((1, 2)),
            np.zeros(1, bool),
        )
        kalman = kalman.advance(motion, seen)
        motion, _ = advance(motion, seen)
    np.testing.assert_allclose(kalman.mean[0], [x[0], -x[0], x[1], -x[1]], atol=1e-12)
    np.testing.assert_allclose(kalman.cov[0], [P[0, 0], P[0, 1], P[1, 1]], atol=1e-12)
