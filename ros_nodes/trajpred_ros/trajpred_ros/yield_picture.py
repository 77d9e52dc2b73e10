"""What a planner made of a cyclist that drifts into its lane, with predictions and without, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.drift_scene import CYCLIST, EGO_SPEED_MPS, LANE_WIDTH_M, LANE_Y_M, SIZE_M, DriftScene
from trajpred.config import NS_PER_S
from trajpred.figures import (
    BLACK,
    BLUE,
    GREY,
    PAGE_WIDTH_IN,
    PALE,
    SKY,
    SMALL_PT,
    VERMILLION,
    check_suffix,
    legend,
    new_figure,
    save,
    style,
)
from trajpred.types import Float, Label, Prediction
from trajpred_ros.yielding import YieldConfig

CAR_M = (4.8, 1.9)  # of the ego, as drawn


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """The target speeds of a planner: time_s (P,) of the stamps, target_mps (P,)."""

    time_s: Float
    target_mps: Float

    @property
    def yields_s(self) -> float:
        """When it first asks for less than it drives."""
        return float(self.time_s[np.argmax(self.target_mps < EGO_SPEED_MPS - 1e-6)])


@dataclass(frozen=True, slots=True, eq=False)
class Yielding:
    """One scene: who drove how, and what was predicted of the cyclist when the told planner yielded."""

    scene: DriftScene
    told: Drive
    blind: Drive
    enters_s: float
    prediction: Prediction

    @classmethod
    def of(cls, scene: DriftScene, told: Drive, blind: Drive, predictions: Sequence[Prediction]) -> Yielding:
        """From what the nodes published."""
        moment = next(p for p in predictions if p.stamp_ns >= round(told.yields_s * NS_PER_S))
        enters_s = scene.enters_ns(YieldConfig().half_width_m) / NS_PER_S
        return cls(scene, told, blind, enters_s, moment.take(moment.ids == CYCLIST))

    @property
    def summary(self) -> str:
        """One line."""
        earlier_s = self.blind.yields_s - self.told.yields_s
        return (
            f"the cyclist enters the car's corridor at {self.enters_s:.1f} s; with predictions the car "
            f"yields at {self.told.yields_s:.1f} s, without at {self.blind.yields_s:.1f} s: "
            f"{earlier_s:.1f} s earlier"
        )


def draw_yielding(seen: Yielding, out: Path) -> None:
    """Write the picture: the street at the moment of yielding, and both target speeds. Raises InputError."""
    check_suffix(out)
    figure = new_figure(PAGE_WIDTH_IN, 4.4)
    street, speeds = figure.subplots(2, 1, height_ratios=[1, 1.2])
    known = _draw_street(street, seen)
    _draw_speeds(speeds, seen)
    legend(figure, known, columns=4)
    save(figure, out)


def _draw_street(axes: Any, seen: Yielding) -> dict[str, Any]:
    from matplotlib.patches import Polygon

    moment_s = seen.prediction.stamp_ns / NS_PER_S
    ego_x = EGO_SPEED_MPS * moment_s
    cyclist = seen.prediction.xy[0]
    style(axes, "x [m]", "y [m]", f"The street at {moment_s:.1f} s, when the car with predictions yields")
    half = YieldConfig().half_width_m
    axes.axhspan(LANE_Y_M - half, LANE_Y_M + half, color=SKY, alpha=0.15, linewidth=0)
    for edge in (-LANE_WIDTH_M, 0.0, LANE_WIDTH_M):
        axes.axhline(edge, color=PALE, linewidth=1.0, linestyle="--" if edge == 0 else "-")
    stamp_s = seen.scene.stamp_ns / NS_PER_S
    past = seen.scene.cyclist_xy[stamp_s <= moment_s]
    later = seen.scene.cyclist_xy[(stamp_s > moment_s) & (stamp_s <= moment_s + seen.prediction.offset_s[-1])]
    (before,) = axes.plot(*past.T, color=BLACK, linewidth=1.2)
    (after,) = axes.plot(*later.T, color=VERMILLION, linewidth=1.2, linestyle=":", zorder=5)
    paths = None
    for path, share in zip(seen.prediction.paths[0], seen.prediction.probability[0], strict=True):
        points = np.concatenate([cyclist[None], path])
        (paths,) = axes.plot(*points.T, color=BLUE, linewidth=0.8 + 2.5 * share, alpha=0.35 + 0.65 * share)
    length, width, _ = SIZE_M[Label.BICYCLE]
    box = _box(cyclist, float(seen.prediction.heading[0]), (length, width))
    axes.add_patch(Polygon(box, closed=True, facecolor=BLACK))
    axes.add_patch(Polygon(_box(np.array([ego_x, LANE_Y_M]), 0.0, CAR_M), closed=True, facecolor=GREY))
    inside = {"ha": "center", "va": "center", "color": "white", "fontsize": SMALL_PT}
    axes.text(ego_x, LANE_Y_M, "the car", **inside)
    axes.set_aspect("equal")
    axes.set_xlim(ego_x - 6.0, cyclist[0] + 24.0)
    axes.set_ylim(-7.0, 2.5)
    return {
        "cyclist so far": before,
        "its predicted paths": paths,
        "what then happened": after,
    }


def _draw_speeds(axes: Any, seen: Yielding) -> None:
    style(axes, "time [s]", "target speed [m/s]", "Target speed of the planner")
    for drive, colour, name in ((seen.told, BLUE, "with predictions"), (seen.blind, GREY, "without")):
        axes.plot(drive.time_s, drive.target_mps, color=colour, linewidth=1.5, label=name)
        axes.axvline(drive.yields_s, color=colour, linewidth=0.8, linestyle=":")
    axes.axvline(seen.enters_s, color=VERMILLION, linewidth=1.0, label="the cyclist enters the corridor")
    axes.set_xlim(max(0.0, seen.told.yields_s - 2.0), seen.blind.yields_s + 4.0)
    axes.set_ylim(0.0, EGO_SPEED_MPS + 1.0)
    axes.legend(fontsize=SMALL_PT, frameon=False, loc="lower left")


def _box(centre: Float, heading: float, size: tuple[float, float]) -> Float:
    """(4, 2) corners."""
    ahead = np.array([np.cos(heading), np.sin(heading)]) * size[0] / 2
    left = np.array([-np.sin(heading), np.cos(heading)]) * size[1] / 2
    return np.array(
        [centre + ahead + left, centre + ahead - left, centre - ahead - left, centre - ahead + left]
    )
