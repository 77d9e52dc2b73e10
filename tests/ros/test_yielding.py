"""What the planner decides, in cases that can be reckoned by hand, and in the scene it has to be good for.

By hand: with braking of 2 m/s^2 and half a second to react, room D allows sqrt(1 + 4 D) - 1 m/s more than
the object's own speed along the path. The ego is a point (front and rear 0), its path the x axis, its
corridor 4 m wide, the gap 0, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tests.drift import EGO_SPEED_MPS, drift_scene
from trajpred.cdr import TWIST, PredictedObjects
from trajpred.errors import InputError
from trajpred.geometry import path_heading, quaternion_from_yaw
from trajpred.messages import BOUNDING_BOX, CYLINDER, POLYGON
from trajpred.predictor import Predictor
from trajpred.types import Label, Prediction, TrackFrame, ids_from_int
from trajpred_ros.planner_node import SimulatedEgo
from trajpred_ros.yielding import Caution, Decision, Ego, EgoPath, YieldConfig, decide

AXIS = EgoPath([(0.0, 0.0), (1.0, 0.0)])
CONFIG = YieldConfig(
    cruise_speed_mps=10.0, corridor_width_m=3.0, margin_m=0.5, front_m=0.0, rear_m=0.0, standstill_gap_m=0.0
)
EGO = Ego(arc_m=0.0, speed_mps=5.0)


@dataclass
class RoadUser:
    """One object: its paths as (confidence, poses (P, 3) x, y, yaw), and its shape, a box by default."""

    paths: Sequence[tuple[float, Any]]
    size: tuple[float, float] = (2.0, 2.0)
    shape: int = BOUNDING_BOX
    outline: Sequence[tuple[float, float]] = ()
    label: Label = Label.CAR
    now: tuple[float, float, float] = (0.0, 0.0, 0.0)
    speed_mps: float = 0.0
    step_s: float = 0.5
    number: int = 42
    poses: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.poses = [np.asarray(path, np.float64).reshape(-1, 3) for _, path in self.paths]


def moving(start: tuple[float, float], velocity: tuple[float, float], steps: int = 10) -> Any:
    """Poses half a second apart on a straight line, yaw 0."""
    xy = np.array(start) + 0.5 * np.arange(steps + 1)[:, None] * np.array(velocity)
    return np.column_stack([xy, np.zeros(len(xy))])


def seven(poses: Any) -> Any:
    """(P, 3) x, y, yaw -> (P, 7) as a message has them."""
    poses = np.asarray(poses, np.float64).reshape(-1, 3)
    return np.column_stack([poses[:, :2], np.zeros(len(poses)), quaternion_from_yaw(poses[:, 2])])


def starts(counts: Sequence[int]) -> Any:
    return np.concatenate([[0], np.cumsum(np.array(counts, np.int64), dtype=np.int64)])


def message(*users: RoadUser, stamp_ns: int = 0, frame_id: str = "map") -> PredictedObjects:
    state = np.zeros((len(users), 127))
    for row, user in enumerate(users):
        state[row, :7] = seven(user.poses[0][0] if user.poses else user.now)
        state[row, TWIST.start] = user.speed_mps
    poses = [path for user in users for path in user.poses]
    return PredictedObjects(
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        ids=ids_from_int([user.number for user in users]),
        existence=np.ones(len(users), np.float32),
        class_start=np.arange(len(users) + 1),
        class_label=np.array([user.label for user in users], np.uint8),
        class_probability=np.ones(len(users), np.float32),
        state=state,
        shape_type=np.array([user.shape for user in users], np.uint8),
        point_start=starts([len(user.outline) for user in users]),
        points=np.array([(*p, 0.0) for u in users for p in u.outline], np.float32).reshape(-1, 3),
        dimensions=np.array([(*user.size, 1.5) for user in users]).reshape(-1, 3),
        path_start=starts([len(user.poses) for user in users]),
        pose_start=starts([len(path) for path in poses]),
        poses=np.concatenate([np.zeros((0, 7)), *map(seven, poses)]),
        time_step_ns=np.array([round(u.step_s * 1e9) for u in users for _ in u.poses], np.int64),
        confidence=np.array([share for u in users for share, _ in u.paths], np.float32),
    )


def answer(*users: RoadUser, ego: Ego = EGO, path: EgoPath = AXIS, **changes: Any) -> Decision:
    return decide(message(*users), path, ego, replace(CONFIG, **changes))


def allowed(room_m: float) -> float:
    return float(np.sqrt(1 + 4 * room_m) - 1)


def test_who_crosses_at_a_right_angle_enters_when_its_front_reaches_the_corridor() -> None:
    # 2 m square at 2 m/s from y = -8.4: its edge, 1 m ahead of it, is at the corridor's, -2, after 2.7 s.
    walker = RoadUser([(1.0, moving((13.0, -8.4), (0.0, 2.0)))], label=Label.PEDESTRIAN)
    decision = answer(walker)
    assert decision.entry_s == pytest.approx(2.7, abs=1e-3)
    assert decision.ahead_m == pytest.approx(12.0)
    assert decision.along_mps == pytest.approx(0.0, abs=1e-9)
    assert decision.target_speed_mps == pytest.approx(6.0)  # sqrt(1 + 4 * 12) - 1
    assert decision.reason == "yield to pedestrian 0000002a: 1.00 likely in the corridor in 2.7 s, 12 m ahead"


def test_the_front_of_the_ego_and_the_gap_take_room() -> None:
    walker = RoadUser([(1.0, moving((19.0, -8.4), (0.0, 2.0)))])
    decision = answer(walker, ego=Ego(-1.0, 9.0), front_m=4.0, rear_m=1.0, standstill_gap_m=3.0)
    assert decision.ahead_m == pytest.approx(15.0)
    assert decision.target_speed_mps == pytest.approx(6.0)  # 12 m are left


def test_the_ego_stops_behind_who_stands_in_the_corridor() -> None:
    decision = answer(RoadUser([(1.0, moving((7.0, 0.0), (0.0, 0.0)))]))
    assert decision.reason == "yield to car 0000002a: in the corridor now, 6 m ahead"
    assert decision.target_speed_mps == pytest.approx(4.0)
    assert answer(RoadUser([(1.0, moving((0.9, 0.0), (0.0, 0.0)))])).target_speed_mps == 0.0


def test_who_is_beside_the_corridor_is_not_in_the_way() -> None:
    beside = RoadUser([(1.0, moving((7.0, 3.01), (0.0, 0.0)))])
    assert answer(beside) == Decision(10.0)
    assert answer(beside).reason == "clear"
    assert answer(replace(beside, size=(2.0, 2.04))).target_speed_mps < 10.0


def test_nobody_is_in_the_way_of_nobody() -> None:
    assert answer() == Decision(10.0)


def test_who_crosses_after_the_ego_has_passed_is_let_be() -> None:
    # It enters after 2.7 s at x = 5 to 7; the ego's rear is at 7 m after 0.7 s, a margin of 2 s later.
    walker = RoadUser([(1.0, moving((6.0, -8.4), (0.0, 2.0)))])
    fast = Ego(0.0, 10.0)
    assert answer(walker, ego=fast, time_margin_s=1.99).reason == "clear"
    assert answer(walker, ego=fast, time_margin_s=2.01).target_speed_mps == pytest.approx(allowed(5.0))
    assert answer(walker, ego=Ego(0.0, 2.0), time_margin_s=0.0).reason != "clear"
    # With the front at 0 as before, but the rear 3 m behind it, the ego is past after 1 s.
    long = Ego(-2.0, 10.0)
    assert answer(walker, ego=long, front_m=2.0, rear_m=1.0, time_margin_s=1.69).reason == "clear"
    assert answer(walker, ego=long, front_m=2.0, rear_m=1.0, time_margin_s=1.71).reason != "clear"


@pytest.mark.parametrize("lateral_m", [0.0, 1.5])
def test_who_follows_in_the_corridor_has_to_wait(lateral_m: float) -> None:
    follower = RoadUser([(1.0, moving((-6.0, lateral_m), (12.0, 0.0)))])
    assert answer(follower, time_margin_s=5.0).reason == "clear"


def test_who_overtakes_has_to_leave_room_until_it_is_ahead() -> None:
    # It enters after 1 s, 5 to 7 m ahead of where the front is now.
    overtaking = RoadUser([(1.0, moving((-6.0, -3.5), (12.0, 0.5)))])
    assert answer(overtaking).reason == "clear"
    ahead = RoadUser([(1.0, moving((1.0, -3.5), (5.0, 0.5)))])
    assert answer(ahead).entry_s == pytest.approx(1.0, abs=1e-3)


def test_who_crosses_right_before_a_standing_ego_keeps_it_standing() -> None:
    # Its centre passes beside the front, behind it even; half a metre of it is ahead.
    walker = RoadUser([(1.0, moving((-0.5, -4.0), (0.0, 1.0)))])
    decision = answer(walker, ego=Ego(0.0, 0.0))
    assert decision.entry_s == pytest.approx(1.0, abs=1e-3)
    assert (decision.ahead_m, decision.target_speed_mps) == (0.0, 0.0)


def test_what_is_beyond_the_horizon_is_not_looked_at() -> None:
    walker = RoadUser([(1.0, moving((13.0, -8.4), (0.0, 2.0)))])  # it enters after 2.7 s
    assert answer(walker, horizon_s=2.6).reason == "clear"
    assert answer(walker, horizon_s=2.75).reason != "clear"


def test_the_speed_of_who_rides_ahead_is_adapted_to() -> None:
    # It enters after 1 s at 4 m/s along the path; its rear is 8 m ahead then, and 4 m ahead now.
    poses = moving((5.0, -4.0), (4.0, 1.0))
    decision = answer(RoadUser([(1.0, poses)], step_s=0.5))
    assert decision.entry_s == pytest.approx(1.0, abs=1e-3)
    assert decision.ahead_m == pytest.approx(8.0, abs=1e-2)
    assert decision.along_mps == pytest.approx(4.0)
    assert decision.target_speed_mps == pytest.approx(4.0 + allowed(4.0), abs=0.01)


def test_where_there_is_no_room_the_ego_falls_back() -> None:
    # At 6 m/s along, 2 m behind where the gap would end when it enters at once: 6 - 2 / 0.5.
    rider = RoadUser([(1.0, moving((2.0, 0.0), (6.0, 0.0)))])
    assert answer(rider, standstill_gap_m=3.0).target_speed_mps == pytest.approx(2.0)
    # It enters after 1 s at 9 m/s, 9 m ahead. Until then the ego may go the 5 m that the gap leaves.
    cutting_in = RoadUser([(1.0, moving((0.0, -4.0), (9.0, 1.0)))])
    decision = answer(cutting_in, ego=Ego(-1.0, 5.0), standstill_gap_m=4.0)
    assert decision.target_speed_mps == pytest.approx(5.0, abs=0.02)


@pytest.mark.parametrize(("share", "yields"), [(0.29, False), (0.3, True), (0.31, True)])
def test_a_mode_counts_by_its_confidence(share: float, yields: bool) -> None:
    into, on = moving((13.0, -8.4), (0.0, 2.0)), moving((13.0, -8.4), (0.0, 0.0))
    decision = answer(RoadUser([(share, into), (1 - share, on)]))
    assert (decision.reason != "clear") == yields
    assert not yields or decision.likelihood == pytest.approx(share)


def test_modes_that_conflict_add_up_and_the_one_that_reaches_the_threshold_decides() -> None:
    # Standing 6, 12 and 20 m ahead, and away: 0.2 is too little for the first, 0.4 is enough with the second.
    paths = [(0.2, (21.0, 0, 0)), (0.2, (7.0, 0, 0)), (0.4, (0.0, 50.0, 0)), (0.2, (13.0, 0, 0))]
    decision = answer(RoadUser(paths))
    assert decision.target_speed_mps == pytest.approx(6.0)
    assert decision.likelihood == pytest.approx(0.6)


def test_confidences_are_shares_of_their_sum_and_equal_where_they_say_nothing() -> None:
    into, on = moving((13.0, -8.4), (0.0, 2.0)), moving((13.0, -8.4), (0.0, 0.0))
    weighted = answer(RoadUser([(1.0, into), (2.0, on), (1.0, on)]), confidence_threshold=0.1)
    assert weighted.likelihood == pytest.approx(0.25)
    assert answer(RoadUser([(float("nan"), into), (0.0, on)])).likelihood == pytest.approx(0.5)


def test_without_predictions_only_who_is_in_the_corridor_now_counts() -> None:
    walker = RoadUser([(1.0, moving((13.0, -8.4), (0.0, 2.0)))])
    assert answer(walker, use_predictions=False).reason == "clear"
    rider = RoadUser([(1.0, moving((5.0, 0.0), (9.0, 0.0)))], speed_mps=4.0)
    decision = answer(rider, use_predictions=False)
    assert (decision.entry_s, decision.likelihood, decision.along_mps) == (0.0, 1.0, 4.0)
    assert decision.target_speed_mps == pytest.approx(4.0 + allowed(4.0))


def test_an_object_without_a_path_stays_where_it_is() -> None:
    assert answer(RoadUser([], now=(7.0, 0.0, 0.0))).target_speed_mps == pytest.approx(4.0)
    assert answer(RoadUser([], now=(7.0, 9.0, 0.0))).reason == "clear"


def test_the_nearest_demand_of_several_objects_is_met() -> None:
    far, near = (RoadUser([(1.0, (x, 0, 0))], number=n) for x, n in ((13.0, 1), (7.0, 2)))
    decision = answer(far, near)
    assert decision.row == 1
    assert decision.who == "car 00000002"
    assert decision.target_speed_mps == pytest.approx(4.0)


def test_shapes_reach_as_far_as_they_are() -> None:
    # The near end of each is 6 m ahead: a turned box, a cylinder of 3 m, a wedge with its tip to the ego.
    box = RoadUser([(1.0, (6.0 + 2.5, 0.0, np.pi / 2))], size=(1.0, 5.0))
    cylinder = RoadUser([(1.0, (7.5, 0.0, 0.0))], size=(3.0, 3.0), shape=CYLINDER)
    wedge = RoadUser([(1.0, (8.0, 0.0, 0.0))], shape=POLYGON, outline=[(-2.0, 0.0), (1.0, 3.0), (1.0, -3.0)])
    for user in (box, cylinder, wedge):
        assert answer(user).ahead_m == pytest.approx(6.0)
    # 4 m beside the axis, what is at y >= 2 of the wedge is in the corridor: there its edge begins at x = 0.
    assert answer(replace(wedge, paths=[(1.0, (8.0, -4.0, 0.0))])).ahead_m == pytest.approx(8.0)


def test_points_belong_to_their_object_and_only_to_a_polygon() -> None:
    empty = RoadUser([(1.0, (50.0, 50.0, 0.0))], shape=POLYGON)
    square = RoadUser([(1.0, (8.0, 0, 0))], shape=POLYGON, outline=[(-2, -1), (-2, 1), (1, 1), (1, -1)])
    boxed = RoadUser([(1.0, (8.0, 20.0, 0))], outline=[(-5, 0), (5, 0)])
    assert answer(empty, boxed, square, empty).ahead_m == pytest.approx(6.0)
    assert answer(replace(boxed, paths=[(1.0, (8.0, 0, 0))])).ahead_m == pytest.approx(7.0)


def test_the_way_between_two_poses_is_swept() -> None:
    # Through the corridor within one step of 2 s: from -11 to 11 at 11 m/s; it touches after 8 / 11 s.
    fast = RoadUser([(1.0, [(13.0, -11.0, 0.0), (13.0, 11.0, 0.0)])], step_s=2.0)
    decision = answer(fast)
    assert decision.entry_s == pytest.approx(8 / 11, abs=1e-3)
    assert decision.ahead_m == pytest.approx(12.0)


def test_a_bend_of_the_path_is_followed() -> None:
    bend = EgoPath([(0.0, 0.0), (5.0, 0.0), (5.0, 4.0)])
    ahead = RoadUser([(1.0, (5.0, 10.0, 0.0))])  # 5 m and 9 m along, to its near edge; beyond the last point
    assert answer(ahead, path=bend).ahead_m == pytest.approx(14.0)
    assert answer(RoadUser([(1.0, (14.0, 0.0, 0.0))]), path=bend).reason == "clear"


def test_numbers_that_are_none_are_not_there() -> None:
    nan = np.nan
    lost = RoadUser([(1.0, [(nan, 0.0, 0.0), (7.0, nan, 0.0)])])
    broken = RoadUser([(1.0, [(7.0, 0.0, nan), (nan, 0.0, 0.0)])], size=(nan, -1.0), speed_mps=nan)
    assert answer(lost).reason == "clear"
    assert answer(RoadUser([], now=(nan, nan, nan))).reason == "clear"
    assert answer(lost, broken).row == 1


@pytest.mark.parametrize("points", [[(0.0, 0.0)], [(0.0, 0.0), (1.0, 0.0), (1.0, 0.0)], [(0.0, np.nan)] * 2])
def test_an_ego_path_needs_a_direction(points: Any) -> None:
    with pytest.raises(InputError, match="ego path"):
        EgoPath(points)


def test_arc_lengths_count_from_the_first_point() -> None:
    assert AXIS.arc_of([(-3.0, 1.0), (8.0, -2.0)]).tolist() == pytest.approx([-3.0, 8.0])


def test_a_simulated_ego_keeps_to_its_limits_and_starts_anew_when_time_jumps_back() -> None:
    ego = SimulatedEgo(5.0)
    assert ego.at(0, 10.0, 1.0, 4.0) == (5.0, 10.0)
    ego.target_mps = 6.0
    # 10 to 6 m/s at 4 m/s^2 takes 1 s and 8 m, then 6 m.
    assert ego.at(2_000_000_000, 10.0, 1.0, 4.0) == pytest.approx((19.0, 6.0))
    assert ego.at(1_800_000_000, 10.0, 1.0, 4.0) == pytest.approx((19.0, 6.0))
    ego.target_mps = 10.0
    assert ego.at(4_000_000_000, 10.0, 1.0, 4.0) == pytest.approx((33.0, 8.0))
    assert ego.at(1_000_000_000, 10.0, 1.0, 4.0) == (5.0, 10.0)


def predictions(frame: TrackFrame, prediction: Prediction) -> PredictedObjects:
    """What a node would answer the frame with: its objects, and their paths from where they are."""
    n, modes = prediction.paths.shape[:2]
    heading = path_heading(prediction.heading, prediction.xy, prediction.paths)
    now = np.broadcast_to(prediction.xy[:, None, None], (n, modes, 1, 2))
    turned = np.broadcast_to(frame.yaw[:, None, None], (n, modes, 1))
    xy = np.concatenate([now, prediction.paths], axis=2)
    yaw = np.concatenate([turned, heading], axis=2)
    poses = np.concatenate([xy, yaw[..., None]], axis=3)
    step_s = float(prediction.offset_s[0])
    assert np.allclose(np.diff(prediction.offset_s), step_s)
    users = [
        RoadUser(
            list(zip(prediction.probability[row].tolist(), poses[row], strict=True)),
            size=tuple(frame.size[row, :2]),
            label=Label(frame.label[row]),
            speed_mps=float(np.hypot(*frame.velocity[row])),
            step_s=step_s,
            number=int.from_bytes(bytes(frame.ids[row]).rjust(16, b"\0"), "big"),
        )
        for row in range(n)
    ]
    return message(*users, stamp_ns=frame.stamp_ns)


@dataclass
class Drive:
    """What the planner did in the scene: at each stamp, the ego's state and the decision."""

    time_s: list[float]
    ego: list[Ego]
    decisions: list[Decision]

    @property
    def yields_s(self) -> float:
        return self.time_s[[bool(d.who) for d in self.decisions].index(True)]

    def speed_at(self, time_s: float) -> float:
        return float(np.interp(time_s, self.time_s, [e.speed_mps for e in self.ego]))


def drive(seed: int, course_rad: float, use_predictions: bool) -> Drive:
    made = drift_scene(seed, course_rad=course_rad)
    config = YieldConfig(cruise_speed_mps=EGO_SPEED_MPS, use_predictions=use_predictions)
    path, ego, predictor = EgoPath(made.ego_path), SimulatedEgo(0.0), Predictor(None)
    log = Drive([], [], [])
    for frame in made.scene.frames():
        state = ego.at(frame.stamp_ns, EGO_SPEED_MPS, 1.0, 6.0)
        decision = decide(predictions(frame, predictor.step(frame)), path, state, config)
        ego.target_mps = decision.target_speed_mps
        log.time_s.append(frame.stamp_ns / 1e9)
        log.ego.append(state)
        log.decisions.append(decision)
    return log


@pytest.mark.parametrize("course_rad", [0.15, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_with_predictions_the_car_slows_before_the_cyclist_is_in_its_lane(
    seed: int, course_rad: float, record_property: Any
) -> None:
    made = drift_scene(seed, course_rad=course_rad)
    enters_s = made.enters_ns(YieldConfig().half_width_m) / 1e9
    told, blind = drive(seed, course_rad, True), drive(seed, course_rad, False)
    earlier_s = blind.yields_s - told.yields_s
    record_property("yields_earlier_s", round(earlier_s, 3))
    print(
        f"\nscene {seed}, course {course_rad} rad: the cyclist enters at {enters_s:.2f} s. "
        f"With predictions the car yields at "
        f"{told.yields_s:.1f} s, without at {blind.yields_s:.1f} s: {earlier_s:.1f} s earlier. "
        f"When the cyclist enters, it drives {told.speed_at(enters_s):.1f} m/s, "
        f"not {blind.speed_at(enters_s):.1f} m/s."
    )
    assert earlier_s > 0
    assert told.yields_s < enters_s
    assert blind.yields_s > enters_s - 0.1  # noise may let the footprint touch the corridor a tick early
    assert told.speed_at(enters_s) < EGO_SPEED_MPS
    assert {d.who for d in told.decisions} == {"", "bicycle 00000001"}


def at_most(mps: float, who: str = "cyclist 1") -> Decision:
    return Decision(mps, who, entry_s=1.0)


CRUISE = Decision(10.0)


def test_who_is_missed_in_one_message_is_still_yielded_to():
    caution = Caution()
    assert caution.after(at_most(4.0), 0, 500_000_000) == at_most(4.0)
    kept = caution.after(CRUISE, 100_000_000, 500_000_000)
    assert kept.target_speed_mps == 4.0
    assert kept.reason.endswith("0.1 s ago")
    assert caution.after(CRUISE, 499_000_000, 500_000_000).target_speed_mps == 4.0
    assert caution.after(CRUISE, 500_000_000, 500_000_000) == CRUISE


def test_a_lower_speed_counts_at_once_and_a_higher_one_when_the_way_has_been_clear():
    caution = Caution()
    for tick, (mps, expected) in enumerate([(6.0, 6.0), (3.0, 3.0), (5.0, 3.0), (8.0, 3.0), (9.0, 5.0)]):
        found = caution.after(at_most(mps), tick * 200_000_000, 500_000_000)
        assert found.target_speed_mps == expected


def test_a_stamp_that_comes_again_replaces_what_was_decided_for_it():
    caution = Caution()
    caution.after(at_most(4.0), 1_000_000_000, 500_000_000)
    assert caution.after(CRUISE, 1_000_000_000, 500_000_000) == CRUISE


def test_nothing_is_kept_over_a_jump_back_in_time_or_without_a_time_to_keep_it():
    caution = Caution()
    caution.after(at_most(4.0), 10_000_000_000, 500_000_000)
    assert caution.after(CRUISE, 1_000_000_000, 500_000_000) == CRUISE
    caution.after(at_most(4.0), 2_000_000_000, 0)
    assert caution.after(CRUISE, 2_100_000_000, 0) == CRUISE
