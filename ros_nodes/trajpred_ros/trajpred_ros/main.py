"""The console scripts: what has to be there is there, then the node spins until it is interrupted."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from trajpred.errors import TrajpredError
from trajpred_ros.environment import require_ros
from trajpred_ros.parameters import Parameter, text

TRACKED_TOPIC = "/perception/object_recognition/tracking/objects"
PREDICTED_TOPIC = "/perception/object_recognition/objects"


def prediction_node() -> int:
    """Predicts every object of every TrackedObjects; its topics are its own until they are remapped."""
    return _run("prediction_node", "PredictionNode")


def stand_alone_prediction_node() -> int:
    """The same on Autoware's topics, unless they are remapped to others."""
    topics = {"~/input/objects": TRACKED_TOPIC, "~/output/objects": PREDICTED_TOPIC}
    return _run("prediction_node", "PredictionNode", topics)


def replay_node() -> int:
    """Publishes a recorded log on its topics."""
    return _run("replay_node", "ReplayNode")


def record_node() -> int:
    """Records topics into a log."""
    return _run("record_node", "RecordNode")


def yield_planner() -> int:
    """Slows the ego down for who will be in its corridor; its topics are its own until they are remapped."""
    return _run("planner_node", "YieldPlanner")


def stand_alone_yield_planner() -> int:
    """The same on Autoware's topic of predicted objects, unless that is remapped to another."""
    return _run("planner_node", "YieldPlanner", {"~/input/objects": PREDICTED_TOPIC})


def _run(module: str, name: str, topics: dict[str, str] | None = None) -> int:
    """Spin the node; a user's error is one line on standard error and exit code 2."""
    topics = topics or {}
    try:
        require_ros()
        room = import_module(f"trajpred_ros.{module}")
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(_help(room.__doc__ or "", room.PARAMETERS, topics))
            return 0
        return _spin(getattr(room, name), topics)
    except TrajpredError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while things are still being imported
        return 128 + signal.SIGINT


def _spin(kind: Any, topics: dict[str, str]) -> int:
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from trajpred_ros.interrupt import interrupted

    # The first rule that fits a name wins, so the user's own come first.
    rules = [word for name, topic in topics.items() for word in ("-r", f"{name}:={topic}")]
    arguments = [*sys.argv, *(["--ros-args", *rules] if rules else [])]
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    executor, node = SingleThreadedExecutor(), None
    try:
        with interrupted() as stop:
            node = kind()
            executor.add_node(node)
            # Not spin_until_future_complete: at every callback it leaves another one with the future.
            halt = node.create_guard_condition(lambda: None)
            stop.add_done_callback(lambda _: halt.trigger())
            while rclpy.ok() and not stop.done():  # a callback may end it too
                executor.spin_once()
    except ExternalShutdownException:
        pass
    finally:
        executor.shutdown()
        if node is not None:
            node.destroy_node()
        # What rclpy holds of the middleware has to go while the middleware is there, not when Python ends.
        del node, executor
        gc.unfreeze()
        gc.collect()
        rclpy.try_shutdown()
    return 0


def _help(purpose: str, parameters: Sequence[Parameter], topics: dict[str, str]) -> str:
    where = "".join(f"\n  {name} is {topic}, unless it is remapped (-r)" for name, topic in topics.items())
    first = parameters[0].name
    return (
        f"{purpose.strip()}\n{where}\n\n"
        f"usage: --ros-args -p {first}:=VALUE ... [--params-file FILE.yaml] [-r FROM:=TO]\n\n"
        f"parameters:\n{text(parameters)}"
    )
