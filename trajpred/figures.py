"""What all pictures have in common: a page for print and screen, its colours, its axes, how it is saved.

Figures are made without pyplot: no window, no display, nothing shared between calls. Colours are
those of Okabe and Ito (2008), which stay apart for colour-blind readers. A figure of PAGE_WIDTH_IN
fits a page without being scaled, and no text in it is smaller than 8 pt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trajpred.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
DPI = 200
PAGE_WIDTH_IN = 7.2

SMALL_PT, LARGE_PT = 8.0, 10.0
BLACK, GREY, PALE = "#000000", "#8C8C8C", "#C4C4C4"
BLUE, SKY, VERMILLION = "#0072B2", "#56B4E9", "#D55E00"


def check_suffix(out: Path) -> None:
    """Raises InputError for a file that no picture can be written to."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"{out}: the suffix of a picture is one of {', '.join(SUFFIXES)}")


def save(figure: Figure, out: Path) -> None:
    """The picture appears at its path whole, or not at all. Raises InputError."""
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.", suffix=".tmp") as work:
            draft = Path(work, f"picture{out.suffix}")
            figure.savefig(draft, format=out.suffix[1:].lower())
            draft.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error}") from error


def new_figure(width_in: float, height_in: float, compress: bool = False) -> Figure:
    """An empty page; compress moves panels so that those of fixed aspect line up with others."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", "viz") from error
    # h_pad in inches: with the default, lines of text touch
    layout = ConstrainedLayoutEngine(h_pad=0.07, compress=compress)
    return Figure((width_in, height_in), dpi=DPI, facecolor="white", layout=layout)


def style(axes: Axes, x: str, y: str, title: str = "") -> None:
    """What all panels have in common."""
    axes.tick_params(which="both", labelsize=SMALL_PT, color=GREY)
    axes.tick_params(which="major", length=2.5)
    axes.tick_params(which="minor", length=1.2)
    axes.grid(color="#EBEBEB", linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set(color=GREY, linewidth=0.6)
    axes.set_xlabel(x, fontsize=SMALL_PT)
    axes.set_ylabel(y, fontsize=SMALL_PT)
    if title:
        axes.set_title(title, fontsize=LARGE_PT, fontweight="bold", loc="left")


def legend(figure: Figure, entries: Mapping[str, Artist], columns: int) -> None:
    """One legend for all panels, below them."""
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=SMALL_PT,
        frameon=False,
    )


def entries(axes: Axes) -> dict[str, Artist]:
    """What a panel has for the legend."""
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))
