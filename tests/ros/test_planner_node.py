"""The planner in a process of its own: predictions in, a target speed and the reason out."""

from __future__ import annotations

from typing import Any

import pytest
from autoware_perception_msgs.msg import PredictedObjects
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_msgs.msg import String

from tests.ros.conftest import Process, Stage
from tests.ros.test_yielding import RoadUser, message, moving
from trajpred.cdr import write_predicted
from trajpred.types import Label

# A point on the x axis, with a corridor 4 m wide and no gap, as in test_yielding: 12 m of room allow 6 m/s.
BY_HAND = {
    "ego_front": 0.0,
    "ego_rear": 0.0,
    "corridor_width": 3.0,
    "standstill_gap": 0.0,
    "acceleration": 0.1,
}
WALKER = RoadUser([(1.0, moving((13.0, -8.4), (0.0, 2.0)))], label=Label.PEDESTRIAN)
LAST_NS = 10**12
STANDING = RoadUser([(1.0, moving((13.0, 0.0), (0.0, 0.0)))])


class Audience:
    """Talks to a planner, and keeps what it answers."""

    def __init__(self, stage: Stage, **parameters: Any):
        self.stage = stage
        self.speeds: list[Any] = []
        self.reasons: list[str] = []
        node = stage.node
        self.objects = node.create_publisher(PredictedObjects, "/objects", 1)
        self.odometry = node.create_publisher(Odometry, "/odometry", 1)
        node.create_subscription(TwistStamped, "/yield_planner/target_speed", self.speeds.append, 10)
        node.create_subscription(String, "/yield_planner/reason", lambda m: self.reasons.append(m.data), 10)
        self.settings = node.create_client(SetParameters, "/yield_planner/set_parameters")
        topics = {
            "~/input/objects": "/objects",
            "~/input/odometry": "/odometry",
            "~/output/target_speed": "/yield_planner/target_speed",
            "~/output/reason": "/yield_planner/reason",
        }
        rules = [word for pair in topics.items() for word in ("-r", ":=".join(pair))]
        values = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        self.process: Process = stage.start("trajpred-planner", "--ros-args", *rules, *values)
        stage.spin_until(self._met, what="the planner on its topics")
        # Only answers say that the planner knows these subscriptions. What is asked after this is before it
        # in time: a jump back, with which the planner starts anew.
        nobody = write_predicted(message(stamp_ns=LAST_NS))
        stage.spin_until(
            lambda: self.objects.publish(nobody) or (self.speeds and self.reasons),
            what="the planner's answers",
        )
        stage.spin_for(0.5)
        self.speeds.clear()
        self.reasons.clear()

    def _met(self) -> bool:
        heard = self.objects.get_subscription_count() and self.odometry.get_subscription_count()
        node = self.stage.node
        answers = node.count_publishers("/yield_planner/target_speed") and node.count_publishers(
            "/yield_planner/reason"
        )
        return bool(heard and answers and self.settings.service_is_ready())

    def ask(self, *users: RoadUser, stamp_ns: int) -> tuple[float, str]:
        """The speed and the reason that answer these objects."""
        before = len(self.speeds), len(self.reasons)
        self.objects.publish(write_predicted(message(*users, stamp_ns=stamp_ns)))
        self.stage.spin_until(
            lambda: len(self.speeds) > before[0] and len(self.reasons) > before[1], what="an answer"
        )
        assert (len(self.speeds), len(self.reasons)) == (before[0] + 1, before[1] + 1)
        stamp = self.speeds[-1].header.stamp
        assert stamp.sec * 1_000_000_000 + stamp.nanosec == stamp_ns
        return self.speeds[-1].twist.linear.x, self.reasons[-1]

    def set(self, name: str, **value: Any) -> Any:
        """Change a parameter, given as a field of ParameterValue and its type; the node's verdict."""
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(**value))])
        future = self.settings.call_async(request)
        self.stage.spin_until(future.done, what=f"the verdict on {name}")
        return future.result().results[0]


def test_every_message_is_answered_with_its_stamp_the_speed_and_the_reason(stage: Stage) -> None:
    planner = Audience(stage, **BY_HAND, cruise_speed=5.0)
    speed, reason = planner.ask(stamp_ns=7_000_000_001)
    assert (speed, reason) == (5.0, "clear")
    # The ego has driven 0.5 m since, at its 5 m/s; 3 m/s are what 3.75 m of room allow.
    near = RoadUser([(1.0, moving((5.25, 0.0), (0.0, 0.0)))])
    speed, reason = planner.ask(near, stamp_ns=7_100_000_001)
    assert speed == pytest.approx(3.0)
    assert reason == "yield to car 0000002a: in the corridor now, 4 m ahead"
    assert planner.speeds[-1].header.frame_id == "base_link"
    # Time jumps back: the ego is at the start again, at 5 m/s; 12 m would allow 6 m/s.
    speed, reason = planner.ask(STANDING, stamp_ns=1_000_000_000)
    assert (speed, reason) == (5.0, "clear")
    assert planner.process.stop() == 0


def test_parameters_change_at_once_and_those_that_cannot_be_are_refused(stage: Stage) -> None:
    planner = Audience(stage, **BY_HAND, cruise_speed=7.0, time_margin=10.0)
    stamp_ns = 5_000_000_000  # the same one each time, so that the simulated ego stays where it is
    speed, reason = planner.ask(WALKER, stamp_ns=stamp_ns)
    assert speed == pytest.approx(6.0)
    assert reason == "yield to pedestrian 0000002a: 1.00 likely in the corridor in 2.7 s, 12 m ahead"
    assert planner.set("use_predictions", type=1, bool_value=False).successful
    assert planner.ask(WALKER, stamp_ns=stamp_ns) == (7.0, "clear")
    assert planner.set("cruise_speed", type=3, double_value=4.0).successful
    assert planner.ask(WALKER, stamp_ns=stamp_ns) == (4.0, "clear")

    refused = planner.set("confidence_threshold", type=3, double_value=1.5)
    assert not refused.successful
    assert "confidence_threshold" in refused.reason
    refused = planner.set("max_deceleration", type=3, double_value=1.0)
    assert refused.reason == "max_deceleration is less than comfortable_deceleration"
    refused = planner.set("ego_path", type=8, double_array_value=[0.0, 0.0, 1.0])
    assert refused.reason == "ego_path is pairs of x and y, not 3 numbers"
    refused = planner.set("ego_path", type=8, double_array_value=[0.0, 0.0, 0.0, 0.0])
    assert "repeats" in refused.reason
    assert planner.ask(WALKER, stamp_ns=stamp_ns) == (4.0, "clear")

    along_y = [13.0, -30.0, 13.0, 0.0]  # now the walker is in the corridor, 9.4 + 11.2 m from the start
    assert planner.set("ego_path", type=8, double_array_value=along_y).successful
    assert planner.set("cruise_speed", type=3, double_value=9.0).successful
    speed, reason = planner.ask(WALKER, stamp_ns=stamp_ns)
    assert reason == "yield to pedestrian 0000002a: in the corridor now, 21 m ahead"
    assert speed == pytest.approx((1 + 4 * 20.6) ** 0.5 - 1)


def test_odometry_says_where_the_ego_is_unless_it_is_old(stage: Stage) -> None:
    planner = Audience(stage, **BY_HAND)

    def drives(x: float, sec: int, frame_id: str = "map") -> None:
        odometry = Odometry()
        odometry.header.frame_id, odometry.header.stamp.sec = frame_id, sec
        odometry.pose.pose.position.x = x
        odometry.pose.pose.orientation.z, odometry.pose.pose.orientation.w = 1.0, 0.0  # it looks along -x
        odometry.twist.twist.linear.x = 5.0
        planner.odometry.publish(odometry)

    # A simulated ego, at 0, has 12 m; from x = 20, looking back, who stands at 13 begins 6 m ahead.
    assert planner.ask(STANDING, stamp_ns=5_000_000_000)[0] == pytest.approx(6.0)
    for _ in range(50):  # its odometry comes on another topic, so at a time of its own
        drives(20.0, 5)
        speed, reason = planner.ask(STANDING, stamp_ns=5_000_000_000)
        if speed != pytest.approx(6.0):
            break
    assert speed == pytest.approx(4.0)
    assert reason == "yield to car 0000002a: in the corridor now, 6 m ahead"

    answers = len(planner.speeds)
    planner.objects.publish(write_predicted(message(STANDING, stamp_ns=9_000_000_000)))
    stage.spin_until(lambda: "older than the objects" in planner.process.said, what="a warning")
    assert len(planner.speeds) == answers
    for _ in range(50):
        drives(20.0, 9)
        planner.objects.publish(write_predicted(message(STANDING, stamp_ns=9_000_000_000)))
        planner.stage.executor.spin_once(timeout_sec=0.1)
        if len(planner.speeds) > answers:
            break
    assert planner.speeds[-1].header.stamp.sec == 9


def test_odometry_in_another_frame_is_no_odometry(stage: Stage) -> None:
    planner = Audience(stage, **BY_HAND)
    odometry = Odometry()
    odometry.header.frame_id = "odom"

    def told() -> bool:
        planner.odometry.publish(odometry)
        planner.objects.publish(write_predicted(message(STANDING, stamp_ns=0)))
        return "the odometry is in frame 'odom', the objects are in 'map'" in planner.process.said

    stage.spin_until(told, what="a warning")


def test_bytes_that_are_no_message_are_counted_and_do_no_harm(stage: Stage) -> None:
    planner = Audience(stage, **BY_HAND, cruise_speed=7.0)
    planner.objects.publish(b"\x00\x01\x00\x00" + b"\xff" * 60)
    stage.spin_until(lambda: "no answer to a message (1 so far)" in planner.process.said, what="a warning")
    assert planner.ask(STANDING, stamp_ns=1_000_000_000)[0] == pytest.approx(6.0)
    assert len(planner.speeds) == 1
    assert planner.process.alive()


def test_a_start_value_that_cannot_be_is_one_line_and_the_end(stage: Stage) -> None:
    process = stage.start("trajpred-planner", "--ros-args", "-p", "ego_path:=[1.0, 2.0, 3.0]")
    assert process.wait(30.0) == 2
    assert "ego_path is pairs of x and y, not 3 numbers" in process.said
