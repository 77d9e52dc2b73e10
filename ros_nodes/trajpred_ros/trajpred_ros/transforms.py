"""Tracked objects in another coordinate frame, by tf2 where it is installed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trajpred.cdr import POSE, POSE_COVARIANCE, TrackedObjects
from trajpred.types import Float

if TYPE_CHECKING:
    from rclpy.node import Node


class Transforms:
    """Looks transforms up in a tf2 buffer that listens to /tf; without tf2_ros it knows none."""

    def __init__(self, node: Node) -> None:
        self._buffer: Any = None
        self._listener: Any = None
        try:
            import tf2_ros
        except ImportError:
            return
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def into(self, target_frame: str, tracked: TrackedObjects) -> tuple[TrackedObjects, str | None]:
        """The objects in the target frame; or as they are, with the reason.

        The transform at the objects' stamp is used, or the newest one where that is not known yet.
        """
        if tracked.frame_id == target_frame:
            return tracked, None
        if self._buffer is None:
            return tracked, "tf2_ros is not installed"
        import tf2_ros
        from rclpy.time import Time

        reason = ""
        for stamp in (Time(nanoseconds=tracked.stamp_ns), Time()):
            try:
                found = self._buffer.lookup_transform(target_frame, tracked.frame_id, stamp).transform
            except tf2_ros.TransformException as error:
                reason = reason or str(error)
                continue
            shift = np.array([found.translation.x, found.translation.y, found.translation.z])
            turn = np.array([found.rotation.x, found.rotation.y, found.rotation.z, found.rotation.w])
            return transformed(tracked, target_frame, shift, turn), None
        return tracked, reason

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()


def transformed(
    tracked: TrackedObjects, target_frame: str, shift_m: Float, turn_xyzw: Float
) -> TrackedObjects:
    """Objects (N) in another frame: turned by a unit quaternion x, y, z, w, then shifted (3,) m.

    Poses and their covariances are in the header's frame; twist and acceleration are in the object's own
    and stay. An empty (zero) orientation means the header's axes, which the target frame sees turned.
    """
    rotation = _matrix(turn_xyzw)
    state = tracked.state.copy()
    pose = state[:, POSE]
    unknown = (pose[:, 3:] == 0).all(axis=1)
    orientation = np.where(unknown[:, None], (0.0, 0.0, 0.0, 1.0), pose[:, 3:])
    state[:, POSE] = np.concatenate(
        [pose[:, :3] @ rotation.T + shift_m, _product(turn_xyzw, orientation)], axis=1
    )
    both = np.kron(np.eye(2), rotation)  # position and orientation turn alike
    covariance = state[:, POSE_COVARIANCE].reshape(-1, 6, 6)
    state[:, POSE_COVARIANCE] = (both @ covariance @ both.T).reshape(-1, 36)
    return replace(tracked, frame_id=target_frame, state=state)


def _matrix(xyzw: Float) -> Float:
    """(3, 3) rotation of a unit quaternion."""
    x, y, z, w = xyzw
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _product(left: Float, right: Float) -> Float:
    """(N, 4) Hamilton products of one quaternion x, y, z, w with (N, 4)."""
    a, b, c, d = left
    x, y, z, w = np.moveaxis(right, -1, 0)
    return np.stack(
        [
            d * x + a * w + b * z - c * y,
            d * y - a * z + b * w + c * x,
            d * z + a * y - b * x + c * w,
            d * w - a * x - b * y - c * z,
        ],
        axis=-1,
    )
