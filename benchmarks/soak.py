"""The prediction node under faults for half an hour: memory, latency, and an answer to every message.

    python benchmarks/soak.py --minutes 30 --rate 20 --objects 300 --faults 0.3

Simulated traffic, as a tracker sees it, goes over DDS to a node in a process of its own. Perception is at
fault (`faults.py`) in each way once, and then at random in a share of the ticks; a subscriber stops now and
then. A message goes out when it is due, but not before the last one is answered, so that all are received,
but for bursts, which go out at once: of these the node takes the newest. What it says it has counted is
held against what was sent, and who answered: the model, but for those whom it cannot.

Writes benchmarks/results/soak.json, and the tables and the picture of docs/reliability.md. Exits with 1 if a
message has no answer, an answer breaks a promise, anything is counted otherwise than it was sent, the node
ends or says a traceback, or its memory grows after the first minutes: by more than 2 % at any time, or by
50 bytes with every message.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import rclpy
from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
from contract import BY, Ledger, broken, growth
from diagnostic_msgs.msg import DiagnosticArray
from domain_coordinator import domain_id
from faults import FAULTS, SOUND, THOUSANDS, Perception, Sent
from pages import fill
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rounds import machine
from soak_tables import picture, tables
from std_msgs.msg import Float64
from town import marked, town

from trajpred.baselines import BaselineName
from trajpred.config import DEFAULT_MODEL, NS_PER_S
from trajpred.errors import InputError
from trajpred.runtime import OnnxModel
from trajpred.types import TrackFrame
from trajpred_ros.main import PREDICTED_TOPIC, TRACKED_TOPIC

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "ros_nodes/trajpred_ros/config/fastdds.xml"
TIME_TOPIC = "/prediction_node/debug/processing_time_ms"
TRAFFIC_S = 60.0
"""The traffic is repeated after so long, with other ids."""
PATIENCE_S = 10.0
EVERY_S = 5.0
"""Memory is looked at, and latencies are summed up, so often."""
ANSWERED_S = 0.002
"""After an answer the node still says how long it took."""
STOPPED_S, RUNS_S = 10.0, 50.0
"""The subscriber that stops."""
SETTLES = 1 / 6
"""Of the whole time: the first minutes, in which memory may grow."""
AT_FIRST = 10
"""Ticks of each fault before they begin at random, so that the first minutes take as much memory as any."""
GROWTH_MAX = 1.02
LEAK_MAX = 50.0
"""Bytes of memory with every message, over all after the first minutes."""
KINDS = ("sound", "at fault", "thousands")


def kind_of(sent: Sent) -> str:
    """One of KINDS, which are told apart in the figures."""
    if sent.objects is not None and len(sent.objects) == THOUSANDS:
        return "thousands"
    return "sound" if sent.fault == SOUND else "at fault"


def traffic(objects: int, rate_hz: float) -> Iterator[TrackFrame]:
    """Frames without end."""
    minute = town(objects, TRAFFIC_S, rate_hz)
    return (replace(frame, ids=marked(frame.ids, 2, again)) for again in count() for frame in minute)


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in row)
    return int(line.split()[1]) / 1024


class Conversation:
    """Questions to the node, its answers, and what it says of itself."""

    def __init__(self, trained: Collection[str]) -> None:
        node = rclpy.create_node("soak")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._publisher = node.create_publisher(TrackedObjects, TRACKED_TOPIC, QoSProfile(depth=10))
        deep = QoSProfile(depth=100)
        node.create_subscription(PredictedObjects, PREDICTED_TOPIC, self._on_answer, deep, raw=True)
        node.create_subscription(Float64, TIME_TOPIC, self._on_time, deep)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._node = node
        self._answers: deque[tuple[float, bytes]] = deque()
        self._pending: deque[tuple[float, Sent]] = deque()
        self._kind = KINDS[0]
        self.ledger = Ledger(trained)
        self.sent = self.skipped = self.unasked = 0
        self.unanswered: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self.messages_by_fault: dict[str, int] = {}
        self.latency: list[tuple[float, float, str]] = []  # when, ms, kind
        self.processing_ms: list[tuple[float, str]] = []
        self.diagnostics: dict[str, str] = {}

    def met(self) -> bool:
        """Whether both sides know of each other."""
        return bool(self._publisher.get_subscription_count() and self._node.count_publishers(PREDICTED_TOPIC))

    def _on_answer(self, raw: bytes) -> None:
        self._answers.append((time.perf_counter(), raw))

    def _on_time(self, message: Float64) -> None:
        self.processing_ms.append((message.data, self._kind))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics = {entry.key: entry.value for entry in message.status[0].values}

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def ask(self, sent: Sent) -> None:
        """Publish a message, and wait for its answer if it waits for it."""
        self.sent += 1
        self.messages_by_fault[sent.fault] = self.messages_by_fault.get(sent.fault, 0) + 1
        self._kind, begun = kind_of(sent), time.perf_counter()
        self._publisher.publish(sent.raw)
        if sent.objects is None:
            self.ledger.took(None)
            return
        self._pending.append((begun, sent))
        if not sent.waits:
            return
        end = time.perf_counter() + PATIENCE_S
        while self._pending and time.perf_counter() < end:
            self._executor.spin_once(timeout_sec=0.1)
            while self._answers:
                self._answered(*self._answers.popleft())
        self.unanswered += [{"s": asked_at, "fault": each.fault} for asked_at, each in self._pending]
        self._pending.clear()

    def _answered(self, at: float, raw: bytes) -> None:
        """Find the question to an answer: those before it were skipped for it."""
        faults = []
        for skipped, (asked_at, sent) in enumerate(self._pending):
            assert sent.objects is not None
            try:
                why = broken(sent.objects, raw)
            except InputError as error:
                why = str(error)
            if not why:
                for _ in range(skipped + 1):
                    self._pending.popleft()
                self.skipped += skipped
                self.ledger.took(sent.objects)
                self.latency.append((at, 1e3 * (at - asked_at), kind_of(sent)))
                return
            faults.append(why)
        self.unasked += 1
        self.broken += faults


class Deaf:
    """A subscriber that stops now and then."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, "--listen"])
        self._stopped, self._until = False, time.perf_counter() + RUNS_S
        self.stops: list[tuple[float, float]] = []  # from when to when

    def turn(self) -> None:
        """Stop it, or let it go on, if it is time."""
        now = time.perf_counter()
        if now < self._until:
            return
        self._stopped = not self._stopped
        self._process.send_signal(signal.SIGSTOP if self._stopped else signal.SIGCONT)
        if self._stopped:
            self.stops.append((now, math.inf))
        else:
            self.stops[-1] = (self.stops[-1][0], now)
        self._until = now + (STOPPED_S if self._stopped else RUNS_S)

    def end(self) -> None:
        """For good."""
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)


def listen() -> None:
    """Hear the answers until it is interrupted."""
    rclpy.init()
    node = rclpy.create_node("listener")
    node.create_subscription(PredictedObjects, PREDICTED_TOPIC, lambda raw: None, 1, raw=True)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


def quantiles(times: Any) -> dict[str, float]:
    """How many, and p50, p99 and the largest."""
    found = np.percentile(times, [50, 99, 100]) if len(times) else np.zeros(3)
    return {"count": len(times), **dict(zip(("p50", "p99", "max"), found.tolist(), strict=True))}


def by_kind(pairs: list[tuple[float, str]]) -> dict[str, dict[str, float]]:
    """Quantiles of all, and of each kind."""
    kinds = {kind: [value for value, of in pairs if of == kind] for kind in KINDS}
    return {"all": quantiles([value for value, _ in pairs]), **{k: quantiles(v) for k, v in kinds.items()}}


def soak(given: argparse.Namespace, log: Path) -> dict[str, Any]:
    """Run, watch, and sum up."""
    step_ns = round(NS_PER_S / given.rate)
    perception = Perception(traffic(given.objects, given.rate), step_ns, given.seed, given.faults)
    with log.open("w") as says:
        node = subprocess.Popen(
            [Path(sys.executable).parent / "trajpred-node", "--ros-args", "-p", f"model:={given.model}"],
            stdout=says,
            stderr=says,
        )
    deaf = Deaf()
    trained = (
        () if given.model in get_args(BaselineName) else OnnxModel.load(given.model).info.trained_classes
    )
    talk = Conversation(trained)
    while not talk.met():
        if node.poll() is not None:
            raise SystemExit(f"the node ended with exit code {node.returncode}: {log.read_text()}")
        talk.spin(0.1)
    talk.spin(1.0)  # that it knows of this side, too, cannot be asked

    memory: list[dict[str, float]] = []
    windows: list[dict[str, float]] = []
    begun = due = time.perf_counter()
    last, heard, behind_s, silent_s, in_burst = begun, 0, 0.0, 0.0, False
    once = (sent for name in FAULTS for _ in range(AT_FIRST) for sent in perception.befallen(name))
    for sent in chain(once if given.faults else (), perception):
        now = time.perf_counter()
        if now - last >= EVERY_S:
            memory.append({"s": now - begun, "messages": talk.sent, "mib": resident_mib(node.pid)})
            windows.append({"s": now - begun, **quantiles([ms for _, ms, _ in talk.latency[heard:]])})
            last, heard = now, len(talk.latency)
        if now - begun >= 60 * given.minutes or node.poll() is not None:
            break
        if not in_burst:
            talk.spin(max(due - now, ANSWERED_S))
        behind_s = max(behind_s, time.perf_counter() - due)
        talk.ask(sent)
        talk.spin(sent.silence_s)
        silent_s, in_burst = silent_s + sent.silence_s, not sent.waits
        due += 1 / given.rate + sent.silence_s
        if given.faults:
            deaf.turn()
    lasted_s = time.perf_counter() - begun
    talk.spin(2.5)  # until the diagnostics have told of the last one
    alive = node.poll() is None
    deaf.end()
    node.send_signal(signal.SIGINT)
    code = node.wait(30)
    after = [row for row in memory if row["s"] >= SETTLES * lasted_s]
    settled = [row["mib"] for row in after]
    counts, said = talk.ledger.counts, talk.diagnostics
    return {
        "machine": machine(),
        "asked_for": {
            name: getattr(given, name) for name in ("minutes", "rate", "objects", "seed", "faults")
        },
        "model": given.model,
        "seconds": lasted_s,
        "silent_s": silent_s,
        "sent": talk.sent,
        "received": counts["messages answered"] + counts["frames rejected"],
        "answered": counts["messages answered"],
        "damaged": counts["frames rejected"],
        "skipped_in_bursts": talk.skipped,
        "without_an_answer": [
            {
                "s": one["s"] - begun,
                "fault": one["fault"],
                "while_stopped": any(since <= one["s"] <= until for since, until in deaf.stops),
            }
            for one in talk.unanswered
        ],
        "answers_to_nothing": talk.unasked,
        "promises_broken": talk.broken[:20],
        "objects": sum(int(number) for name, number in said.items() if BY in name),
        "answers_of_the_model": int(said.get(f"{BY}model", 0)),
        "counted_and_sent": talk.ledger.against(said),
        "miscounted": talk.ledger.wrong(said),
        "latency_ms": by_kind([(ms, kind) for _, ms, kind in talk.latency]),
        "processing_ms": by_kind(talk.processing_ms),
        "behind_schedule_s": behind_s,
        "settled_after_s": SETTLES * lasted_s,
        "mib_settled": settled[0],
        "mib_at_the_end": settled[-1],
        "mib_max": max(settled),
        "bytes_with_every_message": growth(
            [row["messages"] for row in after], [2**20 * row["mib"] for row in after]
        ),
        "subscriber_stops": len(deaf.stops),
        "crashed": not alive,
        "exit_code": code,
        "tracebacks": log.read_text().count("Traceback"),
        "messages_by_fault": talk.messages_by_fault,
        "memory": memory,
        "windows_ms": windows,
    }


def sound(result: dict[str, Any]) -> bool:
    """Whether all is as promised."""
    return (
        not result["crashed"]
        and result["exit_code"] == 0
        and not result["tracebacks"]
        and not result["without_an_answer"]
        and not result["answers_to_nothing"]
        and not result["promises_broken"]
        and not result["miscounted"]
        and result["mib_max"] <= GROWTH_MAX * result["mib_settled"]
        and result["bytes_with_every_message"] < LEAK_MAX
    )


def main() -> int:
    """Run, watch, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0, help="Hz")
    parser.add_argument("--objects", type=int, default=300, help="in a message without a fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.3, help="share of the ticks; 0: none at all")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an artefact, or cv, ctrv, kalman")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/soak.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/reliability.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/pictures/soak.png")
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.listen:
        listen()
        return 0
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(PROFILE))
    with domain_id() as domain, tempfile.TemporaryDirectory() as work:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        rclpy.init()
        result = soak(given, Path(work, "node.log"))
        rclpy.shutdown()
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=2) + "\n")
    if given.page.exists():
        fill(given.page, tables(result))
    picture(result, given.picture)
    long = ("machine", "memory", "windows_ms", "messages_by_fault")
    print(json.dumps({key: value for key, value in result.items() if key not in long}, indent=2))
    return 0 if sound(result) else 1


if __name__ == "__main__":
    sys.exit(main())
