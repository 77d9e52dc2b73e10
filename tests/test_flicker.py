"""What changes from one prediction to the next, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.street import demo_scene
from trajpred.config import Protocol
from trajpred.evaluate import evaluate
from trajpred.flicker import flicker
from trajpred.types import Prediction, Source, ids_from_int
from trajpred.windows import DataSource


def straight(stamp_s: float, ids: list[int], speed_mps: float, y: float = 0.0) -> Prediction:
    """All at speed * stamp, going on along x for 4 s."""
    offset_s = np.arange(1.0, 5.0)
    n = len(ids)
    x = speed_mps * (stamp_s + offset_s)
    single = np.tile(np.stack([x, np.full(4, y)], axis=1), (n, 1, 1))
    here = np.tile([speed_mps * stamp_s, y], (n, 1))
    return Prediction(
        stamp_ns=round(stamp_s * 1e9),
        frame_id="map",
        ids=ids_from_int(ids),
        offset_s=offset_s,
        xy=here,
        heading=np.zeros(n),
        velocity=np.tile([speed_mps, 0.0], (n, 1)),
        paths=single[:, None],
        probability=np.ones((n, 1)),
        mode_valid=np.ones((n, 1), bool),
        spread=np.ones((n, 1, 4)),
        single=single,
        source=np.full(n, Source.BASELINE, np.uint8),
    )


def test_a_prediction_that_comes_true_does_not_flicker():
    np.testing.assert_allclose(
        flicker(straight(0.0, [1, 2], 5.0), straight(0.1, [1, 2], 5.0)), 0.0, atol=1e-9
    )


def test_a_path_that_jumps_aside_flickers_by_as_much():
    change = flicker(straight(0.0, [1, 2], 5.0), straight(0.1, [2, 3], 5.0, y=0.4))
    assert change[0] == pytest.approx(0.4)
    assert np.isnan(change[1])  # nothing was said of it before


def test_another_speed_changes_what_is_far_more():
    # Seen from 1 s: it is at 6 instead of 5 m and goes 6 instead of 5 m/s. At 2, 3, 4 s: 2, 3, 4 m apart.
    assert flicker(straight(0.0, [1], 5.0), straight(1.0, [1], 6.0))[0] == pytest.approx((2 + 3 + 4) / 3)


@pytest.mark.parametrize("stamp_s", [0.0, -0.1, 1.5])
def test_what_is_not_consecutive_is_not_compared(stamp_s):
    assert np.isnan(flicker(straight(0.0, [1], 5.0), straight(stamp_s, [1], 5.0))).all()


def test_another_frame_is_not_compared():
    after = replace(straight(0.1, [1], 5.0), frame_id="odom")
    assert np.isnan(flicker(straight(0.0, [1], 5.0), after)).all()


def test_evaluate_tells_the_flicker_of_a_log_by_who_moves():
    scores = evaluate("cv", DataSource("street", (demo_scene(20.0, 0),), Protocol(), streamed=True))
    told = scores["flicker"]
    assert told["all"]["n"] == told["moving"]["n"] + told["waiting"]["n"] > 0
    assert 0.0 < told["all"]["mean_m"] < told["all"]["q99_m"]
