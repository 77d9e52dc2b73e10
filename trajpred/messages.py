"""Autoware's perception messages to and from the arrays of the house, as serialized bytes (CDR).

In: autoware_perception_msgs/TrackedObjects, out: PredictedObjects with the same header and the same
objects in the same order. The definitions come with the package (`interfaces/`), so that no ROS
installation is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.geometry import path_heading, quaternion_from_yaw, rotate, wrap_angle, yaw_from_quaternion
from trajpred.types import (
    Bool,
    Float,
    Int,
    Label,
    Prediction,
    TrackFrame,
    bytes_from_ids,
    ids_from_bytes,
)

PACKAGE = "autoware_perception_msgs"
TRACKED = f"{PACKAGE}/msg/TrackedObjects"
PREDICTED = f"{PACKAGE}/msg/PredictedObjects"
MAX_PATHS = 10
MAX_POSES = 100

UNAVAILABLE, SIGN_UNKNOWN, AVAILABLE = 0, 1, 2  # TrackedObjectKinematics.orientation_availability
BOUNDING_BOX, CYLINDER, POLYGON = 0, 1, 2  # Shape.type

_LABELS = frozenset(Label)
_IDENTITY = (0.0, 0.0, 0.0, 1.0)


@cache
def typestore() -> Typestore:
    """ROS 2 Jazzy's message types and the perception interface, with their (de)serializers."""
    store = get_typestore(Stores.ROS2_JAZZY)
    names = [entry.name.removesuffix(".msg") for entry in _interfaces().iterdir()]
    _register(store, {name: _definition(name) for name in names})
    return store


def decode_tracked(raw: bytes | memoryview) -> tuple[TrackFrame, Any]:
    """One serialized TrackedObjects -> its frame, and the message that encode_predicted copies from.

    Rows are in the order of the message; a position that is not finite stays as it is. label is the
    most probable class. yaw is valid where the orientation is known: one that is known but for its
    sign is turned round if the object would be driving backwards. velocity is along the axes of the
    header's frame; size is known for boxes and cylinders. Raises InputError for other bytes.
    """
    try:
        message: Any = typestore().deserialize_cdr(raw, TRACKED)
    except SerdeError as error:
        raise InputError(f"not the bytes of {TRACKED}: {error}") from error
    kinematics = [item.kinematics for item in message.objects]
    position = _vectors((k.pose_with_covariance.pose.position for k in kinematics), "xy")
    yaw, yaw_valid, velocity, velocity_valid = _motion(kinematics)
    size, size_valid = _sizes([item.shape for item in message.objects])
    frame = TrackFrame(
        stamp_ns=message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec,
        frame_id=message.header.frame_id,
        ids=ids_from_bytes(np.array([item.object_id.uuid for item in message.objects], np.uint8)),
        label=np.array([_most_probable(item.classification) for item in message.objects], np.uint8),
        xy=position,
        yaw=yaw,
        yaw_valid=yaw_valid,
        velocity=velocity,
        velocity_valid=velocity_valid,
        size=size,
        size_valid=size_valid,
        group=np.zeros(len(message.objects), np.int64),
    )
    return frame, message


def encode_tracked(frame: TrackFrame) -> bytes:
    """A frame as one serialized TrackedObjects; decode_tracked gives the same frame back.

    The twist is in the object's frame. What is unknown: yaw UNAVAILABLE with the identity as
    orientation, velocity NaN, size a box of zeros. Raises InputError if the stamp does not fit a header.
    """
    yaw = np.where(frame.yaw_valid, frame.yaw, 0.0)
    twist = rotate(frame.velocity, -yaw)
    twist[~frame.velocity_valid] = np.nan
    objects = [
        _tracked_object(*row)
        for row in zip(
            bytes_from_ids(frame.ids),
            frame.label.tolist(),
            frame.xy.tolist(),
            quaternion_from_yaw(yaw).tolist(),
            frame.yaw_valid.tolist(),
            twist.tolist(),
            np.where(frame.size_valid[:, None], frame.size, 0.0).tolist(),
            strict=True,
        )
    ]
    message = _new(f"{PACKAGE}/TrackedObjects", _header(frame.stamp_ns, frame.frame_id), objects)
    return bytes(typestore().serialize_cdr(message, TRACKED))


def encode_predicted(message: Any, prediction: Prediction) -> bytes:
    """The answer to a decoded TrackedObjects as one serialized PredictedObjects.

    Header, id, existence probability, classification, shape and initial kinematics are the input's.
    Of each object's valid modes the (at most 10) most probable become paths, the most probable
    first, with confidences that sum to 1. path[0] is where the prediction starts, with the
    orientation of the input where that is known and the prediction's heading otherwise; at most
    99 poses follow at a uniform time step, with z as it is and the yaw along the path.

    prediction: the rows of the message, in its order. Raises ValueError for another number of rows.
    """
    if len(prediction) != len(message.objects):
        raise ValueError(f"{len(prediction)} predictions for {len(message.objects)} objects")
    step_s, paths = _evenly_timed(prediction)
    order, confidence, count = _best_modes(prediction)
    paths = np.take_along_axis(paths, order[:, :, None, None], axis=1)
    poses = _poses(message, prediction, paths)
    length = poses.shape[2]
    types = _flat_types(length)
    time_step = _new("builtin_interfaces/Duration", *divmod(round(step_s * NS_PER_S), NS_PER_S))

    def answer(row: int, item: Any) -> Any:
        weighted = zip(poses[row], confidence[row].tolist(), strict=True)
        kinematics = types["PredictedObjectKinematics"](
            item.kinematics.pose_with_covariance,
            item.kinematics.twist_with_covariance,
            item.kinematics.acceleration_with_covariance,
            [
                types["PredictedPath"](length, path.reshape(-1), time_step, share)
                for path, share in islice(weighted, count[row])
            ],
        )
        return types["PredictedObject"](
            item.object_id, item.existence_probability, item.classification, kinematics, item.shape
        )

    objects = [answer(row, item) for row, item in enumerate(message.objects)]
    answers = types["PredictedObjects"](message.header, objects)
    return bytes(typestore().serialize_cdr(answers, answers.__msgtype__))


def _interfaces() -> Any:
    return files("trajpred").joinpath("interfaces", PACKAGE, "msg")


def _definition(name: str) -> str:
    return str(_interfaces().joinpath(f"{name}.msg").read_text("utf-8"))


def _register(store: Typestore, definitions: dict[str, str]) -> None:
    types: Any = {}
    for name, text in definitions.items():
        types |= get_types_from_msg(text, f"{PACKAGE}/msg/{name}")
    store.register(types)


@cache
def _flat_types(poses: int) -> dict[str, Any]:
    """Message classes that give the very bytes of PredictedObjects whose paths all have so many poses.

    A path's poses are one array of numbers here. A Python object per pose, as PredictedObjects
    itself wants it, takes a quarter of a second for 100 objects of 6 paths of 60 poses.
    """
    parts = ("PredictedObjectKinematics", "PredictedObject", "PredictedObjects")
    definitions = {name: _definition(name) for name in parts}
    definitions["PredictedPath"] = (
        f"uint32 count\nfloat64[{7 * poses}] poses\n"
        "builtin_interfaces/Duration time_step\nfloat32 confidence\n"
    )
    names = re.compile(rf"\b({'|'.join(definitions)})\b")
    flat = {f"{name}{poses}": names.sub(rf"\g<1>{poses}", text) for name, text in definitions.items()}
    _register(typestore(), flat)
    return {name: typestore().types[f"{PACKAGE}/msg/{name}{poses}"] for name in definitions}


def _new(name: str, *values: Any) -> Any:
    """A message of a type by its name, such as `geometry_msgs/Point`, with its fields in order."""
    package, short = name.split("/")
    return typestore().types[f"{package}/msg/{short}"](*values)


def _header(stamp_ns: int, frame_id: str) -> Any:
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    if not -(2**31) <= sec < 2**31:
        raise InputError(f"the stamp {stamp_ns} ns does not fit the 32 bit seconds of a ROS header")
    return _new("std_msgs/Header", _new("builtin_interfaces/Time", sec, nanosec), frame_id)


def _tracked_object(
    uuid: NDArray[np.uint8],
    label: int,
    xy: list[float],
    xyzw: list[float],
    yaw_known: bool,
    twist: list[float],
    size: list[float],
) -> Any:
    zero = _new("geometry_msgs/Vector3", 0.0, 0.0, 0.0)
    position = _new("geometry_msgs/Point", *xy, 0.0)
    pose = _new("geometry_msgs/Pose", position, _new("geometry_msgs/Quaternion", *xyzw))
    linear = _new("geometry_msgs/Vector3", *twist, 0.0)
    kinematics = _new(
        f"{PACKAGE}/TrackedObjectKinematics",
        _new("geometry_msgs/PoseWithCovariance", pose, np.zeros(36)),
        _new("geometry_msgs/TwistWithCovariance", _new("geometry_msgs/Twist", linear, zero), np.zeros(36)),
        _new("geometry_msgs/AccelWithCovariance", _new("geometry_msgs/Accel", zero, zero), np.zeros(36)),
        AVAILABLE if yaw_known else UNAVAILABLE,
        False,
    )
    box = _new("geometry_msgs/Vector3", *size)
    return _new(
        f"{PACKAGE}/TrackedObject",
        _new("unique_identifier_msgs/UUID", uuid),
        1.0,
        [_new(f"{PACKAGE}/ObjectClassification", label, 1.0)],
        kinematics,
        _new(f"{PACKAGE}/Shape", BOUNDING_BOX, _new("geometry_msgs/Polygon", []), box),
    )


def _vectors(items: Iterable[Any], axes: str) -> Float:
    """(N, len(axes)) float64 of messages with fields named by single letters."""
    return np.array([[getattr(item, axis) for axis in axes] for item in items]).reshape(-1, len(axes))


def _orientations(kinematics: list[Any]) -> tuple[Float, Int]:
    """(N, 4) x, y, z, w and (N,) orientation_availability."""
    xyzw = _vectors((k.pose_with_covariance.pose.orientation for k in kinematics), "xyzw")
    return xyzw, np.array([k.orientation_availability for k in kinematics], np.int64)


def _motion(kinematics: list[Any]) -> tuple[Float, Bool, Float, Bool]:
    """Yaw (N,) with its mask, and velocity (N, 2) along the header's axes with its mask."""
    orientation, availability = _orientations(kinematics)
    oriented = _oriented(orientation)
    object_yaw = yaw_from_quaternion(np.where(oriented[:, None], orientation, _IDENTITY))
    twist = _vectors((k.twist_with_covariance.twist.linear for k in kinematics), "xy")
    # An empty (zero) orientation is an object frame along the header's; a broken one is none at all.
    velocity_valid = _sane(twist) & (oriented | (orientation == 0).all(axis=1))
    twist = np.where(velocity_valid[:, None], twist, 0.0)
    yaw_valid = oriented & (availability != UNAVAILABLE)
    # Turning the object frame round negates its twist as well, so the velocity stays as it is.
    backwards = (availability == SIGN_UNKNOWN) & (twist[:, 0] < 0)
    yaw = np.where(yaw_valid, wrap_angle(object_yaw + np.pi * backwards), 0.0)
    return yaw, yaw_valid, rotate(twist, object_yaw), velocity_valid


def _sizes(shapes: list[Any]) -> tuple[Float, Bool]:
    """Size (N, 3) with its mask."""
    size = _vectors((shape.dimensions for shape in shapes), "xyz")
    solid = np.array([shape.type in (BOUNDING_BOX, CYLINDER) for shape in shapes], bool)
    size_valid = solid & _sane(size) & (size > 0).all(axis=1)
    return np.where(size_valid[:, None], size, 0.0), size_valid


def _sane(values: Float) -> Bool:
    """(N,) whether all of (N, C) are finite, and not so large that reckoning with them overflows."""
    return np.asarray((np.abs(values) < 1e9).all(axis=1), bool)


def _oriented(xyzw: Float) -> Bool:
    """(N,) whether (N, 4) is an orientation; of any length but zero."""
    return _sane(xyzw) & (np.abs(xyzw) > 1e-6).any(axis=1)


def _most_probable(classification: list[Any]) -> int:
    """The label of the most probable class; unknown for none, and for a number without a meaning."""
    candidates = [(c.probability, c.label) for c in classification if c.probability == c.probability]
    label = max(candidates, key=itemgetter(0), default=(1.0, Label.UNKNOWN))[1]
    return label if label in _LABELS else Label.UNKNOWN


def _best_modes(prediction: Prediction) -> tuple[Int, Float, list[int]]:
    """(N, k) modes in falling probability, (N, k) shares of 1, and how many of each row are valid."""
    weight = np.where(prediction.mode_valid, prediction.probability, -1.0)
    order = np.argsort(-weight, axis=1, kind="stable")[:, :MAX_PATHS]
    share = np.take_along_axis(weight, order, axis=1).clip(min=0.0)
    count = np.minimum(prediction.mode_valid.sum(axis=1), MAX_PATHS)
    return order, share / share.sum(axis=1, keepdims=True), count.tolist()


def _evenly_timed(prediction: Prediction) -> tuple[float, Float]:
    """The time step in s, and (N, K, P, 2) the paths at its multiples, P < MAX_POSES, same horizon."""
    offset_s = prediction.offset_s
    count = min(len(offset_s), MAX_POSES - 1)
    step_s = float(offset_s[-1]) / count
    even = step_s * np.arange(1, count + 1)
    if count == len(offset_s) and np.allclose(offset_s, even, rtol=0, atol=1e-6):
        return step_s, prediction.paths
    known = np.append(0.0, offset_s)
    start = np.broadcast_to(prediction.xy[:, None, None], (*prediction.paths.shape[:2], 1, 2))
    points = np.concatenate([start, prediction.paths], axis=2)
    after = np.searchsorted(known, even).clip(1, len(known) - 1)
    share = ((even - known[after - 1]) / (known[after] - known[after - 1]))[:, None]
    return step_s, points[:, :, after - 1] * (1 - share) + points[:, :, after] * share


def _poses(message: Any, prediction: Prediction, paths: Float) -> NDArray[np.float64]:
    """(N, k, 1 + P, 7) x, y, z, qx, qy, qz, qw: the current pose, then the (N, k, P, 2) paths."""
    kinematics = [item.kinematics for item in message.objects]
    orientation, availability = _orientations(kinematics)
    known = (availability == AVAILABLE) & _oriented(orientation)
    yaw = yaw_from_quaternion(np.where(known[:, None], orientation, _IDENTITY))
    heading = np.where(known, yaw, prediction.heading)
    z = _vectors((k.pose_with_covariance.pose.position for k in kinematics), "z")[:, 0]
    poses = np.empty((*paths.shape[:2], paths.shape[2] + 1, 7))
    poses[:, :, 0, :2] = prediction.xy[:, None]
    poses[:, :, 1:, :2] = paths
    poses[..., 2] = np.where(np.isfinite(z), z, 0.0)[:, None, None]
    poses[:, :, 0, 3:] = np.where(known[:, None], orientation, quaternion_from_yaw(heading))[:, None]
    poses[:, :, 1:, 3:] = quaternion_from_yaw(path_heading(heading, prediction.xy, paths))
    return poses
