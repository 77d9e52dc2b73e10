"""Predictors without learning: constant velocity, constant turn rate and velocity, Kalman filter.

They answer where no model is asked for, and for the agents that a model cannot answer.
All give one path; the spread grows as that of a white acceleration of ACCELERATION_MPS2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trajpred.features import Motion, Observation
from trajpred.types import Float

BaselineName = Literal["cv", "ctrv", "kalman"]

POSITION_NOISE_M = 0.1
ACCELERATION_MPS2 = 1.0


def constant_velocity(motion: Motion, offset_s: Float) -> Float:
    """(N, T, 2) m: the last displacement, repeated (Schoeller et al., RA-L 2020)."""
    return motion.xy[:, None] + motion.velocity[:, None] * offset_s[:, None]


def constant_turn(motion: Motion, offset_s: Float) -> Float:
    """(N, T, 2) m: the circle through the last three positions, followed at the last speed (CTRV)."""
    chord = np.hypot(motion.velocity[:, 0], motion.velocity[:, 1])[:, None]
    rate = motion.turn_rate[:, None]
    # The last displacement is a chord of the circle: the agent now heads half its turn further,
    # and the arc is longer than the chord. np.sinc has pi inside.
    half_turn = 0.5 * rate * motion.interval_s[:, None]
    course = np.arctan2(motion.velocity[:, 1], motion.velocity[:, 0])[:, None] + half_turn
    speed = chord / np.maximum(np.sinc(half_turn / np.pi), 0.1)
    half = 0.5 * rate * offset_s
    length = speed * offset_s * np.sinc(half / np.pi)
    angle = course + half
    return motion.xy[:, None] + np.stack([length * np.cos(angle), length * np.sin(angle)], axis=-1)


def grown_spread(offset_s: Float, n: int) -> Float:
    """(n, T) m: standard deviation of each coordinate offset_s after an observation."""
    sigma = np.hypot(POSITION_NOISE_M, ACCELERATION_MPS2 * offset_s**2 / 2)
    return np.broadcast_to(sigma, (n, len(offset_s)))


@dataclass(frozen=True, slots=True, eq=False)
class Kalman:
    """A constant-velocity Kalman filter per track, x and y alike (they share one covariance).

    mean (N, 4): x, y m, vx, vy m/s; cov (N, 3): var(x) m^2, cov(x, vx), var(vx).
    """

    mean: Float
    cov: Float

    def advance(self, before: Motion, seen: Observation) -> Kalman:
        """Predict over the elapsed time, then correct by the observed position."""
        new = before.count == 0
        t = np.where(new, 0.0, (seen.stamp_ns - before.stamp_ns) / 1e9)
        position, velocity = self.mean[:, :2] + t[:, None] * self.mean[:, 2:], self.mean[:, 2:]
        p, c, v = self._predict(t)
        gain_p, gain_v = (g / (p + POSITION_NOISE_M**2) for g in (p, c))
        error = seen.xy - position
        mean = np.concatenate(
            [position + gain_p[:, None] * error, velocity + gain_v[:, None] * error], axis=1
        )
        cov = np.stack([(1 - gain_p) * p, (1 - gain_p) * c, v - gain_v * c], axis=1)
        start = np.concatenate([seen.xy, np.where(seen.velocity_valid[:, None], seen.velocity, 0.0)], axis=1)
        # A new track may move at any road user's speed, unless the tracker says at which.
        loose = np.where(seen.velocity_valid, 1.0, 10.0) ** 2
        start_cov = np.stack([np.full_like(t, POSITION_NOISE_M**2), np.zeros_like(t), loose], axis=1)
        return Kalman(np.where(new[:, None], start, mean), np.where(new[:, None], start_cov, cov))

    def _predict(self, t: Float) -> tuple[Float, Float, Float]:
        """The covariance t (N,) s later under white acceleration."""
        q = ACCELERATION_MPS2**2
        p, c, v = self.cov.T
        return p + 2 * t * c + t**2 * v + q * t**3 / 3, c + t * v + q * t**2 / 2, v + q * t

    def forecast(self, offset_s: Float) -> tuple[Float, Float]:
        """Paths (N, T, 2) m and their spread (N, T) m."""
        paths = self.mean[:, None, :2] + self.mean[:, None, 2:] * offset_s[:, None]
        spread = np.stack([np.sqrt(self._predict(np.full(len(self.mean), t))[0]) for t in offset_s], axis=1)
        return paths, spread
