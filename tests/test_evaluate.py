"""Evaluation: what is scored against what, by hand; windows and logs; cases to look at."""

from __future__ import annotations

import numpy as np
import pytest

from tests.street import ACCELERATION_MPS2, demo_scene
from trajpred.cases import pick_cases
from trajpred.config import Protocol
from trajpred.errors import InputError
from trajpred.evaluate import Later, answered, evaluate, make_predictor
from trajpred.types import Label, Scene, ids_from_int
from trajpred.windows import DataSource

SHORT = Protocol(step_ns=1_000_000_000, observe=2, predict=2)


def braking() -> Scene:
    """One agent at 0, 2, 4 m and then at 5 and 5 m, a second apart: it brakes."""
    x = np.array([0.0, 2.0, 4.0, 5.0, 5.0])
    return Scene.build(
        "braking",
        np.arange(5) * 1_000_000_000,
        ids_from_int(np.full(5, 7)),
        np.stack([x, np.zeros(5)], axis=1),
        label=Label.BICYCLE,
    )


def test_windows_are_scored_by_hand():
    # Windows end at t = 1 (CV: 4, 6; truth 4, 5: errors 0, 1) and t = 2 (CV: 6, 8; truth 5, 5: 1, 3).
    scores = evaluate("cv", DataSource("hand", (braking(),), SHORT))
    assert scores["n"] == 2
    assert scores["metrics"]["ade_1"] == pytest.approx((0.5 + 2.0) / 2)
    assert scores["metrics"]["fde_1"] == pytest.approx((1.0 + 3.0) / 2)
    assert scores["per_class"]["bicycle"]["n"] == 2


def test_a_log_is_scored_against_its_own_later_frames_by_hand():
    # From the first frame on: t = 0 (no velocity: 0, 0; truth 2, 4), t = 1, t = 2 as above, and t = 3
    # (CV: 6 at t = 4; truth 5; t = 5 is beyond the log). Mean distances 3, 0.5, 2, 1; last 4, 1, 3, 1.
    scores = evaluate("cv", DataSource("hand", (braking(),), SHORT, streamed=True))
    assert scores["n"] == 4
    assert scores["metrics"]["ade_1"] == pytest.approx((3.0 + 0.5 + 2.0 + 1.0) / 4)
    assert scores["metrics"]["fde_1"] == pytest.approx((4.0 + 1.0 + 3.0 + 1.0) / 4)


def test_only_the_scored_class_counts():
    source = DataSource("hand", (braking(),), SHORT, scored_labels=(Label.CAR,))
    with pytest.raises(InputError, match="nothing to score"):
        evaluate("cv", source)


def test_later_positions_are_interpolated_and_gaps_are_unknown():
    scene = Scene.build(
        "gap",
        np.array([0.0, 1.0, 4.0]) * 1e9,
        ids_from_int([1, 1, 1]),
        [[0.0, 0.0], [2.0, 0.0], [8.0, 0.0]],
    )
    later = Later.of(scene)
    points, known = later.positions(np.array([0]), 0, np.array([-0.5, 0.0, 0.25, 1.0, 2.0, 4.0, 4.5]))
    assert known.tolist() == [[False, True, True, True, False, True, False]]
    np.testing.assert_allclose(points[0, [1, 2, 3, 5], 0], [0.0, 0.5, 2.0, 8.0])


def test_tracks_do_not_run_into_each_other():
    stamps = np.array([0, 1, 0, 1]) * 1_000_000_000
    scene = Scene.build("two", stamps, ids_from_int([1, 1, 2, 2]), [[0, 0], [1, 0], [50, 0], [51, 0]])
    points, known = Later.of(scene).positions(np.array([0, 1]), 0, np.array([0.5, 1.0, 1.5]))
    assert known.tolist() == [[True, True, False]] * 2
    np.testing.assert_allclose(points[:, :2, 0], [[0.5, 1.0], [50.5, 51.0]])


def test_a_baseline_predicts_on_the_grid_of_the_protocol():
    assert make_predictor("ctrv", protocol=SHORT).offset_s.tolist() == [1.0, 2.0]


def test_cases_show_what_was_asked_for():
    source = DataSource("street", (demo_scene(seconds=8.0, seed=0),), Protocol(200_000_000, 5, 10), True)
    errors = {}
    for pick in ("best", "typical", "worst"):
        cases = pick_cases(make_predictor("cv", protocol=source.protocol), source, pick, 3)
        assert len(cases) == 3
        errors[pick] = np.mean([np.linalg.norm(c.paths[0] - c.truth, axis=1).mean() for c in cases])
        assert all(case.history.shape[0] >= 1 for case in cases)
        if pick != "typical":  # not three moments of one and the same
            assert len({case.name for case in cases}) == 3
    assert errors["best"] < errors["typical"] < errors["worst"]


def test_answers_come_in_the_same_order_twice():
    source = DataSource("street", (demo_scene(seconds=4.0, seed=0),), SHORT, streamed=True)
    runs = [[a.batch.truth for a in answered(make_predictor("cv"), source)] for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_demo_street_is_the_same_for_the_same_seed_and_keeps_to_physics():
    one, two, other = demo_scene(10.0, 5), demo_scene(10.0, 5), demo_scene(10.0, 6)
    np.testing.assert_array_equal(one.xy, two.xy)
    assert len(one) != len(other) or not np.array_equal(one.xy, other.xy)
    limit = max(ACCELERATION_MPS2.values())
    for name in np.unique(one.ids):
        velocity = one.velocity[one.ids == name]
        change = np.diff(np.hypot(*velocity.T)) / 0.1
        # The tracker's noise of 0.1 m/s per axis lies on top: compare medians of the strongest quarter.
        assert np.median(np.sort(np.abs(change))) < limit + 3 * 0.1 * np.sqrt(2) / 0.1
