"""What a simulated tracker reports, against the truth that it was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_tools.simulate.perceive import Tracker, perceive
from trajpred.config import Protocol
from trajpred.evaluate import evaluate
from trajpred.types import Label, Scene, ids_from_int
from trajpred.windows import DataSource, Truth, cut

PERFECT = Tracker(
    position_m=0.0,
    per_mps=0.0,
    yaw_rad=0.0,
    speed_mps=0.0,
    size_share=0.0,
    missed=0.0,
    born_after=0,
    flips=0.0,
    confuses=0.0,
    swaps=0.0,
    false_tracks=0.0,
    occlusion=False,
    range_m=1e4,
)
SIZE = {Label.CAR: (4.5, 1.8, 1.5), Label.BICYCLE: (1.8, 0.6, 1.7), Label.TRUCK: (8.0, 2.5, 3.5)}


def convoy(labels: list[Label], seconds: float = 10.0, gap_m: float = 10.0) -> Scene:
    """One behind the other along x at 5 m/s, at 10 Hz; the first is number 1, at the origin."""
    ticks, count = round(seconds * 10), len(labels)
    time_s = np.repeat(np.arange(ticks) / 10, count)
    number = np.tile(np.arange(count), ticks)
    return Scene.build(
        "convoy",
        np.rint(time_s * 1e9),
        ids_from_int(1 + number),
        np.stack([5.0 * time_s - gap_m * number, np.zeros(len(time_s))], axis=1),
        label=np.array(labels, np.uint8)[number],
        yaw=0.0,
        velocity=(5.0, 0.0),
        size=np.array([SIZE[label] for label in labels])[number],
    )


def seen(truth: Scene, tracker: Tracker, **place: object) -> tuple[Scene, np.ndarray]:
    return perceive(truth, tracker, np.random.default_rng(0), **place)  # type: ignore[arg-type]


def test_a_perfect_tracker_reports_the_truth() -> None:
    truth = convoy([Label.CAR, Label.BICYCLE])
    scene, true_ids = seen(truth, PERFECT)
    assert true_ids.tolist() == truth.ids.tolist()
    for name in ("stamp_ns", "label", "xy", "yaw", "velocity", "size"):
        np.testing.assert_allclose(getattr(scene, name), getattr(truth, name), atol=1e-12)


def test_the_one_that_carries_the_sensor_is_not_reported() -> None:
    truth = convoy([Label.CAR, Label.BICYCLE])
    scene, true_ids = seen(truth, PERFECT, ego=ids_from_int([1]))
    assert np.unique(true_ids).tolist() == ids_from_int([2]).tolist()
    assert set(scene.label.tolist()) == {Label.BICYCLE}


def test_positions_are_off_by_what_was_asked_for() -> None:
    truth = convoy([Label.CAR] * 20, seconds=100.0, gap_m=0.0)  # no range: errors do not grow
    tracker = replace(PERFECT, position_m=0.2, per_50m=0.0, white=0.4, wander_s=0.5)
    scene, _ = seen(truth, tracker)
    order = np.lexsort((scene.stamp_ns, scene.ids))
    error = (scene.xy - truth.xy[np.lexsort((truth.ids, truth.stamp_ns))])[order].reshape(20, -1, 2)
    assert error.std() == pytest.approx(0.2, rel=0.05)
    # one step apart: the wandering part is correlated by exp(-0.1 / 0.5), the white one not at all
    along = (error[:, 1:] * error[:, :-1]).mean() / (error**2).mean()
    assert along == pytest.approx(0.6 * np.exp(-0.2), abs=0.04)


def test_errors_grow_with_range() -> None:
    truth = convoy([Label.CAR] * 2, seconds=100.0, gap_m=100.0)
    truth = replace(
        truth, xy=truth.xy - truth.xy[0] - np.stack([5e-9 * truth.stamp_ns, 0 * truth.stamp_ns], 1)
    )
    scene, true_ids = seen(truth, replace(PERFECT, position_m=0.1, per_50m=1.0), at=np.zeros(2))
    near, far = (
        np.std(scene.xy[true_ids == one] - truth.xy[truth.ids == one]) for one in ids_from_int([1, 2])
    )
    assert near == pytest.approx(0.1, rel=0.15)
    assert far == pytest.approx(0.1 * (1 + 2), rel=0.15)


def test_errors_grow_with_speed() -> None:
    """A box is late or early by a moment, and whoever rides sways."""
    truth = convoy([Label.BICYCLE], seconds=100.0)
    scene, _ = seen(truth, replace(PERFECT, per_mps=0.04))
    speed = np.hypot(*truth.velocity.T).mean()
    assert np.std(scene.xy - truth.xy) == pytest.approx(0.04 * speed, rel=0.15)


def test_frames_are_missed_and_tracks_come_late_and_end() -> None:
    truth = convoy([Label.CAR] * 10, seconds=100.0)
    scene, _ = seen(truth, replace(PERFECT, missed=0.2, gone_after_s=100.0))
    assert len(scene) / len(truth) == pytest.approx(0.8, abs=0.02)
    late, _ = seen(truth, replace(PERFECT, born_after=3))
    assert late.stamp_ns.min() == 300_000_000
    broken, _ = seen(truth, replace(PERFECT, missed=0.2, gone_after_s=0.15))
    assert len(np.unique(broken.ids)) > 20  # two misses in a row, 4 % of moments, end a track


def test_a_cyclist_behind_a_truck_is_hidden() -> None:
    truth = convoy([Label.TRUCK, Label.BICYCLE])
    tracker = replace(PERFECT, occlusion=True)
    _, from_the_front = seen(truth, tracker, at=np.array([200.0, 0.0]))
    assert np.unique(from_the_front).tolist() == ids_from_int([1]).tolist()
    _, from_the_side = seen(truth, tracker, at=np.array([0.0, 200.0]))
    assert len(np.unique(from_the_side)) == 2


def test_mixed_up_tracks_keep_their_true_ids() -> None:
    truth = convoy([Label.CAR, Label.CAR], seconds=60.0, gap_m=2.0)
    scene, true_ids = seen(truth, replace(PERFECT, swaps=0.5))
    first = true_ids[scene.ids == scene.ids[0]]
    assert len(np.unique(first)) == 2
    order = np.lexsort((true_ids, scene.stamp_ns))
    np.testing.assert_allclose(scene.xy[order], truth.xy)


def test_flips_and_confusion_last_a_moment() -> None:
    truth = convoy([Label.BICYCLE] * 10, seconds=60.0)
    scene, _ = seen(truth, replace(PERFECT, flips=0.3, confuses=0.3))
    turned = np.abs(np.cos(scene.yaw) + 1.0) < 1e-9
    assert 0.05 < turned.mean() < 0.4
    assert set(scene.label.tolist()) <= {Label.BICYCLE, Label.PEDESTRIAN, Label.MOTORCYCLE}
    assert 0.05 < (scene.label != Label.BICYCLE).mean() < 0.5


def test_what_is_not_there_has_no_true_id() -> None:
    truth = convoy([Label.CAR], seconds=60.0)
    scene, true_ids = seen(truth, replace(PERFECT, false_tracks=1.0))
    nothing = true_ids == b""
    assert 30 < len(np.unique(scene.ids[nothing])) < 90  # one a second
    assert not np.isin(scene.ids[nothing], scene.ids[~nothing]).any()


def test_futures_are_cut_from_the_truth() -> None:
    truth = convoy([Label.CAR, Label.BICYCLE])
    scene, true_ids = seen(truth, replace(PERFECT, position_m=0.1, missed=0.3, gone_after_s=0.35))
    protocol = Protocol(step_ns=500_000_000, observe=11, predict=4, fine=5, stride=5)
    windows = cut((scene,), protocol, (Truth(truth, true_ids),))
    kept = windows.target
    assert kept.sum() > 10
    now = windows.xy[kept, 10]
    ahead = windows.xy[kept, 11:]
    which = np.rint((5e-9 * windows.stamp_ns[kept] - now[:, 0]) / 10.0)
    expected = 5e-9 * windows.stamp_ns[kept][:, None] + 2.5 * np.arange(1, 5) - 10.0 * which[:, None]
    np.testing.assert_allclose(ahead[..., 0], expected, atol=1e-9)
    assert np.abs(windows.xy[kept, :11, 1][windows.valid[kept, :11]]).std() > 0.03  # histories as seen


def test_a_log_is_scored_by_the_truth() -> None:
    """Constant velocity is right about a convoy, whatever the tracker's ids do, but not about its noise."""
    truth = convoy([Label.CAR, Label.BICYCLE], seconds=12.0)
    for tracker, most_m in ((PERFECT, 1e-6), (replace(PERFECT, missed=0.3, gone_after_s=0.15), 1e-6)):
        scene, true_ids = seen(truth, tracker)
        made = Truth(truth, true_ids)
        source = DataSource("convoy", (scene,), Protocol(), streamed=True, truth=(made,))
        assert evaluate("cv", source)["metrics"]["fde_single"] < most_m
