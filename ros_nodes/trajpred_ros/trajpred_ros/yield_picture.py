"""What a planner made of a cyclist who cuts in, with predictions and without, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from data_tools.simulate.record import Recording
from data_tools.simulate.world import EGO_PATH
from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.figures import (
    BLACK,
    BLUE,
    GREY,
    PAGE_WIDTH_IN,
    SMALL_PT,
    VERMILLION,
    check_suffix,
    legend,
    new_figure,
    save,
    style,
)
from trajpred.looks import LINES, draw_lanes
from trajpred.types import Float, Ids, Label, Prediction, Scene
from trajpred_ros.yielding import YieldConfig

CAR_M = (4.8, 1.9)  # of the ego, as drawn
CRUISE_MPS = 10.0
FINE_S = 0.01
BAND = "#CBE2F0"  # between the road and its lines; opaque, so that the legend has the same


@dataclass(frozen=True, slots=True, eq=False)
class CutIn:
    """The cyclist who first comes into the corridor of a car, which drives along a line from stamp 0 on.

    ego_path (P, 2) m. time_s (G,), xy (G, 2) m, yaw (G,) rad: the cyclist as it really was; size_m its length
    and width; enters_s: when its footprint first touches the corridor. track_ids: what the tracker called it.
    """

    recording: Recording
    ego_path: Float
    time_s: Float
    xy: Float
    yaw: Float
    size_m: tuple[float, float]
    enters_s: float
    track_ids: Ids

    @classmethod
    def of(cls, recording: Recording, half_width_m: float) -> CutIn:
        """Raises InputError where there is no line for the car, or no cyclist comes into its corridor."""
        lines = [line.points for line in recording.lanes.lines if line.kind == EGO_PATH]
        truth = recording.truth.scene
        found = [
            _ridden(truth, one, lines[0], half_width_m)
            for one in np.unique(truth.ids[truth.label == Label.BICYCLE])
            if lines
        ]
        entering = [ridden for ridden in found if np.isfinite(ridden[0])]
        if not entering:
            raise InputError(f"{truth.name}: no cyclist comes into the lane of a car")
        enters_s, one, time_s, xy, yaw, size_m = min(entering, key=lambda ridden: ridden[0])
        track_ids = np.unique(recording.tracks.ids[recording.truth.ids == one])
        return cls(recording, lines[0], time_s, xy, yaw, size_m, enters_s, track_ids)


def _ridden(truth: Scene, one: bytes, lane: Float, half_width_m: float) -> tuple[Any, ...]:
    """When a cyclist who was outside enters the corridor (inf: never), its id, and its way on a fine grid."""
    rows = np.flatnonzero(truth.ids == one)
    begin, end = truth.stamp_ns[rows[[0, -1]]] / NS_PER_S
    time_s = np.arange(begin, end, FINE_S)
    columns = (truth.xy[rows, 0], truth.xy[rows, 1], np.unwrap(truth.yaw[rows]))
    x, y, yaw = (np.interp(time_s, truth.stamp_ns[rows] / NS_PER_S, column) for column in columns)
    xy = np.stack([x, y], axis=1)
    length, width = truth.size[rows[0], :2].tolist()
    boxes = shapely.polygons([_box(at, way, (length, width)) for at, way in zip(xy, yaw, strict=True)])
    inside = shapely.distance(boxes, shapely.LineString(lane)) <= half_width_m
    comes = inside.any() and not inside[0]
    return time_s[inside.argmax()] if comes else np.inf, one, time_s, xy, yaw, (length, width)


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """The target speeds of a planner: time_s (P,) of the stamps, target_mps (P,)."""

    time_s: Float
    target_mps: Float

    def yields_s(self, enters_s: float) -> float:
        """Since when it asks for less than it drives, and keeps to it until the cyclist enters; inf: never.

        A yielding that was over before is a false alarm, and no time gained.
        """
        slow = self.target_mps < CRUISE_MPS - 1e-6
        found = np.flatnonzero(slow & (self.time_s >= enters_s))
        if not found.size:
            return np.inf
        at = int(found[0])
        while at and slow[at - 1]:
            at -= 1
        return float(self.time_s[at])


@dataclass(frozen=True, slots=True, eq=False)
class Yielding:
    """One scene: who drove how, and what was predicted of the cyclist when the told planner yielded."""

    scene: CutIn
    told: Drive
    blind: Drive
    prediction: Prediction

    @classmethod
    def of(cls, scene: CutIn, told: Drive, blind: Drive, predictions: Sequence[Prediction]) -> Yielding:
        """From what the nodes published."""
        yields_s = told.yields_s(scene.enters_s)
        moment = next(p for p in predictions if p.stamp_ns >= round(yields_s * NS_PER_S))
        return cls(scene, told, blind, moment.take(np.isin(moment.ids, scene.track_ids)))

    @property
    def gained_s(self) -> float:
        """How much earlier the planner yields that is told."""
        return self.blind.yields_s(self.scene.enters_s) - self.told.yields_s(self.scene.enters_s)

    @property
    def summary(self) -> str:
        """One line."""
        enters_s = self.scene.enters_s
        told_s, blind_s = self.told.yields_s(enters_s), self.blind.yields_s(enters_s)
        return (
            f"the cyclist enters the car's corridor at {enters_s:.1f} s; with predictions the car "
            f"yields at {told_s:.1f} s, without at {blind_s:.1f} s: {self.gained_s:.1f} s earlier"
        )


def draw_yielding(seen: Yielding, out: Path) -> None:
    """Write the picture: the street at the moment of yielding, and both target speeds. Raises InputError."""
    check_suffix(out)
    figure = new_figure(PAGE_WIDTH_IN, 4.6)
    street, speeds = figure.subplots(2, 1, height_ratios=[1, 1.2])
    known = _draw_street(street, seen)
    _draw_speeds(speeds, seen)
    legend(figure, known, columns=3)
    save(figure, out)


def _draw_street(axes: Any, seen: Yielding) -> dict[str, Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon

    scene, moment_s = seen.scene, seen.prediction.stamp_ns / NS_PER_S
    cyclist, lane = seen.prediction.xy[0], scene.ego_path
    style(axes, "x [m]", "y [m]", f"The street at {moment_s:.1f} s, when the car with predictions yields")
    draw_lanes(axes, scene.recording.lanes)
    corridor = shapely.LineString(lane).buffer(YieldConfig().half_width_m, cap_style="flat")
    band = axes.add_patch(
        Polygon(np.array(corridor.exterior.coords), facecolor=BAND, linewidth=0, zorder=0.5)
    )
    middle = Line2D([], [], color=LINES["bicycle_lane"][0], linewidth=0.8, linestyle="--")
    until_s = moment_s + seen.prediction.offset_s[-1]
    past = scene.xy[scene.time_s <= moment_s]
    later = scene.xy[(scene.time_s > moment_s) & (scene.time_s <= until_s)]
    (before,) = axes.plot(*past.T, color=BLACK, linewidth=1.2)
    (after,) = axes.plot(*later.T, color=VERMILLION, linewidth=1.2, linestyle=":", zorder=5)
    paths = None
    for path, share in zip(seen.prediction.paths[0], seen.prediction.probability[0], strict=True):
        points = np.concatenate([cyclist[None], path])
        (paths,) = axes.plot(*points.T, color=BLUE, linewidth=0.8 + 2.5 * share, alpha=0.35 + 0.65 * share)
    box = _box(cyclist, float(seen.prediction.heading[0]), scene.size_m)
    axes.add_patch(Polygon(box, closed=True, facecolor=BLACK))
    cyclist_now = Line2D([], [], color=BLACK, marker="s", markersize=5, linestyle="none")
    ego = shapely.LineString(lane).interpolate(CRUISE_MPS * moment_s)
    axes.add_patch(Polygon(_box(np.array([ego.x, ego.y]), 0.0, CAR_M), closed=True, facecolor=GREY))
    inside = {"ha": "center", "va": "center", "color": "white", "fontsize": SMALL_PT}
    axes.text(ego.x, ego.y, "the car", **inside)
    axes.set_aspect("equal")
    axes.set_xlim(ego.x - 6.0, cyclist[0] + 26.0)
    axes.set_ylim(lane[0, 1] - 5.5, lane[0, 1] + 4.5)
    return {
        "the cyclist now": cyclist_now,
        "where it came from": before,
        "its predicted paths": paths,
        "what then happened": after,
        "the car's corridor": band,
        "middle of the bicycle lane": middle,
    }


def _draw_speeds(axes: Any, seen: Yielding) -> None:
    style(axes, "time [s]", "target speed [m/s]", "Target speed of the planner")
    for drive, colour, name in ((seen.told, BLUE, "with predictions"), (seen.blind, GREY, "without")):
        axes.plot(drive.time_s, drive.target_mps, color=colour, linewidth=1.5, label=name)
        axes.axvline(drive.yields_s(seen.scene.enters_s), color=colour, linewidth=0.8, linestyle=":")
    axes.plot([], [], color=BLACK, linewidth=0.8, linestyle=":", label="when the car begins to yield")
    axes.axvline(
        seen.scene.enters_s, color=VERMILLION, linewidth=1.0, label="the cyclist enters the corridor"
    )
    told_s, blind_s = (drive.yields_s(seen.scene.enters_s) for drive in (seen.told, seen.blind))
    axes.set_xlim(max(0.0, told_s - 2.0), blind_s + 4.0)
    axes.set_ylim(0.0, CRUISE_MPS + 1.0)
    axes.legend(fontsize=SMALL_PT, frameon=False, loc="upper right")


def _box(centre: Float, heading: float, size: tuple[float, float]) -> Float:
    """(4, 2) corners."""
    ahead = np.array([np.cos(heading), np.sin(heading)]) * size[0] / 2
    left = np.array([-np.sin(heading), np.cos(heading)]) * size[1] / 2
    return np.array(
        [centre + ahead + left, centre + ahead - left, centre - ahead - left, centre - ahead + left]
    )
