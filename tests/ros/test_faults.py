"""What can go wrong round a running prediction node: silence, damage, crowds, signals, deaf subscribers."""

from __future__ import annotations

import gc
import itertools
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from domain_coordinator import domain_id
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from std_msgs.msg import Float64
from visualization_msgs.msg import MarkerArray

import trajpred_ros
from benchmarks.contract import Ledger, broken
from benchmarks.faults import FAULTS, THOUSANDS, Perception, Sent
from tests.ros.conftest import Stage
from tests.ros.nodes import INPUT, OUTPUT, Talk
from tests.ros.test_prediction_node import STEP_NS, Health, change, moving
from trajpred.cdr import read_predicted
from trajpred.config import DEFAULT_MODEL, OutputConfig
from trajpred.messages import decode_predicted, decode_tracked, encode_predicted, encode_tracked
from trajpred.predictor import Predictor
from trajpred.runtime import OnnxModel, artefact, seal
from trajpred.types import Label, TrackFrame, ids_from_int
from trajpred_ros.prediction_node import PredictionNode

MINUTE = 60 * 10**9 // STEP_NS
"""In ticks."""

FASTDDS = Path(trajpred_ros.__file__).parents[1] / "config" / "fastdds.xml"
"""Shared memory that is large enough for answers of many objects."""


def told(status: DiagnosticStatus, key: str) -> int:
    """A number in the diagnostics."""
    return int({value.key: value.value for value in status.values}[key])


def many(tick: int, count: int, frame_id: str = "map") -> TrackFrame:
    """So many cyclists on a wide place."""
    rows = np.arange(count)
    return TrackFrame.build(
        moving(tick).stamp_ns,
        ids_from_int(rows),
        np.stack([rows % 100, rows // 100], axis=1) * 4.0 + 0.5 * tick,
        label=Label.BICYCLE,
        yaw=0.8,
        velocity=(3.5, 3.5),
        frame_id=frame_id,
    )


def as_published(predictor: Predictor, frame: TrackFrame) -> np.ndarray:
    """(N, K, 16, 2) m, to 8 s."""
    asked, tracked = decode_tracked(encode_tracked(frame))
    raw = encode_predicted(tracked, predictor.step(asked), OutputConfig())
    return decode_predicted(raw)[0].paths[..., :16, :]


def test_input_that_is_silent_is_stale_and_is_answered_as_new_when_it_is_back(stage: Stage) -> None:
    """The stamps say that a minute has passed; the diagnostics need a shorter silence."""
    stage.start("trajpred-node", "--ros-args", "-p", "input_timeout:=0.8")
    talk, health = Talk(stage), Health(stage)
    for tick in range(5):
        talk.ask(moving(tick))
    health.until(lambda s: s.level == DiagnosticStatus.STALE and "no input for" in s.message, "STALE")
    back, fresh = moving(MINUTE, count=2), Predictor(OnnxModel.load(DEFAULT_MODEL))
    np.testing.assert_allclose(talk.ask(back).paths[..., :16, :], as_published(fresh, back), atol=1e-4)
    for tick in range(MINUTE + 1, MINUTE + 100):
        talk.ask(moving(tick, count=2))
        stage.spin_for(0.05)
        if health.status.level != DiagnosticStatus.STALE:
            break
    assert health.status.level == DiagnosticStatus.OK, health.status.message
    values = {value.key: value.value for value in health.status.values}
    assert (values["tracks remembered"], values["resets"]) == ("2", "0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_messages_are_waiting_ends_it_in_order(stage: Stage, number: signal.Signals) -> None:
    node = stage.start("trajpred-node")
    talk = Talk(stage)
    burst = [encode_tracked(many(tick, 500)) for tick in range(50)]
    for raw in burst:
        talk.publisher.publish(raw)
    stage.spin_until(lambda: talk.answers, what="a first answer")
    for raw in burst:
        talk.publisher.publish(raw)
    node.send(number)
    assert node.wait(10) == 0, node.said
    assert "Traceback" not in node.said


def test_a_steady_road_user_is_followed_at_any_rate_of_messages(stage: Stage) -> None:
    """To a tenth of its way in 3 s; a minute lies between one rate and the next."""
    stage.start("trajpred-node")
    talk = Talk(stage)
    for begun, rate_hz in enumerate((1, 2, 5, 10, 20, 50)):
        for tick in range(6 * rate_hz):
            one = moving(0)
            at_s = tick / rate_hz
            moved = one.xy + np.array([5.0 * at_s, 0.0])
            stamp_ns = one.stamp_ns + round((60 * begun + at_s) * 1e9)
            answer = talk.ask(replace(one, stamp_ns=stamp_ns, xy=moved))
        likeliest = answer.paths[np.arange(3), answer.probability.argmax(axis=1)]
        ahead = likeliest[:, np.argmin(np.abs(answer.offset_s - 3.0))] - moved
        np.testing.assert_allclose(ahead, [(15.0, 0.0)] * 3, atol=1.5, err_msg=f"{rate_hz} Hz")


def test_each_damaged_message_is_counted_and_no_track_forgotten(stage: Stage) -> None:
    stage.start("trajpred-node", "--ros-args", "-p", "model:=cv")
    talk, health = Talk(stage), Health(stage)
    for tick in range(3):
        talk.ask(moving(tick))
    whole = encode_tracked(moving(3))
    damaged = [
        whole[:3],
        whole[:100],
        whole[:-9],
        whole[:40] + b"\xff" * (len(whole) - 40),
        whole + bytes(64),
    ]
    for count, raw in enumerate(damaged, start=1):
        talk.publisher.publish(raw)
        values = health.until(lambda s, c=count: told(s, "frames rejected") == c, f"{count} rejected")
    assert values["tracks remembered"] == "3"
    answer = talk.ask(moving(4))
    np.testing.assert_allclose(answer.paths[0, 0, -1], (0.5 * 4 + 50.0, 0.0), atol=1e-6)
    assert len(talk.answers) == 4


def test_no_object_and_thousands_and_another_frame_are_answered(stage: Stage) -> None:
    stage.start("trajpred-node")
    talk, health = Talk(stage), Health(stage)
    frames = [many(0, 0), many(1, 5000), many(2, 5000), many(3, 0), many(4, 7, "odom"), many(5, 7, "")]
    for frame in frames:
        answer = talk.ask(frame)
        assert (answer.stamp_ns, answer.frame_id) == (frame.stamp_ns, frame.frame_id)
        assert answer.ids.tolist() == frame.ids.tolist()
        assert np.isfinite(answer.paths).all()
    values = health.until(lambda s: told(s, "messages answered") == len(frames), "all answered")
    assert (values["resets"], values["tracks remembered"]) == ("2", "7")


def test_a_subscriber_that_has_stopped_does_not_slow_it(stage: Stage) -> None:
    """With the transport that docs/ros.md asks for: by default those who go on run out of shared memory."""
    stage.environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(FASTDDS)
    stage.start("trajpred-node")
    planner = stage.start("trajpred-planner")
    talk, times = Talk(stage), []
    stage.node.create_subscription(Float64, "/prediction_node/debug/processing_time_ms", times.append, 100)
    stage.spin_until(lambda: stage.node.count_subscribers(OUTPUT) == 2, what="the planner's subscription")
    for tick in range(20):
        talk.ask(many(tick, 100))
    stage.spin_until(lambda: len(times) >= 20, what="processing times")
    planner.send(signal.SIGSTOP)
    try:
        for tick in range(20, 60):
            talk.ask(many(tick, 100))
        stage.spin_until(lambda: len(times) >= 60, what="processing times")
    finally:
        planner.send(signal.SIGCONT)
    before, while_stopped = (np.median([time.data for time in part]) for part in (times[:20], times[20:60]))
    assert while_stopped < 2.0 * before + 5.0
    assert len(talk.answers) == 60


def test_a_call_of_the_model_that_fails_is_answered_by_the_baseline_and_told(stage: Stage, tmp_path) -> None:
    """An artefact whose table of classes ends before pedestrians, so that onnxruntime refuses the input."""
    onnx = pytest.importorskip("onnx")
    from tests.test_runtime import ours

    graph = onnx.load_model_from_string(ours())
    (last,) = (node for node in graph.graph.node if list(node.output) == ["h_next"])
    last.output[0] = "counted"
    graph.graph.initializer.extend(
        [
            onnx.helper.make_tensor("table", onnx.TensorProto.FLOAT, [Label.PEDESTRIAN, 1], [0.0] * 7),
        ]
    )
    graph.graph.node.extend(
        [
            onnx.helper.make_node("Gather", ["table", "label"], ["nothing"]),
            onnx.helper.make_node("Add", ["counted", "nothing"], ["h_next"]),
        ]
    )
    (tmp_path / "m.onnx").write_bytes(seal(graph.SerializeToString()))
    stage.start("trajpred-node", "--ros-args", "-p", f"model:={tmp_path / 'm.onnx'}")
    talk, health = Talk(stage), Health(stage)
    modes = []
    for tick in range(6):
        frame = moving(tick)
        if tick >= 2:  # and believed two ticks later
            frame.label[1] = Label.PEDESTRIAN
        modes.append(talk.ask(frame).mode_valid.sum(axis=1).tolist())
    assert modes == [[1] * 3, *[[2] * 3] * 3, *[[1] * 3] * 2]
    values = health.until(lambda s: "of the model failed" in s.message, "the failure in the diagnostics")
    assert health.status.level == DiagnosticStatus.WARN
    assert (values["calls of the model failed"], values["answers by model_fault"]) == ("2", "6")


COUNTED_AS = {
    "stamps 0.1 s back": {"late frames", "answers by out_of_order"},
    "out of order": {"late frames", "answers by out_of_order"},
    "time jumps back by a second": {"resets"},
    "time jumps back by an hour": {"resets"},
    "stamps of zero": {"resets"},
    "stamps of the far future": {"resets"},
    "another frame": {"resets"},
    "an empty frame id": {"resets"},
    "an id several times": {"answers by duplicate_id"},
    "positions of NaN": {"answers by invalid_state"},
    "positions of infinity": {"answers by invalid_state"},
    "positions of 1e9 m": {"answers by invalid_state"},
    "bytes cut off": {"frames rejected"},
    "bytes overwritten": {"frames rejected"},
    "bytes appended": {"frames rejected"},
    "bytes at random": {"frames rejected"},
}
"""What the diagnostics count a fault as; all other faults are answered as any message is."""


class Live:
    """A node with the model in the box, and what it must have counted."""

    def __init__(self, stage: Stage):
        self.node = stage.start("trajpred-node")
        self.stage, self.talk, self.health = stage, Talk(stage), Health(stage)
        self.ledger = Ledger(OnnxModel.load(DEFAULT_MODEL).info.trained_classes)
        self.perception = Perception(self._riders(), STEP_NS // 2, seed=0)
        self._pending: deque[Sent] = deque()
        self._heard = 0

    @staticmethod
    def _riders() -> Iterator[TrackFrame]:
        """20 cyclists side by side at 5 m/s, at 20 Hz."""
        for tick in itertools.count():
            frame = moving(tick, count=20)
            frame.xy[:, 0] *= 0.5
            yield frame

    def ask(self, sent: Sent) -> None:
        """Publish one; check its answer, and those of what was not waited for, if it waits for it."""
        before = len(self.talk.answers)
        self.talk.publisher.publish(sent.raw)
        if sent.objects is None:
            self.ledger.took(None)
            self.stage.spin_for(sent.silence_s)
            return
        self._pending.append(sent)
        if not sent.waits:
            return
        stamp = sent.raw[4:12]
        self.stage.spin_until(
            lambda: any(raw[4:12] == stamp for raw in self.talk.answers[before:]),
            what=f"an answer: {sent.fault}",
        )
        for raw in self.talk.answers[self._heard :]:
            while (one := self._pending.popleft()).raw[4:12] != raw[4:12]:
                assert not one.waits
            assert one.objects is not None
            assert broken(one.objects, raw) == "", one.fault
            self.ledger.took(one.objects)
        self._heard = len(self.talk.answers)
        self.stage.spin_for(sent.silence_s)

    def check_diagnostics(self) -> None:
        """They say what the ledger does."""

        def same(status: DiagnosticStatus) -> bool:
            return not self.ledger.wrong({value.key: value.value for value in status.values})

        self.health.until(same, f"{dict(self.ledger.counts)}")


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Live]:
    """One for all faults: each finds the node as the one before it left it."""
    with domain_id() as domain:
        stage = Stage(domain, tmp_path_factory.mktemp("live"))
        try:
            yield Live(stage)
        finally:
            stage.close()


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_perception_is_answered_counted_and_over_when_it_is_over(live: Live, name: str) -> None:
    before = live.ledger.counts.copy()
    for _ in range(5):
        live.ask(live.perception.sound())
    for _ in range(3):
        for sent in live.perception.befallen(name):
            live.ask(sent)
    for _ in range(5):
        live.ask(live.perception.sound())
    live.check_diagnostics()
    gained = {key for key, number in live.ledger.counts.items() if number > before[key]}
    gained -= {live.ledger.answered_by}
    if name != "bits flipped":  # which may say anything, or nothing
        assert gained == {"messages answered"} | COUNTED_AS.get(name, set())
    paths = np.diff(read_predicted(live.talk.answers[-1]).path_start)
    assert paths.tolist() == [6] * 20  # by the model
    assert live.node.alive()
    assert "Traceback" not in live.node.said


def test_no_fault_of_perception_ends_a_node_that_draws_markers(stage: Stage) -> None:
    live, drawn = Live(stage), []
    topic = "/prediction_node/debug/markers"
    stage.node.create_subscription(MarkerArray, topic, lambda _: drawn.append(1), 10)
    for name in sorted(set(FAULTS) - {f"{THOUSANDS} objects"}):
        for sent in live.perception.befallen(name):
            live.ask(sent)
    live.check_diagnostics()
    assert len(drawn) > len(FAULTS) // 2
    assert live.node.alive()
    assert "Traceback" not in live.node.said


def test_damaged_odometry_ends_nothing(stage: Stage) -> None:
    node = stage.start("trajpred-node", "--ros-args", "-p", "time_budget_ms:=1000.0")
    talk = Talk(stage)
    odometry = stage.node.create_publisher(Odometry, "/prediction_node/input/odometry", 100)
    stage.spin_until(odometry.get_subscription_count, what="the node's subscription")
    whole, rng = serialize_message(Odometry()), np.random.default_rng(0)
    for size in range(4, len(whole), 40):
        odometry.publish(whole[:size])
        odometry.publish(whole[:4] + rng.bytes(size))
    for tick in range(3):
        assert len(talk.ask(moving(tick))) == 3
    assert node.alive()


def test_a_callback_that_fails_is_an_error_in_the_diagnostics_and_the_next_one_answers(stage: Stage) -> None:
    """What fails here is the publisher; the node runs in the test's own process."""
    topics = ("-r", f"~/input/objects:={INPUT}", "-r", f"~/output/objects:={OUTPUT}")
    values = ("-p", "model:=cv", "-p", "input_timeout:=30.0")
    node = PredictionNode(context=stage.context, cli_args=["--ros-args", *values, *topics])
    stage.executor.add_node(node)
    talk, health = Talk(stage), Health(stage)
    talk.ask(moving(0))
    publish, failures = node._objects.publish, []

    def failing(raw: bytes) -> None:
        if len(failures) < 2:
            failures.append(raw)
            raise RuntimeError("no publisher today")
        publish(raw)

    node._objects.publish = failing
    for tick in (1, 2):
        talk.publisher.publish(encode_tracked(moving(tick)))
        stage.spin_until(lambda count=tick: len(failures) == count, what="a failure")
    words = "callbacks failed, the last: RuntimeError: no publisher today"
    health.until(lambda s: s.level == DiagnosticStatus.ERROR and words in s.message, "ERROR")
    told_of = health.until(lambda s: told(s, "callbacks failed") == 2, "the number of failures")
    assert told_of["messages answered"] == "1"
    assert len(talk.ask(moving(3))) == 3
    stage.executor.remove_node(node)
    node.destroy_node()
    gc.unfreeze()


def test_over_its_budget_it_answers_all_the_same_and_counts_what_the_baseline_did(stage: Stage) -> None:
    """So little time that nothing fits, as it has learned before the first message."""
    stage.start("trajpred-node", "--ros-args", "-p", "time_budget_ms:=0.001")
    talk, health = Talk(stage), Health(stage)
    modes = [talk.ask(many(tick, 50)).mode_valid.sum(axis=1) for tick in range(4)]
    assert [set(each.tolist()) for each in modes] == [{1}] * 4
    values = health.until(lambda s: told(s, "messages answered") == 4, "all answered")
    assert ("answers by model" in values, values["answers by over_budget"]) == (False, "200")


def test_a_model_file_swapped_while_it_runs_matters_when_it_is_configured_again(
    stage: Stage, tmp_path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(artefact(DEFAULT_MODEL).read_bytes())
    node = stage.start("trajpred-node", "--ros-args", "-p", f"model:={path}")
    talk, health = Talk(stage), Health(stage)
    for tick in range(3):
        assert talk.ask(moving(tick)).mode_valid.all()
        path.write_bytes(b"another file")
    health.until(lambda s: s.level == DiagnosticStatus.OK, "OK with the model that was loaded")
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        assert change(stage, transition)
    assert Talk(stage).ask(moving(3)).paths.shape[1] == 1
    values = health.until(lambda s: "degraded" in s.message, "the reason in the diagnostics")
    assert "m.onnx" in health.status.message
    assert values["answers by no_model"] == "3"
    assert "Traceback" not in node.said
