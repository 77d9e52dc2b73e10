"""Callback time of the prediction node, split, beside a plain node of message objects with the same model.

    python benchmarks/node.py --objects 10 50 200 500 --json benchmarks/results/node.json

Each node is a process of its own on one core and gets tracked objects over DDS from another process, the next
message when the last is answered. Where the core is shared with other machines, so are its times: trajpred's
node is measured in several rounds, a fixed loop between its messages tells how much of the core it had, and
the figures are those of the round in which that loop ran fastest. All rounds are in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rounds import calmest, loop_times, quantiles

from trajpred.config import DEFAULT_MODEL, PredictorConfig
from trajpred.messages import encode_tracked
from trajpred.predictor import Predictor
from trajpred.runtime import OnnxModel
from trajpred.types import Label, TrackFrame, ids_from_int

TOPICS = ("/bench/input", "/bench/output")
WARM_UP, SETTLE_S = 20, 1.0
MESSAGES_BETWEEN_LOOPS = 20
STAGES = ("decode_ms", "step_ms", "encode_ms", "publish_ms")


def crowd(count: int, ticks: int) -> list[bytes]:
    """Serialized messages of road users of every trained class at a town's density, at 10 Hz."""
    rng = np.random.default_rng(0)
    side = 8.0 * np.sqrt(count)
    xy = rng.uniform(-side / 2, side / 2, (count, 2))
    yaw, speed = rng.uniform(-np.pi, np.pi, count), rng.uniform(0.5, 8.0, count)
    velocity = speed[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    label = rng.choice([Label.BICYCLE, Label.PEDESTRIAN, Label.CAR], count)
    ids = ids_from_int(np.arange(count))
    size = (1.8, 0.6, 1.7)
    return [
        encode_tracked(
            TrackFrame.build(
                10**9 + tick * 10**8,
                ids,
                xy + 0.1 * tick * velocity + rng.normal(scale=0.03, size=xy.shape),
                label=label,
                yaw=yaw,
                velocity=velocity,
                size=size,
            )
        )
        for tick in range(ticks)
    ]


def serve(kind: str, model: str, core: int, results: Path) -> None:
    """One node on one core until it is interrupted; then its times, one row of stages a callback."""
    os.sched_setaffinity(0, {core})
    import rclpy
    from rclpy.executors import ExternalShutdownException

    rows: list[tuple[float, ...]] = []
    words = ["--ros-args", "-r", f"~/input/objects:={TOPICS[0]}", "-r", f"~/output/objects:={TOPICS[1]}"]
    rclpy.init(args=[*words, "-p", f"model:={model}", "-p", "provider:=cpu"])
    if kind == "trajpred":
        from trajpred_ros.prediction_node import PredictionNode

        class Measured(PredictionNode):
            """Keeps what the diagnostics only summarise."""

            def account(self, frame: Any, stages: Any) -> None:
                super().account(frame, stages)
                rows.append(tuple(stages))

        node: Any = Measured()
    else:
        from plain_node import PlainNode

        node = PlainNode(Predictor(OnnxModel.load(model), PredictorConfig()), lambda s: rows.append(tuple(s)))
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    results.write_text(json.dumps(rows))


def measure(kind: str, model: str, count: int, ticks: int, core: int, folder: Path) -> dict[str, Any]:
    """Times of a node, ms, over `ticks` messages of `count` objects, and those of a fixed loop in between."""
    import rclpy
    from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
    from rclpy.qos import QoSProfile

    results = folder / f"{kind}_{count}.json"
    command = [sys.executable, __file__, "--serve", kind, str(model), str(core), str(results)]
    server = subprocess.Popen(command)
    node = rclpy.create_node("driver")
    try:
        answers: list[bytes] = []
        publisher = node.create_publisher(TrackedObjects, TOPICS[0], QoSProfile(depth=10))
        node.create_subscription(PredictedObjects, TOPICS[1], answers.append, QoSProfile(depth=10), raw=True)
        while not (publisher.get_subscription_count() and node.count_publishers(TOPICS[1])):
            if server.poll() is not None:
                raise SystemExit(f"the {kind} node ended with exit code {server.returncode}")
            rclpy.spin_once(node, timeout_sec=0.1)
        time.sleep(SETTLE_S)  # the node may not know of this side yet, and its first answers would be lost
        loop: list[float] = []
        for number, raw in enumerate(crowd(count, WARM_UP + ticks), start=1):
            if number % MESSAGES_BETWEEN_LOOPS == 0:
                loop += loop_times(core)
            publisher.publish(raw)
            patience = time.monotonic() + 10.0
            while len(answers) < number:
                rclpy.spin_once(node, timeout_sec=1.0)
                if time.monotonic() > patience:
                    raise SystemExit(f"the {kind} node did not answer message {number} within 10 s")
    finally:
        node.destroy_node()
        server.send_signal(2)
        server.wait(30)
    stages = np.array(json.loads(results.read_text()))[WARM_UP:]
    total, outside = stages.sum(axis=1), stages.sum(axis=1) - stages[:, STAGES.index("step_ms")]

    return {
        "loop_ms": float(np.median(loop)),
        "callback_ms": quantiles(total),
        "outside_step_ms": quantiles(outside),
        **{name: quantiles(stages[:, i]) for i, name in enumerate(STAGES)},
        "answer_bytes": len(answers[-1]),
    }


def _line(count: int, row: dict[str, Any]) -> str:
    """What a reader wants to know first."""
    ours = row["trajpred"]
    callback = ", ".join(f"{name} {value:.2f}" for name, value in ours["callback_ms"].items())
    split = ", ".join(f"{name[:-3]} {ours[name]['p50']:.2f}" for name in STAGES)
    return (
        f"{count:4d} objects: callback {callback} ms (p50 of {split}); plain node p50 "
        f"{row['plain']['callback_ms']['p50']:.1f} ms; {row['times_faster_outside_step']:.0f} times faster "
        f"outside the step; all rounds' p50 (loop): "
        + ", ".join(f"{r['callback_ms']['p50']:.2f} ({r['loop_ms']:.2f})" for r in row["rounds"])
    )


def main() -> None:
    """Measure both nodes at every number of objects and write one JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 50, 200, 500])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an artefact; default: the model in the box")
    parser.add_argument("--ticks", type=int, default=300, help="messages for trajpred's node")
    parser.add_argument("--rounds", type=int, default=5, help="of trajpred's node, at each number of objects")
    parser.add_argument("--plain-ticks", type=int, default=40, help="messages for the plain node")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="where the nodes run")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/node.json"))
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        kind, model, core, results = given.serve
        serve(kind, model, int(core), Path(results))
        return

    import rclpy
    from domain_coordinator import domain_id

    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with tempfile.TemporaryDirectory() as work, domain_id() as domain:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        folder = Path(work)
        info = OnnxModel.load(given.model).info
        rclpy.init()
        rows = {}
        for count in given.objects:
            rounds = [
                measure("trajpred", given.model, count, given.ticks, given.core, folder)
                for _ in range(given.rounds)
            ]
            ours = calmest(rounds)
            plain = measure("plain", given.model, count, given.plain_ticks, given.core, folder)
            ratio = plain["outside_step_ms"]["p50"] / ours["outside_step_ms"]["p50"]
            rows[count] = {
                "trajpred": ours,
                "rounds": rounds,
                "plain": plain,
                "times_faster_outside_step": ratio,
            }
            print(_line(count, rows[count]), flush=True)
        rclpy.shutdown()
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "model": {
            "modes": info.modes,
            "steps": len(info.offset_s),
            "horizon_s": info.offset_s[-1],
            "encoder": info.encoder,
            "neighbours": info.neighbours,
        },
        "cores_used": 1,
        "objects": rows,
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=2) + "\n")
    print(given.json)


if __name__ == "__main__":
    main()
