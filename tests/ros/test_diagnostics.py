"""Levels and numbers of the prediction node's health, at times made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from trajpred.predictor import Counts
from trajpred.types import Source
from trajpred_ros import diagnostics
from trajpred_ros.diagnostics import Health, Level, Report, Stages, diagnostic_array

MS, S = 1_000_000, 1_000_000_000
START = 77 * S
LIMITS = {"tolerance_ms": 20.0, "consecutive_tolerance_ms": 1000.0, "timeout_s": 0.5}
IN_TIME = Stages(2.0, 10.0, 5.0, 3.0)  # 20 ms: exactly the tolerance
SLOW = Stages(2.0, 10.0, 5.0, 3.5)


def answer(health: Health, at_ms: int, stages: Stages = IN_TIME) -> None:
    health.answered(START + at_ms * MS, stages, objects=7, age_s=0.04)


def report(health: Health, at_ms: float, degraded: str = "", **limits: float) -> Report:
    return health.report(
        START + round(at_ms * MS), Counts(), tracks=3, degraded=degraded, about={}, **(LIMITS | limits)
    )


def test_the_levels_are_those_of_the_message() -> None:
    for level in Level:
        assert bytes([level]) == getattr(DiagnosticStatus, level.name)


def test_answers_in_time_are_ok_at_the_tolerance_itself() -> None:
    node = Health()
    answer(node, 0)
    answer(node, 100)
    told = report(node, 150)
    assert (told.level, told.message) == (Level.OK, "predicting")


def test_one_slow_callback_is_a_warning_in_one_report() -> None:
    node = Health()
    answer(node, 0)
    answer(node, 100, SLOW)
    answer(node, 200)
    told = report(node, 250)
    assert told.level == Level.WARN
    assert told.message == "1 of 3 callbacks took longer than 20 ms, at most 20.50 ms"
    answer(node, 300)
    assert report(node, 350).level == Level.OK


@pytest.mark.parametrize(("last_ms", "level"), [(1099, Level.WARN), (1100, Level.ERROR)])
def test_slow_callbacks_are_an_error_from_the_consecutive_excess_tolerance_on(
    last_ms: int, level: Level
) -> None:
    node = Health()
    answer(node, 0, SLOW)
    answer(node, 100)  # the last in time
    for at_ms in (200, 600, last_ms):
        answer(node, at_ms, SLOW)
    told = report(node, last_ms)
    assert told.level == level
    if level == Level.ERROR:
        assert told.message.startswith("every callback for 1000 ms took longer than 20 ms; ")


def test_one_callback_in_time_ends_the_consecutive_excess() -> None:
    node = Health()
    for at_ms in range(0, 1000, 100):
        answer(node, at_ms, SLOW)
    answer(node, 1000)
    answer(node, 1900, SLOW)
    assert report(node, 1900).level == Level.WARN


def test_where_no_callback_was_ever_in_time_the_excess_counts_from_the_first() -> None:
    node = Health()
    answer(node, 0, SLOW)
    answer(node, 999, SLOW)
    assert report(node, 999).level == Level.WARN
    answer(node, 1000, SLOW)
    assert report(node, 1000).level == Level.ERROR


def test_a_sustained_excess_that_is_over_is_still_told_once() -> None:
    node = Health()
    answer(node, 0)
    answer(node, 1000, SLOW)
    answer(node, 1100)
    assert report(node, 1200).level == Level.ERROR
    answer(node, 1300)
    assert report(node, 1400).level == Level.OK


def test_a_sustained_excess_lasts_until_another_callback() -> None:
    node = Health()
    answer(node, 0)
    answer(node, 1000, SLOW)
    assert report(node, 1100).level == Level.ERROR
    assert report(node, 1200).level == Level.ERROR
    answer(node, 1300)
    assert report(node, 1400).level == Level.OK


def test_before_the_first_input_the_status_is_stale() -> None:
    told = report(Health(), 0)
    assert (told.level, told.message) == (Level.STALE, "no input yet")


@pytest.mark.parametrize(("at_ms", "level"), [(499.999999, Level.OK), (500, Level.STALE)])
def test_the_status_is_stale_from_the_timeout_on(at_ms: float, level: Level) -> None:
    node = Health()
    answer(node, 0)
    assert report(node, at_ms).level == level


def test_a_rejected_frame_is_input_and_a_warning_once() -> None:
    node = Health()
    answer(node, 0)
    node.rejected(START + 800 * MS, "damaged bytes")
    told = report(node, 900)
    assert (told.level, told.message) == (Level.WARN, "1 rejected, the last: damaged bytes")
    assert report(node, 1000).level == Level.OK


def test_the_worst_comes_first_and_the_rest_is_told_too() -> None:
    node = Health()
    answer(node, 0)
    answer(node, 1000, SLOW)
    node.rejected(START + 1100 * MS, "damaged bytes")
    told = report(node, 3100, degraded="model.onnx: is damaged")
    assert told.level == Level.STALE
    assert told.message.split("; ") == [
        "no input for 2.00 s",
        "every callback for 1000 ms took longer than 20 ms",
        "1 of 2 callbacks took longer than 20 ms, at most 20.50 ms",
        "1 rejected, the last: damaged bytes",
        "degraded: model.onnx: is damaged",
    ]


def test_a_degraded_node_warns_for_as_long_as_it_is() -> None:
    node = Health()
    answer(node, 0)
    for at_ms in (100, 200):
        told = report(node, at_ms, degraded="no model.onnx")
        assert (told.level, told.message) == (Level.WARN, "degraded: no model.onnx")


def test_the_limits_are_those_of_the_report() -> None:
    node = Health()
    answer(node, 0)
    assert report(node, 0).level == Level.OK
    answer(node, 100)
    told = report(node, 200, tolerance_ms=19.0)
    assert told.message == "1 of 1 callbacks took longer than 19 ms, at most 20.00 ms"
    answer(node, 300)
    told = report(node, 400, tolerance_ms=19.0, consecutive_tolerance_ms=300.0)
    assert told.message.startswith("every callback for 300 ms took longer than 19 ms; ")


def test_times_are_told_for_the_whole_and_for_each_stage() -> None:
    node = Health()
    for number in range(1, 101):  # 1 to 100 ms in the step alone
        answer(node, number, Stages(1.0, float(number), 0.0, 0.25))
    values = report(node, 100).values
    assert values["step mean [ms]"] == "50.50"
    assert values["step max [ms]"] == "100"
    assert values["step p99 [ms]"] == "99.00"  # the 99th of 100
    assert values["processing time mean [ms]"] == "51.75"
    assert values["processing time max [ms]"] == "101"
    assert values["processing time p99 [ms]"] == "100"
    assert values["decode p99 [ms]"] == "1.00"
    assert values["encode max [ms]"] == "0.00"
    assert values["publish mean [ms]"] == "0.25"


def test_times_and_rate_are_those_of_the_last_seconds() -> None:
    node = Health()
    answer(node, 0, Stages(90.0, 0.0, 0.0, 0.0))
    for at_ms in (1, 1000, 3000):  # one just outside of, two within the five seconds
        answer(node, at_ms, Stages(2.0, 0.0, 0.0, 0.0))
    values = report(node, 5001).values
    assert values["decode max [ms]"] == "2.00"
    assert values["input rate [Hz]"] == "0.67"  # two intervals in 2.999 s
    gone = report(node, 9000).values
    assert gone["decode max [ms]"] == "-"
    assert gone["input rate [Hz]"] == "-"
    assert gone["messages answered"] == "4"


def test_what_was_counted_is_told() -> None:
    node = Health()
    node.answered(START, IN_TIME, objects=12, age_s=0.0567)
    for reason in ("damaged bytes", "another frame", "damaged bytes"):
        node.rejected(START + 100 * MS, reason)
    counts = Counts(frames=5, resets=2, late_frames=1)
    counts.answers.update({Source.MODEL: 30, Source.TOO_NEW: 4})
    about = {"model": "m.onnx", "provider": "CPUExecutionProvider"}
    told = node.report(START + 200 * MS, counts, tracks=9, degraded="", about=about, **LIMITS)
    expected = {
        "objects in the last message": "12",
        "input age [ms]": "56.70",
        "messages answered": "1",
        "frames rejected": "3",
        "frames rejected: damaged bytes": "2",
        "frames rejected: another frame": "1",
        "resets": "2",
        "late frames": "1",
        "answers by model": "30",
        "answers by too_new": "4",
        "tracks remembered": "9",
        **about,
    }
    assert {key: told.values[key] for key in expected} == expected
    assert "answers by no_model" not in told.values


def test_before_the_first_message_every_measure_is_a_dash() -> None:
    values = report(Health(), 0).values
    measures = [key for key in values if "[" in key]
    assert len(measures) == 17
    assert {values[key] for key in measures} == {"-"}


def test_memory_is_bounded() -> None:
    node = Health()
    for number in range(3000):
        answer(node, number)
        node.rejected(START + number * MS, f"reason {number}")
    assert len(node._callbacks) == len(node._inputs_ns) == diagnostics.WINDOW_CALLBACKS
    values = report(node, 3000).values
    assert values["frames rejected"] == "3000"
    assert values[f"frames rejected: {diagnostics.OTHER_REASON}"] == str(3000 - diagnostics.REASONS_MAX)


def test_the_message_arrives_as_it_was_told(stage: Any) -> None:
    node = Health()
    answer(node, 0)
    told = report(node, 600)
    stamp = Time(sec=5, nanosec=6)
    received: list[DiagnosticArray] = []
    stage.node.create_subscription(DiagnosticArray, "/diagnostics", received.append, 1)
    publisher = stage.node.create_publisher(DiagnosticArray, "/diagnostics", 1)
    stage.spin_until(lambda: publisher.get_subscription_count() > 0, what="the subscription")
    publisher.publish(diagnostic_array(told, stamp, "prediction: health", "cpu"))
    stage.spin_until(lambda: received, what="the diagnostics")
    (status,) = received[0].status
    assert received[0].header.stamp == stamp
    assert (status.level, status.name, status.hardware_id) == (
        DiagnosticStatus.STALE,
        "prediction: health",
        "cpu",
    )
    assert status.message == "no input for 0.60 s"
    assert {item.key: item.value for item in status.values} == told.values
