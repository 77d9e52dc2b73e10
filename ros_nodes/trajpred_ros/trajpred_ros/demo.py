"""The demo's log and model through the real nodes, over DDS: live answers scored, and a planner that yields.

`python -m trajpred_ros.demo demo` goes on where `trajpred demo --out demo` ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rosbags.highlevel import AnyReader

from data_tools.convert import write_log
from data_tools.demo_scene import PROTOCOL
from data_tools.drift_scene import EGO_SPEED_MPS, LANE_Y_M, drift_scene
from trajpred.bags import read_raw, typestore
from trajpred.cdr import PREDICTED
from trajpred.config import HorizonConfig, OutputConfig
from trajpred.errors import TrajpredError
from trajpred.evaluate import evaluate, make_predictor
from trajpred.messages import decode_predicted
from trajpred.replay import replay
from trajpred.tables import read_table
from trajpred.types import Prediction
from trajpred.windows import DataSource
from trajpred_ros.environment import require_ros
from trajpred_ros.main import PREDICTED_TOPIC
from trajpred_ros.yield_picture import Drive, Yielding, draw_yielding

HORIZON_S = PROTOCOL.offset_s[-1]
STEP_S = PROTOCOL.offset_s[0]
OUTPUT = OutputConfig(STEP_S, HorizonConfig(HORIZON_S, HORIZON_S, HORIZON_S))
PREDICTION = (
    f"prediction_sampling_delta_time:={STEP_S}",
    *(f"prediction_time_horizon.{kind}:={HORIZON_S}" for kind in ("vehicle", "pedestrian", "unknown")),
)
PLANNERS = {"told": True, "blind": False}
SPEED = "geometry_msgs/msg/TwistStamped"
WAIT_S = 60.0


class LiveDemoError(TrajpredError):
    """A node of the demo ended early, or was not heard of."""


class Nodes:
    """Nodes as processes in a DDS domain of their own, on this machine only."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }

    def start(
        self, script: str, parameters: Sequence[str], *rules: str
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """A console script of this environment; what it says goes into the file that is returned."""
        words = [word for value in parameters for word in ("-p", value)]
        words += [word for rule in rules for word in ("-r", rule)]
        log = self._logs / f"{len(self._running)}_{script}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603
                [Path(sys.executable).with_name(script), "--ros-args", *words],
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        self._running.append((script, process))
        return process, log

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Raises LiveDemoError if it takes too long, or if a node ends with an error meanwhile."""
        end = time.monotonic() + WAIT_S
        while not done():
            for script, process in self._running:
                if process.poll():
                    raise LiveDemoError(
                        f"{script} ended with exit code {process.returncode}: see {self._logs}"
                    )
            if time.monotonic() > end:
                raise LiveDemoError(f"{what}: not within {WAIT_S:g} s: see {self._logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Interrupt all, as Ctrl-C does."""
        for _, process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for _, process in self._running:
            process.wait(WAIT_S)
        self._running.clear()


@contextmanager
def nodes(logs: Path) -> Iterator[Nodes]:
    """Nodes that are stopped at the end, however it comes."""
    logs.mkdir(parents=True, exist_ok=True)
    made = Nodes(logs)
    try:
        yield made
    finally:
        made.stop()


def live(log: Path, model: Path, out: Path, planners: Sequence[str]) -> None:
    """Play a log to the prediction node and the planners, and record what they publish into `out`."""
    topics = [PREDICTED_TOPIC, *(f"/{name}/output/target_speed" for name in planners)]
    with nodes(out.with_name(f"{out.stem}_nodes")) as running:
        running.start("trajpred-node", (f"model:={model}", *PREDICTION, "use_sim_time:=true"))
        for name in planners:
            running.start(
                "trajpred-planner",
                (
                    f"use_predictions:={str(PLANNERS[name]).lower()}",
                    f"cruise_speed:={EGO_SPEED_MPS}",
                    f"ego_path:=[0.0, {LANE_Y_M}]",
                ),
                f"__node:={name}",
            )
        _, said = running.start(
            "trajpred-record-node", (f"out:={out}", f"topics:={topics}", "overwrite:=true")
        )
        running.wait_for(lambda: said.read_text().count("recording") >= len(topics), "all topics")
        time.sleep(1.0)  # a publisher learns of a subscriber a little after the subscriber of it
        # A planner answers after the node: waiting for it, the player is too fast for neither.
        acknowledged = (
            f"acknowledge_topic:={topics[-1]}",
            f"acknowledge_type:={SPEED if planners else PREDICTED}",
        )
        player, _ = running.start(
            "trajpred-replay-node",
            (
                f"log:={log}",
                "rate:=0.0",
                "wait_for_subscribers:=20.0",
                *acknowledged,
            ),
        )
        running.wait_for(lambda: player.poll() is not None, "the end of the log")
        time.sleep(1.0)  # the last of the answers


def demo(out: Path) -> None:
    """Live answers to the demo's log, their scores, and the planner's answer to a cyclist that drifts."""
    console = Console()
    model, street = out / "demo.onnx", out / "street.mcap"
    console.print("live 1/2: the same log through the ROS 2 node, over DDS")
    live(street, model, out / "live.mcap", ())
    replay(make_predictor(str(model)), street, out / "offline.mcap", output=OUTPUT, overwrite=True)
    answers, farthest = _compare(out / "live.mcap", out / "offline.mcap")
    console.print(f"    {answers} answers over DDS; farthest from the replay without ROS: {farthest:.1e} m")
    source = DataSource("street.parquet", (read_table(out / "street.parquet"),), PROTOCOL, streamed=True)
    metrics = evaluate(str(out / "live.mcap"), source)["metrics"]
    console.print(
        f"    scored as published: most probable path {metrics['ade_1']:.2f}/{metrics['fde_1']:.2f} m, "
        f"best of 6 {metrics['min_ade_6']:.2f}/{metrics['min_fde_6']:.2f} m"
    )

    console.print("live 2/2: a cyclist drifts into the lane: the planner with predictions, and without")
    made = drift_scene()
    write_log(made.scene, out / "drift.mcap", overwrite=True)
    live(out / "drift.mcap", model, out / "drift_live.mcap", tuple(PLANNERS))
    told, blind = (_drive(out / "drift_live.mcap", name) for name in PLANNERS)
    seen = Yielding.of(made, told, blind, _predictions(out / "drift_live.mcap"))
    console.print(f"    {seen.summary}")
    draw_yielding(seen, out / "yield.png")
    for name in ("live.mcap", "drift_live.mcap", "yield.png"):
        console.print(f"    {out / name}")


def _predictions(log: Path) -> list[Prediction]:
    return [decode_predicted(raw)[0] for _, _, raw in read_raw(log, PREDICTED_TOPIC, msgtype=PREDICTED)]


def _compare(live_log: Path, offline_log: Path) -> tuple[int, float]:
    """How many answers there are, and the largest distance between two poses, m."""
    farthest = 0.0
    pairs = list(zip(_predictions(live_log), _predictions(offline_log), strict=True))
    for ours, theirs in pairs:
        if ours.stamp_ns != theirs.stamp_ns or ours.ids.tolist() != theirs.ids.tolist():
            raise LiveDemoError(f"{live_log}: other objects at {ours.stamp_ns} ns than {offline_log}")
        farthest = max(farthest, float(np.abs(ours.paths - theirs.paths).max(initial=0.0)))
    return len(pairs), farthest


def _drive(log: Path, planner: str) -> Drive:
    """The target speeds that a planner published."""
    with AnyReader([log], default_typestore=typestore()) as reader:
        chosen = [c for c in reader.connections if c.topic == f"/{planner}/output/target_speed"]
        said: list[Any] = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(chosen)]
    time_s = np.array([m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in said])
    return Drive(time_s, np.array([m.twist.linear.x for m in said]))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo"))
    try:
        require_ros()
        demo(parser.parse_args().out)
    except TrajpredError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
