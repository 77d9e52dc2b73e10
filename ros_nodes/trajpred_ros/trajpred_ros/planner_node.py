"""Slows the ego down for who is predicted to be in its corridor: a small consumer of predictions.

Takes PredictedObjects on ~/input/objects and the ego's state on ~/input/odometry; answers each message with
the target speed on ~/output/target_speed, with the objects' stamp, and with the reason on ~/output/reason.
Until odometry arrives the ego is simulated: it obeys the answers, in the time of the objects' stamps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from autoware_perception_msgs.msg import PredictedObjects
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from trajpred.cdr import read_predicted
from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred_ros.odometry import ego_state
from trajpred_ros.parameters import Parameter, declare
from trajpred_ros.yielding import Caution, Decision, Ego, EgoPath, YieldConfig, decide

PARAMETERS = (
    Parameter(
        "ego_path",
        [0.0, 0.0],
        "The ego's path in the objects' frame: x0, y0, x1, y1, ..., m; it goes on straight at both ends. "
        "A single point: straight ahead of the ego, and for a simulated one from there along x.",
    ),
    Parameter(
        "ego_start", 0.0, "Where on its path a simulated ego starts, m.", low=-1e4, high=1e4, when="start"
    ),
    Parameter("cruise_speed", 10.0, "The ego's speed where nobody is in its way, m/s.", low=0.0, high=60.0),
    Parameter("corridor_width", 2.2, "Width of the ego, m.", low=0.1, high=20.0),
    Parameter("margin", 0.5, "Added to the corridor at both sides, m.", low=0.0, high=10.0),
    Parameter("ego_front", 3.8, "From the ego's reference point to its front, m.", low=0.0, high=30.0),
    Parameter("ego_rear", 1.0, "From the ego's reference point to its rear, m.", low=0.0, high=30.0),
    Parameter(
        "confidence_threshold",
        0.3,
        "An object is yielded to where its modes that conflict add up to this.",
        low=0.01,
        high=1.0,
    ),
    Parameter("comfortable_deceleration", 2.0, "Braking that is planned with, m/s^2.", low=0.1, high=10.0),
    Parameter(
        "max_deceleration", 6.0, "The most that a simulated ego brakes with, m/s^2.", low=0.1, high=20.0
    ),
    Parameter(
        "acceleration", 1.0, "The most that a simulated ego accelerates with, m/s^2.", low=0.1, high=10.0
    ),
    Parameter("standstill_gap", 3.0, "Distance kept to who is ahead, m.", low=0.0, high=50.0),
    Parameter("time_margin", 1.0, "Between the ego's rear and who crosses behind it, s.", low=0.0, high=10.0),
    Parameter(
        "clear_time",
        0.5,
        "A lower speed is kept until nobody has asked for it for so long, s: who is missed in one message is "
        "still there.",
        low=0.0,
        high=10.0,
    ),
    Parameter("horizon", 5.0, "Predictions beyond this are not looked at, s.", low=0.1, high=60.0),
    Parameter("use_predictions", True, "If false, only where objects are now counts."),
)

REORDER_NS = 300_000_000  # a message older than the last by at most this is late, by more a jump back


class SimulatedEgo:
    """Drives along its path towards the target speed that it is told, as fast as it can get there."""

    def __init__(self, start_m: float) -> None:
        self._start_m = start_m
        self._stamp_ns: int | None = None
        self._state = Ego(start_m, 0.0)
        self.target_mps = 0.0

    def at(self, stamp_ns: int, cruise_mps: float, gain_mps2: float, loss_mps2: float) -> Ego:
        """Its state at this stamp, if it gains and loses speed at most so fast.

        It starts at cruise speed, and anew where time has jumped back; a late stamp changes nothing.
        """
        if self._stamp_ns is None or stamp_ns < self._stamp_ns - REORDER_NS:
            self._state, self._stamp_ns = Ego(self._start_m, cruise_mps), stamp_ns
            self.target_mps = cruise_mps
        elapsed_s = max(stamp_ns - self._stamp_ns, 0) / NS_PER_S
        self._stamp_ns = max(stamp_ns, self._stamp_ns)
        arc_m, speed = self._state
        rate = gain_mps2 if self.target_mps > speed else -loss_mps2
        ramp_s = min(elapsed_s, (self.target_mps - speed) / rate)
        reached = speed + rate * ramp_s
        self._state = Ego(arc_m + ramp_s * (speed + reached) / 2 + (elapsed_s - ramp_s) * reached, reached)
        return self._state


class YieldPlanner(Node):
    """A callback is convert, decide, publish."""

    def __init__(self, **options: Any) -> None:
        super().__init__("yield_planner", **options)
        self._values = declare(self, PARAMETERS, check=_fault_together)
        self._simulated = SimulatedEgo(self._values["ego_start"])
        self._caution = Caution()
        self._odometry: Any = None
        self._rejected = 0
        newest = QoSProfile(depth=1)
        self._speed = self.create_publisher(TwistStamped, "~/output/target_speed", newest)
        self._reason = self.create_publisher(String, "~/output/reason", newest)
        self.create_subscription(Odometry, "~/input/odometry", self._on_odometry, newest)
        self.create_subscription(PredictedObjects, "~/input/objects", self._on_objects, newest, raw=True)

    def _on_odometry(self, odometry: Any) -> None:
        self._odometry = odometry

    def _on_objects(self, raw: bytes) -> None:
        try:
            predicted = read_predicted(raw)
            path, ego = self._ego(predicted.stamp_ns, predicted.frame_id)
        except InputError as error:
            self._rejected += 1
            self.get_logger().warning(
                f"no answer to a message ({self._rejected} so far): {error}", throttle_duration_sec=5.0
            )
            return
        decided = decide(predicted, path, ego, _config(self._values))
        clear_ns = round(self._values["clear_time"] * NS_PER_S)
        decision = self._caution.after(decided, predicted.stamp_ns, clear_ns)
        self._simulated.target_mps = decision.target_speed_mps
        self._publish(predicted.stamp_ns, decision)

    def _ego(self, stamp_ns: int, frame_id: str) -> tuple[EgoPath, Ego]:
        """The ego's path and where on it the ego is. Raises InputError if its odometry cannot say that."""
        values = self._values
        points = np.reshape(values["ego_path"], (-1, 2))
        if self._odometry is None:
            path = EgoPath(points) if len(points) > 1 else EgoPath.straight(points[0], 0.0)
            limits = values["cruise_speed"], values["acceleration"], values["max_deceleration"]
            return path, self._simulated.at(stamp_ns, *limits)
        here = ego_state(self._odometry, stamp_ns, frame_id)
        path = EgoPath(points) if len(points) > 1 else EgoPath.straight(here.xy, here.yaw)
        return path, Ego(float(path.arc_of(here.xy)), max(here.forward_mps, 0.0))

    def _publish(self, stamp_ns: int, decision: Decision) -> None:
        twist = TwistStamped()
        twist.header.stamp.sec, twist.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
        twist.header.frame_id = "base_link"
        twist.twist.linear.x = decision.target_speed_mps
        self._speed.publish(twist)
        self._reason.publish(String(data=decision.reason))


def _config(values: Any) -> YieldConfig:
    return YieldConfig(
        cruise_speed_mps=values["cruise_speed"],
        corridor_width_m=values["corridor_width"],
        margin_m=values["margin"],
        front_m=values["ego_front"],
        rear_m=values["ego_rear"],
        confidence_threshold=values["confidence_threshold"],
        comfortable_deceleration_mps2=values["comfortable_deceleration"],
        standstill_gap_m=values["standstill_gap"],
        time_margin_s=values["time_margin"],
        horizon_s=values["horizon"],
        use_predictions=values["use_predictions"],
    )


def _fault_together(values: dict[str, Any]) -> str | None:
    """Why the values cannot be together."""
    path = values["ego_path"]
    if len(path) < 2 or len(path) % 2:
        return f"ego_path is pairs of x and y, not {len(path)} numbers"
    if len(path) > 2:
        try:
            EgoPath(np.reshape(path, (-1, 2)))
        except InputError as error:
            return f"ego_path: {error}"
    if values["max_deceleration"] < values["comfortable_deceleration"]:
        return "max_deceleration is less than comfortable_deceleration"
    return None
