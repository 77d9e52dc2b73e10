"""What is compiled is compiled by the first frame: no later frame of any kind waits for the compiler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trajpred import cdr, features, geometry, messages, predictor, runtime, timegrid
from trajpred.config import HorizonConfig, OutputConfig
from trajpred.messages import decode_tracked, encode_predicted, encode_tracked
from trajpred.predictor import Predictor
from trajpred.runtime import OnnxModel
from trajpred.types import Label, TrackFrame, ids_from_int

from .conftest import random_artefact

OUTPUT = OutputConfig()


def forms_compiled():
    """Function -> the argument types that it has been compiled for."""
    rooms = (cdr, features, geometry, messages, predictor, runtime, timegrid)
    functions = [f for room in rooms for f in vars(room).values() if hasattr(f, "signatures")]
    assert len(functions) > 8
    return {f"{f.py_func.__module__}.{f.py_func.__name__}": list(f.signatures) for f in functions}


def frame(tick, count=12, **known):
    xy = np.stack([np.arange(count) * 3.0, np.full(count, 0.5 * tick)], axis=1)
    known = {"label": Label.PEDESTRIAN, "yaw": 0.3, "velocity": (1.0, 0.5), "size": (1.8, 0.6, 1.7), **known}
    return TrackFrame.build(tick * 100_000_000, ids_from_int(np.arange(count)), xy, **known)


def answer(model, raw, output=OUTPUT):
    seen, tracked = decode_tracked(raw)
    return encode_predicted(tracked, model.step(seen), output)


def ragged(raw):
    """The same objects, all their classes said twice by the first of them."""
    tracked = cdr.read_tracked(raw)
    return replace(
        tracked,
        class_start=np.concatenate([[0], tracked.class_start[1:] + 1]),
        class_label=np.concatenate([tracked.class_label[:1], tracked.class_label]),
        class_probability=np.concatenate([tracked.class_probability[:1], tracked.class_probability]),
    )


def test_no_frame_but_the_first_is_compiled_for(tmp_path):
    model = OnnxModel.load(random_artefact(tmp_path / "m.onnx"))
    predictors = Predictor(model), Predictor(None)
    for one in predictors:
        for tick in range(3):
            answer(one, encode_tracked(frame(tick)))
    before = forms_compiled()
    horizons = OutputConfig(horizon_s=HorizonConfig(pedestrian=3.0, vehicle=5.0))
    label = np.where(np.arange(12) % 2, Label.CAR, Label.PEDESTRIAN)
    for one in predictors:
        for tick, raw in enumerate(
            (
                encode_tracked(frame(4, count=0)),
                encode_tracked(frame(5, label=label)),
                cdr.write_tracked(ragged(encode_tracked(frame(6)))),
                cdr.write_tracked(ragged(encode_tracked(frame(7))), big_endian=True),
                encode_tracked(frame(8, yaw=None, velocity=None, size=None)),
                encode_tracked(frame(5)),  # late
                encode_tracked(frame(9, count=200)),
                encode_tracked(replace(frame(10), ids=ids_from_int(np.zeros(12)))),
                encode_tracked(replace(frame(11), xy=np.full((12, 2), np.nan))),
            )
        ):
            answer(one, raw, horizons if tick % 2 else OUTPUT)
        one.step(replace(frame(12), group=np.arange(12) % 3))
        one.observe(frame(13))
    assert forms_compiled() == before
