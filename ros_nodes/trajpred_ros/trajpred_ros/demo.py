"""The demo with the real nodes, over DDS: live answers scored, and a planner that yields to a cyclist.

`python -m trajpred_ros.demo demo` does what `trajpred demo --out demo` does, and then the same live.
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

from trajpred.bags import read_raw, typestore
from trajpred.cdr import PREDICTED
from trajpred.config import DEFAULT_MODEL, HorizonConfig, OutputConfig
from trajpred.demo import demo as offline_demo
from trajpred.demo import summary
from trajpred.errors import TrajpredError
from trajpred.evaluate import make_predictor
from trajpred.messages import decode_predicted
from trajpred.replay import replay
from trajpred.types import Float, Prediction
from trajpred_ros.environment import require_ros
from trajpred_ros.main import PREDICTED_TOPIC
from trajpred_ros.yield_picture import CRUISE_MPS, CutIn, Drive, Yielding, draw_yielding
from trajpred_ros.yielding import YieldConfig

HORIZON_S, STEP_S = 8.0, 0.5
"""Of the model in the box."""
OUTPUT = OutputConfig(STEP_S, HorizonConfig(HORIZON_S, HORIZON_S, HORIZON_S))
PREDICTION = (
    f"prediction_sampling_delta_time:={STEP_S}",
    *(f"prediction_time_horizon.{kind}:={HORIZON_S}" for kind in ("vehicle", "pedestrian", "unknown")),
)
PLANNERS = {"told": True, "blind": False}
SPEED = "geometry_msgs/msg/TwistStamped"
CALLBACK_TOPIC = "/prediction_node/debug/processing_time_ms"
RATE = 10.0
"""Times the logs' own, if the nodes answer as fast: the next message waits for the answer."""
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


def live(log: Path, out: Path, planners: Sequence[str], ego_path: Float | None = None) -> None:
    """Play a log to the prediction node and the planners, and record what they publish into `out`."""
    ends = [] if ego_path is None else ego_path[[0, -1]].ravel().tolist()
    topics = [CALLBACK_TOPIC, PREDICTED_TOPIC, *(f"/{name}/output/target_speed" for name in planners)]
    with nodes(out.with_name(f"{out.stem}_nodes")) as running:
        running.start("trajpred-node", (*PREDICTION, "use_sim_time:=true"))
        for name in planners:
            running.start(
                "trajpred-planner",
                (
                    f"use_predictions:={str(PLANNERS[name]).lower()}",
                    f"cruise_speed:={CRUISE_MPS}",
                    f"ego_path:={ends}",
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
                f"rate:={RATE}",
                "wait_for_subscribers:=20.0",
                *acknowledged,
            ),
        )
        running.wait_for(lambda: player.poll() is not None, "the end of the log")
        time.sleep(1.0)  # the last of the answers


def demo(out: Path, seed: int = 0) -> None:
    """All of `trajpred demo`, then its logs through the nodes; one table at the end."""
    console = Console()
    shown = offline_demo(out, seed, console)

    console.print("[bold]live[/]: the junction's log through the ROS 2 node, over DDS")
    log = out / "junction" / "tracks.mcap"
    live(log, out / "live.mcap", ())
    replay(make_predictor(DEFAULT_MODEL), log, out / "offline.mcap", output=OUTPUT, overwrite=True)
    answers, farthest = _compare(out / "live.mcap", out / "offline.mcap")
    callback_ms = [said.data for said in _said(out / "live.mcap", CALLBACK_TOPIC)]
    console.print(f"    {answers} answers over DDS; farthest from the replay without ROS: {farthest:.1e} m")

    console.print("[bold]live[/]: the cyclist cuts in: the planner with predictions, and without")
    scene = CutIn.of(shown.cut_in, YieldConfig().half_width_m)
    live(out / "cyclist_cut_in" / "tracks.mcap", out / "cut_in.mcap", tuple(PLANNERS), scene.ego_path)
    told, blind = (_drive(out / "cut_in.mcap", name) for name in PLANNERS)
    seen = Yielding.of(scene, told, blind, _predictions(out / "cut_in.mcap"))
    console.print(f"    {seen.summary}")
    draw_yielding(seen, out / "cut_in.png")
    console.print(summary(shown, seen.gained_s, callback_ms))
    console.print(
        "  ".join(str(out / name) for name in ("report.html", "cut_in.png", "junction.gif", "live.mcap"))
    )


def _predictions(log: Path) -> list[Prediction]:
    return [decode_predicted(raw)[0] for _, _, raw in read_raw(log, PREDICTED_TOPIC, msgtype=PREDICTED)]


def _compare(live_log: Path, offline_log: Path) -> tuple[int, float]:
    """How many answers there are, and the largest distance between two poses, m."""
    farthest = 0.0
    live_answers, offline_answers = _predictions(live_log), _predictions(offline_log)
    if len(live_answers) != len(offline_answers):
        raise LiveDemoError(
            f"{live_log}: {len(live_answers)} answers, not {len(offline_answers)} as in {offline_log}: "
            "the machine was too busy to record them all; try again"
        )
    for ours, theirs in zip(live_answers, offline_answers, strict=True):
        if ours.stamp_ns != theirs.stamp_ns or ours.ids.tolist() != theirs.ids.tolist():
            raise LiveDemoError(f"{live_log}: other objects at {ours.stamp_ns} ns than {offline_log}")
        farthest = max(farthest, float(np.abs(ours.paths - theirs.paths).max(initial=0.0)))
    return len(live_answers), farthest


def _drive(log: Path, planner: str) -> Drive:
    """The target speeds that a planner published."""
    said = _said(log, f"/{planner}/output/target_speed")
    time_s = np.array([m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in said])
    return Drive(time_s, np.array([m.twist.linear.x for m in said]))


def _said(log: Path, topic: str) -> list[Any]:
    """The messages of a topic."""
    with AnyReader([log], default_typestore=typestore()) as reader:
        chosen = [c for c in reader.connections if c.topic == topic]
        return [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(chosen)]


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
