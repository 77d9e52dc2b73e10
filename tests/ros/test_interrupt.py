"""SIGINT and SIGTERM end every node, also while it starts, also when they come twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.ros.conftest import Stage
from trajpred_ros.interrupt import SIGNALS, interrupted


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_heard_while_the_main_thread_is_busy(handlers, number):
    with interrupted() as stop:
        assert not stop.done()
        signal.raise_signal(number)
        end = time.monotonic() + 10
        while not stop.done() and time.monotonic() < end:
            time.sleep(0.01)
        assert stop.done()
    signal.raise_signal(number)  # the clearing up is not broken off


def test_without_a_signal_nothing_is_left_behind(handlers):
    with interrupted() as stop:
        pass
    assert not stop.done()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("script", ["trajpred-node", "trajpred-planner"])
def test_a_node_that_is_interrupted_as_soon_as_it_is_seen_ends_at_once(stage: Stage, script: str, number):
    """It is then still being constructed: of several, one is caught in the middle of anything."""
    processes = [stage.start(script, "--ros-args", "-r", f"__node:=node_{i}") for i in range(3)]
    seen: set[str] = set()
    while len(seen) < len(processes):
        stage.spin_for(0.01)
        for i, process in enumerate(processes):
            name = f"node_{i}"
            if name not in seen and name in stage.node.get_node_names():
                seen.add(name)
                process.send(number)
                process.send(number)
    for process in processes:
        assert process.wait(20) == 0, process.said
        assert "Traceback" not in process.said


SPINNING = """
import signal, sys, tracemalloc
sys.argv = ["busy"]
from rclpy.node import Node
from trajpred_ros import main

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        self.ticks, self.before = 0, 0
        self.create_timer(0.001, self.tick)

    def tick(self):
        self.ticks += 1
        if self.ticks == 500:
            tracemalloc.start()
            self.before = tracemalloc.get_traced_memory()[0]
        if self.ticks == 1500:
            print(tracemalloc.get_traced_memory()[0] - self.before)
            signal.raise_signal(signal.SIGTERM)

sys.exit(main._spin(Busy, {}))
"""


def test_a_callback_leaves_nothing_behind():
    done = subprocess.run([sys.executable, "-c", SPINNING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000  # bytes after a thousand
