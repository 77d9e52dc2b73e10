"""Where the ego is, by its odometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import Odometry

from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.geometry import rotate, yaw_from_quaternion
from trajpred.types import Float

STALE_NS = NS_PER_S  # odometry that is this far from the objects' time says nothing about now


@dataclass(frozen=True, slots=True, eq=False)
class EgoState:
    """xy (2,) m and yaw rad in the frame of the objects; forward_mps along yaw; velocity (2,) m/s."""

    xy: Float
    yaw: float
    forward_mps: float
    velocity: Float


def ego_state(odometry: Odometry, stamp_ns: int, frame_id: str) -> EgoState:
    """What the odometry says for objects of this stamp and frame. Raises InputError if it cannot say that."""
    header, pose, twist = odometry.header, odometry.pose.pose, odometry.twist.twist.linear
    if header.frame_id != frame_id:
        raise InputError(f"the odometry is in frame {header.frame_id!r}, the objects are in {frame_id!r}")
    age_ns = stamp_ns - header.stamp.sec * NS_PER_S - header.stamp.nanosec
    if abs(age_ns) > STALE_NS:
        raise InputError(f"the odometry is {age_ns / NS_PER_S:.1f} s older than the objects")
    turn = pose.orientation
    yaw = float(yaw_from_quaternion((turn.x, turn.y, turn.z, turn.w)))
    xy = np.array([pose.position.x, pose.position.y])
    if not np.isfinite((*xy, yaw, twist.x, twist.y)).all():
        raise InputError("the odometry is not finite")
    return EgoState(xy, yaw, twist.x, rotate((twist.x, twist.y), yaw))
