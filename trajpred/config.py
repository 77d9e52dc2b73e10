"""Every setting of the house as a frozen dataclass. YAML files state only differences from these.

jsonargparse fills them from the command line and from YAML; an unknown key is an error. They have no
__slots__, since jsonargparse reads the __dict__ of a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

NS_PER_S = 1_000_000_000
DEFAULT_MODEL = "default"
"""The name of the model in the box."""

EncoderName = Literal["lstm", "gru", "rnn_tanh", "rnn_relu", "window_mlp", "bag_of_steps"]


@dataclass(frozen=True)
class Protocol:
    """How a recording is cut into windows: observe, then predict, on a fixed time grid.

    step_ns between grid points; observe and predict count grid points; min_tracks: moments with fewer
    complete windows are left out. To train on recordings faster than the grid: `fine` divides the step of
    the history, whose points `observe` then counts; stride, in points of the history's grid.
    """

    step_ns: int = 400_000_000
    observe: int = 8
    predict: int = 12
    stride: int = 1
    min_tracks: int = 1
    fine: int = 1

    @property
    def columns(self) -> list[int]:
        """(observe + predict,) where a window's points lie on the history's grid."""
        ahead = [self.observe - 1 + self.fine * (i + 1) for i in range(self.predict)]
        return [*range(self.observe), *ahead]

    @property
    def past_ns(self) -> list[int]:
        """(observe,) ns from the first point of the history."""
        return [self.step_ns * i // self.fine for i in range(self.observe)]

    @property
    def coarse(self) -> Protocol:
        """With a history at step_ns, as windows are scored; stride counts these steps then.

        Where it is more than 1, what is scored in training are moments farther apart than those trained on.
        """
        return replace(self, fine=1, observe=(self.observe - 1) // self.fine + 1)

    @property
    def offset_s(self) -> list[float]:
        """(predict,) s after the last observation."""
        return [self.step_ns * (i + 1) / NS_PER_S for i in range(self.predict)]


@dataclass(frozen=True)
class PredictorConfig:
    """The streaming predictor's bounds.

    A track not seen for max_age_s is forgotten; at most max_tracks are remembered, the longest
    unseen go first. A frame older than the last one by at most reorder_tolerance_s is late: it is
    answered by the baseline and changes nothing; older than that, time has jumped back and all
    tracks are forgotten. place: whether a model that knows a place is told where in it an agent is, in frames
    with that place's frame_id. baseline_step_s and baseline_steps are the grid of a baseline that is used
    without a model.
    """

    max_age_s: float = 3.0
    max_tracks: int = 8192
    reorder_tolerance_s: float = 0.3
    place: bool = True
    baseline: Literal["cv", "ctrv", "kalman"] = "cv"
    baseline_step_s: float = 0.5
    baseline_steps: int = 16
    threads: int = 1


@dataclass(frozen=True)
class HorizonConfig:
    """How far published paths reach, in s, by what the object is, grouped as Autoware's node does.

    vehicle: car, truck, bus, trailer, motorcycle; pedestrian: pedestrian, bicycle; unknown: all others.
    """

    vehicle: float = 10.0
    pedestrian: float = 10.0
    unknown: float = 10.0


@dataclass(frozen=True)
class OutputConfig:
    """The paths of published messages: a pose every step_s, from now to the horizon, at most 100.

    Beyond the model's own horizon a path goes on at its last velocity.
    """

    step_s: float = 0.5
    horizon_s: HorizonConfig = field(default_factory=HorizonConfig)


@dataclass(frozen=True)
class NeighbourConfig:
    """Which agents an agent sees: the nearest `count` within `radius_m`; 0 switches them off."""

    count: int = 8
    radius_m: float = 10.0


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    attention: the number of past encoder states the decoder attends over (0: none); window: the number of
    steps that window_mlp sees; basis: the rank of the space of futures; speed_floor_mps: paths are
    learned in units of sqrt(speed^2 + speed_floor_mps^2); place: the coordinate frame (frame_id) of the one
    place whose ways it learns, "" for none: where in it an agent is tells where people go from there. No two
    sites may share a frame_id then.
    """

    encoder: EncoderName = "lstm"
    hidden: int = 128
    modes: int = 20
    basis: int = 10
    class_embedding: int = 8
    attention: int = 0
    window: int = 8
    speed_floor_mps: float = 0.3
    place: str = ""
    neighbours: NeighbourConfig = field(default_factory=NeighbourConfig)


@dataclass(frozen=True)
class TrainingConfig:
    """The training run. Lengths in epochs, rates per step.

    min_steps: optimiser steps that a run has at least; where `epochs` are fewer, it has more epochs, since a
    small recording needs as many steps as a large one.
    history_dropout: share of training windows whose first observations are hidden, so that a
    track is predicted from its first observation on. carry_share: share of agents whose encoder begins with
    a state that somebody else's ended with: what it makes of a track shall not depend on how long ago that
    began. keep_every: of a history on a finer grid (Protocol.fine) every n-th observation is kept, n drawn
    for each moment from the first to the second of these, in proportion to itself.
    anneal_share: the share of the run over which winner-takes-all sharpens from soft (temperature
    anneal_from, in units of an agent's mean cost) to hard. noise_m: observed positions are blurred by up to
    this standard deviation, another one for each agent. bend_per_m: whole moments are bent, straight
    tracks to arcs of a random curvature of this standard deviation. reverse: every recording is also played
    backwards, for who is on foot: wheels brake harder than they set off. neighbour_dropout: share of agents
    from whom some neighbours are hidden, another part for each. tracker_dropout: share of moments in which
    the tracker gives positions alone, no velocity and no heading. endpoint_weight: of a path's last error,
    beside its mean one. coasting_weight: of the single path's distance to constant velocity, beside its
    error; where training tells little it goes straight on, and from 1 on always. threads: the matrices are
    small, so that two runs side by side gain more than two threads in one.
    """

    epochs: int = 30
    min_steps: int = 0
    batch_agents: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    anneal_from: float = 1.0
    anneal_share: float = 0.5
    classify_weight: float = 0.2
    spread_weight: float = 0.05
    endpoint_weight: float = 0.5
    coasting_weight: float = 0.0
    flip: bool = True
    scale_range: float = 0.2
    reverse: bool = False
    neighbour_dropout: float = 0.0
    tracker_dropout: float = 0.0
    noise_m: float = 0.0
    bend_per_m: float = 0.0
    history_dropout: float = 0.1
    carry_share: float = 0.0
    keep_every: tuple[int, int] = (1, 1)
    seed: int = 0
    threads: int = 1
    log: Literal["csv", "tensorboard"] = "csv"
