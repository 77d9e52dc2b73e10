"""The cyclist of the demo: who it is, when it comes into the lane, and the picture of that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from data_tools.simulate.perceive import Tracker
from data_tools.simulate.record import record
from data_tools.simulate.world import EGO_PATH
from trajpred.errors import InputError
from trajpred.lanes import Lanes
from trajpred.types import Prediction
from trajpred_ros.yield_picture import CutIn, Drive, Yielding, draw_yielding

HALF_WIDTH_M = 1.6


@pytest.fixture(scope="module", params=[0, 1, 2])
def recording(request):
    return record("cyclist_cut_in", 12.0, request.param, tracker=Tracker())


def test_the_cyclist_comes_in_from_outside(recording):
    """Against the truth row by row: before it enters all corners are outside, soon after one is inside."""
    found = CutIn.of(recording, HALF_WIDTH_M)
    lane_y = found.ego_path[0, 1]
    length, width = found.size_m
    for time_s, (_, y), yaw in zip(found.time_s, found.xy, found.yaw, strict=True):
        nearest = abs(y - lane_y) - abs(length * np.sin(yaw)) / 2 - abs(width * np.cos(yaw)) / 2
        if time_s < found.enters_s - 0.02:
            assert nearest > HALF_WIDTH_M
        if found.enters_s < time_s < found.enters_s + 1.0:
            assert nearest <= HALF_WIDTH_M + 1e-6
    assert 4.0 < found.enters_s < 9.0
    assert len(found.track_ids) >= 1


def test_without_a_lane_or_a_cyclist_there_is_nothing_to_yield_to(recording):
    lines = tuple(line for line in recording.lanes.lines if line.kind != EGO_PATH)
    with pytest.raises(InputError, match="no cyclist comes into the lane"):
        CutIn.of(replace(recording, lanes=Lanes(lines, ())), HALF_WIDTH_M)
    with pytest.raises(InputError, match="no cyclist comes into the lane"):
        CutIn.of(record("straight", 3.0, 0), HALF_WIDTH_M)


@pytest.mark.parametrize(
    ("slow", "enters_s", "expected"),
    [
        ([0, 0, 1, 1, 1, 1], 3.0, 2.0),  # before the cyclist is in, and on
        ([0, 0, 0, 0, 1, 1], 3.0, 4.0),  # too late
        ([1, 1, 0, 1, 1, 1], 4.0, 3.0),  # a false alarm before
        ([1, 1, 1, 1, 1, 1], 4.0, 0.0),
    ],
)
def test_the_car_yields_from_when_it_keeps_to_it(slow, enters_s, expected):
    drive = Drive(np.arange(6.0), np.where(slow, 4.0, 10.0))
    assert drive.yields_s(enters_s) == expected


def test_the_picture_is_drawn(recording, tmp_path):
    scene = CutIn.of(recording, HALF_WIDTH_M)
    time_s = np.arange(0.0, 12.0, 0.1)
    told, blind = (Drive(time_s, np.where(time_s < when, 10.0, 4.0)) for when in (5.0, 6.0))
    offset_s = np.arange(0.5, 8.1, 0.5)
    paths = np.zeros((1, 2, len(offset_s), 2)) + scene.xy[0]
    answers = [
        Prediction(
            stamp_ns=round(at * 1e9),
            frame_id="map",
            ids=scene.track_ids[:1],
            offset_s=offset_s,
            xy=scene.xy[:1],
            heading=np.zeros(1),
            velocity=np.zeros((1, 2)),
            paths=paths,
            probability=np.full((1, 2), 0.5),
            mode_valid=np.ones((1, 2), bool),
            spread=np.ones((1, 2, len(offset_s))),
            single=paths[:, 0],
            source=np.zeros(1, np.uint8),
        )
        for at in time_s
    ]
    seen = Yielding.of(scene, told, blind, answers)
    assert seen.gained_s == pytest.approx(1.0)
    assert "1.0 s earlier" in seen.summary
    draw_yielding(seen, tmp_path / "cut_in.png")
    assert (tmp_path / "cut_in.png").stat().st_size > 20_000
