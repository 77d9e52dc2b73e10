"""The artefact: ONNX equals torch, the streaming predictor equals the whole window, damage is noticed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import trajpred
from tests.learn.conftest import ENCODERS, crowd, random_artefact, run_of, small_model
from trajpred.config import PredictorConfig, Protocol
from trajpred.evaluate import make_predictor, score_windows
from trajpred.features import FEATURES, RELATION, to_map
from trajpred.learn.calibrate import Calibration
from trajpred.learn.data import fold_windows, make_batch
from trajpred.learn.export import TOLERANCE_M, check_parity, describe, export, sample, to_onnx
from trajpred.place import Place
from trajpred.predictor import MOVES_M, RESTING_MOVES_M, RESTING_STANDS_M, STANDS_M, Predictor
from trajpred.runtime import OnnxModel, seal
from trajpred.types import Label, Source, TrackFrame
from trajpred.windows import Windows, cut

VARIANTS = [*((name, 0, "") for name in ENCODERS), ("lstm", 4, ""), ("lstm", 0, "map")]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda v: f"{v[0]}-{v[1]}{v[2]}")
def pair(request, windows, tmp_path_factory):
    """A torch model and its artefact."""
    encoder, attention, place = request.param
    model = small_model(windows, encoder, attention, place=place)
    path = tmp_path_factory.mktemp("artefact") / "m.onnx"
    path.write_bytes(seal(to_onnx(model, describe(model, run_of(windows, place)))))
    return model, path


def whole_window(model, windows: Windows, place: Place | None) -> np.ndarray:
    """(M, K, S, 2) m in the map frame, by torch from the whole history at once."""
    batch = make_batch(windows, model.config.neighbours, place)
    with torch.no_grad():
        futures, _ = model(batch.inputs, model.new_state(len(batch.inputs.steps)))
    motion = fold_windows(windows).motion
    rows = np.flatnonzero(windows.target)
    resting = np.zeros(futures.paths.shape[:2], bool)
    resting[np.arange(len(rows)), futures.logits.argmax(1)] = motion.rests[rows]
    paths = standing_still(futures.paths.numpy().astype(float), resting[..., None, None])
    paths = to_map(paths, motion.heading[rows, None, None])
    return motion.xy[rows, None, None] + paths


def standing_still(paths: np.ndarray, resting: np.ndarray) -> np.ndarray:
    """What the predictor does to paths (M, K, S, 2) that hardly move, resting (M, K, 1, 1) or not."""
    first = paths[:, :, :1]
    reach = np.hypot(*np.moveaxis(paths - first, -1, 0)).max(axis=2)[..., None, None]
    stands_m = np.where(resting, RESTING_STANDS_M, STANDS_M)
    moves_m = np.where(resting, RESTING_MOVES_M, MOVES_M)
    return first + np.clip((reach - stands_m) / (moves_m - stands_m), 0.0, 1.0) * (paths - first)


def streamed(path, windows: Windows) -> np.ndarray:
    """The same through the streaming predictor, one tick at a time."""
    predictor = Predictor(OnnxModel.load(path))
    frames = []
    for t in range(windows.protocol.observe):
        seen = windows.valid[:, t]
        ids = np.array([f"{i:016d}" for i in np.flatnonzero(seen)], "S16")
        frames.append(
            TrackFrame.build(
                t * windows.protocol.step_ns,
                ids,
                windows.xy[seen, t],
                label=windows.label[seen],
                group=windows.group[seen],
            )
        )
    for frame in frames:
        prediction = predictor.step(frame)
    assert (prediction.source == Source.MODEL).all()
    return prediction.paths[windows.target]


def test_onnx_equals_torch(pair):
    model, path = pair
    assert check_parity(model, OnnxModel.load(path)) <= TOLERANCE_M


def test_streaming_equals_whole_window(pair, windows):
    model, path = pair
    np.testing.assert_allclose(
        streamed(path, windows), whole_window(model, windows, OnnxModel.load(path).info.place), atol=1e-4
    )


@pytest.mark.real_data
def test_streaming_equals_whole_window_on_real_tracks(pair, data_root):
    from data_tools.catalog import open_data

    source = open_data("eth_ucy:zara1:test", data_root)
    windows = cut(source.scenes, source.protocol)
    windows = windows.take(windows.group < 60)
    model, path = pair
    np.testing.assert_allclose(
        streamed(path, windows), whole_window(model, windows, OnnxModel.load(path).info.place), atol=1e-4
    )


def test_observing_then_stepping_equals_stepping(pair, windows):
    """Decoding nobody leaves the same memory as decoding everybody."""
    _, path = pair
    part = windows.take(windows.group < 4)
    scores = score_windows(make_predictor(str(path)), part)
    predictor = Predictor(OnnxModel.load(path), PredictorConfig())
    assert np.isfinite(scores.values).all()
    scene = crowd(agents=4, steps=10)
    other = Predictor(OnnxModel.load(path))
    for frame in scene.frames():
        prediction = predictor.step(frame)
        other.observe(frame) if frame.stamp_ns < scene.stamp_ns[-1] else None
    np.testing.assert_allclose(other.step(frame).paths, prediction.paths, atol=1e-6)


def test_metadata_describes_the_model(pair):
    model, path = pair
    info = OnnxModel.load(path).info
    assert info.modes == 4
    assert info.encoder == model.config.encoder
    assert info.offset_s == pytest.approx([0.4 * (i + 1) for i in range(12)])
    assert dict(info.state) == {k: tuple(v) for k, v in model.state_shapes.items()}
    assert info.min_observations == 1
    assert bool(info.place) == bool(model.config.place)
    assert json.loads(info.to_json())["trained_on"] == "crowd"


def test_a_place_is_told_in_its_own_frame_alone_and_not_where_it_is_switched_off(windows, tmp_path):
    path = random_artefact(tmp_path / "m.onnx", place="map")

    def answer(scene, **config):
        predictor = make_predictor(str(path), PredictorConfig(**config))
        return [predictor.step(frame).paths for frame in scene.frames()][-1]

    here = crowd()
    elsewhere = replace(here, frame_id="elsewhere")
    hidden = answer(elsewhere)
    assert np.abs(answer(here) - hidden).max() > 0.05
    np.testing.assert_array_equal(answer(here, place=False), hidden)
    # As windows, of both at once: each moment in the frame of its scene.
    both = cut((here, elsewhere), Protocol(predict=4))
    told = score_windows(make_predictor(str(path)), both).values
    alone = [
        score_windows(make_predictor(str(path)), cut((scene,), both.protocol)).values
        for scene in (here, elsewhere)
    ]
    np.testing.assert_allclose(told, np.concatenate(alone), atol=1e-5)
    assert not np.allclose(*alone, atol=1e-3)


def test_calibration_changes_probabilities_and_spreads_and_no_path(windows, tmp_path):
    model = small_model(windows, "lstm")
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "best.ckpt")
    numbers = Calibration(2.0, 1.5, *[0.0] * 4)
    replace(run_of(windows), model=asdict(model.config), calibration=asdict(numbers)).write(tmp_path)
    answers = {}
    for calibrated in (True, False):
        info = export(tmp_path, tmp_path / "m.onnx", calibrated=calibrated)
        assert info.trained_by["calibration"] == (asdict(numbers) if calibrated else None)
        onnx = OnnxModel.load(tmp_path / "m.onnx")
        predictor = Predictor(onnx)
        for frame in crowd(agents=9, steps=12).frames():
            answers[calibrated] = predictor.step(frame)
    with_it, without = answers[True], answers[False]
    np.testing.assert_array_equal(with_it.paths, without.paths)
    np.testing.assert_array_equal(with_it.single, without.single)
    rooted = np.sqrt(without.probability)
    np.testing.assert_allclose(with_it.probability, rooted / rooted.sum(axis=1, keepdims=True), rtol=1e-4)
    assert not np.allclose(with_it.probability, without.probability, atol=1e-3)
    np.testing.assert_allclose(with_it.spread - 0.01, 1.5 * (without.spread - 0.01), rtol=1e-4)


def test_an_artefact_says_nothing_of_the_machine_that_made_it(pair):
    """The exporter would note the path of every source file that it traced."""
    content = pair[1].read_bytes()
    assert b'File "' not in content
    assert str(Path(trajpred.__file__).parent).encode() not in content


def test_the_check_is_made_on_what_features_can_be(windows):
    inputs, _ = sample(small_model(windows, "lstm"), agents=50, steps=8)
    said = dict(zip(FEATURES, inputs.steps.unbind(-1), strict=True))
    for name in ("moved", "oriented", "tracker_velocity_valid", "tracker_yaw_valid"):
        assert set(said[name].unique().tolist()) == {0.0, 1.0}
    assert (said["elapsed_s"] >= 0.0).all()
    stands = dict(zip(RELATION, inputs.near_relation.unbind(-1), strict=True))
    assert all((stands[name].abs() <= 1.0).all() for name in ("heading_sin", "heading_cos"))
    assert ((stands["inverse_gap"] >= 0.0) & (stands["inverse_gap"] <= 1.0)).all()


def test_a_disagreement_fails_the_export(windows, tmp_path):
    model = small_model(windows, "lstm")
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(to_onnx(model, describe(model, run_of(windows)))))
    with torch.no_grad():
        model.residual.bias += 0.01
    with pytest.raises(Exception, match="ONNX and torch differ"):
        check_parity(model, OnnxModel.load(path))


def test_a_model_that_says_nan_is_answered_by_the_baseline(windows, tmp_path):
    """Somebody's exploded training run must not reach a planner."""
    model = small_model(windows, "lstm")
    with torch.no_grad():
        model.residual.bias.fill_(float("nan"))
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(to_onnx(model, describe(model, run_of(windows)))))
    predictor = Predictor(OnnxModel.load(path))
    for frame in crowd(agents=4, steps=5).frames():
        prediction = predictor.step(frame)
        assert np.isfinite(prediction.paths).all()
        assert (prediction.source == Source.MODEL_FAULT).all()
        np.testing.assert_allclose(prediction.probability.sum(axis=1), 1.0)


def test_a_class_that_was_not_trained_is_answered_by_the_baseline(windows, tmp_path):
    """An embedding that was never trained is noise: a car gets no pedestrian's paths."""
    model = small_model(windows, "lstm")
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(to_onnx(model, describe(model, replace(run_of(windows), classes=["PEDESTRIAN"])))))
    predictor = Predictor(OnnxModel.load(path))
    for frame in crowd(agents=4, steps=5).frames():
        prediction = predictor.step(frame)
    walking = frame.label == Label.PEDESTRIAN
    assert walking.any()
    assert not walking.all()
    assert (prediction.source[walking] == Source.MODEL).all()
    assert (prediction.source[~walking] == Source.UNTRAINED_CLASS).all()
    assert prediction.mode_valid[~walking].sum() == (~walking).sum()
