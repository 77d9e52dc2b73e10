"""Messages written by hand, byte by byte, and what is read back of an answer."""

from __future__ import annotations

import struct

import numpy as np

from trajpred.bags import typestore
from trajpred.config import HorizonConfig, OutputConfig
from trajpred.messages import (
    PREDICTED,
    decode_tracked,
    encode_predicted,
)
from trajpred.types import Label, Prediction

UNAVAILABLE, SIGN_UNKNOWN, AVAILABLE = 0, 1, 2


class Cdr:
    """Little-endian CDR written by hand: every number at a multiple of its size."""

    def __init__(self):
        self.body = b""

    def put(self, code, *values):
        size = struct.calcsize(code)
        for value in values:
            self.body += b"\0" * (-len(self.body) % size) + struct.pack("<" + code, value)
        return self

    def text(self, text):
        self.put("I", len(text) + 1)
        self.body += text.encode() + b"\0"
        return self

    def raw(self, data):
        self.body += data
        return self

    def bytes(self):
        return b"\0\1\0\0" + self.body


UUID = bytes(range(100, 116))
COVARIANCE = [float(i) for i in range(36)]


def put_state(cdr, classes, position, orientation, twist):
    """An object up to its acceleration, the same in TrackedObject and PredictedObject."""
    cdr.raw(UUID).put("f", 0.75).put("I", len(classes))
    for label, probability in classes:
        cdr.put("B", label).put("f", probability)
    cdr.put("d", *position, *orientation, *COVARIANCE)
    cdr.put("d", *twist, 0.0, 0.0, 0.0, 0.1, *COVARIANCE)
    return cdr.put("d", 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, *COVARIANCE)


def put_shape(cdr, kind, dimensions, footprint=()):
    cdr.put("B", kind).put("I", len(footprint))
    for point in footprint:
        cdr.put("f", *point)
    return cdr.put("d", *dimensions)


def header(count, sec=1700, nanosec=250):
    return Cdr().put("i", sec).put("I", nanosec).text("map").put("I", count)


def tracked(
    classes=((Label.CAR, 1.0),),
    position=(1.0, 2.0, 3.0),
    orientation=(0.0, 0.0, 0.0, 1.0),
    twist=(1.0, 0.0),
    availability=AVAILABLE,
    shape=(0, (4.0, 2.0, 1.5)),
):
    """The bytes of a TrackedObjects with one object."""
    cdr = put_state(header(1), classes, position, orientation, twist).put("B", availability, 0)
    return put_shape(cdr, *shape).bytes()


def yaw_quaternion(degrees):
    return (0.0, 0.0, np.sin(np.radians(degrees) / 2), np.cos(np.radians(degrees) / 2))


def prediction_for(frame, paths, probability, mode_valid=None, step_s=0.5, heading=0.0, offset_s=None):
    """A Prediction of (N, K, T, 2) paths."""
    paths = np.asarray(paths, float)
    n, k, steps, _ = paths.shape
    offset_s = step_s * np.arange(1, steps + 1) if offset_s is None else np.asarray(offset_s)
    return Prediction(
        stamp_ns=frame.stamp_ns,
        frame_id=frame.frame_id,
        ids=frame.ids,
        offset_s=offset_s,
        xy=np.nan_to_num(frame.xy),
        heading=np.full(n, heading),
        velocity=np.zeros((n, 2)),
        paths=paths,
        probability=np.broadcast_to(np.asarray(probability, float), (n, k)),
        mode_valid=np.ones((n, k), bool) if mode_valid is None else np.asarray(mode_valid),
        spread=np.ones((n, k, steps)),
        single=paths[:, 0],
        source=np.zeros(n, np.uint8),
    )


def every(step_s, horizon_s):
    """The output with this horizon for all classes."""
    return OutputConfig(step_s, HorizonConfig(horizon_s, horizon_s, horizon_s))


def answer(raw, paths, probability, output=None, **kwargs):
    """PredictedObjects as rosbags reads them; by default on the prediction's own time grid."""
    frame, tracked_objects = decode_tracked(raw)
    prediction = prediction_for(frame, paths, probability, **kwargs)
    output = output or every(float(prediction.offset_s[0]), float(prediction.offset_s[-1]))
    return typestore().deserialize_cdr(encode_predicted(tracked_objects, prediction, output), PREDICTED)


def paths_of(objects, row=0):
    return objects.objects[row].kinematics.predicted_paths


def poses_of(path):
    """(P, 4) x, y, z, yaw in degrees."""
    return np.array(
        [
            (
                p.position.x,
                p.position.y,
                p.position.z,
                np.degrees(2 * np.arctan2(p.orientation.z, p.orientation.w)),
            )
            for p in path.path
        ]
    )
