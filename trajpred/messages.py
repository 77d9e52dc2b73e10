"""Autoware's perception messages to and from what the house knows: what the arrays of the wire mean.

In: autoware_perception_msgs/TrackedObjects, out: PredictedObjects with the same header and the same
objects in the same order, both as serialized bytes (`trajpred.cdr`).
"""

from __future__ import annotations

import math
from dataclasses import fields
from functools import lru_cache

import numpy as np

from trajpred import cdr
from trajpred.cdr import PREDICTED as PREDICTED
from trajpred.cdr import TRACKED as TRACKED
from trajpred.compiled import compiled
from trajpred.config import NS_PER_S, OutputConfig
from trajpred.errors import InputError
from trajpred.geometry import (
    central_path,
    course,
    half_turn,
    quaternion_from_yaw,
    rotate,
)
from trajpred.timegrid import between
from trajpred.types import Bool, Float, Float32, Int, Label, Prediction, Source, TrackFrame

MAX_PATHS = 10
MAX_POSES = 100
STEP_MIN_S, HORIZON_MAX_S = 0.001, 3600.0

UNAVAILABLE, SIGN_UNKNOWN, AVAILABLE = 0, 1, 2  # TrackedObjectKinematics.orientation_availability
BOUNDING_BOX, CYLINDER, POLYGON = 0, 1, 2  # Shape.type

VEHICLES = (Label.CAR, Label.TRUCK, Label.BUS, Label.TRAILER, Label.MOTORCYCLE)
PEDESTRIANS = (Label.PEDESTRIAN, Label.BICYCLE)
"""What config.HorizonConfig calls vehicle and pedestrian; all other classes are its unknown."""

TURNS_AFTER_M = 0.3
"""The poses of a path turn once it has come so far: what is less does not turn who stands. Between where an
agent was seen and the first point of its path is the tracker's noise alone."""
UNKNOWN_SPREAD_M = 1.0
"""A PredictedObjects does not say how sure a path is, so scores of the spread say nothing about it."""
PATHS_READ_MAX = 100
"""An object with more paths than this is no prediction, and would cost all others as much memory."""
POSES_READ_MAX = 1000
"""A path of more poses than this would cost all others of its message as much time and memory."""
POINTS_READ_MAX = 10_000_000
"""The most of a message on its common time grid: 20 times 500 objects of 10 paths of 100 poses."""

_SHARED = [field.name for field in fields(cdr.Objects)]

_SANE = 1e9
"""Reckoning with larger numbers overflows; no orientation, velocity or size is one."""
_LABELS, _UNKNOWN = len(Label), int(Label.UNKNOWN)
_DRIVES = np.isin(np.arange(256), VEHICLES)
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
    n = len(tracked)
    frame = TrackFrame(
        stamp_ns=tracked.stamp_ns,
        frame_id=tracked.frame_id,
        ids=tracked.ids,
        label=_most_probable(tracked),
        xy=np.ascontiguousarray(tracked.state[:, :2]),
        yaw=np.zeros(n),
        yaw_valid=np.zeros(n, bool),
        velocity=np.zeros((n, 2)),
        velocity_valid=np.zeros(n, bool),
        size=np.zeros((n, 3)),
        size_valid=np.zeros(n, bool),
        group=np.zeros(n, np.int64),
    )
    _fill_frame(
        np.ascontiguousarray(tracked.state[:, cdr.ORIENTATION]),
        np.ascontiguousarray(tracked.state[:, _VELOCITY]),
        np.ascontiguousarray(tracked.availability),
        np.ascontiguousarray(tracked.shape_type),
        np.ascontiguousarray(tracked.dimensions),
        frame.yaw,
        frame.yaw_valid,
        frame.velocity,
        frame.velocity_valid,
        frame.size,
        frame.size_valid,
    )
    return frame


@compiled
def _fill_frame(
    orientation: Float,
    twist: Float,
    availability: cdr.Bytes,
    shape_type: cdr.Bytes,
    dimensions: Float,
    yaw: Float,
    yaw_valid: Bool,
    velocity: Float,
    velocity_valid: Bool,
    size: Float,
    size_valid: Bool,
) -> None:
    """What is valid, of what is all zeros before."""
    for i in range(len(orientation)):
        oriented, along = _oriented(orientation[i]), _yaw(orientation[i])
        # An empty (zero) orientation is an object frame along the header's; a broken one is none at all.
        empty = True
        for axis in range(4):
            empty = empty and orientation[i, axis] == 0
        forward, left = twist[i, 0], twist[i, 1]
        if (oriented or empty) and abs(forward) < _SANE and abs(left) < _SANE:
            cos, sin = math.cos(along), math.sin(along)
            velocity[i, 0], velocity[i, 1] = forward * cos - left * sin, forward * sin + left * cos
            velocity_valid[i] = True
        if oriented and availability[i] != UNAVAILABLE:
            # Turning the object frame round negates its twist as well, so the velocity stays as it is.
            if availability[i] == SIGN_UNKNOWN and velocity_valid[i] and forward < 0:
                along += math.pi
            yaw[i] = (along + math.pi) % (2 * math.pi) - math.pi
            yaw_valid[i] = True
        solid = shape_type[i] <= CYLINDER  # or a box
        for axis in range(3):
            solid = solid and 0 < dimensions[i, axis] < _SANE
        if solid:
            size_valid[i] = True
            for axis in range(3):
                size[i, axis] = dimensions[i, axis]


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
    along the path, or against it where a vehicle reverses. Between the predictor's times a path is
    straight; beyond the last it goes on at its last velocity.

    prediction: the rows of the message, in its order. Raises ValueError for another number of rows,
    InputError for an output that cannot be (see steps_by_label).
    """
    if len(prediction) != len(tracked):
        raise ValueError(f"{len(prediction)} predictions for {len(tracked)} objects")
    steps = steps_by_label(output)
    one_horizon = bool((steps == steps[0]).all())
    path, share, path_start = _best_modes(prediction)
    if one_horizon:
        lengths = np.full(len(path), 1 + steps[0])
    else:
        lengths = 1 + steps[_most_probable(tracked)].repeat(np.diff(path_start))
    number = np.arange(lengths.max(initial=1))
    poses = _poses(tracked, prediction, path, np.multiply(output.step_s, number, dtype=np.float64))
    predicted = cdr.PredictedObjects(
        **{name: getattr(tracked, name) for name in _SHARED},
        path_start=path_start,
        pose_start=_starts(lengths),
        poses=poses.reshape(-1, 7) if one_horizon else poses[number < lengths[:, None]],
        time_step_ns=np.full(len(path), round(output.step_s * NS_PER_S)),
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
    path of fewer than two poses or more than 1000, of poses that are not finite, or of no time between
    them, and for what would be too much on that grid.
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
        (owner[lengths > POSES_READ_MAX], f"has a path of more than {POSES_READ_MAX} poses"),
        (owner[predicted.time_step_ns <= 0], "has a path whose time step is not above 0"),
        (broken, "has a pose that is not finite"),
    ):
        if rows.size:
            raise InputError(f"object {rows[0]} of a {PREDICTED} {fault}")

    offset_ns = _common_times(predicted.time_step_ns, lengths)
    shape = (n, int(counts.max(initial=1)))
    check_grid(*shape, len(offset_ns))
    after = np.minimum(-(-offset_ns // predicted.time_step_ns[:, None]), lengths[:, None] - 1)  # (M, T)
    share = (offset_ns - (after - 1) * predicted.time_step_ns[:, None]) / predicted.time_step_ns[:, None]
    after += predicted.pose_start[:-1, None]
    low, high = predicted.poses[after - 1, :2], predicted.poses[after, :2]

    mode_valid = np.arange(shape[1]) < counts[:, None]
    paths = np.zeros((*shape, len(offset_ns), 2))
    paths[mode_valid] = low + (high - low) * share[..., None]
    weight = np.zeros(shape)
    confidence = predicted.confidence.astype(np.float64)
    weight[mode_valid] = np.where(np.isfinite(confidence), confidence, 0.0).clip(min=0.0)
    weight = np.where((weight > 0).any(axis=1, keepdims=True), weight, mode_valid)
    first = predicted.poses[predicted.pose_start[predicted.path_start[:-1]]]
    twist = predicted.state[:, _VELOCITY]
    twist = np.where((np.abs(twist) < _SANE).all(axis=1, keepdims=True), twist, 0.0)
    probability = weight / weight.sum(axis=1, keepdims=True)
    prediction = Prediction(
        stamp_ns=predicted.stamp_ns,
        frame_id=predicted.frame_id,
        ids=predicted.ids,
        offset_s=offset_ns / NS_PER_S,
        xy=first[:, :2],
        heading=_yaws(np.ascontiguousarray(first[:, 3:])),
        velocity=rotate(twist, _yaws(np.ascontiguousarray(predicted.state[:, cdr.ORIENTATION]))),
        paths=paths,
        probability=probability,
        mode_valid=mode_valid,
        spread=np.full(paths.shape[:3], UNKNOWN_SPREAD_M),
        single=central_path(paths, probability),  # a message has no place for it
        source=np.full(n, Source.MODEL, np.uint8),
    )
    return prediction, predicted


def check_grid(objects: int, paths: int, times: int) -> None:
    """Raises InputError for more points on a common time grid than memory is given to."""
    if objects * paths * times > POINTS_READ_MAX:
        raise InputError(
            f"{objects} objects of up to {paths} paths come to more than {POINTS_READ_MAX} points "
            f"at the {times} times of the finest step"
        )


def _common_times(step_ns: Int, lengths: Int) -> Int:
    """(T,) ns > 0: multiples of the shortest step up to the shortest horizon; of nothing, one second."""
    if not len(step_ns):
        return np.array([NS_PER_S])
    horizon_ns, finest_ns = int((step_ns * (lengths - 1)).min()), int(step_ns.min())
    return finest_ns * np.arange(1, horizon_ns // finest_ns + 1)


@compiled
def _oriented(xyzw: Float) -> bool:
    """Whether (4,) is an orientation; of any length but zero."""
    largest = 0.0
    for value in xyzw:
        if not abs(value) < _SANE:
            return False
        largest = max(largest, abs(value))
    return largest > 1e-6


@compiled
def _yaw(xyzw: Float) -> float:
    """That of an orientation (4,), in rad; 0 where it is none."""
    if not _oriented(xyzw):
        return 0.0
    x, y, z, w = xyzw[0], xyzw[1], xyzw[2], xyzw[3]
    return math.atan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)


@compiled
def _yaws(xyzw: Float) -> Float:
    """(N, 4) -> (N,)."""
    yaw = np.empty(len(xyzw))
    for i in range(len(xyzw)):
        yaw[i] = _yaw(xyzw[i])
    return yaw


def _most_probable(objects: cdr.Objects) -> cdr.Bytes:
    """(N,) the label of the most probable class; unknown for none, and for a number without a meaning."""
    label = np.empty(len(objects), np.uint8)
    _fill_label(
        objects.class_start,
        np.ascontiguousarray(objects.class_label),
        np.ascontiguousarray(objects.class_probability),
        label,
    )
    return label


@compiled
def _fill_label(start: Int, number: cdr.Bytes, probability: Float32, label: cdr.Bytes) -> None:
    for i in range(len(label)):
        best = -1
        for at in range(start[i], start[i + 1]):
            if not math.isnan(probability[at]) and (best < 0 or probability[at] > probability[best]):
                best = at
        label[i] = number[best] if best >= 0 and number[best] < _LABELS else _UNKNOWN


def _best_modes(prediction: Prediction) -> tuple[Int, Float, Int]:
    """The M paths to publish, of a row in falling probability: (M,) which of N * K, its share (M,) of 1.

    Also (N+1,) where each row's begin.
    """
    n, modes = prediction.mode_valid.shape
    path, share = np.empty(n * min(modes, MAX_PATHS), np.int64), np.empty(n * min(modes, MAX_PATHS))
    start = np.zeros(n + 1, np.int64)
    _rank(
        np.ascontiguousarray(prediction.probability),
        np.ascontiguousarray(prediction.mode_valid),
        path,
        share,
        start,
    )
    return path[: start[-1]], share[: start[-1]], start


@compiled
def _rank(probability: Float, valid: Bool, path: Int, share: Float, start: Int) -> None:
    n, modes = probability.shape
    for i in range(n):
        first = last = start[i]
        for k in range(modes):
            if not valid[i, k]:
                continue
            rank = last
            while rank > first and probability[i, k] > share[rank - 1]:
                rank -= 1
            if rank == first + MAX_PATHS:
                continue
            last = min(last + 1, first + MAX_PATHS)
            for later in range(last - 1, rank, -1):
                path[later], share[later] = path[later - 1], share[later - 1]
            path[rank], share[rank] = i * modes + k, probability[i, k]
        start[i + 1] = last
        total = 0.0
        for rank in range(first, last):
            total += share[rank]
        for rank in range(first, last):
            share[rank] /= total


def _poses(tracked: cdr.TrackedObjects, prediction: Prediction, path: Int, at_s: Float) -> Float:
    """(M, P, 7) x, y, z, qx, qy, qz, qw of M paths (which of all N * K) at (P,) s, the first of them 0."""
    poses = np.empty((len(path), len(at_s), 7))
    _fill_poses(
        np.ascontiguousarray(prediction.paths),
        path,
        np.ascontiguousarray(prediction.xy),
        np.ascontiguousarray(prediction.heading),
        np.ascontiguousarray(tracked.state[:, 2]),
        np.ascontiguousarray(tracked.state[:, cdr.ORIENTATION]),
        np.ascontiguousarray(tracked.availability),
        _DRIVES[_most_probable(tracked)],
        *between(np.append(0.0, prediction.offset_s), at_s),
        poses,
    )
    return poses


@compiled
def _fill_poses(
    paths: Float,
    path: Int,
    xy: Float,
    heading: Float,
    z: Float,
    orientation: Float,
    availability: cdr.Bytes,
    drives: Bool,
    before: Int,
    share: Float,
    poses: Float,
) -> None:
    """At each time it is share of the way on from the point before, the first of which is xy.

    What drives cannot turn on the spot: where it goes the other way, it reverses.
    """
    modes, count = paths.shape[1], len(share)
    points, along = np.empty(count, np.complex128), np.empty(count, np.complex128)
    sine, cosine = np.empty(count), np.empty(count)
    for m in range(len(path)):
        row, k = divmod(path[m], modes)
        steps, pose = paths[row, k], poses[m]
        known = availability[row] == AVAILABLE and _oriented(orientation[row])
        yaw = _yaw(orientation[row]) if known else heading[row]
        height = z[row] if math.isfinite(z[row]) else 0.0
        for p in range(count):
            last = before[p]
            low_x, low_y = (steps[last - 1, 0], steps[last - 1, 1]) if last else (xy[row, 0], xy[row, 1])
            x = low_x + (steps[last, 0] - low_x) * share[p]
            y = low_y + (steps[last, 1] - low_y) * share[p]
            points[p] = complex(x, y)
        start = complex(math.cos(yaw), math.sin(yaw))
        course(points, start, along, TURNS_AFTER_M)
        if drives[row]:
            facing = start
            for p in range(count):
                if along[p].real * facing.real + along[p].imag * facing.imag < 0:
                    along[p] = -along[p]
                facing = along[p]
        half_turn(along, sine, cosine)
        for p in range(count):
            pose[p, 0], pose[p, 1], pose[p, 2] = points[p].real, points[p].imag, height
            pose[p, 3] = pose[p, 4] = 0.0
            pose[p, 5], pose[p, 6] = sine[p], cosine[p]
        pose[0, 5], pose[0, 6] = math.sin(0.5 * yaw), math.cos(0.5 * yaw)
        if known:
            for axis in range(4):
                pose[0, 3 + axis] = orientation[row, axis]


def _starts(counts: Int) -> Int:
    """(N+1,) where the items of each of N rows begin."""
    start = np.zeros(len(counts) + 1, np.int64)
    counts.cumsum(out=start[1:])
    return start
