"""Publishes a recorded log (rosbag2: MCAP or sqlite3) on its topics, and its time on /clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Literal

from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability, QosHistory, QosReliability
from rosgraph_msgs.msg import Clock

from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.messages import PREDICTED, TRACKED
from trajpred_ros.message_types import message_type
from trajpred_ros.parameters import Parameter, declare
from trajpred_ros.player import Due, Message, Player
from trajpred_ros.recording import ReadAhead, Recording, Topic
from trajpred_ros.replay_services import create_services

DEFAULT_DEPTH = 10
ACKNOWLEDGED_SLICE = Duration(nanoseconds=20_000_000)
WINDOW_COUNT, WINDOW_BYTES = 1000, 64_000_000
"""At rate 0: what is sent on a topic before its acknowledgement, as Fast DDS acknowledges every 3 s only."""
SWITCH_INTERVAL_S = 0.0005
AFTER_THE_LAST_S = 0.2
LONGEST_WAIT_S = 0.1
NEAR_S, SLICE_S = 0.004, 0.0003
"""A core that sleeps may wake late: what is due so soon is waited for in slices, which keep it awake."""

PARAMETERS = (
    Parameter("log", "", "The recorded log: a rosbag2 folder, or one .mcap or .db3 file.", when="start"),
    Parameter(
        "rate",
        1.0,
        "Seconds of the log in a second; 0: as fast as what was sent is acknowledged. Without an "
        "acknowledge_topic that means delivered: a subscriber with a short queue may still lose messages.",
        low=0.0,
        high=1000.0,
    ),
    Parameter("start_offset", 0.0, "Start so long after the log's start, s.", low=0.0, when="start"),
    Parameter("duration", 0.0, "Play so much of the log, s; 0: to its end.", low=0.0, when="start"),
    Parameter("loop", False, "Begin again at the end; /clock jumps back.", when="start"),
    Parameter("topics", [""], "The topics to play; empty: all.", when="start"),
    Parameter("start_paused", False, "Wait for resume, or play_next.", when="start"),
    Parameter("clock", True, "Publish the log's time (its receive stamps) on /clock.", when="start"),
    Parameter(
        "clock_hz",
        100.0,
        "/clock between messages, in the log's time; at least so often while it is paused.",
        low=0.1,
        high=1000.0,
        when="start",
    ),
    Parameter(
        "acknowledge_topic",
        "",
        "Send the next message only when the last is answered here, with its header stamp: then none is lost "
        "on a slow subscriber, at any rate.",
        when="start",
    ),
    Parameter("acknowledge_type", PREDICTED, "The type of the answers.", when="start"),
    Parameter(
        "acknowledged_topics",
        [""],
        f"The topics whose messages are answered; empty: those of {TRACKED}.",
        when="start",
    ),
    Parameter(
        "acknowledge_timeout",
        5.0,
        "An answer (at rate 0: an acknowledgement) that takes longer is counted as missing, s.",
        low=0.001,
        high=3600.0,
    ),
    Parameter(
        "wait_for_subscribers",
        0.0,
        "Wait so long at most until every topic has a subscriber, s; 0: start at once.",
        low=0.0,
        high=3600.0,
        when="start",
    ),
    Parameter("exit_at_end", True, "End the process at the end of the log.", when="start"),
    Parameter(
        "seek_to",
        0.0,
        "Where the service seek goes where it carries no time of its own, s from the log's start.",
        low=0.0,
    ),
)

SETTLED_S = 0.5  # whom this node has found may find it a little later; that cannot be asked


@dataclass(slots=True)
class Sender:
    """A publisher, and what it sent at rate 0 since its last acknowledgement."""

    publisher: Publisher
    count: int = 0
    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the next message might push one out that is not acknowledged, or be too much to keep."""
        return self.count >= min(self.publisher.qos_profile.depth, WINDOW_COUNT) or self.size >= WINDOW_BYTES


class ReplayNode(Node):
    """Plays a log from a thread of its own, on steady time: it is the clock, whatever use_sim_time says.

    Services (see replay_services) and answers come in through the executor. All that both touch is
    under one lock, and is published under it: after `pause` has answered, nothing more is sent.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("replay_node", **options)
        self._changed = Condition()
        self._player: Player | None = None
        # What is registered first is asked last, when all others have agreed to the change.
        self.add_on_set_parameters_callback(self._apply)
        self._values = declare(self, PARAMETERS)
        values = self._values
        if not values["log"]:
            raise InputError("parameter log is empty: name the recording to play, -p log:=FOLDER_OR_FILE")
        self._recording = Recording(Path(values["log"]).expanduser())
        self._senders = self._create_senders(_chosen(values["topics"]))
        self._answered = self._listen_for_answers()
        self._clock_publisher = None
        if values["clock"]:
            self._clock_publisher = self.create_publisher(Clock, "/clock", DEFAULT_DEPTH)
        self._expected: tuple[int, int] | None = None
        self._unanswered = 0
        self._ahead: ReadAhead | None = None
        self._start_ns, self._end_ns = self._range()
        self._player = Player(
            self._read,
            self._start_ns,
            self._end_ns,
            tick_ns=round(NS_PER_S / values["clock_hz"]),
            rate=values["rate"],
            paused=values["start_paused"],
        )
        create_services(self)
        self._fault: Exception | None = None
        self._stopping = False
        self._end = self.create_guard_condition(self._ended)
        # Parsing a chunk of a log can take 60 ms; the thread that plays must not wait so long for Python.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = Thread(target=self._run, name="player", daemon=True)
        self._thread.start()

    @property
    def player(self) -> Player:
        """What is due when; other threads look at it only through this node's methods."""
        assert self._player is not None
        return self._player

    def pause(self) -> None:
        """Stand still."""
        with self._changed:
            self.player.pause(time.monotonic_ns())
            self._changed.notify()

    def resume(self) -> None:
        """Go on."""
        with self._changed:
            self.player.resume(time.monotonic_ns())
            self._changed.notify()

    def set_rate(self, rate: float) -> bool:
        """Change the parameter `rate`, if it can be that."""
        result = self.set_parameters([RosParameter("rate", value=float(rate))])[0]
        if not result.successful:
            self.get_logger().warning(f"the rate stays {self.player.rate:g}: {result.reason}")
        return bool(result.successful)

    def seek(self, stamp_ns: int) -> bool:
        """Go on from this stamp of the log; False if that is beyond what is played of it."""
        with self._changed:
            done = self.player.seek(stamp_ns, time.monotonic_ns())
            self._changed.notify()
        if not done:
            self.get_logger().warning(f"cannot seek to {stamp_ns} ns: the end is at {self._end_ns} ns")
        return done

    def seek_to(self, seconds: float) -> bool:
        """Go on so long after the log's start; False if that is beyond what is played of it."""
        return self.seek(self._recording.start_ns + round(seconds * NS_PER_S))

    def play_next(self) -> bool:
        """Send the next message; False if the log is not paused, or at its end."""
        with self._changed:
            due = self.player.play_next(time.monotonic_ns())
            if due is not None:
                self._publish(due)
            self._changed.notify()
        return due is not None

    def destroy_node(self) -> None:
        """Stop playing, and close the log."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        if self._ahead is not None:
            self._ahead.close()
        self._recording.close()
        super().destroy_node()

    def _create_senders(self, wanted: list[str]) -> dict[str, Sender]:
        topics = {topic.name: topic for topic in self._recording.topics}
        there = ", ".join(f"{topic.name} ({topic.msgtype})" for topic in topics.values())
        for name in wanted:
            if name not in topics:
                raise InputError(f"{self._recording.path}: no topic {name}; there is {there}")
        senders = {}
        for name in wanted or topics:
            topic = topics[name]
            try:
                kind, profile = message_type(topic.msgtype), offered(topic, in_bulk=self._values["rate"] == 0)
                senders[name] = Sender(self.create_publisher(kind, name, profile))
            except InputError as error:
                self.get_logger().warning(f"{name} is skipped: {error}")
        if not senders:
            raise InputError(f"{self._recording.path}: nothing in it can be played; there is {there}")
        return senders

    def _listen_for_answers(self) -> set[str]:
        """The topics whose messages are answered, by a subscription to the answers."""
        topic = self._values["acknowledge_topic"]
        if not topic:
            return set()
        types = {found.name: found.msgtype for found in self._recording.topics}
        chosen = _chosen(self._values["acknowledged_topics"])
        answered = {name for name in chosen or types if chosen or types[name] == TRACKED}
        if not answered & set(self._senders):
            raise InputError(
                f"nothing is played that {topic} answers: name topics of the log as acknowledged_topics"
            )
        self._answers = self.create_subscription(
            message_type(self._values["acknowledge_type"]),
            topic,
            self._on_answer,
            QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE),
            raw=True,
        )
        return answered

    def _range(self) -> tuple[int, int]:
        first, last = self._recording.start_ns, self._recording.end_ns
        start_ns = first + round(self._values["start_offset"] * NS_PER_S)
        if start_ns > last:
            length = (last - first) / NS_PER_S
            raise InputError(f"parameter start_offset is beyond the end of the log, which lasts {length:g} s")
        length_ns = round(self._values["duration"] * NS_PER_S) or last - start_ns
        if self._values["loop"] and not length_ns:
            raise InputError("parameter loop: all messages are of one moment, so they cannot be looped")
        return start_ns, min(start_ns + length_ns, last)

    def _read(self, from_ns: int) -> Iterator[Message | None]:
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = ReadAhead(self._rounds(from_ns))
        return self._ahead

    def _rounds(self, from_ns: int) -> Iterator[Message | None]:
        names = list(self._senders)
        yield from self._recording.messages(names, from_ns, self._end_ns)
        found = None
        while self._values["loop"]:
            yield None
            for found in self._recording.messages(names, self._start_ns, self._end_ns):
                yield found
            if found is None:
                return

    def _apply(self, changes: list[Any]) -> SetParametersResult:
        for change in changes:
            if change.name == "rate" and self._player is not None:
                with self._changed:
                    self._player.set_rate(change.value, time.monotonic_ns())
                    self._changed.notify()
        return SetParametersResult(successful=True)

    def _run(self) -> None:
        try:
            self._wait_for_subscribers()
            self.get_logger().info(
                f"playing {', '.join(self._senders)} of {self._recording.path}, "
                f"{(self._end_ns - self._start_ns) / NS_PER_S:g} s, rate {self.player.rate:g}"
            )
            with self._changed:
                self.player.begin(time.monotonic_ns())
            self._play()
        except Exception as error:
            if self.context.ok():
                self._fault = error
            else:  # a publisher is gone with its context: no fault, but said
                get_logger("replay").info(f"the shutdown came while sending: {error}")
        finally:
            self._tell_what_was_played()
            if self.context.ok():
                self._end.trigger()

    def _play(self) -> None:
        """Send what is due, until the end or until the node shall stop."""
        while not self._stops:
            unacknowledged = None
            with self._changed:
                due = self.player.due(time.monotonic_ns())
                if due is not None:
                    unacknowledged = self._publish(due)
                elif self.player.finished and self._values["exit_at_end"]:
                    break
                else:
                    wake_ns = self.player.wake_ns()
                    wait_s = LONGEST_WAIT_S
                    if wake_ns is not None:
                        wait_s = min(wait_s, (wake_ns - time.monotonic_ns()) / NS_PER_S)
                    if wait_s > 0:
                        self._changed.wait(wait_s - NEAR_S if wait_s > NEAR_S else min(wait_s, SLICE_S))
                self._warn_of_missing_answers()
            if unacknowledged is not None:
                self._wait_for_acknowledgement(unacknowledged)
        self._deliver()

    @property
    def _stops(self) -> bool:
        return self._stopping or not self.context.ok()

    def _publish(self, due: Due) -> Sender | None:
        """Tell the time, then send the message; returns whose acknowledgement is to be waited for."""
        if self._clock_publisher is not None:
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = divmod(due.log_ns, NS_PER_S)
            self._clock_publisher.publish(clock)
        if due.message is None:
            return None
        _, topic, raw = due.message
        sender = self._senders[topic]
        expected = header_stamp(raw) if topic in self._answered else None
        if expected is not None:
            self._expected = expected
            self._hold()
        sender.publisher.publish(raw)
        if expected is not None or self.player.rate != 0:
            return None
        sender.count += 1
        sender.size += len(raw)
        if not sender.is_full:
            return None
        self._hold()
        return sender

    def _hold(self) -> None:
        timeout_ns = round(self._values["acknowledge_timeout"] * NS_PER_S)
        self.player.hold(time.monotonic_ns() + timeout_ns)

    def _on_answer(self, raw: bytes) -> None:
        stamp = header_stamp(raw)
        with self._changed:
            if stamp is not None and stamp == self._expected:
                self._expected = None
                self.player.release(time.monotonic_ns())
                self._changed.notify()

    def _wait_for_acknowledgement(self, sender: Sender) -> None:
        """At rate 0: until all subscribers have taken delivery. They may still have it in their queue."""
        while not self._stops and self.player.held:
            acknowledged = sender.publisher.wait_for_all_acked(ACKNOWLEDGED_SLICE)
            with self._changed:
                now_ns = time.monotonic_ns()
                if acknowledged:
                    self.player.release(now_ns)
                else:
                    self.player.expire(now_ns)
        sender.count = sender.size = 0

    def _warn_of_missing_answers(self) -> None:
        missing = self.player.played.unanswered
        if missing > self._unanswered:
            self._unanswered = missing
            self.get_logger().warning(
                f"no answer within {self._values['acknowledge_timeout']:g} s; answers missing: {missing}"
            )

    def _wait_for_subscribers(self) -> None:
        end_s = time.monotonic() + self._values["wait_for_subscribers"]
        while (alone := self._without_listener()) and time.monotonic() < end_s and not self._stops:
            time.sleep(0.01)
        if alone and self._values["wait_for_subscribers"]:
            self.get_logger().warning(f"playing to nobody on {', '.join(alone)}")
        elif self._values["wait_for_subscribers"]:
            time.sleep(SETTLED_S)

    def _without_listener(self) -> list[str]:
        alone = [
            name for name, sender in self._senders.items() if not sender.publisher.get_subscription_count()
        ]
        if self._answered and not self.count_publishers(self._answers.topic_name):
            alone.append(self._answers.topic_name)
        return alone

    def _deliver(self) -> None:
        """What a reliable subscriber has not got yet would be lost with this process."""
        for sender in self._senders.values():
            wait_s = self._values["acknowledge_timeout"] if sender.count else AFTER_THE_LAST_S
            end_s = time.monotonic() + wait_s
            while time.monotonic() < end_s and not self._stops:
                if sender.publisher.wait_for_all_acked(ACKNOWLEDGED_SLICE):
                    break

    def _tell_what_was_played(self) -> None:
        played = self.player.played
        text = f"{played.messages} messages sent, {played.loops} loops"
        if any(played.late):
            text += (
                f"; late by at most {played.largest_late_ns / 1e6:.2f} ms, 99% by {played.late_ms(0.99):g} ms"
            )
        if played.unanswered:
            text += f"; {played.unanswered} without an answer"
        # Not the node's own logger: at an interrupt its context is gone, and /rosout with it.
        get_logger("replay").info(text)

    def _ended(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._values["exit_at_end"]:
            self.context.try_shutdown()


def offered(topic: Topic, *, in_bulk: bool = False) -> QoSProfile:
    """The strongest of what was offered when the log was recorded, so that all who listened then match.

    in_bulk: deep enough to send many messages before the first is acknowledged.
    """
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=sum(qos.depth for qos in topic.qos if qos.history is QosHistory.KEEP_LAST) or DEFAULT_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )
    if topic.qos and all(qos.reliability is QosReliability.BEST_EFFORT for qos in topic.qos):
        profile.reliability = ReliabilityPolicy.BEST_EFFORT
    if any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in topic.qos):
        profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    if any(qos.history is QosHistory.KEEP_ALL for qos in topic.qos):
        profile.history = HistoryPolicy.KEEP_ALL
    if in_bulk and profile.durability == DurabilityPolicy.VOLATILE:
        profile.depth = max(profile.depth, WINDOW_COUNT)
    return profile


def header_stamp(raw: bytes) -> tuple[int, int] | None:
    """Seconds and nanoseconds of a serialized message that starts with a header; None if it is too short."""
    if len(raw) < 12:
        return None
    order: Literal["little", "big"] = "little" if raw[1] & 1 else "big"
    sec = int.from_bytes(raw[4:8], order, signed=True)
    return sec, int.from_bytes(raw[8:12], order)


def _chosen(names: list[str]) -> list[str]:
    """A list without the empty name that stands for an empty list, whose type ROS could not tell."""
    return [name for name in names if name]
