"""A cyclist ahead on the right drifts into the ego's lane: the scene that the planner has to be good for.

The ego's lane runs along +x, 3.5 m wide, its centre at y = -1.75 m; the ego comes from behind. The cyclist
rides at the right edge, then steers to the left with limited turn rate, and goes on inside the lane. A
pedestrian on the sidewalk and a car that comes towards the ego in its own lane are in nobody's way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trajpred.config import NS_PER_S
from trajpred.types import Float, Int, Label, Scene, ids_from_int

LANE_Y_M, LANE_WIDTH_M = -1.75, 3.5
EGO_SPEED_MPS = 10.0
CYCLIST, PEDESTRIAN, ONCOMING = ids_from_int([1, 2, 3])
SIZE_M = {Label.BICYCLE: (1.8, 0.6, 1.7), Label.PEDESTRIAN: (0.5, 0.5, 1.7), Label.CAR: (4.5, 1.8, 1.5)}

SECONDS, STEP_S, FINE_S = 12.0, 0.1, 0.001
CYCLIST_START_M, CYCLIST_SPEED_MPS = (40.0, -4.2), 4.5
DRIFT_BEGINS_S, DRIFT_RAMP_S, DRIFT_M = (
    4.0,
    1.0,
    2.7,
)  # when, how long to reach the course, how far to the left
NOISE_TIME_S = 0.5  # a tracker's errors wander: they are the mean of white noise over about this time


@dataclass(frozen=True, slots=True, eq=False)
class DriftScene:
    """The recording, and the truth about the cyclist, on a grid of a millisecond.

    ego_path (2, 2) m; the ego is at its start at stamp 0, at EGO_SPEED_MPS. stamp_ns (G,);
    cyclist_xy (G, 2) m and cyclist_yaw (G,) rad without noise.
    """

    scene: Scene
    ego_path: Float
    stamp_ns: Int
    cyclist_xy: Float
    cyclist_yaw: Float

    def enters_ns(self, half_width_m: float) -> int:
        """When the cyclist's footprint first touches a corridor of this half width along the lane."""
        length, width, _ = SIZE_M[Label.BICYCLE]
        reach = (length * np.abs(np.sin(self.cyclist_yaw)) + width * np.abs(np.cos(self.cyclist_yaw))) / 2
        inside = self.cyclist_xy[:, 1] + reach >= LANE_Y_M - half_width_m
        return int(self.stamp_ns[np.argmax(inside)])


def drift_scene(seed: int = 0, noise_m: float = 0.03, course_rad: float = 0.15) -> DriftScene:
    """Twelve seconds at 10 Hz from stamp 0; the same seed gives the same scene.

    course_rad: how much the cyclist turns to the left, from 0.1 (a slow drift) to 0.3 (a swerve). Yaw,
    velocity and size are given, as a tracker would. noise_m: standard deviation of a position's
    coordinates; 0.5 times it per second that of a velocity's, and a tenth of it in rad that of a yaw.
    """
    rng = np.random.default_rng(seed)
    fine_s = FINE_S * np.arange(round(SECONDS / FINE_S))
    lasts_s = DRIFT_RAMP_S + DRIFT_M / (CYCLIST_SPEED_MPS * course_rad)
    drifts_s = fine_s - DRIFT_BEGINS_S
    yaw = course_rad * np.clip(np.minimum(drifts_s, lasts_s - drifts_s) / DRIFT_RAMP_S, 0.0, 1.0)
    velocity = CYCLIST_SPEED_MPS * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    travelled = np.cumsum(velocity * FINE_S, axis=0) - velocity[0] * FINE_S
    cyclist_xy = np.array(CYCLIST_START_M) + travelled

    every = round(STEP_S / FINE_S)
    time_s = fine_s[::every, None]
    straight = np.ones_like(time_s)
    tracks = [
        (CYCLIST, Label.BICYCLE, cyclist_xy[::every], velocity[::every]),
        (PEDESTRIAN, Label.PEDESTRIAN, (30.0, -6.0) + time_s * (1.3, 0.0), straight * (1.3, 0.0)),
        (ONCOMING, Label.CAR, (120.0, 1.75) + time_s * (-9.0, 0.0), straight * (-9.0, 0.0)),
    ]
    ids, label, xy, velocities = zip(*tracks, strict=True)
    count, objects = len(time_s), len(tracks)
    true_velocity = np.concatenate(velocities)
    course = np.arctan2(true_velocity[:, 1], true_velocity[:, 0])
    noise = noise_m * np.concatenate([_wandering(count, rng) for _ in range(objects)])  # (R, 5)
    scene = Scene.build(
        f"drift_{seed}",
        np.tile(np.rint(time_s[:, 0] * NS_PER_S).astype(np.int64), objects),
        np.repeat(ids, count),
        np.concatenate(xy) + noise[:, :2],
        label=np.repeat(label, count),
        yaw=course + 0.1 * noise[:, 4],
        velocity=true_velocity + 0.5 * noise[:, 2:4],
        size=np.repeat([SIZE_M[kind] for kind in label], count, axis=0),
    )
    return DriftScene(
        scene=scene,
        ego_path=np.array([(0.0, LANE_Y_M), (1.0, LANE_Y_M)]),
        stamp_ns=np.rint(fine_s * NS_PER_S).astype(np.int64),
        cyclist_xy=cyclist_xy,
        cyclist_yaw=yaw,
    )


def _wandering(count: int, rng: np.random.Generator) -> Float:
    """(count, 5) smooth noise of standard deviation 1."""
    taps = np.hanning(2 * round(NOISE_TIME_S / STEP_S) + 1)
    white = rng.normal(size=(count + len(taps) - 1, 5))
    smooth = [np.convolve(column, taps / np.linalg.norm(taps), mode="valid") for column in white.T]
    return np.stack(smooth, axis=1)
