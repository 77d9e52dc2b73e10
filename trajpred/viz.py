"""Pictures of predictions, of the ablation of encoders and of calibration."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trajpred.calibration import expected_calibration_error
from trajpred.errors import InputError
from trajpred.figures import (
    BLACK,
    BLUE,
    GREY,
    LARGE_PT,
    PAGE_WIDTH_IN,
    PALE,
    SKY,
    SMALL_PT,
    VERMILLION,
    check_suffix,
    entries,
    legend,
    new_figure,
    save,
    style,
)
from trajpred.geometry import rotate
from trajpred.lanes import Lanes
from trajpred.looks import draw_lanes, name_of, outlines, share_of_top, shorten
from trajpred.types import Float

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OBSERVED, _NOW, _TOP, _REST, _TRUTH, _OTHERS = _LEGEND = (
    "observed so far",
    "the agent now",
    "most probable path",
    "other paths, wider if more probable",
    "what then happened",
    "other agents",
)

_HIGHLIGHT = "lstm"
_OTHER_COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_OTHER_MARKERS = ("s", "^", "v", "D", "X", "P")
_ROW_KEYS = frozenset({"min_ade", "ade_single", "parameters", "by_history", "gradient"})
_SMALLEST_GRADIENT = 1e-8  # of the gradient at the last step; what vanishes below is not drawn


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One agent at one moment: what was seen, what was predicted and, where known, what then happened.

    Positions in m in one fixed frame. name: what the panel is called; label: a trajpred.types.Label;
    history (H, 2), H >= 1, the last row is the position now; truth (S, 2), None where the future is
    not known; paths (K, S, 2); probability (K,); heading rad; size (2,) length and width in m, None
    where unknown; others: the history (h, 2) of each neighbour; others_now (n, 2): where the
    neighbours are, None for the last row of each history; others_outline: the corners (c, 2) of each
    footprint that is known.

    Raises InputError if shapes disagree or a value is not finite.
    """

    name: str
    label: int
    history: Float
    truth: Float | None
    paths: Float
    probability: Float
    heading: float
    size: Float | None
    others: Sequence[Float]
    others_now: Float | None = None
    others_outline: Sequence[Float] = ()

    def __post_init__(self) -> None:
        if self.paths.ndim != 3 or 0 in self.paths.shape or self.paths.shape[2] != 2:
            raise InputError(
                f"Case {self.name}: paths has shape {self.paths.shape}, expected (K > 0, S > 0, 2)"
            )
        modes, steps, _ = self.paths.shape
        expected: dict[str, tuple[int, ...]] = {
            "history": (max(len(self.history), 1), 2),
            "truth": (steps, 2),
            "probability": (modes,),
            "size": (2,),
        }
        for field, shape in expected.items():
            value = getattr(self, field)
            if value is not None and value.shape != shape:
                raise InputError(f"Case {self.name}: {field} has shape {value.shape}, expected {shape}")
        for field in ("paths", *expected):
            value = getattr(self, field)
            if value is not None and not np.isfinite(value).all():
                raise InputError(f"Case {self.name}: {field} is not finite")


def draw_predictions(
    cases: Sequence[Case], out: Path, title: str, columns: int = 3, lanes: Lanes | None = None
) -> None:
    """A grid with one panel per case, in m from where its agent is now, axes parallel to the frame's.

    Args:
        cases: one per panel, row by row.
        out: file to write, png, svg or pdf by its suffix, in place of what is there.
        title: over the whole figure.
        columns: panels beside each other; three fill the width of a page.
        lanes: the road, in the frame of the cases.

    Raises:
        InputError: no case, no column, or a file that cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix(out)
    save(_predictions_figure(cases, title, columns, lanes), out)


def draw_ablation(rows: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Encoders side by side: their error, their error with little history, and how far back they learn.

    Args:
        rows: by name of the encoder: min_ade and ade_single in m; spread, if it is known: the standard
            deviation of either over seeds; parameters, a count; by_history with observations (H,) and
            min_ade (H,) in m; gradient with steps_back (T,), 0 for the last step, and norm (T,), in any
            unit: it is drawn relative to that of step 0. Other keys are not looked at. An encoder called
            lstm is set off, and the errors of the others are compared with its own.
        out: file to write, png, svg or pdf by its suffix, in place of what is there.

    Raises:
        InputError: no row, a row that lacks a key or whose last step has no gradient, or a file that
            cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix(out)
    save(_ablation_figure(rows), out)


def draw_reliability(panels: Mapping[str, Sequence[Mapping[str, float]]], out: Path) -> None:
    """How often a path of some probability came closest, and how many paths had that probability.

    Args:
        panels: title -> bins as trajpred.calibration.reliability_bins makes them, `reliability` of a summary;
            drawn side by side.
        out: file to write, png, svg or pdf by its suffix, in place of what is there.

    Raises:
        InputError: no bin, or a file that cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_suffix(out)
    save(_reliability_figure(panels), out)


def _predictions_figure(
    cases: Sequence[Case], title: str, columns: int, lanes: Lanes | None = None
) -> Figure:
    if not cases:
        raise InputError("no case to draw")
    if columns < 1:
        raise InputError(f"columns is {columns}: a grid has at least one")
    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    panel_in = {1: 4.2, 2: 3.2}.get(columns, PAGE_WIDTH_IN / 3)
    # 9.5 characters of the large bold font, and 14 of the small one, take an inch
    heading = textwrap.wrap(title, int(columns * panel_in * 9.5), max_lines=2, placeholder=" …")
    height_in = rows * (panel_in + 0.42) + 0.6 + 0.17 * len(heading)
    figure = new_figure(columns * panel_in, height_in)
    figure.suptitle("\n".join(heading), fontsize=LARGE_PT, fontweight="bold", parse_math=False)
    found: dict[str, Artist] = {}
    for index, case in enumerate(cases):
        axes = figure.add_subplot(rows, columns, index + 1)
        style(
            axes,
            x="x from the agent [m]" if index + columns >= len(cases) else "",
            y="y from the agent [m]" if index % columns == 0 else "",
        )
        if lanes is not None:
            draw_lanes(axes, lanes, origin=case.history[-1])
        _draw_case(axes, case)
        caption = _caption(case, int((panel_in - 0.3) * 14))
        axes.set_title(caption, fontsize=SMALL_PT, parse_math=False)
        found |= entries(axes)
    ordered = {label: found[label] for label in _LEGEND if label in found}
    legend(figure, ordered, columns=3 if columns > 1 else 2)
    return figure


def _caption(case: Case, characters: int) -> str:
    """Its name, its class, and the mean distance to the truth of the most probable and closest path."""
    who = f"{shorten(case.name, characters)}\n{name_of(case.label)}"
    if case.truth is None:
        return f"{who}\nfuture not known"
    ade = np.hypot(*np.moveaxis(case.paths - case.truth, -1, 0)).mean(axis=1)
    top = f"{who}\nADE {ade[case.probability.argmax()]:.2f} m"
    return top if len(ade) == 1 else f"{top}, best of {len(ade)}: {ade.min():.2f} m"


def _draw_case(axes: Axes, case: Case) -> None:
    now = case.history[-1]
    history = case.history - now
    paths = np.insert(case.paths - now, 0, 0.0, axis=1)  # lines leave from the agent
    shown = [history, paths.reshape(-1, 2)]
    _draw_others(axes, case, now)
    _draw_paths(axes, paths, case.probability)
    if case.truth is not None:
        truth = np.insert(case.truth - now, 0, 0.0, axis=0)
        shown.append(truth)
        axes.plot(*truth.T, "--", color=VERMILLION, linewidth=1.6, zorder=5, label=_TRUTH)
        axes.plot(*truth[-1], "X", color=VERMILLION, markersize=6, markeredgecolor="white", zorder=5)
    axes.plot(*history.T, ".-", color=BLACK, linewidth=1.2, markersize=4, zorder=6, label=_OBSERVED)
    _draw_agent(axes, case)
    _set_limits(axes, np.concatenate(shown))


def _draw_others(axes: Axes, case: Case, now: Float) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    lines = [np.asarray(other, np.float64) - now for other in case.others if len(other)]
    ends = np.array([line[-1] for line in lines]).reshape(-1, 2)
    if case.others_now is not None:
        ends = np.asarray(case.others_now, np.float64) - now
    axes.add_collection(LineCollection(lines, colors=PALE, linewidths=1.2, zorder=2))
    shapes = [outline - now for outline in case.others_outline]
    if shapes:
        footprints = PolyCollection(shapes, facecolors=(PALE, 0.5), edgecolors=GREY, zorder=2)
        footprints.set_linewidth(0.6)
        axes.add_collection(footprints)
    if len(ends):
        axes.plot(*ends.T, "o", color=PALE, markersize=4, zorder=2)
        axes.plot([], [], "o-", color=PALE, linewidth=1.2, markersize=4, label=_OTHERS)


def _draw_paths(axes: Axes, paths: Float, probability: Float) -> None:
    """(K, S, 2) paths, the most probable one set off, the others wider and denser with probability."""
    from matplotlib.collections import LineCollection

    order = np.argsort(-probability, kind="stable")[::-1]  # ends with the first of the most probable
    rest, top = order[:-1], order[-1]
    if len(rest):
        share = share_of_top(probability)[rest]
        colours = [(SKY, alpha) for alpha in 0.35 + 0.6 * share]
        lines = LineCollection(
            list(paths[rest]), colors=colours, linewidths=0.6 + 1.6 * share, capstyle="round", zorder=3
        )
        axes.add_collection(lines)
        x, y = paths[rest, -1].T
        axes.scatter(x, y, s=2 + 10 * share, c=colours, linewidths=0, zorder=3)
        axes.plot([], [], color=SKY, linewidth=1.6, label=_REST)
    axes.plot(*paths[top].T, color=BLUE, linewidth=2.4, zorder=4, label=_TOP)
    axes.plot(*paths[top, -1], "o", color=BLUE, markersize=5, zorder=4)


def _draw_agent(axes: Axes, case: Case) -> None:
    """Its outline to scale where the size is known, and an arrowhead that is seen at any scale."""
    if case.size is not None:
        (corners,) = outlines([(0.0, 0.0)], [case.heading], [case.size])
        axes.fill(*corners.T, facecolor="#00000020", edgecolor=BLACK, linewidth=0.7, zorder=5)
    arrowhead = rotate([[1.0, 0.0], [-0.8, 0.7], [-0.4, 0.0], [-0.8, -0.7]], case.heading)
    axes.plot(
        [0.0],
        [0.0],
        linestyle="none",
        marker=np.vstack([arrowhead, arrowhead[:1]]),
        markersize=9,
        color=BLACK,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=7,
        label=_NOW,
    )


def _set_limits(axes: Axes, points: Float) -> None:
    """Square limits round (N, 2) points: a metre is as long in x as in y, and panels are equal."""
    from matplotlib.ticker import MaxNLocator

    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, max(float((high - low).max()) * 0.58, 1.0)
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _ablation_figure(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    if not rows:
        raise InputError("no encoder to draw")
    for name, row in rows.items():
        missing = sorted(_ROW_KEYS - row.keys())
        if missing:
            raise InputError(f"encoder {name}: {', '.join(missing)} missing")
    figure = new_figure(PAGE_WIDTH_IN, 6.2)
    bars, history, gradient = figure.subplot_mosaic(
        [["bars", "bars"], ["history", "gradient"]], height_ratios=[1, 1.15]
    ).values()
    styles = _encoder_styles(rows)
    _draw_errors(bars, rows, {name: style["color"] for name, style in styles.items()})
    _draw_by_history(history, rows, styles)
    _draw_gradients(gradient, rows, styles)
    legend(figure, entries(history), columns=6)
    return figure


def _encoder_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How the line of each encoder looks: the highlighted one always the same, the others in turn.

    The highlighted line is broad and lies below, so that it hides no other.
    """
    turns = zip(cycle(_OTHER_COLOURS), cycle(_OTHER_MARKERS), strict=False)
    thin, broad = {"linewidth": 1.2, "markersize": 4.5}, {"linewidth": 3.2, "markersize": 7.5}
    styles: dict[str, dict[str, Any]] = {}
    for name in names:
        if name == _HIGHLIGHT:
            styles[name] = {"color": BLUE, "marker": "o", "zorder": 2.5, **broad}
        else:
            colour, marker = next(turns)
            styles[name] = {"color": colour, "marker": marker, "zorder": 3, **thin}
    return styles


def _draw_errors(axes: Axes, rows: Mapping[str, Mapping[str, Any]], colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    style(axes, x="", y="error [m]", title="Error by encoder")
    kinds = {"min_ade": ("best of K paths (minADE)", 1.0), "ade_single": ("single path (ADE)", 0.4)}
    at, compared = np.arange(len(rows)), []
    for side, (key, (_, alpha)) in zip((-0.2, 0.2), kinds.items(), strict=True):
        error = np.array([row[key] for row in rows.values()], np.float64)
        spread = [row.get("spread", {}).get(key) or np.nan for row in rows.values()]
        drawn = axes.bar(
            at + side, error, 0.38, yerr=spread, ecolor=BLACK, color=[(colours[name], alpha) for name in rows]
        )
        captions = [f"{value:.3f}" for value in error]
        if _HIGHLIGHT in rows:
            reference = float(rows[_HIGHLIGHT][key])
            axes.axhline(reference, color=BLUE, linewidth=0.9, linestyle=":", zorder=0.9)
            compared = [
                Line2D([], [], color=BLUE, linewidth=0.9, linestyle=":", label=f"that of {_HIGHLIGHT}")
            ]
            captions = [
                caption if name == _HIGHLIGHT else f"{caption}\n{value / reference - 1:+.0%}"
                for name, caption, value in zip(rows, captions, error, strict=True)
            ]
        on_paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # no line goes through a number
        axes.bar_label(drawn, captions, fontsize=SMALL_PT, padding=1, bbox=on_paper)
    axes.margins(x=0.01, y=0.2)
    axes.grid(visible=False, axis="x")
    room = 90 // len(rows)
    names = [f"{shorten(name, room)}\n{row['parameters']:,}\nweights" for name, row in rows.items()]
    axes.set_xticks(at, names)
    axes.legend(
        handles=[
            *(Patch(color=(BLACK, 0.6 * alpha), lw=0, label=label) for label, alpha in kinds.values()),
            *compared,
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 0.99),
        ncols=3,
        fontsize=SMALL_PT,
        frameon=False,
    )


def _draw_by_history(
    axes: Axes, rows: Mapping[str, Mapping[str, Any]], styles: Mapping[str, dict[str, Any]]
) -> None:
    from matplotlib.ticker import MaxNLocator

    style(axes, x="observations so far [count]", y="minADE [m]", title="Error with little history")
    for name, row in rows.items():
        curve = row["by_history"]
        axes.plot(curve["observations"], curve["min_ade"], label=shorten(name, 24), **styles[name])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_gradients(
    axes: Axes, rows: Mapping[str, Mapping[str, Any]], styles: Mapping[str, dict[str, Any]]
) -> None:
    from matplotlib.ticker import MaxNLocator

    style(
        axes,
        x="time before the last observation [steps]",
        y="gradient norm [1 = last step]",
        title="Gradient that reaches the past",
    )
    for name, row in rows.items():
        steps_back = np.asarray(row["gradient"]["steps_back"])
        norm = np.asarray(row["gradient"]["norm"], np.float64)
        last = norm[steps_back == 0]
        if last.shape != (1,) or not last[0] > 0.0:
            raise InputError(f"encoder {name}: gradient needs one norm above 0 at steps_back 0")
        shown = norm >= last * _SMALLEST_GRADIENT
        axes.plot(steps_back[shown], norm[shown] / last, **styles[name])
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _reliability_figure(panels: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    if not panels or not all(panels.values()):
        raise InputError("no reliability bin to draw")
    figure = new_figure(4.2 * len(panels), 5.6, compress=True)
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", height_ratios=[3.6, 1], squeeze=False)
    for (title, bins), diagram, histogram in zip(panels.items(), *grid, strict=True):
        _draw_reliability(diagram, histogram, title, bins)
    grid[0, 0].set_ylabel("share that came closest [–]")
    grid[1, 0].set_ylabel("paths [count]")
    legend(figure, entries(grid[0, 0]), columns=3)
    return figure


def _draw_reliability(
    diagram: Axes, histogram: Axes, title: str, bins: Sequence[Mapping[str, float]]
) -> None:
    keys = ("low", "high", "count", "mean_probability", "frequency")
    low, high, count, predicted, observed = np.array([[each[key] for key in keys] for each in bins]).T
    error = expected_calibration_error(np.stack([count, count * predicted, count * observed], axis=1))
    style(diagram, x="", y="", title=f"{title}\nexpected calibration error {error:.3f}")
    diagram.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
    diagram.vlines(predicted, predicted, observed, color=VERMILLION, linewidth=2, label="gap")
    diagram.plot(
        predicted, observed, "o-", color=BLUE, linewidth=1.6, markersize=5, clip_on=False, label="found"
    )
    diagram.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    style(histogram, x="probability of a path [–]", y="")
    histogram.bar(low, count, high - low, align="edge", color=SKY, edgecolor="white")
    histogram.set_yscale("log")
    histogram.set_ylim(bottom=0.5)  # so that a bin with a single path has a bar
