"""Predicts every object of every TrackedObjects message: bytes in, bytes out, one message for each."""

from __future__ import annotations

import gc
import re
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import wraps
from itertools import pairwise
from math import ceil
from typing import Any, get_args

import numpy as np
from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64
from visualization_msgs.msg import MarkerArray

from trajpred.baselines import BaselineName
from trajpred.budget import TimeBudget
from trajpred.cdr import read_predicted
from trajpred.config import DEFAULT_MODEL, NS_PER_S, HorizonConfig, OutputConfig, PredictorConfig
from trajpred.errors import ArtefactError, InputError
from trajpred.markers import markers
from trajpred.memory import keep_freed_memory
from trajpred.messages import decode_tracked, encode_predicted, encode_tracked, frame_of, steps_by_label
from trajpred.predictor import Ego, Predictor
from trajpred.runtime import OnnxModel, Provider
from trajpred.types import Label, Prediction, Source, TrackFrame, ids_from_int
from trajpred_ros.diagnostics import Health, Stages, diagnostic_array
from trajpred_ros.odometry import ego_state
from trajpred_ros.parameters import Parameter, declare
from trajpred_ros.transforms import Transforms

BASELINES = get_args(BaselineName)
WARM_UP_OBJECTS = (1, 64, 256)

PARAMETERS = (
    Parameter(
        "model",
        DEFAULT_MODEL,
        f"{DEFAULT_MODEL}: the model in the box. Else the path of an artefact made by `trajpred export`, "
        f"or a baseline: {', '.join(BASELINES)}.",
        when="configure",
    ),
    Parameter(
        "allow_degraded",
        True,
        "Serve the baseline, and say so in the diagnostics, where the model cannot be used; "
        "if false, configuring fails.",
        when="configure",
    ),
    Parameter("autostart", True, "Configure and activate at the start, without a manager.", when="start"),
    Parameter(
        "provider",
        "auto",
        "Where the model runs; auto: on a GPU if there is one.",
        choices=get_args(Provider),
        when="configure",
    ),
    Parameter("threads", 1, "Threads of the model on a CPU.", low=1, high=64, when="configure"),
    Parameter(
        "input_reliability",
        "reliable",
        "Reliability asked of the input's publisher.",
        choices=("reliable", "best_effort"),
        when="configure",
    ),
    Parameter(
        "target_frame",
        "",
        "Frame to predict in, by tf2 where the input has another; empty: the input's. "
        "It should be fixed to the ground.",
    ),
    Parameter("prediction_sampling_delta_time", 0.5, "Time between poses of a path, s.", low=0.01, high=10.0),
    Parameter(
        "prediction_time_horizon.vehicle",
        10.0,
        "Length of the paths of cars, trucks, buses, trailers and motorcycles, s.",
        low=0.01,
        high=60.0,
    ),
    Parameter(
        "prediction_time_horizon.pedestrian",
        10.0,
        "Length of the paths of pedestrians and bicycles, s.",
        low=0.01,
        high=60.0,
    ),
    Parameter("prediction_time_horizon.unknown", 10.0, "Length of all other paths, s.", low=0.01, high=60.0),
    Parameter(
        "place",
        True,
        "Tell a model that knows a place where in it an object is, where the objects' frame is that place's.",
        when="configure",
    ),
    Parameter(
        "baseline",
        "cv",
        "What predicts an object that the model cannot.",
        choices=BASELINES,
        when="configure",
    ),
    Parameter(
        "max_age", 3.0, "A track unseen for so long is forgotten, s.", low=0.1, high=60.0, when="configure"
    ),
    Parameter(
        "max_tracks",
        8192,
        "More tracks than this are not remembered.",
        low=1,
        high=1_000_000,
        when="configure",
    ),
    Parameter(
        "reorder_tolerance",
        0.3,
        "A message older than the last by at most this is late, by more a jump back in time, s.",
        low=0.0,
        high=10.0,
        when="configure",
    ),
    Parameter(
        "time_budget_ms",
        0.0,
        "What a callback may take: the model answers as many objects as fit, first those that are near the "
        "ego or come nearer (~/input/odometry; without it, near the middle); the others get the baseline. "
        "0: no limit.",
        low=0.0,
        high=1e5,
    ),
    Parameter(
        "processing_time_tolerance_ms", 100.0, "A callback that takes longer is a warning.", low=0.0, high=1e5
    ),
    Parameter(
        "processing_time_consecutive_excess_tolerance_ms",
        1000.0,
        "Callbacks that have all taken too long for so long are an error.",
        low=0.0,
        high=1e6,
    ),
    Parameter(
        "input_timeout",
        1.0,
        "Without input for so long, the diagnostics are STALE, s.",
        low=0.05,
        high=3600.0,
    ),
    Parameter(
        "marker_lifetime", 0.5, "How long a debug marker stays without a new one, s.", low=0.0, high=60.0
    ),
)


class PredictionNode(LifecycleNode):
    """Drop-in for Autoware's prediction node. A callback is convert, step, publish."""

    def __init__(self, **options: Any) -> None:
        super().__init__("prediction_node", **options)
        self._predictor: Predictor | None = None
        self._values = declare(
            self, PARAMETERS, configured=lambda: self._predictor is not None, check=_fault_together
        )
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        if self._values["autostart"] and self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, and announce the outputs."""
        keep_freed_memory()
        config = _predictor_config(self._values)
        self._budget = TimeBudget()
        try:
            model, self._degraded = self._load(config), ""
            self._warm_up(Predictor(model, config))  # on a GPU, a model may fail only here
        except ArtefactError as error:
            if not self._values["allow_degraded"]:
                self.get_logger().error(f"not configured (allow_degraded is false): {error}")
                return TransitionCallbackReturn.FAILURE
            model, self._degraded = None, str(error)
            self.get_logger().error(f"degraded, serving baseline {config.baseline}: {error}")
        baseline = self._values["model"] if self._values["model"] in BASELINES else config.baseline
        config = replace(config, baseline=baseline)
        without_model = Source.NO_MODEL if self._degraded else Source.BASELINE
        self._predictor = Predictor(model, config, without_model=without_model)
        self._about = {"model": self._values["model"], **_about(model, config)}
        if model is not None:
            self.get_logger().info(f"model {self._values['model']} runs on {model.provider}")
        self._health = Health()
        self._odometry: Odometry | None = None
        self._transforms: Transforms | None = None  # listens to /tf, so it is made only where it is needed
        try:
            self._offer()
        except RCLError as error:  # as security says that it may not
            self.get_logger().error(f"not configured: {error}")
            self._predictor = None
            return TransitionCallbackReturn.FAILURE
        # What is there now stays: the garbage collector need not look at it in the middle of a callback.
        gc.collect()
        gc.freeze()
        return TransitionCallbackReturn.SUCCESS

    def _offer(self) -> None:
        """Announce all outputs, or none; raises RCLError."""
        newest = QoSProfile(depth=1)  # more would hold more shared memory for a subscriber that has stopped
        with ExitStack() as outputs:

            def offer(kind: type, topic: str) -> Any:
                publisher = self.create_lifecycle_publisher(kind, topic, newest)
                outputs.callback(self.destroy_lifecycle_publisher, publisher)
                return publisher

            self._objects = offer(PredictedObjects, "~/output/objects")
            self._markers = offer(MarkerArray, "~/debug/markers")
            self._time = offer(Float64, "~/debug/processing_time_ms")
            self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
            outputs.callback(self.destroy_publisher, self._diagnostics)
            self._timer = self.create_timer(1.0, self._guarded(self._diagnose), clock=self._steady)
            outputs.callback(self.destroy_timer, self._timer)
            self._outputs = outputs.pop_all()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to answer."""
        done = super().on_activate(state)
        try:
            self._subscribe()
        except RCLError as error:
            self.get_logger().error(f"not activated: {error}")
            return TransitionCallbackReturn.FAILURE
        return done

    def _subscribe(self) -> None:
        """To all inputs, or none; raises RCLError."""
        reliability = (
            ReliabilityPolicy.RELIABLE
            if self._values["input_reliability"] == "reliable"
            else ReliabilityPolicy.BEST_EFFORT
        )
        with ExitStack() as inputs:
            newest = QoSProfile(depth=1, reliability=reliability)
            objects = self.create_subscription(
                TrackedObjects, "~/input/objects", self._guarded(self._on_objects), newest, raw=True
            )
            inputs.callback(self.destroy_subscription, objects)
            odometry = self.create_subscription(
                Odometry, "~/input/odometry", self._guarded(self._on_odometry), QoSProfile(depth=1)
            )
            inputs.callback(self.destroy_subscription, odometry)
            self._inputs = inputs.pop_all()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop answering; what is remembered would be old by the time it goes on."""
        self._inputs.close()
        assert self._predictor is not None
        self._predictor.reset()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the outputs."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything, from any state."""
        if self._predictor is not None:
            if state.label == "active":
                self._inputs.close()
            self._release()
        return super().on_shutdown(state)

    def _release(self) -> None:
        self._outputs.close()
        if self._transforms is not None:
            self._transforms.close()
        self._predictor = None

    def _load(self, config: PredictorConfig) -> OnnxModel | None:
        """The model; None if a baseline is asked for. Raises ArtefactError."""
        name = self._values["model"]
        if name in BASELINES:
            return None
        return OnnxModel.load(
            name or DEFAULT_MODEL, threads=config.threads, provider=self._values["provider"]
        )

    def _warm_up(self, predictor: Predictor) -> None:
        """Take the way of a message a few times, so that the first one is not slow.

        That teaches the budget what an object costs, with memory that is touched for the first time.
        """
        for count in WARM_UP_OBJECTS:
            rows = np.arange(count)
            xy = np.stack([rows % 16, rows // 16], axis=1) * 4.0
            for tick in range(3):
                frame = TrackFrame.build(
                    tick * NS_PER_S // 10,
                    ids_from_int(rows),
                    xy + 0.5 * tick,
                    label=rows % len(Label),
                    yaw=0.0,
                    velocity=(5.0, 0.0),
                )
                raw, begun = encode_tracked(frame), time.perf_counter_ns()
                frame, tracked = decode_tracked(raw)
                prediction = predictor.step(frame)
                encode_predicted(tracked, prediction, self._output())
                took_ms = (time.perf_counter_ns() - begun) / 1e6
                if count == WARM_UP_OBJECTS[-1]:
                    self._budget.took(count, _by_model(prediction), took_ms)
            predictor.reset()

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, which ends with what it cannot do, not the node: the next message may be another."""

        @wraps(callback)
        def guarded(*message: Any) -> None:
            try:
                callback(*message)
            except Exception as error:
                self._health.failed(f"{type(error).__name__}: {error}")
                self.get_logger().error(f"a callback failed: {traceback.format_exc()}", once=True)

        return guarded

    def _on_objects(self, raw: bytes) -> None:
        assert self._predictor is not None
        begun = time.perf_counter_ns()
        resets = self._predictor.counts.resets
        try:
            frame, tracked = decode_tracked(raw)
            target = self._values["target_frame"]
            if target and tracked.frame_id != target:
                self._transforms = self._transforms or Transforms(self)
                tracked, why = self._transforms.into(target, tracked)
                frame = frame_of(tracked)
                if why is not None:
                    self._warn(f"objects stay in frame {tracked.frame_id!r}, not {target!r}: {why}")
            decoded = time.perf_counter_ns()
            most = self._budget.most(len(frame), self._values["time_budget_ms"])
            ego = self._ego(frame) if most is not None else None
            prediction = self._predictor.step(frame, most, ego)
            stepped = time.perf_counter_ns()
            answer = encode_predicted(tracked, prediction, self._output())
        except InputError as error:
            self._health.rejected(self._now_ns(), "not the bytes of a TrackedObjects")
            self._warn(f"message rejected: {error}")
            return
        encoded = time.perf_counter_ns()
        self._objects.publish(answer)
        published = time.perf_counter_ns()

        marks = (begun, decoded, stepped, encoded, published)
        stages = Stages(*((b - a) / 1e6 for a, b in pairwise(marks)))
        self.account(frame, stages)
        self._budget.took(len(frame), _by_model(prediction), stages.total)
        self._time.publish(Float64(data=stages.total))
        if self._markers.get_subscription_count():
            reset = self._predictor.counts.resets > resets
            lifetime_s = self._values["marker_lifetime"]
            self._markers.publish(markers(read_predicted(answer), lifetime_s, delete_all=reset))

    def _on_odometry(self, odometry: Odometry) -> None:
        self._odometry = odometry

    def _ego(self, frame: TrackFrame) -> Ego | None:
        if self._odometry is None:
            return None
        try:
            state = ego_state(self._odometry, frame.stamp_ns, frame.frame_id)
        except InputError as error:
            self._warn(f"who is urgent is judged without the ego: {error}")
            return None
        return Ego(state.xy, state.velocity)

    def account(self, frame: TrackFrame, stages: Stages) -> None:
        """Note that a frame was answered, and how long each stage took."""
        age_s = (self.get_clock().now().nanoseconds - frame.stamp_ns) / NS_PER_S
        self._health.answered(self._now_ns(), stages, len(frame), age_s)

    def _diagnose(self) -> None:
        assert self._predictor is not None
        report = self._health.report(
            self._now_ns(),
            self._predictor.counts,
            tracks=len(self._predictor),
            degraded=self._degraded,
            tolerance_ms=self._values["processing_time_tolerance_ms"],
            consecutive_tolerance_ms=self._values["processing_time_consecutive_excess_tolerance_ms"],
            timeout_s=self._values["input_timeout"],
            about=self._about,
        )
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(
            diagnostic_array(report, stamp, f"{self.get_name()}: prediction", "trajpred")
        )

    def _output(self) -> OutputConfig:
        return _output_config(self._values)

    def _now_ns(self) -> int:
        return int(self._steady.now().nanoseconds)

    def _warn(self, message: str) -> None:
        self.get_logger().warning(message, throttle_duration_sec=5.0, throttle_time_source_type=self._steady)


def _by_model(prediction: Prediction) -> int:
    return int(np.count_nonzero(prediction.source == Source.MODEL))


def _predictor_config(values: Mapping[str, Any]) -> PredictorConfig:
    """Without a model, paths are predicted as far as any of them is asked for."""
    step_s = values["prediction_sampling_delta_time"]
    horizon_s = max(
        values[f"prediction_time_horizon.{kind}"] for kind in ("vehicle", "pedestrian", "unknown")
    )
    return PredictorConfig(
        max_age_s=values["max_age"],
        max_tracks=values["max_tracks"],
        reorder_tolerance_s=values["reorder_tolerance"],
        place=values["place"],
        baseline=values["baseline"],
        baseline_step_s=step_s,
        baseline_steps=max(1, ceil(horizon_s / step_s)),
        threads=values["threads"],
    )


def _output_config(values: Mapping[str, Any]) -> OutputConfig:
    horizon = {
        kind: values[f"prediction_time_horizon.{kind}"] for kind in ("vehicle", "pedestrian", "unknown")
    }
    return OutputConfig(values["prediction_sampling_delta_time"], HorizonConfig(**horizon))


def _fault_together(values: Mapping[str, Any]) -> str | None:
    """Why the times of paths do not go together."""
    try:
        steps_by_label(_output_config(values))
    except InputError as error:
        names = {
            "output.step_s": "prediction_sampling_delta_time",
            "output.horizon_s": "prediction_time_horizon",
        }
        return re.sub("|".join(names), lambda found: names[found[0]], str(error))
    return None


def _about(model: OnnxModel | None, config: PredictorConfig) -> dict[str, str]:
    """What the diagnostics say of who predicts."""
    if model is None:
        return {"baseline": config.baseline}
    info = model.info
    return {
        "model format": f"{info.format}, exported by {info.code_version}",
        "network": f"{info.encoder}, {info.modes} paths of {info.offset_s[-1]:g} s",
        "trained on": info.trained_on,
        "trained classes": ", ".join(info.trained_classes),
        "place": info.place.frame_id if info.place and config.place else "none",
        "provider": model.provider,
        "baseline": config.baseline,
    }
