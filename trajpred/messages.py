"""Autoware's perception messages to and from what the house knows: what the arrays of the wire mean.

In: autoware_perception_msgs/TrackedObjects, out: PredictedObjects with the same header and the same
objects in the same order, both as serialized bytes (`trajpred.cdr`).
"""

from __future__ import annotations

import threading
from dataclasses import fields
from functools import lru_cache
from math import prod

import numpy as np

from trajpred import cdr
from trajpred.cdr import PREDICTED as PREDICTED
from trajpred.cdr import TRACKED as TRACKED
from trajpred.config import NS_PER_S, OutputConfig
from trajpred.errors import InputError
from trajpred.geometry import (
    courses,
    half_turn,
    quaternion_from_yaw,
    rotate,
    wrap_angle,
    yaw_from_quaternion,
)
from trajpred.timegrid import between
from trajpred.types import Bool, Float, Int, Label, Prediction, Source, TrackFrame

MAX_PATHS = 10
MAX_POSES = 100
STEP_MIN_S, HORIZON_MAX_S = 0.001, 3600.0

UNAVAILABLE, SIGN_UNKNOWN, AVAILABLE = 0, 1, 2  # TrackedObjectKinematics.orientation_availability
BOUNDING_BOX, CYLINDER, POLYGON = 0, 1, 2  # Shape.type

VEHICLES = (Label.CAR, Label.TRUCK, Label.BUS, Label.TRAILER, Label.MOTORCYCLE)
PEDESTRIANS = (Label.PEDESTRIAN, Label.BICYCLE)
"""What config.HorizonConfig calls vehicle and pedestrian; all other classes are its unknown."""

UNKNOWN_SPREAD_M = 1.0
"""A PredictedObjects does not say how sure a path is, so scores of the spread say nothing about it."""
PATHS_READ_MAX = 100
"""An object with more paths than this is no prediction, and would cost all others as much memory."""

_WORKSPACE_MAX = 2**21  # numbers, 16 MiB
_thread = threading.local()

_BLOCK = 512  # paths at a time, whose poses stay in the cache
_SHARED = [field.name for field in fields(cdr.Objects)]

_IDENTITY = (0.0, 0.0, 0.0, 1.0)
_VELOCITY = slice(cdr.TWIST.start, cdr.TWIST.start + 2)


def decode_tracked(raw: cdr.Raw) -> tuple[TrackFrame, cdr.TrackedObjects]:
    """One serialized TrackedObjects -> its frame (see frame_of), and what encode_predicted copies from.

    Raises InputError for other bytes.
    """
    tracked = cdr.read_tracked(raw)
    return frame_of(tracked), tracked


def frame_of(tracked: cdr.TrackedObjects) -> TrackFrame:
    """The objects of a message as the predictor takes them, in the order of the message.

    A position that is not finite stays as it is. label is the most probable class. yaw is valid
    where the orientation is known: one that is known but for its sign is turned round if the object
    would be driving backwards. velocity is along the axes of the header's frame; size is known for
    boxes and cylinders.
    """
    yaw, yaw_valid, velocity, velocity_valid = _motion(tracked)
    solid = tracked.shape_type <= CYLINDER  # or a box
    size_valid = solid & _sane(tracked.dimensions) & (tracked.dimensions.min(axis=1) > 0)
    return TrackFrame(
        stamp_ns=tracked.stamp_ns,
        frame_id=tracked.frame_id,
        ids=tracked.ids,
        label=_most_probable(tracked),
        xy=tracked.state[:, :2],
        yaw=yaw,
        yaw_valid=yaw_valid,
        velocity=velocity,
        velocity_valid=velocity_valid,
        size=np.where(size_valid[:, None], tracked.dimensions, 0.0),
        size_valid=size_valid,
        group=np.zeros(len(tracked), np.int64),
    )


def encode_tracked(frame: TrackFrame) -> bytes:
    """A frame as one serialized TrackedObjects; decode_tracked gives the same frame back.

    The twist is in the object's frame. What is unknown: yaw UNAVAILABLE with the identity as
    orientation, velocity NaN, size a box of zeros. Raises InputError if the stamp does not fit a header.
    """
    n = len(frame)
    yaw = np.where(frame.yaw_valid, frame.yaw, 0.0)
    state = np.zeros((n, cdr.STATE))
    state[:, :2] = frame.xy
    state[:, cdr.ORIENTATION] = quaternion_from_yaw(yaw)
    state[:, _VELOCITY] = np.where(frame.velocity_valid[:, None], rotate(frame.velocity, -yaw), np.nan)
    tracked = cdr.TrackedObjects(
        stamp_ns=frame.stamp_ns,
        frame_id=frame.frame_id,
        ids=frame.ids,
        existence=np.ones(n, np.float32),
        class_start=np.arange(n + 1),
        class_label=frame.label,
        class_probability=np.ones(n, np.float32),
        state=state,
        shape_type=np.full(n, BOUNDING_BOX, np.uint8),
        point_start=np.zeros(n + 1, np.int64),
        points=np.zeros((0, 3), np.float32),
        dimensions=np.where(frame.size_valid[:, None], frame.size, 0.0),
        availability=np.where(frame.yaw_valid, AVAILABLE, UNAVAILABLE).astype(np.uint8),
        stationary=np.zeros(n, bool),
    )
    return cdr.write_tracked(tracked)


def encode_predicted(tracked: cdr.TrackedObjects, prediction: Prediction, output: OutputConfig) -> bytes:
    """The answer to a decoded TrackedObjects as one serialized PredictedObjects.

    Header, id, existence probability, classification, shape and initial kinematics are the input's.
    Of each object's valid modes the (at most 10) most probable become paths, the most probable
    first, with confidences that sum to 1. path[0] is where the prediction starts, with the
    orientation of the input where that is known and the prediction's heading otherwise; a pose
    follows every output.step_s up to the horizon of the object's class, with z as it is and the yaw
    along the path. Between the predictor's times a path is straight; beyond the last it goes on at
    its last velocity.

    prediction: the rows of the message, in its order. Raises ValueError for another number of rows,
    InputError for an output that cannot be (see steps_by_label).
    """
    if len(prediction) != len(tracked):
        raise ValueError(f"{len(prediction)} predictions for {len(tracked)} objects")
    steps = steps_by_label(output)
    one_horizon = bool((steps == steps[0]).all())
    path, share, path_start = _best_modes(prediction)
    row = path // prediction.mode_valid.shape[1]
    lengths = 1 + (steps[:1].repeat(len(row)) if one_horizon else steps[_most_probable(tracked)[row]])
    number = np.arange(lengths.max(initial=1))
    poses = _poses(tracked, prediction, row, path, np.multiply(output.step_s, number, dtype=np.float64))
    predicted = cdr.PredictedObjects(
        **{name: getattr(tracked, name) for name in _SHARED},
        path_start=path_start,
        pose_start=_starts(lengths),
        poses=poses.reshape(-1, 7) if one_horizon else poses[number < lengths[:, None]],
        time_step_ns=np.full(len(row), round(output.step_s * NS_PER_S)),
        confidence=share.astype(np.float32),
    )
    return cdr.write_predicted(predicted)


@lru_cache(maxsize=16)
def steps_by_label(output: OutputConfig) -> Int:
    """(256,) how many poses follow the current one, by the label of the object.

    Raises InputError, naming the setting, for a step that is no time, and for a horizon that is below
    the step or that takes more than 100 poses.
    """
    step_s, horizon_s = output.step_s, output.horizon_s
    if not STEP_MIN_S <= step_s <= HORIZON_MAX_S:
        raise InputError(f"output.step_s is {step_s} s, not from {STEP_MIN_S:g} to {HORIZON_MAX_S:g} s")
    steps = {}
    for name in ("vehicle", "pedestrian", "unknown"):
        value = getattr(horizon_s, name)
        if not step_s <= value <= HORIZON_MAX_S:
            raise InputError(
                f"output.horizon_s.{name} is {value} s, not from output.step_s ({step_s} s) "
                f"to {HORIZON_MAX_S:g} s"
            )
        steps[name] = round(value / step_s)
        if steps[name] >= MAX_POSES:
            raise InputError(
                f"output.horizon_s.{name}: {value} s every {step_s} s are {1 + steps[name]} poses, but a "
                f"path has at most {MAX_POSES}: a longer output.step_s, or a shorter horizon"
            )
    table = np.full(256, steps["unknown"])
    table[list(VEHICLES)] = steps["vehicle"]
    table[list(PEDESTRIANS)] = steps["pedestrian"]
    table.setflags(write=False)
    return table


def decode_predicted(raw: cdr.Raw) -> tuple[Prediction, cdr.PredictedObjects]:
    """One serialized PredictedObjects, whoever published it -> the prediction in it, and its arrays.

    Paths begin at path[0], which is the current pose: xy and heading are those of an object's first
    path, the velocity its twist's. Modes are in the order of the paths; an object with fewer than
    others has modes that are not valid. All paths are put on one time grid: the finest step in the message,
    up to the shortest horizon in it. Confidences are scaled to sum to 1; if all are 0, the paths are
    equally probable. spread is UNKNOWN_SPREAD_M, source MODEL.

    Raises InputError for other bytes, and for an object without a path, with more than 100, or with a
    path of fewer than two poses, of poses that are not finite, or of no time between them.
    """
    predicted = cdr.read_predicted(raw)
    n, counts = len(predicted), np.diff(predicted.path_start)
    owner, lengths = np.repeat(np.arange(n), counts), np.diff(predicted.pose_start)
    finite = np.isfinite(predicted.poses).all(axis=1)
    broken = np.repeat(owner, lengths)[~finite]
    for rows, fault in (
        (np.flatnonzero(counts == 0), "has no path"),
        (np.flatnonzero(counts > PATHS_READ_MAX), f"has more than {PATHS_READ_MAX} paths"),
        (owner[lengths < 2], "has a path without a future: fewer than two poses"),
        (owner[predicted.time_step_ns <= 0], "has a path whose time step is not above 0"),
        (broken, "has a pose that is not finite"),
    ):
        if rows.size:
            raise InputError(f"object {rows[0]} of a {PREDICTED} {fault}")

    offset_ns = _common_times(predicted.time_step_ns, lengths)
    after = np.minimum(-(-offset_ns // predicted.time_step_ns[:, None]), lengths[:, None] - 1)  # (M, T)
    share = (offset_ns - (after - 1) * predicted.time_step_ns[:, None]) / predicted.time_step_ns[:, None]
    after += predicted.pose_start[:-1, None]
    low, high = predicted.poses[after - 1, :2], predicted.poses[after, :2]

    shape = (n, int(counts.max(initial=1)))
    mode_valid = np.arange(shape[1]) < counts[:, None]
    paths = np.zeros((*shape, len(offset_ns), 2))
    paths[mode_valid] = low + (high - low) * share[..., None]
    weight = np.zeros(shape)
    confidence = predicted.confidence.astype(np.float64)
    weight[mode_valid] = np.where(np.isfinite(confidence), confidence, 0.0).clip(min=0.0)
    weight = np.where((weight > 0).any(axis=1, keepdims=True), weight, mode_valid)
    first = predicted.poses[predicted.pose_start[predicted.path_start[:-1]]]
    oriented, twist = _oriented(first[:, 3:]), predicted.state[:, _VELOCITY]
    heading = yaw_from_quaternion(np.where(oriented[:, None], first[:, 3:], _IDENTITY))
    prediction = Prediction(
        stamp_ns=predicted.stamp_ns,
        frame_id=predicted.frame_id,
        ids=predicted.ids,
        offset_s=offset_ns / NS_PER_S,
        xy=first[:, :2],
        heading=heading,
        velocity=rotate(np.where(_sane(twist)[:, None], twist, 0.0), _object_yaw(predicted)[0]),
        paths=paths,
        probability=weight / weight.sum(axis=1, keepdims=True),
        mode_valid=mode_valid,
        spread=np.full(paths.shape[:3], UNKNOWN_SPREAD_M),
        source=np.full(n, Source.MODEL, np.uint8),
    )
    return prediction, predicted


def _common_times(step_ns: Int, lengths: Int) -> Int:
    """(T,) ns > 0: multiples of the shortest step up to the shortest horizon; of nothing, one second."""
    if not len(step_ns):
        return np.array([NS_PER_S])
    horizon_ns, finest_ns = int((step_ns * (lengths - 1)).min()), int(step_ns.min())
    return finest_ns * np.arange(1, horizon_ns // finest_ns + 1)


def _object_yaw(objects: cdr.Objects) -> tuple[Float, Bool]:
    """(N,) rad, that of the objects' frames, 0 where it is unknown, and (N,) whether it is known."""
    orientation = objects.state[:, cdr.ORIENTATION]
    oriented = _oriented(orientation)
    return yaw_from_quaternion(np.where(oriented[:, None], orientation, _IDENTITY)), oriented


def _motion(tracked: cdr.TrackedObjects) -> tuple[Float, Bool, Float, Bool]:
    """Yaw (N,) with its mask, and velocity (N, 2) along the header's axes with its mask."""
    object_yaw, oriented = _object_yaw(tracked)
    twist = tracked.state[:, _VELOCITY]
    # An empty (zero) orientation is an object frame along the header's; a broken one is none at all.
    velocity_valid = _sane(twist)
    if not oriented.all():
        velocity_valid &= oriented | (tracked.state[:, cdr.ORIENTATION] == 0).all(axis=1)
    twist = np.where(velocity_valid[:, None], twist, 0.0)
    yaw_valid = oriented & (tracked.availability != UNAVAILABLE)
    # Turning the object frame round negates its twist as well, so the velocity stays as it is.
    backwards = (tracked.availability == SIGN_UNKNOWN) & (twist[:, 0] < 0)
    yaw = np.where(yaw_valid, wrap_angle(object_yaw + np.pi * backwards), 0.0)
    return yaw, yaw_valid, rotate(twist, object_yaw), velocity_valid


def _sane(values: Float) -> Bool:
    """(N,) whether all of (N, C) are finite, and not so large that reckoning with them overflows."""
    return np.asarray(_largest(values) < 1e9, bool)


def _largest(values: Float) -> Float:
    """(N,) the largest absolute value of each of (N, C), which are few; NaN if one is."""
    largest: Float = np.abs(values.T, order="C").max(axis=0)  # column by column: C is too short to be a loop
    return largest


def _oriented(xyzw: Float) -> Bool:
    """(N,) whether (N, 4) is an orientation; of any length but zero."""
    largest = _largest(xyzw)
    return np.asarray((largest < 1e9) & (largest > 1e-6), bool)


def _most_probable(objects: cdr.Objects) -> cdr.Bytes:
    """(N,) the label of the most probable class; unknown for none, and for a number without a meaning."""
    n, start, probability = len(objects), objects.class_start, objects.class_probability
    label = np.full(n, Label.UNKNOWN, np.uint8)
    if not len(probability):
        return label
    counts = start[1:] - start[:-1]
    some: Int | slice
    if (counts == counts[0]).all():
        some, table = slice(None), probability.reshape(n, -1)
        best = start[:-1] + (table == np.fmax.reduce(table, axis=1)[:, None]).argmax(axis=1)
    else:
        some = np.flatnonzero(counts)
        order = np.lexsort((-probability, np.repeat(np.arange(n), counts)))  # the first of equals, NaN last
        best = order[start[some]]
    found = objects.class_label[best]
    label[some] = np.where(np.isnan(probability[best]) | (found >= len(Label)), Label.UNKNOWN, found)
    return label


def _best_modes(prediction: Prediction) -> tuple[Int, Float, Int]:
    """The M paths to publish, of a row in falling probability: (M,) which of N * K, its share (M,) of 1.

    Also (N+1,) where each row's begin.
    """
    n, modes = prediction.mode_valid.shape
    weight = np.where(prediction.mode_valid, prediction.probability, -1.0)
    path = (-weight).argsort(axis=1, kind="stable")[:, :MAX_PATHS] + modes * np.arange(n)[:, None]
    share = weight.take(path).clip(min=0.0)
    share /= share.sum(axis=1, keepdims=True)
    if prediction.mode_valid.all():
        return path.reshape(-1), share.reshape(-1), path.shape[1] * np.arange(n + 1)
    count = np.minimum(prediction.mode_valid.sum(axis=1), MAX_PATHS)
    chosen = np.arange(path.shape[1]) < count[:, None]
    return path[chosen], share[chosen], _starts(count)


def _poses(tracked: cdr.TrackedObjects, prediction: Prediction, row: Int, path: Int, at_s: Float) -> Float:
    """(M, P, 7) x, y, z, qx, qy, qz, qw of M paths at (P,) s, of which the first is 0.

    row: (M,), whose path it is; path: (M,), which of all N * K. In this thread's workspace: until the
    next call.
    """
    orientation = tracked.state[:, cdr.ORIENTATION]
    known = (tracked.availability == AVAILABLE) & _oriented(orientation)
    if not known.all():
        orientation = np.where(known[:, None], orientation, quaternion_from_yaw(prediction.heading))
    z = tracked.state[:, 2]
    z = np.where(np.isfinite(z), z, 0.0)
    ahead = np.exp(1j * yaw_from_quaternion(orientation))

    paths = np.ascontiguousarray(prediction.paths).view(np.complex128)  # (N, K, T, 1), x + iy
    points = np.empty((len(row), 1 + paths.shape[2]), np.complex128)
    points[:, 0] = np.ascontiguousarray(prediction.xy).view(np.complex128)[:, 0].take(row)
    points[:, 1:] = paths.reshape(-1, paths.shape[2]).take(path, axis=0)
    if not _begins_with(prediction.offset_s, at_s[1:]):
        before, share = between(np.append(0.0, prediction.offset_s), at_s)
        low = points.take(before, axis=1)
        points = low + (points.take(before + 1, axis=1) - low) * share
    elif len(at_s) < points.shape[1]:
        points = points[:, : len(at_s)].copy()
    along = courses(points, ahead.take(row))

    poses = _workspace(len(row), len(at_s), 7)
    for begin in range(0, len(row), _BLOCK):
        some = slice(begin, begin + _BLOCK)
        into = poses[some]
        into[:, :, 0], into[:, :, 1] = points[some].real, points[some].imag
        into[:, :, 2] = z.take(row[some])[:, None]
        into[:, :, 3] = into[:, :, 4] = 0.0
        into[:, :, 5], into[:, :, 6] = half_turn(along[some])
        into[:, 0, 3:] = orientation.take(row[some], axis=0)
    return poses


def _begins_with(offset_s: Float, wanted_s: Float) -> bool:
    """Whether the first times are the wanted ones; to the nanosecond, as a message says them."""
    first = offset_s[: len(wanted_s)]
    return len(first) == len(wanted_s) and bool((np.abs(first - wanted_s) < 1 / NS_PER_S).all())


def _starts(counts: Int) -> Int:
    """(N+1,) where the items of each of N rows begin."""
    start = np.zeros(len(counts) + 1, np.int64)
    counts.cumsum(out=start[1:])
    return start


def _workspace(*shape: int) -> Float:
    """An array of this thread for one call, with whatever is in it.

    Megabytes that are new for every message would be handed back to the system and asked for again,
    which takes as long as filling them.
    """
    count = prod(shape)
    if count > _WORKSPACE_MAX:
        return np.empty(shape)
    flat: Float | None = getattr(_thread, "workspace", None)
    if flat is None or flat.size < count:
        flat = _thread.workspace = np.empty(count)
    return flat[:count].reshape(shape)
