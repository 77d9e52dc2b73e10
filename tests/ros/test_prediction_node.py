"""The prediction node in a process of its own, over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from std_msgs.msg import Float64, Header
from visualization_msgs.msg import Marker, MarkerArray

from data_tools.convert import write_log
from tests.learn.conftest import random_artefact
from tests.ros.nodes import Talk, call, set_parameter
from tests.street import demo_scene
from trajpred.bags import read_raw
from trajpred.cdr import PREDICTED, read_predicted, read_tracked
from trajpred.config import NeighbourConfig
from trajpred.evaluate import make_predictor
from trajpred.messages import encode_tracked
from trajpred.replay import replay
from trajpred.types import Label, TrackFrame, ids_from_int

STEP_NS = 10**8


@pytest.fixture(scope="session")
def artefact(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    return random_artefact(path, neighbours=NeighbourConfig(count=4, radius_m=20.0))


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    log = tmp_path_factory.mktemp("street") / "street.mcap"
    write_log(demo_scene(seconds=6.0, seed=1), log)
    return log


def moving(tick: int, count: int = 3) -> TrackFrame:
    """Cyclists side by side at 5 m/s along x."""
    xy = np.stack([np.full(count, 0.5 * tick), 3.0 * np.arange(count)], axis=1)
    return TrackFrame.build(
        10**9 + tick * STEP_NS,
        ids_from_int(np.arange(count)),
        xy,
        label=Label.BICYCLE,
        yaw=0.0,
        velocity=(5.0, 0.0),
    )


class Health:
    """The newest diagnostics."""

    def __init__(self, stage):
        self.stage, self.status = stage, None
        stage.node.create_subscription(DiagnosticArray, "/diagnostics", self._on, 10)

    def _on(self, message):
        (self.status,) = message.status

    def until(self, fits, what):
        self.stage.spin_until(lambda: self.status is not None and fits(self.status), what=what)
        return {value.key: value.value for value in self.status.values}


def state_of(stage):
    return call(stage, GetState, "/prediction_node/get_state", GetState.Request()).current_state.id


def change(stage, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return call(stage, ChangeState, "/prediction_node/change_state", request).success


def check_live_equals_offline(stage, artefact, log, tmp_path):
    """Node, replay node and planner, each a process: every object once, the same as without ROS."""
    parameters = ("-p", f"model:={artefact}", "-p", "use_sim_time:=true")
    stage.start("trajpred-node", "--ros-args", *parameters)
    stage.start("trajpred-planner", "--ros-args", "-p", "use_sim_time:=true")
    talk = Talk(stage)
    speeds = []
    speed = "/yield_planner/output/target_speed"
    stage.node.create_subscription(TwistStamped, speed, speeds.append, 10000)
    stage.spin_until(lambda: stage.node.count_publishers(speed), what="planner")
    questions = [read_tracked(raw) for _, _, raw in read_raw(log)]
    # Only answers say that everyone has found everyone.
    before = max(0, questions[0].stamp_ns - 10**9)
    nobody = encode_tracked(TrackFrame.build(before, ids_from_int([]), np.zeros((0, 2))))
    stage.spin_until(
        lambda: talk.publisher.publish(nobody) or (talk.answers and speeds), what="node and planner to answer"
    )
    stage.spin_for(0.5)
    talk.answers.clear()
    speeds.clear()
    # Node and planner keep their last answer alone: the player waits until both were heard here.
    heard = stage.node.create_publisher(Header, "/heard", 1)
    answer = ("acknowledge_topic:=/heard", "acknowledge_type:=std_msgs/msg/Header")
    replayed = (f"log:={log}", "rate:=0.0", "wait_for_subscribers:=10.0", *answer)
    stage.start("trajpred-replay-node", "--ros-args", *(w for value in replayed for w in ("-p", value)))
    for count in range(1, len(questions) + 1):
        stage.spin_until(
            lambda count=count: min(len(talk.answers), len(speeds)) >= count,
            what=f"answer and target speed number {count}",
        )
        heard.publish(speeds[-1].header)

    replay(make_predictor(str(artefact)), log, tmp_path / "offline.mcap")
    offline = [raw for _, _, raw in read_raw(tmp_path / "offline.mcap", msgtype=PREDICTED)]
    assert len(talk.answers) == len(offline) == len(questions)
    objects = 0
    for question, live_raw, offline_raw in zip(questions, talk.answers, offline, strict=True):
        live, expected = read_predicted(live_raw), read_predicted(offline_raw)
        assert live.stamp_ns == question.stamp_ns
        assert live.frame_id == question.frame_id
        assert live.ids.tolist() == question.ids.tolist()
        assert len(set(live.ids.tolist())) == len(live.ids)
        np.testing.assert_array_equal(live.path_start, expected.path_start)
        np.testing.assert_array_equal(live.pose_start, expected.pose_start)
        np.testing.assert_allclose(live.poses[:, :3], expected.poses[:, :3], rtol=0, atol=1e-5)
        np.testing.assert_allclose(live.confidence, expected.confidence, rtol=0, atol=1e-6)
        objects += len(question.ids)
    stamps = [speed.header.stamp.sec * 10**9 + speed.header.stamp.nanosec for speed in speeds]
    assert stamps == [question.stamp_ns for question in questions]
    return objects


def test_live_equals_offline_on_a_generated_street(stage, artefact, street, tmp_path):
    assert check_live_equals_offline(stage, artefact, street, tmp_path) > 300


@pytest.mark.real_data
def test_live_equals_offline_on_a_kitti_drive(stage, artefact, data_root, tmp_path):
    from data_tools.convert import convert

    convert("kitti", data_root / "kitti", tmp_path / "0004.mcap", scene="0004")
    assert check_live_equals_offline(stage, artefact, tmp_path / "0004.mcap", tmp_path) > 500


def test_it_answers_with_the_model_says_how_long_it_took_and_how_it_is(stage, artefact):
    stage.start("trajpred-node", "--ros-args", "-p", f"model:={artefact}", "-p", "input_timeout:=1.5")
    talk, health, times = Talk(stage), Health(stage), []
    stage.node.create_subscription(Float64, "/prediction_node/debug/processing_time_ms", times.append, 10)
    health.until(lambda s: s.level == DiagnosticStatus.STALE, "STALE before the first input")
    for tick in range(5):
        prediction = talk.ask(moving(tick))
        assert prediction.stamp_ns == moving(tick).stamp_ns
    assert prediction.paths.shape == (3, 4, 20, 2)  # 4 modes, 10 s at 0.5 s
    stage.spin_until(lambda: len(times) >= 3, what="processing times")
    assert all(time.data > 0 for time in times)
    values = health.until(lambda s: s.level == DiagnosticStatus.OK, "OK with input")
    assert "CPUExecutionProvider" in values.values()
    health.until(lambda s: s.level == DiagnosticStatus.STALE, "STALE when input stops")
    assert stage.processes[0].stop() == 0, stage.processes[0].said


def test_parameters_take_effect_while_it_runs_or_are_rejected_with_the_reason(stage, artefact):
    stage.start("trajpred-node", "--ros-args", "-p", f"model:={artefact}")
    talk = Talk(stage)
    assert talk.ask(moving(0)).paths.shape[2] == 20
    assert set_parameter(stage, "prediction_node", "prediction_time_horizon.pedestrian", 4.0).successful
    assert talk.ask(moving(1)).paths.shape[2] == 8
    assert set_parameter(stage, "prediction_node", "prediction_sampling_delta_time", 0.2).successful
    assert talk.ask(moving(2)).offset_s.tolist() == pytest.approx(np.arange(0.2, 4.1, 0.2).tolist())

    too_fine = set_parameter(stage, "prediction_node", "prediction_sampling_delta_time", 0.01)
    assert not too_fine.successful
    assert "100" in too_fine.reason  # poses at most
    fixed = set_parameter(stage, "prediction_node", "model", "cv")
    assert not fixed.successful
    assert "clean up" in fixed.reason
    assert talk.ask(moving(3)).paths.shape[2] == 20


def test_a_model_that_knows_a_place_is_told_it_unless_it_shall_not_be(stage, tmp_path):
    model = random_artefact(tmp_path / "m.onnx", place="map")
    stage.start("trajpred-node", "--ros-args", "-p", f"model:={model}")
    talk, health = Talk(stage), Health(stage)
    told = [talk.ask(moving(tick)) for tick in range(3)][-1]
    health.until(lambda status: ("place", "map") in [(v.key, v.value) for v in status.values], "its place")
    assert change(stage, Transition.TRANSITION_DEACTIVATE)
    assert change(stage, Transition.TRANSITION_CLEANUP)
    assert set_parameter(stage, "prediction_node", "place", False).successful
    assert change(stage, Transition.TRANSITION_CONFIGURE)
    assert change(stage, Transition.TRANSITION_ACTIVATE)
    hidden = [talk.ask(moving(tick)) for tick in range(3)][-1]
    health.until(lambda status: ("place", "none") in [(v.key, v.value) for v in status.values], "no place")
    assert told.stamp_ns == hidden.stamp_ns
    assert np.abs(told.paths - hidden.paths).max() > 0.01


def test_in_a_short_time_the_model_answers_those_near_the_ego_and_the_baseline_the_rest(stage, artefact):
    stage.start("trajpred-node", "--ros-args", "-p", f"model:={artefact}")
    talk, times = Talk(stage), []
    stage.node.create_subscription(Float64, "/prediction_node/debug/processing_time_ms", times.append, 10)
    odometry = stage.node.create_publisher(Odometry, "/prediction_node/input/odometry", 10)
    stage.spin_until(odometry.get_subscription_count, what="a subscription to the odometry")
    many, here = 200, Odometry()
    here.header.frame_id = "map"
    here.pose.pose.orientation.w = 1.0

    def by_model(tick: int) -> np.ndarray:
        frame = moving(tick, many)
        here.header.stamp.sec, here.header.stamp.nanosec = divmod(frame.stamp_ns, 10**9)
        here.pose.pose.position.x = 0.5 * tick  # beside the first of them
        here.twist.twist.linear.x = 5.0
        odometry.publish(here)
        stage.spin_for(0.05)
        prediction = talk.ask(frame)
        assert len(prediction) == many
        return prediction.mode_valid.sum(axis=1) > 1

    assert by_model(0).all()
    stage.spin_until(lambda: len(times) > 0, what="processing times")
    # How fast the machine is a moment later nobody knows, so this is repeated until only some fit.
    budget_ms = 0.6 * times[-1].data
    for tick in range(1, 60):
        assert set_parameter(stage, "prediction_node", "time_budget_ms", budget_ms).successful
        answered = by_model(tick)
        assert answered[: answered.sum()].all()  # the nearest
        if 0 < answered.sum() < many:
            break
        budget_ms *= 0.9 if answered.any() else 1.1
    assert 0 < answered.sum() < many


def test_markers_show_every_path_and_vanish_when_time_jumps_back(stage, artefact):
    stage.start("trajpred-node", "--ros-args", "-p", f"model:={artefact}", "-p", "marker_lifetime:=0.4")
    talk, shown = Talk(stage), []
    stage.node.create_subscription(MarkerArray, "/prediction_node/debug/markers", shown.append, 10)
    stage.spin_until(lambda: stage.node.count_publishers("/prediction_node/debug/markers"), what="markers")
    for tick in range(100, 130):
        talk.ask(moving(tick))
        if shown:
            break
    stage.spin_until(lambda: shown, what="markers")
    markers = shown[-1].markers
    assert [m.type for m in markers] == [Marker.CUBE] * 3 + [Marker.LINE_STRIP] * 12  # 3 objects, 4 paths
    assert {len(m.points) for m in markers[3:]} == {21}
    assert len({m.ns for m in markers}) == 3
    assert (markers[0].lifetime.sec, markers[0].lifetime.nanosec) == (0, 400_000_000)
    stamp = markers[0].header.stamp
    tick = (stamp.sec * 10**9 + stamp.nanosec - moving(0).stamp_ns) / STEP_NS
    assert markers[3].points[0].x == pytest.approx(0.5 * tick)
    shown.clear()
    talk.ask(moving(0))
    wiped = lambda: any(each.markers[0].action == Marker.DELETEALL for each in shown)  # noqa: E731
    stage.spin_until(wiped, what="markers that wipe all others")


def test_a_missing_model_is_named_and_baselines_are_served(stage, tmp_path):
    node = stage.start("trajpred-node", "--ros-args", "-p", f"model:={tmp_path / 'no.onnx'}")
    talk, health = Talk(stage), Health(stage)
    prediction = talk.ask(moving(0))
    np.testing.assert_allclose(prediction.paths[0, 0, :, 0], 2.5 * np.arange(1, 21), atol=1e-9)  # 5 m/s
    assert "no.onnx" in node.said
    values = health.until(lambda s: s.level == DiagnosticStatus.WARN, "WARN")
    assert "no.onnx" in health.status.message + values["model"]
    assert any("no_model" in key and value == "3" for key, value in values.items())


@pytest.mark.parametrize("missing", [False, True], ids=["damaged", "missing"])
def test_a_damaged_model_fails_to_configure_where_degraded_is_not_allowed(stage, artefact, tmp_path, missing):
    damaged = tmp_path / "damaged.onnx"
    if not missing:
        damaged.write_bytes(artefact.read_bytes()[:-200] + bytes(200))
    node = stage.start(
        "trajpred-node", "--ros-args", "-p", f"model:={damaged}", "-p", "allow_degraded:=false"
    )
    stage.spin_until(lambda: "damaged.onnx" in node.said, what="the reason")
    assert state_of(stage) == State.PRIMARY_STATE_UNCONFIGURED
    assert set_parameter(stage, "prediction_node", "model", str(artefact)).successful
    assert change(stage, Transition.TRANSITION_CONFIGURE)
    assert change(stage, Transition.TRANSITION_ACTIVATE)
    assert Talk(stage).ask(moving(0)).paths.shape[1] == 4


def test_a_manager_can_lead_it_through_its_states(stage):
    node = stage.start("trajpred-node", "--ros-args", "-p", "model:=cv", "-p", "autostart:=false")
    assert state_of(stage) == State.PRIMARY_STATE_UNCONFIGURED
    assert change(stage, Transition.TRANSITION_CONFIGURE)
    assert state_of(stage) == State.PRIMARY_STATE_INACTIVE
    for _ in range(2):
        assert change(stage, Transition.TRANSITION_ACTIVATE)
        assert len(Talk(stage).ask(moving(0))) == 3
        assert change(stage, Transition.TRANSITION_DEACTIVATE)
    assert change(stage, Transition.TRANSITION_CLEANUP)
    assert state_of(stage) == State.PRIMARY_STATE_UNCONFIGURED
    assert set_parameter(stage, "prediction_node", "model", "ctrv").successful
    assert change(stage, Transition.TRANSITION_CONFIGURE)
    assert change(stage, Transition.TRANSITION_ACTIVATE)
    assert change(stage, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert state_of(stage) == State.PRIMARY_STATE_FINALIZED
    assert node.stop() == 0


def test_bad_bytes_are_counted_and_do_no_harm(stage):
    stage.start("trajpred-node", "--ros-args", "-p", "model:=cv")
    talk, health = Talk(stage), Health(stage)
    talk.ask(moving(0))
    good = talk.answers[-1]
    for bad in (b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 50, good):
        talk.publisher.publish(bad)
        stage.spin_for(0.3)  # only the newest is kept for the node
    assert len(talk.ask(moving(1))) == 3
    values = health.until(lambda s: "rejected" in s.message, "rejected frames in the diagnostics")
    assert health.status.level == DiagnosticStatus.WARN
    assert int(values["frames rejected"]) > 0


def test_a_frame_that_tf2_does_not_know_is_kept_with_a_warning(stage):
    node = stage.start("trajpred-node", "--ros-args", "-p", "model:=cv", "-p", "target_frame:=nowhere")
    prediction = Talk(stage).ask(moving(0))
    assert prediction.frame_id == "map"
    stage.spin_until(lambda: "nowhere" in node.said, what="a warning")


def test_an_impossible_parameter_ends_it_with_one_line(stage):
    node = stage.start("trajpred-node", "--ros-args", "-p", "provider:=abacus")
    assert node.wait(30) == 2
    assert node.said.strip().splitlines()[-1].startswith("error: parameter provider is one of auto, cpu")


@pytest.mark.parametrize("script", ["trajpred-node", "trajpred-replay-node", "trajpred-planner"])
def test_help_says_what_it_is_and_lists_the_parameters(stage, script):
    process = stage.start(script, "--help")
    assert process.wait(30) == 0
    assert "--ros-args" in process.said
    assert "default" in process.said
