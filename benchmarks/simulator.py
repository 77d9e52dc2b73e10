"""How simulated traffic compares with recorded traffic, and how fast it is simulated.

    TRAJPRED_DATA=... python benchmarks/simulator.py

Speed, acceleration, yaw rates, gaps to the one ahead and unsteadiness, by class, as one figure
(docs/pictures/simulator.png), as quantiles (benchmarks/results/simulator.json), and the widest of these in
docs/model_card.md. Both sides are measured in the same way: tracks as reported, noise included, on a grid of
0.4 s; yaw rates from courses, above 1 m/s. Unsteadiness is how far 3.2 s of a moving track are off a
parabola, by swaying or by errors of the tracker. Recordings of val, or those that have no splits: nothing of
test is looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pages import fill_card, table

from data_tools.catalog import open_data
from data_tools.simulate.layouts import LAYOUTS
from data_tools.simulate.traffic import WARM_UP_S, truth
from trajpred.figures import BLACK, BLUE, PAGE_WIDTH_IN, entries, legend, new_figure, save, style
from trajpred.types import Bool, Float, Label, Scene
from trajpred.windows import on_grid

ROOT = Path(__file__).parents[1]
STEP_NS = 400_000_000
GAP_MAX_NS = 500_000_000
MOVES_MPS = 1.0
UNSTEADY_POINTS = 9
CLASSES = {
    "cyclists": ((Label.BICYCLE,), ("vru:val", "sdd:val", "kitti", "womd")),
    "vehicles": ((Label.CAR, Label.TRUCK, Label.BUS), ("kitti", "womd")),
    "pedestrians": ((Label.PEDESTRIAN,), ("eth_ucy:zara1:val", "sdd:val", "kitti", "womd")),
}
MEASURES = {
    "speed_mps": ("speed, m/s", np.arange(0.0, 18.1, 0.5)),
    "acceleration_mps2": ("acceleration, m/s²", np.arange(-4.0, 4.01, 0.2)),
    "yaw_rate_rps": ("yaw rate, rad/s", np.arange(-1.2, 1.21, 0.06)),
    "headway_s": ("headway, s", np.arange(0.0, 8.1, 0.4)),
    "unsteady_m": ("off a parabola, m", np.arange(0.0, 0.61, 0.02)),
}


class Moves(NamedTuple):
    """What is compared: (S,) of each measure, any number."""

    speed_mps: Float
    acceleration_mps2: Float
    yaw_rate_rps: Float
    headway_s: Float
    unsteady_m: Float


def moves(scene: Scene, labels: tuple[Label, ...]) -> Moves:
    """Of all tracks of some classes; headways to whoever goes the same way, within 1.5 m to the side."""
    grid = on_grid(scene, STEP_NS, together=True, gap_max_ns=GAP_MAX_NS)
    step_s = STEP_NS * 1e-9
    order = np.lexsort((grid.stamp_ns, grid.ids))
    ids, stamp, xy, label = (a[order] for a in (grid.ids, grid.stamp_ns, grid.xy, grid.label))
    follows = (ids[1:] == ids[:-1]) & (np.diff(stamp) == STEP_NS)
    step = np.diff(xy, axis=0)
    speed, course = np.hypot(*step.T) / step_s, np.arctan2(step[:, 1], step[:, 0])
    mine = np.isin(label[1:], labels)
    twice = follows[1:] & follows[:-1] & mine[1:]
    quick = twice & (np.minimum(speed[1:], speed[:-1]) > MOVES_MPS)
    turned = np.angle(np.exp(1j * np.diff(course)))
    headway = _headways(stamp[1:][follows], xy[1:][follows], speed[follows], course[follows], mine[follows])
    return Moves(
        speed[follows & mine],
        np.diff(speed)[twice] / step_s,
        turned[quick] / step_s,
        headway,
        _unsteady(xy, follows & mine),
    )


def _unsteady(xy: Float, follows: Bool) -> Float:
    """(U,) m, standard deviation of a coordinate about the parabola that fits UNSTEADY_POINTS best."""
    points = UNSTEADY_POINTS
    whole = sliding_window_view(follows, points - 1).all(axis=1)
    found = sliding_window_view(xy, points, axis=0)[whole][:: points // 2]  # (U, 2, points)
    quick = np.hypot(*(found[..., -1] - found[..., 0]).T) > MOVES_MPS * (points - 1) * STEP_NS * 1e-9
    powers = np.vander(np.linspace(-1.0, 1.0, points), 3)
    off = found[quick] @ (np.eye(points) - powers @ np.linalg.pinv(powers))
    return np.asarray(np.sqrt((off**2).sum(axis=(1, 2)) / (2 * (points - 3))))


def _headways(stamp: Float, xy: Float, speed: Float, course: Float, mine: Float) -> Float:
    """(H,) s: from middle to middle, at one's own speed."""
    found = []
    order = np.argsort(stamp, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(stamp[order])) + 1):
        rows = rows[speed[rows] > MOVES_MPS]
        ahead = xy[rows][None] - xy[rows][:, None]
        c, s = np.cos(course[rows])[:, None], np.sin(course[rows])[:, None]
        along, aside = ahead[..., 0] * c + ahead[..., 1] * s, ahead[..., 1] * c - ahead[..., 0] * s
        alike = np.cos(course[rows][None] - course[rows][:, None]) > 0.9
        seconds = np.where(alike & (along > 0.5) & (np.abs(aside) < 1.5), along, np.inf).min(
            axis=1, initial=np.inf
        )
        seconds /= speed[rows]
        found.append(seconds[mine[rows] & np.isfinite(seconds)])
    return np.concatenate(found) if found else np.zeros(0)


def pooled(names: tuple[str, ...], labels: tuple[Label, ...]) -> Moves:
    """Of all scenes of some data."""
    parts = [moves(scene, labels) for name in names for scene in open_data(name).scenes if len(scene)]
    return Moves(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def throughput(seconds: float = 60.0) -> dict[str, float]:
    """Agent-seconds per second of each scenario, on one core, warming up and building the place included."""
    found = {}
    for name, layout in LAYOUTS.items():
        truth(layout(np.random.default_rng(0)), 1.0, 10.0, np.random.default_rng(0))  # compiles
        begun, rng = time.perf_counter(), np.random.default_rng(1)
        scene = truth(layout(rng), seconds, 10.0, rng)
        found[name] = len(scene) / 10.0 * (1.0 + WARM_UP_S / seconds) / (time.perf_counter() - begun)
    return found


def quantiles(values: Float) -> dict[str, float]:
    """n, and quantiles."""
    wanted = (0.01, 0.1, 0.5, 0.9, 0.99)
    found = np.quantile(values, wanted) if len(values) else np.zeros(len(wanted))
    return {"n": len(values), **{f"q{q:g}": round(float(v), 3) for q, v in zip(wanted, found, strict=True)}}


def widths(found: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown: how wide either side's distributions are, by class."""
    shown = {"q0.5": ("speed_mps", "headway_s"), "q0.9": tuple(MEASURES), "q0.99": tuple(MEASURES)}
    lines = []
    for name, sides in found.items():
        for q, measures in shown.items():
            cells = (
                " / ".join(f"{sides[side][measure][q]:.2f}" for side in ("recorded", "simulated"))
                if measure in measures
                else ""
                for measure in MEASURES
            )
            lines.append([f"{name}, {100 * float(q[1:]):.0f} % are below", *cells])
    return table(["recorded / simulated", *(words for words, _ in MEASURES.values())], lines)


def draw(compared: dict[str, tuple[Moves, Moves]], out: Path) -> None:
    """A row for each class, a column for each measure."""
    figure = new_figure(PAGE_WIDTH_IN, 2.0 * len(compared))
    panels = figure.subplots(len(compared), len(MEASURES), squeeze=False)
    for row, (name, (real, made)) in zip(panels, compared.items(), strict=True):
        for axes, (measure, (words, bins)) in zip(row, MEASURES.items(), strict=True):
            for values, colour, dashes, label in (
                (getattr(real, measure), BLACK, (), "recorded"),
                (getattr(made, measure), BLUE, (3, 1.5), "simulated"),
            ):
                share, _ = np.histogram(np.clip(values, bins[0], bins[-1]), bins)
                heights = np.append(share, share[-1]) / max(share.sum(), 1)
                axes.plot(
                    bins, heights, color=colour, dashes=dashes, drawstyle="steps-post", lw=1.1, label=label
                )
            axes.set_yscale("log")
            axes.set_ylim(1e-4, 1.0)
            style(axes, words, "share" if axes is row[0] else "", name if axes is row[0] else "")
    legend(figure, entries(panels[0, 0]), 2)
    save(figure, out)


def main() -> None:
    """Compare, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/simulator.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/pictures/simulator.png")
    given = parser.parse_args()
    compared = {
        name: (pooled(recorded, labels), pooled(("simulated:val",), labels))
        for name, (labels, recorded) in CLASSES.items()
    }
    result: dict[str, dict[str, Any]] = {
        "agent_seconds_per_second": throughput(),
        "quantiles": {
            name: {
                side: {measure: quantiles(getattr(values, measure)) for measure in MEASURES}
                for side, values in zip(("recorded", "simulated"), both, strict=True)
            }
            for name, both in compared.items()
        },
    }
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    fill_card({"traffic": widths(result["quantiles"])})
    draw(compared, given.picture)
    print(f"{given.json}\n{given.picture}")


if __name__ == "__main__":
    main()
