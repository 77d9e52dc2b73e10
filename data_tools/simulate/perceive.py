"""What a tracker makes of the truth: noisy, late, with gaps, mixed up now and then, and seeing things.

The sensor stands at a place or rides on one of the cars. Errors of a track wander (a first-order process),
grow with range and speed, and have a white part. All rates are drawn once per recording, so that some
trackers are good and some are bad.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from trajpred.config import NS_PER_S
from trajpred.types import Bool, Float, Ids, Int, Label, Scene, ids_from_int

LOOKS_LIKE = {
    Label.CAR: (Label.TRUCK, Label.UNKNOWN),
    Label.TRUCK: (Label.CAR, Label.BUS),
    Label.BUS: (Label.TRUCK,),
    Label.MOTORCYCLE: (Label.BICYCLE, Label.CAR),
    Label.BICYCLE: (Label.PEDESTRIAN, Label.MOTORCYCLE),
    Label.PEDESTRIAN: (Label.BICYCLE, Label.UNKNOWN),
}
"""What a class is taken for now and then."""
BLUR = {Label.PEDESTRIAN: 0.7, Label.BICYCLE: 0.8, Label.MOTORCYCLE: 0.8, Label.TRUCK: 1.5, Label.BUS: 1.8}
"""How far the centre of a class is off, in units of a car's."""
NEAR_M = 2.5
"""Tracks so near can be mixed up."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """How good a tracker is. Rates per second of one track unless said.

    position_m at no range and at rest, so much more per 50 m and per m/s of motion; wander_s: how fast errors
    change; white: their white share; yaw_rad, speed_mps, size_share; missed: share of frames; born_after:
    frames before a track is reported; gone_after_s: without being seen for so long a track ends, and a new
    one begins; flips: yaw by half a turn; confuses: another class; swaps: two near tracks exchange their ids;
    false_tracks per second in all; occlusion: whether those behind others are hidden; range_m; gives_yaw,
    gives_velocity: whether it says so at all.
    """

    position_m: float = 0.05
    per_50m: float = 0.5
    per_mps: float = 0.01
    wander_s: float = 1.0
    white: float = 0.02
    yaw_rad: float = 0.05
    speed_mps: float = 0.15
    size_share: float = 0.03
    missed: float = 0.03
    born_after: int = 2
    gone_after_s: float = 1.0
    flips: float = 0.01
    confuses: float = 0.01
    swaps: float = 0.005
    false_tracks: float = 0.05
    occlusion: bool = True
    range_m: float = 80.0
    gives_yaw: bool = True
    gives_velocity: bool = True

    @classmethod
    def draw(cls, rng: Generator) -> Tracker:
        """Anything from a good one to a bad one; one in four is above all, and sees over everybody."""
        above = rng.random() < 0.25
        bad = rng.random()

        def rate(most: float) -> float:
            return float(most * bad * rng.random())

        return cls(
            position_m=float(np.exp(rng.uniform(np.log(0.01), np.log(0.15)))),
            per_50m=0.0 if above else float(rng.uniform(0.2, 0.8)),
            per_mps=float(np.exp(rng.uniform(np.log(0.003), np.log(0.05)))),
            wander_s=float(rng.uniform(0.2, 1.5)),
            white=float(np.exp(rng.uniform(np.log(0.01), np.log(0.6)))),
            yaw_rad=float(rng.uniform(0.01, 0.15)),
            speed_mps=float(rng.uniform(0.03, 0.4)),
            missed=rate(0.15),
            born_after=int(rng.integers(0, 5)),
            gone_after_s=float(rng.uniform(0.4, 2.0)),
            flips=rate(0.05),
            confuses=rate(0.06),
            swaps=rate(0.03),
            false_tracks=rate(0.3),
            occlusion=not above,
            range_m=float(rng.uniform(50.0, 120.0)),
            gives_yaw=bool(rng.random() < 0.8),
            gives_velocity=bool(rng.random() < 0.7),
        )


def perceive(
    truth: Scene, tracker: Tracker, rng: Generator, ego: Ids | None = None, at: Float | None = None
) -> tuple[Scene, Ids]:
    """What the tracker reports of the truth, and (R,) the true id behind each row of it.

    ego (1,): the id of the one that the sensor rides on, which is not reported; else it stands at `at` (2,)
    m. Times are those of the truth. Ids are the tracker's own. Where nothing is behind a row, the true id is
    empty.
    """
    names, which = np.unique(truth.ids, return_inverse=True)
    memory = _Memory(len(names), tracker, rng)
    stamps, starts = np.unique(truth.stamp_ns, return_index=True)
    step_s = float(np.diff(stamps[:2])[0]) / NS_PER_S if len(stamps) > 1 else 0.1
    rides = int(np.searchsorted(names, ego)[0]) if ego is not None else -1
    place = np.zeros(2) if at is None else at
    parts = []
    for rows in np.split(np.arange(len(truth)), starts[1:]):
        mine = rows[which[rows] == rides]
        if len(mine):
            place = truth.xy[mine[0]]
        others = rows[which[rows] != rides]
        if len(others):
            parts.append(memory.tick(truth, others, which[others], place, step_s))
    stamp, ids, label, xy, yaw, velocity, size, objects = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    real = objects >= 0
    shown = np.zeros(len(objects), names.dtype)
    shown[real] = names[objects[real]]
    order = np.lexsort((ids_from_int(ids), stamp))
    scene = Scene.build(
        truth.name,
        stamp,
        ids_from_int(ids),
        xy,
        label=label,
        yaw=yaw if tracker.gives_yaw else None,
        velocity=velocity if tracker.gives_velocity else None,
        size=size,
        frame_id=truth.frame_id,
    )
    return scene, shown[order]


class _Memory:
    """What a tracker remembers of each of n objects, and of what is not there."""

    def __init__(self, count: int, tracker: Tracker, rng: Generator) -> None:
        self._tracker, self._rng = tracker, rng
        self._error = rng.normal(size=(count, 5))
        self._streak = np.zeros(count, np.int64)
        self._unseen_s = np.full(count, np.inf)
        self._track = np.full(count, -1)
        self._flipped_s, self._confused_s = np.zeros(count), np.zeros(count)
        self._seems = np.zeros(count, np.uint8)
        self._next = 1
        self._ghosts = np.zeros(
            0, [("track", "i8"), ("x", "f8"), ("y", "f8"), ("label", "u1"), ("ends_s", "f8")]
        )

    def tick(
        self, truth: Scene, rows: Int, objects: Int, place: Float, step_s: float
    ) -> tuple[NDArray[Any], ...]:
        """One moment: columns stamp, id, label, xy, yaw, velocity, size, object (-1: nothing is there)."""
        tracker, rng = self._tracker, self._rng
        stamp_ns = truth.stamp_ns[rows[0]]
        away = np.hypot(*(truth.xy[rows] - place).T)
        seen = (away < tracker.range_m) & (rng.random(len(rows)) >= tracker.missed)
        if tracker.occlusion:
            seen &= ~_hidden(truth.xy[rows] - place, truth.size[rows], away)
        self._unseen_s[objects] += step_s
        self._streak[objects[self._unseen_s[objects] > tracker.gone_after_s]] = 0
        found = objects[seen]
        self._track[found[self._streak[found] == 0]] = -1
        self._streak[found] += 1
        self._unseen_s[found] = 0.0
        reported = seen & (self._streak[objects] > tracker.born_after)
        rows, objects, away = rows[reported], objects[reported], away[reported]
        fresh = objects[self._track[objects] < 0]
        self._track[fresh] = self._next + np.arange(len(fresh))
        self._next += len(fresh)
        self._swap(truth.xy[rows], objects, step_s)
        columns = self._blurred(truth, rows, objects, away, step_s)
        real = (self._track[objects], *columns, objects)
        both = [np.concatenate(pair) for pair in zip(real, self._imagined(place, step_s), strict=True)]
        return (np.full(len(both[0]), stamp_ns), *both)

    def _imagined(self, place: Float, step_s: float) -> tuple[NDArray[Any], ...]:
        """Tracks of nothing: they stand about and jitter for a while."""
        rng, tracker = self._rng, self._tracker
        born = np.zeros(rng.poisson(tracker.false_tracks * step_s), self._ghosts.dtype)
        for ghost in born:
            ghost["track"], self._next = self._next, self._next + 1
            ghost["x"], ghost["y"] = place + rng.uniform(-0.7, 0.7, 2) * tracker.range_m
            ghost["label"] = rng.choice((Label.PEDESTRIAN, Label.UNKNOWN, Label.CAR, Label.BICYCLE))
            ghost["ends_s"] = rng.exponential(1.0)
        ghosts = np.concatenate([self._ghosts[self._ghosts["ends_s"] > 0.0], born])
        ghosts["ends_s"] -= step_s
        self._ghosts = ghosts
        count = len(ghosts)
        xy = np.stack([ghosts["x"], ghosts["y"]], axis=1) + 0.1 * rng.normal(size=(count, 2))
        yaw, velocity = rng.uniform(-np.pi, np.pi, count), 0.3 * rng.normal(size=(count, 2))
        size = np.tile((0.6, 0.6, 1.5), (count, 1))
        return ghosts["track"], ghosts["label"], xy, yaw, velocity, size, np.full(count, -1)

    def _swap(self, xy: Float, objects: Int, step_s: float) -> None:
        """Now and then two tracks that are near each other exchange their ids."""
        for i in np.flatnonzero(self._rng.random(len(objects)) < self._tracker.swaps * step_s):
            gap = np.hypot(*(xy - xy[i]).T)
            gap[i] = np.inf
            j = int(gap.argmin())
            if gap[j] < NEAR_M:
                pair = np.array([objects[i], objects[j]])
                self._track[pair] = self._track[pair[::-1]]

    def _blurred(
        self, truth: Scene, rows: Int, objects: Int, away: Float, step_s: float
    ) -> tuple[NDArray[Any], ...]:
        """label, xy, yaw, velocity, size as they seem."""
        tracker, rng, count = self._tracker, self._rng, len(rows)
        kept = np.exp(-step_s / tracker.wander_s)
        fresh = rng.normal(size=(count, 5))
        self._error[objects] = kept * self._error[objects] + np.sqrt(1.0 - kept**2) * fresh
        white = np.sqrt(tracker.white) * rng.normal(size=(count, 5))
        error = np.sqrt(1.0 - tracker.white) * self._error[objects] + white
        label = truth.label[rows]
        blur = np.array([BLUR.get(Label(one), 1.0) for one in label.tolist()])
        far = (1.0 + tracker.per_50m * away / 50.0) * (truth.label[rows] != Label.UNKNOWN)
        for clock in (self._flipped_s, self._confused_s):
            clock[objects] = np.maximum(clock[objects] - step_s, 0.0)
        speed = np.hypot(*truth.velocity[rows].T)
        slow = speed < 1.5
        begins = rng.random(count) < tracker.flips * step_s * np.where(slow, 3.0, 1.0)
        self._flipped_s[objects[begins]] = rng.uniform(0.1, 1.0, int(begins.sum()))
        for i in np.flatnonzero(rng.random(count) < tracker.confuses * step_s):
            self._confused_s[objects[i]] = rng.uniform(0.2, 2.0)
            self._seems[objects[i]] = rng.choice(LOOKS_LIKE.get(Label(label[i]), (Label(label[i]),)))
        return (
            np.where(self._confused_s[objects] > 0.0, self._seems[objects], label),
            truth.xy[rows]
            + (tracker.position_m * blur * far + tracker.per_mps * speed)[:, None] * error[:, :2],
            truth.yaw[rows] + tracker.yaw_rad * error[:, 2] + np.pi * (self._flipped_s[objects] > 0.0),
            truth.velocity[rows] + (tracker.speed_mps * far)[:, None] * error[:, 3:],
            truth.size[rows] * (1.0 + tracker.size_share * error[:, 2:3]),
        )


def _hidden(offset: Float, size: Float, away: Float) -> Bool:
    """(N,) whose middle lies in the shadow of somebody nearer, seen from the origin."""
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    half = np.arctan2(0.4 * size[:, :2].max(axis=1), np.maximum(away, 0.5))
    between = np.abs(np.angle(np.exp(1j * (angle[:, None] - angle))))
    nearer = away[None, :] + 0.5 * size[None, :, 0] < away[:, None]
    taller = size[None, :, 2] > 0.7 * size[:, None, 2]
    return np.asarray((nearer & taller & (between < half[None, :])).any(axis=1))
