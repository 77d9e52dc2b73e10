"""A small seeded scene of tracks: cyclists, pedestrians and cars on a street, for the demo.

A cyclist rides along the right edge of the lane; some drift into it, swerve, turn off, or stop. Cars follow
the lane and brake; pedestrians walk beside it, stand, and some cross. Positions carry a tracker's noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from trajpred.config import Protocol
from trajpred.types import Float, Label, Scene, ids_from_int

PROTOCOL = Protocol(step_ns=200_000_000, observe=10, predict=20)
"""How the demo's model is trained and scored: 2 s seen, 4 s ahead."""
STEP_S = 0.1
POSITION_NOISE_M = 0.03
SIZES_M = {Label.CAR: (4.5, 1.8, 1.5), Label.BICYCLE: (1.8, 0.6, 1.7), Label.PEDESTRIAN: (0.5, 0.5, 1.7)}
SPEED_MPS = {Label.CAR: (9.0, 2.0), Label.BICYCLE: (4.5, 1.0), Label.PEDESTRIAN: (1.3, 0.2)}
ACCELERATION_MPS2 = {Label.CAR: 2.5, Label.BICYCLE: 1.2, Label.PEDESTRIAN: 1.0}
TURN_RATE_RPS = {Label.CAR: 0.35, Label.BICYCLE: 0.6, Label.PEDESTRIAN: 1.2}
LIFETIME_S = (8.0, 20.0)
MIX = ((Label.BICYCLE, 0.45), (Label.PEDESTRIAN, 0.35), (Label.CAR, 0.2))


def demo_scene(seconds: float, seed: int, agents_at_once: int = 14) -> Scene:
    """A street of `seconds` length in time at 10 Hz; the same seed gives the same scene.

    Yaw, velocity and size are given, as an on-board tracker would.
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(agents_at_once * seconds / np.mean(LIFETIME_S)))
    tracks = [_track(number, seconds, rng) for number in range(count)]
    stamp, ids, label, xy, yaw, velocity = (np.concatenate(part) for part in zip(*tracks, strict=True))
    size = np.zeros((len(label), 3))
    for kind, metres in SIZES_M.items():
        size[label == kind] = metres
    return Scene.build(
        f"street_{seed}",
        stamp,
        ids_from_int(ids),
        xy,
        label=label,
        yaw=yaw,
        velocity=velocity,
        size=size,
    )


def _track(number: int, seconds: float, rng: Generator) -> tuple[NDArray[Any], ...]:
    """One agent from its birth to its death: rows of (stamp_ns, id, label, xy, yaw, velocity)."""
    kinds, weights = zip(*MIX, strict=True)
    kind = Label(rng.choice(kinds, p=weights))
    steps = int(rng.uniform(*LIFETIME_S) / STEP_S)
    first = int(rng.uniform(-0.5 * steps, seconds / STEP_S - 0.2 * steps))
    cruise = max(0.4, rng.normal(*SPEED_MPS[kind]))
    wanted_speed, wanted_course = _intentions(kind, steps, cruise, rng)
    speed, course = _follow(kind, wanted_speed, wanted_course)
    forward = rng.random() < 0.7
    velocity = (speed * np.stack([np.cos(course), np.sin(course)])).T * (1.0 if forward else -1.0)
    lane_y = {Label.CAR: -1.75, Label.BICYCLE: -3.2, Label.PEDESTRIAN: -5.5}[kind] + rng.normal(scale=0.3)
    start = np.array([rng.uniform(-60.0, 60.0), lane_y])
    if not forward:
        start[1] = -start[1]
    xy = start + np.cumsum(velocity, axis=0) * STEP_S + rng.normal(scale=POSITION_NOISE_M, size=(steps, 2))
    step = first + np.arange(steps)
    inside = (step >= 0) & (step * STEP_S < seconds)
    rows = (
        step * round(STEP_S * 1e9),
        np.full(steps, number),
        np.full(steps, int(kind)),
        xy,
        np.arctan2(velocity[:, 1], velocity[:, 0]),
        velocity + rng.normal(scale=0.1, size=(steps, 2)),
    )
    return tuple(column[inside] for column in rows)


def _intentions(kind: Label, steps: int, cruise: float, rng: Generator) -> tuple[Float, Float]:
    """(steps,) wanted speed m/s and course rad: one manoeuvre, sometime in the middle."""
    speed, course = np.full(steps, cruise), np.zeros(steps)
    begin = int(rng.uniform(0.2, 0.7) * steps)
    length = int(rng.uniform(1.5, 3.5) / STEP_S)
    end = min(begin + length, steps)
    manoeuvre = rng.choice(["straight", "stop", "drift", "turn", "swerve"], p=[0.2, 0.2, 0.3, 0.2, 0.1])
    angle = {Label.CAR: 0.12, Label.BICYCLE: 0.3, Label.PEDESTRIAN: 0.8}[kind] * rng.uniform(0.7, 1.3)
    if manoeuvre == "stop":
        speed[begin:end] = 0.0
        speed[end:] = 0.0 if rng.random() < 0.5 else cruise
    elif manoeuvre == "drift":  # into the lane: to the left
        course[begin:end] = angle
    elif manoeuvre == "turn":
        course[begin:] = rng.choice([-1.0, 1.0]) * np.pi / 2
        speed[begin:end] = min(cruise, 4.0)
    elif manoeuvre == "swerve":
        middle = (begin + end) // 2
        course[begin:middle], course[middle:end] = angle, -angle
    return speed, course


def _follow(kind: Label, wanted_speed: Float, wanted_course: Float) -> tuple[Float, Float]:
    """Speed and course that follow the wanted ones within the class's limits; at rest nothing turns."""
    speed, course = wanted_speed.copy(), wanted_course.copy()
    gain, turn = ACCELERATION_MPS2[kind] * STEP_S, TURN_RATE_RPS[kind] * STEP_S
    for t in range(1, len(speed)):
        speed[t] = speed[t - 1] + np.clip(wanted_speed[t] - speed[t - 1], -gain, gain)
        limit = turn * min(1.0, speed[t])
        course[t] = course[t - 1] + np.clip(wanted_course[t] - course[t - 1], -limit, limit)
    return speed, course
