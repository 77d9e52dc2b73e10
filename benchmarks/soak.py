"""A log in a loop through the prediction node for ten minutes: memory, answers, resets.

    python benchmarks/soak.py --log drive.mcap --model model.onnx --json benchmarks/results/soak.json

Every loop is a jump back in time, and messages are counted from the first jump on. Each message goes out when
the last is answered, at most `--rate` times as fast as recorded. Exits with 1 if memory grows after the first
minute by more than 2 %, if a message has no answer, or if the node counts other than one reset a loop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import rclpy
from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
from diagnostic_msgs.msg import DiagnosticArray
from domain_coordinator import domain_id
from rclpy.qos import QoSProfile

from trajpred_ros.main import PREDICTED_TOPIC, TRACKED_TOPIC

GROWTH_MAX = 1.02


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in row)
    return int(line.split()[1]) / 1024


class Watch:
    """Counts questions and answers by their stamps, and the jumps back."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("soak")
        self.asked: list[bytes] = []
        self.answered: list[bytes] = []
        self.values: dict[str, str] = {}
        deep = QoSProfile(depth=10_000)
        for kind, topic, kept in (
            (TrackedObjects, TRACKED_TOPIC, self.asked),
            (PredictedObjects, PREDICTED_TOPIC, self.answered),
        ):
            # A stamped message begins with its stamp, after four bytes that name the encoding.
            self.node.create_subscription(
                kind, topic, lambda raw, kept=kept: kept.append(raw[4:12]), deep, raw=True
            )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.values = {entry.key: entry.value for entry in message.status[0].values}

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self.node, timeout_sec=0.05)


def jumps(stamps: list[bytes]) -> list[int]:
    """Where a stamp is before the last one's."""
    at = [int.from_bytes(s[:4], "little") * 10**9 + int.from_bytes(s[4:], "little") for s in stamps]
    return [i for i, (a, b) in enumerate(pairwise(at), start=1) if b < a]


def main() -> int:
    """Run, watch, write one JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--model", required=True, help="an artefact, or cv, ctrv, kalman")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/soak.json"))
    given = parser.parse_args()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    scripts = Path(sys.executable).parent

    def start(script: str, *parameters: str) -> subprocess.Popen[bytes]:
        words = [word for value in parameters for word in ("-p", value)]
        return subprocess.Popen([scripts / script, "--ros-args", *words])

    with domain_id() as domain:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        rclpy.init()
        watch = Watch()
        node = start("trajpred-node", f"model:={given.model}", "use_sim_time:=true")
        player = start(
            "trajpred-replay-node",
            *(f"log:={given.log}", f"rate:={given.rate}", "loop:=true"),
            *(f"acknowledge_topic:={PREDICTED_TOPIC}", "wait_for_subscribers:=20.0"),
        )
        memory = []
        started = time.monotonic()
        while time.monotonic() - started < 60 * given.minutes and node.poll() is None:
            watch.spin(5.0)
            memory.append({"s": time.monotonic() - started, "mib": resident_mib(node.pid)})
        player.send_signal(2)
        player.wait(30)
        watch.spin(3.0)
        crashed = node.poll() is not None
        node.send_signal(2)
        node.wait(30)
        rclpy.shutdown()

    # In the first loop not everyone may have found everyone yet: what was not heard then, or not answered.
    asked, answered = (seen[jumps(seen)[0] :] for seen in (watch.asked, watch.answered))
    settled = [row["mib"] for row in memory if row["s"] >= 60.0] or [memory[-1]["mib"]]
    result = {
        "minutes": given.minutes,
        "messages": len(asked),
        "answers": len(answered),
        "without_an_answer": len(asked) - sum(a == b for a, b in zip(asked, answered, strict=False)),
        "jumps_back": len(jumps(watch.asked)),
        "resets": int(watch.values.get("resets", -1)),
        "mib_after_a_minute": settled[0],
        "mib_at_the_end": settled[-1],
        "mib_max": max(settled),
        "crashed": crashed,
        "memory": memory,
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=2) + "\n")
    print({key: value for key, value in result.items() if key != "memory"})
    sound = (
        not crashed
        and result["without_an_answer"] == 0
        and result["resets"] == result["jumps_back"]
        and result["mib_max"] <= GROWTH_MAX * result["mib_after_a_minute"]
    )
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
