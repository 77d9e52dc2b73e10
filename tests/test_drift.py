"""The scene in which a cyclist drifts into the ego's lane."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate, translate

from tests.drift import CYCLIST, EGO_SPEED_MPS, LANE_Y_M, ONCOMING, PEDESTRIAN, drift_scene
from trajpred.types import Label, Scene

HALF_WIDTH_M = 1.6
CORRIDOR = shapely.box(-10.0, LANE_Y_M - HALF_WIDTH_M, 300.0, LANE_Y_M + HALF_WIDTH_M)


def in_corridor(scene: Scene) -> np.ndarray:
    """(R,) whether the observed footprint touches the corridor, by shapely's own turning and shifting."""
    boxes = [
        translate(rotate(shapely.box(-w / 2, -h / 2, w / 2, h / 2), yaw, (0, 0), use_radians=True), x, y)
        for (w, h, _), yaw, (x, y) in zip(scene.size, scene.yaw, scene.xy, strict=True)
    ]
    return np.asarray(shapely.intersects(CORRIDOR, boxes))


def test_the_same_seed_gives_the_same_scene() -> None:
    first, again, other = (drift_scene(seed).scene for seed in (1, 1, 2))
    assert np.array_equal(first.xy, again.xy)
    assert not np.array_equal(first.xy, other.xy)


def test_three_tracks_at_ten_hertz_with_all_that_a_tracker_gives() -> None:
    frames = list(drift_scene().scene.frames())
    assert [frame.stamp_ns for frame in frames] == [100_000_000 * tick for tick in range(120)]
    for frame in frames:
        assert frame.label.tolist() == [Label.BICYCLE, Label.PEDESTRIAN, Label.CAR]
        assert frame.ids.tolist() == [CYCLIST, PEDESTRIAN, ONCOMING]
        assert frame.yaw_valid.all()
        assert frame.velocity_valid.all()
        assert frame.size_valid.all()


def test_the_noise_is_small_and_smooth() -> None:
    noisy, true = drift_scene(3).scene, drift_scene(3, noise_m=0.0).scene
    error = noisy.xy - true.xy
    assert 0.01 < error.std() < 0.06
    for track in (CYCLIST, PEDESTRIAN, ONCOMING):
        assert np.abs(np.diff(error[noisy.ids == track], axis=0)).max() < 0.06


def test_without_noise_positions_yaw_and_velocity_agree() -> None:
    scene = drift_scene(noise_m=0.0).scene
    for track in (CYCLIST, PEDESTRIAN, ONCOMING):
        rows = scene.ids == track
        moved = (scene.xy[rows][2:] - scene.xy[rows][:-2]) / 0.2
        # Where the turn begins, the lateral acceleration jumps by 4.5 * 0.15 m/s^2; a quarter of it in 0.1 s.
        assert moved == pytest.approx(scene.velocity[rows][1:-1], abs=0.02)
        course = np.arctan2(scene.velocity[rows][:, 1], scene.velocity[rows][:, 0])
        assert scene.yaw[rows] == pytest.approx(course)


@pytest.mark.parametrize("course_rad", [0.1, 0.15, 0.3])
def test_the_cyclist_alone_enters_when_it_is_said_to_and_stays(course_rad: float) -> None:
    made = drift_scene(noise_m=0.0, course_rad=course_rad)
    scene, inside = made.scene, in_corridor(made.scene)
    enters_ns = made.enters_ns(HALF_WIDTH_M)
    cyclist = scene.ids == CYCLIST
    assert not inside[~cyclist].any()
    assert np.array_equal(inside[cyclist], scene.stamp_ns[cyclist] >= enters_ns)
    assert 4_000_000_000 < enters_ns < 6_000_000_000


def test_the_ego_comes_from_behind_and_would_meet_the_cyclist() -> None:
    made = drift_scene(noise_m=0.0)
    cyclist_x = made.cyclist_xy[:, 0]
    ego_x = EGO_SPEED_MPS * made.stamp_ns / 1e9
    assert ego_x[0] < cyclist_x[0]
    assert ego_x[-1] > cyclist_x[-1]
    entry = np.searchsorted(made.stamp_ns, made.enters_ns(HALF_WIDTH_M))
    assert 5.0 < cyclist_x[entry] - ego_x[entry] < 25.0
    assert made.ego_path[:, 1].tolist() == [LANE_Y_M, LANE_Y_M]
