"""The whole line without data: simulated traffic, the model in the box, scores, a page and a film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data_tools.catalog import open_data
from data_tools.simulate.perceive import Tracker
from data_tools.simulate.record import Recording, record
from trajpred.animate import Film, draw_film
from trajpred.config import DEFAULT_MODEL
from trajpred.evaluate import make_predictor
from trajpred.progress import bar
from trajpred.replay import Replayed, replay
from trajpred.report import examine, page

JUNCTION_S, CUT_IN_S = 30.0, 12.0
TRACKER = Tracker()
"""An ordinary one; of a hundred objects in a frame it misses three."""
SEEDS = {"junction": 30_015, "cyclist_cut_in": 30_000}
"""Places that the model in the box was neither trained nor tested on; there is a lot to see at the first."""
FILM_S, FILM_FPS = 8.0, 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What the demo made: the recording of the cut-in, scores by model, and how the replay went."""

    cut_in: Recording
    scores: Mapping[str, Mapping[str, Any]]
    replayed: Replayed


def demo(out: Path, seed: int = 0, console: Console | None = None) -> Shown:
    """Make everything in `out`, and say what; what is there already is replaced."""
    console = console or Console()
    out.mkdir(parents=True, exist_ok=True)
    console.print(
        "[bold]a busy junction, and a cyclist who cuts in[/]: simulated traffic as a tracker sees it"
    )
    made = {}
    for scenario, seconds in (("junction", JUNCTION_S), ("cyclist_cut_in", CUT_IN_S)):
        made[scenario] = record(scenario, seconds, SEEDS[scenario] + seed, tracker=TRACKER)
        made[scenario].write(out / scenario, overwrite=True)

    console.print("[bold]replay[/]: every message of the junction's log, answered by the model in the box")
    log = out / "junction" / "tracks.mcap"
    replayed = replay(make_predictor(DEFAULT_MODEL), log, out / "predictions.mcap", overwrite=True)
    console.print(f"    {replayed.messages} messages, {replayed.objects} objects, every one answered")

    console.print("[bold]scores[/]: against what then happened, beside baselines")
    source, lanes = open_data(str(out / "junction")), made["junction"].lanes
    examined = examine(DEFAULT_MODEL, source, progress=bar, lanes=lanes)
    (out / "report.html").write_text(page(examined, f"trajpred demo --out {out} --seed {seed}"), "utf-8")

    console.print("[bold]film[/]: the first seconds of the junction")
    scene = made["junction"].tracks
    film = Film.of(scene, 0.0, FILM_S, FILM_FPS)
    title = "A simulated junction, predicted by the model in the box"
    draw_film(make_predictor(DEFAULT_MODEL), scene, film, out / "junction.gif", title, made["junction"].lanes)
    return Shown(made["cyclist_cut_in"], examined.scores, replayed)


def summary(shown: Shown, gained_s: float | None = None, callback_ms: Sequence[float] | None = None) -> Table:
    """One table: errors by class beside baselines, latency, and what the planner gained.

    callback_ms: what the node's callbacks took, where the log was played to it.
    """
    ours, cv, kalman = (shown.scores[name] for name in (DEFAULT_MODEL, "cv", "kalman"))
    title = f"ADE/FDE up to {ours['horizon_s']:g} s ahead, metres"
    table = Table("", "n", "constant velocity", "Kalman filter", "single path", "best of 6", title=title)
    for group in ("all", *sorted(ours["per_class"])):
        mine, *others = (
            s["metrics"] if group == "all" else s["per_class"][group] for s in (ours, cv, kalman)
        )
        table.add_row(
            group,
            str(ours["n"] if group == "all" else mine["n"]),
            *(f"{each['ade_single']:.2f}/{each['fde_single']:.2f}" for each in (*others, mine)),
            f"{mine['min_ade_6']:.2f}/{mine['min_fde_6']:.2f}",
        )
    objects = shown.replayed.objects / max(shown.replayed.messages, 1)
    p50, p99 = shown.replayed.p50_p99_ms
    told = [
        f"replay, a message of {objects:.0f} objects from bytes to bytes: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    ]
    if callback_ms is not None:
        p50, p99 = np.percentile(callback_ms, (50, 99))
        told.append(f"the node over DDS, its whole callback: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    if gained_s is not None:
        told.append(f"the planner yields to the cyclist {gained_s:.1f} s earlier than without predictions")
    table.caption = "\n".join(told)
    return table
