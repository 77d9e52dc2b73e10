"""A recording as an animated picture: agents with their history, predicted paths and what then came."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.evaluate import Answers
from trajpred.figures import (
    BLACK,
    BLUE,
    LARGE_PT,
    PAGE_WIDTH_IN,
    SKY,
    VERMILLION,
    entries,
    legend,
    new_figure,
    style,
)
from trajpred.geometry import rotate
from trajpred.lanes import Lanes
from trajpred.looks import (
    AREAS,
    GREEN,
    LINES,
    LOOKS,
    ORANGE,
    OTHER_AREA,
    PURPLE,
    draw_lanes,
    name_of,
    outlines,
    share_of_top,
    shorten,
)
from trajpred.moments import Moment, moments, ticks_between
from trajpred.progress import bar
from trajpred.types import Float, Int, Label, Scene

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILM_SUFFIXES = (".gif", ".mp4")
DPI = 100
LENGTH_S = 20.0
"""How much of a recording is shown, unless more is asked for."""
FPS_MAX = 50.0
"""Viewers show faster GIFs slowly."""
PICTURES_MAX = 3000
"""A GIF of more would hardly open anywhere."""
_MARGIN_M = 4.0
_ASPECT = (0.3, 0.8)
_BESIDE_IN, _ABOVE_IN, _ENTRY_IN = 0.65, 0.85, 0.17
"""The room for the labels of the map beside it, above and below it, and for a line of the legend."""
_COLUMNS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Which ticks of a recording become pictures, and what is the same in all of them.

    ticks (M,) numbers of the scene's distinct stamps, ascending, and for how many pictures each is
    shown (M,), at fps pictures per second; start_ns: the stamp that time is counted from; labels: the
    classes that occur; low (2,) and high (2,) m: what is seen of the map.
    """

    ticks: Int
    shown: Int
    fps: float
    start_ns: int
    labels: tuple[Label, ...]
    low: Float
    high: Float

    @classmethod
    def of(cls, scene: Scene, from_s: float = 0.0, to_s: float | None = None, fps: float = 10.0) -> Film:
        """The seconds from from_s to to_s of a scene, counted from its start, at its own speed.

        to_s: None for at most LENGTH_S after from_s. A picture shows the last tick before its time; there
        are not more pictures than ticks, and at most fps per second. Raises InputError for seconds that
        the scene does not have, for fps that are not above 0 and at most FPS_MAX, and for more than
        PICTURES_MAX pictures.
        """
        if not 0 < fps <= FPS_MAX:
            raise InputError(f"fps is {fps:g}: pictures per second are above 0 and at most {FPS_MAX:g}")
        ticks = ticks_between(scene, from_s, from_s + LENGTH_S if to_s is None else to_s)
        stamps = np.unique(scene.stamp_ns)
        since_s = (stamps[ticks] - stamps[0]) / NS_PER_S
        if len(ticks) > 1:
            fps = min(fps, 1.0 / float(np.median(np.diff(since_s))))
        # a thousandth: stamps are rarely on the grid to the nanosecond
        count = int((since_s[-1] - since_s[0]) * fps + 1e-3) + 1
        if count > PICTURES_MAX:
            raise InputError(
                f"{count} pictures are more than {PICTURES_MAX}: fewer seconds, or fewer of them per second"
            )
        times_s = since_s[0] + np.arange(count) / fps + 1e-3
        last, shown = np.unique(np.searchsorted(since_s, times_s, "right") - 1, return_counts=True)
        ticks = ticks[last]
        seen = (scene.stamp_ns >= stamps[ticks[0]]) & (scene.stamp_ns <= stamps[ticks[-1]])
        low, high = _limits(scene.xy[seen])
        labels = tuple(Label(label) for label in np.unique(scene.label[seen]).tolist())
        return cls(ticks, shown, fps, int(stamps[0]), labels, low, high)


def draw_film(
    predictor: Answers, scene: Scene, film: Film, out: Path, title: str, lanes: Lanes | None = None
) -> None:
    """Play a scene through a predictor and draw it, tick by tick, as .gif or .mp4; a bar shows how far it is.

    Raises InputError for another suffix, for .mp4 without ffmpeg, and for a file that cannot be written
    (nothing is left at `out` then); MissingExtraError if matplotlib is not installed.
    """
    suffix = out.suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise InputError(f"{out}: the suffix of an animation is one of {', '.join(FILM_SUFFIXES)}")
    figure = new_figure(PAGE_WIDTH_IN, _height_in(film))
    figure.set_dpi(DPI)
    if suffix == ".mp4":
        _check_ffmpeg(out)
    played = bar(moments(predictor, scene, film.ticks), len(film.ticks), "pictures")
    first = next(played)
    axes = _map(figure, film, title, lanes, several=first.mode_valid.shape[1] > 1)
    pictures = _pictures(axes, film, chain([first], played))
    write = _write_gif if suffix == ".gif" else _write_mp4
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.", suffix=".tmp") as work:
            draft = Path(work, f"film{suffix}")
            write(figure, pictures, film.fps, draft)
            draft.replace(out)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{out}: cannot be written: {error}") from error


def _limits(xy: Float) -> tuple[Float, Float]:
    """(2,) and (2,) m: a margin round all points, neither too flat nor too high."""
    low, high = xy.min(axis=0) - _MARGIN_M, xy.max(axis=0) + _MARGIN_M
    width, height = high - low
    lacking = np.array([max(height / _ASPECT[1] - width, 0.0), max(width * _ASPECT[0] - height, 0.0)])
    return low - lacking / 2, high + lacking / 2


def _height_in(film: Film) -> float:
    width, height = film.high - film.low
    lines = -(-(4 + len(film.labels)) // _COLUMNS)
    return float((PAGE_WIDTH_IN - _BESIDE_IN) * height / width + _ABOVE_IN + _ENTRY_IN * lines)


def _map(figure: Figure, film: Film, title: str, lanes: Lanes | None, several: bool) -> Axes:
    """What is the same in all pictures; several: whether agents have more than one path."""
    axes = figure.add_subplot()
    style(axes, x="x [m]", y="y [m]")
    axes.set_title(shorten(title, 60), fontsize=LARGE_PT, loc="left", parse_math=False)
    axes.set_title("0.00 s", fontsize=LARGE_PT, loc="right", family="monospace")
    axes.set(xlim=(film.low[0], film.high[0]), ylim=(film.low[1], film.high[1]), aspect="equal")
    axes.set_autoscale_on(False)
    if lanes is not None:
        draw_lanes(axes, lanes)
    for label in film.labels:
        axes.plot([], [], linestyle="none", label=name_of(label), **_marker(label))
    axes.plot([], [], color=BLACK, linewidth=1.0, label="observed so far")
    axes.plot([], [], color=BLUE, linewidth=1.8, label="most probable path")
    if several:
        axes.plot([], [], color=SKY, linewidth=1.2, label="other paths")
    axes.plot([], [], "--", color=VERMILLION, linewidth=1.1, label="what then happened")
    legend(figure, entries(axes), columns=_COLUMNS)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # or else it would be sought again for every picture
    return axes


def _marker(label: Label) -> dict[str, Any]:
    look = LOOKS[label]
    return {
        "marker": look.marker,
        "color": look.colour,
        "markersize": 5.0,
        "markeredgecolor": BLACK,
        "markeredgewidth": 0.5,
    }


def _pictures(axes: Axes, film: Film, played: Iterable[Moment]) -> Iterator[int]:
    """Draws one moment after the other; for how many pictures each."""
    drawn: list[Artist] = []
    for moment, shown in zip(played, film.shown.tolist(), strict=True):
        for artist in drawn:
            artist.remove()
        drawn = [*_draw_ways(axes, moment), *_draw_agents(axes, moment)]
        seconds = (moment.frame.stamp_ns - film.start_ns) / NS_PER_S
        axes.set_title(f"{seconds:.2f} s", fontsize=LARGE_PT, loc="right", family="monospace")
        yield shown


def _draw_ways(axes: Axes, moment: Moment) -> Iterator[Artist]:
    """Histories, what then happened, and paths, wider and denser the more probable they are."""
    from matplotlib.collections import LineCollection

    rest: list[Float] = []
    top: list[Float] = []
    shares: list[Float] = [np.zeros(0)]
    for row in range(len(moment.frame)):
        paths, probability = moment.ways(row)
        if len(paths):
            rest += list(paths[:-1])
            top.append(paths[-1])
            shares.append(share_of_top(probability)[:-1])
    share = np.concatenate(shares)
    colours = [(SKY, alpha) for alpha in 0.3 + 0.6 * share]
    rows = range(len(moment.frame))
    futures, pasts = [moment.future(row) for row in rows], [moment.past(row) for row in rows]
    for lines in (
        LineCollection(rest, colors=colours, linewidths=0.4 + 1.2 * share, zorder=3),
        LineCollection(top, colors=BLUE, linewidths=1.8, zorder=4),
        LineCollection(futures, colors=VERMILLION, linewidths=1.1, linestyles="--", zorder=5),
        LineCollection(pasts, colors=BLACK, linewidths=1.0, zorder=5),
    ):
        yield axes.add_collection(lines, autolim=False)


def _draw_agents(axes: Axes, moment: Moment) -> Iterator[Artist]:
    """Footprints to scale where the size is known, a marker for the class, a line to the front."""
    from matplotlib.collections import LineCollection, PolyCollection

    frame = moment.frame
    known = frame.size_valid
    shapes = outlines(frame.xy[known], moment.heading[known], frame.size[known, :2])
    colours = [(LOOKS[Label(label)].colour, 0.55) for label in frame.label[known].tolist()]
    yield axes.add_collection(
        PolyCollection(list(shapes), facecolors=colours, edgecolors=BLACK, linewidths=0.7, zorder=6),
        autolim=False,
    )
    # so long that it is seen beyond the marker at any scale
    reach = np.maximum(np.where(known, frame.size[:, 0] / 2, 0.0), 0.013 * np.diff(axes.get_xlim()))
    ahead = frame.xy + rotate(np.stack([reach, np.zeros_like(reach)], axis=1), moment.heading)
    fronts = list(np.stack([frame.xy, ahead], axis=1))
    yield axes.add_collection(LineCollection(fronts, colors=BLACK, linewidths=0.9, zorder=7), autolim=False)
    for label in np.unique(frame.label).tolist():
        x, y = frame.xy[frame.label == label].T
        yield from axes.plot(x, y, linestyle="none", zorder=8, **_marker(Label(label)))


def _write_gif(figure: Figure, pictures: Iterator[int], fps: float, out: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    colours = Image.new("P", (1, 1))
    colours.putpalette(_palette().tobytes())
    frames: list[Image.Image] = []
    shown = [0]
    for count in pictures:
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        frames.append(picture.quantize(palette=colours, dither=Image.Dither.NONE))
        shown.append(count)
    ends_ms = np.rint(np.cumsum(shown) * 100 / fps) * 10  # a GIF knows hundredths of a second
    frames[0].save(
        out, save_all=True, append_images=frames[1:], duration=np.diff(ends_ms).astype(int).tolist(), loop=0
    )


def _palette() -> NDArray[np.uint8]:
    """(C, 3), C <= 256: our colours from white to black. One for all pictures, so that nothing flickers."""
    from matplotlib.colors import to_rgb

    def rgb(colours: Iterable[str]) -> Float:
        return np.array([to_rgb(colour) for colour in colours])

    hues = rgb((BLUE, SKY, VERMILLION, ORANGE, GREEN, PURPLE))
    # Pillow looks up white as a grey, so nothing may lie nearer to that than white itself
    pale, dark = np.linspace(0.1, 1.0, 20)[:, None, None], np.linspace(0.15, 0.75, 5)[:, None, None]
    blends = [(1 - pale) + pale * hues, dark * hues]
    greys = np.linspace(0.0, 1.0, 32)[:, None].repeat(3, axis=1)
    roads = rgb((*AREAS.values(), OTHER_AREA, *(colour for colour, _, _ in LINES.values())))
    colours = np.concatenate([*(blend.reshape(-1, 3) for blend in blends), greys, roads])
    return np.unique(np.rint(255 * colours).astype(np.uint8), axis=0)


def _write_mp4(figure: Figure, pictures: Iterator[int], fps: float, out: Path) -> None:
    from matplotlib.animation import FFMpegFileWriter

    # by files: the command line ends without a word where a program that it writes to has ended
    writer = FFMpegFileWriter(fps=fps)  # type: ignore[arg-type]  # ffmpeg takes fractions
    with writer.saving(figure, str(out), DPI):
        for count in pictures:
            for _ in range(count):
                writer.grab_frame()


def _check_ffmpeg(out: Path) -> None:
    from matplotlib.animation import FFMpegWriter

    if not FFMpegWriter.isAvailable():
        raise InputError(
            f"{out}: .mp4 needs the program ffmpeg, which is not found; install it, or write a .gif"
        )
