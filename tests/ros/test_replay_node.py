"""The replay node in a process of its own, over real DDS."""

import re
import time

import pytest
from autoware_perception_msgs.msg import TrackedObjects
from mcap.reader import make_reader
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from tests.ros.nodes import OUTPUT
from tests.ros.test_prediction_node import Health
from trajpred.bags import LogWriter, typestore
from trajpred.errors import InputError
from trajpred.messages import TRACKED, encode_tracked
from trajpred.types import TrackFrame, ids_from_int
from trajpred_ros.recording import ReadAhead, Recording
from trajpred_ros.replay_node import ReplayNode, header_stamp, offered

S = 1_000_000_000
START = 1_600_000_000 * S
TOPIC, OTHER = "/objects", "/other"
ALL = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def message(stamp_ns):
    return encode_tracked(TrackFrame.build(stamp_ns, ids_from_int([1, 2, 3]), [[stamp_ns % 97, 0.0]] * 3))


def write(path, count=20, gap_ns=S // 10, topics=(TOPIC,)):
    with LogWriter(path) as log:
        for topic in topics:
            log.add_topic(topic, TRACKED)
        for number in range(count):
            for topic in topics:
                log.write(topic, START + number * gap_ns, message(START + number * gap_ns))
    return path


def recorded(path):
    log = Recording(path)
    found = list(log.messages([topic.name for topic in log.topics], log.start_ns, log.end_ns))
    log.close()
    return found


class Listener:
    """What arrives at the test: the raw messages of topics, and the log's time."""

    def __init__(self, stage, *topics):
        self.raw = {topic: [] for topic in topics}
        self.clock = []
        for topic, heard in self.raw.items():
            stage.node.create_subscription(TrackedObjects, topic, heard.append, ALL, raw=True)
        stage.node.create_subscription(
            Clock, "/clock", lambda m: self.clock.append(m.clock.sec * S + m.clock.nanosec), ALL
        )

    def stamps(self, topic=TOPIC):
        """Of the messages, s from the log's start."""
        return [round(((s := header_stamp(raw))[0] * S + s[1] - START) / S, 3) for raw in self.raw[topic]]


def replay(stage, log, **parameters):
    given = {"log": log, "wait_for_subscribers": 10.0, **parameters}
    words = [
        word for name, value in given.items() if value != "" for word in ("-p", f"{name}:={_yaml(value)}")
    ]
    return stage.start("trajpred-replay-node", "--ros-args", *words)


def _yaml(value):
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')


def call(stage, kind, name, request=None):
    client = stage.node.create_client(kind, name)
    stage.spin_until(client.service_is_ready, what=name)
    future = client.call_async(request or kind.Request())
    stage.spin_until(future.done, what=name)
    return future.result()


def ask(stage, name, value=None):
    """One of the player's services, by whichever type it has here: its success, or what it was asked for."""
    try:
        import rosbag2_interfaces.srv as typed
    except ImportError:
        if value is not None:
            parameter = {"set_rate": "rate", "seek": "seek_to"}[name]
            if not set_parameter(stage, parameter, value).successful:
                return False
        answer = call(stage, Trigger, f"/replay_node/{name}")
        told = {"get_rate": lambda: float(answer.message), "is_paused": lambda: answer.message == "paused"}
        return told.get(name, lambda: answer.success)()
    kind = getattr(typed, name.title().replace("_", ""))
    request = kind.Request()
    if name == "set_rate":
        request.rate = value
    if name == "seek":
        stamp_ns = START + round(value * S)
        request.time.sec, request.time.nanosec = divmod(stamp_ns, S)
    answer = call(stage, kind, f"/replay_node/{name}", request)
    field = {"get_rate": "rate", "is_paused": "paused"}.get(name, "success")
    return getattr(answer, field, True)


def set_parameter(stage, name, number):
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=number)
    request = SetParameters.Request(parameters=[ParameterMessage(name=name, value=value)])
    return call(stage, SetParameters, "/replay_node/set_parameters", request).results[0]


@pytest.mark.parametrize("name", ["log", "log.mcap", "log.db3"])
def test_any_kind_of_log_is_read_between_two_stamps(tmp_path, name):
    log = Recording(write(tmp_path / name, count=5, topics=(TOPIC, OTHER)))
    assert [(topic.name, topic.msgtype) for topic in log.topics] == [(TOPIC, TRACKED), (OTHER, TRACKED)]
    assert (log.start_ns, log.end_ns) == (START, START + 4 * S // 10)
    found = list(log.messages([OTHER], START + S // 10, START + 3 * S // 10))
    assert found == [
        (stamp, OTHER, message(stamp)) for stamp in range(START + S // 10, START + 4 * S // 10, S // 10)
    ]
    log.close()


def test_at_rate_0_every_message_arrives_as_the_same_bytes_and_unknown_types_are_skipped(stage, tmp_path):
    with Writer(tmp_path / "log", version=9, storage_plugin=StoragePlugin.MCAP) as log:
        topics = [log.add_connection(topic, TRACKED, typestore=typestore()) for topic in (TOPIC, OTHER)]
        strange = log.add_connection(
            "/strange", "strange_msgs/msg/Thing", msgdef="int32 x\n", rihs01="RIHS01_" + "0" * 64
        )
        for stamp in range(START, START + 30 * S, S // 10):
            log.write(strange, stamp, b"\0\1\0\0\0\0\0\0")
            for topic in topics:
                log.write(topic, stamp, message(stamp))
    heard = Listener(stage, TOPIC, OTHER)
    node = replay(stage, tmp_path / "log", rate=0.0)
    stage.spin_until(lambda: not node.alive(), what="the end of the log")
    stage.spin_until(lambda: len(heard.raw[TOPIC]) + len(heard.raw[OTHER]) == 600, what="all messages")
    expected = [message(stamp) for stamp in range(START, START + 30 * S, S // 10)]
    assert heard.raw == {TOPIC: expected, OTHER: expected}
    assert node.wait(5) == 0
    assert "600 messages sent" in node.said
    assert node.said.count("/strange is skipped: the message type strange_msgs/msg/Thing is not") == 1
    assert heard.clock == sorted(heard.clock)


def test_at_rate_1_messages_keep_their_distance_and_the_clock_runs_between(stage, tmp_path):
    heard = Listener(stage, TOPIC)
    begun = time.monotonic()
    # Simulated time must not stall who tells it.
    node = replay(stage, write(tmp_path / "log", count=11), clock_hz=50.0, use_sim_time=True)
    stage.spin_until(lambda: not node.alive(), what="the end of the log")
    assert time.monotonic() - begun >= 1.0
    assert heard.stamps() == [round(n / 10, 3) for n in range(11)]
    assert heard.clock == sorted(heard.clock)
    assert len(heard.clock) > 25
    assert node.wait(5) == 0
    assert "late by at most" in node.said


def test_a_part_of_some_topics_in_a_loop_turns_the_clock_back(stage, tmp_path):
    log = write(tmp_path / "log", topics=(TOPIC, OTHER))
    heard = Listener(stage, TOPIC, OTHER)
    node = replay(
        stage, log, rate=4.0, start_offset=0.45, duration=0.4, topics=[TOPIC], loop=True, start_paused=True
    )
    stage.spin_until(lambda: heard.clock, what="the time of the start")
    assert ask(stage, "resume")
    stage.spin_until(lambda: len(heard.raw[TOPIC]) >= 10, what="two rounds")
    assert heard.stamps()[:10] == ([0.5, 0.6, 0.7, 0.8] * 3)[:10]
    assert heard.raw[OTHER] == []
    back = [at for at in range(1, len(heard.clock)) if heard.clock[at] < heard.clock[at - 1]]
    assert len(back) >= 2
    assert {heard.clock[at] for at in [0, *back]} == {START + 450_000_000}
    assert max(heard.clock) <= START + 850_000_000
    assert node.stop() == 0
    assert " loops" in node.said.splitlines()[-1]


def test_each_loop_of_a_log_is_a_reset_of_the_prediction_node(stage, tmp_path):
    stage.start("trajpred-node", "--ros-args", "-p", "model:=cv", "-r", f"~/input/objects:={TOPIC}")
    health = Health(stage)
    stage.spin_until(lambda: stage.node.count_publishers(OUTPUT), what="the prediction node")
    node = replay(stage, write(tmp_path / "log"), rate=8.0, loop=True, acknowledge_topic=OUTPUT)
    health.until(lambda s: resets(s) >= 3, "three loops")
    assert node.stop() == 0
    loops = int(re.search(r"(\d+) loops", node.said).group(1))
    # Of the last, nothing may have been sent yet.
    health.until(lambda s: resets(s) in (loops - 1, loops), f"{loops} resets")


def resets(status):
    return int({value.key: value.value for value in status.values}["resets"])


def test_services_pause_step_seek_and_go_on(stage, tmp_path):
    heard = Listener(stage, TOPIC)
    node = replay(stage, write(tmp_path / "log", count=50), start_paused=True, exit_at_end=False)
    stage.spin_until(lambda: heard.clock, what="the time, which is told while paused")
    assert ask(stage, "is_paused") is True
    assert ask(stage, "play_next") is True
    assert ask(stage, "play_next") is True
    stage.spin_until(lambda: len(heard.raw[TOPIC]) == 2, what="two messages")
    told = len(heard.clock)
    stage.spin_until(lambda: len(heard.clock) > told + 5, what="the time while paused")
    assert heard.clock[-1] == START + S // 10
    assert heard.stamps() == [0.0, 0.1]

    assert ask(stage, "seek", 4.05) is True
    stage.spin_until(lambda: heard.clock[-1] == START + 4_050_000_000, what="the jump")
    assert ask(stage, "resume")
    assert ask(stage, "is_paused") is False
    assert ask(stage, "play_next") is False
    stage.spin_until(lambda: len(heard.raw[TOPIC]) >= 4, what="messages after the jump")
    assert heard.stamps()[2:4] == [4.1, 4.2]

    assert ask(stage, "toggle_paused")
    assert ask(stage, "is_paused") is True
    told = len(heard.clock)
    stage.spin_until(lambda: len(heard.clock) > told + 5, what="the time while paused")
    sent, stands = len(heard.raw[TOPIC]), heard.clock[-1]
    told = len(heard.clock)
    stage.spin_until(lambda: len(heard.clock) > told + 20, what="more of the time while paused")
    assert (len(heard.raw[TOPIC]), heard.clock[-1]) == (sent, stands)
    assert ask(stage, "toggle_paused")

    assert ask(stage, "get_rate") == 1.0
    assert ask(stage, "set_rate", 50.0) is True
    assert ask(stage, "get_rate") == 50.0
    assert ask(stage, "set_rate", -1.0) is False
    assert ask(stage, "get_rate") == 50.0
    stage.spin_until(lambda: heard.stamps()[-1] == 4.9, what="the last message")

    assert node.alive()
    assert ask(stage, "seek", 5.0) is False
    count = len(heard.raw[TOPIC])
    assert ask(stage, "seek", 4.9) is True
    stage.spin_until(lambda: len(heard.raw[TOPIC]) == count + 1, what="the last message again")
    assert node.stop() == 0


def test_the_next_message_waits_for_the_answer_and_goes_on_without_one_after_a_while(stage, tmp_path):
    heard, pending = Listener(stage), []
    answer = stage.node.create_publisher(Header, "/answers", ALL)

    def arrive(raw):
        heard.raw.setdefault(TOPIC, []).append(raw)
        pending.append(raw)

    # Depth 1: whatever is sent before the last was answered would be lost.
    stage.node.create_subscription(TrackedObjects, TOPIC, arrive, 1, raw=True)
    log = write(tmp_path / "log", count=30)
    node = replay(
        stage,
        log,
        rate=0.0,
        acknowledge_topic="/answers",
        acknowledge_type="std_msgs/msg/Header",
        acknowledge_timeout=1.0,
    )
    stage.spin_until(lambda: pending and answer.get_subscription_count(), what="the first message")
    for _ in range(5):
        stage.executor.spin_once(timeout_sec=0.05)
    assert len(heard.raw[TOPIC]) == 1
    while node.alive():
        stage.spin_until(lambda: pending or not node.alive(), what="a message or the end")
        stamp = header_stamp(pending.pop()) if pending else None
        if stamp and len(heard.raw[TOPIC]) != 20:
            said = Header()
            said.stamp.sec, said.stamp.nanosec = stamp
            answer.publish(said)
    assert heard.raw[TOPIC] == [m.raw for m in recorded(log)]
    assert "no answer within 1 s; answers missing: 1" in node.said
    assert node.said.splitlines()[-1].endswith("; 1 without an answer")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "parameter log is empty"),
        ({"log": "damaged.mcap"}, r"damaged\.mcap: .*damaged"),
        ({"log": "log", "topics": ["/x"]}, "no topic /x; there is /objects"),
        ({"log": "log", "start_offset": 5.0}, "start_offset is beyond the end of the log, which lasts 1.9 s"),
        (
            {"log": "log", "acknowledge_topic": "/a", "acknowledge_type": "no_msgs/msg/No"},
            "no_msgs/msg/No is",
        ),
        (
            {"log": "other", "acknowledge_topic": "/a", "topics": ["/text"]},
            "nothing is played that /a answers",
        ),
        ({"log": "moment.mcap", "loop": True}, "all messages are of one moment"),
    ],
)
def test_what_cannot_be_played_is_said(stage, tmp_path, options, reason):
    whole = write(tmp_path / "log") / "log.mcap"
    (tmp_path / "damaged.mcap").write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    write(tmp_path / "moment.mcap", count=1)
    with Writer(tmp_path / "other", version=9, storage_plugin=StoragePlugin.MCAP) as log:
        for topic, msgtype in ((TOPIC, TRACKED), ("/text", "std_msgs/msg/String")):
            log.write(log.add_connection(topic, msgtype, typestore=typestore()), START, b"\0\1\0\0\0\0\0\0")
    values = {**options, **({"log": str(tmp_path / options["log"])} if "log" in options else {})}
    with pytest.raises(InputError, match=reason):
        ReplayNode(
            context=stage.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )


def test_damage_within_a_log_ends_the_node_with_one_line_and_exit_code_2(stage, tmp_path):
    path = write(tmp_path / "log.mcap", count=1000, gap_ns=S // 1000)
    with path.open("r+b") as file:
        second = make_reader(file).get_summary().chunk_indexes[1]
        file.seek(second.chunk_start_offset + 1)
        file.write(b"\xff" * 100)
    node = replay(stage, path, rate=0.0, wait_for_subscribers=0.0)
    assert node.wait(20) == 2
    assert "Traceback" not in node.said
    assert node.said.count("error: ") == 1
    assert re.search(r"error: .*log\.mcap: after \d+ ns: not a rosbag2 log, or a damaged one", node.said)


def test_an_absent_log_is_one_line_and_exit_code_2(stage, tmp_path):
    node = replay(stage, tmp_path / "absent")
    assert node.wait(20) == 2
    assert node.said == f"error: {tmp_path / 'absent'}: no such log\n"


def qos(reliability, durability, history, depth):
    never = QosTime(0, 0)
    return Qos(history, depth, reliability, durability, never, never, QosLiveliness.AUTOMATIC, never, False)


def test_what_was_offered_when_recorded_is_offered_again(tmp_path):
    offers = {
        "/latched": [qos(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, QosHistory.KEEP_LAST, 3)]
        * 2,
        "/sensor": [qos(QosReliability.BEST_EFFORT, QosDurability.VOLATILE, QosHistory.KEEP_LAST, 5)],
        "/unknown": [qos(QosReliability.RELIABLE, QosDurability.VOLATILE, QosHistory.UNKNOWN, 0)],
        "/nothing": [],
    }
    with Writer(tmp_path / "log", version=9, storage_plugin=StoragePlugin.MCAP) as log:
        for name, profiles in offers.items():
            added = log.add_connection(name, TRACKED, typestore=typestore(), offered_qos_profiles=profiles)
            log.write(added, START, message(START))
    recording = Recording(tmp_path / "log")
    found = {topic.name: offered(topic) for topic in recording.topics}
    recording.close()
    reliable, volatile = ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE
    assert {name: (p.reliability, p.durability, p.depth) for name, p in found.items()} == {
        "/latched": (reliable, DurabilityPolicy.TRANSIENT_LOCAL, 6),
        "/sensor": (ReliabilityPolicy.BEST_EFFORT, volatile, 5),
        "/unknown": (reliable, volatile, 10),
        "/nothing": (reliable, volatile, 10),
    }


def test_the_stamp_of_a_message_is_read_in_either_byte_order():
    assert header_stamp(b"\0\1\0\0" + (5).to_bytes(4, "little") + (7).to_bytes(4, "little")) == (5, 7)
    assert header_stamp(b"\0\0\0\0" + (5).to_bytes(4, "big") + (7).to_bytes(4, "big")) == (5, 7)
    assert header_stamp(b"\0\1\0\0short") is None


def test_reading_ahead_changes_nothing_and_stays_within_its_bounds(tmp_path):
    messages = recorded(write(tmp_path / "log", count=50))
    taken = []

    def source():
        for number, item in enumerate(messages):
            taken.append(number)
            yield item

    ahead = ReadAhead(source(), count=5)
    assert [next(ahead) for _ in range(10)] == messages[:10]
    end = time.monotonic() + 5
    while len(taken) < 16 and time.monotonic() < end:
        time.sleep(0.001)
    assert len(taken) == 16  # the ten, five ahead, and one in hand
    assert list(ahead) == messages[10:]
    ahead.close()

    by_size = ReadAhead(iter(messages), size=len(messages[0].raw))
    assert list(by_size) == messages


def test_what_cannot_be_read_is_said_in_its_turn():
    def source():
        yield None
        raise InputError("damaged")

    ahead = ReadAhead(source())
    assert next(ahead) is None
    for _ in range(2):
        with pytest.raises(InputError, match="damaged"):
            next(ahead)


def test_closing_ends_a_thread_that_waits_for_room():
    ahead = ReadAhead(iter([None] * 100), count=1)
    next(ahead)
    ahead.close()
    assert list(ahead) == []
