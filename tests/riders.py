"""Road users of the simplest kind, and what is promised of every answer about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.test_predictor import S, assert_promises
from trajpred.predictor import Predictor
from trajpred.types import Label, TrackFrame, ids_from_int

NOW_S = 1_700_000_000


def frame(at_s, numbers, xy, **known):
    stamp_ns = NOW_S * S + round(at_s * S)
    return TrackFrame.build(stamp_ns, ids_from_int(numbers), np.reshape(xy, (-1, 2)), **known)


def riders(at_s, stamp_s=0.0, frame_id="map", count=3):
    """Cyclists side by side at 5 m/s along x; stamp_s is added to the stamp alone."""
    xy = [(5.0 * at_s, 3.0 * row) for row in range(count)]
    known = {"label": Label.BICYCLE, "yaw": 0.0, "velocity": (5.0, 0.0), "frame_id": frame_id}
    one = frame(at_s, range(count), xy, **known)
    return replace(one, stamp_ns=one.stamp_ns + round(stamp_s * S))


def at_10_hz(first, last):
    return [riders(0.1 * tick) for tick in range(first, last)]


def checked(predictor, asked):
    """The answer, which keeps what is promised of any."""
    answer = predictor.step(asked)
    assert_promises(asked, answer)
    return answer


def played(model, frames):
    """The last answer, of a fresh predictor."""
    predictor = Predictor(model)
    return [checked(predictor, one) for one in frames][-1]


def ahead(answer, seconds):
    """(N, 2) m, where the single path is so much later, from where its agent is."""
    return answer.single[:, np.argmin(np.abs(answer.offset_s - seconds))] - answer.xy


def called(one, label):
    return replace(one, label=np.full(len(one), label, np.uint8))
