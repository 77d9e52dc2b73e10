"""Simulated traffic of any number of objects, as a tracker sees it: places side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np

from data_tools.simulate.perceive import Tracker
from data_tools.simulate.record import record
from trajpred.config import NS_PER_S
from trajpred.types import Ids, Scene, TrackFrame, bytes_from_ids, ids_from_bytes

SCENARIOS = ("junction", "shared_space", "parking_street", "straight", "junction", "shared_space")
"""A district: these places, simulated once each. A town is as many districts as it takes."""
TRACKER = Tracker(missed=0.0)
"""An ordinary one, which goes on reporting who it misses in a frame, as most do."""
BLOCK_M = 150.0
SEED = 60_000
SETTLES_S = 1.0
"""A tracker reports nobody at first."""


def town(count: int, seconds: float, rate_hz: float = 10.0) -> list[TrackFrame]:
    """Frames of exactly `count` objects each, who come and go as tracks do; for the same arguments the same.

    Where more are there, those of the last frame stay for as long as they are seen.
    """
    district = [_place(number, seconds, rate_hz) for number in range(min(count, len(SCENARIOS)))]
    fewest = [int(np.unique(scene.stamp_ns, return_counts=True)[1].min()) for scene in district]
    places, there = 0, 0
    while there < count:
        there += fewest[places % len(district)]
        places += 1
    side = math.ceil(math.sqrt(places))
    parts = []
    for place in range(places):
        scene = district[place % len(district)]
        corner = BLOCK_M * np.array(divmod(place, side))
        moved = scene.xy - scene.xy.mean(axis=0) + corner
        parts.append(replace(scene, ids=marked(scene.ids, 0, place), xy=moved))
    return list(_exactly(count, _joined(parts)))


@cache
def _place(number: int, seconds: float, rate_hz: float) -> Scene:
    """One of a district, from when its tracker has settled."""
    scene = record(SCENARIOS[number], seconds + SETTLES_S, SEED + number, rate_hz, TRACKER).tracks
    return scene.take(scene.stamp_ns >= round(SETTLES_S * NS_PER_S))


def marked(ids: Ids, place: int, number: int) -> Ids:
    """(N,) ids that nobody else has: a number of 4 bytes written into them at byte 4 * place."""
    raw = bytes_from_ids(ids).copy()
    raw[:, 4 * place : 4 * place + 4] = np.frombuffer(number.to_bytes(4, "big"), np.uint8)
    return ids_from_bytes(raw)


def take(frame: TrackFrame, rows: Any) -> TrackFrame:
    """Some objects of a frame."""
    shared = ("stamp_ns", "frame_id")
    return replace(
        frame, **{f.name: getattr(frame, f.name)[rows] for f in fields(frame) if f.name not in shared}
    )


def _joined(parts: list[Scene]) -> Scene:
    """All in one scene."""
    shared = ("name", "frame_id", "m_per_px")
    columns: dict[str, Any] = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Scene)
        if f.name not in shared
    }
    return Scene.build("town", columns.pop("stamp_ns"), columns.pop("ids"), columns.pop("xy"), **columns)


def _exactly(count: int, scene: Scene) -> Iterator[TrackFrame]:
    kept = scene.ids[:0]
    for frame in scene.frames():
        stays = np.isin(frame.ids, kept)
        rows = np.sort(np.argsort(~stays, kind="stable")[:count])
        assert len(rows) == count
        kept = frame.ids[rows]
        yield take(frame, rows)
