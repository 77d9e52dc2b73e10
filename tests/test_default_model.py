"""The model in the box: it is there, small, ours to give away, and serves every class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.pages import shipped
from data_tools.simulate.record import record
from trajpred.config import DEFAULT_MODEL
from trajpred.evaluate import make_predictor
from trajpred.predictor import Predictor
from trajpred.runtime import OnnxModel, artefact
from trajpred.types import Label, Prediction, Source, TrackFrame, ids_from_int

CARD = Path(__file__).parents[1] / "docs/model_card.md"


def test_it_is_small_and_was_trained_on_simulated_traffic_alone() -> None:
    assert artefact(DEFAULT_MODEL).stat().st_size < 3_000_000
    info = OnnxModel.load(DEFAULT_MODEL).info
    assert info.trained_on == "simulated:train"
    assert np.diff(info.offset_s).max() <= 0.5
    assert (info.modes, info.offset_s[-1]) == (6, 8.0)
    for label in (Label.CAR, Label.TRUCK, Label.BUS, Label.MOTORCYCLE, Label.BICYCLE, Label.PEDESTRIAN):
        assert label.name in info.trained_classes


def test_its_card_is_beside_it() -> None:
    card = artefact(DEFAULT_MODEL).with_suffix(".md").read_text()
    assert card == shipped(CARD.read_text())
    assert "](" not in card.replace("](http", "")  # no link leads out of the package
    assert "# The model in the box" in card


def test_it_answers_whom_a_tracker_sees() -> None:
    predictor = make_predictor(DEFAULT_MODEL)
    assert isinstance(predictor, Predictor)
    for frame in record("junction", 3.0, 40_000).tracks.frames():
        prediction = predictor.step(frame)
    assert (prediction.source == Source.MODEL).mean() > 0.9
    assert np.isfinite(prediction.paths).all()
    assert prediction.paths.shape[1:] == (6, 16, 2)


def after_3_s(label: Label, speed_mps: float, size: tuple[float, float, float]) -> Prediction:
    """Of one road user, alone, that has come along x from the origin at a steady speed."""
    predictor = make_predictor(DEFAULT_MODEL)
    for tick in range(31):
        frame = TrackFrame.build(
            tick * 100_000_000,
            ids_from_int([1]),
            [(0.1 * tick * speed_mps, 0.0)],
            label=label,
            yaw=0.0,
            velocity=(speed_mps, 0.0),
            size=size,
        )
        prediction = predictor.step(frame)
    return prediction


def test_a_steady_cyclist_goes_on() -> None:
    """At 5 m/s the single path ends near where that leads."""
    prediction = after_3_s(Label.BICYCLE, 5.0, (1.8, 0.6, 1.7))
    three = int(np.argmin(np.abs(prediction.offset_s - 3.0)))
    np.testing.assert_allclose(prediction.single[0, three], (15.0 + 15.0, 0.0), atol=1.5)


def test_a_parked_car_stays() -> None:
    prediction = after_3_s(Label.CAR, 0.0, (4.5, 1.8, 1.5))
    assert np.hypot(*prediction.single[0, -1]) < 1.0
